"""TIMEOUT: a node that fails when it takes too long.

=========  ====================================  =======================================================
state      event                                 becomes
=========  ====================================  =======================================================
begins                                           a timer asked for, left entered, *timing*
timing     left ends                             timer dropped; the same
timing     its timer's completion                left abandoned, Failed with code `timeout`
timing     abandoned                             timer dropped, left abandoned
=========  ====================================  =======================================================

Its timer's row alone decides: no setting of the server's is involved, and a replay times out at the same place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from engine.errors import Failure
from engine.events import Completed
from engine.frames import Done, Failed, Fold, Frame, Result, Where, entered_by, finish, framed, step_key
from engine.graph import Kind, Node, Timeout
from engine.values import Names


@framed
@dataclass(frozen=True, slots=True)
class Timing(Frame):
    tag: ClassVar[str] = "timeout"
    node: int
    indices: tuple[int, ...]
    inner: Frame
    due_us: int
    cause: str

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        return self.inner

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        if isinstance(result, Frame):
            return replace(self, inner=result)
        fold.drop_timer(step_key(self.node, self.indices))
        return _ended(fold.graph.node(self.node), result)

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        fold.at_us = max(fold.at_us, self.due_us)
        self.inner.abandon(fold)
        spec = fold.graph.node(self.node).spec
        assert isinstance(spec, Timeout)
        step = step_key(self.node, self.indices)
        return Failed(Failure(f"timed out after {spec.seconds} seconds", "timeout", self.node, step))

    def abandon(self, fold: Fold) -> None:
        fold.drop_timer(step_key(self.node, self.indices))
        self.inner.abandon(fold)

    def children(self) -> Iterable[Frame]:
        return (self.inner,)

    def outstanding(self, fold: Fold) -> None:
        self.inner.outstanding(fold)
        fold.cause = self.cause
        fold.start_timer(step_key(self.node, self.indices), self.due_us)

    def shown(self, fold: Fold) -> dict[str, int | str]:
        return {"due_us": self.due_us}


@entered_by(Kind.TIMEOUT)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    assert node.left is not None
    assert isinstance(node.spec, Timeout)
    step = step_key(node.number, indices)
    due_us = fold.at_us + round(node.spec.seconds * 1_000_000)
    fold.start_timer(step, due_us)
    result = fold.enter(node.left, indices, names)
    if isinstance(result, Frame):
        return Timing(node.number, indices, result, due_us, fold.cause)
    fold.drop_timer(step)
    return _ended(node, result)


def _ended(node: Node, result: Result) -> Result:
    return finish(node, result.value, result.names) if isinstance(result, Done) else result
