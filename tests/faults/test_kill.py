"""The engine is killed, again and again: nothing is lost and nothing is done twice (the WAL is the redo log)."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.faults.trail import Load
from tests.servers import Database

KILLS = 20


def test_an_engine_killed_at_twenty_random_moments_loses_nothing_and_doubles_nothing(
    database: Database, tmp_path: Path
) -> None:
    seed = time.time_ns() & 0xFFFF_FFFF
    print(f"seed {seed}")  # shown when the test fails
    moments = random.Random(seed)
    load = Load(database)
    engine = database.engine(tmp_path)
    for _ in range(KILLS):
        engine.spawn()
        load.start(3)
        # the moment itself is what is random: before it leads, while it catches up, in the middle of its work
        time.sleep(moments.uniform(0.2, 1.6))
        engine.kill()
    engine.start()
    load.check()
    assert engine.terminate() == 0


def test_the_backends_of_a_killed_engine_and_its_successor_never_both_commit_a_step(
    database: Database, tmp_path: Path
) -> None:
    """A step that is in flight when the engine dies goes on in the server for a while: it commits once, or runs again."""
    database.run("create table once (n int)", role="alice")
    engine = database.engine(tmp_path).start()
    slow = "insert into once select %s from pg_sleep(0.3)"
    for n in range(1, 9):
        database.run("select df.start(%s, id => %s)", [slow.replace("%s", str(n)), f"slow-{n}"], role="alice")
    time.sleep(0.2)
    engine.kill()
    engine.start()
    Database.run(database, "select df.wait_for_completion('slow-' || n) from generate_series(1, 8) n", role="alice")
    assert database.run("select n from once order by n") == [(n,) for n in range(1, 9)]
