"""One leads. A stale engine cannot harm: reading is exclusive, writing is fenced by the epoch."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.faults.trail import Load
from tests.servers import Database, wait_until


def test_a_standby_takes_over_from_a_killed_leader_and_nothing_is_lost_or_doubled(
    database: Database, tmp_path: Path
) -> None:
    load = Load(database)
    leader = database.engine(tmp_path).start()
    standby = database.engine(tmp_path).start(leading=False)
    assert standby.status()["role"] == "standby"
    load.start(4)
    leader.kill()
    standby.wait_ready(timeout=10)
    load.start(2)
    load.check()


def test_a_frozen_leader_is_replaced_and_changes_nothing_when_it_thaws(database: Database, tmp_path: Path) -> None:
    load = Load(database)
    leader = database.engine(tmp_path).start()
    standby = database.engine(tmp_path).start(leading=False)
    load.start(4)
    leader.freeze()
    load.start(2)
    standby.wait_ready(timeout=40)  # wal_sender_timeout is 20 s
    load.check()
    leader.thaw()
    assert leader.wait() == 4
    load.start(1)
    load.check()


def test_a_stale_epoch_writes_nothing(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    database.run("select df.start('select 1', id => 'one')", role="alice")
    database.run("select df.wait_for_completion('one')", role="alice")
    engine.terminate()
    epoch = database.run("select epoch from df.epoch")[0][0]
    database.run("select df.take_over()", role="engine")
    before = database.run("select lsn, epoch from df.checkpoint")

    record = """[{"ordinal": 0, "run_as": 0, "key": 1, "step": "9", "attempt": 1, "outcome": "completed"}]"""
    with pytest.raises(psycopg.Error, match="does not lead any more"):
        database.run("select df.record_completions(%s, %s)", [epoch, record], role="engine")
    with pytest.raises(psycopg.Error, match="does not lead any more"):
        database.run("select df.heartbeat(%s, 'walflow')", [epoch], role="engine")
    step = "select df.step(99, '1', 'create table never (x int)', false, %s, null, false, 'x', null, null, 0, 1000)"
    assert database.run(step, [epoch], role="alice") == [("fenced",)]
    assert database.run("select to_regclass('never'), count(*) from df.completions where step = '9'") == [(None, 0)]
    assert database.run("select lsn, epoch from df.checkpoint") == before


def test_the_end_of_any_connection_of_the_engine_loses_nothing(database: Database, tmp_path: Path) -> None:
    load = Load(database)
    engine = database.engine(tmp_path).start()
    end = """
        select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and application_name = %s and pid <> pg_backend_pid()
    """
    for application in ("walflow", "walflow-leader", "walflow-standby"):
        load.start(3)
        wait_until(lambda name=application: database.run(end, [name])[0][0] > 0)  # type: ignore[misc]
        wait_until(lambda: engine.status().get("role") == "leader")
    load.check()
    assert engine.returncode is None


def test_an_orderly_stop_frees_the_slot_and_the_next_engine_goes_on(database: Database, tmp_path: Path) -> None:
    load = Load(database)
    first = database.engine(tmp_path, grace="0.2s").start()
    load.start(4)
    assert first.terminate() == 0
    assert database.run("select active from pg_replication_slots where slot_name = %s", [database.slot]) == [(False,)]
    database.engine(tmp_path).start()
    load.check()
