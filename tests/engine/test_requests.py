"""What the engine asks of the tables for its instances, and is told that it is not there."""

from __future__ import annotations

import asyncio

from engine.executors.requests import MISSING_SECONDS, Waits
from engine.store.rows import Begun, Waiting


def asked(seconds_ago: float) -> tuple[list[str], int]:
    """A wait that was asked for so long ago, for what is not there: the failures that were told, and how many waits are left."""
    failures: list[str] = []

    async def missing(_epoch: int, waits: list[Waiting]) -> Begun:
        return Begun([], [0], [])

    def failed(_key: int, _step: str, _cause: str | None, message: str, _code: str) -> None:
        failures.append(message)

    async def ask() -> int:
        waits = Waits(missing, 1, failed)
        since = asyncio.get_running_loop().time() - seconds_ago
        waits.wanted.add((7, "1"))
        await waits.insert([Waiting(key=7, step="1", instance_id="w", cause=None, xids=(), since=since)])
        return len(waits.wanted)

    left = asyncio.run(ask())
    return failures, left


def test_what_is_not_there_is_looked_for_again() -> None:
    assert asked(0) == ([], 1)


def test_what_is_not_there_for_long_fails_the_step() -> None:
    assert asked(MISSING_SECONDS) == (["Instance not found or access denied: w"], 0)
