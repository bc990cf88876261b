"""LANGUAGE.md, section 6: what a failure, a break and a cancellation end, and what is undone."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.conformance.user import End, User
from tests.servers import wait_until
from tests.workflows import ENDS

FAILS = "'select 1/0'"
DIVISION = "division by zero"
NEVER = "df.wait_for_signal('never')"


class Ledger:
    """A table of alice's in which steps leave words; `write` makes the steps."""

    def __init__(self, user: User, table: str) -> None:
        self.user = user
        self.table = f"public.{table}"
        user.run(f"create table {self.table} (word text, number serial)")

    def write(self, word: str) -> str:
        """A step that writes a word; references in it are filled in."""
        return f"$w$insert into {self.table} values ('{word}')$w$"

    def slow(self, word: str) -> str:
        """A step that writes a word and then takes an hour."""
        return f"$w$with w as (insert into {self.table} values ('{word}') returning 1) select pg_sleep(3600) from w$w$"

    def count(self, word: str) -> str:
        """A query for how often a word is there."""
        return f"(select count(*) from {self.table} where word = '{word}')"

    def words(self) -> list[str]:
        """The words in the order in which they were written."""
        return [word for (word,) in self.user.run(f"select word from {self.table} order by number")]


@pytest.fixture
def ledger(alice: User, request: pytest.FixtureRequest) -> Ledger:
    """One for each test."""
    made = int(alice.value("select count(*) from pg_class where relname ~ '^ledger[0-9]+$'"))
    return Ledger(alice, f"ledger{made + 1}")


@pytest.fixture(scope="module", autouse=True)
def hopeless(alice: User) -> str:
    """An instance that the last test waits for; it takes its time."""
    alice.run("create sequence public.hopeless")
    raises = "do $d$ begin perform nextval('public.hopeless'); raise 'no' using errcode = '40001'; end $d$"
    return alice.start(f"$s${raises}$s$")


def sleepers(user: User) -> int:
    """How many of the user's statements are in an hour's pg_sleep."""
    query = "select count(*) from pg_stat_activity where usename = %s and wait_event = 'PgSleep'"
    return int(user.value(query, [user.name]))


def signalled(alice: User, expression: str, *names: str) -> End:
    """How a workflow ends that was sent these signals in the transaction that started it."""
    with alice.transaction():
        id = alice.start(expression)
        for name in names:
            alice.run("select df.signal(%s, %s)", [id, name])
    return alice.end(id)


# --- failure --------------------------------------------------------------------------------------------------------


def test_a_failed_node_fails_its_ancestors_up_to_the_instance(alice: User, ledger: Ledger) -> None:
    """A failed node fails its ancestors up to the instance."""
    graph = f"df.seq(df.if('select true', df.join({FAILS}, 'select 1'), 'select 2'), {ledger.write('after')})"
    assert alice.error(graph)["message"] == f"JOIN branch 1 failed: {DIVISION}"
    assert ledger.words() == []


def test_a_failed_node_fails_its_ancestors_up_to_the_nearest_catch(alice: User, ledger: Ledger) -> None:
    """A failed node fails its ancestors up to the nearest CATCH."""
    inner = f"df.catch(df.seq({FAILS}, {ledger.write('skipped')}), {ledger.write('handled')})"
    outcome = alice.outcome(f"df.catch(df.seq({inner}, {ledger.write('after')}), {ledger.write('too far')})")
    assert outcome.status == "completed"
    assert ledger.words() == ["handled", "after"]


def test_a_failed_node_fails_its_ancestors_up_to_the_nearest_retry(alice: User, ledger: Ledger) -> None:
    """A failed node fails its ancestors up to the nearest RETRY."""
    divided = f"$s$select 1/({ledger.count('try')} - 1)$s$"
    twice = f"df.seq_all({ledger.write('try')}, {divided}, {ledger.write('done')})"
    assert alice.outcome(f"df.retry({twice}, 3, interval '0.01 s')").status == "completed"
    assert ledger.words() == ["try", "try", "done"]


def test_error_holds_message_code_node_step_and_attempt(alice: User) -> None:
    """`error` holds `{"message","code","node","step","attempt"}`."""
    error = alice.error(f"'select 1' ~> {FAILS}")
    assert error["message"] == DIVISION
    assert error["code"] == "22012"
    assert error["attempt"] == 1
    assert {"node", "step"} <= error.keys()


def test_error_in_a_handler_holds_the_same(alice: User) -> None:
    """And `$error` in a handler."""
    handler = "'select $error.message as m, $error.code as c, $error.attempt as a, $error.node as n, $error.step as s'"
    (row,) = alice.rows(f"df.catch({FAILS}, {handler})")
    assert (row["m"], row["c"], row["a"]) == (DIVISION, "22012", 1)
    assert row["n"] is not None
    assert row["s"] is not None


def test_for_sql_the_code_is_the_sqlstate_and_the_message_the_servers(alice: User) -> None:
    """For SQL the code is the SQLSTATE and the message the server's."""
    error = alice.error("'select * from public.nowhere'")
    assert (error["code"], error["message"]) == ("42P01", 'relation "public.nowhere" does not exist')


def test_an_error_of_sql_has_detail_hint_and_position(alice: User) -> None:
    """With detail, hint and position."""
    raised = "do $d$ begin raise 'no' using detail = 'some detail', hint = 'some hint', errcode = 'P4711'; end $d$"
    error = alice.error(f"$s${raised}$s$")
    assert (error["code"], error["detail"], error["hint"]) == ("P4711", "some detail", "some hint")
    assert int(alice.error("'select nothing'")["position"]) == 8


def test_then_right_does_not_run(alice: User, ledger: Ledger) -> None:
    """THEN: right does not run."""
    assert alice.error(f"df.seq({FAILS}, {ledger.write('right')})")["message"] == DIVISION
    assert ledger.words() == []


def test_join_waits_for_all_branches_then_fails_as_the_first_failing_branch_in_order(
    alice: User, ledger: Ledger
) -> None:
    """JOIN: waits for all branches, then fails as the first failing branch in order: `JOIN branch N failed: <err>`."""
    late = f"df.seq_all(df.sleep('0.2'), {ledger.write('late')}, 'select nothing')"
    error = alice.error(f"df.join3({ledger.write('early')}, {late}, {FAILS})")
    assert error["message"] == 'JOIN branch 2 failed: column "nothing" does not exist'
    assert ledger.words() == ["early", "late"]


# --- races ----------------------------------------------------------------------------------------------------------


def test_a_race_is_between_whole_branches(alice: User, ledger: Ledger) -> None:
    """RACE: between whole branches; the first to finish wins."""
    quick_then_slow = f"df.seq({ledger.write('quick')}, df.sleep(3600))"
    assert alice.rows(f"df.race({quick_then_slow}, df.sleep('0.6') ~> 'select 2 as n')") == [{"n": 2}]
    assert ledger.words() == ["quick"]


def test_a_race_is_also_won_by_failing(alice: User) -> None:
    """Also by failing (`RACE branch N failed: …`)."""
    error = alice.error(f"df.race(df.sleep(3600), df.sleep('0.05') ~> {FAILS})")
    assert error["message"] == f"RACE branch 2 failed: {DIVISION}"


def test_branches_start_in_order_and_one_that_has_won_keeps_later_ones_from_starting(
    alice: User, ledger: Ledger
) -> None:
    """Branches start in order, and one that has won keeps later ones from starting."""
    graph = f"df.race(df.wait_for_signal('go'), {ledger.write('later')})"
    assert signalled(alice, graph, "go").result["signal_name"] == "go"
    assert ledger.words() == []


def test_the_sql_of_losers_is_cancelled_on_the_server_and_rolled_back(
    new_user: Callable[[str], User],
) -> None:
    """Losers are cancelled at once, their SQL in flight is cancelled on the server and rolled back."""
    user = new_user("loser")
    ledger = Ledger(user, "losers")
    id = user.start(f"df.race({ledger.slow('loser')}, df.wait_for_signal('go') ~> {ledger.write('winner')})")
    wait_until(lambda: sleepers(user))
    user.run("select df.signal(%s, 'go')", [id])
    assert user.end(id).status == "completed"
    wait_until(lambda: not sleepers(user))
    assert ledger.words() == ["winner"]


def test_the_waits_and_timers_of_losers_are_dropped(alice: User, ledger: Ledger) -> None:
    """Their waits and timers dropped."""
    race = "df.race_all(df.wait_for_signal('go'), df.sleep('0.5'), df.sleep('0.1'))"
    after = "df.wait_for_signal('go') |=> 'go' ~> df.sleep('0.6') ~> 'select $go.timed_out as t'"
    id = alice.start(f"df.seq_all({race}, {ledger.write('raced')}, {after})")
    wait_until(ledger.words)
    alice.run("select df.signal(%s, 'go')", [id])
    assert alice.end(id).result["rows"] == [{"t": False}]


def test_steps_that_follow_a_wait_inside_a_race_go_on_racing(alice: User, ledger: Ledger) -> None:
    """Steps that follow a wait inside a race go on racing, and may have written before they lose."""
    branch = f"df.seq_all(df.wait_for_signal('go'), {ledger.write('written')}, df.sleep(3600))"
    graph = f"df.race({branch}, df.sleep('0.8') ~> {ledger.write('won')})"
    assert signalled(alice, graph, "go").status == "completed"
    assert ledger.words() == ["written", "won"]


@pytest.mark.parametrize(("signals", "decided"), [(["approve"], "approved"), ([], "rejected")])
def test_to_decide_first_and_act_afterwards_race_only_the_waits(
    alice: User, ledger: Ledger, signals: list[str], decided: str
) -> None:
    """To decide first and act afterwards, race only the waits, or
    `df.wait_for_signal('approve', N) ?> 'approve…' !> 'reject…'`.
    """
    graph = f"df.wait_for_signal('approve', 0.1) ?> {ledger.write('approved')} !> {ledger.write('rejected')}"
    assert signalled(alice, graph, *signals).status == "completed"
    assert ledger.words() == [decided]


# --- map, loop, break -----------------------------------------------------------------------------------------------


def test_map_the_first_failure_stops_new_items_running_ones_finish(alice: User, ledger: Ledger) -> None:
    """MAP: the first failure stops new items, running ones finish, then `MAP item N failed: <err>`."""
    body = f"df.if('select $item = 2', {FAILS}, df.sleep('0.6') ~> {ledger.write('item $item')})"
    error = alice.error(f"df.map('select generate_series(1, 9)', {body}, 3)")
    assert error["message"] == f"MAP item 2 failed: {DIVISION}"
    assert sorted(ledger.words()) == ["item 1", "item 3"]


@pytest.mark.parametrize("loop", [f"df.loop({FAILS}, 'select false')", f"df.loop('select 1', {FAILS})"])
def test_loop_a_failing_body_or_condition_fails_it(alice: User, loop: str) -> None:
    """LOOP: a failing body or condition fails it."""
    assert alice.error(f"df.seq({loop}, 'select 1')")["message"] == DIVISION


@pytest.mark.parametrize(
    "around",
    [
        "df.if('select true', {}, 'select 1')",
        "df.seq({}, {after})",
        "df.catch({}, {after})",
        "df.retry({}, 3)",
        "df.timeout({}, interval '1 h')",
        "df.with_undo({}, {after})",
        "df.join('select 1', {})",
        "df.race(df.sleep(3600), {})",
    ],
)
def test_a_break_unwinds_to_the_innermost_loop(alice: User, ledger: Ledger, around: str) -> None:
    """A BREAK is not a failure: it unwinds to the innermost loop, through IF, THEN, CATCH, RETRY, TIMEOUT, UNDO, JOIN
    and RACE.
    """
    body = around.replace("{after}", ledger.write("after")).replace("{}", "df.break('7')")
    outer = f"df.loop(df.seq(df.loop({body}) |=> 'broken', {ledger.write('outer')}), 'select false')"
    assert alice.rows(f"{outer} ~> 'select $broken::text as v'") == [{"v": "7"}]
    assert ledger.words() == ["outer"]


@pytest.mark.parametrize("kind", ["join", "race"])
def test_the_other_branches_around_a_break_are_cancelled(new_user: Callable[[str], User], kind: str) -> None:
    """JOIN and RACE, whose other branches are cancelled."""
    user = new_user(f"breaker_{kind}")
    ledger = Ledger(user, f"broken_{kind}s")
    id = user.start(f"df.loop(df.{kind}({ledger.slow('other')}, df.wait_for_signal('go') ~> df.break('1')))")
    wait_until(lambda: sleepers(user))
    user.run("select df.signal(%s, 'go')", [id])
    assert user.end(id).result == 1
    wait_until(lambda: not sleepers(user))
    assert ledger.words() == []


def test_a_break_inside_a_map_body_needs_a_loop_inside_that_body(alice: User) -> None:
    """Inside a MAP body it needs a loop inside that body."""
    refused = alice.refused("select df.start(df.loop(df.map('select 1', df.break())))")
    assert refused.startswith("Invalid durable function graph: root.left_node.right_node")
    assert alice.result("df.map('select 1', df.loop(df.break('7')))") == [7]


def test_a_break_in_an_undo_is_refused_at_the_insert(alice: User) -> None:
    """In an undo it is refused at the INSERT."""
    refused = alice.refused("select df.start(df.loop(df.with_undo('select 1', df.break())))")
    assert refused.startswith("Invalid durable function graph: root.left_node.right_node")


# --- retry and timeout ----------------------------------------------------------------------------------------------


def tries(fut: str, number: int = 3) -> str:
    """Tries of a node without noticeable pauses."""
    return f"df.retry({fut}, {number}, interval '0.01 s')"


def test_each_try_runs_anew_from_the_first_iteration_of_its_loops(alice: User, ledger: Ledger) -> None:
    """RETRY: each try runs fut anew with fresh step keys, from the first iteration of its loops."""
    body = f"df.seq('select $n + 1' |=> 'n', {ledger.write('iteration $n')})"
    fut = f"df.seq_all('select 0' |=> 'n', df.loop({body}, 'select $n < 2'), {FAILS})"
    assert alice.error(tries(fut, 2))["message"] == DIVISION
    assert ledger.words() == ["iteration 1", "iteration 2"] * 2


def test_signals_taken_stay_taken(alice: User, ledger: Ledger) -> None:
    """Signals taken stay taken."""
    fut = f"df.seq_all(df.wait_for_signal('go', 0.2) |=> 'go', {ledger.write('timed out: $go.timed_out')}, {FAILS})"
    assert signalled(alice, tries(fut, 3), "go", "go").status == "failed"
    assert ledger.words() == ["timed out: false", "timed out: false", "timed out: true"]


def test_max_attempts_counts_tries(alice: User, ledger: Ledger) -> None:
    """`max_attempts` counts tries."""
    assert alice.outcome(tries(f"df.seq({ledger.write('try')}, {FAILS})", 4)).status == "failed"
    assert ledger.words() == ["try"] * 4


def test_the_attempt_of_an_error_counts_tries(alice: User) -> None:
    """`$error`'s `attempt` counts tries."""
    assert alice.error(tries(FAILS, 3))["attempt"] == 3
    assert alice.rows(f"df.catch({tries(FAILS, 2)}, 'select $error.attempt as a')") == [{"a": 2}]


def test_a_timeout_fails_with_its_code_and_cancels_what_is_in_flight(new_user: Callable[[str], User]) -> None:
    """TIMEOUT: fut fails with code `timeout`, work in flight is cancelled."""
    user = new_user("late")
    ledger = Ledger(user, "lates")
    assert user.error(f"df.timeout({ledger.slow('late')}, interval '0.2 s')")["code"] == "timeout"
    wait_until(lambda: not sleepers(user))
    assert ledger.words() == []


@pytest.mark.parametrize(("outer", "inner", "caught"), [("0.1 s", "1 h", False), ("1 h", "0.1 s", True)])
def test_the_earlier_of_two_timeouts_counts(alice: User, outer: str, inner: str, caught: bool) -> None:
    """The earlier of two timeouts counts."""
    inside = f"df.catch(df.timeout({NEVER}, interval '{inner}'), 'select 1')"
    end = alice.outcome(f"df.timeout({inside}, interval '{outer}')")
    assert end.status == ("completed" if caught else "failed")
    assert caught or end.error["code"] == "timeout"


@pytest.mark.parametrize("option", ["cancel", "abandon"])
def test_a_timeout_around_a_child_cancels_it_as_on_parent_cancel_says(alice: User, option: str) -> None:
    """TIMEOUT around a child cancels it as `on_parent_cancel` says."""
    child = f"""df.call_child({NEVER}, options => '{{"on_parent_cancel": "{option}"}}')"""
    id = alice.start(f"df.timeout({child}, interval '0.6 s')")
    assert alice.end(id).error["code"] == "timeout"
    child_id = alice.value("select id from df.instances where parent_id = %s", [id])
    if option == "cancel":
        assert alice.end(child_id).status == "cancelled"
    else:
        assert alice.value("select df.status(%s) from pg_sleep(0.3)", [child_id]) not in ENDS


# --- undo -----------------------------------------------------------------------------------------------------------


def owing(ledger: Ledger, word: str) -> str:
    """A step that writes a word, with an undo that says so."""
    return f"df.with_undo({ledger.write(word)}, {ledger.write(f'undo {word}')})"


def test_undo_runs_in_reverse_order_of_completion_when_the_instance_fails(alice: User, ledger: Ledger) -> None:
    """What is owed belongs to the instance and runs in reverse order of completion when that fails."""
    late = f"df.with_undo(df.sleep('0.1') ~> {ledger.write('b')}, {ledger.write('undo b')})"
    graph = f"df.seq_all({owing(ledger, 'a')}, df.join({late}, {owing(ledger, 'c')}), {FAILS})"
    assert alice.error(graph)["message"] == DIVISION
    assert ledger.words() == ["a", "c", "b", "undo b", "undo c", "undo a"]


def test_what_did_not_complete_owes_no_undo(alice: User, ledger: Ledger) -> None:
    """Once fut completed, undo is owed."""
    failing = f"df.with_undo(df.seq({ledger.write('part')}, {FAILS}), {ledger.write('undo')})"
    assert alice.outcome(failing).status == "failed"
    assert ledger.words() == ["part"]


def test_nothing_is_undone_when_the_instance_completes(alice: User, ledger: Ledger) -> None:
    """Undo is owed and runs when that fails, is repeated, loses or is cancelled [only]."""
    assert alice.outcome(owing(ledger, "a")).status == "completed"
    assert ledger.words() == ["a"]


def test_undo_runs_before_the_next_attempt_of_a_retry(alice: User, ledger: Ledger) -> None:
    """To the nearest enclosing RETRY attempt: when that is repeated, before the next attempt."""
    fut = f"df.seq({owing(ledger, 'a')}, {FAILS})"
    assert alice.outcome(f"df.seq({owing(ledger, 'before')}, {tries(fut, 2)})").status == "failed"
    assert ledger.words() == ["before", "a", "undo a", "a", "undo a", "undo before"]


def test_undo_runs_before_the_handler(alice: User, ledger: Ledger) -> None:
    """To the nearest enclosing CATCH: when that fails, before the handler."""
    fut = f"df.catch(df.seq({owing(ledger, 'a')}, {FAILS}), {ledger.write('handler')})"
    assert alice.outcome(f"df.seq({owing(ledger, 'before')}, {fut})").status == "completed"
    assert ledger.words() == ["before", "a", "undo a", "handler"]


def test_undo_runs_when_a_race_branch_loses(alice: User, ledger: Ledger) -> None:
    """To the nearest enclosing RACE branch: when that loses."""
    loser = f"df.seq({owing(ledger, 'a')}, df.sleep(3600))"
    assert alice.outcome(f"df.race({loser}, df.sleep('0.8'))").status == "completed"
    assert ledger.words() == ["a", "undo a"]


def test_undo_runs_when_a_map_item_fails(alice: User, ledger: Ledger) -> None:
    """To the nearest enclosing MAP item: when that fails."""
    body = f"df.seq({owing(ledger, 'item $item')}, 'select 1 / ($item - 2)')"
    handled = f"df.catch(df.map('select generate_series(1, 2)', {body}, 1), {ledger.write('handler')})"
    assert alice.outcome(handled).status == "completed"
    words = ledger.words()
    assert words[:3] == ["item 1", "item 2", "undo item 2"]
    assert sorted(words[3:]) == ["handler", "undo item 1"]
    assert words[-1] == "handler"


def test_undo_runs_when_the_instance_is_cancelled(alice: User, ledger: Ledger) -> None:
    """When that is cancelled."""
    id = alice.start(f"df.seq({owing(ledger, 'a')}, {NEVER})")
    wait_until(ledger.words)
    alice.run("select df.cancel(%s)", [id])
    assert alice.end(id).status == "cancelled"
    assert ledger.words() == ["a", "undo a"]


def test_on_success_what_is_owed_passes_to_the_enclosing_one(alice: User, ledger: Ledger) -> None:
    """On success it passes to the enclosing one."""
    inner = f"df.catch({owing(ledger, 'a')}, 'select 1')"
    winner = f"df.race({owing(ledger, 'b')}, df.sleep(3600))"
    item = f"df.map('select 1', {owing(ledger, 'c')})"
    graph = f"df.catch(df.seq_all({inner}, {winner}, {item}, {tries(owing(ledger, 'd'))}, {FAILS}), 'select 1')"
    assert alice.outcome(graph).status == "completed"
    assert ledger.words() == ["a", "b", "c", "d", "undo d", "undo c", "undo b", "undo a"]


def test_a_loop_releases_it_with_each_completed_iteration(alice: User, ledger: Ledger) -> None:
    """A loop releases it with each completed iteration."""
    counted = "df.seq('select $n + 1' |=> 'n', {})".replace("{}", owing(ledger, "$n"))
    fails = "df.if('select $n = 3', 'select 1/0', 'select 1')"
    loop = f"df.loop(df.seq({counted}, {fails}), 'select true')"
    assert alice.outcome(f"df.seq('select 0' |=> 'n', {loop})").status == "failed"
    assert ledger.words() == ["1", "2", "3", "undo 3"]


def test_an_undo_sees_the_names_as_they_were_when_its_fut_completed(alice: User, ledger: Ledger) -> None:
    """An undo sees the names as they were when its fut completed."""
    fut = f"df.with_undo('select 1' |=> 'n', {ledger.write('undo $n')})"
    assert alice.outcome(f"df.seq_all({fut}, 'select 2' |=> 'n', {FAILS})").status == "failed"
    assert ledger.words() == ["undo 1"]


def test_an_undo_sees_the_error(alice: User, ledger: Ledger) -> None:
    """And `$error`."""
    fut = f"df.with_undo('select 1', {ledger.write('$error.code: $error.message')})"
    assert alice.outcome(f"df.seq({fut}, {FAILS})").status == "failed"
    assert ledger.words() == [f"22012: {DIVISION}"]


def test_an_undo_is_retried_with_backoff(alice: User, ledger: Ledger) -> None:
    """It is retried 10 times with backoff."""
    alice.run("create sequence public.undone")
    undo = f"insert into {ledger.table} select 'undone' where 1 / (nextval('public.undone') - 1) >= 0"
    assert alice.error(f"df.seq(df.with_undo('select 1', $u${undo}$u$), {FAILS})")["message"] == DIVISION
    assert ledger.words() == ["undone"]


def test_the_attempts_of_an_undo_are_further_and_further_apart_and_one_that_succeeds_is_the_last(
    alice: User, ledger: Ledger
) -> None:
    """It is retried 10 times with backoff, and the instance stays `running` meanwhile."""
    alice.run("create sequence public.thrice")
    tried = "(select nextval('public.thrice') as n)"
    undo = f"insert into {ledger.table} select 'undone' from {tried} as t where 1 / ((n - 1) * (n - 2)) >= 0"
    id = alice.start(f"df.seq(df.with_undo('select 1', $u${undo}$u$), {FAILS})")
    attempts = "from df.history(%s) where event = 'step' and node_id = 4 order by number"
    wait_until(lambda: len(alice.run(f"select 1 {attempts}", [id])) == 2)
    assert alice.value("select df.status(%s)", [id]) == "running"
    end = alice.end(id)
    assert (end.status, end.error["message"], "undo" in end.error) == ("failed", DIVISION, False)
    assert alice.run(f"select attempt, outcome, error ->> 'code' {attempts}", [id]) == [
        (1, "failed", "22012"),
        (2, "failed", "22012"),
        (3, "completed", None),
    ]
    pauses = [
        seconds
        for (seconds,) in alice.run(f"select extract(epoch from at - lag(at) over (order by at)) {attempts}", [id])
    ]
    assert pauses[1] >= 0.5
    assert pauses[2] >= 1
    assert ledger.words() == ["undone"]


def test_an_undo_that_fails_is_added_to_the_error_beside_the_first_failure(alice: User) -> None:
    """If it still fails, that is added to `error` beside the first failure."""
    fut = "df.with_undo('select 1 where false' |=> 'none', 'select $none')"
    error = alice.error(f"df.seq({fut}, {FAILS})")
    assert (error["message"], error["code"]) == (DIVISION, "22012")
    assert "$none has no rows" in json.dumps(error)


def test_an_undo_is_not_stopped_by_cancellation(alice: User, ledger: Ledger) -> None:
    """Is not stopped by cancellation, and the instance stays `running` meanwhile."""
    undo = f"df.sleep(1) ~> {ledger.write('undone')}"
    id = alice.start(f"df.seq(df.with_undo({ledger.write('done')}, {undo}), {NEVER})")
    wait_until(lambda: ledger.words() and alice.value("select df.status(%s)", [id]) == "running")
    alice.run("select df.cancel(%s, 'the first')", [id])
    alice.run("select df.cancel(%s, 'the second') from pg_sleep(0.2)", [id])
    assert alice.value("select df.status(%s)", [id]) == "running"
    end = alice.end(id)
    assert (end.status, end.error["message"]) == ("cancelled", "the first")
    assert ledger.words() == ["done", "undone"]


# --- cancellation ---------------------------------------------------------------------------------------------------


def test_cancelling_an_instance_cancels_every_live_branch(new_user: Callable[[str], User]) -> None:
    """Cancelling an instance: every live branch is cancelled as above."""
    user = new_user("cancels")
    ledger = Ledger(user, "cancelled")
    id = user.start(f"df.join3({ledger.slow('a')}, {ledger.slow('b')}, df.sleep('0.5') ~> {ledger.write('c')})")
    wait_until(lambda: sleepers(user) == 2)
    user.run("select df.cancel(%s)", [id])
    assert user.end(id).status == "cancelled"
    wait_until(lambda: not sleepers(user))
    user.run("select pg_sleep(0.6)")
    assert ledger.words() == []


def test_a_cancelled_instance_is_cancelled_with_the_reason_kept(alice: User) -> None:
    """Then `cancelled`, with the reason kept."""
    id = alice.start(NEVER)
    alice.run("select df.cancel(%s, 'not needed')", [id])
    end = alice.end(id)
    assert (end.status, end.error["message"]) == ("cancelled", "not needed")


def test_cancelling_a_finished_instance_changes_nothing(alice: User) -> None:
    """Cancelling a finished instance changes nothing."""
    id = alice.start("'select 1 as n'")
    before = alice.end(id)
    alice.run("insert into df.cancellations (instance_id) values (%s)", [id])
    assert alice.result("'select 2'")
    assert alice.end(id) == before


# --- transient failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["40001", "40P01", "53300", "57P01", "57P02", "57P03"])
def test_transient_failures_are_retried_by_the_engine_without_counting_as_attempts(alice: User, code: str) -> None:
    """Transient SQL failures (serialization failure 40001, deadlock 40P01, connection lost…, 53300, 57P01-57P03) are
    retried by the engine itself, with backoff, up to 10 times, without counting as attempts.
    """
    sequence = f"public.transient_{code}"
    alice.run(f"create sequence {sequence}")
    raises = (
        f"do $d$ begin if nextval('{sequence}') < 3 then raise 'once more' using errcode = '{code}'; end if; end $d$"
    )
    assert alice.outcome(f"df.retry($s${raises}$s$, 1)").status == "completed"
    assert alice.value(f"select last_value from {sequence}") == 3


def test_a_lost_connection_is_a_transient_failure(alice: User) -> None:
    """Connection lost before the commit was sent."""
    alice.run("create sequence public.lost")
    step = "select pg_terminate_backend(pg_backend_pid()) where nextval('public.lost') < 2"
    assert alice.outcome(f"$s${step}$s$").status == "completed"
    assert alice.value("select last_value from public.lost") == 2


def test_transient_failures_are_retried_up_to_10_times(alice: User, hopeless: str) -> None:
    """With backoff, up to 10 times."""
    error = alice.end(hopeless, 60).error
    assert (error["code"], error["attempt"]) == ("40001", 1)
    assert alice.value("select last_value from public.hopeless") == 11
