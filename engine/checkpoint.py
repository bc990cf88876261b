"""Checkpoints: what the book collected, written in one transaction, fenced by the epoch, and confirmed afterwards.

Theory of operation. One checkpoint is under way at a time; the next begins when it is done and something is dirty, so an idle
engine shows a result at once and a busy one writes many at a time. After one that held many instances the next waits as long
as that one took: half of the time at most goes into checkpoints, and what changed twice meanwhile is written once. The
position is told to the stream only after the transaction has committed (Confirm only what is durable): `Stream.confirm` is
called here and nowhere else.

A checkpoint that met rows which are not visible yet (DF002) is rolled back, given back to the book and repeated. One that
finds another epoch (DF001) ends this engine (A stale engine cannot harm).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from cdc.lsn import Lsn, format_lsn
from engine.book import Book, Cut
from engine.codec import VERSION
from engine.errors import Fenced

Connection = psycopg.AsyncConnection[Any]

FENCED: Final = "DF001"
NOT_VISIBLE: Final = "DF002"
REPEAT_SECONDS: Final = 0.005
"""Between two tries of a checkpoint whose rows are not visible yet; grows twofold up to 20 times that."""

FEW_INSTANCES: Final = 4
"""A checkpoint of no more is followed by the next at once: nobody is in a hurry but whoever waits for these."""
LONGEST_PAUSE_SECONDS: Final = 0.05
"""Between two checkpoints: what a result may be late under load."""

_WRITE: Final = """
select invisible::text[], gone
  from df.write_checkpoint(
    %s::bigint, %s::pg_lsn, %s::xid8[],
    %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
    %s::bigint[], %s::smallint[], %s::text[], %s::timestamptz[], %s::bigint[],
    %s::uuid[], %s::oid[], %s::uuid[], %s::oid[], %s::uuid[], %s::oid[],
    %s::json, %s::bigint[], %s::pg_lsn[], %s::integer[])
"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Checkpointer:
    """Writes checkpoints for as long as `run` runs. `confirm` tells the stream; `observed` gets seconds and instances."""

    def __init__(
        self,
        book: Book,
        connection: Connection,
        epoch: int,
        *,
        confirm: Callable[[Lsn], None],
        observed: Callable[[float, int], None],
    ) -> None:
        self._book = book
        self._connection = connection
        self._epoch = epoch
        self._confirm = confirm
        self._observed = observed
        self._wanted = asyncio.Event()

    def poke(self) -> None:
        """Something may be dirty. Cheap; called after every transaction."""
        self._wanted.set()

    async def run(self) -> None:
        """Writes checkpoints until cancelled. Raises Fenced, and psycopg's errors."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._book.dirty and not self._book.in_transaction:
                await asyncio.sleep(await self.write())

    async def finish(self) -> None:
        """Writes what is dirty now; `run` must have ended. For an orderly stop."""
        if self._book.dirty and not self._book.in_transaction:
            await self.write()

    async def write(self) -> float:
        """One checkpoint, repeated until every row in it is visible. Returns how long the next should wait, in seconds."""
        pause = REPEAT_SECONDS
        while True:
            cut = self._book.collect()
            began = time.monotonic()
            try:
                invisible, gone = await self._write(cut)
            except psycopg.Error as error:
                self._book.restore(cut)
                if error.sqlstate == FENCED:
                    raise Fenced(f"epoch {self._epoch} does not lead any more: {error}") from error
                if error.sqlstate != NOT_VISIBLE:
                    raise
            except BaseException:
                self._book.restore(cut)
                raise
            else:
                self._book.visibility.proven(set(cut.xids).difference(invisible))
                self._book.stored(cut, gone)
                self._confirm(cut.lsn)
                seconds = time.monotonic() - began
                self._observed(seconds, len(cut.lives))
                return min(seconds, LONGEST_PAUSE_SECONDS) if len(cut.lives) > FEW_INSTANCES else 0.0
            await asyncio.sleep(pause)
            pause = min(2 * pause, 20 * REPEAT_SECONDS)
            while self._book.in_transaction:
                await asyncio.sleep(REPEAT_SECONDS)

    async def _write(self, cut: Cut) -> tuple[list[int], list[int]]:
        cursor = await self._connection.execute(_WRITE, _parameters(self._epoch, cut))
        row = await cursor.fetchone()
        assert row is not None
        return [int(xid) for xid in row[0] or ()], list(row[1] or ())


def _parameters(epoch: int, cut: Cut) -> list[Any]:
    changes, marks = cut.changes, cut.marks
    return [
        epoch,
        format_lsn(cut.lsn),
        plain_array(cut.xids),
        plain_array(c.key for c in changes),
        plain_array(c.status for c in changes),
        text_array(c.quarantined for c in changes),
        text_array(c.result for c in changes),
        text_array(c.error for c in changes),
        plain_array(_timestamp(c.started_us) for c in changes),
        plain_array(_timestamp(c.finished_us) for c in changes),
        plain_array(key for key, _ in cut.states),
        plain_array(VERSION for _ in cut.states),
        text_array(text for _, text in cut.states),
        plain_array(None for _ in cut.states),
        plain_array(cut.dropped),
        *(column for marked in (marks.signal, marks.cancellation, marks.release) for column in _columns(marked)),
        _inbox(cut),
        plain_array(key for key, _, _ in cut.inbox_done),
        plain_array(format_lsn(lsn) for _, lsn, _ in cut.inbox_done),
        plain_array(ordinal for _, _, ordinal in cut.inbox_done),
    ]


def plain_array(values: Iterable[int | str | None]) -> str:
    """An array literal of values that need no quotes. (A list as parameter costs ten times as much processor time.)"""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


def text_array(values: Iterable[str | None]) -> str:
    """An array literal of any texts."""
    quoted = ["NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values]
    return f"{{{','.join(quoted)}}}"


def _columns(marked: list[tuple[str, int]]) -> tuple[str, str]:
    return plain_array(event_id for event_id, _ in marked), plain_array(owner for _, owner in marked)


def _inbox(cut: Cut) -> str | None:
    if not cut.inbox:
        return None
    return json.dumps(
        [
            {
                "instance_key": key,
                "lsn": format_lsn(held.lsn),
                "ordinal": held.ordinal,
                "kind": held.kind,
                "row_key": held.row_key,
                "commit_time": _timestamp(at_us),
                "xid": str(held.xid),
            }
            for key, at_us, held in cut.inbox
        ]
    )


def _timestamp(at_us: int | None) -> str | None:
    """ISO 8601, or None."""
    return None if at_us is None else (_EPOCH + timedelta(microseconds=at_us)).isoformat()
