"""Times and durations for people: relative and short. Programs get ISO 8601 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def span(seconds: float) -> str:
    """A duration in at most seven characters: `12ms`, `3.4s`, `42s`, `2m 05s`, `3h 12m`, `4d 02h`, `412d`."""
    seconds = max(seconds, 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for (unit, size), (lower, part) in pairwise(UNITS):
        if whole >= size:
            count, rest = divmod(whole, size)
            return f"{count}{unit}" if count > 99 else f"{count}{unit} {rest // part:02}{lower}"
    return f"{whole}s"


def ago(then: datetime, now: datetime) -> str:
    """`3s ago`, `2h ago`, `in 5m`, `just now`: one unit, since nobody reads two of a moment that moves away."""
    seconds = (now - then).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    short = coarse(abs(seconds))
    return f"{short} ago" if seconds > 0 else f"in {short}"


def coarse(seconds: float) -> str:
    """A duration in its largest unit: `42s`, `5m`, `3h`, `12d`."""
    whole = int(seconds)
    unit, size = next(((unit, size) for unit, size in UNITS if whole >= size), UNITS[-1])
    return f"{whole // size}{unit}"


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC, to the microsecond, as programs want it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def stamp(moment: datetime) -> str:
    """The same to the second, for plain output."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
