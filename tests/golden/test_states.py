"""States as each version of the codec wrote them: read, and folded on to the same end. They are never written anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.codec import VERSION, Stored, encode
from engine.effects import AwaitInstance, Effect, Execute, Finish, StartChild, StartTimer
from engine.events import Completed, Event, Signalled
from engine.frames import FRAMES, Subject
from engine.graph import graph_of
from engine.machine import State, fold, outstanding
from engine.values import Names, Value

STATES = Path(__file__).parent / "states"
HELD = [
    pytest.param(one, id=f"{path.stem}-{one['id']}")
    for path in sorted(STATES.glob("version*.json"))
    for one in json.loads(path.read_text())
]
OF_VERSION_1 = frozenset((
    "await", "catch", "child", "if", "join", "loop", "map", "race",
    "retry", "schedule", "signal", "sleep", "sql", "then", "timeout", "undo",
))  # fmt: skip
LATER = 4_000_000_000_000_000
"""Microseconds since 1970: after whatever they wait for."""


def subject_of(one: dict[str, Any]) -> Subject:
    return Subject(
        key=one["key"],
        id=one["id"],
        submitter=one["submitter"],
        graph=graph_of(one["graph"]),
        label="",
        variables={"sys_instance_id": one["id"], "sys_label": "", **json.loads(one["vars"] or "{}")},
        scope=Names({"input": Value(one["input"] or "null")}),
    )


def read(one: dict[str, Any], subject: Subject) -> State:
    return Stored(one["version"], one["state"]).state(subject.scope, one["results"])


def answers(subject: Subject, state: State, number: int) -> Iterator[Event]:
    """A row that answers what is outstanding, else the signal that is waited for, else a timer's."""
    effects = outstanding(subject, state)
    yield from (answer(subject, effect, number) for effect in effects if not isinstance(effect, StartTimer))
    yield from (Signalled(f"signal-{number}", LATER, wait.name, "{}") for wait in state.waits.values())
    yield from (answer(subject, effect, number) for effect in effects if isinstance(effect, StartTimer))


def answer(subject: Subject, effect: Effect, number: int) -> Completed:
    run_as, result = 0, "null"
    match effect:
        case Execute():
            # the only condition that there is: a loop ends
            run_as, result = subject.submitter, '{"rows":[{"it":false}],"row_count":1}'
        case StartChild():
            result = '{"instance_id":"c","status":"completed","result":null,"error":null}'
        case AwaitInstance():
            result = '{"instance_id":"a","status":"completed","result":null,"error":null}'
        case StartTimer():
            pass
        case _:
            raise AssertionError(effect)
    attempt = effect.attempt if isinstance(effect, Execute) else 1
    return Completed(f"row-{number}", LATER, run_as, effect.step, attempt, "completed", result, None)


@pytest.mark.parametrize("one", HELD)
def test_a_stored_state_is_read_and_folded_on_to_its_end(one: dict[str, Any]) -> None:
    subject = subject_of(one)
    state = read(one, subject)
    for number in range(50):
        event = next(answers(subject, state, number))
        state, effects = fold(subject, state, event)
        if state.finished:
            (end,) = [effect for effect in effects if isinstance(effect, Finish)]
            assert end.status == "completed", end
            return
    pytest.fail(f"it does not end: {state}")


@pytest.mark.parametrize("one", [one for one in HELD if one.values[0]["version"] == VERSION])  # type: ignore[index]
def test_a_state_of_this_version_is_written_as_it_was_read(one: dict[str, Any]) -> None:
    subject = subject_of(one)
    assert encode(read(one, subject), subject.scope) == one["state"]


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_every_version_has_a_state_of_every_kind_of_node(version: int) -> None:
    text = (STATES / f"version{version}.json").read_text()
    tags = set(re.findall(r'\{\\"f\\":\[\\"([a-z]+)\\"', text))
    assert tags >= (OF_VERSION_1 if version == 1 else FRAMES.keys())
