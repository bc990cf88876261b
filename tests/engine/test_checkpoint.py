"""Confirm only what is durable: what the stream is told of, and when, with a store that commits or does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cdc.lsn import Lsn
from engine.checkpoint import Checkpointer
from engine.cut import Cut
from engine.errors import Fenced, Lost, NotVisible
from engine.store.rows import Written
from tests.engine.logbook import Log, signal, start
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
