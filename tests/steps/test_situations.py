"""The seed situations: signals wherever a wait may stand, loops at any depth, and all of it atomic with its caller."""

from __future__ import annotations

import json

import pytest

from tests.servers import wait_until
from tests.workflows import World

WAIT = "df.wait_for_signal('go')"
LONG = "df.sleep(3600)"


@pytest.fixture
def ledger(one: World) -> World:
    """A table public.ledger of alice's, without keys."""
    one.run("create table if not exists public.ledger (word text)", role="alice")
    one.run("truncate public.ledger", role="alice")
    return one


def words(world: World) -> dict[str, int]:
    return dict(world.run("select word, count(*) from public.ledger group by word order by word"))


def write(word: str) -> str:
    return f"'insert into public.ledger values (''{word}'')'"


def fewer(word: str, than: int) -> str:
    return f"'select count(*) < {than} from public.ledger where word = ''{word}'''"


# --- signals --------------------------------------------------------------------------------------------------------------------

ONCE = fewer("done", 1)
RACE = f"df.race(df.seq({WAIT}, {write('done')}), {LONG})"
PLACES = {
    "top level": f"df.seq({WAIT}, {write('done')})",
    "race": f"df.race(df.seq({WAIT}, {write('done')}), df.seq({LONG}, {write('late')}))",
    "race, second branch": f"df.race(df.seq({LONG}, {write('late')}), df.seq({WAIT}, {write('done')}))",
    "join": f"df.join(df.seq({WAIT}, {write('done')}), {write('beside')})",
    "loop": f"df.loop(df.seq({WAIT}, {write('done')}), {fewer('done', 1)})",
    "loop, broken": f"df.loop(df.seq_all({WAIT}, {write('done')}, df.break()))",
    "condition": f"df.if({WAIT}, {write('done')}, {write('late')})",
    "branch": f"df.if('select true', df.seq({WAIT}, {write('done')}), {write('late')})",
    "loop condition": f"df.loop({write('done')}, df.seq({WAIT}, 'select false'))",
    "race in a join in a loop": f"df.loop(df.join('select 1', {RACE}), {ONCE})",
    "loop in a race in a loop": f"df.loop(df.race({LONG}, df.loop(df.seq({WAIT}, {write('done')}), {ONCE})), {ONCE})",
    "join in a race": f"df.race(df.join(df.seq({WAIT}, {write('done')}), 'select 1'), {LONG})",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_is_delivered_to_a_wait_anywhere(ledger: World, place: str) -> None:
    id = ledger.start(ledger.build(f"select {PLACES[place]}"))
    ledger.wait_for(id, "running")
    assert words(ledger).get("late") is None
    ledger.run("insert into df.signals (instance_id, name) values (%s, 'go')", [id], role="alice")
    assert ledger.end(id).status == "completed"
    assert words(ledger)["done"] == 1
    assert "late" not in words(ledger)


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_sent_with_the_start_is_delivered_to_a_wait_anywhere(ledger: World, place: str) -> None:
    graph = ledger.build(f"select {PLACES[place]}")
    with ledger.connection("alice").transaction():
        id = ledger.start(graph)
        ledger.run("insert into df.signals (instance_id, name) values (%s, 'go')", [id], role="alice")
    assert ledger.end(id).status == "completed"
    assert words(ledger)["done"] == 1
    assert "late" not in words(ledger)


def test_each_signal_satisfies_one_wait_and_each_iteration_takes_the_next(ledger: World) -> None:
    body = f"df.seq(df.as({WAIT}, 'signal'), 'insert into public.ledger select $signal::jsonb #>> ''{{data,word}}''')"
    id = ledger.start(ledger.build(f"select df.loop({body}, 'select count(*) < 5 from public.ledger')"))
    for number in range(5):
        data = json.dumps({"word": f"word {number}"})
        ledger.run("select df.signal(%s, 'go', %s)", [id, data], role="alice")
    assert ledger.end(id).status == "completed"
    assert ledger.run("select word from public.ledger") == [(f"word {number}",) for number in range(5)]


def test_a_race_between_a_signal_and_a_timer_that_the_timer_wins_leaves_the_signal_for_a_later_wait(
    ledger: World,
) -> None:
    graph = f"df.seq_all(df.race({WAIT}, df.sleep('0.05')), {write('timed out')}, {WAIT}, {write('signalled')})"
    id = ledger.start(ledger.build(f"select {graph}"))
    wait_until(lambda: "timed out" in words(ledger))
    ledger.run("select df.signal(%s, 'go')", [id], role="alice")
    assert ledger.end(id).status == "completed"
    assert words(ledger) == {"timed out": 1, "signalled": 1}


# --- loops ----------------------------------------------------------------------------------------------------------------------


def test_work_before_and_after_a_loop_happens_once_at_every_depth(ledger: World) -> None:
    inner = f"df.seq_all({write('before inner')}, df.loop({write('inner')}, {{odd}}), {write('after inner')})"
    inner = inner.replace("{odd}", "'select count(*) % 3 > 0 from public.ledger where word = ''inner'''")
    graph = f"df.seq_all({write('before')}, df.loop({inner}, {fewer('after inner', 2)}), {write('after')})"
    assert ledger.outcome(ledger.build(f"select {graph}")).status == "completed"
    assert words(ledger) == {
        "before": 1, "before inner": 2, "inner": 6, "after inner": 2, "after": 1,
    }  # fmt: skip


def test_loops_in_every_branch_of_a_join_count_for_themselves(ledger: World) -> None:
    loops = [f"df.loop({write(f'branch {n}')}, {fewer(f'branch {n}', n)})" for n in (1, 2, 3)]
    outcome = ledger.outcome(ledger.build(f"select df.seq(df.join3({', '.join(loops)}), {write('after')})"))
    assert outcome.status == "completed"
    assert words(ledger) == {"branch 1": 1, "branch 2": 2, "branch 3": 3, "after": 1}


def test_a_loop_in_a_losing_branch_stops(ledger: World) -> None:
    graph = f"df.race(df.loop({write('loop')}, 'select true from pg_sleep(0.01)'), {WAIT})"
    id = ledger.start(ledger.build(f"select {graph}"))
    wait_until(lambda: words(ledger).get("loop", 0) > 3)
    ledger.run("select df.signal(%s, 'go')", [id], role="alice")
    assert ledger.end(id).status == "completed"
    assert ledger.end(ledger.start("select 1")).status == "completed"
    stopped = words(ledger)["loop"]
    assert ledger.outcome("select pg_sleep(0.2)").status == "completed"
    assert words(ledger)["loop"] == stopped


# --- atomic with the caller -----------------------------------------------------------------------------------------------------


def test_a_start_that_is_rolled_back_leaves_nothing_and_nothing_runs(ledger: World) -> None:
    graph = ledger.build(f"select {write('never')}")
    with ledger.connection("alice").transaction(force_rollback=True):
        ledger.start(graph, id="rolled-back")
    with ledger.connection("alice").transaction():
        with ledger.connection("alice").transaction(force_rollback=True):  # a savepoint
            ledger.start(graph, id="rolled-back")
        ledger.start("select 1", id="kept")
    assert ledger.end("kept").status == "completed"
    assert not ledger.run("select 1 from df.instances where id = 'rolled-back'")
    assert words(ledger) == {}


def test_a_start_commits_with_the_rows_of_its_caller(ledger: World) -> None:
    with ledger.connection("alice").transaction():
        ledger.run("insert into public.ledger values ('order')", role="alice")
        id = ledger.start("select count(*) as n from public.ledger")
    assert ledger.end(id).rows == [{"n": 1}]


def test_a_signal_that_is_rolled_back_was_never_sent(ledger: World) -> None:
    id = ledger.start(ledger.build(f"select df.seq(df.as({WAIT}, 's'), 'select $s::jsonb #>> ''{{data}}'' as data')"))
    ledger.wait_for(id, "running")
    with ledger.connection("alice").transaction(force_rollback=True):
        ledger.run("select df.signal(%s, 'go', '\"rolled back\"')", [id], role="alice")
    ledger.run("select df.signal(%s, 'go', '\"committed\"')", [id], role="alice")
    assert ledger.end(id).rows == [{"data": "committed"}]


def test_a_signal_takes_effect_at_the_commit_of_its_transaction(ledger: World) -> None:
    id = ledger.start(ledger.build(f"select df.seq({WAIT}, 'select count(*) as n from public.ledger')"))
    ledger.wait_for(id, "running")
    with ledger.connection("alice").transaction():
        ledger.run("select df.signal(%s, 'go')", [id], role="alice")
        assert ledger.outcome("select 1", role="bob").status == "completed"
        assert ledger.status(id) == "running"
        ledger.run("insert into public.ledger values ('with the signal')", role="alice")
    assert ledger.end(id).rows == [{"n": 1}]


def test_a_cancellation_that_is_rolled_back_was_never_made(ledger: World) -> None:
    id = ledger.start(ledger.build(f"select {WAIT}"))
    ledger.wait_for(id, "running")
    with ledger.connection("alice").transaction(force_rollback=True):
        ledger.run("select df.cancel(%s)", [id], role="alice")
    assert ledger.outcome("select 1").status == "completed"
    assert ledger.status(id) == "running"
    ledger.run("select df.cancel(%s, 'enough')", [id], role="alice")
    assert ledger.end(id).message == "enough"


def test_an_instance_started_and_cancelled_in_one_transaction_runs_nothing(ledger: World) -> None:
    with ledger.connection("alice").transaction():
        id = ledger.start(ledger.build(f"select {write('never')}"))
        ledger.run("select df.cancel(%s)", [id], role="alice")
    assert ledger.end(id).status == "cancelled"
    assert words(ledger) == {}


@pytest.mark.parametrize("command", ["signals (instance_id, name)", "cancellations (instance_id, reason)"])
@pytest.mark.parametrize("first", ["start", "command"])
def test_a_start_and_a_command_in_one_statement_in_either_order(ledger: World, command: str, first: str) -> None:
    id = f"one-statement-{first}-{command[:6]}"
    graph = ledger.build(f"select df.seq({WAIT}, {write('done')})")
    parts = {
        "start": "insert into df.instances (id, graph) values (%(id)s, %(graph)s) returning id",
        "command": f"insert into df.{command} values (%(id)s, 'go') returning instance_id",
    }
    second = next(part for part in parts if part != first)
    query = f"with a as ({parts[first]}), b as ({parts[second]}) select * from a, b"
    assert ledger.run(query, {"id": id, "graph": graph}, role="alice") == [(id, id)]
    outcome = ledger.end(id)
    if command.startswith("signals"):
        assert outcome.status == "completed"
        assert words(ledger) == {"done": 1}
    else:
        assert (outcome.status, outcome.message) == ("cancelled", "go")
        assert words(ledger) == {}


def test_a_workflow_starts_and_signals_another_from_a_step_and_a_failed_step_does_neither(ledger: World) -> None:
    graph = ledger.build(f"select df.seq({WAIT}, {write('done')})")
    ledger.run("create table public.graphs as select %s as graph", [graph], role="alice")
    start = "insert into df.instances (id, graph) select 'from-a-step', graph from public.graphs"
    signal = "insert into df.signals (instance_id, name) values ('from-a-step', 'go')"
    failed = ledger.outcome(f"with s as ({start} returning id) select 1 / 0 from s")
    assert (failed.status, failed.code) == ("failed", "22012")
    assert not ledger.run("select 1 from df.instances where id = 'from-a-step'")
    both = ledger.run("select df.seq(%s, %s)", [start, signal])[0][0]
    assert ledger.outcome(both).status == "completed"
    assert ledger.end("from-a-step").status == "completed"
    assert words(ledger) == {"done": 1}
