"""Threads for what blocks: whoever needs one where memory is short has it already."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from engine import threads
from tests.servers import Database, EngineProcess
from tests.workflows import world


def test_nothing_that_is_called_starts_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither do the first calls, at the same time, nor a loop that ends after them."""
    threads.start()

    def no_room(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_room)
    together = threading.Barrier(threads.COUNT)

    async def call() -> list[int]:
        return await asyncio.gather(*(threads.in_thread(together.wait, 10.0) for _ in range(threads.COUNT)))

    assert sorted(asyncio.run(call())) == list(range(threads.COUNT))


def test_an_engine_has_all_its_threads_before_it_needs_them(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here:
        loser = "df.race('select 1', 'select pg_sleep(60)')"
        here.end(here.start("select 1"))
        before = count(engine)
        assert here.outcome(here.build(f"select df.join({loser}, {loser})")).status == "completed"
        assert count(engine) == before, "cancel requests started threads"


def count(engine: EngineProcess) -> int:
    return len(os.listdir(f"/proc/{engine.pid}/task"))
