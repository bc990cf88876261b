"""The server's clock, as it is known from answers and commits that are under way for a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.clock import ServerClock

TRUE_US = 5_000_000_000


def test_a_slow_answer_is_mended_by_the_first_commit_that_comes_quickly() -> None:
    clock = ServerClock()
    clock.said(TRUE_US, asked_us=0, counted_us=80_000)  # said at 0, read 80 ms later
    assert clock.now_us(80_000) == TRUE_US
    clock.came(TRUE_US + 100_000, 101_000)
    assert clock.now_us(101_000) == TRUE_US + 100_000


def test_a_later_and_slower_answer_changes_no_more_than_clocks_drift() -> None:
    clock = ServerClock()
    clock.said(TRUE_US, asked_us=0, counted_us=0)
    clock.said(TRUE_US + 1_000_000, asked_us=1_000_000, counted_us=1_090_000)
    assert 0 <= TRUE_US + 2_000_000 - clock.now_us(2_000_000) <= 200


def test_a_clock_that_was_set_back_is_noticed_with_the_next_answer() -> None:
    clock = ServerClock()
    clock.said(TRUE_US, asked_us=0, counted_us=10)
    clock.said(TRUE_US - 3_600_000_000, asked_us=1_000, counted_us=1_010)
    assert clock.now_us(1_010) == TRUE_US - 3_600_000_000


def test_a_clock_that_was_set_forward_is_noticed_with_the_next_answer() -> None:
    clock = ServerClock()
    clock.said(TRUE_US, asked_us=0, counted_us=10)
    clock.said(TRUE_US + 3_600_000_000, asked_us=1_000, counted_us=1_010)
    assert clock.now_us(1_010) == TRUE_US + 3_600_000_000


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200_000), st.integers(0, 200_000)), min_size=1))
def test_it_is_never_ahead_of_the_server_and_behind_by_the_quickest_way_at_most(
    exchanges: list[tuple[bool, int, int]],
) -> None:
    clock, counted_us, quickest = ServerClock(), 0, 10**9
    clock.said(TRUE_US, asked_us=0, counted_us=0 + 200_000)
    counted_us = began_us = 200_000
    for is_answer, there, back in exchanges:
        asked_us = counted_us
        truth = TRUE_US + asked_us + there
        counted_us = asked_us + there + back
        if is_answer:
            clock.said(truth, asked_us=asked_us, counted_us=counted_us)
        else:
            clock.came(truth, counted_us)
        quickest = min(quickest, back)
        behind = TRUE_US + counted_us - clock.now_us(counted_us)
        assert 0 <= behind <= quickest + (counted_us - began_us) * 100e-6 + len(exchanges)
