"""Histories that must fold the same for ever.

Each file holds a graph, the rows of its log, and after each row the effects that were asked for and the state as it was
written. An engine that decides otherwise would break every instance that is under way when it is installed; one that cannot
read the states could not take over at all. A new kind of history is added to `HISTORIES` and written with

    python -m tests.golden.test_golden

which never rewrites a file that is there: if a test here fails, the engine is wrong, unless the version of states has
grown, and then the old files stay and new ones come beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from engine import machine
from engine.codec import VERSION, Stored, encode
from engine.effects import Effect
from engine.events import CancelRequested, Completed, Event, Signalled, Started
from engine.limits import INLINE_VALUE_CHARACTERS
from engine.machine import NEW, State
from tests.engine.machinery import (
    Json,
    Run,
    await_,
    brk,
    catch,
    cell,
    child,
    if_,
    if_rows,
    join,
    loop,
    map_,
    race,
    retry,
    rows,
    schedule,
    seq,
    sleep,
    sleep_until,
    sql,
    subject_of,
    timeout,
    undo,
    wait,
)

HERE = Path(__file__).parent
EVENTS: dict[str, Callable[..., Event]] = {
    kind.__name__: kind for kind in (Started, Signalled, CancelRequested, Completed)
}
LONG = cell("x" * INLINE_VALUE_CHARACTERS)


# --- what is written -------------------------------------------------------------------------------------------------


class Recording(Run):
    """A run that keeps its log, and what came of each row."""

    def __init__(self, graph: Json | str, **given: Any) -> None:
        super().__init__(graph, **given)
        self.given = given
        self.entries: list[Json] = []

    def fold(self, event: Event) -> Recording:
        _, effects = machine.fold(self.subject, self.uninterrupted, event)
        super().fold(event)
        self.entries.append(
            {
                "event": named(event),
                "effects": [named(effect) for effect in effects],
                "state": json.loads(encode(self.uninterrupted, self.subject.scope)),
            }
        )
        return self

    def to_json(self, graph: Json | str) -> Json:
        return {"version": VERSION, "graph": graph, "given": self.given, "results": self.answered, "log": self.entries}


def named(item: Event | Effect) -> list[Any]:
    values: list[Any] = json.loads(json.dumps(list(asdict(item).values())))
    return [type(item).__name__, *values]


# --- the histories ---------------------------------------------------------------------------------------------------

ORDER = seq(
    sql("insert into orders values ($input) returning id", "o"), if_rows("o", sql("pay $o.id", "p"), sql("none"))
)
APPROVAL = race(
    seq(wait("approve", 20), sql("update t set approved")), seq(sleep(15), sql("update t set expired")), name="r"
)
NESTED = seq(
    sql("prefix", "n"),
    loop(
        seq(loop(sql("$n", "n"), sql("$n < 2")), join(sql("left $n", "l"), sql("right", "r"), name="both")),
        if_(sql("again?"), sql("yes"), brk("$both")),
        every=2,
    ),
    sql("suffix $l, $r, $n"),
)
BROKEN = loop(join(seq(sql("a"), sleep(5)), race(sql("b"), wait("s", 9)), seq(sql("c"), brk({"v": "$input"}))))


def order(run: Run) -> None:
    run.start().done("2", rows({"id": 7, "note": "é"})).done("4", LONG)


def order_failed(run: Run) -> None:
    run.start().done("2", rows({"id": 7})).fail("4", "no money", "P0001")


def signalled(run: Run) -> None:
    run.signal("other").start(at=0).signal("approve", '{"by":"me"}', at=4).done("4", at=4.5)


def expired(run: Run) -> None:
    run.start(at=0).fire("6", at=15).done("7", at=16)


def both_at_once(run: Run) -> None:
    run.start(at=0).fire("6", at=15).signal("approve", at=15.5).done("7", at=16).stopped("4", at=16.5)


def nested(run: Run) -> None:
    run.start(at=0).done("3", LONG, at=0.1)
    run.done("7.1.1", cell(1), at=0.2).done("8.1.1", cell(True), at=0.3).done("7.1.2", cell(2), at=0.2)
    run.done("8.1.2", rows(), at=0.5).done("11.1", at=0.6).fail("10.1", "late", "57014", at=0.7)


def nested_to_the_end(run: Run) -> None:
    run.start(at=0).done("3", cell(0), at=0.1).done("7.1.1", cell(1), at=0.2).done("8.1.1", cell(0), at=0.3)
    run.done("11.1", '"r"', at=0.4).done("10.1", '"l"', at=0.5).done("15.1", cell(1), at=0.6)
    run.done("13.1", cell(1), at=0.7).fire("4.1", at=2.2)
    run.done("7.2.1", cell(5), at=2.3).done("8.2.1", cell(0), at=2.4).done("10.2", "1", at=2.5).done(
        "11.2", "2", at=2.6
    )
    run.done("15.2", cell(0), at=2.7).done("16", at=2.8)


def broken(run: Run) -> None:
    run.start(at=0).fail("7.1", "boom", at=1).done("4.1", at=2).done("10.1", at=3).fire("5.1", at=7)


def broken_out(run: Run) -> None:
    run.start(at=0).done("4.1", at=1).done("10.1", at=2).done("10.1", at=2).stopped("7.1", at=3)


def cancelled(run: Run) -> None:
    run.start(at=0).done("4.1", at=1).cancel("enough", at=2).signal("s", at=3).done("7.1", at=4).stopped("10.1", at=5)


def waits(run: Run) -> None:
    run.signal("s", "1").start(at=0).signal("s", "2", at=1).done("6", at=2).signal("s", "3", at=3).fire("9", at=9)


def scanned(run: Run) -> None:
    run.done("5", at=4).completed("4", "completed", None, None, run_as=0, at=3).start(at=0).done("3", at=1)


def endless(run: Run) -> None:
    run.start(at=0).fire("1.1").fire("1.2").cancel()


PAYMENT = retry(
    seq(
        undo(sql("charge", "c"), sql("refund $c.id")),
        catch(timeout(sql("ship $c.id"), 5), sql("insert into log values ($error.code)")),
        sql("book"),
    ),
    2,
)
SPREAD = seq(
    map_(sql("rows"), child(sql("work"), "n $item", input={"id": "$item.id"}, timeout_seconds=9), 2, name="m"),
    race(seq(undo(sql("hold"), sql("free")), await_("other", 60)), schedule("0 3 * * *", "Europe/Berlin")),
)


def payment(run: Run) -> None:
    run.start(at=0).done("4.1", rows({"id": 7}), at=1).fire("7.1", at=6).stopped("8.1", at=7).done("9.1", at=8)
    run.fail("10.1", "no book", at=9).done("5.1", at=10).fire("1.1").done("4.2", LONG).done("8.2").fail("10.2", "again")
    run.cancel("too late").fail("5.2", "no refund").fire("5.2.1").done("5.2")


def spread(run: Run) -> None:
    run.start(at=0).done("3", rows({"id": 1}, {"id": 2}, {"id": 3}), at=1).ended("4.2", "completed", {"x": LONG}, at=2)
    run.ended("4.1", "failed", None, {"message": "m", "code": "c"}, at=3).ended("4.3", at=4)


def spread_and_lost(run: Run) -> None:
    run.start(at=0).done("3", rows({"id": 1}), at=1).ended("4.1", at=2).done("9", at=3).fire("12").done("10")


def spread_and_cancelled(run: Run) -> None:
    run.start(at=0).done("3", rows({"id": 1}), at=1).ended("4.1", at=2).cancel("enough", at=3).done("9", at=4).done(
        "10", at=5
    )


HISTORIES: dict[str, tuple[Json | str, dict[str, Any], Callable[[Run], None]]] = {
    "order": (ORDER, {"input_": '{"amount":5}'}, order),
    "order_failed": (ORDER, {"input_": '{"amount":5}', "variables": {"v": "x"}}, order_failed),
    "approval_signalled": (APPROVAL, {}, signalled),
    "approval_expired": (APPROVAL, {}, expired),
    "approval_both": (APPROVAL, {}, both_at_once),
    "nested_failed": (NESTED, {}, nested),
    "nested": (NESTED, {}, nested_to_the_end),
    "join_failed_before_break": (BROKEN, {"input_": '"i"'}, broken),
    "break_out_of_a_join": (BROKEN, {"input_": '"i"'}, broken_out),
    "cancelled": (BROKEN, {"input_": '"i"'}, cancelled),
    "waits": (seq(join(wait("s"), seq(sql("a"), wait("s"))), wait("s", 9, fresh=True), sleep(1)), {}, waits),
    "scanned": (seq(sql("a"), sleep_until("2023-11-14T22:13:23Z"), sql("b")), {}, scanned),
    "payment": (PAYMENT, {}, payment),
    "spread": (SPREAD, {}, spread),
    "spread_and_lost": (SPREAD, {}, spread_and_lost),
    "spread_and_cancelled": (SPREAD, {}, spread_and_cancelled),
    "endless": (loop(loop(brk())), {}, endless),
}


def record(name: str) -> Json:
    graph, given, history = HISTORIES[name]
    recording = Recording(graph, **given)
    history(recording)
    assert recording.finish is not None, f"{name} does not end"
    return recording.to_json(graph)


# --- the tests -------------------------------------------------------------------------------------------------------


def golden() -> list[Path]:
    return sorted(HERE.glob("*.json"))


def test_every_history_is_written_down() -> None:
    assert [path.stem for path in golden()] == sorted(HISTORIES)


def event_of(entry: Json) -> Event:
    kind, *values = entry["event"]
    return EVENTS[kind](*values)


@pytest.mark.parametrize("path", golden(), ids=lambda path: path.stem)
def test_a_history_folds_as_it_always_did(path: Path) -> None:
    history = json.loads(path.read_text())
    subject = subject_of(history["graph"], **history["given"])
    state: State = NEW
    for entry in history["log"]:
        state, effects = machine.fold(subject, state, event_of(entry))
        assert [named(effect) for effect in effects] == entry["effects"]
        if history["version"] == VERSION:
            assert json.loads(encode(state, subject.scope)) == entry["state"]


@pytest.mark.parametrize("path", golden(), ids=lambda path: path.stem)
def test_every_state_that_was_ever_written_goes_on_to_the_same_end(path: Path) -> None:
    history = json.loads(path.read_text())
    subject = subject_of(history["graph"], **history["given"])
    log = history["log"]
    for place, entry in enumerate(log):
        stored = Stored(history["version"], json.dumps(entry["state"]))
        state = stored.state(subject.scope, history["results"])
        for later in log[place + 1 :]:
            state, effects = machine.fold(subject, state, event_of(later))
            assert [named(effect) for effect in effects] == later["effects"]


def main() -> None:
    for name in HISTORIES:
        path = HERE / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(record(name), indent=1, ensure_ascii=False) + "\n")
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
