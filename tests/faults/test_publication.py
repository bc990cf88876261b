"""The publication is dropped or altered, while the engine runs and while it does not: said with the repair; nothing is lost.

Up to 17 the server ends the stream at the first change that it cannot publish, and does so for that change for ever. From 18
on it skips the changes and says nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

import psycopg

from engine.leadership import HEARTBEAT_SECONDS
from sql.publication import create_statement, repair_statement
from tests.faults.harness import NOISE, Fault, fault, times
from tests.servers import Database, EngineProcess
from tests.workflows import World, world

DROP = "drop publication walflow"
NOTICED_SECONDS = HEARTBEAT_SECONDS + NOISE
"""With each heartbeat the publication is looked at."""


def test_a_publication_dropped_under_a_running_engine_is_said_and_nothing_is_lost(
    each_database: Database, tmp_path: Path
) -> None:
    engine = each_database.engine(tmp_path, log_level="info").start()
    with world(each_database, engine) as here:
        with fault("the publication is dropped", here) as seen:
            noticed = Fault("the publication is dropped: until it is said (exit 3)", here, seen.load)
            for _ in range(times(1, 3)):
                seen.load.start()
                here.run(DROP)
                began = time.monotonic()
                seen.load.start()
                assert says_what_is_missing(engine) == "publication walflow does not exist"
                assert noticed.took(time.monotonic() - began) < NOTICED_SECONDS
                seen.load.start()
                repair(here, create_statement("walflow"))
                began = time.monotonic()
                engine.spawn()
                seen.goes_on(began)
        noticed.write()


def test_tables_taken_out_under_a_running_engine_are_said_and_nothing_is_lost(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here:
        with fault("tables are taken out of the publication", here) as seen:
            noticed = Fault("tables are taken out of the publication: until it is said (exit 3)", here, seen.load)
            for _ in range(times(1, 3)):
                seen.load.start()
                here.run("alter publication walflow drop table df.signals, df.completions")
                began = time.monotonic()
                seen.load.start()
                missing = says_what_is_missing(engine)
                assert "leaves out df.signals" in missing
                assert "leaves out df.completions" in missing
                assert noticed.took(time.monotonic() - began) < NOTICED_SECONDS
                repair(here, repair_statement("walflow"))
                began = time.monotonic()
                engine.spawn()
                seen.goes_on(began)
        noticed.write()


def test_what_was_left_out_for_a_moment_under_a_running_engine_is_found_soon(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here:
        with fault("tables are out of the publication for a moment", here) as seen:
            found = Fault("tables are out of the publication for a moment: until the rows are found", here, seen.load)
            for _ in range(times(1, 3)):
                seen.load.start()
                seen.load.check()  # the look at the tables with which a leader begins is over
                here.run("alter publication walflow drop table df.instances, df.signals, df.completions, df.waits")
                seen.load.start()
                repair(here, repair_statement("walflow"))
                began = time.monotonic()
                seen.goes_on()
                seen.load.check(timeout=2 * NOTICED_SECONDS)
                found.took(time.monotonic() - began)
            assert engine.returncode is None
            assert (engine.metric("walflow_recovered_total", how="scan") or 0) > 0
        found.write()


def test_a_publication_dropped_and_made_again_while_no_engine_runs_loses_nothing(
    each_database: Database, tmp_path: Path
) -> None:
    engine = each_database.engine(tmp_path, log_level="info").start()
    with world(each_database, engine) as here, fault("the publication is gone while no engine runs", here) as seen:
        for _ in range(times(1, 10)):
            seen.load.start()
            engine.kill()
            seen.load.start()
            here.run(DROP)
            seen.load.start()
            repair(here, create_statement("walflow"))
            seen.load.start()
            began = time.monotonic()
            engine.spawn()
            seen.goes_on(began)


def says_what_is_missing(engine: EngineProcess) -> str:
    """The first line of what it says when it ends because the database is not fit, with the repair in the second."""
    assert engine.wait(NOTICED_SECONDS) == 3, engine.log()
    said, repaired_by = engine.log().splitlines()[-2:]
    assert "publication" in repaired_by.removeprefix("  what to do: ")
    return said.removeprefix("walflow: ")


def repair(here: World, statements: str) -> None:
    """Run what the engine says, as a superuser."""
    with psycopg.connect(here.database.dsn(), autocommit=True) as connection:
        connection.execute(statements.encode())
