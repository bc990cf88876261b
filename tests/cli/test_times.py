"""Times and durations for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from engine.cli.times import ago, coarse, iso, span, stamp

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0ms"),
        (0.0004, "0ms"),
        (0.012, "12ms"),
        (0.9994, "999ms"),
        (0.9996, "1.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (125, "2m 05s"),
        (3_599.6, "1h 00m"),
        (11_520, "3h 12m"),
        (86_400 * 4 + 7_200, "4d 02h"),
        (86_400 * 412, "412d"),
    ],
)
def test_a_duration_is_short(seconds: float, said: str) -> None:
    assert span(seconds) == said
    assert len(said) <= 7


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "just now"), (-0.4, "just now"), (3, "3s ago"), (61, "1m ago"), (7_200, "2h ago"), (-90, "in 1m")],
)
def test_a_moment_is_told_from_now(seconds: float, said: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == said


def test_an_age_has_one_unit() -> None:
    assert [coarse(seconds) for seconds in (0.2, 59, 60, 3_600, 86_399, 86_400)] == [
        "0s",
        "59s",
        "1m",
        "1h",
        "23h",
        "1d",
    ]


def test_programs_get_utc() -> None:
    elsewhere = datetime(2026, 11, 21, 14, 0, 0, 250, tzinfo=timezone(timedelta(hours=2)))
    assert iso(elsewhere) == "2026-11-21T12:00:00.000250Z"
    assert stamp(elsewhere) == "2026-11-21T12:00:00Z"
