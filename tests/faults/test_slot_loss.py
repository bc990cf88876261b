"""Losing the slot loses nothing: it is made anew, every row that no checkpoint holds is folded from the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from engine.runner import LONGEST_DELAY_SECONDS
from tests.faults.harness import NOISE, fault, times
from tests.faults.load import Load
from tests.servers import Database, EngineProcess, wait_until
from tests.workflows import World, world

SEGMENTS = 4
"""Of WAL, 16 MB each: more than `keep_little` lets a slot hold back."""


def drop(here: World) -> None:
    """Drop the engine's slot, ending whoever reads it."""

    def dropped() -> bool:
        here.end_sender()
        try:
            here.run("select pg_drop_replication_slot(%s)", [here.database.slot])
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
        lambda: not here.value("select active from pg_replication_slots where slot_name = %s", [here.database.slot])
    )
    here.run("select pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", [here.database.slot])


def invalidate(here: World) -> None:
    """Let the server throw away WAL that the slot needs, as it does when max_slot_wal_keep_size is passed."""
    with kept_little(here):
        for _ in range(SEGMENTS):
            here.run("select pg_logical_emit_message(true, 'fault', 'fill'), pg_switch_wal()")
        here.run("checkpoint")
        wait_until(
            lambda: (
                here.value("select wal_status from pg_replication_slots where slot_name = %s", [here.database.slot])
                == "lost"
            )
        )


@contextmanager
def kept_little(here: World) -> Iterator[None]:
    here.run("alter system set max_slot_wal_keep_size = '1MB'")
    here.run("select pg_reload_conf()")
    wait_until(lambda: here.value("show max_slot_wal_keep_size") == "1MB")
    try:
        yield
    finally:
        here.run("alter system reset max_slot_wal_keep_size")
        here.run("select pg_reload_conf()")


def scanned(engine: EngineProcess) -> int:
    return engine.log().count('"tables scanned"')


@pytest.mark.parametrize(
    ("lose", "how"),
    [
        (drop, "dropped"),
        (drop_and_make, "dropped and made again under its name"),
        (advance, "advanced by hand"),
        (invalidate, "invalidated: max_slot_wal_keep_size"),
    ],
)
def test_a_slot_lost_while_no_engine_runs_loses_no_work_in_flight(
    database: Database, tmp_path: Path, lose: Callable[[World], None], how: str
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault(f"the slot is lost while no engine runs: {how}", here) as seen:
        for round in range(1, 1 + times(1, 20)):
            seen.load.start()
            seen.load.start()
            engine.kill()
            seen.load.start()
            lose(here)
            seen.load.start()
            assert scanned(engine) == round
            began = time.monotonic()
            engine.spawn()
            seen.goes_on(began)


@pytest.mark.parametrize(("lose", "how"), [(drop, "dropped"), (drop_and_make, "dropped and made again under its name")])
def test_a_slot_lost_under_a_running_engine_loses_no_work_in_flight(
    database: Database, tmp_path: Path, lose: Callable[[World], None], how: str
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault(f"the slot is lost under a running engine: {how}", here) as seen:
        for round in range(1, 1 + times(3, 20)):
            seen.load.start()
            seen.load.start()
            lose(here)
            began = time.monotonic()
            seen.load.start()
            seen.goes_on(began)
            wait_until(lambda: scanned(engine) > round)  # noqa: B023 (called here)
        assert engine.returncode is None


def test_a_slot_invalidated_under_an_engine_that_reads_too_slowly_loses_no_work_in_flight(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault("the slot is invalidated under a frozen engine", here) as seen:
        for round in range(1, 1 + times(1, 20)):
            seen.load.start()
            engine.freeze()
            seen.load.start()
            invalidate(here)
            seen.load.start()
            engine.thaw()
            seen.goes_on()
            assert scanned(engine) == round + 1
        assert engine.returncode is None


def test_while_the_slot_cannot_be_made_it_is_said_what_is_waited_for(database: Database, tmp_path: Path) -> None:
    """Somebody's transaction, of any database, keeps it from being made; when that ends, work goes on."""
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault("a transaction is open while the slot is to be made", here) as seen:
        for _ in range(times(1, 3)):
            seen.load.start()
            engine.kill()
            drop(here)
            seen.load.start()
            with database.connect("bob", autocommit=False) as bob:
                bob.execute("create table public.mine (i int)")
                engine.spawn()
                why = (
                    f"waits for the transaction of backend {bob.info.backend_pid} (role bob, database {database.name})"
                )
                wait_until(lambda: why in engine.get("/readyz")[1])  # noqa: B023 (called here)
                assert engine.get("/readyz")[0] == 503
                assert why in engine.log()
                time.sleep(times(1, 120))  # the fault: longer than one attempt at making a slot waits
                bob.rollback()
            assert seen.goes_on(time.monotonic()) < NOISE * LONGEST_DELAY_SECONDS


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
