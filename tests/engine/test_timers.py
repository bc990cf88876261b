"""Timers: which are due, and what the history says of a schedule's tick that comes late."""

from __future__ import annotations

import pytest

from engine.leadership import passed_ticks
from engine.timers import AT_ONCE, Timer, Timers

MINUTE = 60_000_000
NOON = 1_700_000_000_000_000 // (720 * MINUTE) * (720 * MINUTE)


def test_timers_that_are_due_come_earliest_first_and_once() -> None:
    timers = Timers()
    for due_us, key in ((3, 1), (1, 2), (2, 3), (9, 4)):
        timers.start(Timer(due_us, key, "1", "e"))
    timers.drop(3, "1")
    assert [timer.key for timer in timers.take_due(5)] == [2, 1]
    assert timers.take_due(5) == []
    assert timers.next_due_us() == 9


def test_a_timer_that_is_started_again_counts_once() -> None:
    timers = Timers()
    for due_us in (1, 2):
        timers.start(Timer(due_us, 1, "1", "e"))
    assert [timer.due_us for timer in timers.take_due(5)] == [2]


@pytest.mark.parametrize(
    ("late_us", "note"),
    [(0, None), (MINUTE - 1, None), (MINUTE, "1 ticks passed"), (60 * MINUTE, "60 ticks passed")],
)
def test_a_tick_that_comes_late_says_how_many_more_have_passed(late_us: int, note: str | None) -> None:
    tick = Timer(NOON, 1, "1", "e", ("* * * * *", "UTC"))
    assert passed_ticks(tick, NOON + late_us) == note


def test_other_timers_say_nothing() -> None:
    assert passed_ticks(Timer(NOON, 1, "1", "e"), NOON + 60 * MINUTE) is None


def test_a_schedule_that_cannot_be_read_any_more_fires_all_the_same() -> None:
    assert passed_ticks(Timer(NOON, 1, "1", "e", ("* * * * *", "Nowhere/At_All")), NOON + MINUTE) is None


def test_timers_that_are_due_at_the_same_moment_are_taken_some_at_a_time() -> None:
    timers = Timers()
    for key in range(2 * AT_ONCE + 1):
        timers.start(Timer(1, key, "1", "e"))
    assert [len(timers.take_due(5)) for _ in range(4)] == [AT_ONCE, AT_ONCE, 1, 0]
