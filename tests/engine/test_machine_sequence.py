"""SQL and THEN: steps, their results and names, and how an instance ends (LANGUAGE.md sections 4 to 6)."""

from __future__ import annotations

import json

import pytest

from engine import machine
from engine.effects import Execute, Finish
from engine.errors import MachineError
from engine.events import Completed
from engine.limits import ERROR_MESSAGE_CHARACTERS
from tests.engine.machinery import (
    ROLE,
    Run,
    cell,
    join,
    loop,
    map_,
    named,
    node,
    race,
    rows,
    run,
    seq,
    sleep,
    sql,
    wait,
)


def test_a_statement_is_asked_for_with_its_cause_when_the_instance_begins() -> None:
    begun = run("select 1")
    assert begun.open == {"1": Execute(step="1", node=1, query="select 1", shown=False, cause="e1")}


def test_the_result_of_the_only_step_is_the_instances() -> None:
    begun = run("select 1").done("1", cell(1))
    assert begun.finish == Finish("completed", cell(1), None)


def test_a_step_without_a_result_gives_null() -> None:
    assert run("select 1").completed("1", "completed", None, None).result is None


def test_the_result_stays_the_text_that_the_database_made() -> None:
    text = '{"rows":[{"b":1.500,"a":1e400}],"row_count":1}'
    finish = run("select 1").done("1", text).finish
    assert finish is not None
    assert finish.result == text


def test_a_sequence_runs_one_step_after_the_other_each_caused_by_the_last() -> None:
    begun = run(seq(sql("a"), sql("b"), sql("c")))
    assert begun.queries == {"3": "a"}
    begun.done("3")
    assert begun.queries == {"4": "b"}
    assert begun.open["4"].cause == "e2"
    assert begun.done("4").done("5", cell("last")).result == {"rows": [{"x": "last"}], "row_count": 1}


def test_a_sequence_that_nests_to_the_right_runs_in_the_same_order() -> None:
    begun = run(node("THEN", left_node=sql("a"), right_node=seq(sql("b"), sql("c"))))
    assert begun.log == ["2: a"]
    assert begun.done("2").done("4").done("5").log == ["2: a", "4: b", "5: c"]


def test_a_chain_of_ten_thousand_nodes_is_folded_without_recursion() -> None:
    begun = run(seq(*(sql() for _ in range(5000))))
    first = 5000
    for step in range(first, first + 3):
        begun.done(str(step))
    assert begun.steps == {str(first + 3)}


def test_names_are_passed_on_along_a_sequence() -> None:
    begun = run(seq(sql("a", "x"), sql("b"), sql("select $x"))).done("3", cell("it's")).done("4")
    assert begun.queries == {"5": "select 'it''s'"}
    assert begun.open["5"].shown


def test_the_name_of_an_inner_sequence_is_bound_to_its_last_result() -> None:
    begun = run(seq(named(seq(sql("a", "first"), sql("b", "second")), "both"), sql("select $first, $second, $both")))
    begun.done("3", cell(1)).done("4", cell(2))
    assert begun.queries == {"5": "select 1, 2, 2"}


def test_the_name_of_the_whole_sequence_is_visible_after_it() -> None:
    chain = node("THEN", left_node=sql("a"), right_node=named(seq(sql("b"), sql("c")), "right"))
    begun = run(seq(chain, sql("select $right"))).done("3").done("5").done("6", cell(3))
    assert begun.queries == {"7": "select 3"}


def test_a_name_bound_again_has_its_later_value() -> None:
    begun = run(seq(sql("a", "x"), sql("b", "x"), sql("select $x"))).done("3", cell(1)).done("4", cell(2))
    assert begun.queries == {"5": "select 2"}


def test_input_is_visible_until_a_result_takes_its_name() -> None:
    begun = run(seq(sql("select $input", "input"), sql("select $input")), input_='"given"')
    assert begun.queries == {"2": "select '\"given\"'"}
    assert begun.done("2", cell("taken")).queries == {"3": "select 'taken'"}


def test_variables_are_filled_in_raw() -> None:
    begun = run("select * from {tbl} -- {sys_instance_id} {other}", variables={"tbl": "orders"})
    assert begun.queries == {"1": "select * from orders -- order-7 {other}"}


def test_a_failed_step_fails_the_instance_and_what_is_right_of_it_does_not_run() -> None:
    begun = run(seq(sql("a"), sql("b"))).fail("2", "duplicate key", "23505")
    assert begun.status == "failed"
    assert begun.error == {"message": "duplicate key", "code": "23505", "node": 2, "step": "2", "attempt": 1}
    assert begun.log == ["2: a"]


def test_detail_hint_and_position_of_the_servers_error_are_kept() -> None:
    error = {"message": "m", "code": "42601", "detail": "d", "hint": "h", "position": 3, "internal": "not kept"}
    begun = run("select").completed("1", "failed", None, json.dumps(error))
    assert begun.error == {
        "message": "m", "code": "42601", "node": 1, "step": "1", "attempt": 1, "detail": "d", "hint": "h", "position": 3,
    }  # fmt: skip


@pytest.mark.parametrize("error", [None, "", "[]", '"text"', "{", '{"message":1,"code":2}', "[" * 100_000])
def test_whatever_stands_in_an_error_a_failure_comes_of_it(error: str | None) -> None:
    begun = run("select 1").completed("1", "failed", None, error)
    assert begun.status == "failed"
    assert begun.error["code"] == "XX000"
    assert begun.error["message"]


def test_a_long_error_is_cut() -> None:
    begun = run("select 1").fail("1", "x" * 100_000)
    assert len(begun.error["message"]) == ERROR_MESSAGE_CHARACTERS
    assert begun.error["message"].endswith("…")


def test_a_step_that_somebody_cancelled_has_failed() -> None:
    begun = run("select 1").stopped("1")
    assert begun.status == "failed"
    assert begun.error["code"] == "57014"


def test_a_reference_that_cannot_be_filled_in_fails_its_node_and_nothing_is_asked_for() -> None:
    begun = run(seq(sql("a", "x"), sql("select $x"))).done("2", rows())
    assert begun.error == {
        "message": "$x has no rows — query returned zero results",
        "code": "substitution",
        "node": 3,
        "step": "3",
        "attempt": 1,
    }
    assert begun.log == ["2: a"]


def test_a_node_that_cannot_begin_fails_an_instance_in_the_fold_that_starts_it() -> None:
    begun = run(sql("select $input.no"))
    assert begun.status == "failed"
    assert "result has no field 'no'" in begun.error["message"]


# --- completions that do not count ------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_as", [machine.ENGINE, ROLE + 1])
def test_a_completion_under_another_role_than_the_nodes_is_ignored(run_as: int) -> None:
    begun = run("select 1").completed("1", "completed", cell(1), None, run_as=run_as)
    assert begun.steps == {"1"}
    assert begun.done("1", cell(2)).result == {"rows": [{"x": 2}], "row_count": 1}


def test_a_forged_timer_is_ignored() -> None:
    begun = run(seq(sleep(30), sql("b"))).completed("2", "completed", "null", None, run_as=ROLE)
    assert begun.steps == {"2"}


def test_a_forged_answer_does_not_release_a_key_that_is_drained() -> None:
    begun = run("select 1").cancel()
    begun.completed("1", "cancelled", None, None, run_as=ROLE + 1)
    assert begun.status == "running"
    assert begun.stopped("1").status == "cancelled"


def test_what_is_ignored_does_not_move_the_instances_time() -> None:
    begun = run(seq(sql("a"), sleep(10)))
    begun.completed("2", "completed", cell(1), None, run_as=ROLE + 1, at=500)
    begun.done("2", at=5)
    assert begun.due("3") == 15


def test_a_second_completion_of_a_step_is_ignored() -> None:
    begun = run(seq(sql("a", "x"), sql("select $x"))).done("2", cell(1))
    begun.done("2", cell(2))
    assert begun.queries == {"3": "select 1"}


def test_a_completion_of_a_step_that_is_past_is_not_kept() -> None:
    begun = run(seq(sql("a"), seq(sql("b"), sql("c")))).done("2").done("2").done("4").done("2").done("4")
    assert begun.state.stash == {}


def test_an_attempt_other_than_the_first_is_ignored() -> None:
    begun = run("select 1").completed("1", "completed", cell(1), None, attempt=2)
    assert begun.steps == {"1"}


@pytest.mark.parametrize(
    "step",
    ["", "0", "1.", ".1", "01", "1.01", "1.0", "-1", "1e3", "99", "1.1", "1.1.1", "²", "\uff11", "9" * 400, "1 "],
)
def test_a_key_that_is_nobodys_changes_nothing(step: str) -> None:
    begun = run("select 1").done(step)
    assert begun.steps == {"1"}
    assert begun.done("1", cell(1)).status == "completed"


def test_completions_after_the_end_change_nothing() -> None:
    begun = run("select 1").done("1", cell(1))
    state = begun.state
    late = Completed("late", 0, ROLE, "1", 1, "failed", None, None)
    assert machine.fold(begun.subject, state, late) == (state, ())


# --- completions that come early (a table scan does not know the order of the log) --------------------------------------


def test_a_completion_for_a_step_not_reached_yet_is_kept_and_the_step_is_not_asked_for() -> None:
    begun = run(seq(sql("a"), sql("b", "x"), sql("select $x"))).done("4", cell("early"))
    assert begun.steps == {"3"}
    begun.done("3")
    assert begun.log == ["3: a", "5: select 'early'"]


def test_completions_before_the_start_are_kept() -> None:
    begun = Run(seq(sql("a"), sql("b"), sql("c"))).done("3").done("4")
    assert begun.start().steps == {"5"}


def test_a_whole_history_before_the_start_ends_in_one_fold() -> None:
    begun = Run(seq(sql("a"), sleep(30), sql("c")))
    begun.done("5", cell("end"))
    begun.completed("4", "completed", "null", None, run_as=machine.ENGINE)
    assert begun.done("3").start().result == {"rows": [{"x": "end"}], "row_count": 1}
    assert begun.log == []


def test_what_was_kept_causes_what_follows_it() -> None:
    begun = run(seq(sql("a"), sql("b"), sql("c"))).done("4").done("3")
    assert begun.open["5"].cause == "e2"


def test_a_deadline_after_a_kept_completion_counts_from_its_time_and_others_do_not() -> None:
    begun = Run(join(seq(sql("a"), sleep(10)), sleep(10)))
    begun.done("3", at=5).start(at=0)
    assert begun.due("4") == 15
    assert begun.due("5") == 10


def test_a_kept_completion_moves_time_only_when_it_is_delivered() -> None:
    begun = run(seq(sql("a"), sleep(10), sql("b"))).done("5", at=100)
    assert begun.done("3", at=1).due("4") == 11


def test_the_first_of_two_completions_kept_for_one_step_counts() -> None:
    begun = run(seq(sql("a"), sql("b"))).done("3", cell(1)).done("3", cell(2)).done("2")
    assert begun.result == {"rows": [{"x": 1}], "row_count": 1}


def test_more_kept_completions_than_the_limit_are_an_error_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "STASH_COMPLETIONS", 2)
    begun = run(loop(sql("a"))).done("2.5").done("2.6")
    state = begun.state
    with pytest.raises(MachineError, match="more than 2 completions"):
        begun.done("2.7")
    assert begun.state is state


def test_a_forged_completion_under_another_role_is_not_kept() -> None:
    begun = run(seq(sql("a"), sql("b"))).completed("3", "completed", cell(1), None, run_as=ROLE + 1)
    assert begun.done("2").steps == {"3"}


# --- time ---------------------------------------------------------------------------------------------------------------


def test_the_instances_time_never_goes_back_though_commit_times_do() -> None:
    begun = run(seq(sql("a"), sql("b"), sleep(10))).done("3", at=100).done("4", at=50)
    assert begun.due("5") == 110


def test_a_timer_that_fired_sets_the_time_to_its_due_time_at_least() -> None:
    begun = run(seq(sleep(30), sleep(10))).fire("2", at=29)
    assert begun.due("3") == 40


def test_a_late_timer_sets_the_time_to_its_commit() -> None:
    begun = run(seq(sleep(30), sleep(10))).fire("2", at=90)
    assert begun.due("3") == 100


# --- cancellation -----------------------------------------------------------------------------------------------------


def test_cancelling_stops_what_is_in_flight_and_ends_when_every_key_is_answered() -> None:
    begun = run(join(sql("a"), seq(sql("b"), sql("c")), sleep(5), wait("s", 5)))
    begun.cancel("changed my mind")
    assert set(begun.draining) == {"2", "4"}
    assert begun.steps == set()
    begun.stopped("2")
    assert begun.status == "running"
    begun.done("4")
    assert begun.status == "cancelled"
    assert begun.error == {"message": "changed my mind", "code": "cancelled", "node": 1, "step": "1", "attempt": 1}
    assert begun.log == ["2: a", "4: b"]


def test_cancelling_an_instance_that_only_waits_ends_it_at_once() -> None:
    assert run(wait("s", 60)).cancel().status == "cancelled"


def test_a_second_cancellation_changes_nothing() -> None:
    begun = run("select 1").cancel("first").cancel("second").stopped("1")
    assert begun.error["message"] == "first"


def test_a_cancellation_before_the_start_lets_nothing_run() -> None:
    begun = Run("select 1").cancel("never mind").cancel("again").start()
    assert begun.status == "cancelled"
    assert begun.error["message"] == "never mind"
    assert begun.log == []


def test_cancelling_while_a_loser_is_drained_keeps_the_result() -> None:
    begun = run(race(sql("a"), sql("b"))).done("2", cell(1)).cancel()
    assert begun.status == "running"
    assert begun.stopped("3").result == {"rows": [{"x": 1}], "row_count": 1}


def test_a_step_that_completed_before_its_cancellation_could_take_the_key_is_over_too() -> None:
    assert run("select 1").cancel().done("1").status == "cancelled"


def test_what_is_stopped_names_the_cancellation_as_its_cause() -> None:
    begun = run("select 1").cancel("why")
    assert begun.draining["1"].cause == "e2"


def test_signals_and_completions_while_ending_change_nothing() -> None:
    begun = run(join(sql("a"), sql("b"))).cancel().signal("s").stopped("2").signal("s").stopped("3")
    assert begun.status == "cancelled"


def test_a_completion_for_the_future_that_comes_while_ending_is_ignored() -> None:
    begun = run(seq(sql("a"), sql("b"))).cancel()
    state = begun.state
    begun.done("3")
    assert begun.state.stash == {}
    assert state.draining == begun.state.draining


@pytest.mark.parametrize("index", [1, 2])
def test_what_brought_the_items_of_a_map_is_past_once_they_are_there_and_is_not_taken_for_a_rows(index: int) -> None:
    """A scan brings it again: a loop's key has as many indices as a row's."""
    graph = map_(loop(sql("items"), sql("more"), name="items"), sleep(60), parallel=1)
    begun = run(graph).done("3.1", rows({"i": 1}, {"i": 2})).done("4.1", rows({"x": False}))
    assert list(begun.timers) == ["5.1"], "the first row sleeps, the second has not begun"
    folds = begun.state.folds
    begun.done(f"3.{index}").done(f"4.{index}")
    assert begun.state.folds == folds
    assert begun.state.stash == {}
    assert begun.finish is None
