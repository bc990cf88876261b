"""JOIN, RACE and IF: scopes, order, failures, losers (LANGUAGE.md sections 4 to 6)."""

from __future__ import annotations

from time import perf_counter

import pytest

from engine import machine
from engine.events import CancelRequested
from tests.engine.machinery import (
    Run,
    brk,
    cell,
    if_,
    if_rows,
    join,
    loop,
    named,
    race,
    rows,
    run,
    seq,
    sleep,
    sql,
    wait,
)

# --- JOIN -------------------------------------------------------------------------------------------------------------


def test_all_branches_of_a_join_begin_at_once_in_order() -> None:
    assert run(join(sql("a"), sql("b"), sql("c"))).log == ["2: a", "3: b", "4: c"]


def test_a_join_gives_the_results_in_branch_order_whatever_order_they_came_in() -> None:
    begun = run(join(sql("a"), sql("b"), sql("c"))).done("4", cell(3)).done("2", cell(1)).done("3", cell(2))
    assert begun.result == [{"rows": [{"x": n}], "row_count": 1} for n in (1, 2, 3)]


def test_a_join_of_one_gives_an_array_of_one() -> None:
    assert run(join(sql("a"))).done("2", "1").result == [1]


def test_a_join_ends_in_the_fold_that_begins_it_when_nothing_in_it_waits() -> None:
    begun = Run(join(wait("a"), wait("b"))).signal("b", "2").signal("a", "1").start()
    assert [part["data"] for part in begun.result] == [1, 2]


def test_branches_start_from_a_copy_and_do_not_see_what_others_set() -> None:
    begun = run(
        seq(sql("a", "x"), join(seq(sql("b", "x"), sql("select $x, $y")), seq(sql("c", "y"), sql("select $x, $y"))))
    )
    begun.done("2", cell("outer")).done("5", cell("left")).done("8", cell("right"))
    assert begun.queries == {"6": "select 'left', $y", "9": "select 'outer', 'right'"}


def test_branches_merge_back_only_the_names_they_set_in_branch_order() -> None:
    begun = run(
        seq(
            seq(sql("a", "kept"), sql("b", "x")),
            seq(join(sql("c", "x"), sql("d", "x"), sql("e", "z"), sql("f")), sql("$kept, $x, $z")),
        )
    )
    begun.done("3", cell(0)).done("4", cell("outer"))
    begun.done("8", cell("second")).done("10").done("7", cell("first")).done("9", cell("z"))
    assert list(begun.queries.values()) == ["0, 'second', 'z'"]


def test_a_branch_that_found_a_name_and_left_it_does_not_undo_what_another_set() -> None:
    begun = run(seq(sql("a", "x"), join(sql("b", "x"), sql("select $x")), sql("$x")))
    begun.done("3", cell("old")).done("5", cell("new")).done("6")
    assert list(begun.queries.values()) == ["'new'"]


def test_a_join_inside_a_branch_merges_into_the_branch_first() -> None:
    begun = run(seq(join(seq(join(sql("a", "x"), sql("b", "y")), sql("$x, $y")), sql("$x")), sql("$x, $y")))
    begun.done("5", cell(1)).done("6", cell(2))
    assert begun.queries == {"7": "1, 2", "8": "$x"}
    assert begun.done("7").done("8").queries == {"9": "1, 2"}


def test_the_joins_own_name_is_its_array() -> None:
    begun = run(seq(join(sql("a"), sql("b"), name="both"), sql("select $both"))).done("3", "1").done("4", '"x"')
    assert begun.queries == {"5": "select '[1,\"x\"]'"}


def test_a_join_waits_for_all_branches_and_fails_as_the_first_failing_one_in_order() -> None:
    begun = run(join(sql("a"), sql("b"), seq(sql("c"), sql("d")))).fail("3", "second", "22012")
    assert begun.status == "running"
    begun.done("5").fail("2", "first", "23505")
    assert begun.steps == {"6"}
    begun.done("6")
    assert begun.error == {
        "message": "JOIN branch 1 failed: first",
        "code": "23505",
        "node": 2,
        "step": "2",
        "attempt": 1,
    }


def test_failures_of_nested_joins_say_the_way() -> None:
    begun = run(join(sql("a"), join(sql("b"), sql("c")))).fail("5", "deep").done("2").done("4")
    assert begun.error["message"] == "JOIN branch 2 failed: JOIN branch 2 failed: deep"
    assert begun.error["step"] == "5"


def test_a_branch_that_cannot_begin_does_not_keep_the_others_from_beginning() -> None:
    begun = run(join(sql("select $input.x"), sql("b")))
    assert begun.steps == {"3"}
    assert begun.done("3").error["message"].startswith("JOIN branch 1 failed: $input.x")


def test_an_array_of_results_over_the_limit_fails_the_join() -> None:
    begun = run(join(sql("a"), sql("b")), composite_bytes=9).done("2", '"é"').done("3", '"ab"')
    assert begun.error["message"] == "result of 11 bytes exceeds the limit of 9"
    assert begun.error["code"] == "54000"
    assert run(join(sql("a"), sql("b")), composite_bytes=11).done("2", '"é"').done("3", '"ab"').status == "completed"


# --- RACE -------------------------------------------------------------------------------------------------------------


def test_the_first_branch_to_finish_wins_and_the_losers_step_is_stopped() -> None:
    begun = run(seq(race(sql("a"), sql("b")), sql("c"))).done("4", cell("b"))
    assert set(begun.draining) == {"3"}
    assert begun.draining["3"].cause == "e2"
    assert begun.steps == {"5"}, "the winner does not wait for the losers' keys"


def test_the_result_of_a_race_is_the_winners() -> None:
    assert run(race(sleep(30), sql("a"))).done("3", "5").result == 5


def test_the_instance_ends_only_when_the_losers_keys_are_answered() -> None:
    begun = run(race(sql("a"), sql("b"), sql("c"))).done("3", "1").stopped("4")
    assert begun.status == "running"
    assert begun.done("2", "2").result == 1


def test_a_failed_instance_waits_for_the_losers_keys_too() -> None:
    begun = run(race(sql("a"), sql("b"))).fail("2")
    assert begun.status == "running"
    assert begun.stopped("3").status == "failed"


def test_a_race_is_won_by_failing_too() -> None:
    begun = run(race(sleep(30), sql("b"))).fail("3", "boom", "P0001")
    assert begun.error == {
        "message": "RACE branch 2 failed: boom",
        "code": "P0001",
        "node": 3,
        "step": "3",
        "attempt": 1,
    }


def test_a_failure_inside_a_branch_says_every_node_that_it_passed() -> None:
    begun = run(race(sleep(30), join(sql("a"), race(sql("b"), wait("s"))))).done("4").fail("6", "deep")
    assert begun.error["message"] == "RACE branch 2 failed: JOIN branch 2 failed: RACE branch 1 failed: deep"


def test_a_loser_that_completed_after_losing_changes_nothing() -> None:
    begun = run(seq(race(sql("a", "x"), sql("b", "x")), sql("$x"), sql("$x")))
    begun.done("5", cell("winner")).done("4", cell("loser")).done("6")
    assert begun.queries == {"7": "'winner'"}


def test_waits_and_timers_of_losers_are_dropped() -> None:
    begun = run(seq(race(sql("a"), sleep(30), wait("s", 60)), wait("s")))
    begun.done("3").signal("s", '"for the next"')
    assert begun.result["data"] == "for the next"


def test_a_timer_that_fires_after_its_branch_lost_is_ignored() -> None:
    begun = run(seq(race(sql("a"), sleep(30)), sql("b"))).done("3")
    begun.completed("4", "completed", "null", None, run_as=0)
    assert begun.steps == {"5"}


def test_a_branch_that_wins_at_once_keeps_later_ones_from_starting() -> None:
    begun = Run(race(sql("a"), wait("s"), sql("never"))).signal("s").start()
    assert begun.status == "completed"
    assert begun.log == [], "and what began in the same fold has not been asked for"


def test_a_branch_that_cannot_begin_wins_by_failing_and_later_ones_do_not_start() -> None:
    begun = run(race(sleep(30), sql("$input.x"), sql("never")))
    assert begun.error["message"].startswith("RACE branch 2 failed: $input.x")
    assert begun.log == []


def test_a_race_is_between_whole_branches() -> None:
    begun = run(race(seq(wait("go"), sql("a")), seq(sleep(5), sql("b")))).signal("go")
    assert begun.steps == {"4", "6"}, "steps that follow a wait go on racing"
    begun.fire("6")
    assert set(begun.queries) == {"4", "7"}
    assert set(begun.done("7").draining) == {"4"}


def test_a_race_merges_the_winners_names_and_nothing_of_the_losers() -> None:
    begun = run(
        seq(race(seq(sql("a", "lost"), sql("b")), seq(sql("c", "won"), sql("d", "last"))), sql("$lost, $won, $last"))
    )
    begun.done("4", cell(1)).done("7", cell(2)).done("8", cell(3))
    assert list(begun.queries.values()) == ["$lost, 2, 3"]


def test_the_races_own_name_is_the_winners_result() -> None:
    begun = run(seq(race(sql("a"), sleep(9), name="r"), sql("$r"))).done("3", "4")
    assert list(begun.queries.values()) == ["'4'"]


def test_the_whole_subtree_of_a_loser_is_given_up() -> None:
    loser = join(
        loop(seq(sql("a"), sleep(5))), if_(sql("b"), sql("c"), sql("d")), wait("s", 9), race(sleep(1), sql("e"))
    )
    begun = run(race(loser, sql("w"))).done("5.1").done("15")
    assert begun.steps == set()
    assert set(begun.draining) == {"10", "14"}
    assert begun.stopped("10").done("14").status == "completed"


def test_decide_first_and_act_afterwards() -> None:
    begun = run(if_(wait("approve", 20), sql("approve"), sql("reject"))).signal("approve")
    assert begun.log == ["2: approve"]
    begun = run(if_(wait("approve", 20), sql("approve"), sql("reject"))).fire("4")
    assert begun.log == ["3: reject"]


# --- IF ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "truth"),
    [
        (rows(), False),
        (cell(True), True),
        (cell(False), False),
        (cell(0), False),
        (cell(" OFF "), False),
        (cell(None), False),
        (cell("yes"), True),
        (cell([]), False),
    ],
)
def test_a_condition_decides_between_two_branches(condition: str, truth: bool) -> None:
    begun = run(if_(sql("?"), sql("then"), sql("else"))).done("4", condition)
    assert begun.log[1:] == (["2: then"] if truth else ["3: else"])


def test_an_if_gives_the_result_of_the_branch_taken() -> None:
    assert run(if_(sql("?"), sql("a"), sql("b"))).done("4", cell(1)).done("2", "7").result == 7


def test_names_set_in_the_condition_and_in_the_branch_are_visible_afterwards() -> None:
    begun = run(seq(if_(sql("?", "c"), sql("$c", "t"), sql("b"), name="all"), sql("$c, $t, $all")))
    begun.done("5", cell(1))
    assert begun.queries == {"3": "1"}
    assert begun.done("3", cell(2)).queries == {"6": "1, 2, 2"}


def test_a_failed_condition_fails_the_if_and_neither_branch_runs() -> None:
    begun = run(if_(sql("?"), sql("a"), sql("b"))).fail("4", "boom")
    assert begun.error["message"] == "boom"
    assert begun.log == ["4: ?"]


def test_a_failed_branch_fails_the_if_as_it_failed() -> None:
    begun = run(if_(sql("?"), sql("a"), sql("b"))).done("4", cell(0)).fail("3", "boom")
    assert begun.error["message"] == "boom"


@pytest.mark.parametrize(("result", "step"), [(rows({"a": 1}), "4"), (rows(), "5"), (cell(None), "4")])
def test_if_rows_asks_whether_a_named_result_has_rows(result: str, step: str) -> None:
    assert run(seq(sql("q", "found"), if_rows("found", sql("a"), sql("b")))).done("2", result).steps == {step}


def test_if_rows_on_a_result_without_rows_takes_the_other_branch() -> None:
    begun = run(seq(wait("s", name="found"), if_rows("found", sql("a"), sql("b")))).signal("s", '{"rows":5}')
    assert begun.steps == {"5"}


def test_if_rows_on_a_name_that_nothing_set_fails() -> None:
    begun = run(if_rows("nowhere", sql("a"), sql("b")))
    assert begun.error["message"] == "df.if_rows: no result is named 'nowhere' here"


def test_a_completion_for_the_branch_not_taken_is_ignored() -> None:
    begun = run(if_(sql("?"), sql("a"), seq(sql("b"), sql("c")))).done("6", cell(1)).done("4", "1").done("5", "2")
    assert begun.steps == {"2"}
    assert begun.state.stash == {}


def test_completions_for_either_branch_are_kept_while_the_condition_is_asked() -> None:
    begun = run(if_(sql("?"), sql("a"), sql("b"))).done("2", '"then"').done("3", '"else"').done("4", cell(0))
    assert begun.result == "else"


def test_a_condition_may_be_a_whole_chain() -> None:
    begun = run(if_(seq(sql("a"), sql("b")), sql("t"), sql("e"))).done("5", cell(0)).done("6", cell(1))
    assert begun.steps == {"2"}


# --- all together -------------------------------------------------------------------------------------------------------


def test_of_two_kept_completions_in_a_race_the_one_that_came_first_wins() -> None:
    begun = run(seq(sql("before"), race(sql("a"), sql("b")))).done("5", '"b"').done("4", '"a"').done("2")
    assert begun.result == "b"


def test_a_kept_completion_of_a_loser_leaves_no_key_to_wait_for() -> None:
    begun = Run(race(sql("a"), wait("s"))).signal("s").done("2", "1").start()
    assert begun.result["timed_out"] is False


def test_a_graph_of_256_levels_is_folded_written_and_read() -> None:
    graph = sql("deep")
    for level in range(255):
        around = [join(graph), race(graph, wait("s", 9)), if_(graph, sql(), sql()), loop(graph, wait("w"))]
        graph = around[level % 4 if level < 128 else level % 3]
    begun = run(named(graph, "all"))
    (step,) = begun.open
    begun.done(step, cell(1))
    assert begun.status == "running"
    begun.cancel()
    for step in list(begun.draining):
        begun.stopped(step)
    assert begun.status == "cancelled"


# --- BREAK through them -------------------------------------------------------------------------------------------------


def test_a_break_in_a_join_cancels_the_other_branches_and_ends_the_loop() -> None:
    begun = run(seq(loop(join(sql("a"), seq(sql("b"), brk("out")))), sql("after"))).done("6.1")
    assert set(begun.draining) == {"4.1"}
    assert begun.log[-1] == "8: after"


def test_a_break_in_a_branch_that_begins_a_join_keeps_later_branches_from_starting() -> None:
    begun = run(loop(join(sql("a"), brk(1), sql("never"))))
    assert begun.result == 1
    assert begun.log == []


def test_a_branch_after_a_break_takes_no_signal() -> None:
    begun = Run(seq(loop(join(brk(), wait("s"))), wait("s"))).signal("s", "1").start()
    assert begun.result["data"] == 1


def test_a_join_of_thousands_is_cancelled_in_one_fold_without_a_stall() -> None:
    begun = Run(join(*(sql("a") for _ in range(3000)), *(wait("s", 9) for _ in range(3000)))).start()
    before = perf_counter()
    machine.fold(begun.subject, begun.state, CancelRequested("e", begun.at_us, "why"))
    assert perf_counter() - before < 1, "it took 5 s when each branch looked at all others"


def test_a_break_in_a_join_merges_what_finished_branches_and_the_breaking_one_set() -> None:
    begun = run(
        seq(loop(join(sql("a", "x"), seq(sql("b", "y"), brk()), seq(sql("c", "z"), sql("d")))), sql("$x, $y, $z"))
    )
    begun.done("4.1", cell(1)).done("9.1", cell(3)).done("6.1", cell(2))
    assert list(begun.queries.values())[-1] == "1, 2, $z"


def test_a_failed_branch_is_not_hidden_by_a_later_break() -> None:
    begun = run(loop(join(sql("a"), seq(sql("b"), brk()), sql("c")))).fail("3.1", "boom").done("5.1")
    assert begun.steps == {"7.1"}
    assert begun.done("7.1").error["message"] == "JOIN branch 1 failed: boom"


def test_a_break_in_a_race_wins_it_and_ends_the_loop() -> None:
    begun = run(seq(loop(race(sql("a"), seq(sql("b"), brk(2))), name="l"), sql("$l"))).done("6.1")
    assert set(begun.draining) == {"4.1"}
    assert begun.log[-1] == "8: '2'"


def test_a_break_unwinds_through_everything_to_the_innermost_loop_only() -> None:
    inner = loop(seq(sql("a"), join(race(if_(sql("?"), seq(sql("b"), brk("x")), sql("c")), sleep(9)), sql("d"))))
    begun = run(loop(seq(inner, sql("after")), sql("again?")))
    begun.done("5.1.1").done("13.1.1", cell(1)).done("10.1.1")
    assert set(begun.draining) == {"15.1.1"}
    assert begun.queries == {"16.1": "after"}
    begun.done("16.1").done("17.1", cell(1))
    assert begun.steps == {"5.2.1"}
