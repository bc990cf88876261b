"""The story of an instance: one event for each row that moved it, as the log tells it, and for what it asked for then.

`Told` is called after each fold that changed something. `to_log` writes the story at level debug, the instance's id under
`instance`: one grep follows it to its end. Only names, numbers and codes are told: texts of queries, parameters, variables,
results and error messages may hold anybody's secrets. A leader that takes over reads some rows again, and tells them again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence

from engine.effects import (
    AwaitInstance,
    CancelChild,
    CancelStep,
    DropTimer,
    DropWait,
    Effect,
    Execute,
    Finish,
    StartChild,
    StartTimer,
    TakeSignal,
)
from engine.errors import MachineError
from engine.events import CancelRequested, Completed, Event, Signalled, Started
from engine.instance import Live
from engine.log import fields, time_text

Told = Callable[[Live, Event, tuple[Effect, ...]], None]
Line = tuple[str, dict[str, object]]

log = logging.getLogger("walflow.story")


def all_of(listeners: Sequence[Told]) -> Told | None:
    """All of them as one; None where there is none."""
    if len(listeners) < 2:
        return listeners[0] if listeners else None

    def told(live: Live, event: Event, effects: tuple[Effect, ...]) -> None:
        for listener in listeners:
            listener(live, event, effects)

    return told


def to_log(live: Live, event: Event, effects: tuple[Effect, ...]) -> None:
    """Writes what happened and what follows from it."""
    _write(live, event.at_us, line_of(event))
    for effect in effects:
        _write(live, event.at_us, line_asked(live, event, effect))


def _write(live: Live, at_us: int, line: Line) -> None:
    message, more = line
    subject = live.subject
    log.debug(
        message, extra=fields(instance=subject.id, key=subject.key, role=subject.submitter, at=time_text(at_us), **more)
    )


def line_of(event: Event) -> Line:
    """What a row says."""
    match event:
        case Started():
            return "instance started", {}
        case Signalled():
            return "signal came", {"name": event.name}
        case CancelRequested():
            return "cancellation came", {}
        case Completed():
            code = {} if event.error is None else {"code": code_of(event.error)}
            return f"step {event.outcome}", {"step": event.step, "attempt": event.attempt, **code}


def line_asked(live: Live, event: Event, effect: Effect) -> Line:
    """What is to happen because of it."""
    match effect:
        case Execute():
            return "step wanted", {"step": effect.step, "node": effect.node, "attempt": effect.attempt}
        case CancelStep():
            return "step is to be cancelled", {"step": effect.step, "attempt": effect.attempt}
        case StartTimer():
            return "timer set", {"step": effect.step, "due": time_text(effect.due_us)}
        case StartChild():
            return "child wanted", {"step": effect.step, "child": f"~{live.key}/{effect.step}"}
        case CancelChild():
            return "child is to be cancelled", {"step": effect.step, "child": f"~{live.key}/{effect.step}"}
        case AwaitInstance():
            return "waits for an instance", {"step": effect.step, "awaited": effect.instance_id}
        case DropTimer() | DropWait():
            return "waits no longer", {"step": effect.step}
        case TakeSignal():
            return "signal taken", {"step": effect.step}
        case Finish():
            seconds = (event.at_us - (live.started_us or event.at_us)) / 1_000_000
            code = {} if effect.error is None else {"code": code_of(effect.error)}
            return f"instance {effect.status}", {"seconds": seconds, **code}
    raise MachineError(f"{effect} is no effect")


def code_of(error: str) -> str:
    """The code of an error's JSON text: an SQLSTATE or one of our own words. A role may write rows of its own: never raises."""
    try:
        found = json.loads(error)
    except ValueError:
        return "unknown"
    code = found.get("code") if isinstance(found, dict) else None
    return code if isinstance(code, str) and len(code) <= 20 else "unknown"
