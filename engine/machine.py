"""The machine: fold(state, event) -> state', effects. It reads no clock, draws no random number and does no I/O.

Theory of operation. The same events always fold to the same state and effects (One way in), because all that decides is in
the state, the subject and the event. A state is a value: a fold that raises has changed nothing, and its caller sets the
instance aside (One workflow's trouble stays its own).

=============  =======================  ==============================================================
state          event                    becomes
=============  =======================  ==============================================================
not begun      Started                  the root entered
not begun      anything else            kept: signals are buffered, completions and the first cancellation too
running        Signalled                the wait that began first goes on, else buffered
running        Completed                the frame of its key goes on; see below
running        CancelRequested          everything abandoned, *ending* as cancelled
running        the root ended           *ending*
ending         no key is waited for     *finished*: Finish asked for
ending         Completed                the key is not waited for any more
finished       anything                 ignored
=============  =======================  ==============================================================

A completion counts only under the key's own `run_as`: the submitter's for statements, 0 for timers. It is for the past (its
node is decided: ignored), for an open frame (delivered), for an abandoned step (drained: the instance's end waits for it)
or for the future (kept: a table scan cannot know the log's order). What was kept is delivered as soon as its step is
reached, by the fold that reached it, as if its row came next: the row is then the cause of what follows, and its time counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import engine.nodes
from engine.effects import CancelStep, Effect, Finish
from engine.errors import Failure, MachineError
from engine.events import CancelRequested, Completed, Event, Signalled, Started
from engine.frames import (
    Broke,
    Done,
    Failed,
    Fold,
    Frame,
    Outcome,
    Result,
    Subject,
    Wait,
    Where,
    parse_step_key,
)
from engine.graph import Kind
from engine.limits import RECURSION, STASH_COMPLETIONS

assert engine.nodes
sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION))

ENGINE = 0
"""`run_as` of what the engine itself does."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the instance will end, once every key is answered."""

    status: Literal["completed", "failed", "cancelled"]
    result: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that is known of an unfinished instance.

    `at_us` is its time (it never goes back), `folds` counts the rows taken in, `waits` are open waits for signals in the
    order in which they began, `draining` the abandoned steps whose keys are not answered (with the row that caused it),
    `stash` completions of steps that are not reached yet, in the order in which they came, `cancelled` the reason of a
    cancellation that came before the start.
    """

    folds: int = 0
    at_us: int = 0
    started_us: int | None = None
    root: Frame | None = None
    ending: Ending | None = None
    finished: bool = False
    signals: tuple[Signalled, ...] = ()
    waits: dict[str, Wait] = field(default_factory=dict)
    draining: dict[str, str] = field(default_factory=dict)
    stash: dict[str, Completed] = field(default_factory=dict)
    cancelled: str | None = None


NEW = State()

Folded = tuple[State, tuple[Effect, ...]]


def fold(subject: Subject, state: State, event: Event) -> Folded:
    """Folds one event. What is ignored leaves the very same state: it is none of the instance's history.

    Raises:
        MachineError: the event fits no state; a bug, here or in whoever wrote the row. Nothing was changed.
    """
    if state.finished:
        return state, ()
    work = _begin(subject, state, event)
    state = _folded(work, state, event)
    while work.reached:
        work, kept = _take_kept(work, state)
        state = _folded(work, state, kept)
    return state, tuple(work.effects.values())


def _begin(subject: Subject, state: State, event: Event) -> Fold:
    work = Fold(subject, state.folds + 1, max(state.at_us, event.at_us), event.event_id)
    work.signals = state.signals
    work.waits, work.draining, work.stash = dict(state.waits), dict(state.draining), dict(state.stash)
    return work


def _folded(work: Fold, state: State, event: Event) -> State:
    match event:
        case Completed():
            return _completed(work, state, event)
        case Signalled():
            return _signalled(work, state, event)
        case Started():
            return _started(work, state)
        case CancelRequested():
            return _cancelled(work, state, event)


def _take_kept(before: Fold, state: State) -> tuple[Fold, Completed]:
    """Of the completions kept for steps that are reached now the one that came first; and the work on it."""
    step = next(step for step in state.stash if step in before.reached)
    work = _begin(before.subject, state, state.stash[step])
    work.effects = before.effects
    work.reached = before.reached - {step}
    return work, work.stash.pop(step)


def outstanding(subject: Subject, state: State) -> tuple[Effect, ...]:
    """Every effect that was asked for and that no folded row has answered: what a new leader dispatches again."""
    if state.finished:
        return ()
    work = Fold(subject, state.folds, state.at_us, "")
    for step, cause in state.draining.items():
        work.emit(CancelStep(step, cause))
    if state.root is not None:
        state.root.outstanding(work)
    return tuple(work.effects.values())


def _started(work: Fold, state: State) -> State:
    if state.started_us is not None:
        raise MachineError("the instance has begun already")
    state = replace(state, started_us=work.at_us)
    if state.cancelled is not None:
        return _settle(work, state, None, _cancellation(state.cancelled))
    return _advance(work, state, work.enter(1, (), work.subject.scope.nested()))


def _signalled(work: Fold, state: State, event: Signalled) -> State:
    for step, wait in work.waits.items():
        if wait.name == event.name and state.root is not None:
            path = _path(work, state.root, wait.node, wait.indices)
            assert isinstance(path, list)
            work.drop_wait(step)
            return _advance(work, state, _climb(work, path, path[-1].signalled(work, event)))
    work.signals = (*work.signals, event)
    return _settle(work, state, state.root, state.ending)


def _cancelled(work: Fold, state: State, event: CancelRequested) -> State:
    if state.started_us is None:
        reason = event.reason if state.cancelled is None else state.cancelled
        return _settle(work, replace(state, cancelled=reason), None, None)
    if state.ending is not None:
        return _settle(work, state, None, state.ending)
    if state.root is not None:
        state.root.abandon(work)
    return _settle(work, state, None, _cancellation(event.reason))


def _completed(work: Fold, state: State, event: Completed) -> State:
    key = parse_step_key(event.step)
    if event.attempt != 1 or key is None or key[0] > len(work.graph.nodes):
        return state
    number, indices = key
    kind = work.graph.node(number).kind
    if event.run_as != (work.subject.submitter if kind is Kind.SQL else ENGINE):
        return state
    if event.step in work.draining:
        del work.draining[event.step]
        return _settle(work, state, state.root, state.ending)
    if state.started_us is None:
        return _keep(work, state, event)
    if state.root is None:
        return state
    path = _path(work, state.root, number, indices)
    if path is Where.FUTURE:
        return _keep(work, state, event)
    if path is Where.PAST:
        return state
    return _advance(work, state, _climb(work, path, path[-1].delivered(work, event)))


def _keep(work: Fold, state: State, event: Completed) -> State:
    if len(work.stash) >= STASH_COMPLETIONS:
        raise MachineError(f"more than {STASH_COMPLETIONS} completions for steps that are not reached yet")
    if event.step not in work.stash:
        work.stash[event.step] = event
    work.at_us = state.at_us
    return _settle(work, state, state.root, state.ending)


def _path(work: Fold, root: Frame, number: int, indices: tuple[int, ...]) -> list[Frame] | Where:
    """The open frames from the root down to that of a key, or where the key lies that has none."""
    frame, path = root, [root]
    for target in work.graph.route(number)[1:]:
        inner = frame.child(target, indices)
        if isinstance(inner, Where):
            return inner
        frame = inner
        path.append(frame)
    return _exactly(path, indices)


def _exactly(path: list[Frame], indices: tuple[int, ...]) -> list[Frame] | Where:
    """A key with one index more than its node has is that of a loop's pause; with any other number it is nobody's."""
    last = path[-1]
    if indices == last.indices:
        return path
    if indices[:-1] == last.indices and len(indices) > len(last.indices):
        return last.pause(indices[-1]) or path
    return Where.PAST


def _climb(work: Fold, path: list[Frame], result: Result) -> Result:
    """Tells each frame what became of its child, from the bottom up."""
    for depth in range(len(path) - 2, -1, -1):
        result = path[depth].resumed(work, path[depth + 1].node, result)
    return result


def _advance(work: Fold, state: State, result: Result) -> State:
    if isinstance(result, Frame):
        return _settle(work, state, result, None)
    return _settle(work, state, None, _ending(result))


def _ending(outcome: Outcome) -> Ending:
    match outcome:
        case Done(value=value):
            return Ending("completed", value.text, None)
        case Failed(failure=failure):
            return Ending("failed", None, failure.to_json())
        case Broke():
            raise MachineError("a BREAK outside any loop")


def _cancellation(reason: str) -> Ending:
    return Ending("cancelled", None, Failure(reason, "cancelled", 1, "1").to_json())


def _settle(work: Fold, state: State, root: Frame | None, ending: Ending | None) -> State:
    finished = ending is not None and not work.draining
    if finished and ending is not None:
        work.effects[Finish, ""] = Finish(ending.status, ending.result, ending.error)
    return State(
        folds=work.number,
        at_us=work.at_us,
        started_us=state.started_us,
        root=root,
        ending=ending,
        finished=finished,
        signals=() if ending is not None else work.signals,
        waits=work.waits,
        draining=work.draining,
        stash={} if ending is not None else work.stash,
        cancelled=state.cancelled,
    )


def frames(state: State) -> Iterator[Frame]:
    """Every open frame, the root first."""
    open_frames = [] if state.root is None else [state.root]
    while open_frames:
        frame = open_frames.pop()
        yield frame
        open_frames.extend(frame.children())
