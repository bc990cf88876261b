"""Nothing dirty is evicted: what leaves the memory is what the last checkpoint holds."""

from __future__ import annotations

from tests.engine.logbook import Log, release, signal, start
from tests.engine.machinery import wait


def sleeping(*, admission: int = 2) -> Log:
    """A book with so little room that what only waits leaves as soon as it may; it still has two that wait."""
    log = Log(admission=100)
    log.transaction(start(wait("s"), key=1, id_="w1"), start(wait("s"), key=2, id_="w2"))
    log.checkpoint()
    log.checkpoint(now_us=log.at_us + 10_000_000)  # what is shown of them
    log.book.visibility.proven(log.book.visibility.unproven())
    log.book.admission = admission
    return log


def test_what_only_waits_and_is_written_leaves() -> None:
    log = sleeping()
    log.transaction()
    log.checkpoint()
    assert len(log.book.instances) == 1


def test_what_changed_while_its_checkpoint_was_written_does_not_leave() -> None:
    log = sleeping(admission=100)
    log.transaction(signal("other", key=1), signal("other", key=2, id_="w2"))
    cut = log.book.collect(log.at_us + 10_000_000)
    log.transaction(signal("third", key=1), signal("third", key=2, id_="w2"))
    log.book.visibility.proven(log.book.visibility.unproven())
    log.book._unshown.clear()
    log.book.admission = 0
    log.book.stored(cut)
    assert set(log.book.instances) == {1, 2}, "the next checkpoint has to write them"
    assert {key for key, _, _ in log.book.collect().states} == {1, 2}


def test_what_changed_while_its_checkpoint_was_written_takes_nobodys_turn_to_leave() -> None:
    log = sleeping(admission=100)
    log.transaction(signal("other", key=1), signal("other", key=2, id_="w2"))
    cut = log.book.collect(log.at_us + 10_000_000)
    log.transaction(signal("third", key=1))
    log.book.visibility.proven(log.book.visibility.unproven())
    log.book._unshown.clear()
    log.book.admission = 2
    log.book.stored(cut)
    assert set(log.book.instances) == {1}


def test_what_was_quarantined_since_its_checkpoint_does_not_leave_before_that_is_written() -> None:
    log = sleeping()
    for live in log.book.instances.values():
        log.book.quarantine(live, "trouble")
    cut = log.book.collect()
    log.book.restore(cut)
    log.book.stored(Log().book.collect())
    assert [change.quarantined for change in log.book.collect().changes] == ["trouble", "trouble"]


def test_what_a_release_reads_the_inbox_for_does_not_leave() -> None:
    log = sleeping(admission=100)
    for live in list(log.book.instances.values()):
        log.book.quarantine(live, "trouble")
    log.transaction(release(key=1), release(key=2))
    held = [live for live in log.book.instances.values() if live.held is not None]
    log.book.admission = 0
    log.checkpoint()
    assert [live.key for live in held] == [1, 2]
    assert set(log.book.instances) == {1, 2}


def test_what_took_part_in_transactions_that_cannot_be_seen_yet_does_not_leave() -> None:
    """Its next effect has to wait for them, and only the memory knows which."""
    log = sleeping(admission=100)
    log.transaction(signal("other", key=1), signal("other", key=2, id_="w2"))
    log.checkpoint(now_us=log.at_us + 10_000_000)
    log.checkpoint(now_us=log.at_us + 10_000_000)
    log.book.admission = 0
    log.checkpoint()
    assert set(log.book.instances) == {1, 2}
    log.book.visibility.proven(log.book.visibility.unproven())
    log.checkpoint()
    assert set(log.book.instances) == set()
