"""Durations and times that a workflow computed: `30`, `1.5`, `00:01:30`, `2 hours 30 min`, `P1DT2H`; ISO 8601 times.

What PostgreSQL prints for an interval (styles postgres and iso_8601) and for a timestamptz is read back. As in
`extract(epoch from …)` a month has 30 days and a year 365.25.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_SECONDS = {
    "us": 1e-6, "usec": 1e-6, "microsecond": 1e-6, "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3,
    "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hr": 3600, "hour": 3600,
    "d": 86400, "day": 86400, "w": 604800, "week": 604800,
    "mon": 2592000, "month": 2592000, "y": 31557600, "yr": 31557600, "year": 31557600,
}  # fmt: skip

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_CLOCK = re.compile(r"([+-]?)(\d{1,12}):(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?")
_UNIT = re.compile(r"([+-]?\d{1,15}(?:\.\d*)?)\s*([A-Za-z]+)")
_ISO = re.compile(
    r"P(?:(-?[\d.]+)Y)?(?:(-?[\d.]+)M)?(?:(-?[\d.]+)W)?(?:(-?[\d.]+)D)?(?:T(?:(-?[\d.]+)H)?(?:(-?[\d.]+)M)?(?:(-?[\d.]+)S)?)?"
)
_ISO_SECONDS = (31557600, 2592000, 604800, 86400, 3600, 60, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


class DurationError(ValueError):
    """A text that is no duration or time; the message says which text."""


def parse_seconds(text: str) -> float:
    """Seconds, not negative."""
    given = text.strip()
    if len(given) > 200:
        raise DurationError(f"not a duration: {given[:60]!r}…")
    try:
        seconds = _seconds(given)
    except ValueError:
        seconds = None
    if seconds is None:
        raise DurationError(f"not a duration: {given!r} (seconds, or an interval such as '2 hours 30 min')")
    if seconds < 0 or seconds != seconds or seconds == float("inf"):
        raise DurationError(f"a duration cannot be {given!r}")
    return seconds


def _seconds(given: str) -> float | None:
    if _NUMBER.fullmatch(given):
        return float(given)
    iso = _ISO.fullmatch(given)
    if iso and any(iso.groups()):
        return sum(float(part) * unit for part, unit in zip(iso.groups(), _ISO_SECONDS, strict=True) if part)
    return _verbose(given)


def _verbose(given: str) -> float | None:
    """`1 day 02:30:00`, `2 hours 30 min`, in any order; None when something is left over."""
    total, place = 0.0, 0
    while place < len(given):
        clock = _CLOCK.match(given, place)
        unit = None if clock else _UNIT.match(given, place)
        if clock:
            sign = -1 if clock[1] == "-" else 1
            total += sign * (int(clock[2]) * 3600 + int(clock[3]) * 60 + float(clock[4] or 0))
        elif unit and (size := _size(unit[2])) is not None:
            total += float(unit[1]) * size
        else:
            return None
        found = clock or unit
        assert found is not None
        place = found.end()
        while place < len(given) and given[place] in " ,":
            place += 1
    return total if given else None


def _size(unit: str) -> float | None:
    name = unit.lower()
    return _SECONDS.get(name, _SECONDS.get(name.removesuffix("s")))


_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(\.\d{1,6})?)?)?(.*)", re.ASCII)


def parse_time_us(text: str) -> int:
    """Microseconds since 1970 UTC; a time without an offset is UTC. Never beyond the year 9999.

    As in PostgreSQL, 24:00 is the end of the day and a minute may end with second 60.
    """
    given = text.strip().strip('"')
    try:
        time_us = _time_us(given)
    except ValueError:
        raise DurationError(f"not a time: {given[:60]!r} (ISO 8601, such as 2027-01-31 09:00:00+01)") from None
    return min(time_us, _LATEST_US)


def _time_us(given: str) -> int:
    found = _TIME.fullmatch(given)
    if found is None:
        raise ValueError(given)
    day, clock, second, fraction, zone = found.groups()
    clock, second = clock or "00:00", second or "00"
    whole_us = 0
    if second == "60" and fraction is None:
        second, whole_us = "00", 60_000_000
    if clock == "24:00" and second == "00" and not int((fraction or ".0")[1:]):
        clock, whole_us = "00:00", whole_us + 86_400_000_000
    time = datetime.fromisoformat(f"{day}T{clock}:{second}{fraction or ''}{zone.strip()}")
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1) + whole_us
