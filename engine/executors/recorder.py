"""The engine's own completions: failures, cancellations, fired timers. Many in one statement.

Theory of operation. Whoever decides hands a `Record` in; it is inserted on the engine's connection, unless its key is taken
(One key, one outcome). The answer to the decision is not this insert but its row, when the log brings it (One way in).
Skipped and repeated are timers that are not due by the database's clock, and what was caused by a transaction that is not
visible yet (A row may arrive before it can be seen).

Inserting waits for a transaction that holds the same key and has not ended. Only the submitting role itself can have one. So
the engine's own keys (timers) have a connection of their own, on which nothing ever waits; rows under a role's key wait at
most `LOCK_TIMEOUT_MS`, in company first, then role by role, then one by one up to the held one, behind which the rest of that
role's waits a second. However many keys a role holds, it delays others by two timeouts a second (One workflow's trouble stays
its own).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from engine.checkpoint import FENCED
from engine.errors import Fenced
from engine.events import Outcome
from engine.machine import ENGINE

Connection = psycopg.AsyncConnection[Any]

LOCK_TIMEOUT_MS: Final = 100
"""How long an insert waits for somebody's open transaction with the same key."""
BATCH: Final = 500
"""Rows in one statement: some 100 kB, a few milliseconds."""
REPEAT_SECONDS: Final = 0.005
"""Before a skipped row is tried again."""
BLOCKED_REPEAT_SECONDS: Final = 1.0
"""Before a row whose key somebody holds is tried again."""

_LOCK_NOT_AVAILABLE: Final = "55P03"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RECORD: Final = "select df.record_completions(%s::bigint, %s::json)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How an attempt ended. `result` and `error` are JSON texts; `due_us` makes it wait for the database's clock."""

    run_as: int
    key: int
    step: str
    outcome: Outcome
    cause: str | None
    result: str | None = None
    error: str | None = None
    query: str | None = None
    note: str | None = None
    repetitions: int = 0
    due_us: int | None = None
    xids: tuple[int, ...] = ()


class Recorder:
    """Inserts records for as long as its `jobs` run: the engine's own keys on one connection, all others on another."""

    def __init__(self, own: Connection, others: Connection, epoch: int) -> None:
        self._own = _Lane(own, epoch)
        self._others = _Lane(others, epoch)

    def __len__(self) -> int:
        return len(self._own) + len(self._others)

    def record(self, record: Record) -> None:
        """Takes a decision; it is inserted soon."""
        (self._own if record.run_as == ENGINE else self._others).record(record)

    @property
    def busy(self) -> bool:
        """Whether something is being inserted, or waits for no more than its turn."""
        return self._own.busy or self._others.busy

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        """What inserts, until cancelled. Each raises Fenced, and psycopg's errors when its connection is lost."""
        return [self._own.run(), self._others.run()]


class _Lane:
    """Records that wait for one connection."""

    def __init__(self, connection: Connection, epoch: int) -> None:
        self._connection = connection
        self._epoch = epoch
        self._waiting: list[Record] = []
        self._wanted = asyncio.Event()
        self.busy = False

    def __len__(self) -> int:
        return len(self._waiting)

    def record(self, record: Record) -> None:
        self._waiting.append(record)
        self._wanted.set()
        self.busy = True

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._insert(batch)
            self.busy = False

    async def _insert(self, records: list[Record]) -> bool:
        """Whether nobody held a key of them. What was skipped or held is tried again later."""
        try:
            skipped = await self._write(records)
        except psycopg.Error as error:
            if error.sqlstate == FENCED:
                raise Fenced(f"epoch {self._epoch} does not lead any more") from error
            if error.sqlstate is None or self._connection.closed:
                self._waiting = [*records, *self._waiting]
                raise
            if error.sqlstate == _LOCK_NOT_AVAILABLE:
                await self._held(records)
                return False
            await self._refused(records, error)
            return True
        for ordinal in skipped:
            self._later(REPEAT_SECONDS, records[ordinal])
        return True

    async def _held(self, records: list[Record]) -> None:
        """Somebody holds a key: each role on its own, then each of its records until the held one; the rest waits with it."""
        roles = sorted({record.run_as for record in records})
        if len(roles) > 1:
            for role in roles:
                await self._insert([record for record in records if record.run_as == role])
        elif len(records) == 1:
            self._later(2 * BLOCKED_REPEAT_SECONDS, records[0])  # after those that waited behind it
        else:
            for place, record in enumerate(records, 1):
                if not await self._insert([record]):
                    for behind in records[place:]:
                        self._later(BLOCKED_REPEAT_SECONDS, behind)
                    return

    async def _refused(self, records: list[Record], error: psycopg.Error) -> None:
        """The statement failed: each on its own, and what fails alone is recorded in words that fit."""
        if len(records) > 1:
            for record in records:
                await self._insert([record])
            return
        why = json.dumps({"message": f"the outcome could not be recorded: {error}", "code": error.sqlstate})
        bare = replace(records[0], result=None, query=None, error=why, outcome="failed")
        if bare == records[0]:
            raise error
        await self._insert([bare])

    def _later(self, seconds: float, record: Record) -> None:
        asyncio.get_running_loop().call_later(seconds, self.record, record)

    async def _write(self, records: list[Record]) -> list[int]:
        rows = json.dumps([_row(i, record) for i, record in enumerate(records)])
        cursor = await self._connection.execute(_RECORD, [self._epoch, rows])
        row = await cursor.fetchone()
        return list(row[0] or ()) if row is not None else []


def _row(ordinal: int, record: Record) -> dict[str, Any]:
    due = None if record.due_us is None else (_EPOCH + timedelta(microseconds=record.due_us)).isoformat()
    return {
        "ordinal": ordinal,
        "run_as": record.run_as,
        "key": record.key,
        "step": record.step,
        "attempt": 1,
        "outcome": record.outcome,
        "result": _parsed(record.result),
        "error": _parsed(record.error),
        "cause": record.cause,
        "query": record.query,
        "note": record.note,
        "repetitions": record.repetitions,
        "due": due,
        "xids": [str(xid) for xid in record.xids],
    }


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
