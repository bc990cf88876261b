"""An engine's log: `engine.host.Replication` and `Stream` over a `Server`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from cdc.errors import LossReason, SlotInUse, SlotLost, SlotNotCreated, StreamEnded
from cdc.lsn import Lsn
from cdc.messages import Begin, Commit, Insert, Keepalive
from cdc.progress import Progress
from cdc.slot import CreatedSlot, SlotState, SystemIdentity
from cdc.stream import StreamMessage
from engine.errors import Refused
from tests.simulation.clients import DATABASE, Connection, query, slot_state
from tests.simulation.server import RELATIONS, Backend, Row, ServerFailure, Slot, Work, lsn


class Replication(Connection):
    """`engine.host.Replication`."""

    @property
    def pid(self) -> int:
        return self.backend.pid

    async def identify_system(self) -> SystemIdentity:
        def read(b: Backend) -> SystemIdentity:
            return SystemIdentity(
                system_identifier=b.server.identifier, timeline=1, flushed=lsn(b.server.lsn), database=DATABASE
            )

        return await self.ask(query(read))  # type: ignore[no-any-return]

    async def slot(self, name: str) -> SlotState | None:
        return await self.ask(query(lambda b: slot_state(b.server, name)))  # type: ignore[no-any-return]

    async def drop_slot(self, name: str) -> bool:
        def drop(b: Backend) -> bool | None:
            slot = b.server.slots.get(name)
            if slot is not None and slot.reader is not None:
                return None
            return b.server.slots.pop(name, None) is not None

        dropped = await self.ask(query(drop))
        if dropped is None:
            raise SlotInUse(f"slot {name} is read")
        return bool(dropped)

    async def create_slot(self, name: str) -> CreatedSlot:
        def create(b: Backend) -> Work:
            if name in b.server.slots:
                raise ServerFailure("42710", "exists")
            running = [
                t for t in b.server.transactions.values() if not t.ended and not t.aborted and t is not b.running
            ]
            b.server.slots[name] = Slot(b.server.lsn, reader=b)
            for transaction in running:
                while not transaction.ended:
                    yield 0.01
            slot = b.server.slots[name]
            slot.confirmed, slot.reader = b.server.lsn, None
            return CreatedSlot(consistent_point=lsn(b.server.lsn), snapshot_name=str(b.server.lsn))

        try:
            return await self.ask(create)  # type: ignore[no-any-return]
        except Refused as error:
            raise SlotNotCreated(str(error), sqlstate=error.code) from error

    async def start(self, slot: str, publication: str) -> Started:
        def start(b: Backend) -> str | None:
            there = b.server.slots.get(slot)
            if there is None:
                return "missing"
            if there.invalidated:
                return "invalidated"
            if there.reader is not None:
                return "used"
            there.reader = b
            return None

        refused = await self.ask(query(start))
        if refused == "missing":
            raise SlotLost("gone", reason=LossReason.MISSING)
        if refused == "invalidated":
            raise SlotLost("lost", reason=LossReason.INVALIDATED)
        if refused == "used":
            raise SlotInUse(f"slot {slot} is read")
        return Started(self, slot)


class Started:
    """`engine.host.Started`."""

    def __init__(self, replication: Replication, slot: str) -> None:
        self._replication = replication
        self._slot = slot

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        yield

    def stream(
        self, stored: Lsn, *, on_message: Callable[[StreamMessage], None], on_end: Callable[[BaseException], None]
    ) -> Stream:
        return Stream(self._replication, self._slot, stored, on_message, on_end)


class Stream:
    """`engine.host.Stream`: what `cdc.stream.Stream` and `cdc.protocol` do together, with the real `Progress`."""

    def __init__(
        self,
        replication: Replication,
        slot: str,
        stored: Lsn,
        on_message: Callable[[StreamMessage], None],
        on_end: Callable[[BaseException], None],
    ) -> None:
        self._host = replication.host
        self._server = replication.server
        self._replication = replication
        self._backend = replication.backend
        self._slot = slot
        self._on_message = on_message
        self._on_end = on_end
        self._sent = self._server.slots[slot].confirmed if slot in self._server.slots else 0
        self._arrives = 0.0
        self._closed = False
        self.progress = Progress(stored)
        self.in_transaction = False

    @property
    def position(self) -> Lsn:
        return self.progress.received

    def start(self) -> None:
        self._backend.on_end = lambda: self._host.later(self._ended)
        if self._replication.lost or not self._backend.alive:
            self._host.later(self._ended)
        self._server.senders.append(self._send)
        self._server.loop.after(0, self._send)

    def send_status(self, reply_wanted: bool = False) -> None:
        flushed = self.progress.flush_to_report()
        self._server.loop.after(self._server.network_seconds(), self._status, int(flushed), reply_wanted)

    def confirm(self, position: Lsn) -> None:
        self.progress.checkpointed(position)
        self.send_status()

    async def close(self) -> bool:
        self._closed = True
        self.send_status()
        self._backend.deaf = True
        self._server.loop.after(2 * self._server.network_seconds(), self._backend.terminate)
        await asyncio.sleep(self._server.network_seconds())
        return False

    # --- the server's side ------------------------------------------------------------------------------------------------

    def _reading(self) -> bool:
        slot = self._server.slots.get(self._slot)
        return self._backend.alive and slot is not None and slot.reader is self._backend

    def _send(self) -> None:
        """Every committed transaction, in the order of the log."""
        if not self._reading():
            return
        for logged in self._server.log:
            if logged.end_lsn <= self._sent:
                continue
            self._sent = logged.end_lsn
            if logged.rows:
                self._deliver(logged)
        if self._server.chance.random() < 0.3:
            self._keepalive()

    def _deliver(self, logged: Any) -> None:
        messages: list[StreamMessage] = [
            Begin(lsn(logged.final_lsn), logged.commit_us, logged.xid & 0xFFFF_FFFF),
            *(Insert(RELATIONS[table], values_of(table, row)) for table, row in logged.rows),
            Commit(lsn(logged.final_lsn), lsn(logged.end_lsn), logged.commit_us),
        ]
        if self._server.rough and self._server.chance.random() < 0.1:  # in pieces
            for message in messages:
                self._post([message])
        else:
            self._post(messages)

    def _post(self, messages: list[StreamMessage]) -> None:
        """In order, whatever the network does."""
        loop = self._server.loop
        self._arrives = max(self._arrives, loop.time() + self._server.network_seconds()) + 1e-6
        loop.call_at(self._arrives, self._take, messages, context=self._host.actor.context)

    def _keepalive(self) -> None:
        self._post([Keepalive(lsn(self._sent), self._server.now_us(), False)])

    def _status(self, flushed: int, reply_wanted: bool) -> None:
        if self._reading():
            self._server.confirm(self._slot, flushed)
            if reply_wanted:
                self._sent = max(self._sent, self._server.lsn)
                self._keepalive()

    # --- the engine's side --------------------------------------------------------------------------------------------------

    def _take(self, messages: list[StreamMessage]) -> None:
        for message in messages:
            if self._closed:
                return
            if type(message) is Begin:
                self.in_transaction = True
            elif type(message) is Commit:
                self.in_transaction = False
                self.progress.receive(message.end_lsn)
            elif type(message) is Keepalive and not self.in_transaction:
                self.progress.receive(message.wal_end)
            try:
                self._on_message(message)
            except Exception as error:
                self._closed = True
                self._on_end(error)

    def _ended(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_end(StreamEnded("the stream ended"))


def values_of(table: str, row: Row) -> tuple[str | None, ...]:
    """A row as pgoutput sends it."""
    given = {**row, "recorded_at": row.get("recorded_us"), **(RENAMED[table](row) if table in RENAMED else {})}
    return tuple(None if (value := given.get(column)) is None else str(value) for column in RELATIONS[table].columns)


RENAMED: Final[dict[str, Callable[[Row], Row]]] = {
    "df.completions": lambda row: {"instance_key": row["key"]},
    "df.signals": lambda row: {"data": row["text"]},
    "df.cancellations": lambda row: {"reason": row["text"]},
}
