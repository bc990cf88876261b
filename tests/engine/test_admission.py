"""Folded or stored: when a start that waited for room begins, with a store that says what the tables hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from engine.admission import Arrivals
from engine.rows import InstanceRow
from engine.store.rows import StoredInstance
from tests.engine.logbook import ALICE, Log, start

PATIENCE_SECONDS = 20.0
SEEN = StoredInstance(
    row=InstanceRow(1, ALICE, "w1", "select 1", None, None, None, None, "e1"),
    status="pending",
    quarantined=None,
    started_us=None,
    recorded_us=1,
    submitted_by="alice",
    version=None,
    state=None,
    asleep=False,
)


class Tables:
    """One start that waits, seen as `SEEN`; `now` is what the tables hold of it when it is looked at again."""

    def __init__(self, now: StoredInstance) -> None:
        self.now = now

    async def waiting(self, submitter: int, after: int, last: int, limit: int) -> list[StoredInstance]:
        return [SEEN]

    async def instances(self, keys: Sequence[int]) -> list[StoredInstance]:
        return [self.now]

    async def with_inbox(self, keys: Sequence[int]) -> list[int]:
        return []

    async def next_wake(self, after_us: int = 0) -> int | None:
        return None


def admit(now: StoredInstance, passed: Callable[[Log], Awaitable[None]]) -> Log:
    """A book for which there is room again, and the start looked for. `passed`: while a checkpoint is waited for."""
    log = Log(admission=0)
    log.transaction(start())
    log.book.admission = 10

    async def bring() -> None:
        brought = asyncio.Event()
        arrivals = Arrivals(
            log.book,
            Tables(now),  # type: ignore[arg-type]  # the statements that it sends here
            passed=lambda: passed(log),
            brought=brought.set,
            now_us=lambda: 0,
        )
        running = asyncio.ensure_future(arrivals.run())
        waiting = asyncio.ensure_future(brought.wait())
        await asyncio.wait((running, waiting), timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            running.result()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(bring())
    return log


def test_a_start_that_waited_begins_only_after_a_checkpoint_has_passed_what_was_seen() -> None:
    begun: list[bool] = []

    async def passed(log: Log) -> None:
        begun.append(1 in log.book.instances)

    log = admit(SEEN, passed)
    assert begun == [False], "it was waited for, and nothing had begun"
    assert log.asked() == ["select 1"]


@pytest.mark.parametrize("now", [replace(SEEN, status="cancelled"), replace(SEEN, version=1, state="[]")])
def test_a_start_that_has_moved_since_it_was_seen_does_not_begin(now: StoredInstance) -> None:
    async def passed(log: Log) -> None:
        pass

    log = admit(now, passed)
    assert log.asked() == []
    assert log.book.backlog == {}
