"""An engine's tables: `engine.store.Store` over a `Server`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from cdc.errors import Problem
from cdc.lsn import Lsn
from cdc.slot import SlotState
from engine.backlog import Backlog
from engine.cut import HORIZON_US, Cut
from engine.machine import FOREVER
from engine.rows import CommandKind, CommandRow, CompletionRow, InstanceRow, WaitRow
from engine.store.rows import (
    Begun,
    Cancelled,
    Checkpoint,
    Child,
    CompletionKey,
    Heartbeat,
    Moment,
    Record,
    Recorded,
    Seen,
    SetAside,
    StoredInstance,
    Waiting,
    Watched,
    Written,
)
from tests.simulation import rules
from tests.simulation.clients import SETTINGS, UNFINISHED, Connection, query, slot_state
from tests.simulation.server import Backend, Row, Server, Work, lsn


class Store(Connection):
    """`engine.store.Store`."""

    server_version = "18"

    # --- writing ----------------------------------------------------------------------------------------------------------

    async def write_checkpoint(self, epoch: int, cut: Cut) -> Written:
        life = self.host.actor.life
        return await self.ask(lambda b: rules.write_checkpoint(b, epoch, cut, life))  # type: ignore[no-any-return]

    async def record_completions(self, epoch: int, records: Sequence[Record]) -> list[int]:
        return await self.ask(lambda b: rules.record_completions(b, epoch, records))  # type: ignore[no-any-return]

    async def start_children(self, epoch: int, children: Sequence[Child]) -> Begun:
        return await self.ask(lambda b: rules.start_children(b, epoch, children))  # type: ignore[no-any-return]

    async def cancel_children(self, epoch: int, cancelled: Sequence[Cancelled]) -> Begun:
        return await self.ask(lambda b: rules.cancel_children(b, epoch, cancelled))  # type: ignore[no-any-return]

    async def begin_waits(self, epoch: int, waits: Sequence[Waiting]) -> Begun:
        return await self.ask(lambda b: rules.begin_waits(b, epoch, waits))  # type: ignore[no-any-return]

    async def heartbeat(self, epoch: int, slot: str) -> Heartbeat:
        return await self.ask(lambda b: rules.heartbeat(b, epoch, slot, SETTINGS))  # type: ignore[no-any-return]

    async def watch(self, publication: str) -> Watched:
        return await self.ask(query(rules.watch))  # type: ignore[no-any-return]

    async def count_fenced(self) -> None:
        await self.ask(rules.count_fenced)

    async def distrust_log(self, epoch: int) -> None:
        await self.ask(lambda b: rules.distrust_log(b, epoch))

    async def store_slot(self, epoch: int, *, system_identifier: str, slot: str) -> None:
        await self.ask(lambda b: rules.store_slot(b, epoch, system_identifier, slot))
        self.host.actor.scanning = False

    async def take_over(self, *, scanning: bool) -> int:
        def end_leaders(b: Backend) -> Work:
            b.name = "walflow-leader"
            for other in list(b.server.backends.values()):
                if other is not b and other.name == "walflow-leader":
                    b.server.loop.after(b.server.dying_seconds(), other.terminate)
            return None
            yield

        await self.ask(end_leaders)
        self.host.actor.life = self.host.actor.new_life()
        self.host.actor.scanning = scanning
        return await self.ask(lambda b: rules.take_over(b, scanning))  # type: ignore[no-any-return]

    # --- transactions -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        await self.ask(query(lambda b: b.begin()))
        try:
            yield
        except BaseException:
            if not self.lost:  # else nobody can ask for it; the server ends the session when it notices
                self.server.loop.after(0, self.backend.rollback_block)
            raise
        await self._exchange(self.backend.commit_block, self._answered)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def checkpoint(self) -> Checkpoint:
        row: Row = await self.ask(query(lambda b: b.server.tables["checkpoint"].get(1, b.sees)))
        return Checkpoint(
            epoch=row["epoch"],
            lsn=lsn(row["lsn"]),
            system_identifier=row["system"],
            slot_name=row["slot"],
            slot_generation=row["generation"],
            scanning=row["scanning"],
            backlog=row["backlog"],
        )

    async def slot(self, name: str) -> SlotState | None:
        return await self.ask(query(lambda b: slot_state(b.server, name)))  # type: ignore[no-any-return]

    async def wal_position(self) -> Lsn:
        return await self.ask(query(lambda b: lsn(b.server.lsn)))  # type: ignore[no-any-return]

    async def moment(self) -> Moment:
        return await self.ask(  # type: ignore[no-any-return]
            query(lambda b: Moment(flushed=lsn(b.server.lsn), next_xid=b.server.next_xid, now_us=b.server.now_us()))
        )

    async def settings(self) -> dict[str, str]:
        return await self.ask(query(lambda b: SETTINGS))  # type: ignore[no-any-return]

    async def blockers(self, pid: int) -> list[str]:
        return await self.ask(query(lambda b: []))  # type: ignore[no-any-return]

    async def publication_problems(self, publication: str) -> list[Problem]:
        return await self.ask(query(lambda b: []))  # type: ignore[no-any-return]

    async def role(self, oid: int) -> tuple[str, bool] | None:
        return await self.ask(query(lambda b: (str(oid), True)))  # type: ignore[no-any-return]

    async def _instances(self, where: Callable[[Backend, Row], bool]) -> list[StoredInstance]:
        def read(b: Backend) -> list[tuple[StoredInstance, int]]:
            sees, tables = b.snapshot or b.sees, b.server.tables
            found = []
            for row in [row for row in tables["instances"].rows(sees) if where(b, row)]:
                state = tables["states"].get(row["key"], sees)
                found.append((stored(row, state), 0 if state is None else state["life"]))
            return found

        found = await self.ask(query(read))
        for instance, by in found:
            if instance.state is not None:
                self.host.loaded(self.host.actor.life, instance.row.key, by, instance.state)
        return [instance for instance, _ in found]

    async def stored_instances(self) -> AsyncIterator[list[StoredInstance]]:
        yield await self._instances(lambda b, row: awake(b, row["key"]))

    async def unfinished_instances(self) -> AsyncIterator[list[StoredInstance]]:
        found = await self._instances(lambda b, row: row["status"] in UNFINISHED)
        for first in range(0, len(found), 2):
            yield found[first : first + 2]

    async def unfinished_among(self, keys: Collection[int]) -> list[StoredInstance]:
        return await self._instances(lambda b, row: row["status"] in UNFINISHED and row["key"] in keys)

    async def _rows(self, table: str, where: Callable[[Row], bool]) -> list[Row]:
        def read(b: Backend) -> list[Row]:
            return [row for row in b.server.tables[table].rows(b.snapshot or b.sees) if where(row)]

        return await self.ask(query(read))  # type: ignore[no-any-return]

    async def results(self, wanted: Sequence[tuple[int, int, str]]) -> list[tuple[int, str, str | None]]:
        asked = set(wanted)
        rows = await self._rows(
            "completions", lambda r: (r["run_as"], r["key"], r["step"]) in asked and r["attempt"] == 1
        )
        return [(row["key"], row["step"], row["result"]) for row in rows]

    async def signal_data(self, wanted: Sequence[tuple[int, int, str]]) -> list[tuple[int, str, str]]:
        keys = {(owner, event_id): key for owner, key, event_id in wanted}
        rows = await self._rows("signals", lambda r: (r["owner"], r["event_id"]) in keys)
        return [(keys[row["owner"], row["event_id"]], row["event_id"], row["text"]) for row in rows]

    async def _open_waits(self, where: Callable[[Backend, int], bool]) -> list[WaitRow]:
        def read(b: Backend) -> list[WaitRow]:
            sees, tables = b.snapshot or b.sees, b.server.tables
            return [
                wait_row(row)
                for row in tables["waits"].rows(sees)
                if row["folded"]
                and state_of(b, row["waiter_key"]) is not None
                and where(b, row["waiter_key"])
                and tables["completions"].get((0, row["waiter_key"], row["waiter_step"], 1), sees) is None
            ]

        return await self.ask(query(read))  # type: ignore[no-any-return]

    async def _children(self, where: Callable[[Backend, int], bool]) -> list[tuple[int, str, int]]:
        def read(b: Backend) -> list[tuple[int, str, int]]:
            return [
                (row["parent_key"], row["parent_step"], row["key"])
                for row in b.server.tables["instances"].rows(b.snapshot or b.sees)
                if row["parent_key"] is not None and row["status"] in UNFINISHED and where(b, row["parent_key"])
            ]

        return await self.ask(query(read))  # type: ignore[no-any-return]

    async def open_waits(self) -> list[WaitRow]:
        return await self._open_waits(awake)

    async def children(self) -> list[tuple[int, str, int]]:
        return await self._children(awake)

    async def shown(self) -> list[tuple[int, str]]:
        return []

    async def asleep(self) -> int:
        rows = await self._rows("states", lambda r: not _awake(self.server, r))
        return len(rows)

    # --- what is not in memory ----------------------------------------------------------------------------------------

    async def instances(self, keys: Sequence[int]) -> list[StoredInstance]:
        return await self._instances(lambda b, row: row["key"] in keys)

    async def named(self, names: Sequence[tuple[int, str]]) -> list[tuple[int, str, int]]:
        rows = await self._rows("instances", lambda r: (r["submitter"], r["id"]) in names)
        return [(row["submitter"], row["id"], row["key"]) for row in rows]

    async def shown_of(self, keys: Sequence[int]) -> list[tuple[int, str]]:
        return []

    async def waits_of(self, keys: Sequence[int]) -> list[WaitRow]:
        return await self._open_waits(lambda b, key: key in keys)

    async def children_of(self, keys: Sequence[int]) -> list[tuple[int, str, int]]:
        return await self._children(lambda b, key: key in keys and state_of(b, key) is not None)

    async def with_inbox(self, keys: Sequence[int]) -> list[int]:
        return sorted({row["key"] for row in await self._rows("inbox", lambda r: r["key"] in keys)})

    async def set_aside(self, after: int, limit: int) -> list[int]:
        return sorted({row["key"] for row in await self._rows("inbox", lambda r: r["key"] > after)})[:limit]

    async def next_wake(self, after_us: int = 0) -> int | None:
        rows = await self._rows("states", lambda r: r["wake_us"] is not None and after_us < r["wake_us"] < FOREVER)
        return min((row["wake_us"] for row in rows), default=None)

    async def sleepers(self, after: tuple[int, int], upto_us: int, limit: int) -> list[tuple[int, int]]:
        rows = await self._rows("states", lambda r: r["wake_us"] is not None and r["wake_us"] <= upto_us)
        return sorted(place for row in rows if (place := (row["wake_us"], row["key"])) > after)[:limit]

    async def waiting(self, submitter: int, after: int, last: int, limit: int) -> list[StoredInstance]:
        def is_waiting(b: Backend, row: Row) -> bool:
            mine = row["submitter"] == submitter and row["status"] == "pending"
            return mine and after < row["key"] <= last and state_of(b, row["key"]) is None

        found = await self._instances(is_waiting)
        return sorted(found, key=lambda i: i.row.key)[:limit]

    # --- from the tables ----------------------------------------------------------------------------------------------

    async def rewrite_oids(self) -> None:
        await self.ask(query(lambda b: None))

    async def submitters(self) -> list[int]:
        rows = await self._rows("instances", lambda r: r["status"] in UNFINISHED)
        return sorted({row["submitter"] for row in rows})

    async def import_snapshot(self, snapshot: str) -> str:
        def set_snapshot(b: Backend) -> None:
            position = int(snapshot)
            b.snapshot = lambda t: t.committed and t.end_lsn <= position

        await self.ask(query(set_snapshot))
        return snapshot

    async def sees_all_of(self, snapshot: str) -> bool:
        def look(b: Backend) -> bool:
            return all(t.ended for t in b.server.transactions.values() if t.committed and t.end_lsn <= int(snapshot))

        return await self.ask(query(look))  # type: ignore[no-any-return]

    async def completions_of(self, instances: Sequence[StoredInstance]) -> list[Recorded[CompletionRow]]:
        owners = {i.row.key: i.row.submitter for i in instances}
        rows = await self._rows("completions", lambda r: r["key"] in owners and r["run_as"] in (0, owners[r["key"]]))
        self._scanned(rows)
        return [Recorded(row["recorded_us"], completion_row(row)) for row in rows]

    def _scanned(self, rows: list[Row]) -> None:
        if self.host.actor.scanning:
            self.host.scanned(row["event_id"] for row in rows)

    async def causes_of(self, instances: Sequence[StoredInstance]) -> list[tuple[int, str]]:
        keys = {i.row.key for i in instances}
        children = await self._rows("instances", lambda r: r["parent_key"] in keys and r["cause"] is not None)
        waits = await self._rows("waits", lambda r: r["waiter_key"] in keys and r["cause"] is not None)
        return [(row["parent_key"], row["cause"]) for row in children] + [
            (row["waiter_key"], row["cause"]) for row in waits
        ]

    async def commands_of(self, kind: CommandKind, instances: Sequence[StoredInstance]) -> list[Recorded[CommandRow]]:
        if kind == "release":
            return []
        keys = {(i.row.submitter, i.row.id): i.row.key for i in instances}
        rows = await self._rows(TABLE_OF[kind], lambda r: _is_for(r, keys) and not r["folded"])
        self._scanned(rows)
        return [Recorded(r["recorded_us"], command_row(kind, r, keys[r["owner"], r["instance_id"]])) for r in rows]

    async def nobodys(self, kind: CommandKind) -> list[tuple[str, int]]:
        if kind == "release":
            return []
        unfinished = {
            (row["submitter"], row["id"]): row["key"]
            for row in await self._rows("instances", lambda r: r["status"] in UNFINISHED)
        }
        rows = await self._rows(TABLE_OF[kind], lambda r: not r["folded"])
        return [
            (row["event_id"], row["owner"])
            for row in rows
            if (key := unfinished.get((row["owner"], row["instance_id"]))) is None
            or row["instance_key"] not in (None, key)
        ]

    async def unfolded_waits(self) -> list[WaitRow]:
        return [wait_row(row) for row in await self._rows("waits", lambda r: not r["folded"])]

    async def see_unfolded(self, asked: Sequence[CompletionKey], waiting: Mapping[int, Backlog]) -> Seen:
        def waits(row: Row) -> bool:
            between = waiting.get(row["submitter"])
            return between is not None and between.spans(row["key"])

        def read(b: Backend) -> Seen:
            tables = b.server.tables
            commands: dict[CommandKind, list[str]] = {"release": []}
            for kind, table in TABLE_OF.items():
                commands[kind] = [r["event_id"] for r in tables[table].rows(b.sees) if not r["folded"]]
            return Seen(
                lsn(b.server.lsn),
                [
                    r["key"]
                    for r in tables["instances"].rows(b.sees)
                    if r["status"] in UNFINISHED and state_of(b, r["key"]) is None and not waits(r)
                ],
                commands,
                [r["event_id"] for r in tables["waits"].rows(b.sees) if not r["folded"]],
                [key for key in asked if tables["completions"].get(key, b.sees) is not None],
            )

        return await self.ask(query(read))  # type: ignore[no-any-return]

    async def commands_among(self, kind: CommandKind, event_ids: Sequence[str]) -> list[Recorded[CommandRow]]:
        if not event_ids:
            return []

        def read(b: Backend) -> list[Recorded[CommandRow]]:
            found = []
            for row in b.server.tables[TABLE_OF[kind]].rows(b.sees):
                there = rules.named(b, row["owner"], row["instance_id"])
                if row["event_id"] in event_ids and not row["folded"] and there is not None:
                    found.append(Recorded(row["recorded_us"], command_row(kind, row, there["key"])))
            return found

        return await self.ask(query(read))  # type: ignore[no-any-return]

    async def waits_among(self, event_ids: Sequence[str]) -> list[WaitRow]:
        rows = await self._rows("waits", lambda r: r["event_id"] in event_ids and not r["folded"])
        return [wait_row(row) for row in rows]

    async def completion(self, key: CompletionKey) -> Recorded[CompletionRow] | None:
        row = await self.ask(query(lambda b: b.server.tables["completions"].get(key, b.sees)))
        return None if row is None else Recorded(row["recorded_us"], completion_row(row))

    async def inbox(self, key: int) -> list[SetAside]:
        rows = await self._rows("inbox", lambda r: r["key"] == key)
        return [
            SetAside(
                lsn=r["lsn"], ordinal=r["ordinal"], kind=r["kind"], row_key=r["row_key"], at_us=r["at_us"], xid=r["xid"]
            )
            for r in sorted(rows, key=lambda r: (r["lsn"], r["ordinal"]))
        ]

    async def start_of(self, key: int) -> str | None:
        row = await self.ask(query(lambda b: b.server.tables["instances"].get(key, b.sees)))
        return None if row is None else str(row["event_id"])

    async def signals(self, keys: Sequence[tuple[int, str]]) -> list[tuple[int, str, str, str]]:
        rows = await self.ask(
            query(lambda b: [b.server.tables["signals"].get(event_id, b.sees) for _, event_id in keys])
        )
        found = zip(keys, rows, strict=True)
        return [(owner, event_id, row["name"], row["text"]) for (owner, event_id), row in found if row is not None]

    async def cancellation(self, owner: int, event_id: str) -> tuple[str, str] | None:
        row = await self.ask(query(lambda b: b.server.tables["cancellations"].get(event_id, b.sees)))
        return None if row is None else (event_id, row["text"])


def _is_for(row: Row, keys: dict[tuple[int, str], int]) -> bool:
    key = keys.get((row["owner"], row["instance_id"]))
    return key is not None and row["instance_key"] in (None, key)


TABLE_OF: Final[dict[CommandKind, str]] = {"signal": "signals", "cancellation": "cancellations"}


def state_of(b: Backend, key: int) -> Row | None:
    return b.server.tables["states"].get(key, b.snapshot or b.sees)


def awake(b: Backend, key: int) -> bool:
    """Whether an instance has a state that a new leader loads."""
    state = state_of(b, key)
    return state is not None and _awake(b.server, state)


def _awake(server: Server, state: Row) -> bool:
    return state["wake_us"] is None or state["wake_us"] <= server.now_us() + HORIZON_US


def stored(row: Row, state: Row | None) -> StoredInstance:
    return StoredInstance(
        row=InstanceRow(
            row["key"], row["submitter"], row["id"], row["graph"], row["label"], row["input"], row["vars"], row["parent_key"],
            row["event_id"], row["parent_step"] or "",
        ),
        status=row["status"],
        quarantined=row["quarantined"],
        started_us=row["started_us"],
        recorded_us=row["recorded_us"],
        submitted_by=f"role{row['submitter']}",
        version=None if state is None else state["version"],
        state=None if state is None else state["state"],
        asleep=state is not None and state["wake_us"] is not None,
    )  # fmt: skip


def completion_row(row: Row) -> CompletionRow:
    return CompletionRow(
        row["run_as"], row["key"], row["step"], row["attempt"], row["outcome"], row["cause"], row["event_id"], row["result"],
        row["error"],
    )  # fmt: skip


def command_row(kind: CommandKind, row: Row, key: int) -> CommandRow:
    return CommandRow(kind, row["owner"], row["instance_id"], key, row["name"], row["text"], row["event_id"])


def wait_row(row: Row) -> WaitRow:
    return WaitRow(row["instance_key"], row["waiter_key"], row["waiter_step"])
