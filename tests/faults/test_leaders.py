"""Leading, standing by, being stopped and fenced."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from tests.faults.load import Load
from tests.servers import Database, wait_until
from tests.workflows import World, world

LEADERS = """
select pid from pg_stat_activity where datname = current_database() and application_name = 'walflow-leader'
"""


def leader_backends(here: World) -> list[int]:
    return [pid for (pid,) in here.run(LEADERS)]


# --- stopping -------------------------------------------------------------------------------------------------------------


def test_term_lets_a_step_finish_within_the_grace_period_and_starts_no_other(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path, grace="20s").start()
    with world(database, engine) as here:
        here.run("create table public.done (word text)", role="alice")
        here.run(
            "create function public.at_gate() returns text language plpgsql as $$ begin "
            "perform pg_advisory_xact_lock(hashtext('stop')); perform pg_advisory_xact_lock(1); return 'first'; end $$",
            role="alice",
        )
        gate = database.connect("alice")
        gate.execute("select pg_advisory_lock(1)")
        first, second = "insert into public.done select public.at_gate()", "insert into public.done values ('second')"
        id = here.start(here.run("select df.seq(%s, %s)", [first, second])[0][0])
        wait_until(lambda: here.running("stop"))
        engine.send(signal.SIGTERM)
        wait_until(lambda: engine.get("/readyz")[0] == 503)
        other = here.start("insert into public.done values ('other')")
        gate.close()
        assert engine.wait() == 0, engine.log()
        assert here.run("select word from public.done") == [("first",)]
        assert here.value("select not active from pg_replication_slots where slot_name = %s", [database.slot])
        engine.start()
        assert here.end(id).status == here.end(other).status == "completed"
        assert sorted(here.run("select word from public.done")) == [("first",), ("other",), ("second",)]


def test_term_rolls_back_what_takes_longer_than_the_grace_period_and_it_runs_again(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path, grace="100ms").start()
    with world(database, engine) as here:
        here.run("create table public.done (n int)", role="alice")
        here.run("create sequence public.tries", role="alice")
        id = here.start(
            "with w as (insert into public.done select nextval('public.tries') returning n) "
            "select pg_advisory_xact_lock(hashtext('long')), case when n = 1 then pg_sleep(3600) end from w"
        )
        wait_until(lambda: here.running("long"))
        assert engine.terminate() == 0, engine.log()
        wait_until(lambda: not here.running("long"))
        assert here.status(id) == "running"
        assert here.history(id) == []
        assert not leader_backends(here)
        engine.start()
        assert here.end(id).status == "completed"
        assert here.run("select n from public.done") == [(2,)]


def test_term_keeps_what_ran_on_its_own_and_was_done(database: Database, tmp_path: Path) -> None:
    """At least once, and once if it can be had: its outcome is recorded before the end."""
    engine = database.engine(tmp_path, grace="20s").start()
    with world(database, engine) as here:
        here.run("create table public.done (word text)", role="alice")
        here.run(
            "create procedure public.slow() language plpgsql as $$ begin commit; "
            "perform pg_advisory_lock(hashtext('alone')); perform pg_advisory_lock(1); "
            "insert into public.done values ('once'); commit; end $$",
            role="alice",
        )
        gate = database.connect("alice")
        gate.execute("select pg_advisory_lock(1)")
        id = here.start("call public.slow()")
        wait_until(lambda: here.running("alone"))
        engine.send(signal.SIGTERM)
        wait_until(lambda: engine.get("/readyz")[0] == 503)
        gate.close()
        assert engine.wait() == 0, engine.log()
        assert here.history(id) == [("1", "completed")]
        engine.start()
        assert here.end(id).status == "completed"
        assert here.run("select word from public.done") == [("once",)]


def test_a_second_signal_ends_it_at_once(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, grace="60s").start()
    with world(database, engine) as here:
        here.start("select pg_advisory_xact_lock(hashtext('stuck')), pg_sleep(3600)")
        wait_until(lambda: here.running("stuck"))
        engine.send(signal.SIGTERM)
        wait_until(lambda: engine.get("/readyz")[0] == 503)
        engine.send(signal.SIGTERM)
        assert engine.wait(5) == 0


def test_a_standby_that_is_told_to_stop_ends_with_0(database: Database, tmp_path: Path) -> None:
    database.engine(tmp_path).start()
    standby = database.engine(tmp_path).start(leading=False)
    assert standby.terminate() == 0


# --- another leads ----------------------------------------------------------------------------------------------------------


def test_a_frozen_leader_whose_slot_was_taken_is_fenced_when_it_thaws(database: Database, tmp_path: Path) -> None:
    frozen = database.engine(tmp_path).start()
    standby = database.engine(tmp_path).start(leading=False)
    with world(database, standby) as here:
        load = Load(here)
        load.start()
        frozen.freeze()
        load.start()
        here.end_sender()
        standby.wait_ready()
        load.start()
        load.check()
        ledger = here.run("select count(*) from public.ledger")
        completions = here.run("select count(*) from df.completions")
        frozen.thaw()
        assert frozen.wait() == 4, frozen.log()
        load.check()
        assert here.run("select count(*) from public.ledger") == ledger
        assert here.run("select count(*) from df.completions") == completions
        assert standby.status()["role"] == "leader"


def test_a_stale_engine_writes_nothing(database: Database, tmp_path: Path) -> None:
    """Everything that the engine writes compares the epoch: checkpoint, completions, heartbeat, step."""
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here:
        id = here.start(here.build("select df.wait_for_signal('go')"))
        here.wait_for(id, "running")
        key, stale = here.key(id), here.value("select epoch - 1 from df.epoch")
        before = here.run("select lsn from df.checkpoint")
        parameters_of_a_checkpoint = here.value("select pronargs from pg_proc where proname = 'write_checkpoint'")
        nothing = ", ".join(["null"] * (parameters_of_a_checkpoint - 2))
        calls = {
            "checkpoint": f"select df.write_checkpoint({stale}, 'F/0', {nothing})",
            "completion": "select df.record_completions(%s, %s)",
            "heartbeat": "select df.heartbeat(%s, 'x')",
            "start": "select df.start_children(%s, '[]')",
            "cancel": "select df.cancel_children(%s, '[]')",
            "wait": "select df.begin_waits(%s, '[]')",
        }
        parameters: dict[str, list[object]] = {
            "checkpoint": [],
            "completion": [
                stale,
                f'[{{"ordinal":0,"run_as":0,"key":{key},"step":"1","attempt":1,"outcome":"completed"}}]',
            ],
            **{name: [stale] for name in ("heartbeat", "start", "cancel", "wait")},
        }
        with database.connect("engine") as connection:
            for name, call in calls.items():
                with pytest.raises(psycopg.Error) as error:
                    connection.execute(call.encode(), parameters[name])
                assert error.value.sqlstate == "DF001", (name, error.value)
        said = here.value(
            "select df.step(%s, '9', 'create table public.stale (i int)', false, %s, null, false, %s, null, null, 0, 1000)",
            [key, stale, id],
            role="alice",
        )
        assert said == "fenced"
        assert here.value("select to_regclass('public.stale')") is None
        assert here.history(id) == []
        assert here.run("select lsn < 'F/0' and lsn >= %s from df.checkpoint", [before[0][0]]) == [(True,)]


def test_an_engine_that_finds_another_epoch_ends_with_4(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here:
        here.run("select df.take_over()")
        here.start("select 1")
        assert engine.wait() == 4, engine.log()
        assert "another engine" in engine.log() or "does not lead" in engine.log()


def test_two_engines_never_run_a_step_twice_however_often_the_lead_changes(database: Database, tmp_path: Path) -> None:
    engines = [database.engine(tmp_path).start(leading=number == 0) for number in range(2)]
    with world(database, engines[0]) as here:
        load = Load(here)
        for _ in range(6):
            load.start()
            here.end_sender()
            load.start()
            wait_until(lambda: any(engine.status().get("role") == "leader" for engine in engines))
            for engine in engines:
                if engine.returncode is not None:
                    assert engine.returncode == 4
                    engine.start(leading=False)
        load.check()
