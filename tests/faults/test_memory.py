"""The engine reaches its memory limit: it ends, or goes on; nothing is lost with what did not fit."""

from __future__ import annotations

import random
import resource
import signal
from pathlib import Path

import pytest

from tests.faults.harness import Fault, fault, times
from tests.servers import Database, EngineProcess, wait_until
from tests.workflows import World, world

MEGABYTE = 1024 * 1024
BULKY = "select repeat('x', 200000) as text, g from generate_series(1, 4) as g"

BULKY_OPEN = "select 1 from df.instances where label = 'bulky' and status in ('pending', 'running')"


def virtual_bytes(engine: EngineProcess) -> int:
    return int(Path(f"/proc/{engine.pid}/statm").read_text().split()[0]) * resource.getpagesize()


def fill(here: World, seen: Fault) -> None:
    """More than a little room has place for: results and states that are held in memory."""
    graph = here.build(f"select df.seq(df.as($${BULKY}$$, 'bulk'), df.wait_for_signal('never', 2))")
    for _ in range(20):
        here.run("insert into df.instances (graph, label) values (%s, 'bulky')", [graph], role="alice")
    for _ in range(4):
        seen.load.start()


@pytest.mark.timeout(1800)
def test_an_engine_that_reaches_its_memory_limit_loses_nothing(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    chance = random.Random(8)
    codes: set[int | None] = set()
    with world(database, engine) as here, fault("the engine's memory limit is reached", here) as seen:
        for _ in range(times(5, 40)):
            room = chance.randrange(0, 12 * MEGABYTE)
            limit = virtual_bytes(engine) + room
            resource.prlimit(engine.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            fill(here, seen)
            wait_until(lambda: engine.returncode is not None or not here.run(BULKY_OPEN), 30)
            if engine.returncode is None:
                resource.prlimit(engine.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            else:
                codes.add(engine.returncode)
                engine.spawn()
            seen.goes_on()
        assert codes <= {1, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL}
