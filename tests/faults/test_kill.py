"""A committed INSERT runs a workflow, exactly once, through any crash of the engine."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.faults.harness import fault, times
from tests.faults.load import Load
from tests.servers import Database, wait_until
from tests.workflows import world


def test_kill_9_at_random_moments_under_mixed_load_loses_nothing_and_doubles_nothing(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    chance = random.Random(20)
    with world(database, engine) as here, fault("kill -9 of the engine", here) as seen:
        for _ in range(times(20, 200)):
            seen.load.start()
            time.sleep(chance.uniform(0, 0.4))  # the random moment; nothing waits for it
            engine.kill()
            seen.load.start()  # nobody listens
            began = time.monotonic()
            engine.spawn()
            seen.goes_on(began)


def test_kill_9_of_an_engine_that_is_still_taking_over_loses_nothing(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path)
    chance = random.Random(21)
    with world(database, engine) as here:
        load = Load(here)
        engine.start()
        for _ in range(6):
            load.start()
            epoch = here.value("select epoch from df.epoch")
            engine.kill()
            load.start()
            engine.spawn()
            wait_until(lambda: here.value("select epoch from df.epoch") > epoch)  # noqa: B023 (called here)
            time.sleep(chance.uniform(0, 0.1))
        engine.wait_ready()
        load.check()


def test_a_standby_that_takes_over_again_and_again_loses_nothing(database: Database, tmp_path: Path) -> None:
    engines = [database.engine(tmp_path), database.engine(tmp_path)]
    leader = engines[0].start()
    with world(database, leader) as here:
        load = Load(here)
        for _ in range(4):
            standby = next(engine for engine in engines if engine is not leader)
            standby.start(leading=False)
            load.start()
            leader.kill()
            load.start()
            standby.wait_ready()
            leader = standby
        load.check()
