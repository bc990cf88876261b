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
ending         Completed                of an undo: it goes on; of an abandoned step: its key is not waited for any more
ending         nothing is waited for    *finished*: Finish asked for
finished       anything                 ignored
=============  =======================  ==============================================================

Undo. What fails, loses or is cancelled is *unwound*: a scope (a try, the left of a CATCH, a branch, a row, the instance) whose
keys are all waited for, and whose owed undos then run one after the other, the last that was owed first. Unwindings stand
beside the tree of frames, so that abandoning a branch, or cancelling the instance, does not touch them. An abandoned node
that has an undo stays as a *ghost* until its steps in flight are answered: a success counts, and its undo is owed.

A completion counts only under the key's own `run_as`: the submitter's for statements, 0 for all else. It is for the past
(its node is decided: ignored), for an open frame (delivered), for an abandoned step (drained: whatever must not overlap with
it waits for that) or for the future (kept: a table scan cannot know the log's order). What was kept is delivered as soon as its
step is reached, by the fold that reached it, as if its row came next: the row is then the cause of what follows, and its time
counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import engine.nodes
from engine.buffer import NO_SIGNALS, Signals
from engine.effects import AwaitInstance, Effect, Finish, StartChild, StartTimer
from engine.errors import Failure, MachineError, beside
from engine.events import CancelRequested, Completed, Event, Signalled, Started
from engine.frames import (
    Done,
    Failed,
    Fold,
    Frame,
    Key,
    Outcome,
    Owed,
    Result,
    Scope,
    Subject,
    Unwinding,
    Wait,
    Where,
    parse_step_key,
    step_key,
)
from engine.graph import Kind
from engine.limits import RECURSION, RESULT_LEVELS, SLEEPER_FRAMES, STASH_COMPLETIONS
from engine.resulttext import nests_deeper
from engine.values import Value

assert engine.nodes
sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION))

ENGINE = 0
"""`run_as` of what the engine itself does."""
FOREVER = 1 << 62
"""A due time that never comes."""
MANY_STIRRED = 8
"""Unwindings that may have become ready at once: for more it pays to note first where abandoned steps lie."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the instance will end, once every key is answered and everything owed is undone."""

    status: Literal["completed", "failed", "cancelled"]
    result: str | None
    failure: Failure | None


@dataclass(slots=True, kw_only=True)
class State:
    """All that is known of an unfinished instance. Nobody changes one; frozen, it would cost a tenth of each fold to make.

    `at_us` is its time (it never goes back), `folds` counts the rows taken in, `waits` are open waits for signals in the
    order in which they began, `draining` the abandoned steps whose keys are not answered (with the row that caused it),
    `stash` completions of steps that are not reached yet, in the order in which they came, `cancelled` the reason of a
    cancellation that came before the start. `owed`: undos, in the order in which their nodes completed; `ghosts`: abandoned
    nodes that may still come to owe one; `undo_failures`: of undos whose scope nobody waited for.
    """

    folds: int = 0
    at_us: int = 0
    started_us: int | None = None
    root: Frame | None = None
    ending: Ending | None = None
    finished: bool = False
    signals: Signals = NO_SIGNALS
    waits: dict[str, Wait] = field(default_factory=dict)
    draining: dict[Key, str] = field(default_factory=dict)
    stash: dict[Key, Completed] = field(default_factory=dict)
    cancelled: str | None = None
    owed: tuple[Owed, ...] = ()
    ghosts: tuple[Frame, ...] = ()
    unwinding: tuple[Unwinding, ...] = ()
    undo_failures: tuple[Failed, ...] = ()


NEW = State()

Folded = tuple[State, tuple[Effect, ...]]


class _Work(Fold):
    """A fold with the instance itself: its root, and how it ends. `ignored`: the event is none of its history.

    `before_us` is the instance's time without the row that is being folded.
    """

    __slots__ = ("before_us", "cancelled", "ending", "ignored", "root", "started_us")

    def __init__(self, subject: Subject, state: State, event: Event | None) -> None:
        self.subject, self.graph = subject, subject.graph
        if event is None:
            self.number, self.at_us, self.cause = state.folds, state.at_us, ""
        else:
            self.number, self.at_us, self.cause = state.folds + 1, max(state.at_us, event.at_us), event.event_id
        self.closed = self.waited = False
        self.work = [0, 0]
        self.reading = None
        self.stirred = {}
        self.effects, self.reached = {}, set()
        self.signals, self.waits = state.signals, dict(state.waits)
        self.draining, self.stash = dict(state.draining), dict(state.stash)
        self.owed, self.ghosts, self.undo_failures = state.owed, state.ghosts, state.undo_failures
        self.unwinding = {u.scope: u for u in state.unwinding} if state.unwinding else {}
        self.root, self.ending = state.root, state.ending
        self.started_us, self.cancelled = state.started_us, state.cancelled
        self.ignored = False
        self.before_us = state.at_us

    def state(self) -> State:
        over = self.ending is not None
        return State(
            folds=self.number,
            at_us=self.at_us,
            started_us=self.started_us,
            root=self.root,
            ending=self.ending,
            finished=over and not self.draining and not self.unwinding,
            signals=NO_SIGNALS if over and not self.unwinding else self.signals,
            waits=self.waits,
            draining=self.draining,
            stash={} if over and not self.unwinding else self.stash,
            cancelled=self.cancelled,
            owed=self.owed,
            ghosts=self.ghosts,
            unwinding=tuple(self.unwinding.values()),
            undo_failures=self.undo_failures,
        )


def fold(subject: Subject, state: State, event: Event) -> Folded:
    """Folds one event. What is ignored leaves the very same state: it is none of the instance's history.

    Raises:
        MachineError: the event fits no state; a bug, here or in whoever wrote the row. Nothing was changed.
    """
    if state.finished:
        return state, ()
    work = _Work(subject, state, event)
    _fold(work, event)
    if work.ignored:
        return state, ()
    while work.reached:
        _fold_kept(work)
    after = work.state()
    if after.finished:
        ending = _last_word(work)
        work.effects[Finish, "", 1] = Finish(
            ending.status, ending.result, None if ending.failure is None else ending.failure.to_json()
        )
    return after, tuple(work.effects.values())


def _fold(work: _Work, event: Event) -> None:
    match event:
        case Completed():
            _completed(work, event)
        case Signalled():
            _signalled(work, event)
        case Started():
            _started(work)
        case CancelRequested():
            _cancelled(work, event)
    if work.stirred:
        _unwind(work)


def _fold_kept(work: _Work) -> None:
    """Of the completions kept for keys that are reached now the one that came first, as if its row came next."""
    key = next(key for key in work.stash if key in work.reached)
    work.reached.remove(key)
    kept = work.stash.pop(key)
    work.number += 1
    work.before_us = work.at_us
    work.at_us = max(work.at_us, kept.at_us)
    work.cause = kept.event_id
    work.waited = False
    work.work = [0, 0]
    _fold(work, kept)


def outstanding(subject: Subject, state: State) -> tuple[Effect, ...]:
    """Every effect that was asked for and that no folded row has answered: what a new leader dispatches again."""
    if state.finished:
        return ()
    work = _Work(subject, state, None)
    for (step, attempt), cause in state.draining.items():
        work.drain(step, cause, attempt)
    for tree in _trees(work):
        tree.outstanding(work)
    return tuple(work.effects.values())


def asleep_until(subject: Subject, state: State, is_there: Callable[[str], bool]) -> int | None:
    """When the next timer of an instance is due that does nothing but wait (`FOREVER` without one); None while it is busy.

    `is_there` says of a step that waits for a child or an instance whether the row that it asked for was folded: until then
    it is under way. With more than `SLEEPER_FRAMES` open nodes an instance counts as busy: to look would cost too much.
    """
    if state.finished or state.draining or state.started_us is None:
        return None
    for count, frame in enumerate(frames(state), 1):
        if frame.busy or count > SLEEPER_FRAMES:
            return None
    due_us = FOREVER
    for effect in outstanding(subject, state):
        match effect:
            case StartTimer():
                due_us = min(due_us, effect.due_us)
            case StartChild() | AwaitInstance() if is_there(effect.step):
                pass
            case _:
                return None
    return due_us


def is_open(subject: Subject, state: State, step: str) -> bool:
    """Whether a frame waits for the completion of this step."""
    key = parse_step_key(step)
    if state.finished or key is None or key[0] > len(subject.graph.nodes):
        return False
    work = _Work(subject, state, None)
    return not isinstance(_locate(work, *key), Where)


def progress(subject: Subject, state: State) -> list[dict[str, int | str]]:
    """The open nodes, for whoever looks on: `node`, `step`, `state` and what its kind adds."""
    work = _Work(subject, state, None)
    return [
        {"node": frame.node, "step": step_key(frame.node, frame.indices), "state": "running", **frame.shown(work)}
        for frame in frames(state)
    ]


def _started(work: _Work) -> None:
    if work.started_us is not None:
        raise MachineError("the instance has begun already")
    work.started_us = work.at_us
    if work.cancelled is not None:
        work.ending = _cancellation(work.cancelled)
    else:
        _put(work, None, work.enter(1, (), work.subject.scope.nested()))


def _signalled(work: _Work, event: Signalled) -> None:
    for step, wait in work.waits.items():
        if wait.name == event.name:
            place = _locate(work, wait.node, wait.indices)
            assert not isinstance(place, Where)
            base, path = place
            work.drop_wait(step)
            _put(work, base, _climb(work, path, path[-1].signalled(work, event)))
            return
    work.signals = work.signals.put(event)


def _cancelled(work: _Work, event: CancelRequested) -> None:
    if work.started_us is None:
        work.cancelled = event.reason if work.cancelled is None else work.cancelled
    elif work.ending is None:
        if work.root is not None:
            work.root.abandon(work)
        work.root = None
        work.ending = _cancellation(event.reason)
        _unwind_all(work, Failure(event.reason, "cancelled", 1, "1"))


def _completed(work: _Work, event: Completed) -> None:
    parsed = parse_step_key(event.step)
    if parsed is None or parsed[0] > len(work.graph.nodes):
        work.ignored = True
        return
    number, indices = parsed
    node = work.graph.node(number)
    own = len(indices) == len(node.loops)
    # a key with one index more is that of a pause of the node: the engine's
    by_role = own and node.kind is Kind.SQL
    if event.run_as != (work.subject.submitter if by_role else ENGINE) or (
        event.attempt != 1 and not (by_role and node.undoing)
    ):
        work.ignored = True
    elif (event.step, event.attempt) in work.draining:
        del work.draining[event.step, event.attempt]
        _stir(work, number, indices)
        _tell_ghosts(work, number, indices, event)
    elif work.started_us is None:
        _keep(work, event)
    else:
        place = _locate(work, number, indices)
        if own and not isinstance(place, Where):
            place = place[1][-1].expects(event.attempt) or place
        if place is Where.PAST:
            work.ignored = True
        elif place is Where.FUTURE:
            _keep(work, event)
        else:
            base, path = place
            _put(work, base, _climb(work, path, path[-1].delivered(work, event)))


def _keep(work: _Work, event: Completed) -> None:
    if work.root is None and not work.unwinding and work.started_us is not None:
        work.ignored = True
        return
    if len(work.stash) >= STASH_COMPLETIONS:
        raise MachineError(f"more than {STASH_COMPLETIONS} completions for steps that are not reached yet")
    work.at_us = work.before_us  # it counts as if it came later
    work.stash.setdefault((event.step, event.attempt), event)


# --- where things are -------------------------------------------------------------------------------------------------

Place = tuple[Scope | None, list[Frame]]
"""The unwinding that a frame is in (None: the tree from the root), and the frames down to it."""


def _locate(work: _Work, number: int, indices: tuple[int, ...]) -> Place | Where:
    """Where the open frame of a key is, or where the key lies that has none."""
    if work.graph.node(number).undoing:
        return _locate_undoing(work, number, indices)
    if work.root is None:
        return Where.PAST
    path = _path(work, work.root, number, indices)
    return path if isinstance(path, Where) else (None, path)


def _locate_undoing(work: _Work, number: int, indices: tuple[int, ...]) -> Place | Where:
    """The same in an undo. Where undos are undone within one, the inmost that holds the key knows."""
    inmost: tuple[Unwinding, Frame] | None = None
    for unwinding in work.unwinding.values():
        inner = unwinding.inner
        if inner is not None and _is_in(work, inner, number, indices) and (not inmost or inner.node > inmost[1].node):
            inmost = unwinding, inner
    if inmost is None:
        return Where.FUTURE
    path = _path(work, inmost[1], number, indices)
    if isinstance(path, Where):
        return Where.FUTURE if _will_be_undone(work, number, indices) else path
    return inmost[0].scope, path


def _will_be_undone(work: _Work, number: int, indices: tuple[int, ...]) -> bool:
    """Whether a node is part of an undo that has its turn later."""
    owed = (o for unwinding in work.unwinding.values() for o in unwinding.entries)
    return any(work.scope(work.graph.node(o.node).right or 0, o.indices).holds(number, indices) for o in owed)


def _is_in(work: _Work, frame: Frame, number: int, indices: tuple[int, ...]) -> bool:
    return work.scope(frame.node, frame.indices).holds(number, indices)


def _path(work: _Work, top: Frame, number: int, indices: tuple[int, ...]) -> list[Frame] | Where:
    """The open frames from `top` down to that of a key, or where the key lies that has none."""
    frame, path = top, [top]
    route = work.graph.route(number)
    for target in route[route.index(top.node) + 1 :]:
        inner = frame.child(target, indices)
        if isinstance(inner, Where):
            return inner
        frame = inner
        path.append(frame)
    return _exactly(path, indices)


def _exactly(path: list[Frame], indices: tuple[int, ...]) -> list[Frame] | Where:
    """A key with one index more than its node has is that of a pause; with any other number it is nobody's."""
    last = path[-1]
    if indices == last.indices:
        return path
    if indices[:-1] == last.indices and len(indices) > len(last.indices):
        return last.pause(indices[-1]) or path
    return Where.PAST


def _climb(work: _Work, path: list[Frame], result: Result) -> Result:
    """Tells each frame what became of its child, from the bottom up."""
    for depth in range(len(path) - 2, -1, -1):
        result = path[depth].resumed(work, path[depth + 1], result)
    return result


def _put(work: _Work, base: Scope | None, result: Result) -> None:
    """The tree at `base` has become `result`."""
    if base is not None:
        _undone(work, base, result)
    elif isinstance(result, Frame):
        work.root = result
    else:
        work.root = None
        _end(work, result)


# --- the end ----------------------------------------------------------------------------------------------------------


def _end(work: _Work, outcome: Outcome) -> None:
    match outcome:
        case Done(value=value) if nests_deeper(value.text, RESULT_LEVELS):
            _end(work, Failed(Failure(f"the result nests deeper than {RESULT_LEVELS} levels", "54000", 1, "1")))
        case Done(value=value):
            work.ending = Ending("completed", value.text, None)
            work.release(_everything(work))
        case Failed(failure=failure):
            work.ending = Ending("failed", None, failure)
            _unwind_all(work, failure)
        case _:
            raise MachineError(f"the instance cannot end as {type(outcome).__name__}")


def _cancellation(reason: str) -> Ending:
    return Ending("cancelled", None, Failure(reason, "cancelled", 1, "1"))


def _everything(work: _Work) -> Scope:
    return Scope(1, len(work.graph.nodes), ())


def _unwind_all(work: _Work, failure: Failure) -> None:
    if work.owed or work.ghosts or work.unwinding:
        work.unwind(_everything(work), failure, None)


def _last_word(work: _Work) -> Ending:
    """How the instance ends. An undo that failed for good is never passed over in silence.

    Where it was that of a branch that lost, the instance has completed all the same: what won happened, and stays.
    """
    ending = work.ending
    assert ending is not None
    failures = [failed.failure for failed in work.undo_failures]
    if not failures:
        return ending
    if ending.failure is None:
        return replace(ending, failure=beside(failures[0].within("an undo failed: "), failures))
    return replace(ending, failure=beside(ending.failure, failures))


# --- undo -------------------------------------------------------------------------------------------------------------


def _tell_ghosts(work: _Work, number: int, indices: tuple[int, ...], event: Completed) -> None:
    """How an abandoned step ended, to the abandoned node with an undo that it is in."""
    for ghost in work.ghosts:
        if not ghost.node <= number or not _is_in(work, ghost, number, indices):
            continue
        path = _path(work, ghost, number, indices)
        after: Result = ghost  # as it is, where the step's part of it is decided
        if not isinstance(path, Where):
            work.closed = True
            after = _climb(work, path, path[-1].delivered(work, event))
            work.closed = False
        others = tuple(g for g in work.ghosts if g is not ghost)
        scope = work.scope(ghost.node, ghost.indices)
        waits = isinstance(after, Frame) and any(work.holds(scope, key) for key in work.draining)
        work.ghosts = (*others, after) if waits and isinstance(after, Frame) else others
        return


def _stir(work: _Work, number: int, indices: tuple[int, ...]) -> None:
    """Something that unwindings may have waited for is over: a key, or an unwinding within them."""
    for unwinding in work.around(number, indices):
        work.stirred[unwinding.scope] = None


def _unwind(work: _Work) -> None:
    """Whatever can be undone now begins. Only what was stirred can have become ready: there may be thousands that wait."""
    kept = _kept_busy(work) if len(work.stirred) > MANY_STIRRED else frozenset()
    while work.stirred:
        scope = next(iter(work.stirred))
        del work.stirred[scope]
        while (ready := work.unwinding.get(scope)) is not None and ready.inner is None:
            if scope in kept or not _is_quiet(work, scope):
                break
            if ready.entries:
                _undo(work, ready)
            else:
                del work.unwinding[scope]
                _stir(work, scope.first, scope.indices)
                _unwound(work, ready)


def _kept_busy(work: _Work) -> frozenset[Scope]:
    """The scopes that abandoned steps lie in: however much is undone, these are not answered in this fold."""
    parsed = (parse_step_key(step) for step, _ in work.draining)
    return frozenset(scope for key in parsed if key is not None for scope in work.scopes(*key))


def _is_quiet(work: _Work, scope: Scope) -> bool:
    """Whether nothing in the scope can commit any more, and nothing within it is being undone."""
    if any(other.first >= scope.first and other.within(scope) and other != scope for other in work.unwinding):
        return False
    return not any(work.holds(scope, key) for key in work.draining)


def _undo(work: _Work, unwinding: Unwinding) -> None:
    *rest, owed = unwinding.entries
    undo = work.graph.node(owed.node).right
    assert undo is not None
    work.unwinding[unwinding.scope] = replace(unwinding, entries=tuple(rest), running=owed)
    names = owed.names.nested().bind("error", Value(unwinding.error.failure.to_json()))
    _undone(work, unwinding.scope, work.enter(undo, owed.indices, names))


def _undone(work: _Work, scope: Scope, result: Result) -> None:
    unwinding = work.unwinding[scope]
    if isinstance(result, Frame):
        work.unwinding[scope] = replace(unwinding, inner=result)
        return
    owed = unwinding.running
    assert owed is not None
    entries, failures = unwinding.entries, unwinding.failures
    if isinstance(result, Failed):
        failures = (*failures, result)
    else:
        undo = work.graph.node(owed.node).right
        assert undo is not None
        inside = work.scope(undo, owed.indices)
        entries = tuple(o for o in entries if not inside.holds(o.node, o.indices))
    work.unwinding[scope] = replace(unwinding, entries=entries, failures=failures, running=None, inner=None)
    work.stirred[scope] = None


def _unwound(work: _Work, unwinding: Unwinding) -> None:
    """The scope is as if it had not begun, but for what could not be undone; whoever waits for that goes on."""
    place: Place | Where = Where.PAST if unwinding.waiter is None else _locate(work, *unwinding.waiter)
    if isinstance(place, Where):
        work.undo_failures = (*work.undo_failures, *unwinding.failures)
        return
    base, path = place
    _put(work, base, _climb(work, path, path[-1].unwound(work, unwinding.failures)))


def _trees(work: _Work) -> list[Frame]:
    roots = [u.inner for u in work.unwinding.values() if u.inner is not None]
    return roots if work.root is None else [work.root, *roots]


def frames(state: State) -> Iterator[Frame]:
    """Every open frame, those of the tree from the root first."""
    open_frames = [u.inner for u in reversed(state.unwinding) if u.inner is not None]
    if state.root is not None:
        open_frames.append(state.root)
    while open_frames:
        frame = open_frames.pop()
        yield frame
        open_frames.extend(frame.children())
