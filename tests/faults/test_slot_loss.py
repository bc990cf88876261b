"""Losing the slot loses nothing: the tables are scanned, and the log is read on from exactly there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.trail import Load
from tests.servers import Database, drop_slots


def drop(database: Database) -> None:
    with database.cluster.connect() as connection:
        drop_slots(connection, database.name)


def drop_and_make_again(database: Database) -> None:
    """Under the same name: it looks healthy and has a gap."""
    drop(database)
    database.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [database.slot])


def advance(database: Database) -> None:
    database.run("select pg_replication_slot_advance(%s, pg_current_wal_lsn())", [database.slot])


@pytest.mark.parametrize("lose", [drop, drop_and_make_again, advance])
def test_a_slot_lost_while_the_engine_is_down_loses_nothing(
    database: Database, tmp_path: Path, lose: Callable[[Database], None]
) -> None:
    load = Load(database)
    engine = database.engine(tmp_path).start()
    load.start(4)
    while load.ended < 4:
        pass
    engine.kill()
    load.start(4)  # committed while nobody reads: in the part of the log that will be missing
    lose(database)
    load.start(2)
    engine.start()
    load.check()
    assert engine.metric("walflow_recovered_total", how="scan") != 0
    load.start(2)
    load.check()


def test_a_slot_dropped_under_a_running_engine_with_work_in_flight_loses_nothing(
    database: Database, tmp_path: Path
) -> None:
    load = Load(database)
    engine = database.engine(tmp_path).start()
    for _ in range(3):
        load.start(3)
        drop(database)
    load.check()
    assert engine.returncode is None


def test_a_scan_that_was_not_finished_is_begun_again(database: Database, tmp_path: Path) -> None:
    """The slot it made looks healthy, but what its snapshot showed was never stored."""
    load = Load(database)
    engine = database.engine(tmp_path).start()
    load.start(3)
    engine.kill()
    generation = database.run("select slot_generation from df.checkpoint")[0][0]
    database.run("update df.checkpoint set scanning = true")
    load.start(2)
    engine.start()
    assert database.run("select slot_generation, scanning from df.checkpoint") == [(generation + 1, False)]
    load.check()


def test_a_checkpoint_of_another_system_is_not_continued_from(database: Database, tmp_path: Path) -> None:
    load = Load(database)
    engine = database.engine(tmp_path).start()
    load.start(3)
    engine.kill()
    database.run("update df.checkpoint set system_identifier = '1'")
    load.start(2)
    engine.start()
    load.check()
