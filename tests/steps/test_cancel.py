"""Losing and being cancelled: the statement is stopped on the server, its effects are rolled back, its key is taken."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import Database, wait_until
from tests.workflows import World, world


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A backend that holds its connection and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def sleeper(marker: str, table: str = "public.kept") -> str:
    """A step that writes, holds an advisory lock and sleeps for an hour."""
    return (
        f"with w as (insert into {table} values ('{marker}') returning 1) "
        f"select pg_advisory_xact_lock(hashtext('{marker}')), pg_sleep(3600) from w"
    )


@pytest.fixture
def kept(one: World) -> World:
    """A table public.kept of alice's."""
    one.run("create table if not exists public.kept (word text)", role="alice")
    one.run("truncate public.kept", role="alice")
    return one


def words(world: World) -> list[str]:
    return sorted(word for (word,) in world.run("select word from public.kept"))


def test_the_loser_of_a_race_is_stopped_on_the_server_and_rolled_back(kept: World) -> None:
    graph = kept.run("select df.race(%s, df.seq(df.wait_for_signal('go'), 'select 7 as n'))", [sleeper("loser")])[0][0]
    id = kept.start(graph)
    wait_until(lambda: kept.running("loser"))
    kept.run("select df.signal(%s, 'go')", [id], role="alice")
    assert kept.end(id).rows == [{"n": 7}]
    wait_until(lambda: not kept.running("loser"))
    assert words(kept) == []
    assert sorted(kept.history(id)) == [("2", "cancelled"), ("5", "completed")]


def test_the_winner_does_not_wait_for_the_loser(kept: World) -> None:
    """A loser that cannot be stopped for a while holds up the instance's end, and nothing else of it."""
    graph = kept.run(
        "select df.seq(df.race(%s, df.seq(df.wait_for_signal('go'), 'select 7 as n')), %s)",
        [sleeper("slow loser"), "insert into public.kept values ('after the race')"],
    )[0][0]
    id = kept.start(graph)
    (pid,) = wait_until(lambda: kept.running("slow loser"))
    with frozen(pid):
        kept.run("select df.signal(%s, 'go')", [id], role="alice")
        wait_until(lambda: words(kept) == ["after the race"])
    assert kept.end(id).status == "completed"
    assert words(kept) == ["after the race"]


def test_cancelling_an_instance_stops_its_statements_and_takes_their_keys(kept: World) -> None:
    graph = kept.run("select df.join(%s, %s)", [sleeper("one"), sleeper("two")])[0][0]
    id = kept.start(graph)
    wait_until(lambda: kept.running("one") and kept.running("two"))
    kept.run("select df.cancel(%s, 'not needed')", [id], role="alice")
    outcome = kept.end(id)
    assert (outcome.status, outcome.code, outcome.message) == ("cancelled", "cancelled", "not needed")
    wait_until(lambda: not kept.running("one") and not kept.running("two"))
    assert words(kept) == []
    assert kept.history(id) == [("2", "cancelled"), ("3", "cancelled")]


def test_cancelling_a_finished_instance_changes_nothing(kept: World) -> None:
    id = kept.start("select 1")
    kept.end(id)
    kept.run("insert into df.cancellations (instance_id) values (%s)", [id], role="alice")
    wait_until(lambda: kept.value("select bool_and(folded) from df.cancellations where instance_id = %s", [id]))
    assert kept.status(id) == "completed"


def test_a_break_cancels_the_statements_of_the_other_branches(kept: World) -> None:
    graph = kept.run(
        "select df.loop(df.join(%s, df.seq(df.wait_for_signal('go'), df.break('7'))))", [sleeper("in a loop")]
    )[0][0]
    id = kept.start(graph)
    wait_until(lambda: kept.running("in a loop"))
    kept.run("select df.signal(%s, 'go')", [id], role="alice")
    assert kept.end(id).result == "7"
    wait_until(lambda: not kept.running("in a loop"))
    assert words(kept) == []


def test_what_runs_on_its_own_is_stopped_as_well(kept: World) -> None:
    kept.run(
        "create or replace procedure public.sleeps() language plpgsql as "
        "'begin commit; perform pg_advisory_lock(hashtext(''alone'')); perform pg_sleep(3600); end'",
        role="alice",
    )
    id = kept.start("call public.sleeps()")
    wait_until(lambda: kept.running("alone"))
    kept.run("select df.cancel(%s)", [id], role="alice")
    assert kept.end(id).status == "cancelled"
    wait_until(lambda: not kept.running("alone"))


def test_a_cancel_request_that_came_too_early_is_sent_again(one: World) -> None:
    """The server ignores one that arrives while the backend still waits for its statement."""
    role = one.database.new_role("early")
    one.outcome("select 1", role=role)
    (pid,) = one.backends(role)
    with frozen(pid):
        graph = one.run("select df.race(%s, df.wait_for_signal('go'))", ["select pg_sleep(3600)"])[0][0]
        id = one.start(graph, role=role)
        wait_until(lambda: one.engine.metric("walflow_steps_in_flight", kind="sql"))
        one.run("select df.signal(%s, 'go', owner => null)", [id], role=role) if False else one.run(
            "insert into df.signals (instance_id, name) values (%s, 'go')", [id], role=role
        )
        wait_until(lambda: one.run("select 1 from pg_stat_activity where pid = %s", [pid]))
        wait_until(lambda: ("2", "cancelled") in one.history(id))
    wait_until(lambda: pid not in one.backends(role), what="the statement was stopped")


def test_a_cancelled_connection_is_not_used_again(kept: World) -> None:
    """A late cancel request must not hit the next step: none of many fails."""
    role = kept.database.new_role("racing")
    graph = kept.run("select df.race('select pg_sleep(3600)', 'select 1')")[0][0]
    kept.connection(role).execute(
        "insert into df.instances (id, graph) select 'racing' || i, %s from generate_series(1, 60) i", [graph]
    )
    wait_until(
        lambda: not kept.run("select 1 from df.instances where id ~ '^racing' and status in ('pending', 'running')")
    )
    assert kept.run("select distinct status, error::text from df.instances where id ~ '^racing'") == [
        ("completed", None)
    ]
    assert not kept.run(
        "select 1 from df.completions c join df.instances i on i.key = c.instance_key "
        "where i.id ~ '^racing' and c.outcome = 'failed'"
    )


# --- one key, one outcome -----------------------------------------------------------------------------------------------------


def test_when_the_step_commits_first_its_cancellation_changes_nothing(kept: World) -> None:
    """The step is stopped from committing by nothing but the key, and it has the key: it counts as completed."""
    id = kept.start("insert into public.kept values ('done')")
    assert kept.end(id).status == "completed"
    key = kept.key(id)
    epoch = kept.value("select epoch from df.epoch")
    record = f'[{{"ordinal": 0, "run_as": {kept.value("select oid from pg_roles where rolname = %s", ["alice"])}, '
    record += f'"key": {key}, "step": "1", "attempt": 1, "outcome": "cancelled", "xids": []}}]'
    kept.run("select df.record_completions(%s, %s)", [epoch, record])
    assert kept.history(id) == [("1", "completed")]


def test_when_the_cancellation_commits_first_the_step_is_undone(kept: World) -> None:
    """The backend is frozen while its key is taken, and goes on afterwards: what it wrote is rolled back."""
    gate = kept.database.connect("alice", autocommit=False)
    gate.execute("select pg_advisory_lock(4711)")
    graph = (
        "with w as (insert into public.kept values ('undone') returning 1) "
        "select pg_advisory_xact_lock(hashtext('gated')), public.passes_gate() from w"
    )
    kept.run(
        "create function public.passes_gate() returns void language plpgsql as "
        # it ignores the cancel request, and goes on waiting: else it might commit before its key is taken
        "$$ begin loop begin perform pg_advisory_xact_lock(4711); return; exception when query_canceled then null; end; "
        "end loop; end $$",
        role="alice",
    )
    id = kept.start(graph)
    wait_until(lambda: kept.running("gated"))
    kept.run("select df.cancel(%s)", [id], role="alice")
    assert kept.end(id).status == "cancelled"
    gate.close()
    wait_until(lambda: not kept.running("gated"))
    assert words(kept) == []
    assert kept.history(id) == [("1", "cancelled")]


def test_a_key_that_somebody_holds_in_an_open_transaction_holds_up_only_its_own_step(one: World) -> None:
    holder = one.database.connect("alice", autocommit=False)
    ids = []
    for number in range(30):
        id = one.start(f"select pg_advisory_xact_lock(hashtext('held{number}')), pg_sleep(3600)")
        ids.append(id)
    wait_until(lambda: one.engine.status()["steps_in_flight"] >= 30)
    for id in ids:
        holder.execute(
            "insert into df.completions (instance_key, step, attempt, outcome) values (%s, '1', 1, 'completed')",
            [one.key(id)],
        )
    for id in ids:
        one.run("select df.cancel(%s)", [id], role="alice")  # each has to be recorded under a key that is held
    began = time.monotonic()
    timer = one.build("select df.sleep(0.2::text)")
    for _ in range(3):
        assert one.outcome("select 1", role="bob").status == "completed"
        assert one.outcome("select 1 / 0", role="bob").status == "failed"
        assert one.outcome(timer, role="bob").status == "completed"
    assert time.monotonic() - began < 4
    holder.rollback()
    holder.close()
    for id in ids:
        assert one.end(id).status == "cancelled"


# --- after a crash --------------------------------------------------------------------------------------------------------------


def test_what_was_cancelled_while_no_engine_ran_is_stopped_by_the_next(database: Database, tmp_path: Path) -> None:
    with world(database, database.engine(tmp_path).start()) as here:
        here.run("create table public.kept (word text)", role="alice")
        id = here.start(sleeper("orphan"))
        wait_until(lambda: here.running("orphan"))
        here.engine.kill()
        assert here.running("orphan")
        here.run("select df.cancel(%s)", [id], role="alice")
        here.engine.start()
        assert here.end(id).status == "cancelled"
        wait_until(lambda: not here.running("orphan"))
        assert words(here) == []


def test_a_frozen_backend_of_an_earlier_engine_holds_up_its_own_role_only(database: Database, tmp_path: Path) -> None:
    with world(database, database.engine(tmp_path).start()) as here:
        here.run("create table public.kept (word text)", role="alice")
        id = here.start(
            "insert into public.kept select 'once' from pg_advisory_xact_lock(hashtext('frozen')), pg_sleep(1)"
        )
        (pid,) = wait_until(lambda: here.running("frozen"))
        with frozen(pid):
            here.engine.kill()
            here.engine.start()
            assert here.outcome("select 1", role="bob").status == "completed"
            assert here.history(id) == []
        assert here.end(id).status == "completed"
        assert words(here) == ["once"]


def test_a_connection_that_is_killed_gives_its_room_to_the_one_that_ends_it(database: Database, tmp_path: Path) -> None:
    """With one connection a role there must be no second that takes the room while the first is a suspect."""
    engine = database.engine(tmp_path, step_connections_per_role=1).start()
    with world(database, engine) as here:
        ids = [here.start(f"select pg_advisory_xact_lock(hashtext('room{n}')), pg_sleep(1.5)") for n in range(2)]
        (pid,) = wait_until(lambda: here.running("room0") | here.running("room1"))
        here.run("select pg_terminate_backend(%s)", [pid])
        assert [here.end(id).status for id in ids] == ["completed"] * 2
