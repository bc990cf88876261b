"""Upkeep: what is over is removed, a little at a time, and never while anything may still need it.

Theory of operation. The rules stand in `0012_retention.sql`, beside the rows that they are about: finished instances after the
setting `retention`, and the history of early iterations of running loops beyond `loop_history` in df.settings. Here is only how
often, and how much at once. Each removal looks, waits until a checkpoint has passed what it saw, and then removes in batches
that take a moment each; after each it rests for many times as long, unless it has fallen behind. A leader that has nothing to
remove looks every few minutes, on a connection that it opens for that.

Instances are looked at in the order of their keys, which is about that of their starts. A *pass* goes from the first to those
that are too young; the next look goes on from there. What was not over yet, or was still needed, is met by the next full pass,
a few hours later.

What fails here disturbs no workflow: it is told, and tried again at the next look. Only another leader's epoch ends it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, LiteralString

import psycopg

from cdc.lsn import Lsn, parse_lsn
from engine.connect import connect
from engine.errors import Fenced
from engine.log import fields
from engine.longwork import LongWork
from engine.store.border import FENCED
from metrics.collect import Metrics

Connection = psycopg.AsyncConnection[Any]

log = logging.getLogger("walflow.upkeep")

LOOK_SECONDS: Final = 300.0
"""Between two looks; a short retention is looked at more often, so that nothing is kept for much longer than that."""
PASS_SECONDS: Final = 6 * 3600.0
"""Between two full passes."""
OFTEN: Final = 24
"""Looks in the time of a short retention."""
SHORTEST_LOOK_SECONDS: Final = 0.1
LOOKS: Final = 2_000
"""Instances, or states, that one statement looks at."""
INSTANCES: Final = 200
"""Instances that one transaction removes."""
ROWS: Final = 2_000
"""Rows of theirs that one transaction removes: deleted rows are decoded by the server before it passes them over, and a
transaction of this size holds up the stream for some 10 ms."""
STEPS: Final = 500
"""Steps of early iterations that one transaction removes."""
REST: Final = 15
"""A rest is that many times as long as what went before it: removing takes a sixteenth of one connection's time."""
LEAST_REST: Final = 3
"""The same for one that fell behind: on a machine with eight others waiting for each processor a removal takes twenty times as
long, with no more work in it, and whoever rests accordingly never catches up."""
CONFIRMED_POLL_SECONDS: Final = 0.1
TELL_SECONDS: Final = 10.0
"""Between two lines about the same removal: the first one of a million instances takes hours."""
BUSY_KEPT: Final = 10_000
"""Instances kept in mind because a backend of their role may be at work; more are left to the next full pass."""

_FIND: Final = """
select keys, after, ended, seen, xid::text, backends from df.find_finished(%s::interval, %s::bigint, %s::integer)
"""
_REMOVE: Final = """
select removed, rest, busy
  from df.remove_finished(
    %s::bigint, %s, %s::bigint[], %s::pg_lsn, %s::xid8, %s::interval, %s::integer[], %s::integer[], %s::integer)
"""
_FIND_OLD: Final = """
select key, steps, after, ended, seen, xid::text, backends from df.find_old_iterations(%s::bigint, %s::integer, %s::integer)
"""
_REMOVE_OLD: Final = """
select removed
  from df.remove_old_iterations(%s::bigint, %s, %s::bigint, %s::text[], %s::pg_lsn, %s::xid8, %s::integer[], %s::integer[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """What upkeep has to know of the leadership. `durable`: the position of the last checkpoint. `backends`: step connections
    in which nothing runs but steps that no row has answered.
    """

    epoch: int
    slot: str
    durable: Callable[[], Lsn]
    backends: Callable[[], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Found:
    """How things stood after a look: the log, as text and as a number, the transaction ids, the step connections."""

    position: str
    xid: str
    backends: list[int]

    @property
    def lsn(self) -> Lsn:
        return parse_lsn(self.position)


class Upkeep:
    """Removes for as long as `run` runs. `dsn` is the engine's own; a `retention` of zero keeps instances."""

    def __init__(self, leader: Leader, *, dsn: str, retention: timedelta, metrics: Metrics) -> None:
        self._leader = leader
        self._dsn = dsn
        self._retention = retention
        self._metrics = metrics
        self._after = 0
        self._busy: list[int] = []
        self._passed = float("-inf")
        self._rests: float = REST

    @property
    def look_seconds(self) -> float:
        """Between two looks."""
        return self._seconds(LOOK_SECONDS)

    def _seconds(self, longest: float) -> float:
        if not self._retention:
            return longest
        return max(SHORTEST_LOOK_SECONDS, min(longest, self._retention.total_seconds() / OFTEN))

    async def run(self) -> None:
        """Looks and removes until cancelled. Raises Fenced."""
        while True:
            began = time.monotonic()
            try:
                await self.look()
            except psycopg.Error as error:
                if error.sqlstate == FENCED:
                    raise Fenced(f"epoch {self._leader.epoch} does not lead any more: {error}") from error
                log.warning("upkeep failed and will be tried again", extra=fields(error=str(error)))
            self.keep_up(time.monotonic() - began)
            await asyncio.sleep(self.look_seconds)

    def keep_up(self, seconds: float) -> None:
        """A look that took longer than it is until the next one has fallen behind: the next rests less."""
        behind = seconds > self.look_seconds
        self._rests = max(LEAST_REST, self._rests / 2) if behind else min(REST, self._rests * 2)

    async def look(self) -> None:
        """Removes what is over by now."""
        connection = await connect(self._dsn, "walflow-leader")
        try:
            if self._retention:
                await self._remove_finished(connection)
            await self._remove_old_iterations(connection)
        finally:
            await connection.close()

    # --- finished instances -----------------------------------------------------------------------------------------------

    async def _remove_finished(self, connection: Connection) -> None:
        if time.monotonic() - self._passed >= self._seconds(PASS_SECONDS):
            self._after, self._passed = 0, time.monotonic()
        removed, ended, busy = 0, False, self._busy
        self._busy = []
        work = LongWork(_tell, time.monotonic, TELL_SECONDS)
        while not ended:
            began = time.monotonic()
            row = await _one(connection, _FIND, [self._retention, self._after, LOOKS])
            keys, self._after, ended, *stood = row
            keys, busy = list(dict.fromkeys([*busy, *keys])), []
            await self._rest(began)
            removed += await self._remove(connection, keys, Found(*stood))
            work.at(f"{removed} so far, those up to key {self._after} looked at")
        if removed:
            log.info("finished instances removed", extra=fields(instances=removed))

    async def _remove(self, connection: Connection, keys: list[int], found: Found) -> int:
        """All of these that nothing needs any more; returns how many."""
        total = 0
        if keys:
            await self._confirmed(found)
        while keys:
            batch, keys = keys[:INSTANCES], keys[INSTANCES:]
            began = time.monotonic()
            leader = self._leader
            parameters = [leader.epoch, leader.slot, batch, found.position, found.xid, self._retention, found.backends]
            row = await _one(connection, _REMOVE, [*parameters, list(leader.backends()), ROWS])
            removed, rest, busy = row
            if removed is None:  # the server has not heard of the checkpoint yet
                keys = [*batch, *keys]
                await asyncio.sleep(CONFIRMED_POLL_SECONDS)
                continue
            total += removed
            keys = [*rest, *keys]
            self._busy += busy[: BUSY_KEPT - len(self._busy)]
            self._metrics.removed.inc("instance", by=removed)
            await self._rest(began)
        return total

    # --- loops --------------------------------------------------------------------------------------------------------------

    async def _remove_old_iterations(self, connection: Connection) -> None:
        after, ended = 0, False
        while not ended:
            began = time.monotonic()
            row = await _one(connection, _FIND_OLD, [after, LOOKS, STEPS])
            key, steps, after, ended, *stood = row
            await self._rest(began)
            if key is not None and await self._prune(connection, key, steps, Found(*stood)):
                after = key - 1  # there may be more of it

    async def _prune(self, connection: Connection, key: int, steps: list[str], found: Found) -> bool:
        """Whether something could be removed."""
        await self._confirmed(found)
        began = time.monotonic()
        leader = self._leader
        parameters = [leader.epoch, leader.slot, key, steps, found.position, found.xid, found.backends]
        (removed,) = await _one(connection, _REMOVE_OLD, [*parameters, list(leader.backends())])
        if removed:
            self._metrics.removed.inc("history", by=removed)
            log.debug("history of a loop removed", extra=fields(key=key, rows=removed))
        await self._rest(began)
        return bool(removed)

    # --- waiting ------------------------------------------------------------------------------------------------------------

    async def _confirmed(self, found: Found) -> None:
        """Waits until a checkpoint has passed what was seen: at most the time between two heartbeats."""
        wanted = found.lsn
        while self._leader.durable() < wanted:
            await asyncio.sleep(CONFIRMED_POLL_SECONDS)

    async def _rest(self, began: float) -> None:
        await asyncio.sleep(self._rests * (time.monotonic() - began))


def _tell(where: str) -> None:
    log.info("removing finished instances", extra=fields(progress=where))


async def _one(connection: Connection, query: LiteralString, parameters: Sequence[Any]) -> tuple[Any, ...]:
    row = await (await connection.execute(query, parameters)).fetchone()
    assert row is not None
    return tuple(row)
