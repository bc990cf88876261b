"""Who is dropped, stopped or waited for when a node ends: what the tables of `engine.nodes` say, where no other test looks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine import machine
from engine.effects import DropTimer, DropWait, Effect
from engine.events import Completed, Outcome
from engine.limits import LONGEST_UNDO_PAUSE_US, UNDO_ATTEMPTS, UNDO_PAUSE_US
from tests.engine.machinery import (
    Json,
    Run,
    await_,
    brk,
    catch,
    child,
    join,
    loop,
    map_,
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


def effects(begun: Run, step: str, outcome: Outcome = "completed", result: str = "null") -> tuple[Effect, ...]:
    """What a row of the engine's makes the instance ask for."""
    error = None if outcome == "completed" else '{"message":"no","code":"P0002"}'
    event = Completed("x", begun.at_us, machine.ENGINE, step, 1, outcome, None if error else result, error)
    return machine.fold(begun.subject, begun.state, event)[1]


def paid(what: str) -> Json:
    return undo(sql(f"do {what}"), sql(f"undo {what}"))


def pick(begun: Run, query: str) -> str:
    """The step that runs this."""
    (step,) = (step for step, text in begun.queries.items() if text == query)
    return step


# --- timers and waits that nobody needs any more ------------------------------------------------------------------------


def test_a_timeout_around_what_ends_at_once_sets_no_timer() -> None:
    assert run(loop(timeout(brk(5), 10))).result == 5


def test_what_follows_a_timeout_counts_from_when_it_was_due() -> None:
    assert run(catch(timeout(sleep(100), 10), sleep(5))).fire("2", at=9).due("4") == 15


def test_a_wait_for_an_instance_that_is_refused_or_answered_drops_its_timer() -> None:
    assert DropTimer("2") in effects(run(seq(await_("other", 5), sql("b"))), "2", "failed")
    answer = '{"instance_id":"other","status":"completed"}'
    assert DropTimer("2") in effects(run(seq(await_("other", 5), sql("b"))), "2", result=answer)


def test_a_wait_for_an_instance_that_timed_out_is_dropped() -> None:
    asked = effects(run(seq(await_("other", 5), sql("b"))), "2", result='{"status":"running"}')
    assert DropWait("2") in asked


def test_a_detached_child_has_no_timer_and_is_not_stopped() -> None:
    begun = run(seq(child(sql("a"), detach=True, timeout_seconds=5), sql("b")))
    assert begun.timers == {}
    begun.cancel()
    assert begun.draining == {}
    assert begun.status == "cancelled"


def test_a_row_under_the_key_of_a_timer_that_a_child_does_not_have_is_ignored() -> None:
    begun = run(child(sql("a")))
    before = begun.state
    begun.completed("1.1", "completed", "null", None, run_as=machine.ENGINE)
    assert begun.state is before or begun.state == before


def test_a_rest_is_ended_by_its_own_timer_and_by_no_other() -> None:
    begun = run(retry(sql("a"))).fail("2.1").fire("1.1").fail("2.2")
    for step in ("1.1", "1.3"):
        begun.completed(step, "completed", "null", None, run_as=machine.ENGINE)
        assert begun.steps == {"1.2"}


def test_a_lost_undo_drops_its_rest() -> None:
    begun = run(seq(undo(sql("do"), race(sql("undo"), wait("skip"))), sql("c"))).done("3").fail("7").fail("5")
    assert begun.steps == {"5.1"}
    begun.signal("skip")
    assert begun.timers == {}
    assert begun.status == "failed"


# --- the attempts of an undo --------------------------------------------------------------------------------------------


def test_the_pauses_of_an_undo_double_up_to_the_longest_and_the_tenth_attempt_is_the_last() -> None:
    begun = run(seq(paid("a"), sql("c"))).done("3").fail("5", "first")
    pauses = []
    for attempt in range(1, UNDO_ATTEMPTS):
        before = begun.at_us
        assert begun.open["4"].attempt == attempt
        begun.fail("4", "no undo")
        pauses.append(begun.timers[f"4.{attempt}"].due_us - before)
        begun.fire(f"4.{attempt}")
    assert pauses == [min(UNDO_PAUSE_US * 2**n, LONGEST_UNDO_PAUSE_US) for n in range(9)]
    assert pauses[:3] == [500_000, 1_000_000, 2_000_000]
    assert pauses[-1] == LONGEST_UNDO_PAUSE_US
    assert begun.open["4"].attempt == 10
    begun.fail("4", "no undo")
    assert begun.status == "failed"
    assert [(u["message"], u["attempt"]) for u in begun.error["undo"]] == [("no undo", 10)]


def test_an_undo_that_somebody_stopped_is_not_repeated() -> None:
    begun = run(seq(paid("a"), sql("c"))).done("3").fail("5").stopped("4")
    assert begun.status == "failed"
    assert [u["code"] for u in begun.error["undo"]] == ["57014"]


def test_a_handler_hears_of_undos_that_failed() -> None:
    begun = run(catch(seq(paid("a"), sql("b")), sql("select $error"))).done("4").fail("6", "first")
    for attempt in range(1, UNDO_ATTEMPTS):
        begun.fail("5").fire(f"5.{attempt}")
    begun.fail("5", "stuck")
    assert "first" in begun.queries["7"]
    assert "stuck" in begun.queries["7"]


def test_a_completion_for_an_undo_in_an_undo_is_not_taken_for_the_nodes_own() -> None:
    begun = run(seq(undo(sql("do"), undo(sql("one"), sql("two"))), sql("c"))).done("3").fail("7")
    assert begun.queries == {"5": "one"}
    begun.done("6")
    assert begun.queries == {"5": "one"}
    assert begun.status == "running"
    assert begun.done("5").status == "failed"


# --- a node with an undo that is given up while steps of it are in flight ----------------------------------------------

WHERE: dict[str, Callable[[Json], Json]] = {
    "catch": lambda g: catch(g, sql("handler")),
    "retry": lambda g: retry(g),
    "map": lambda g: map_("input", g),
}


@pytest.mark.parametrize("wrap", WHERE.values(), ids=WHERE)
def test_what_fails_after_it_was_given_up_begins_nothing_and_is_undone_with_all_the_rest(
    wrap: Callable[[Json], Json],
) -> None:
    graph = join(undo(wrap(seq(paid("a"), sql("b"))), sql("never")), paid("x"))
    begun = Run(graph, input_="[1]").start()
    begun.done(pick(begun, "do a")).done(pick(begun, "do x")).cancel()
    begun.fail(*begun.draining)
    assert list(begun.queries.values()) == ["undo x"], "the last that completed, wherever it stands"
    begun.done(pick(begun, "undo x"))
    assert list(begun.queries.values()) == ["undo a"]
    assert begun.done(pick(begun, "undo a")).status == "cancelled"


def test_a_step_that_completes_two_nodes_with_undos_makes_both_owe_theirs() -> None:
    begun = run(undo(undo(sql("do"), sql("undo inner")), sql("undo outer"))).cancel().done("3")
    assert list(begun.queries.values()) == ["undo outer"]
    begun.done(pick(begun, "undo outer"))
    assert list(begun.queries.values()) == ["undo inner"]


@pytest.mark.parametrize("parts", ["join", "map"])
def test_a_part_that_completed_its_step_but_not_itself_completes_nothing_around_it(parts: str) -> None:
    sequence = seq(sql("a"), sql("c"))
    inner = join(sequence, sql("b")) if parts == "join" else map_("input", sequence)
    begun = Run(undo(inner, sql("undo")), input_="[1, 2]").start().cancel()
    for step in list(begun.draining):
        begun.done(step)
    assert begun.open == {}
    assert begun.status == "cancelled"


SLOWER: dict[str, Json] = {
    "a sequence whose next step does not begin": seq(sql("a"), sql("c")),
    "a failure whose handler does not begin": catch(sql("a"), sql("c")),
    "a try that is the last to begin": retry(sql("a")),
    "a race whose winner does not go on": seq(race(sql("a"), sql("d")), sql("c")),
}


@pytest.mark.parametrize("slower", SLOWER)
def test_of_a_race_that_was_given_up_a_branch_that_goes_on_no_more_keeps_no_other_from_completing_it(
    slower: str,
) -> None:
    begun = run(undo(race(SLOWER[slower], sql("b")), sql("undo")))
    first, last = pick(begun, "a"), pick(begun, "b")
    begun.cancel()
    (begun.done if "sequence" in slower or "race" in slower else begun.fail)(first)
    for step in set(begun.draining) - {last}:
        begun.stopped(step)
    assert begun.open == {}
    begun.done(last)
    assert list(begun.queries.values()) == ["undo"], "what won has committed"


def test_a_loser_inside_what_was_given_up_keeps_nothing_around_it_from_completing() -> None:
    begun = run(undo(join(race(sql("a"), sql("d")), sql("b")), sql("undo")))
    first, second, last = (pick(begun, query) for query in ("a", "d", "b"))
    begun.cancel().done(first).stopped(second).done(last)
    assert list(begun.queries.values()) == ["undo"]


def test_of_a_race_that_was_given_up_no_branch_completes_it_after_one_that_failed() -> None:
    begun = run(undo(race(sql("a"), sql("b")), sql("undo"))).cancel().fail("3").done("4")
    assert begun.open == {}
    assert begun.status == "cancelled"


# --- a map --------------------------------------------------------------------------------------------------------------


def test_a_map_fails_as_the_first_failing_row_in_order() -> None:
    begun = run(map_(sql("items"), sql("do"))).done("2", rows({"i": 1}, {"i": 2}))
    begun.fail("3.2", "later").fail("3.1", "earlier")
    assert begun.error["message"] == "MAP item 1 failed: earlier"


def test_a_map_whose_items_cannot_be_had_fails_as_they_did() -> None:
    assert run(map_(sql("items"), sql("do"))).fail("2", "no items").error["message"] == "no items"
