"""Losing the slot loses nothing: it is made anew, every row that no checkpoint holds is folded from the tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.faults.load import Load
from tests.servers import Database, EngineProcess, wait_until
from tests.workflows import World, world


def drop(here: World) -> None:
    """Drop the engine's slot, ending whoever reads it."""

    def dropped() -> bool:
        slot = here.database.slot
        here.run("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s", [slot])
        try:
            here.run("select pg_drop_replication_slot(%s)", [slot])
        except psycopg.errors.ObjectInUse:
            return False
        return True

    wait_until(dropped)


def drop_and_make(here: World) -> None:
    """The same name, and a gap."""
    drop(here)
    here.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [here.database.slot])


def advance(here: World) -> None:
    """Past everything that the engine has not read."""
    wait_until(
        lambda: here.value("select not active from pg_replication_slots where slot_name = %s", [here.database.slot])
    )
    here.run("select pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", [here.database.slot])


def scanned(engine: EngineProcess) -> int:
    return engine.log().count('"tables scanned"')


@pytest.mark.parametrize("lose", [drop, drop_and_make, advance])
def test_a_slot_lost_while_no_engine_runs_loses_no_work_in_flight(
    database: Database, tmp_path: Path, lose: Callable[[World], None]
) -> None:
    engine = database.engine(tmp_path)
    with world(database, engine) as here:
        load = Load(here)
        for round in range(1, 5):
            engine.start()
            load.start()
            load.start()
            engine.kill()
            load.start()
            lose(here)
            load.start()
            assert scanned(engine) == round
        engine.start()
        load.check()


def test_a_slot_dropped_under_a_running_engine_loses_no_work_in_flight(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here:
        load = Load(here)
        for round in range(1, 5):
            load.start()
            load.start()
            drop(here)
            load.start()
            wait_until(lambda: scanned(engine) > round)  # noqa: B023 (called here)
        engine.wait_ready()
        load.check()


def test_a_slot_lost_while_an_old_step_holds_a_transaction_open_is_made_anew_all_the_same(
    database: Database, tmp_path: Path
) -> None:
    """Making a slot waits for every running transaction: those of our own steps are ended first."""
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here:
        here.run("create table public.slow (i int)", role="alice")
        here.run("create sequence public.tries", role="alice")
        id = here.start(
            "with w as (insert into public.slow select nextval('public.tries') returning i) "
            "select i, pg_advisory_xact_lock(hashtext('slow')), case when i = 1 then pg_sleep(3600) end from w"
        )
        wait_until(lambda: here.running("slow"))
        engine.kill()
        drop(here)
        engine.start(timeout=10)
        assert here.end(id).status == "completed"
        assert here.run("select i from public.slow") == [(2,)]


def test_two_engines_that_both_find_the_slot_gone_agree_on_one_leader(database: Database, tmp_path: Path) -> None:
    engines = [database.engine(tmp_path).spawn() for _ in range(3)]
    with world(database, engines[0]) as here:
        load = Load(here)
        for _ in range(3):
            load.start()
            wait_until(lambda: sum(engine.status().get("role") == "leader" for engine in engines) == 1)
            drop(here)
            load.start()
        load.check()
        # one that led and found another in its place has stopped, as fenced
        assert {engine.returncode for engine in engines} <= {None, 4}
