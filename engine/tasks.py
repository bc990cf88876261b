"""Ending tasks, for good; waiting, but not for ever; and letting others have their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

AGAIN_SECONDS: Final = 1.0
"""Before a task that still runs is cancelled again: psycopg may be asking the server to stop a query."""


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits until all have ended; what they raise stays theirs.

    To cancel once is not enough: in Python 3.11 `asyncio.wait_for`, in which psycopg waits for every answer, swallows a
    cancellation that comes together with what it waited for, and the task goes on.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


async def in_turns(items: Sequence[T], turn: int) -> AsyncIterator[T]:
    """One after another; others have their turn after so many."""
    for number, item in enumerate(items, 1):
        yield item
        if number % turn == 0:
            await asyncio.sleep(0)


async def wait_at_most(event: asyncio.Event, seconds: float | None) -> None:
    """Waits until the event is set, or for so long; None: for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
