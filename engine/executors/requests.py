"""What the engine asks of the tables for its instances: children, their cancellations, waits for other instances."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from engine.errors import Refused, Transient
from engine.executors.queue import REPEAT_SECONDS, Queue
from engine.store.rows import Begun, Cancelled, Child, Waiting

MISSING_SECONDS: Final = 5.0
"""How long an instance to wait for may be missing."""
MISSING_REPEAT_SECONDS: Final = 0.1
"""Between two looks for it."""

R = TypeVar("R", Child, Cancelled, Waiting)
Failed = Callable[[int, str, str | None, str, str], None]


class Requests(Queue[R]):
    """Rows that are nobody's but the engine's. What is refused fails the step that asked for it."""

    def __init__(self, insert: Callable[[int, list[R]], Awaitable[Begun]], epoch: int, failed: Failed) -> None:
        super().__init__(epoch)
        self._send: Callable[[int, list[R]], Awaitable[Begun]] = insert
        self._failed = failed

    async def insert(self, rows: list[R]) -> None:
        try:
            await self._write(rows)
        except Transient as error:
            self.pass_by(rows, error)
        except Refused as error:
            if len(rows) == 1:
                self._failed(rows[0].key, rows[0].step, rows[0].cause, str(error), error.code)
            else:
                for request in rows:
                    await self.insert([request])

    async def _write(self, requests: list[R]) -> None:
        begun = await self._send(self.epoch, requests)
        for ordinal in begun.skipped:
            self.later(REPEAT_SECONDS, requests[ordinal])


class Waits(Requests[Waiting]):
    """Waits, some of which are for instances that are not there (yet)."""

    def __init__(self, insert: Callable[[int, list[Waiting]], Awaitable[Begun]], epoch: int, failed: Failed) -> None:
        super().__init__(insert, epoch, failed)
        self.wanted: set[tuple[int, str]] = set()

    async def _write(self, requests: list[Waiting]) -> None:
        requests = [r for r in requests if (r.key, r.step) in self.wanted]
        begun = await self._send(self.epoch, requests)
        again = {*begun.skipped, *begun.missing}
        for ordinal in begun.skipped:
            self.later(REPEAT_SECONDS, requests[ordinal])
        for ordinal in begun.missing:
            self._missing(requests[ordinal])
        for refusal in begun.refused:
            request = requests[refusal.ordinal]
            self._failed(request.key, request.step, request.cause, refusal.message, refusal.code)
        for ordinal, request in enumerate(requests):
            if ordinal not in again:
                self.wanted.discard((request.key, request.step))

    def _missing(self, request: Waiting) -> None:
        if asyncio.get_running_loop().time() < request.since + MISSING_SECONDS:
            self.later(MISSING_REPEAT_SECONDS, request)
        else:
            self.wanted.discard((request.key, request.step))
            message = f"Instance not found or access denied: {request.instance_id}"
            self._failed(request.key, request.step, request.cause, message, "P0002")
