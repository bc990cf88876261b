"""What the server's clock says, as well as it is known here, and never ahead of it.

A clock of our own only counts; the server's is at a distance from it, which nothing tells exactly. What the server says was true
before its answer came, and a commit happened before it was read from the log: each is a distance that the true one is not below.
The largest of them is the best guess. It is short by the quickest way from there to here, so a latency measured with it is short
by that, too, under a millisecond where the loop is quick once in a while; and a timer is asked about late by that, never early.

The clocks may drift apart and the server's may be set: an answer also tells what the distance is not above.
"""

from __future__ import annotations

from typing import Final

DRIFT: Final = 100e-6
"""Seconds that two clocks drift apart in a second, at most: crystals are ten times as good."""


class ServerClock:
    """All in microseconds; `counted` is what the clock here counted at that moment."""

    __slots__ = ("_as_of_us", "_distance_us")

    def __init__(self) -> None:
        self._distance_us: int | None = None
        self._as_of_us = 0

    def now_us(self, counted_us: int) -> int:
        """What it says now."""
        return counted_us + (self._distance_us or 0)

    def said(self, now_us: int, *, asked_us: int, counted_us: int) -> None:
        """The server was asked, and answered what its clock says."""
        least, most = now_us - counted_us, now_us - asked_us
        kept = least
        if self._distance_us is not None:
            kept = self._distance_us - round(DRIFT * (counted_us - self._as_of_us))
        self._distance_us = least if kept > most else max(kept, least)
        self._as_of_us = counted_us

    def came(self, committed_us: int, counted_us: int) -> None:
        """A commit of that time was read from the log."""
        if self._distance_us is not None and committed_us - counted_us > self._distance_us:
            self._distance_us = committed_us - counted_us
