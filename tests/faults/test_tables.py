"""What the owner of schema df may do to its tables while the engine runs: rewrite and widen them, and empty them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.harness import NOISE, fault, times
from tests.faults.load import KINDS
from tests.servers import Database, wait_until
from tests.workflows import world

TABLES = (
    "instances",
    "completions",
    "signals",
    "cancellations",
    "states",
    "waits",
    "progress",
    "inbox",
    "epoch",
    "checkpoint",
)
MAINTENANCE = {
    "VACUUM FULL": [f"vacuum full df.{table}" for table in TABLES],
    "REINDEX": ["reindex schema df", *(f"reindex table concurrently df.{table}" for table in TABLES)],
    "ALTER TABLE": [
        *(f"alter table df.{table} add column note text" for table in TABLES),
        *(f"alter table df.{table} add column marked timestamptz default clock_timestamp()" for table in TABLES),
        *(f"alter table df.{table} drop column note" for table in TABLES),
    ],
}
"""By the owner, while work is in flight. A default that differs by row rewrites the table."""

SHORT = [kind for kind in KINDS if kind not in ("timed", "loser")]
"""Without steps that take long: the owner's lock waits for them, and all others behind it, also who would give up on one."""


@pytest.mark.parametrize("what", MAINTENANCE)
def test_tables_are_rewritten_under_load_and_nothing_is_lost(database: Database, tmp_path: Path, what: str) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault(f"{what} of every table of df", here) as seen:
        for round in range(times(1, 5)):
            for statement in MAINTENANCE[what]:
                seen.load.start("join", "signal", "timer")
                here.run(statement.replace("note", f"note{round}").replace("marked", f"marked{round}"), role="engine")
            seen.load.start(*SHORT)
            assert seen.goes_on() < NOISE
        assert engine.returncode is None


def test_after_a_truncate_of_df_completions_what_is_in_flight_goes_on_once(database: Database, tmp_path: Path) -> None:
    """The history is gone; what was folded of it is in the states. (It waits for steps in flight, as every ALTER TABLE does.)"""
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault("TRUNCATE df.completions", here) as seen:
        for _ in range(times(3, 20)):
            seen.load.start(*SHORT)
            here.run("truncate df.completions", role="engine")
            assert seen.goes_on() < NOISE
        assert engine.returncode is None


def test_after_a_truncate_of_all_others_go_on(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here:
        waiting = here.build("select df.seq(df.wait_for_signal('go'), 'select 1')")
        for _ in range(times(2, 10)):
            for number in range(20):
                here.start(waiting, id=f"gone-{number}")
            wait_until(lambda: here.value("select count(*) from df.states") >= 20)
            here.run("truncate df.instances, df.completions, df.signals, df.waits", role="engine")
            began = time.monotonic()
            assert here.outcome("select 1 as n").rows == [{"n": 1}]
            assert time.monotonic() - began < NOISE
            engine.kill()
            engine.start()
            assert engine.status()["instances"] == 0
            assert here.outcome("select 1 as n").rows == [{"n": 1}]


def test_a_running_instance_whose_state_somebody_removed_is_quarantined_not_begun_again(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here:
        graph = (
            "select df.seq_all(df.wait_for_signal('one'), 'select 1', df.wait_for_signal('two'), 'select 2 as last')"
        )
        here.start(here.build(graph), id="waits")
        here.run("select df.signal('waits', 'one')", role="alice")
        wait_until(lambda: len(here.history("waits")) == 1)
        wait_until(lambda: here.value("select bool_and(folded) from df.signals"))
        here.kill()
        here.run("truncate df.states", role="engine")
        engine.start()
        wait_until(lambda: here.value("select quarantined from df.instances where id = 'waits'"))
        assert "state is missing" in here.value("select quarantined from df.instances where id = 'waits'")
        assert here.end(here.start("select 1")).status == "completed"


def test_a_step_in_flight_keeps_nobody_from_df_completions(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here:
        here.start("select pg_advisory_xact_lock(hashtext('long')), pg_sleep(60)")
        wait_until(lambda: here.running("long"))
        here.run("set lock_timeout = '2s'", role="engine")
        here.run("do 'begin lock table df.completions in access exclusive mode; end'", role="engine")
