"""LOOP: a body, then perhaps a condition, again and again.

=============  ==============================  =========================================
state          event                           becomes
=============  ==============================  =========================================
begins                                         iteration 1: body entered
body           Done, no condition              *pausing*, or the next iteration's body
body           Done, condition                 condition entered
condition      Done, true                      *pausing*, or the next iteration's body
condition      Done, false                     Done with the body's last result
body, cond.    Broke                           Done with the break value
body, cond.    Failed                          Failed
pausing        its timer's completion          the next iteration's body
pausing        abandoned                       timer dropped
=============  ==============================  =========================================

The pause (LANGUAGE.md §7): `every` counts from start to start; without it an unconditional iteration that waited for
nothing is followed no sooner than a second after its start. An iteration that began and ended without taking in a row
pauses whatever was said, be it for no time: the loop then goes on by a row of its own, so that no fold runs for ever.
The pause's key is the loop's own with the iteration that ended appended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from engine.errors import Failure, MachineError
from engine.events import Completed
from engine.frames import Broke, Done, Failed, Fold, Frame, Result, Where, entered_by, finish, framed, step_key
from engine.graph import Kind, Loop, Node
from engine.limits import LOOP_PAUSE_US
from engine.values import NULL, Names, Value


@framed
@dataclass(frozen=True, slots=True)
class Open(Frame):
    """`folded` is the number of the row with which the iteration began; `last` the body's result while asking or pausing."""

    tag: ClassVar[str] = "loop"
    node: int
    indices: tuple[int, ...]
    iteration: int
    began_us: int
    folded: int
    waited: bool
    phase: Literal["body", "condition", "pausing"]
    inner: Frame | None
    last: Value
    names: Names
    due_us: int
    cause: str

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        depth = len(self.indices)
        iteration = indices[depth] if len(indices) > depth else 0
        if iteration != self.iteration:
            return Where.PAST if iteration < self.iteration else Where.FUTURE
        if self.inner is not None and target == self.inner.node:
            return self.inner
        # the condition has a higher number than the body
        return Where.FUTURE if self.phase == "body" else Where.PAST

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        waited = self.waited or fold.waited
        if isinstance(result, Frame):
            return replace(self, inner=result, waited=waited)
        here = replace(self, waited=waited, inner=None)
        after = _after_body if self.phase == "body" else _after_condition
        return _drive(fold, after(fold, here, result))

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        if self.phase != "pausing" or completed.step != self.pause_key():
            raise MachineError(f"loop {self.node} is not pausing at {completed.step}")
        fold.at_us = max(fold.at_us, self.due_us)
        return _drive(fold, _Again(self))

    def abandon(self, fold: Fold) -> None:
        if self.inner is not None:
            self.inner.abandon(fold)
        else:
            fold.drop_timer(self.pause_key())

    def pause(self, index: int) -> Where | None:
        if index == self.iteration and self.phase == "pausing":
            return None
        return Where.FUTURE if index >= self.iteration else Where.PAST

    def children(self) -> Iterable[Frame]:
        return () if self.inner is None else (self.inner,)

    def outstanding(self, fold: Fold) -> None:
        if self.inner is not None:
            self.inner.outstanding(fold)
        else:
            fold.cause = self.cause
            fold.start_timer(self.pause_key(), self.due_us)

    def shown(self, fold: Fold) -> dict[str, int | str]:
        if self.phase == "pausing":
            return {"state": "sleeping", "iteration": self.iteration, "due_us": self.due_us}
        return {"iteration": self.iteration}

    def pause_key(self) -> str:
        return step_key(self.node, (*self.indices, self.iteration))


@dataclass(frozen=True, slots=True)
class _Again:
    """The iteration is over and another one begins at once."""

    loop: Open


@entered_by(Kind.LOOP)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    before = Open(
        node=node.number,
        indices=indices,
        iteration=0,
        began_us=0,
        folded=0,
        waited=False,
        phase="body",
        inner=None,
        last=NULL,
        names=names,
        due_us=0,
        cause="",
    )
    return _drive(fold, _Again(before))


def _drive(fold: Fold, result: Result | _Again) -> Result:
    """Iterations that end at once follow one another here, without recursion."""
    while isinstance(result, _Again):
        result = _begin(fold, result.loop)
    return result


def _begin(fold: Fold, ended: Open) -> Result | _Again:
    """The iteration after `ended`."""
    node = fold.graph.node(ended.node)
    assert node.left is not None
    limit = fold.subject.loop_iterations
    if limit and ended.iteration >= limit:
        message = f"loop exceeds the limit of {limit} iterations (df.settings, loop_iterations)"
        return Failed(Failure(message, "54000", node.number, step_key(node.number, ended.indices)))
    loop = replace(
        ended,
        iteration=ended.iteration + 1,
        began_us=fold.at_us,
        folded=fold.number,
        waited=False,
        phase="body",
        last=NULL,
        cause="",
    )
    result, loop = _enter_child(fold, loop, node.left)
    return loop if isinstance(result, Frame) else _after_body(fold, loop, result)


def _enter_child(fold: Fold, loop: Open, target: int) -> tuple[Result, Open]:
    """Enters the body or the condition, and notes whether it waits for something."""
    around, fold.waited = fold.waited, False
    result = fold.enter(target, (*loop.indices, loop.iteration), loop.names)
    loop = replace(loop, waited=loop.waited or fold.waited, inner=result if isinstance(result, Frame) else None)
    fold.waited = around or loop.waited
    return result, loop


def _after_body(fold: Fold, loop: Open, outcome: Result) -> Result | _Again:
    node = fold.graph.node(loop.node)
    if not isinstance(outcome, Done):
        return _ended(fold, loop, outcome)
    loop = replace(loop, last=outcome.value, names=outcome.names)
    if node.condition is None:
        return _next(fold, node, loop)
    result, loop = _enter_child(fold, replace(loop, phase="condition"), node.condition)
    return loop if isinstance(result, Frame) else _after_condition(fold, loop, result)


def _after_condition(fold: Fold, loop: Open, outcome: Result) -> Result | _Again:
    node = fold.graph.node(loop.node)
    if not isinstance(outcome, Done):
        return _ended(fold, loop, outcome)
    if not fold.is_true(node, outcome.value):
        _release(fold, loop)
        return finish(node, loop.last, outcome.names)
    return _next(fold, node, replace(loop, names=outcome.names))


def _ended(fold: Fold, loop: Open, outcome: Result) -> Result:
    if not isinstance(outcome, Broke):
        return outcome
    _release(fold, loop)
    return finish(fold.graph.node(loop.node), outcome.value, outcome.names)


def _release(fold: Fold, loop: Open) -> None:
    """A completed iteration owes nothing any more."""
    fold.release(fold.scope(loop.node, (*loop.indices, loop.iteration)))


def _next(fold: Fold, node: Node, loop: Open) -> Result | _Again:
    _release(fold, loop)
    at_once = loop.folded == fold.number
    # a wait that began and was dropped again in one fold has waited for nothing
    due_us = loop.began_us + _distance_us(node, waited=loop.waited and not at_once)
    if due_us <= fold.at_us and not at_once:
        return _Again(loop)
    paused = replace(loop, phase="pausing", due_us=due_us, cause=fold.cause)
    fold.start_timer(paused.pause_key(), due_us)
    return paused


def _distance_us(node: Node, *, waited: bool) -> int:
    """From the start of an iteration to the earliest start of the next, microseconds."""
    assert isinstance(node.spec, Loop)
    if node.spec.every_seconds is not None:
        return round(node.spec.every_seconds * 1_000_000)
    return 0 if waited or node.condition is not None else LOOP_PAUSE_US
