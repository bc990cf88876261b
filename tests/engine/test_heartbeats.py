"""Heartbeats that do not come by the log: missing, or only late."""

from __future__ import annotations

from cdc.lsn import Lsn
from engine.heartbeats import Heartbeats


def beat(heartbeats: Heartbeats, wal_end: int) -> None:
    heartbeats.sending()
    heartbeats.sent(Lsn(wal_end))


def test_one_that_the_stream_has_passed_is_missing() -> None:
    heartbeats = Heartbeats()
    for wal_end in (10, 20, 30):
        beat(heartbeats, wal_end)
    assert heartbeats.missing(Lsn(30)) == 2


def test_one_that_the_stream_has_not_reached_is_only_late() -> None:
    """As behind a transaction that takes long to decode."""
    heartbeats = Heartbeats()
    for wal_end in (10, 20, 30, 40):
        beat(heartbeats, wal_end)
    assert heartbeats.missing(Lsn(15)) == 0
    assert heartbeats.missing(Lsn(20)) == 1


def test_the_one_that_was_sent_last_is_not_missing_yet() -> None:
    heartbeats = Heartbeats()
    beat(heartbeats, 10)
    assert heartbeats.missing(Lsn(1000)) == 0


def test_when_one_comes_none_is_missing() -> None:
    heartbeats = Heartbeats()
    for wal_end in (10, 20, 30):
        beat(heartbeats, wal_end)
    heartbeats.came()
    assert heartbeats.missing(Lsn(1000)) == 0
    beat(heartbeats, 40)
    assert heartbeats.missing(Lsn(1000)) == 0


def test_one_that_comes_while_it_is_being_sent_is_not_waited_for() -> None:
    """The log may be faster than the answer to the statement."""
    heartbeats = Heartbeats()
    heartbeats.sending()
    heartbeats.came()
    heartbeats.sent(Lsn(10))
    beat(heartbeats, 20)
    beat(heartbeats, 30)
    assert heartbeats.missing(Lsn(1000)) == 1
