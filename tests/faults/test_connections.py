"""Any one connection of the engine is ended by the server, at every stage of its life: the work goes on, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.faults.harness import NOISE, Fault, fault, times
from tests.faults.standby import LOCAL, standby
from tests.servers import ENGINE_OPTIONS, ENGINE_ROLE, Database, wait_until
from tests.workflows import World, world

GOES_ON_SECONDS = 2.0
"""From the end of the connection to the next result; a step's second run waits for its old backend to be gone."""
END = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and "
LEADERS = "select pid from pg_stat_activity where datname = current_database() and application_name = 'walflow-leader'"
STEPS = "application_name = 'walflow' and usename = 'alice'"
HELD = """
with w as (insert into public.held values ('{sys_instance_id}') returning 1)
select pg_advisory_xact_lock(hashtext('inside')), pg_advisory_xact_lock(4711) from w
"""
DEFERRED = "insert into public.deferred values ('{sys_instance_id}')"
TABLES = """
create table public.held (id text);
create table public.deferred (id text);
create function public.hold() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('inside'));
  perform pg_advisory_xact_lock(4711);
  return null;
end $$;
create constraint trigger hold after insert on public.deferred deferrable initially deferred
  for each row execute function public.hold();
"""


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[World]:
    """An engine whose own commits wait for no standby."""
    server = database.cluster.server
    engine = database.engine(
        tmp_path,
        dsn=database.dsn(ENGINE_ROLE, options=f"{ENGINE_OPTIONS} -c synchronous_commit=local"),
        step_dsn=make_conninfo("", host="127.0.0.1", port=server.port, dbname=database.name),
    )
    with world(database, engine.start()) as made:
        made.run(LOCAL)
        made.run(LOCAL, role="alice")
        made.run(TABLES, role="alice")
        yield made


@contextmanager
def gate(here: World) -> Iterator[None]:
    """Nobody passes, for as long as the block lasts."""
    with here.database.connect() as keeper:
        keeper.execute("select pg_advisory_lock(4711)")
        yield


def end_one(here: World, number: int) -> bool:
    """End one of the leader's own connections, each in its turn. Not if there is none now, or it has just been closed."""
    leaders = sorted(pid for (pid,) in here.run(LEADERS))
    return bool(leaders and here.run(f"{END}pid = {leaders[number % len(leaders)]}"))


def end(here: World, condition: str) -> None:
    """End the backends that meet a condition, one at least."""
    assert here.run(END + condition)


def ended_once(here: World, table: str, id: str) -> None:
    """The instance has completed, and its statement counts once."""
    assert here.end(id).status == "completed"
    assert here.run(f"select id from public.{table} where id = %s", [id]) == [(id,)]


# --- the connections of steps, stage by stage -----------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_a_step_connection_that_ends_while_idle_costs_no_step_anything(here: World) -> None:
    with fault("a step connection is ended: idle", here) as seen:
        for _ in range(times(5, 50)):
            seen.load.start()
            seen.load.check()
            end(here, f"{STEPS} and state = 'idle'")
            seen.goes_on()
        within_reason(seen)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("table", "query"), [("held", HELD), ("deferred", DEFERRED)], ids=["statement", "commit"])
def test_a_step_connection_that_ends_in_the_middle_of_a_step_rolls_it_back_and_it_runs_again(
    here: World, table: str, query: str
) -> None:
    """In the statement, or after it, in a deferred constraint of its transaction."""
    stage = {"held": "in the statement", "deferred": "after the statement, before the commit"}[table]
    with fault(f"a step connection is ended: {stage}", here) as seen:
        for number in range(times(5, 50)):
            seen.load.start()
            with gate(here):
                here.start(query, id=f"{table}.{number}")
                [backend] = wait_until(lambda: here.running("inside"))
                end(here, f"pid = {backend}")
                wait_until(lambda: here.running("inside") - {backend})  # noqa: B023 (called here)
            seen.goes_on()
            ended_once(here, table, f"{table}.{number}")
        within_reason(seen)


@pytest.mark.timeout(900)
def test_a_step_connection_that_ends_between_its_commit_and_the_answer_does_not_run_it_again(here: World) -> None:
    with fault("a step connection is ended: committed, not answered", here) as seen:
        for number in range(times(3, 30)):
            seen.load.start()
            seen.load.check()  # whose commits would hang, too
            with standby(here) as replica:
                id = f"committed.{number}"
                with here.database.connect("alice") as starter:
                    starter.execute(LOCAL)
                    query = "insert into public.held values ('{sys_instance_id}')"
                    starter.execute("insert into df.instances (id, graph) values (%s, %s)", [id, query])
                wait_until(lambda: replica.hanging(here, "alice"))
                end(here, f"{STEPS} and wait_event = 'SyncRep'")
                seen.load.start()
                wait_until(lambda: here.run("select 1 from public.held where id = %s", [id]))  # noqa: B023 (called here)
            seen.goes_on()
            ended_once(here, "held", id)
        within_reason(seen)


@pytest.mark.timeout(900)
def test_a_step_connection_that_ends_while_it_waits_for_visibility_is_replaced(here: World) -> None:
    with fault("a step connection is ended: waiting for visibility", here) as seen:
        for number in range(times(3, 30)):
            seen.load.start()
            seen.load.check()
            with standby(here) as replica:
                id, query = f"unseen.{number}", "insert into public.held values (''{sys_instance_id}'')"
                replica.commit(here, f"insert into df.instances (id, graph) values ('{id}', '{query}')")
                waiting = f"{STEPS} and state = 'active' and query like 'select df.step%'"
                for _ in range(3):
                    wait_until(lambda: here.run(END + waiting))  # noqa: B023 (called here)
            seen.goes_on()
            ended_once(here, "held", id)
        within_reason(seen)


@pytest.mark.timeout(900)
def test_a_step_connection_that_ends_while_it_logs_in_is_opened_again(database: Database, tmp_path: Path) -> None:
    """Every login of a step takes a while, before the session is there and known to the server's views."""
    slow = make_conninfo(database.dsn(), user="", options="-c post_auth_delay=1")
    engine = database.engine(tmp_path, step_dsn=slow).start()
    with world(database, engine) as here, fault("a step connection is ended: logging in", here) as seen:
        for _ in range(times(3, 20)):
            seen.load.start()
            for pid in wait_until(lambda: logging_in(database.name)):
                os.kill(pid, signal.SIGTERM)
            seen.goes_on()
            seen.load.check()
            here.run(END + STEPS)  # the next ones log in as well
        within_reason(seen)


def logging_in(database: str) -> list[int]:
    """Backends of alice's that have not begun: the process list shows them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = entry.read_text()
        except OSError:  # it has ended
            continue
        if title.startswith(f"postgres: alice {database} ") and "startup" in title:
            found.append(int(entry.parent.name))
    return found


# --- the engine's own ---------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_a_walsender_that_is_terminated_costs_a_new_leadership_and_nothing_else(here: World) -> None:
    with fault("the walsender is terminated", here) as seen:
        for _ in range(times(5, 100)):
            seen.load.start()
            end(here, f"pid = {here.sender()}")
            seen.goes_on()
        within_reason(seen)


@pytest.mark.timeout(900)
def test_whichever_connection_of_the_leader_is_terminated_the_work_goes_on(here: World) -> None:
    with fault("a connection of the leader's own is terminated", here) as seen:
        for number in range(times(6, 100)):
            seen.load.start()
            wait_until(lambda: end_one(here, number))  # noqa: B023 (called here)
            seen.goes_on()
            role = here.database.new_role(f"fresh{number}")  # its first step needs the engine's look-up
            assert here.outcome("select 1", role=role).status == "completed"
        within_reason(seen)
        assert here.engine.returncode is None


@pytest.mark.timeout(900)
def test_all_connections_of_the_engine_terminated_at_once_lose_nothing(here: World) -> None:
    with fault("every connection of the engine is terminated at once", here) as seen:
        for _ in range(times(3, 50)):
            seen.load.start()
            end(here, "application_name like 'walflow%'")
            seen.load.start()
            seen.goes_on()
        within_reason(seen)


def within_reason(seen: Fault) -> None:
    """No injection kept work from going on for much longer than it should."""
    assert max(seen.seconds) < NOISE * GOES_ON_SECONDS, seen.seconds
