"""Confirm only what is durable: what the stream is told of, and when, with a store that commits or does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest

from cdc.lsn import Lsn
from engine.checkpoint import MANY_INSTANCES, Checkpointer
from engine.cut import BUSY_PROGRESS_US, QUIET, SHOWN_IN_A_HURRY, Cut
from engine.errors import Fenced, Lost, NotVisible
from engine.store.rows import Written
from tests.engine.logbook import ALICE, BOB, Log, done, signal, start
from tests.engine.machinery import wait


class Store:
    """`write_checkpoint` alone. `answers` are what it does, one after the other, and then it commits."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.cuts: list[Cut] = []
        self.meanwhile: Callable[[], object] = lambda: None
        """What happens after a cut was taken and before it is committed."""

    async def write_checkpoint(self, epoch: int, cut: Cut) -> Written:
        self.cuts.append(cut)
        self.meanwhile()
        if self.answers:
            raise self.answers.pop(0)
        return Written([], [])


def checkpointer(log: Log, store: Store, confirmed: list[Lsn]) -> Checkpointer:
    return Checkpointer(
        log.book,
        store,  # type: ignore[arg-type]  # the one statement that it sends
        1,
        monotonic=lambda: 0.0,
        confirm=confirmed.append,
        observed=lambda _seconds, _instances: None,
    )


def test_a_position_is_confirmed_only_after_its_checkpoint_has_committed() -> None:
    log, store, confirmed = Log(), Store(), list[Lsn]()
    end = log.transaction(start(wait("s")))
    store.meanwhile = lambda: confirmed.append(Lsn(0))
    asyncio.run(checkpointer(log, store, confirmed).write())
    assert confirmed == [0, end], "first the commit, then the word"


def test_what_is_folded_while_a_checkpoint_is_written_is_not_confirmed_with_it() -> None:
    log, store, confirmed = Log(), Store(), list[Lsn]()
    end = log.transaction(start(wait("s")))
    store.meanwhile = lambda: log.transaction(signal("s"))
    asyncio.run(checkpointer(log, store, confirmed).write())
    assert confirmed == [end]
    assert log.book.dirty


def test_a_checkpoint_that_meets_what_is_not_visible_yet_confirms_nothing_and_is_repeated_with_all_that_it_held() -> (
    None
):
    log, store, confirmed = Log(), Store(NotVisible("not yet", sqlstate="DF002")), list[Lsn]()
    end = log.transaction(start(wait("s")), signal("other"))
    asyncio.run(checkpointer(log, store, confirmed).write())
    first, second = store.cuts
    assert confirmed == [end], "once"
    assert (second.lsn, second.states, second.marks.signal) == (first.lsn, first.states, first.marks.signal)


@pytest.mark.parametrize("error", [Fenced("another leads"), Lost("gone")], ids=["fenced", "lost"])
def test_a_checkpoint_that_cannot_be_written_confirms_nothing_and_ends_the_leadership(error: Exception) -> None:
    log, store, confirmed = Log(), Store(error), list[Lsn]()
    log.transaction(start(wait("s")))
    with pytest.raises(type(error)):
        asyncio.run(checkpointer(log, store, confirmed).write())
    assert confirmed == []
    assert log.book.dirty, "what it held is unwritten still"


# --- who waits for whom ---------------------------------------------------------------------------------------------------


def ends(log: Log, keys: range, owner: int = ALICE) -> None:
    """Workflows of one step, from their start to their end."""
    log.transaction(*(start(key=key, id_=f"w{key}", owner=owner) for key in keys))
    log.transaction(*(done(key=key, run_as=owner) for key in keys))


def test_who_ended_many_instances_with_the_last_checkpoint_is_not_hurried_for_and_anybody_else_is() -> None:
    log = Log()
    ends(log, range(1, QUIET + 2))
    assert log.book.urgent, "nothing is known of her yet"
    log.checkpoint()
    ends(log, range(11, 12))
    assert not log.book.urgent
    ends(log, range(21, 22), BOB)
    assert log.book.urgent
    log.checkpoint()
    ends(log, range(31, 32))
    assert log.book.urgent, "a few are no flood"


def test_a_checkpoint_that_was_not_committed_is_as_urgent_as_before() -> None:
    log = Log()
    ends(log, range(1, 2))
    cut = log.book.collect()
    assert not log.book.urgent
    log.book.restore(cut)
    assert log.book.urgent


class Running:
    """A checkpointer at work. Each of its checkpoints takes `took` seconds by its clock."""

    def __init__(self, took: float) -> None:
        self.log = Log()
        self.store = Store()
        clock = count(step=took)
        self.writer = Checkpointer(
            self.log.book,
            self.store,  # type: ignore[arg-type]  # the one statement that it sends
            1,
            monotonic=lambda: next(clock),
            confirm=lambda _lsn: None,
            observed=lambda _seconds, _instances: None,
        )

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.writer.run())
        yield
        task.cancel()

    async def written(self, cuts: int) -> None:
        self.writer.poke()
        async with asyncio.timeout(20):
            while len(self.store.cuts) < cuts:
                await asyncio.sleep(0.001)

    async def waits(self) -> None:
        """Its next checkpoint does not come soon."""
        before = len(self.store.cuts)
        self.writer.poke()
        await asyncio.sleep(0.05)
        assert len(self.store.cuts) == before


def test_between_two_checkpoints_of_a_flood_there_is_a_pause_which_ends_when_somebody_else_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.checkpoint.LONGEST_PAUSE_SECONDS", 60.0)

    async def work() -> None:
        here = Running(took=1000.0)
        async with here.at_work():
            ends(here.log, range(1, QUIET + 2))
            await here.written(1)
            ends(here.log, range(11, 12))
            await here.waits()
            ends(here.log, range(21, 22), BOB)
            await here.written(2)

    asyncio.run(work())


def test_after_a_checkpoint_of_many_there_is_a_pause_however_quick_it_was_which_ends_when_somebody_waits_for_a_position(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.checkpoint.FLOOD_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr("engine.checkpoint.LONGEST_PAUSE_SECONDS", 60.0)

    async def work() -> None:
        here = Running(took=0.0)
        async with here.at_work():
            ends(here.log, range(1, MANY_INSTANCES + 1))
            await here.written(1)
            ends(here.log, range(101, 101 + MANY_INSTANCES + 1))
            await here.written(2)
            ends(here.log, range(201, 202))
            await here.waits()
            here.writer.hasten()
            await here.written(3)

    asyncio.run(work())


def test_whoever_does_not_flood_waits_for_the_progress_of_a_few_instances_only() -> None:
    log = Log()
    log.transaction(*(start(wait("s"), key=key, id_=f"w{key}") for key in range(1, 51)))
    later = log.at_us + 2 * BUSY_PROGRESS_US
    ends(log, range(61, 62), BOB)
    assert len(log.checkpoint(now_us=later).shown) == SHOWN_IN_A_HURRY
    log.transaction(signal("other", key=1, id_="w1"))
    assert len(log.checkpoint(now_us=later).shown) == 50 - SHOWN_IN_A_HURRY
