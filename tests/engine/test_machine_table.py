"""Every state of the machine, and every kind of frame, against every kind of event.

What an event does in the end is tested by node; here it is that none does anything else: it moves the instance, or it is
ignored and leaves the very same state, or it raises MachineError and leaves it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from engine import machine
from engine.errors import MachineError
from engine.events import CancelRequested, Completed, Event, Signalled, Started
from tests.engine.machinery import (
    ROLE,
    Run,
    await_,
    brk,
    catch,
    cell,
    child,
    if_,
    join,
    loop,
    map_,
    race,
    retry,
    rows,
    run,
    schedule,
    seq,
    sleep,
    sql,
    timeout,
    undo,
    wait,
)

What = Literal["moves", "kept", "ignored", "raises"]

STATES: dict[str, Callable[[], Run]] = {
    "not begun": lambda: Run(seq(sql("a"), sql("b"))),
    "not begun, cancelled": lambda: Run(seq(sql("a"), sql("b"))).cancel(),
    "running": lambda: run(seq(sql("a"), sql("b"))),
    "ending": lambda: run(seq(sql("a"), sql("b"))).cancel(),
    "finished": lambda: run(seq(sql("a"), sql("b"))).done("2").done("3"),
}


def completed(step: str, run_as: int = ROLE, attempt: int = 1) -> Completed:
    return Completed("e", 0, run_as, step, attempt, "completed", cell(1), None)


EVENTS: dict[str, Event] = {
    "started": Started("e", 0),
    "signal": Signalled("e", 0, "s", "{}"),
    "cancellation": CancelRequested("e", 0, "why"),
    "this step": completed("2"),
    "a later step": completed("3"),
    "forged": completed("2", ROLE + 1),
    "as the engine": completed("2", 0),
    "another attempt": completed("2", attempt=2),
    "no key": completed("02"),
    "no node": completed("4"),
    "no index": completed("2.1"),
}

IGNORED: dict[str, What] = dict.fromkeys(("forged", "as the engine", "another attempt", "no key", "no node"), "ignored")

EXPECTED: dict[str, dict[str, What]] = {
    "not begun": {
        "started": "moves", "signal": "kept", "cancellation": "kept", "this step": "kept", "a later step": "kept",
        "no index": "kept", **IGNORED,
    },
    "not begun, cancelled": {
        "started": "moves", "signal": "kept", "cancellation": "kept", "this step": "kept", "a later step": "kept",
        "no index": "kept", **IGNORED,
    },
    "running": {
        "started": "raises", "signal": "kept", "cancellation": "moves", "this step": "moves", "a later step": "kept",
        "no index": "ignored", **IGNORED,
    },
    "ending": {
        "started": "raises", "signal": "kept", "cancellation": "kept", "this step": "moves", "a later step": "ignored",
        "no index": "ignored", **IGNORED,
    },
    "finished": dict.fromkeys(EVENTS, "ignored"),
}  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_against_every_event(state: str, event: str) -> None:
    check(STATES[state](), EVENTS[event], EXPECTED[state][event])


FRAMES: dict[str, tuple[Callable[[], Run], str]] = {
    # how to come to a frame of each kind, and the key of the frame
    "SQL": (lambda: run(sql("a")), "1"),
    "THEN": (lambda: run(seq(sql("a"), sql("b"))), "1"),
    "JOIN": (lambda: run(join(sql("a"), sql("b"))), "1"),
    "RACE": (lambda: run(race(sql("a"), sql("b"))), "1"),
    "IF, asking": (lambda: run(if_(sql("a"), sql("b"), sql("c"))), "1"),
    "IF, taken": (lambda: run(if_(sql("a"), sql("b"), sql("c"))).done("4", cell(1)), "1"),
    "LOOP, body": (lambda: run(loop(sql("a"), sql("b"))), "1"),
    "LOOP, condition": (lambda: run(loop(sql("a"), sql("b"))).done("2.1"), "1"),
    "LOOP, pausing": (lambda: run(loop(sql("a"), every=9)).done("2.1"), "1.1"),
    "SLEEP": (lambda: run(sleep(5)), "1"),
    "SIGNAL": (lambda: run(wait("s")), "1"),
    "SIGNAL with a timeout": (lambda: run(wait("s", 5)), "1"),
    "WAIT_SCHEDULE": (lambda: run(schedule("* * * * *")), "1"),
    "TIMEOUT": (lambda: run(timeout(wait("x"), 5)), "1"),
    "CATCH, trying": (lambda: run(catch(sql("a"), sql("b"))), "1"),
    "CATCH, settling": (lambda: run(catch(timeout(sql("a"), 5), sql("b"))).fire("2"), "1"),
    "CATCH, handling": (lambda: run(catch(sql("a"), sql("b"))).fail("2"), "1"),
    "RETRY, trying": (lambda: run(retry(sql("a"))), "1.1"),
    "RETRY, settling": (lambda: run(retry(timeout(sql("a"), 5))).fire("2.1"), "1.1"),
    "RETRY, resting": (lambda: run(retry(sql("a"))).fail("2.1"), "1.1"),
    "UNDO": (lambda: run(undo(sql("a"), sql("b"))), "1"),
    "SQL of an undo": (lambda: run(seq(undo(sql("a"), sql("b")), sql("c"))).done("3").fail("5"), "4"),
    "SQL of an undo, resting": (
        lambda: run(seq(undo(sql("a"), sql("b")), sql("c"))).done("3").fail("5").fail("4"),
        "4.1",
    ),
    "MAP, asking": (lambda: run(map_(sql("a"), sql("b"))), "1"),
    "MAP, running": (lambda: run(map_(sql("a"), sql("b"))).done("2", rows({"i": 1})), "1"),
    "CALL_CHILD": (lambda: run(child(sql("a"))), "1"),
    "CALL_CHILD's timer": (lambda: run(child(sql("a"), timeout_seconds=5, on_parent_cancel="abandon")), "1.1"),
    "AWAIT_INSTANCE": (lambda: run(await_("other")), "1"),
}
NO_KEY: dict[str, What] = {"submitter": "ignored", "engine": "raises"}
BY_ENGINE: dict[str, What] = {"submitter": "ignored", "engine": "moves"}
FRAME_EXPECTED: dict[str, dict[str, What]] = {
    **dict.fromkeys(("THEN", "JOIN", "RACE", "IF, asking", "IF, taken", "LOOP, body", "LOOP, condition"), NO_KEY),
    "SQL": {"submitter": "moves", "engine": "ignored"},
    "LOOP, pausing": {"submitter": "ignored", "engine": "moves"},
    "SLEEP": {"submitter": "ignored", "engine": "moves"},
    "SIGNAL": NO_KEY,
    **dict.fromkeys(
        ("CATCH, trying", "CATCH, settling", "CATCH, handling", "UNDO", "MAP, asking", "MAP, running"), NO_KEY
    ),
    **dict.fromkeys(
        (
            "WAIT_SCHEDULE",
            "TIMEOUT",
            "RETRY, resting",
            "SQL of an undo, resting",
            "CALL_CHILD",
            "CALL_CHILD's timer",
            "AWAIT_INSTANCE",
        ),
        BY_ENGINE,
    ),
    "RETRY, trying": {"submitter": "ignored", "engine": "kept"},
    "RETRY, settling": {"submitter": "ignored", "engine": "kept"},
    "SQL of an undo": {"submitter": "moves", "engine": "ignored"},
    "SIGNAL with a timeout": {"submitter": "ignored", "engine": "moves"},
}


@pytest.mark.parametrize("by", ["submitter", "engine", "nobody"])
@pytest.mark.parametrize("frame", FRAMES)
def test_every_frame_against_a_completion_under_its_key(frame: str, by: str) -> None:
    make, key = FRAMES[frame]
    run_as = {"submitter": ROLE, "engine": machine.ENGINE, "nobody": ROLE + 1}[by]
    check(make(), completed(key, run_as), FRAME_EXPECTED[frame].get(by, "ignored"))


@pytest.mark.parametrize("frame", FRAMES)
def test_every_frame_against_a_signal(frame: str) -> None:
    make, _ = FRAMES[frame]
    check(make(), EVENTS["signal"], "moves" if frame.startswith("SIGNAL") else "kept")


@pytest.mark.parametrize("frame", [frame for frame in FRAMES if "of an undo" not in frame])
def test_every_frame_against_a_cancellation(frame: str) -> None:
    make, _ = FRAMES[frame]
    begun = make()
    waiting_for_steps = {*begun.open, *begun.draining, *(begun.children if frame == "CALL_CHILD" else ())}
    begun.cancel()
    assert set(begun.draining) == waiting_for_steps
    assert begun.timers == {}
    assert begun.state.waits == {}
    assert begun.status == ("running" if waiting_for_steps else "cancelled")


@pytest.mark.parametrize("frame", list(FRAMES)[:12])
def test_every_frame_is_given_up_when_it_loses_a_race(frame: str) -> None:
    inner = {
        "SQL": sql("a"), "THEN": seq(sql("a"), sql("b")), "JOIN": join(sql("a"), sql("b")), "RACE": race(sql("a"), sleep(9)),
        "IF, asking": if_(sql("a"), sql("b"), sql("c")), "IF, taken": if_(wait("x"), sql("b"), sql("c")),
        "LOOP, body": loop(sql("a")), "LOOP, condition": loop(wait("x"), sql("b")), "LOOP, pausing": loop(loop(brk())),
        "SLEEP": sleep(5), "SIGNAL": wait("s"), "SIGNAL with a timeout": wait("s", 5),
    }[frame]  # fmt: skip
    begun = Run(race(inner, seq(wait("win"), wait("again")))).signal("x").start()
    open_before = set(begun.open)
    begun.signal("win").signal("again")
    assert set(begun.draining) == open_before
    assert begun.steps == set()
    for step in open_before:
        begun.stopped(step)
    assert begun.result["signal_name"] == "again"


def check(begun: Run, event: Event, expected: What) -> None:
    before = begun.state
    if expected == "raises":
        with pytest.raises(MachineError):
            machine.fold(begun.subject, before, event)
        return
    after, effects = machine.fold(begun.subject, before, event)
    if expected == "ignored":
        assert after is before
        assert effects == ()
    elif expected == "kept":
        assert effects == ()
        assert after.root == before.root
        assert after.ending == before.ending
    else:
        assert effects or after.root != before.root or after.draining != before.draining
