"""RETRY, TIMEOUT, CATCH and UNDO: alone, in one another, and around everything else."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from engine.events import Completed
from engine.limits import UNDO_ATTEMPTS
from tests.engine.machinery import (
    ROLE,
    Json,
    Run,
    brk,
    catch,
    cell,
    child,
    join,
    loop,
    map_,
    named,
    race,
    retry,
    rows,
    run,
    seq,
    sleep,
    sql,
    timeout,
    undo,
    wait,
)


def paid(what: str = "a") -> Json:
    return undo(sql(f"do {what}"), sql(f"undo {what}"))


# --- catch --------------------------------------------------------------------------------------------------------------


def test_a_catch_that_completes_is_as_if_it_were_not_there() -> None:
    begun = run(seq(catch(sql("a", "x"), sql("handler")), sql("select $x"))).done("3", cell(1))
    assert begun.queries == {"5": "select 1"}


def test_a_handler_runs_with_the_error() -> None:
    begun = run(catch(sql("a"), sql("select $error.code, $error.attempt"))).fail("2", code="23505")
    assert begun.queries == {"3": "select '23505', 1"}
    assert begun.done("3", cell(7)).result["rows"] == [{"x": 7}]


def test_the_error_ends_with_the_handler_and_what_the_handler_named_stays() -> None:
    begun = run(seq(catch(sql("a"), sql("h", "x")), sql("select $x, '$error'"))).fail("3").done("4", cell(1))
    assert begun.queries == {"5": "select 1, '$error'"}


def test_a_failing_handler_fails_the_node() -> None:
    assert run(catch(sql("a"), sql("h"))).fail("2", "first").fail("3", "second").error["message"] == "second"


def test_a_handler_waits_until_nothing_of_the_node_can_commit() -> None:
    begun = run(catch(timeout(sql("slow"), 5), sql("h"))).fire("2")
    assert begun.draining.keys() == {"3"}
    assert begun.open == {}
    assert begun.stopped("3").open.keys() == {"4"}


def test_a_break_passes_through_a_catch() -> None:
    assert run(loop(catch(brk(5), sql("h")))).result == 5


# --- retry --------------------------------------------------------------------------------------------------------------


def test_each_try_has_fresh_keys_and_the_names_from_before() -> None:
    begun = run(retry(seq(sql("a", "x"), sql("b $x"))))
    begun.done("3.1", cell(1)).fail("4.1")
    assert begun.steps == {"1.1"}
    begun.fire("1.1")
    assert begun.queries == {"3.2": "a"}
    assert begun.done("3.2", cell(2)).queries == {"4.2": "b 2"}
    assert begun.done("4.2", cell(3)).result["rows"] == [{"x": 3}]


def test_a_retry_gives_up_with_the_last_failure_and_how_many_tries_there_were() -> None:
    begun = run(retry(sql("a"), 2)).fail("2.1", "one").fire("1.1").fail("2.2", "two")
    assert begun.error["message"] == "two"
    assert begun.error["attempt"] == 2


def test_the_delay_grows_and_is_the_same_in_every_replay() -> None:
    begun = run(retry(sql("a"), 10, initial=1, backoff=3))
    for attempt, wanted in enumerate((1, 3, 9, 27), 1):
        before = begun.at_us
        begun.fail(f"2.{attempt}")
        seconds = (begun.timers[f"1.{attempt}"].due_us - before) / 1_000_000
        assert 0.9 * wanted <= seconds <= wanted
        begun.fire(f"1.{attempt}")


def test_a_delay_beyond_all_numbers_is_the_longest() -> None:
    begun = run(retry(sql("a"), 3, initial=1e9, backoff=1000)).fail("2.1")
    assert begun.due("1.1") <= 300
    assert begun.fire("1.1").fail("2.2").steps == {"1.2"}


def test_the_next_try_waits_until_the_last_can_commit_nothing() -> None:
    begun = run(retry(race(sql("a"), sql("b")))).fail("3.1")
    assert begun.steps == set()
    assert begun.draining.keys() == {"4.1"}
    assert begun.done("4.1").steps == {"1.1"}


def test_loops_begin_anew_in_each_try() -> None:
    begun = run(retry(loop(sql("a"), sql("?"))))
    begun.done("3.1.1").done("4.1.1", cell(True)).fail("3.1.2").fire("1.1")
    assert begun.steps == {"3.2.1"}


def test_a_signal_taken_stays_taken() -> None:
    begun = run(retry(seq(wait("go"), sql("a")))).signal("go").fail("4.1").fire("1.1")
    assert begun.steps == set()
    assert begun.signal("go").steps == {"4.2"}


def test_a_cancelled_retry_drops_its_rest() -> None:
    begun = run(retry(sql("a"))).fail("2.1")
    assert begun.cancel().status == "cancelled"
    assert begun.steps == set()


def test_a_break_passes_through_a_retry() -> None:
    assert run(loop(retry(brk("over")))).result == "over"


# --- timeout ------------------------------------------------------------------------------------------------------------


def test_a_timeout_stops_what_is_in_flight_and_fails_with_its_code() -> None:
    begun = run(timeout(join(sql("a"), sleep(100)), 10)).fire("1")
    assert begun.draining.keys() == {"3"}
    assert begun.timers == {}
    begun.stopped("3")
    assert (begun.error["code"], begun.error["node"], begun.error["step"]) == ("timeout", 1, "1")


def test_a_node_that_ends_in_time_drops_the_timer() -> None:
    begun = run(timeout(sql("a"), 10)).done("2", cell(1))
    assert begun.result["rows"] == [{"x": 1}]
    assert begun.timers == {}


def test_the_earlier_of_two_timeouts_counts() -> None:
    begun = run(timeout(catch(timeout(sleep(100), 20), sql("h")), 10)).fire("1")
    assert begun.error["code"] == "timeout"
    begun = run(timeout(catch(timeout(sleep(100), 5), sql("h")), 10)).fire("3")
    assert begun.queries == {"5": "h"}


# --- undo ---------------------------------------------------------------------------------------------------------------


def test_what_completed_is_undone_in_reverse_order() -> None:
    begun = run(seq(paid("a"), paid("b"), sql("c"))).done("4").done("7").fail("9")
    assert begun.queries == {"8": "undo b"}
    assert begun.done("8").queries == {"5": "undo a"}
    begun.done("5")
    assert begun.status == "failed"
    assert begun.error["node"] == 9


def test_what_did_not_complete_is_not_undone() -> None:
    assert run(seq(paid("a"), paid("b"))).done("3").fail("6").done("4").status == "failed"


def test_nothing_is_undone_when_all_goes_well() -> None:
    begun = run(seq(paid("a"), sql("b"))).done("3").done("5")
    assert begun.status == "completed"
    assert len(begun.log) == 2


def test_an_undo_sees_the_names_of_its_moment_and_the_error() -> None:
    begun = run(seq(undo(sql("do", "x"), sql("undo $x, $error.message")), sql("again", "x"), sql("c")))
    begun.done("4", cell(1)).done("6", cell(2)).fail("7", "it's over")
    assert begun.queries == {"5": "undo 1, 'it''s over'"}


def test_a_cancellation_undoes_and_does_not_stop_an_undo() -> None:
    begun = run(seq(paid("a"), sleep(100))).done("3").cancel("enough")
    assert begun.queries == {"4": "undo a"}
    assert begun.status == "running"
    begun.cancel("again")
    assert begun.queries == {"4": "undo a"}
    begun.done("4")
    assert begun.status == "cancelled"
    assert begun.error["message"] == "enough"


def test_a_success_that_won_its_key_against_the_cancellation_is_undone() -> None:
    begun = run(seq(paid("a"), sql("b"))).cancel()
    assert begun.draining.keys() == {"3"}
    begun.done("3")
    assert begun.queries == {"4": "undo a"}
    assert begun.done("4").status == "cancelled"


def test_a_step_that_was_stopped_is_not_undone() -> None:
    assert run(seq(paid("a"), sql("b"))).cancel().stopped("3").status == "cancelled"


def test_of_an_abandoned_sequence_only_the_last_step_completes_it() -> None:
    graph = undo(seq(sql("a"), sql("b")), sql("undo"))
    assert run(graph).cancel().done("3").status == "cancelled"
    begun = run(graph).done("3").cancel().done("4")
    assert begun.queries == {"5": "undo"}


def test_an_undo_is_retried_under_its_own_step_and_then_reported_beside_the_failure() -> None:
    begun = run(seq(paid("a"), paid("b"), sql("c"))).done("4").done("7").fail("9", "first")
    for attempt in range(1, UNDO_ATTEMPTS):
        assert begun.open["8"].attempt == attempt
        begun.fail("8", "no undo").fire(f"8.{attempt}")
    begun.fail("8", "no undo")
    assert begun.queries == {"5": "undo a"}
    begun.done("5")
    assert begun.error["message"] == "first"
    (reported,) = begun.error["undo"]
    assert (reported["message"], reported["node"], reported["attempt"]) == ("no undo", 8, UNDO_ATTEMPTS)


def test_of_an_undo_only_the_attempt_that_runs_is_listened_to() -> None:
    begun = run(seq(paid("a"), sql("c"))).done("3").fail("5")
    begun.fold(Completed("x", begun.at_us, ROLE, "4", 2, "completed", "{}", None))
    assert begun.status == "running"
    begun.fail("4").fire("4.1")
    assert begun.status == "failed", "the second attempt had ended already"


def test_what_was_told_to_stop_is_not_told_again_when_another_won() -> None:
    begun = run(undo(race(sql("a"), sql("b")), sql("undo"))).cancel().done("3")
    assert begun.draining.keys() == {"4"}
    begun.stopped("4")
    assert begun.queries == {"5": "undo"}


def test_steps_of_an_undo_that_completed_are_not_repeated() -> None:
    begun = run(seq(undo(sql("do"), seq(sql("one"), sql("two"))), sql("c"))).done("3").fail("7").done("5").fail("6")
    begun.fire("6.1")
    assert begun.queries == {"6": "two"}
    assert begun.done("6").status == "failed"


def test_a_catch_undoes_its_own_before_the_handler_and_nothing_from_before() -> None:
    begun = run(seq(paid("a"), catch(seq(paid("b"), sql("c")), sql("h")), sql("d")))
    begun.done("4").done("9").fail("11")
    assert begun.queries == {"10": "undo b"}
    assert begun.done("10").queries == {"12": "h"}
    assert begun.done("12").queries == {"13": "d"}
    begun.fail("13")
    assert begun.queries == {"5": "undo a"}


def test_what_a_catch_completed_with_is_owed_by_the_one_around_it() -> None:
    begun = run(seq(catch(paid("a"), sql("h")), sql("b"))).done("4").fail("7")
    assert begun.queries == {"5": "undo a"}


def test_a_retry_undoes_each_try_before_the_next() -> None:
    begun = run(retry(seq(paid("a"), sql("b")))).done("4.1").fail("6.1", "try")
    assert begun.queries == {"5.1": "undo a"}
    assert begun.timers == {}
    begun.done("5.1").fire("1.1").done("4.2")
    assert begun.done("6.2").status == "completed"


def test_a_try_that_could_not_be_undone_is_the_last() -> None:
    begun = run(retry(seq(paid("a"), sql("b")))).done("4.1").fail("6.1", "try")
    for attempt in range(1, UNDO_ATTEMPTS):
        begun.fail("5.1").fire(f"5.1.{attempt}")
    begun.fail("5.1", "stuck")
    assert begun.status == "failed"
    assert begun.error["message"] == "try"
    assert [u["message"] for u in begun.error["undo"]] == ["stuck"]


def test_a_branch_that_loses_is_undone_beside_the_winner() -> None:
    begun = run(seq(race(seq(paid("a"), sleep(100)), wait("go")), sql("after"))).done("5").signal("go")
    assert begun.queries == {"6": "undo a", "9": "after"}
    begun.done("9")
    assert begun.status == "running"
    assert begun.done("6").status == "completed"


def test_an_undo_of_a_loser_that_fails_for_good_is_not_passed_over() -> None:
    begun = run(race(seq(paid("a"), sleep(100)), wait("go"))).done("4").signal("go")
    for attempt in range(1, UNDO_ATTEMPTS):
        begun.fail("5", "stuck").fire(f"5.{attempt}")
    begun.fail("5", "stuck")
    assert begun.status == "completed", "what won happened"
    assert begun.error["message"] == "an undo failed: stuck"


def test_a_completed_iteration_owes_nothing() -> None:
    begun = run(seq(loop(paid("a"), sql("?")), sql("b")))
    begun.done("4.1").done("6.1", cell(True)).done("4.2").done("6.2", cell(False)).fail("7")
    assert begun.status == "failed"
    begun = run(loop(seq(paid("a"), sql("?"))))
    begun.done("4.1").done("6.1").fire("1.1").done("4.2").fail("6.2")
    assert begun.queries == {"5.2": "undo a"}


def test_a_row_of_a_map_that_fails_undoes_its_own() -> None:
    begun = run(catch(map_(sql("items"), seq(paid("$item"), sql("b"))), sql("h")))
    begun.done("3", rows({"i": 1}, {"i": 2})).done("6.1").done("6.2").fail("8.1", "x")
    assert begun.queries == {"7.1": "undo 1", "8.2": "b"}
    begun.done("8.2")
    assert begun.queries == {"7.1": "undo 1"}
    begun.done("7.1")
    # what the other row owes has passed to the catch
    assert begun.queries == {"7.2": "undo 2"}
    assert begun.done("7.2").queries == {"9": "h"}


def test_an_undo_may_be_any_graph() -> None:
    graph = undo(sql("do"), race(seq(sql("one"), paid("inner"), sql("two")), wait("skip")))
    begun = run(seq(graph, sql("c"))).done("3").fail("13").done("7").done("9")
    assert begun.done("11").status == "failed"
    begun = run(seq(graph, sql("c"))).done("3").fail("13").done("7").done("9").signal("skip")
    assert begun.draining.keys() == {"11"}
    begun.stopped("11")
    assert begun.queries == {"10": "undo inner"}
    assert begun.done("10").status == "failed"


def test_a_child_that_won_against_its_cancellation_is_undone() -> None:
    begun = run(undo(child(sql("c")), sql("undo"))).cancel()
    assert begun.draining.keys() == {"2"}
    begun.ended("2", "completed", 5)
    assert begun.queries == {"4": "undo"}


WRAPS: list[Callable[[Json], Json]] = [
    lambda g: g,
    lambda g: join(g, sql("z")),
    lambda g: timeout(g, 50),
    lambda g: catch(g, sql("h")),
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_owed_undos_run_exactly_once_wherever_they_stand(wrap: Callable[[Json], Json]) -> None:
    begun = run(wrap(seq(paid("a"), paid("b"), sleep(10))))
    for _ in range(6):
        for step, effect in list(begun.open.items()):
            if effect.query.startswith("do "):
                begun.done(step)
    begun.cancel()
    order = []
    for _ in range(10):
        for step, effect in list(begun.open.items()):
            order.append(effect.query)
            begun.done(step)
        for step in list(begun.draining):
            begun.stopped(step)
    assert order == ["undo b", "undo a"]
    assert begun.status == "cancelled"


def test_a_name_set_inside_is_visible_outside() -> None:
    wraps: list[Callable[[Json], Json]] = [*WRAPS, retry, lambda g: undo(g, sql("u"))]
    for wrapped in [wrap for i, wrap in enumerate(wraps) if i != 1]:
        begun = run(seq(wrapped(named(sql("a"), "x")), sql("select $x")))
        (step,) = begun.open
        begun.done(step, cell(3))
        assert list(begun.queries.values()) == ["select 3"], json.dumps(begun.subject.graph.text(1))


def test_an_instance_that_never_began_and_is_cancelled_owes_nothing() -> None:
    assert Run(paid()).cancel().start().status == "cancelled"


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("around", [lambda body: retry(body, 1), lambda body: catch(body, sql("handler"))])
def test_what_an_undo_has_to_undo_itself_is_undone(around: Callable[[Json], Json], early: bool) -> None:
    """The frame around it settles meanwhile, and knows nothing of the step that runs."""
    inside = seq(undo(sql("book"), seq(sql("unbook"), sql("and pay back"))), sql("tell"))
    found = run(seq(undo(sql("do"), around(inside)), sql("fails")))
    steps = {node.query: str(node.number) for node in found.subject.graph.nodes}

    def key(query: str) -> str:
        return next(step for step, asked in found.queries.items() if asked == query)

    found.done(key("do"))
    found.fail(key("fails"))
    found.done(key("book"))
    if early:  # a scan of the table does not know the order
        found.done(f"{steps['and pay back']}{'.1' if around(sql())['node_type'] == 'RETRY' else ''}")
    for _ in range(10):  # every statement of an undo is tried ten times
        found.fail(key("tell"))
        for timer in [*found.timers]:
            found.fire(timer)
    assert [*found.queries.values()] == ["unbook"]
    found.done(key("unbook"))
    if not early:
        found.done(key("and pay back"))
    if found.open:
        found.done(key("handler"))
    assert found.status == "failed"
    assert found.error["message"] == "boom"
