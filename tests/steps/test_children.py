"""Children: instances that a step of another one starts, waits for and cancels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.servers import wait_until
from tests.workflows import Outcome, World

WAIT = "df.wait_for_signal('go')"


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


def start(world: World, expression: str, id: str | None = None) -> str:
    return world.start(world.build(f"select {expression}"), id=id)


def end(world: World, expression: str) -> Outcome:
    return world.end(start(world, expression))


def children(world: World, parent: str) -> list[tuple[str, str]]:
    """Id and status of each child."""
    query = "select id, status from df.instances where parent_key = %s order by key"
    return world.run(query, [world.key(parent)])


def child(world: World, parent: str) -> str:
    """The id of the only child, once it is there."""
    return wait_until(lambda: children(world, parent))[0][0]


def answer(outcome: Outcome) -> Any:
    assert outcome.status == "completed", outcome
    return json.loads(outcome.result or "null")


# --- its end ----------------------------------------------------------------------------------------------------------------


def test_a_childs_result_is_the_result_of_the_step_that_called_it(ledger: World) -> None:
    outcome = end(ledger, "df.call_child('select 1.10 as b, 2 as a')")
    assert outcome.result == '{"rows":[{"b":1.10,"a":2}],"row_count":1}'


def test_a_child_is_an_instance_of_its_own_with_its_parents_submitter(ledger: World) -> None:
    id = start(ledger, "df.call_child('select current_user as who', 'small')")
    assert ledger.end(id).rows == [{"who": "alice"}]
    key = ledger.key(id)
    query = """
        select id, submitted_by::text, parent_id, parent_step, label, status, cause is not null
          from df.instances where parent_key = %s
    """
    assert ledger.run(query, [key]) == [(f"~{key}/1", "alice", id, "1", "small", "completed", True)]
    assert ledger.history(id) == [("1", "completed")]


def test_a_child_that_fails_fails_its_parent_with_its_error(ledger: World) -> None:
    outcome = end(ledger, "df.call_child('select 1/0')")
    assert (outcome.status, outcome.code) == ("failed", "22012")


def test_with_on_failure_return_the_parent_is_told_how_the_child_ended(ledger: World) -> None:
    id = start(ledger, """df.call_child('select 1/0', options => '{"on_failure":"return"}')""")
    told = answer(ledger.end(id))
    assert (told["instance_id"], told["status"], told["result"]) == (f"~{ledger.key(id)}/1", "failed", None)
    assert told["error"]["code"] == "22012"


def test_a_child_reads_the_input_and_the_variables_that_it_is_given(ledger: World) -> None:
    options = json.dumps({"input": {"n": "$one"}, "vars": {"colour": "red"}})
    graph = f"""df.seq(df.as('select 41 + 1 as n', 'one'), df.call_child(
        'select ($input::jsonb ->> ''n'') as n, ''{{colour}}'' as colour', options => '{options}'))"""
    ((row,),) = (end(ledger, graph).rows,)
    assert row["colour"] == "red"
    assert "42" in row["n"]


def test_a_child_can_be_signalled_by_its_id(ledger: World) -> None:
    id = start(ledger, f"df.call_child(df.seq({WAIT}, {write('signalled')}))")
    its_id = child(ledger, id)
    ledger.run("select df.signal(%s, 'go')", [its_id], role="alice")
    assert ledger.end(id).status == "completed"
    assert words(ledger) == {"signalled": 1}


def test_a_detached_child_is_not_waited_for(ledger: World) -> None:
    id = start(ledger, f"""df.call_child(df.seq({WAIT}, {write("later")}), options => '{{"detach":true}}')""")
    told = answer(ledger.end(id))
    assert told == {"instance_id": child(ledger, id), "status": "pending", "result": None, "error": None}
    ledger.run("select df.signal(%s, 'go')", [told["instance_id"]], role="alice")
    assert ledger.end(told["instance_id"]).status == "completed"
    assert ledger.history(id) == [("1", "completed")]
    assert words(ledger) == {"later": 1}


# --- its parent's end -------------------------------------------------------------------------------------------------------


def test_a_child_is_cancelled_with_its_parent_which_ends_after_it(ledger: World) -> None:
    id = start(ledger, "df.call_child('select pg_sleep(3600)')")
    its_id = child(ledger, id)
    ledger.run("select df.cancel(%s, 'enough')", [id], role="alice")
    outcome = ledger.end(id)
    assert (outcome.status, outcome.message) == ("cancelled", "enough")
    outcome = ledger.end(its_id)
    assert (outcome.status, outcome.message) == ("cancelled", "Cancelled by its parent")
    query = "select (select finished_at from df.instances where id = %s) <= (select finished_at from df.instances where id = %s)"
    assert ledger.value(query, [its_id, id])


def test_an_abandoned_child_goes_on(ledger: World) -> None:
    options = """'{"on_parent_cancel":"abandon"}'"""
    id = start(ledger, f"df.call_child(df.seq({WAIT}, {write('went on')}), options => {options})")
    its_id = child(ledger, id)
    ledger.run("select df.cancel(%s)", [id], role="alice")
    assert ledger.end(id).status == "cancelled"
    ledger.run("select df.signal(%s, 'go')", [its_id], role="alice")
    assert ledger.end(its_id).status == "completed"
    assert words(ledger) == {"went on": 1}


def test_a_child_that_takes_too_long_is_cancelled(ledger: World) -> None:
    id = start(ledger, f"""df.call_child({WAIT}, options => '{{"timeout_seconds":0.2}}')""")
    outcome = ledger.end(id)
    assert (outcome.status, outcome.code) == ("failed", "timeout")
    assert ledger.end(child(ledger, id)).status == "cancelled"


def test_a_child_that_is_cancelled_while_it_is_being_inserted_runs_nothing(ledger: World) -> None:
    """Start and cancellation in one transaction: the child is there, cancelled, and its parent is told."""
    with ledger.connection("alice").transaction():
        id = start(ledger, f"df.call_child({write('never')})")
        ledger.run("insert into df.cancellations (instance_id) values (%s)", [id], role="alice")
    assert ledger.end(id).status == "cancelled"
    assert children(ledger, id) == [(f"~{ledger.key(id)}/1", "cancelled")]
    assert ledger.history(id) == [("1", "completed")]
    assert words(ledger) == {}


def test_parents_that_are_cancelled_at_any_moment_leave_no_child_running(ledger: World) -> None:
    ids = [start(ledger, f"df.seq('select 1', df.call_child({WAIT}))") for _ in range(30)]
    ledger.run(
        "insert into df.cancellations (instance_id) select id from unnest(%s::text[]) as id", [ids], role="alice"
    )
    assert {ledger.end(id).status for id in ids} == {"cancelled"}
    query = "select count(*) from df.instances where parent_key is not null and status in ('pending', 'running')"
    wait_until(lambda: ledger.value(query) == 0)


def test_a_child_that_is_cancelled_by_itself_fails_its_parent(ledger: World) -> None:
    id = start(ledger, f"df.call_child({WAIT})")
    ledger.run("select df.cancel(%s, 'mine')", [child(ledger, id)], role="alice")
    outcome = ledger.end(id)
    assert (outcome.status, outcome.code, outcome.message) == ("failed", "cancelled", "mine")


# --- many, and deep ---------------------------------------------------------------------------------------------------------


def test_children_of_children_a_hundred_deep(ledger: World) -> None:
    depth = "df.sql('select 7 as n')"
    graph = ledger.build(f"select {depth}")
    for _ in range(100):
        graph = ledger.run("select df.call_child(%s)", [graph])[0][0]
    outcome = ledger.end(ledger.start(graph), timeout=60)
    assert outcome.rows == [{"n": 7}]


def test_a_map_of_many_children(ledger: World) -> None:
    graph = "df.map('select g as n from generate_series(1, 200) as g', df.call_child('select 1 as one'), 50)"
    outcome = end(ledger, graph)
    assert outcome.status == "completed", outcome
    assert len(json.loads(outcome.result or "")) == 200


# --- crashes ----------------------------------------------------------------------------------------------------------------


def test_children_start_once_and_answer_though_the_engine_is_killed_again_and_again(ledger: World) -> None:
    ids = [
        start(ledger, f"df.seq_all(df.call_child({write('first')}), df.call_child({write('second')}))")
        for _ in range(40)
    ]
    for _ in range(4):
        ledger.engine.kill()
        ledger.engine.start()
    for id in ids:
        assert ledger.end(id).status == "completed"
    assert words(ledger) == {"first": 40, "second": 40}


# --- what cannot be a child --------------------------------------------------------------------------------------------------


def test_a_child_that_the_database_refuses_fails_the_step(ledger: World) -> None:
    """JSON knows no bounds of numbers, jsonb does."""
    options = json.dumps({"input": "$n"})
    number = "select '1e200000'::json as n"
    graph = ledger.run("select df.seq(df.as(%s, 'n'), df.call_child('select 1', options => %s))", [number, options])[0][
        0
    ]
    outcome = ledger.outcome(graph)
    assert (outcome.status, outcome.code) == ("failed", "22003"), outcome


# --- what is shown of them --------------------------------------------------------------------------------------------------


def progress(world: World, id: str) -> Any:
    found = world.run("select nodes from df.progress where instance_key = %s", [world.key(id)])
    return found[0][0] if found else None


def test_what_an_instance_is_at_is_shown_while_it_runs_and_not_afterwards(ledger: World) -> None:
    id = start(ledger, f"df.call_child({WAIT})")
    ((node,),) = [wait_until(lambda: progress(ledger, id))]
    assert (node["node"], node["step"], node["child"]) == (1, "1", child(ledger, id))
    ledger.run("select df.signal(%s, 'go')", [child(ledger, id)], role="alice")
    assert ledger.end(id).status == "completed"
    assert progress(ledger, id) is None


def test_what_ends_quickly_is_never_shown(ledger: World) -> None:
    ledger.run("create table public.shown (seen text)")
    ledger.run(
        """
        create function public.seen() returns trigger language plpgsql as $$
        begin insert into public.shown values (tg_op); return null; end $$
        """
    )
    ledger.run(
        "create trigger seen after insert or delete on df.progress for each statement execute function public.seen()"
    )
    try:
        for _ in range(5):
            assert end(ledger, "df.seq_all('select 1', 'select 2', 'select 3')").status == "completed"
        assert ledger.run("select * from public.shown") == []
    finally:
        ledger.run("drop function public.seen() cascade")


def test_progress_is_shown_by_the_leader_that_takes_over(ledger: World) -> None:
    id = start(ledger, f"df.seq({WAIT}, df.sleep('1 hour'))")
    wait_until(lambda: progress(ledger, id))
    ledger.engine.kill()
    ledger.run("select df.signal(%s, 'go')", [id], role="alice")
    ledger.engine.start()
    wait_until(lambda: "3" in [node["step"] for node in progress(ledger, id)])
    ledger.run("select df.cancel(%s)", [id], role="alice")
    assert ledger.end(id).status == "cancelled"
    assert progress(ledger, id) is None


def test_a_signal_says_which_step_took_it(ledger: World) -> None:
    id = start(ledger, f"df.seq({WAIT}, {WAIT})")
    for name in ("go", "other", "go"):
        ledger.run("select df.signal(%s, %s)", [id, name], role="alice")
    ledger.end(id)
    query = "select name, taken_by from df.signals where instance_id = %s order by recorded_at"
    assert ledger.run(query, [id]) == [("go", "2"), ("other", None), ("go", "3")]


def test_totals_grow_with_what_happens_and_no_restart_counts_anything_twice(ledger: World) -> None:
    query = """
        select started_total, completed_total, failed_total, cancelled_total, executions_total, events_total from df.checkpoint
    """

    def settled() -> list[int]:
        """The totals, once nothing more is to be counted."""
        end(ledger, "'select 1'")
        return list(ledger.run(query)[0])

    before = settled()
    end(ledger, "df.seq('select 1', df.call_child('select 2'))")
    end(ledger, "'select 1/0'")
    ledger.engine.kill()
    ledger.engine.start()
    after = settled()
    grown = [now - then for now, then in zip(after, before, strict=True)]
    # started 4: two, a child, and that which settles; rows: their own, and a completion of each step
    assert grown == [4, 3, 1, 0, 4, 9]
