"""Tasks end, whatever they make of being told so."""

from __future__ import annotations

import asyncio

import pytest

from engine import tasks


def test_a_task_that_misses_a_cancellation_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0.01)
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while heard < 3:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                heard += 1

    async def run() -> None:
        task = asyncio.create_task(deaf())
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await tasks.end([task])
        assert task.done()

    asyncio.run(run())
    assert heard == 3


def test_what_a_task_raised_is_nobody_elses_trouble() -> None:
    async def failing() -> None:
        raise ValueError("its own")

    async def run() -> None:
        task = asyncio.create_task(failing())
        await asyncio.sleep(0)
        await tasks.end([task, asyncio.create_task(asyncio.sleep(3600))])
        assert isinstance(task.exception(), ValueError)

    asyncio.run(run())
