"""Which timers to ask the database about, and when. It guesses; the database's clock decides (DESIGN.md §3, Time)."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

AT_ONCE: Final = 500
"""Timers acted on in one go, a few milliseconds: as many rows as go into one statement."""


@dataclass(frozen=True, slots=True, order=True)
class Timer:
    """A timer of an instance's step; `due_us` in microseconds since 1970 UTC."""

    due_us: int
    key: int
    step: str
    cause: str = field(compare=False)
    schedule: tuple[str, str] | None = field(default=None, compare=False)
    """Cron expression and time zone whose tick it is."""


class Timers:
    """A heap of timers. A dropped one stays in the heap, unnoticed, until it is due or half of the heap is such."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._live: dict[tuple[int, str], Timer] = {}

    def __len__(self) -> int:
        return len(self._live)

    def start(self, timer: Timer) -> None:
        self._live[timer.key, timer.step] = timer
        heapq.heappush(self._heap, timer)

    def drop(self, key: int, step: str) -> None:
        self._live.pop((key, step), None)
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._live):
            self._heap = list(self._live.values())
            heapq.heapify(self._heap)

    def next_due_us(self) -> int | None:
        """When the next one is due."""
        while self._heap and self._live.get((self._heap[0].key, self._heap[0].step)) is not self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0].due_us if self._heap else None

    def take_due(self, now_us: int) -> list[Timer]:
        """Takes out those that are due at `now_us`, earliest first, at most `AT_ONCE`."""
        due: list[Timer] = []
        while len(due) < AT_ONCE and (next_us := self.next_due_us()) is not None and next_us <= now_us:
            timer = heapq.heappop(self._heap)
            del self._live[timer.key, timer.step]
            due.append(timer)
        return due
