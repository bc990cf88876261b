"""The statements with which a leader writes: functions of `0007_engine.sql`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cdc.lsn import format_lsn, parse_lsn
from engine.codec import VERSION
from engine.cut import Cut
from engine.machine import FOREVER
from engine.store.border import Connected
from engine.store.rows import Begun, Cancelled, Child, Heartbeat, Record, Refusal, Waiting, Written

_WRITE: Final = """
select invisible::text[], gone
  from df.write_checkpoint(
    %s::bigint, %s::pg_lsn, %s::xid8[],
    %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
    %s::bigint[],
    %s::bigint[], %s::smallint[], %s::text[], %s::timestamptz[], %s::bigint[],
    %s::uuid[], %s::oid[], %s::text[], %s::uuid[], %s::oid[], %s::uuid[], %s::oid[], %s::bigint[], %s::text[],
    %s::json, %s::bigint[], %s::pg_lsn[], %s::integer[],
    %s::bigint[], %s::oid[], %s::text[], %s::bigint[], %s::oid[], %s::bigint[], %s::json)
"""
_RECORD: Final = "select df.record_completions(%s::bigint, %s::json)"
_START: Final = "select skipped from df.start_children(%s::bigint, %s::json)"
_CANCEL: Final = "select skipped from df.cancel_children(%s::bigint, %s::json)"
_AWAIT: Final = "select skipped, missing, refused from df.begin_waits(%s::bigint, %s::json)"
_HEARTBEAT: Final = "select wal_end, restart_lsn, wal_status, settings, now_us from df.heartbeat(%s::bigint, %s)"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresWriting(Connected):
    """`engine.store.Writing` on a connection."""

    async def write_checkpoint(self, epoch: int, cut: Cut) -> Written:
        invisible, gone = await self.one(_WRITE, _parameters(epoch, cut))
        return Written([int(xid) for xid in invisible or ()], list(gone or ()))

    async def record_completions(self, epoch: int, records: Sequence[Record]) -> list[int]:
        rows = json.dumps([_row(i, record) for i, record in enumerate(records)])
        (skipped,) = await self.one(_RECORD, [epoch, rows])
        return list(skipped or ())

    async def start_children(self, epoch: int, children: Sequence[Child]) -> Begun:
        (skipped,) = await self.one(_START, [epoch, _requests(children)])
        return Begun(list(skipped or ()), [], [])

    async def cancel_children(self, epoch: int, cancelled: Sequence[Cancelled]) -> Begun:
        (skipped,) = await self.one(_CANCEL, [epoch, _requests(cancelled)])
        return Begun(list(skipped or ()), [], [])

    async def begin_waits(self, epoch: int, waits: Sequence[Waiting]) -> Begun:
        skipped, missing, refused = await self.one(_AWAIT, [epoch, _requests(waits)])
        refusals = [Refusal(r["ordinal"], r["message"], r["code"]) for r in refused or ()]
        return Begun(list(skipped or ()), list(missing or ()), refusals)

    async def heartbeat(self, epoch: int, slot: str) -> Heartbeat:
        wal_end, restart_lsn, wal_status, settings, now_us = await self.one(_HEARTBEAT, [epoch, slot])
        return Heartbeat(
            wal_end=parse_lsn(wal_end),
            restart_lsn=None if restart_lsn is None else parse_lsn(restart_lsn),
            wal_status=wal_status,
            settings=settings,
            now_us=now_us,
        )

    async def distrust_log(self, epoch: int) -> None:
        await self.run("update df.checkpoint set scanning = true where epoch = %s", [epoch])


# --- checkpoints --------------------------------------------------------------------------------------------------------


def _parameters(epoch: int, cut: Cut) -> list[Any]:
    changes, marks, counts = cut.changes, cut.marks, cut.counts
    signals = dict.fromkeys([*marks.signal, *marks.taken])
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
        plain_array(cut.ended),
        plain_array(key for key, _, _ in cut.states),
        plain_array(VERSION for _ in cut.states),
        text_array(text for _, text, _ in cut.states),
        plain_array(_wake(wake_us) for _, _, wake_us in cut.states),
        plain_array(cut.dropped),
        *_columns(signals),
        text_array(marks.taken.get(signal) for signal in signals),
        *(column for marked in (marks.cancellation, marks.release) for column in _columns(marked)),
        plain_array(key for key, _ in marks.wait),
        text_array(step for _, step in marks.wait),
        _inbox(cut),
        plain_array(key for key, _, _ in cut.inbox_done),
        plain_array(format_lsn(lsn) for _, lsn, _ in cut.inbox_done),
        plain_array(ordinal for _, _, ordinal in cut.inbox_done),
        plain_array(key for key, _, _ in cut.shown),
        plain_array(owner for _, owner, _ in cut.shown),
        text_array(text for _, _, text in cut.shown),
        plain_array(key for key, _ in cut.hidden),
        plain_array(owner for _, owner in cut.hidden),
        plain_array(
            (counts.started, counts.completed, counts.failed, counts.cancelled, counts.executions, counts.events)
        ),
        _backlog(cut),
    ]


def plain_array(values: Iterable[int | str | None]) -> str:
    """An array literal of values that need no quotes. (A list as parameter costs ten times as much processor time.)"""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


def text_array(values: Iterable[str | None]) -> str:
    """An array literal of any texts."""
    quoted = ["NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values]
    return f"{{{','.join(quoted)}}}"


def _columns(marked: Collection[tuple[str, int]]) -> tuple[str, str]:
    return plain_array(event_id for event_id, _ in marked), plain_array(owner for _, owner in marked)


def _backlog(cut: Cut) -> str | None:
    if cut.backlog is None:
        return None
    return json.dumps([[role, waiting.after, waiting.last, waiting.count] for role, waiting in cut.backlog.items()])


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


# --- completions and requests -------------------------------------------------------------------------------------------


def _row(ordinal: int, record: Record) -> dict[str, Any]:
    return {
        "ordinal": ordinal,
        "run_as": record.run_as,
        "key": record.key,
        "step": record.step,
        "attempt": record.attempt,
        "outcome": record.outcome,
        "result": _parsed(record.result),
        "error": _parsed(record.error),
        "cause": record.cause,
        "query": record.query,
        "note": record.note,
        "repetitions": record.repetitions,
        "due": _timestamp(record.due_us),
        "xids": [str(xid) for xid in record.xids],
    }


def _requests(requests: Sequence[Child | Cancelled | Waiting]) -> str:
    rows = [
        {**r.row(), "ordinal": i, "cause": r.cause, "xids": [str(xid) for xid in r.xids]}
        for i, r in enumerate(requests)
    ]
    return json.dumps(rows)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _wake(at_us: int | None) -> str | None:
    return "infinity" if at_us == FOREVER else _timestamp(at_us)


def _timestamp(at_us: int | None) -> str | None:
    """ISO 8601, or None."""
    return None if at_us is None else (_EPOCH + timedelta(microseconds=at_us)).isoformat()
