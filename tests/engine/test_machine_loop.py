"""LOOP and BREAK: iterations, pacing, values, names (LANGUAGE.md sections 4, 6 and 7)."""

from __future__ import annotations

import json

import pytest

from engine.errors import MachineError
from tests.engine.machinery import (
    Run,
    brk,
    cell,
    if_,
    if_rows,
    join,
    loop,
    race,
    rows,
    run,
    seq,
    sleep,
    sql,
    wait,
)

# --- iterations -------------------------------------------------------------------------------------------------------


def test_a_conditional_loop_runs_its_body_until_the_condition_is_false() -> None:
    begun = run(loop(sql("body"), sql("more?")))
    for iteration in (1, 2, 3):
        assert begun.steps == {f"2.{iteration}"}
        begun.done(f"2.{iteration}", str(iteration)).done(f"3.{iteration}", cell(iteration < 3))
    assert begun.result == 3, "the last body's result"
    assert [step.split(":")[0] for step in begun.log] == ["2.1", "3.1", "2.2", "3.2", "2.3", "3.3"]


def test_the_body_runs_once_before_the_condition_is_asked() -> None:
    assert run(loop(sql("body"), sql("more?"))).log == ["2.1: body"]


def test_work_before_a_loop_runs_once_and_work_after_it_once() -> None:
    begun = run(seq(sql("before"), loop(sql("body"), sql("more?")), sql("after")))
    begun.done("3").done("5.1").done("6.1", cell(1)).done("5.2").done("6.2", cell(0)).done("7")
    assert begun.log == ["3: before", "5.1: body", "6.1: more?", "5.2: body", "6.2: more?", "7: after"]


def test_nested_loops_number_each_iteration_of_each() -> None:
    begun = run(loop(loop(sql("a"), sql("b")), sql("c")))
    begun.done("3.1.1").done("4.1.1", cell(1)).done("3.1.2").done("4.1.2", cell(0)).done("5.1", cell(1))
    assert begun.steps == {"3.2.1"}


def test_a_loop_inside_a_branch_runs_its_suffix_once_too() -> None:
    begun = run(join(seq(loop(sql("a"), sql("?")), sql("suffix")), sql("other")))
    begun.done("4.1").done("5.1", cell(1)).done("4.2").done("5.2", cell(0))
    assert begun.queries == {"6": "suffix", "7": "other"}


def test_loops_carry_names_from_one_iteration_to_the_next_and_out() -> None:
    begun = run(seq(sql("a", "n"), loop(sql("$n", "n"), sql("$n < 3")), sql("$n")))
    begun.done("3", cell(1))
    assert begun.queries == {"5.1": "1"}
    begun.done("5.1", cell(2)).done("6.1", cell(1))
    assert begun.queries == {"5.2": "2"}
    assert begun.done("5.2", cell(3)).done("6.2", cell(0)).queries == {"7": "3"}


def test_names_set_by_the_condition_are_carried_too() -> None:
    begun = run(seq(loop(sql("$c", "b"), sql("?", "c")), sql("$c"))).done("3.1").done("4.1", cell(1))
    assert begun.queries == {"3.2": "1"}
    assert begun.done("3.2").done("4.2", cell(0)).queries == {"5": "0"}


def test_the_loops_own_name_is_its_result() -> None:
    begun = run(seq(loop(sql("b"), sql("?"), name="l"), sql("$l"))).done("3.1", cell("last")).done("4.1", cell(0))
    assert begun.queries == {"5": "'last'"}


@pytest.mark.parametrize("step", ["2.1", "3.1"])
def test_a_failing_body_or_condition_fails_the_loop(step: str) -> None:
    begun = run(loop(sql("body"), sql("more?")))
    if step == "3.1":
        begun.done("2.1")
    begun.fail(step, "boom")
    assert begun.error["message"] == "boom"
    assert begun.error["step"] == step


def test_a_loop_fails_beyond_the_limit_of_iterations_when_there_is_one() -> None:
    begun = run(loop(sql("body"), sql("more?")), loop_iterations=2)
    begun.done("2.1").done("3.1", cell(1)).done("2.2").done("3.2", cell(1))
    assert begun.error["message"] == "loop exceeds the limit of 2 iterations (df.settings, loop_iterations)"
    assert begun.error["code"] == "54000"


def test_a_loop_may_end_with_its_last_allowed_iteration() -> None:
    begun = run(loop(sql("body"), sql("more?")), loop_iterations=1).done("2.1").done("3.1", cell(0))
    assert begun.status == "completed"


def test_completions_of_past_iterations_are_ignored_and_of_later_ones_kept() -> None:
    begun = run(loop(sql("body"), sql("more?"))).done("2.1", "1").done("3.2", cell(0))
    begun.done("3.1", cell(1)).done("2.1", "again").done("3.1", cell(0))
    assert begun.steps == {"2.2"}
    assert begun.done("2.2", "2").result == 2


def test_the_condition_of_an_iteration_that_is_not_asked_yet_is_kept() -> None:
    assert run(loop(sql("body"), sql("more?"))).done("3.1", cell(0)).done("2.1", "1").result == 1


# --- pacing -------------------------------------------------------------------------------------------------------------


def test_an_unconditional_iteration_that_waited_for_nothing_is_followed_a_second_after_its_start() -> None:
    begun = run(loop(sql("body"))).done("2.1", at=0.3)
    assert begun.steps == {"1.1"}
    assert begun.due("1.1") == 1.0
    begun.fire("1.1")
    assert begun.steps == {"2.2"}
    assert begun.done("2.2", at=1.5).due("1.2") == 2.0


def test_an_iteration_that_took_longer_than_a_second_is_followed_at_once() -> None:
    assert run(loop(sql("body"))).done("2.1", at=1.0).steps == {"2.2"}


def test_a_conditional_loop_runs_as_fast_as_it_can() -> None:
    assert run(loop(sql("body"), sql("?"))).done("2.1", at=0).done("3.1", cell(1), at=0).steps == {"2.2"}


def test_an_unconditional_loop_that_slept_is_not_held_back() -> None:
    assert run(loop(seq(sql("a"), sleep(0)))).done("3.1", at=0).fire("4.1", at=0).steps == {"3.2"}


def test_an_unconditional_loop_that_waited_for_a_signal_is_not_held_back() -> None:
    assert run(loop(wait("s"))).signal("s", at=0.1).steps == set()
    begun = run(loop(seq(wait("s"), sql("a")))).signal("s", at=0.1).done("4.1", at=0.2).signal("s", at=0.3)
    assert begun.steps == {"4.2"}


def test_a_wait_met_by_a_buffered_signal_counts_as_having_waited() -> None:
    begun = Run(loop(seq(wait("s"), sql("a")))).signal("s").signal("s").start(at=0).done("4.1", at=0.1)
    assert begun.steps == {"4.2"}


def test_a_loop_takes_buffered_signals_one_iteration_each_in_one_fold() -> None:
    begun = Run(seq(loop(seq(wait("s"), wait("go"))), sql())).signal("s").signal("go").signal("s").signal("go").start()
    assert begun.steps == set()
    assert len(begun.state.signals) == 0
    assert list(begun.state.waits) == ["4.3"]


def test_waiting_anywhere_inside_the_iteration_counts() -> None:
    body = join(sql("a"), if_(sql("?"), race(sql("b"), wait("s")), sql("c")))
    begun = run(loop(body)).done("3.1", at=0).done("9.1", cell(1), at=0).done("6.1", at=0)
    assert begun.steps == {"3.2", "9.2"}


def test_waiting_in_an_inner_loop_counts_for_the_outer_one() -> None:
    begun = run(loop(seq(loop(sleep(0), sql("?")), sql("x")))).fire("4.1.1", at=0).done("5.1.1", cell(0), at=0)
    assert begun.done("6.1", at=0).steps == {"4.2.1"}


def test_waiting_in_one_iteration_does_not_count_for_the_next() -> None:
    begun = run(loop(if_(sql("?"), sleep(0), sql("a")))).done("5.1", cell(1), at=0).fire("3.1", at=0)
    begun.done("5.2", cell(0), at=0).done("4.2", at=0)
    assert begun.steps == {"1.2"}
    assert begun.due("1.2") == 1.0


def test_an_inner_loop_that_waits_for_nothing_is_held_back_in_an_outer_one_that_waits() -> None:
    begun = run(loop(seq(sleep(0), loop(sql("a"))))).fire("3.1", at=0).done("5.1.1", at=0.5)
    assert begun.due("4.1.1") == 1.0


def test_every_is_the_distance_between_starts() -> None:
    begun = run(loop(sql("body"), every=10)).done("2.1", at=4)
    assert begun.due("1.1") == 10
    assert begun.fire("1.1").done("2.2", at=13).due("1.2") == 20


def test_every_holds_for_a_conditional_loop_and_for_one_that_waits() -> None:
    assert run(loop(sql("b"), sql("?"), every=10)).done("2.1").done("3.1", cell(1), at=4).due("1.1") == 10
    assert run(loop(sleep(1), every=2.5)).fire("2.1", at=1).due("1.1") == 2.5


def test_a_late_iteration_follows_at_once_and_missed_ones_are_not_made_up() -> None:
    begun = run(loop(sql("body"), every=10)).done("2.1", at=35)
    assert begun.steps == {"2.2"}
    assert begun.done("2.2", at=36).due("1.2") == 45


def test_every_zero_lifts_the_floor() -> None:
    assert run(loop(sql("body"), every=0)).done("2.1", at=0).steps == {"2.2"}


def test_the_distance_counts_from_when_the_timer_fired() -> None:
    begun = run(loop(sql("body"), every=10)).done("2.1", at=1).fire("1.1", at=12)
    assert begun.done("2.2", at=13).due("1.2") == 22


def test_an_iteration_after_a_pause_starts_when_the_pause_was_due_at_the_earliest() -> None:
    begun = run(loop(sql("body"), every=10)).done("2.1", at=1).fire("1.1", at=9)
    assert begun.done("2.2", at=9).due("1.2") == 20


def test_what_was_waited_for_before_a_loop_does_not_count_in_it() -> None:
    begun = Run(seq(wait("s"), loop(sql("a")))).signal("s").start(at=0).done("4.1", at=0)
    assert begun.due("3.1") == 1.0


def test_a_pause_is_ended_by_its_own_timer_only() -> None:
    begun = run(loop(sql("body"), every=10)).done("2.1", at=4)
    begun.completed("1.1", "completed", None, None, run_as=16385)
    assert begun.steps == {"1.1"}
    begun.completed("1.2", "completed", None, None, run_as=0)
    assert begun.steps == {"1.1"}, "a later pause's"
    begun.fire("1.1").completed("1.1", "completed", None, None, run_as=0)
    assert begun.steps == {"2.2"}


def test_a_pause_that_was_over_before_is_not_waited_for_again() -> None:
    begun = run(loop(sql("body"), every=10)).completed("1.1", "completed", None, None, run_as=0)
    assert begun.done("2.1", at=4).steps == {"2.2"}


def test_a_losing_loops_pause_is_dropped() -> None:
    begun = run(race(loop(sql("body"), every=10), wait("s"))).done("3.1").signal("s")
    assert begun.status == "completed"


# --- iterations that begin and end in one fold ---------------------------------------------------------------------------


def test_an_iteration_that_takes_in_no_row_pauses_so_that_no_fold_runs_for_ever() -> None:
    begun = run(loop(loop(brk())))
    assert begun.due("1.1") == 1.0
    assert begun.fire("1.1").due("1.2") == 2.0


@pytest.mark.parametrize(
    "body",
    [
        loop(join(sleep(10), brk())),
        loop(race(wait("s"), brk())),
        race(wait("s"), loop(brk())),
        race(sleep(10), loop(join(wait("s", 5), brk()))),
        loop(seq(loop(brk()), brk())),
    ],
)
def test_waits_that_are_dropped_in_the_fold_that_began_them_waited_for_nothing(body: dict[str, object]) -> None:
    begun = run(loop(body))
    assert begun.steps == {"1.1"}
    assert begun.due("1.1") == 1.0


def test_a_conditional_iteration_in_one_fold_pauses_for_no_time() -> None:
    begun = run(loop(loop(brk(1)), loop(brk(True))))
    assert begun.due("1.1") == 0
    assert begun.fire("1.1").due("1.2") == 0


def test_every_zero_does_not_make_a_fold_run_for_ever() -> None:
    begun = run(loop(loop(brk()), every=0))
    assert begun.due("1.1") == 0
    assert begun.fire("1.1").due("1.2") == 0


def test_a_branch_that_goes_on_by_itself_does_not_keep_the_others_waiting() -> None:
    begun = run(race(loop(loop(brk())), sql("a"))).done("5", "1")
    assert begun.result == 1


def test_iterations_whose_completions_were_kept_do_not_pause() -> None:
    begun = Run(race(loop(sql("a"), sql("?")), sleep(5)))
    begun.done("3.1", at=1).done("4.1", cell(1), at=1).done("3.2", '"end"', at=1).done("4.2", cell(0), at=1)
    assert begun.start(at=0).result == "end"


# --- BREAK --------------------------------------------------------------------------------------------------------------


def test_a_break_without_a_value_gives_null() -> None:
    assert run(loop(brk())).result is None


@pytest.mark.parametrize("value", [42, "text", "42", "null", [1, {"a": None}], {"k": 1.5}, False, ""])
def test_a_break_value_is_the_loops_result(value: object) -> None:
    assert run(loop(brk(value))).result == value


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("$n", 7),
        ("$n.x", 7),
        ("n is $n", "n is 7"),
        ("$t", 'it"s'),
        ({"n": "$n", "t": "$t", "deep": ["<$n>"]}, {"n": "7", "t": 'it"s', "deep": ["<7>"]}),
        ("$unknown", "$unknown"),
        ("{v}", "raw"),
        ({"v": "{v}"}, {"v": "raw"}),
        ("$1", "$1"),
    ],
)
def test_a_break_value_has_its_references_filled_in(value: object, result: object) -> None:
    begun = run(loop(seq(join(sql("a", "n"), sql("b", "t")), brk(value))), variables={"v": "raw"})
    begun.done("4.1", cell(7)).done("5.1", cell('it"s'))
    assert begun.result == result


def test_a_break_value_that_cannot_be_filled_in_fails_the_loop() -> None:
    begun = run(loop(seq(sql("a", "n"), brk("$n")))).done("3.1", rows())
    assert begun.error["message"] == "$n has no rows — query returned zero results"


def test_a_break_ends_the_innermost_loop_only() -> None:
    begun = run(loop(seq(loop(brk()), sql("outer goes on"))))
    assert begun.steps == {"5.1"}


def test_a_break_in_a_loops_condition_ends_that_loop() -> None:
    begun = run(seq(loop(sql("body"), brk("out")), sql("$1"), sql())).done("4.1")
    assert begun.log[-1] == "6: $1"


def test_names_set_before_a_break_are_visible_after_the_loop() -> None:
    begun = run(seq(loop(seq(sql("a", "x"), if_(sql("?"), brk(), sql())), name="l"), sql("$x, $l?")))
    begun.done("4.1", cell(5)).done("8.1", cell(1))
    assert list(begun.queries.values()) == ["5, NULL"]


def test_what_follows_a_break_in_its_sequence_does_not_run() -> None:
    assert run(seq(loop(seq(brk(1), sql("never"))), sql("after"))).log == ["6: after"]


def test_a_big_break_value_keeps_its_digits() -> None:
    query = '{"break_value":123456789012345678901234567890.10}'
    begun = run(loop({"node_type": "BREAK", "query": query}))
    assert begun.finish is not None
    assert begun.finish.result == "123456789012345678901234567890.10"


# --- keys that no loop asks for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["1", "1.1"])
def test_an_engines_completion_for_a_loop_that_is_not_pausing_is_a_bug_or_for_later(step: str) -> None:
    begun = run(loop(sql("body"), every=5))
    state = begun.state
    if step == "1":
        with pytest.raises(MachineError):
            begun.completed(step, "completed", None, None, run_as=0)
        assert begun.state is state
    else:
        begun.completed(step, "completed", None, None, run_as=0)
        assert list(begun.state.stash) == [("1.1", 1)]


@pytest.mark.parametrize("step", ["2", "2.0", "2.1.1", "3", "2.1.5"])
def test_a_key_with_the_wrong_number_of_indices_is_nobodys(step: str) -> None:
    begun = run(loop(sql("body"), sql("?"))).done(step)
    assert begun.steps == {"2.1"}
    assert begun.state.stash == {}


def test_if_rows_in_a_loop_asks_the_names_as_they_are_now() -> None:
    begun = run(loop(seq(sql("q", "found"), if_rows("found", sql("work"), brk("empty")))))
    begun.done("3.1", rows({"a": 1})).done("5.1", at=2).done("3.2", json.dumps({"rows": [], "columns": ["a"]}))
    assert begun.result == "empty"
