"""Time-outs that a role carries (ALTER ROLE … SET): a step that passes one fails with it; none ends what the engine does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.harness import NOISE, fault, times
from tests.servers import Database, wait_until
from tests.workflows import World, world

TIMEOUT = "300ms"
PASSED = {
    "statement_timeout": ("select pg_sleep(60)", "57014"),
    "lock_timeout": ("update public.locked set i = 1", "55P03"),
    "transaction_timeout": ("select pg_sleep(60)", "25P04"),
}
"""A step that passes each time-out, and what it fails with."""
NOT_PASSED = ("idle_in_transaction_session_timeout", "idle_session_timeout")
"""A step is one round trip, and what waits for the next is walflow's affair."""
SINCE = {"transaction_timeout": 17}
UNKIND = {
    **dict.fromkeys((*PASSED, *NOT_PASSED), "50ms"),
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
}
"""What would end a session of the engine's, or keep it from writing."""
NOTATION = {
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "timezone": "Asia/Kathmandu",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
}
"""What would have it speak in a notation that is not read."""


@pytest.mark.parametrize("setting", [*PASSED, *NOT_PASSED])
def test_a_step_that_passes_a_time_out_of_its_role_fails_with_it_at_once_and_others_go_on(
    database: Database, tmp_path: Path, setting: str
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    role = database.new_role("timed")
    with world(database, engine) as here, fault(f"{setting} of a role", here) as seen:
        here.run(
            "create table public.locked (i int); insert into public.locked values (1); grant all on public.locked to public"
        )
        here.run(f"alter role {role} set {setting} = '{TIMEOUT}'")
        query, code = PASSED.get(setting, ("select ''none'' as code from pg_sleep(1)", "none"))
        graph = here.build(f"select df.catch('{query}', 'select $error.code as code')")
        with database.connect(autocommit=False) as holder:
            holder.execute("update public.locked set i = 2")
            for _ in range(times(1, 10)):
                seen.load.start()
                began = time.monotonic()
                assert here.outcome(graph, role=role).rows == [{"code": code}]
                assert time.monotonic() - began < NOISE
                assert here.outcome("select 1", role=role).status == "completed"
                seen.goes_on()
            holder.rollback()


def test_no_setting_of_the_engines_role_ends_what_it_does(each_database: Database, tmp_path: Path) -> None:
    engine = each_database.engine(tmp_path, log_level="info")
    with world(each_database, engine) as here:
        for name, value in {**UNKIND, **NOTATION}.items():
            if each_database.cluster.version >= SINCE.get(name, 0):
                here.run(f"alter role engine in database {each_database.name} set {name} = '{value}'")
        for name, value in NOTATION.items():
            here.run(f"alter role alice in database {each_database.name} set {name} = '{value}'")
        engine.start()
        with fault("time-outs of the engine's role", here) as seen:
            for _ in range(times(1, 5)):
                seen.load.start()
                stays_long_idle(here)
                a_transaction_that_takes_long_to_decode(here)
                seen.goes_on()
        assert "starting again" not in engine.log()


def stays_long_idle(here: World) -> None:
    wait_until(lambda: here.engine.status()["instances"] == 0)
    time.sleep(1)  # the fault: longer than the time-outs


def a_transaction_that_takes_long_to_decode(here: World) -> None:
    """Longer than the time-outs."""
    here.run("create table if not exists public.big (i int, t text)")
    here.run("insert into public.big select i, repeat('x', 100) from generate_series(1, 500000) as i")
