"""What waits for its turn on one connection: taken in at any time, inserted many at a time, again when it could not be."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any, Final, Generic, TypeVar

from engine.errors import Transient
from engine.log import fields

log = logging.getLogger("walflow.executors")

BATCH: Final = 500
"""Rows in one statement: some 100 kB, a few milliseconds."""
REPEAT_SECONDS: Final = 0.005
"""Before a skipped row is tried again."""
PASSING_REPEAT_SECONDS: Final = 1.0
"""Before rows that could not be inserted for a reason that passes are tried again."""

R = TypeVar("R")


class Queue(ABC, Generic[R]):
    """Rows that wait for one connection. `busy`: something is being inserted, or waits for no more than its turn."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.waiting: list[R] = []
        self.busy = False
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self.waiting)

    def take(self, row: R) -> None:
        """Takes a row in; it is inserted soon."""
        self.waiting.append(row)
        self._wanted.set()
        self.busy = True

    def later(self, seconds: float, row: R) -> None:
        """Takes a row in after a while."""
        asyncio.get_running_loop().call_later(seconds, self.take, row)

    def pass_by(self, rows: list[R], error: Transient) -> None:
        """Takes rows in again after a while: it was not for them that they could not be inserted."""
        log.warning("rows could not be inserted yet", extra=fields(rows=len(rows), error=str(error)))
        for row in rows:
            self.later(PASSING_REPEAT_SECONDS, row)

    async def run(self) -> None:
        """Inserts until cancelled. Raises Fenced, and Lost."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self.waiting:
                batch, self.waiting = self.waiting[:BATCH], self.waiting[BATCH:]
                await self.insert(batch)
            self.busy = False

    @abstractmethod
    async def insert(self, rows: list[R]) -> Any:
        """Inserts rows; those for which it is too early are given to `later`."""
