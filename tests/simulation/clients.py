"""An engine's side of the model: the protocols of `engine.host` and `engine.store` over a `Server`.

A request travels, is executed, and its answer travels back, unless the connection breaks on the way: then it may have been
done, and the client knows nothing (lost acknowledgement). What happens to an engine happens in its own context, so that a
dead one never learns of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

from cdc.slot import SlotState
from engine.errors import Fenced, KeyHeld, Lost, NotVisible, Refused, Transient
from engine.store.border import PASSING_CLASSES
from tests.simulation.loop import Actor
from tests.simulation.server import Backend, Server, ServerFailure, Work, lsn

DATABASE: Final = "df"
SETTINGS: Final = {"loop_iterations": "3", "result_bytes": "1048576", "composite_result_bytes": "16777216"}
OWNER: Final = 10
"""The engine's role."""
UNFINISHED: Final = ("pending", "running")


def ours(failure: ServerFailure) -> Exception:
    """As `engine.store.border.ours`."""
    message = str(failure)
    if failure.code == "DF001":
        return Fenced(message)
    if failure.code == "DF002":
        return NotVisible(message, sqlstate=failure.code)
    if failure.code == "55P03":
        return KeyHeld(message, sqlstate=failure.code)
    if failure.code[:2] in PASSING_CLASSES:
        return Transient(message, sqlstate=failure.code)
    return Refused(message, failure.code)


class Client:
    """One engine's side of all its connections. `effects` runs what a step's statement does; `loaded` is told of states that
    are read, `scanned` of rows that a scan of the tables puts into an order.
    """

    def __init__(
        self,
        server: Server,
        actor: Actor,
        chance: Random,
        effects: Callable[..., Work],
        loaded: Callable[[int, int, int, str], None],
        scanned: Callable[[Iterable[str]], None],
    ) -> None:
        self.loaded = loaded
        self.scanned = scanned
        self.server = server
        self.actor = actor
        self.chance = chance
        self.effects = effects
        self.connections: list[Any] = []

    def monotonic(self) -> float:
        return self.server.loop.time()

    async def backend(self, role: int, name: str) -> Backend:
        """Connects. Raises Lost."""
        await asyncio.sleep(self.server.network_seconds())
        if self.server.away:
            raise Lost("the server does not answer")
        return Backend(self.server, role, name)

    def later(self, callback: Callable[..., object], *args: Any, seconds: float | None = None) -> None:
        """Calls back in the engine's context, after the way there."""
        wait = self.server.network_seconds() if seconds is None else seconds
        loop = self.server.loop
        loop.call_at(loop.time() + wait, callback, *args, context=self.actor.context)

    def vanish(self, notice_seconds: Callable[[], float]) -> None:
        """The engine is gone: the server notices connection by connection, and ends what is idle by then."""
        for connection in self.connections:
            if connection.backend.alive:
                connection.backend.deaf = True
                self.server.loop.after(notice_seconds(), noticed, connection.backend)


def noticed(backend: Backend) -> None:
    """That the client is gone: a statement that runs is finished, and committed, first."""
    if backend.alive and backend.work is not None:
        backend.server.loop.after(0.05, noticed, backend)
    else:
        backend.terminate()


class Connection:
    """The client's end. `breaks`: how likely it is that a request is the last one."""

    def __init__(self, host: Client, backend: Backend) -> None:
        self.host = host
        self.server = host.server
        self.backend = backend
        self.lost = False
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Future[Any] | None = None
        backend.on_end = self._ended
        host.connections.append(self)

    async def ask(self, work: Callable[[Backend], Work]) -> Any:
        """One statement and its answer, after those before it. Raises what a store raises."""
        return await self._exchange(self._arrive, work)

    async def _exchange(self, request: Callable[..., None], *args: Any) -> Any:
        async with self._turn:
            if self.lost or self.server.over:
                raise Lost("the connection is gone")
            future = self._waiting = asyncio.get_running_loop().create_future()
            self.server.loop.after(self.server.network_seconds(), request, *args)
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                # as psycopg: the server is asked to stop, and its answer is waited for
                self.server.loop.after(self.server.network_seconds(), self.backend.cancel)
                if not self.server.over:
                    await asyncio.wait((future,))
                    future.exception()
                raise
            finally:
                self._waiting = None

    def _arrive(self, work: Callable[[Backend], Work]) -> None:
        if self.server.breaks():
            self.backend.terminate()
        elif self.backend.alive:
            self.backend.execute(work(self.backend), self._answered)

    def _answered(self, answer: Any, failure: ServerFailure | None) -> None:
        if self.server.breaks():
            self.backend.terminate()
        else:
            self.host.later(self._take, answer, failure)

    def _take(self, answer: Any, failure: ServerFailure | None) -> None:
        future = self._waiting
        if future is not None and not future.done():
            if failure is None:
                future.set_result(answer)
            else:
                future.set_exception(ours(failure))

    def _ended(self) -> None:
        self.host.later(self._lose)

    def _lose(self) -> None:
        self.lost = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Lost("the server closed the connection"))

    async def close(self) -> None:
        self.lost = True
        self.backend.deaf = True
        self.server.loop.after(self.server.network_seconds(), noticed, self.backend)
        if self in self.host.connections:
            self.host.connections.remove(self)


def query(read: Callable[[Backend], Any]) -> Callable[[Backend], Work]:
    """A statement that only reads, by one snapshot."""

    def work(backend: Backend) -> Work:
        return read(backend)
        yield

    return work


def slot_state(server: Server, name: str) -> SlotState | None:
    slot = server.slots.get(name)
    if slot is None:
        return None
    return SlotState(
        name=name,
        plugin="pgoutput",
        database=DATABASE,
        active=slot.reader is not None,
        active_pid=None if slot.reader is None else slot.reader.pid,
        restart_lsn=lsn(slot.confirmed),
        confirmed_flush_lsn=lsn(slot.confirmed),
        wal_status="lost" if slot.invalidated else "reserved",
        invalidation="lost" if slot.invalidated else None,
    )
