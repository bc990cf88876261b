"""LANGUAGE.md, section 7: how often loops run, what timers and schedules wait for, and who gets a signal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.user import End, User
from tests.servers import Database, wait_until
from tests.workflows import ENDS, World
from tests.workflows import world as open_world

GO = "df.wait_for_signal('go')"


@pytest.fixture
def words(alice: User) -> str:
    """An empty table public.words of alice's, in which `note` leaves words and times; one for each test."""
    made = alice.value("select count(*) from pg_class where relname ~ '^words[0-9]+$'")
    table = f"public.words{made + 1}"
    alice.run(f"create table {table} (word text, at timestamptz default clock_timestamp(), number serial)")
    return table


def note(table: str, word: str) -> str:
    """A step that writes a word."""
    return f"$n$insert into {table} (word) values ('{word}')$n$"


def fewer(table: str, word: str, than: int) -> str:
    """A condition: the word is there fewer times than this."""
    return f"$f$select count(*) < {than} from {table} where word = '{word}'$f$"


def noted(user: User, table: str) -> list[str]:
    """The words in the order in which they were written."""
    return [word for (word,) in user.run(f"select word from {table} order by number")]


def distances(user: User, table: str) -> list[float]:
    """Seconds between one word and the next."""
    query = f"select extract(epoch from at - lag(at) over (order by number))::float from {table} order by number"
    return [seconds for (seconds,) in user.run(query) if seconds is not None]


def signalled(user: User, expression: str, *signals: tuple[str, str]) -> End:
    """How a workflow ends that was sent these signals, name and data, in the transaction that started it."""
    with user.transaction():
        id = user.start(expression)
        for name, data in signals:
            user.run("select df.signal(%s, %s, %s)", [id, name, data])
    return user.end(id)


# --- loops ----------------------------------------------------------------------------------------------------------


def test_loops_body_then_condition(alice: User, words: str) -> None:
    """Loops: body, then condition."""
    assert alice.outcome(f"df.loop({note(words, 'body')}, 'select false')").status == "completed"
    assert noted(alice, words) == ["body"]


PLACES = [
    "{}",
    "df.loop({}, {outer})",
    "df.loop(df.loop({}, 'select false'), {outer})",
    "df.join('select 1', {})",
    "df.race({}, df.sleep(3600))",
    "df.if('select true', {}, 'select 1')",
    "df.catch({}, 'select 1')",
    "df.map('select 1', {})",
    "df.retry({}, 2)",
    "df.timeout({}, interval '1 h')",
    "df.with_undo({}, 'select 1')",
    "df.call_child({})",
]


@pytest.mark.parametrize("place", PLACES)
def test_work_before_the_loop_runs_once_work_after_it_once(alice: User, words: str, place: str) -> None:
    """Work before the loop runs once, work after it once, at any nesting, inside any branch."""
    loop = f"df.loop({note(words, 'loop')}, {fewer(words, 'loop', 3)})"
    inside = f"df.seq_all({note(words, 'before')}, {loop}, {note(words, 'after')})"
    graph = place.replace("{outer}", fewer(words, "after", 1)).replace("{}", inside)
    assert alice.outcome(graph).status == "completed"
    assert noted(alice, words) == ["before", "loop", "loop", "loop", "after"]


def test_an_iteration_that_waited_for_nothing_is_followed_no_sooner_than_a_second_after_its_start(
    alice: User, words: str
) -> None:
    """An iteration of an unconditional loop that waited for nothing is followed no sooner than one second after its
    start.
    """
    graph = f"df.loop(df.seq({note(words, 'body')}, df.if({fewer(words, 'body', 2)}, 'select 1', df.break())))"
    assert alice.outcome(graph).status == "completed"
    (distance,) = distances(alice, words)
    assert 0.9 < distance < 3


@pytest.mark.parametrize(
    "waits", ["df.sleep('0.01')", "df.wait_for_signal('never', 0.01)", "df.call_child('select 1')"]
)
def test_an_iteration_that_waited_is_followed_at_once(alice: User, words: str, waits: str) -> None:
    """[Only one] that waited for nothing (signal, schedule, timer, child, HTTP)."""
    until = f"df.if({fewer(words, 'body', 4)}, 'select 1', df.break())"
    graph = f"df.loop(df.seq_all({note(words, 'body')}, {waits}, {until}))"
    assert alice.outcome(graph).status == "completed"
    assert len(noted(alice, words)) == 4
    assert sum(distances(alice, words)) < 2.5


def test_a_conditional_loop_runs_as_fast_as_it_can(alice: User, words: str) -> None:
    """A conditional loop runs as fast as it can."""
    assert alice.outcome(f"df.loop({note(words, 'body')}, {fewer(words, 'body', 20)})").status == "completed"
    assert len(noted(alice, words)) == 20
    assert sum(distances(alice, words)) < 3


def test_every_sets_the_distance_between_starts(alice: User, words: str) -> None:
    """`every` (an interval, by name) sets the distance between starts instead, for any loop."""
    graph = f"df.loop({note(words, 'body')}, {fewer(words, 'body', 4)}, every => '0.3 s')"
    assert alice.outcome(graph).status == "completed"
    assert all(0.2 < distance < 1.5 for distance in distances(alice, words)), distances(alice, words)


def test_a_late_iteration_follows_at_once_and_missed_ones_are_not_made_up(alice: User, words: str) -> None:
    """A late one follows at once, missed ones are not made up."""
    late = f"df.if({fewer(words, 'body', 2)}, 'select pg_sleep(0.7)', 'select 1')"
    graph = f"df.loop(df.seq({note(words, 'body')}, {late}), {fewer(words, 'body', 4)}, every => '0.3 s')"
    assert alice.outcome(graph).status == "completed"
    first, second, third = distances(alice, words)
    assert 0.7 <= first < 2
    assert 0.2 < second < 1.5
    assert 0.2 < third < 1.5


def test_every_0_lifts_the_limit(alice: User, words: str) -> None:
    """`'0'` lifts the limit."""
    until = f"df.if({fewer(words, 'body', 5)}, 'select 1', df.break())"
    assert alice.outcome(f"df.loop(df.seq({note(words, 'body')}, {until}), every => '0')").status == "completed"
    assert sum(distances(alice, words)) < 2.5


def test_there_is_no_iteration_limit_by_default(alice: User) -> None:
    """There is no iteration limit by default."""
    loop = "df.loop('select $n + 1' |=> 'n', 'select $n < 1000')"
    assert alice.rows(f"df.seq_all('select 0' |=> 'n', {loop}, 'select $n as n')", 60) == [{"n": 1000}]


def test_settings_can_set_an_iteration_limit(database: Database, tmp_path: Path) -> None:
    """`df.settings` can set one."""
    database.run("update df.settings set value = '3' where name = 'loop_iterations'")
    with open_world(database, database.engine(tmp_path).start()) as here:
        limited = User(here, "alice")
        limited.run("create sequence public.iterations")
        assert limited.outcome("df.loop('select nextval(''public.iterations'')', 'select true')").status == "failed"
        assert limited.value("select last_value from public.iterations") == 3


# --- deadlines ------------------------------------------------------------------------------------------------------


def test_deadlines_count_from_the_commit_time_of_the_event_that_set_them(alice: User, words: str) -> None:
    """Deadlines count from the commit time of the event that set them, on the database's clock."""
    with alice.transaction():
        id = alice.start(f"df.seq(df.sleep(1), {note(words, 'slept')})")
        alice.run("select pg_sleep(0.5)")
    committed = alice.value("select clock_timestamp()")
    alice.end(id)
    slept = alice.value(f"select at from {words}")
    assert 0.9 < (slept - committed).total_seconds() < 5


def test_time_in_a_workflow_never_goes_back(alice: User) -> None:
    """Which in a workflow never goes back."""
    until = "df.sleep_until('2000-01-01 00:00:00+00'::timestamptz)"
    assert alice.result(until) == {"slept": True, "seconds": 0}
    rows = alice.rows(
        f"df.seq_all('select now() as t' |=> 'a', {until}, df.sleep('0.01'), 'select now() > $a as later')"
    )
    assert rows == [{"later": True}]


def test_timers_survive_everything(alice: User, world: World, words: str) -> None:
    """Timers survive everything."""
    id = alice.start(f"df.seq_all({note(words, 'began')}, df.sleep(1), {note(words, 'slept')})")
    wait_until(lambda: noted(alice, words))
    world.engine.kill()
    world.engine.start()
    assert alice.end(id).status == "completed"
    (distance,) = distances(alice, words)
    assert distance > 0.9


# --- cron -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("* * * * *", "UTC"),
        ("*/5 0-12 1,15 jan-jun *", "UTC"),
        ("0 0 * * mon-fri", "UTC"),
        ("0 0 * * 0", "UTC"),
        ("0 0 * * 7", "UTC"),
        ("@daily", "UTC"),
        ("@hourly", "Europe/Berlin"),
        ("0 0 29 2 *", "UTC"),
    ],
)
def test_cron_has_five_fields_standard_weekdays_names_and_macros(alice: User, expression: str, zone: str) -> None:
    """Cron: five fields, standard weekdays (0 and 7 are Sunday), names and `@daily` macros."""
    id = alice.start(f"df.wait_for_schedule('{expression}', '{zone}')")
    alice.run("select df.cancel(%s)", [id])
    assert alice.end(id).status == "cancelled"


@pytest.mark.parametrize("expression", ["* * * *", "* * * * * *", "60 * * * *", "0 0 * * 8", "0 0 30 2 *", "daily", ""])
def test_other_expressions_and_those_that_never_match_are_refused(alice: User, expression: str) -> None:
    """Expressions that never match (`0 0 30 2 *`) are refused."""
    assert alice.refused(f"select df.start(df.wait_for_schedule('{expression}'))")


def test_zones_are_stored_as_spelled_in_pg_timezone_names(alice: User) -> None:
    """Zones are stored as spelled in `pg_timezone_names` (case ignored)."""
    for given, spelled in [("europe/BERLIN", "Europe/Berlin"), ("utc", "UTC"), ("ETC/gmt+5", "Etc/GMT+5")]:
        id = alice.start(f"df.wait_for_schedule('@daily', '{given}')")
        stored = json.loads(alice.value("select graph from df.instances where id = %s", [id]))
        assert json.loads(stored["query"])["timezone"] == spelled
        alice.run("select df.cancel(%s)", [id])
        assert alice.end(id).status == "cancelled"


def test_a_zone_with_a_reference_is_stored_as_it_is(alice: User) -> None:
    """The same: what is not a zone yet."""
    assert '"{Zone}"' in json.loads(alice.build("df.wait_for_schedule('@daily', '{Zone}')"))["query"]


def test_the_case_of_a_zone_in_a_graph_written_by_hand_is_ignored(alice: User) -> None:
    """The same: the validator and the engine take any case, and it is midnight there that is waited for."""
    query = json.dumps({"cron_expr": "@daily", "timezone": "asia/KOLKATA"})
    id = alice.insert({"node_type": "WAIT_SCHEDULE", "query": query})
    due = """
        select to_char((status_details ->> 'due')::timestamptz at time zone 'Asia/Kolkata', 'HH24:MI')
          from df.instance_nodes(%s)
    """
    assert wait_until(lambda: alice.value(due, [id])) == "00:00"
    alice.run("select df.cancel(%s)", [id])
    assert alice.end(id).status == "cancelled"


def test_other_zones_are_refused(alice: User) -> None:
    """Others are refused."""
    assert alice.refused("select df.start(df.wait_for_schedule('@daily', 'Nowhere/Atlantis'))")


# --- signals --------------------------------------------------------------------------------------------------------


def test_signals_are_buffered_per_instance_and_name_in_commit_order(alice: User) -> None:
    """Signals are buffered per instance and name, in commit order."""
    waits = [f"df.wait_for_signal('{name}') |=> 's{number}'" for number, name in enumerate(("b", "a", "b"))]
    values = ", ".join(f"$s{number}::json ->> 'data' as s{number}" for number in range(3))
    graph = f"df.seq_all('select 1', {', '.join(waits)}, $s$select {values}$s$)"
    end = signalled(alice, graph, ("a", "1"), ("b", "2"), ("b", "3"))
    assert end.result["rows"] == [{"s0": "2", "s1": "1", "s2": "3"}]


def test_a_signal_in_the_same_transaction_as_the_start_is_delivered(alice: User) -> None:
    """From the moment the instance is inserted: a signal in the same transaction as the start is delivered."""
    end = signalled(alice, GO, ("go", '{"by": "alice"}'))
    assert end.result == {"signal_name": "go", "timed_out": False, "data": {"by": "alice"}}


def test_a_signal_before_the_wait_begins_is_delivered(alice: User) -> None:
    """Or before the wait begins."""
    id = alice.start(f"df.sleep('0.3') ~> {GO}")
    alice.run("select df.signal(%s, 'go', '1')", [id])
    assert alice.end(id).result["data"] == 1


def test_a_signal_between_two_iterations_is_delivered(alice: User, words: str) -> None:
    """Or between two iterations."""
    body = f"df.seq({GO}, {note(words, 'taken')})"
    id = alice.start(f"df.loop({body}, {fewer(words, 'taken', 3)}, every => '0.3 s')")
    for number in range(3):
        wait_until(lambda number=number: len(noted(alice, words)) == number)  # type: ignore[misc]
        alice.run("select df.signal(%s, 'go')", [id])
    assert alice.end(id).status == "completed"
    assert noted(alice, words) == ["taken"] * 3


def test_fresh_passes_over_signals_committed_before_the_wait_began(alice: User, words: str) -> None:
    """`fresh => true` passes over those committed before the wait began."""
    graph = f"df.seq({note(words, 'began')}, df.wait_for_signal('go', fresh => true))"
    with alice.transaction():
        id = alice.start(graph)
        alice.run("select df.signal(%s, 'go', '1')", [id])
    wait_until(lambda: noted(alice, words))
    send = "insert into df.signals (instance_id, name, data) values (%s, 'go', '2')"
    wait_until(lambda: alice.run(send, [id]) or alice.value("select df.status(%s) from pg_sleep(0.1)", [id]) in ENDS)
    assert alice.end(id).result["data"] == 2


def test_fresh_passes_over_them_for_this_wait_only(alice: User) -> None:
    """For this wait only."""
    fresh = "df.wait_for_signal('go', 0.1, fresh => true) |=> 'fresh'"
    graph = f"df.seq_all('select 1', {fresh}, {GO} |=> 'go', 'select $fresh.timed_out as f, $go.data as d')"
    assert signalled(alice, graph, ("go", "1")).result["rows"] == [{"f": True, "d": 1}]


def test_one_signal_satisfies_one_wait(alice: User) -> None:
    """One signal satisfies one wait."""
    graph = f"df.join({GO}, df.wait_for_signal('go', 0.3))"
    results = signalled(alice, graph, ("go", "1")).result
    assert [result["timed_out"] for result in results] == [False, True]


def test_the_oldest_signal_goes_to_the_wait_that_began_first_then_in_branch_order(alice: User) -> None:
    """The oldest signal goes to the wait that began first, then in branch order."""
    late = f"df.sleep('0.2') ~> {GO}"
    id = alice.start(f"df.join_all({late}, {GO}, {GO})")
    alice.run("select pg_sleep(0.5)")
    for number in range(3):
        alice.run("select df.signal(%s, 'go', %s)", [id, str(number)])
    assert [result["data"] for result in alice.end(id).result] == [2, 0, 1]


def test_three_waits_of_the_same_name_are_three_approvals(alice: User) -> None:
    """So three waits of the same name are three approvals."""
    id = alice.start(f"df.join3({GO}, {GO}, {GO})")
    for _ in range(2):
        alice.run("select df.signal(%s, 'go')", [id])
    assert alice.value("select df.status(%s) from pg_sleep(0.3)", [id]) not in ENDS
    alice.run("select df.signal(%s, 'go')", [id])
    assert alice.end(id).status == "completed"


def test_a_wait_met_by_a_buffered_signal_counts_as_having_waited(alice: User, words: str) -> None:
    """A wait met by a buffered signal counts as having waited."""
    until = f"df.if({fewer(words, 'body', 4)}, 'select 1', df.break())"
    graph = f"df.loop(df.seq_all({GO}, {note(words, 'body')}, {until}))"
    assert signalled(alice, graph, *[("go", "{}")] * 4).status == "completed"
    assert sum(distances(alice, words)) < 2.5


def test_a_signal_taken_is_spent_even_if_its_branch_then_loses(alice: User) -> None:
    """A signal taken is spent, even if its branch then loses."""
    race = f"df.race(df.seq({GO}, df.sleep(3600)), df.sleep('0.1'))"
    assert signalled(alice, f"{race} ~> df.wait_for_signal('go', 0.2)", ("go", "1")).result["timed_out"] is True


@pytest.mark.parametrize(
    "failing",
    [
        f"df.catch(df.seq({GO}, 'select 1/0'), 'select 1')",
        "df.catch(df.retry(df.seq(df.wait_for_signal('go', 0.1), 'select 1/0'), 2, interval '0.01 s'), 'select 1')",
    ],
)
def test_a_signal_taken_is_spent_even_if_its_branch_then_fails_or_is_retried(alice: User, failing: str) -> None:
    """Fails or is retried."""
    assert signalled(alice, f"{failing} ~> df.wait_for_signal('go', 0.2)", ("go", "1")).result["timed_out"] is True


@pytest.mark.parametrize("place", [place for place in PLACES if "call_child" not in place])
def test_a_wait_works_the_same_anywhere(alice: User, words: str, place: str) -> None:
    """A wait works the same anywhere: top level, in a race, in a join, in a loop."""
    graph = place.replace("{outer}", fewer(words, "done", 1)).replace("{}", f"df.seq({GO}, {note(words, 'done')})")
    early = alice.start(graph)
    alice.run("select pg_sleep(0.1)")
    alice.run("select df.signal(%s, 'go')", [early])
    assert alice.end(early).status == "completed"
    assert signalled(alice, graph, ("go", "{}")).status == "completed"
    assert noted(alice, words) == ["done", "done"]


def test_a_wait_works_the_same_in_a_child_graphs_own_instance(alice: User) -> None:
    """In a child graph's own instance."""
    id = alice.start(f"df.call_child({GO})")
    query = "select id from df.instances where parent_id = %s"
    ((child,),) = wait_until(lambda: alice.run(query, [id]))
    alice.run("select df.signal(%s, 'go', '7')", [child])
    assert alice.end(id).result == {"signal_name": "go", "timed_out": False, "data": 7}
