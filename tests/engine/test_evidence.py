"""The order in which a scan folds rows: by the rule, unless that contradicts what was done."""

from __future__ import annotations

import json

import pytest

from engine import evidence
from engine.effects import Execute, StartTimer
from engine.events import CancelRequested, Completed, Event, Outcome, Signalled, Started
from engine.evidence import Row, in_order
from engine.machine import NEW, fold
from tests.engine.machinery import ROLE, Json, race, retry, seq, sleep, sql, subject_of, timeout, undo, wait

START = "start"


def signalled(name: str, *, at: int, named: bool = False) -> Row:
    return Row(Signalled(f"signal {name}", at, name, "{}"), at, None, named)


def done(step: str, cause: str, *, at: int, named: bool = False, attempt: int = 1) -> Row:
    event = Completed(f"done {step}", at, ROLE, step, attempt, "completed", '{"rows":[]}', None)
    return Row(event, at, cause, named)


def chosen(graph: Json, *rows: Row) -> list[str]:
    """The rows in the order taken, after the start."""
    subject = subject_of(json.dumps(graph))
    state, _ = fold(subject, NEW, Started(START, 0))
    return [row.event.event_id for row in in_order(subject, state, rows)]


UNDONE = undo(wait("a"), sql("undo"))
"""Its wait is node 2 of its graph, and 3 what undoes it, counted from it."""


def test_what_some_completion_names_comes_first_though_it_was_recorded_later() -> None:
    graph = seq(race(wait("a"), wait("b")), sql("select 5"))
    rows = [signalled("a", at=1), signalled("b", at=2, named=True), done("5", "signal b", at=3)]
    assert chosen(graph, *rows) == ["signal b", "signal a", "done 5"]


def test_a_row_that_was_acted_on_and_that_nothing_names_keeps_its_place_in_time() -> None:
    """The signal let the branch sleep, which lost the race to step 6: what undoes the wait was owed, and done."""
    graph = race(seq(UNDONE, sleep(60)), sql("x"))
    subject = subject_of(json.dumps(graph))
    names = {node.number: node.query for node in subject.graph.nodes if node.query}
    winner = next(str(number) for number, query in names.items() if query == "x")
    undoing = next(str(number) for number, query in names.items() if query == "undo")
    rows = [
        signalled("a", at=1),
        done(winner, START, at=2, named=True),
        done(undoing, f"done {winner}", at=3),
    ]
    assert chosen(graph, *rows) == ["signal a", f"done {winner}", f"done {undoing}"]


def test_a_row_that_was_recorded_early_and_committed_late_is_found_its_place_where_neither_order_fits() -> None:
    """As before; and a signal that had been recorded first of all would have won the race, and did not."""
    graph = race(seq(race(seq(UNDONE, sleep(60)), sql("x")), sql("y")), wait("c"))
    subject = subject_of(json.dumps(graph))
    names = {node.query: str(node.number) for node in subject.graph.nodes if node.query}
    winner, undoing = names["x"], names["undo"]
    rows = [
        signalled("c", at=0),
        signalled("a", at=1),
        done(winner, START, at=2, named=True),
        done(names["y"], f"done {winner}", at=3, named=True),
        done(undoing, f"done {winner}", at=4),
    ]
    taken = chosen(graph, *rows)
    assert taken.index("signal a") < taken.index(f"done {winner}") < taken.index("signal c")


def test_a_row_that_was_recorded_early_and_committed_late_is_found_its_place_though_both_orders_are_one() -> None:
    """A cancellation in a transaction that stayed open while two steps ran. What it stopped was the third."""
    graph = seq(sql("x"), seq(sql("y"), sql("z")))
    x, y, z = (str(node.number) for node in subject_of(json.dumps(graph)).graph.nodes if node.query)
    stopped = Completed("stopped", 4, ROLE, z, 1, "cancelled", None, None)
    rows = [
        Row(CancelRequested("cancellation", 1, ""), 1, None, True),
        done(x, START, at=2, named=True),
        done(y, f"done {x}", at=3, named=True),
        Row(stopped, 4, "cancellation", False),
    ]
    assert chosen(graph, *rows) == [f"done {x}", f"done {y}", "cancellation", "stopped"]


@pytest.mark.parametrize("known", [True, False], ids=["known cause", "unknown cause"])
def test_what_an_earlier_try_undid_is_no_evidence_that_an_early_end_could_account_for(known: bool) -> None:
    """In the second try the time-out came first, its step was done all the same, and so the first part is being undone. An order
    in which the step comes before the time-out ends the workflow, and with it forgets what was kept of the first try.
    """
    graph = retry(seq(undo(sql("x"), seq(sql("u"), sql("v"))), timeout(sql("y"), 0)), 2)
    subject = subject_of(json.dumps(graph))
    x, u, v, y = (str(next(n.number for n in subject.graph.nodes if n.query == query)) for query in "xuvy")
    (late,) = (str(node.number) for node in subject.graph.nodes if node.kind == "TIMEOUT")

    def came(step: str, cause: str, second: int, *, named: bool = True, outcome: Outcome = "completed") -> Row:
        owner = 0 if step.split(".")[0] in ("1", late) else ROLE  # timers are the engine's
        event = Completed(step, second * 1_000_000, owner, step, 1, outcome, None, None)
        return Row(event, event.at_us, cause, named)

    before = [
        came(f"{x}.1", START, 1),
        came(f"{late}.1", f"{x}.1", 2),
        came(f"{y}.1", f"{late}.1", 3, outcome="cancelled"),
        came(f"{u}.1", f"{y}.1" if known else "a signal", 4),
        came(f"{v}.1", f"{u}.1", 5),
    ]
    after = [
        came("1.1", f"{v}.1", 7),
        came(f"{x}.2", "1.1", 8),
        came(f"{late}.2", f"{x}.2", 9, named=False),
        came(f"{y}.2", f"{x}.2", 10),
        came(f"{u}.2", f"{y}.2", 11, named=False),
    ]
    rows = [*before, *after]
    state, _ = fold(subject, NEW, Started(START, 0))
    for row in before:
        state, effects = fold(subject, state, row.event)
    assert [type(effect) for effect in effects] == [StartTimer], "the checkpoint is of between the tries"
    assert in_order(subject, state, rows) == rows
    if known:
        assert not evidence._Trial(subject, state, rows).contradicted(rows), "and nothing more is tried"


def test_a_cause_that_is_not_known_contradicts_nothing() -> None:
    graph = seq(race(wait("a"), wait("b")), sql("select 5"))
    rows = [signalled("a", at=1), signalled("b", at=2, named=True), done("5", "of nobody", at=3)]
    assert chosen(graph, *rows) == ["signal b", "signal a", "done 5"]


def test_what_was_kept_until_its_step_was_reached_contradicts_nothing() -> None:
    graph = seq(seq(sql("a"), sql("b")), sql("c"))
    rows = [done("5", "done 4", at=1), done("4", "done 3", at=2, named=True), done("3", START, at=3, named=True)]
    assert chosen(graph, *rows) == ["done 4", "done 3", "done 5"]


def test_rows_that_cannot_be_folded_follow_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: object, state: object, event: Event) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(evidence, "fold", broken)
    graph = seq(race(wait("a"), wait("b")), sql("select 5"))
    rows = [signalled("a", at=1), signalled("b", at=2, named=True), done("5", "signal b", at=3)]
    assert chosen(graph, *rows) == ["signal b", "signal a", "done 5"]


def test_want_of_memory_is_no_trouble_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(subject: object, state: object, event: Event) -> None:
        raise MemoryError

    monkeypatch.setattr(evidence, "fold", full)
    graph = seq(race(wait("a"), wait("b")), sql("select 5"))
    with pytest.raises(MemoryError):
        chosen(graph, signalled("a", at=1), signalled("b", at=2, named=True), done("5", "signal b", at=3))


@pytest.mark.parametrize("signals", [300, 30_000])
def test_whoever_sends_many_signals_does_not_hold_up_a_scan(monkeypatch: pytest.MonkeyPatch, signals: int) -> None:
    """And makes up a completion that no order accounts for."""
    folds = 0

    def counted(subject: object, state: object, event: Event) -> object:
        nonlocal folds
        folds += 1
        return fold(subject, state, event)  # type: ignore[arg-type]

    monkeypatch.setattr(evidence, "fold", counted)
    graph = seq(wait("never"), sql("select 3"))
    many = [signalled(f"s{number}", at=number) for number in range(1, signals)]
    chosen(graph, signalled("s0", at=0), *many, done("3", "signal s0", at=signals), done("9", START, at=-1, named=True))
    assert folds <= evidence.FOLDS + 2


def test_effects_of_every_kind_are_taken_into_account() -> None:
    graph = race(seq(sql("a"), sleep(5)), wait("go", 60))
    subject = subject_of(json.dumps(graph))
    _, effects = fold(subject, NEW, Started(START, 0))
    assert {type(effect) for effect in effects} >= {Execute}
    assert {(step, cause) for step, _, cause in evidence._asked(effects)} == {("3", START), ("5", START)}
