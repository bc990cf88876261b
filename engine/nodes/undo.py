"""UNDO: a node, and what undoes it should something after it fail.

=========  ====================================  =======================================================
state      event                                 becomes
=========  ====================================  =======================================================
begins                                           left entered, *doing*
doing      Done                                  Done, and right is owed
doing      Failed, Broke                         the same; nothing is owed
doing      abandoned                             a ghost: should its steps in flight complete it, right is owed
=========  ====================================  =======================================================

Who runs what is owed, and when, is the machine's: see there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from engine.frames import Done, Fold, Frame, Owed, Result, Where, entered_by, finish, framed
from engine.graph import Kind, Node
from engine.values import Names


@framed
@dataclass(frozen=True, slots=True)
class Doing(Frame):
    tag: ClassVar[str] = "undo"
    node: int
    indices: tuple[int, ...]
    inner: Frame

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        return self.inner if target == self.inner.node else Where.FUTURE

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        if isinstance(result, Frame):
            return replace(self, inner=result)
        return _ended(fold, fold.graph.node(self.node), self.indices, result)

    def abandon(self, fold: Fold) -> None:
        self.inner.abandon(fold)
        fold.haunt(self)

    def children(self) -> Iterable[Frame]:
        return (self.inner,)


@entered_by(Kind.UNDO)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    assert node.left is not None
    result = fold.enter(node.left, indices, names)
    if isinstance(result, Frame):
        return Doing(node.number, indices, result)
    return _ended(fold, node, indices, result)


def _ended(fold: Fold, node: Node, indices: tuple[int, ...], result: Result) -> Result:
    if not isinstance(result, Done):
        return result
    done = finish(node, result.value, result.names)
    fold.owe(Owed(node.number, indices, done.names))
    return done
