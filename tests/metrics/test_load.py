"""Every metric moves when what it counts happens: one load with faults, and a look at what stood still."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Final

import pytest

from metrics.names import METRICS, Kind, Metric
from tests.metrics.scraping import Moved, scrape
from tests.servers import Cluster, Database, EngineProcess, wait_until
from tests.workflows import World, world

ROOM: Final = 200
CONFLICTS_ONCE: Final = """
create sequence public.tries;
create function public.conflicts_once() returns integer language plpgsql as $$
begin
  if nextval('public.tries') = 1 then raise exception 'once' using errcode = '40001'; end if;
  return 1;
end $$
"""
COMMITS: Final = """
create procedure public.commits() language plpgsql as $$
begin commit; perform pg_advisory_lock_shared(hashtext('commits')); perform pg_advisory_unlock_all(); end $$
"""


def _steps(here: World) -> None:
    """Each kind of event, and each end of an instance and of a step."""
    here.run("create table public.plain (n int)", role="alice")
    for statement in (CONFLICTS_ONCE, COMMITS):
        here.run(statement, role="alice")
    assert here.outcome("select public.conflicts_once()").status == "completed"
    assert here.outcome("vacuum public.plain").status == "completed"
    assert here.outcome("vacuum public.nowhere").status == "failed"
    assert here.outcome("select 1/0").status == "failed"
    assert here.outcome(here.build("select df.sleep(interval '0.05 s')")).status == "completed"
    waits = here.start(here.build("select df.wait_for_signal('go')"))
    here.start(here.build(f"select df.await_instance('{waits}')"), id="awaits")
    wait_until(lambda: here.run("select 1 from df.waits where folded"))
    here.run("select df.signal(%s, 'go')", [waits], role="alice")
    here.end(waits)
    here.end("awaits")
    # in their middle when they are cancelled: on its own, and in its transaction
    with here.database.connect("alice") as gate:
        gate.execute("select pg_advisory_lock(hashtext('commits'))")
        alone = here.start("call public.commits()")
        held = here.start("select pg_advisory_xact_lock(hashtext('commits'))")
        blocked = "select pid from pg_locks where locktype = 'advisory' and not granted"
        wait_until(lambda: len(here.run(blocked)) == 2)
        here.run("select df.cancel(%s)", [alone], role="alice")
        here.run("select df.cancel(%s)", [held], role="alice")
        assert here.end(alone).status == here.end(held).status == "cancelled"
        # and one whose connection dies
        killed = here.start("call public.commits()")
        wait_until(lambda: here.run(blocked))
        here.run("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted")
        wait_until(lambda: here.engine.metric("walflow_step_retries_total", kind="sql_alone"))
    here.end(killed)


def _quarantine(here: World) -> None:
    """An instance whose state somebody spoiled."""
    here.start(here.build("select df.seq(df.wait_for_signal('go'), 'select 2')"), id="bad")
    wait_until(lambda: here.run("select 1 from df.states"))
    here.kill()
    here.run("update df.states set state = left(state, -10)")
    here.run("select df.signal('bad', 'go')", role="alice")
    here.engine.start()
    wait_until(lambda: here.value("select quarantined from df.instances where id = 'bad'"))
    here.run("insert into df.releases (instance_id) values ('bad')", role="alice")


def _lag(here: World, moved: Moved) -> None:
    """The server's sender stands still: commits are not folded, which the heartbeat shows, in bytes and in seconds."""
    sender = here.sender()
    os.kill(sender, signal.SIGSTOP)
    try:
        wait_until(lambda: (here.engine.metric("walflow_replication_lag_bytes") or 0) > 0, 60)
        moved.look(here.engine)
        so_far = here.engine.metric("walflow_replication_lag_seconds") or 0
        wait_until(lambda: (here.engine.metric("walflow_replication_lag_seconds") or 0) > so_far)
    finally:
        os.kill(sender, signal.SIGCONT)
    wait_until(lambda: here.engine.metric("walflow_replication_lag_bytes") == 0)


def _full(here: World, standby: EngineProcess, moved: Moved) -> None:
    """More starts than there is room for: what the tables say of them a standby shows as well."""
    with here.database.connect("alice") as gate:
        gate.execute("select pg_advisory_lock(hashtext('full'))")
        step = "select pg_advisory_xact_lock_shared(hashtext('full'))"
        here.run("insert into df.instances (graph) select %s from generate_series(1, %s)", [step, 2 * ROOM], "alice")
        wait_until(lambda: here.engine.metric("walflow_instances", status="pending"))
        # the checkpoint must hold it
        wait_until(lambda: here.value("select oldest_pending > '0' from df.health"))
        standby.start(leading=False)
        wait_until(lambda: (standby.metric("walflow_oldest_pending_seconds") or 0) > 0)
        assert standby.metric("walflow_quarantined_instances") == 1
        moved.look(here.engine, standby)
    wait_until(lambda: here.value("select count(*) from df.instances where status in ('pending', 'running')") == 1)


def _fence(here: World, standby: EngineProcess, moved: Moved) -> None:
    """The leader freezes, the standby takes over, and the leader finds that out: whoever leads shows it."""
    here.engine.freeze()
    here.end_sender()
    standby.wait_ready()
    here.engine.thaw()
    assert here.engine.wait() == 4, here.engine.log()
    here.engine.start(leading=False)
    wait_until(lambda: here.engine.metric("walflow_fenced_total") == 1)
    standby.kill()
    here.engine.wait_ready()
    moved.look(here.engine)


def _recover(here: World, moved: Moved) -> None:
    """Killed and started again: from the log; and with the slot gone, from the tables."""
    for lost in (False, True):
        here.kill()
        if lost:
            here.run("select pg_drop_replication_slot(%s)", [here.database.slot])
        here.start("select 1")
        here.engine.start()
        moved.look(here.engine)


def _remove(here: World, moved: Moved) -> None:
    here.run("update df.settings set value = '1' where name = 'loop_history'")
    here.start(
        here.build("select df.seq(df.loop_forever(df.seq('select 1', df.sleep(interval '0.02 s'))), 'select 2')")
    )
    here.kill()
    here.engine.settings["retention"] = "500ms"
    here.engine.start()
    for what in ("instance", "history"):
        wait_until(lambda what=what: here.engine.metric("walflow_removed_total", what=what))  # type: ignore[misc]
    moved.look(here.engine)


def _connecting(here: World, moved: Moved) -> None:
    """Where steps log in somebody answers nothing."""
    here.kill()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        here.engine.settings["step_dsn"] = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x"
        here.start("select 1")
        here.engine.start()
        wait_until(lambda: here.engine.metric("walflow_step_connections", state="connecting"))
        moved.look(here.engine)
        here.engine.kill()


@pytest.fixture(scope="module")
def moved(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """What moved in a load with every fault that some metric is about."""
    directory: Path = tmp_path_factory.mktemp("load")
    database: Database = server18.database()
    seen = Moved()
    try:
        _all(database, directory, seen)
    finally:
        database.drop()
    return seen


def _all(database: Database, directory: Path, seen: Moved) -> None:
    engine = database.engine(directory, admission=ROOM, step_connections=8).start()
    standby = database.engine(directory, admission=ROOM)
    with world(database, engine) as here:
        _steps(here)
        seen.look(engine)
        _quarantine(here)
        seen.look(engine)
        _lag(here, seen)
        _full(here, standby, seen)
        _fence(here, standby, seen)
        _recover(here, seen)
        _remove(here, seen)
        _connecting(here, seen)


def names(metric: Metric) -> list[str]:
    return [f"{metric.name}_count"] if metric.kind is Kind.HISTOGRAM else [metric.name]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_moves_under_a_load_with_faults(moved: Moved, metric: Metric) -> None:
    if metric.name == "walflow_build_info":
        assert moved.has([metric.name])  # its labels: none is known before
    else:
        assert moved.has(names(metric)), "nothing feeds it"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("metric", "label", "value"),
    [
        pytest.param(metric, label, value, id=f"{metric.name}-{label}-{value}")
        for metric in METRICS
        if metric.kind is not Kind.GAUGE  # one of those may be back at 0 whenever somebody looks
        for label, values in metric.labels.items()
        for value in values
    ],
)
def test_each_value_of_a_label_is_counted(moved: Moved, metric: Metric, label: str, value: str) -> None:
    assert moved.has(names(metric), **{label: value}), "nothing feeds it"


@pytest.mark.timeout(300)
def test_each_state_of_a_connection_is_shown(moved: Moved) -> None:
    assert all(moved.has(["walflow_step_connections"], state=state) for state in ("idle", "busy", "connecting"))


def test_every_step_that_was_sent_and_answered_was_timed_once(database: Database, tmp_path: Path) -> None:
    with world(database, database.engine(tmp_path).start()) as here:
        here.run("create table public.plain (n int)", role="alice")
        for statement, kind, times in (("select 1", "sql", 1), ("vacuum public.plain", "sql_alone", 1)):
            before = here.engine.metric("walflow_step_duration_seconds_count", kind=kind) or 0
            here.outcome(statement)
            wait_until(
                lambda kind=kind, wanted=before + times: (  # type: ignore[misc]
                    here.engine.metric("walflow_step_duration_seconds_count", kind=kind) == wanted
                )
            )


def test_a_page_shows_what_is_declared_and_the_library_s_own_and_nothing_else(
    database: Database, tmp_path: Path
) -> None:
    """Closed label sets: no scrape, whatever happened, has a sample that an engine at rest has not."""
    with world(database, database.engine(tmp_path).start()) as here:
        before = scrape(here.engine)
        here.outcome("select 1")
        here.outcome("select 1/0", role="bob")
        after = scrape(here.engine)
    assert before.keys() == after.keys()
    declared = {metric.name for metric in METRICS}
    library = ("process_", "python_")
    for name, _ in after:
        base = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        assert base in declared or name.startswith(library), name
