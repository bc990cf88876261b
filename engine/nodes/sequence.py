"""THEN: a chain of any length is one frame that moves along its items.

=============  ==============================  =========================================
state          event                           becomes
=============  ==============================  =========================================
begins                                         first item entered
at item k      its child Done                  names bound, item k+1 entered; after the last Done
at item k      its child Failed or Broke       the same
=============  ==============================  =========================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from engine.frames import Done, Fold, Frame, Result, Where, entered_by, finish, framed
from engine.graph import ChainItem, Kind, Node
from engine.values import Names


@framed
@dataclass(frozen=True, slots=True)
class At(Frame):
    tag: ClassVar[str] = "then"
    node: int
    indices: tuple[int, ...]
    place: int
    inner: Frame

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        here = self.inner.node
        if target == here:
            return self.inner
        # pre-order: what stands before the current item has a smaller number
        return Where.PAST if target < here else Where.FUTURE

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        if isinstance(result, Frame):
            return At(self.node, self.indices, self.place, result)
        items = fold.graph.chain(self.node)
        return _go_on(fold, fold.graph.node(self.node), self.indices, items, self.place, result)

    def children(self) -> Iterable[Frame]:
        return (self.inner,)


@entered_by(Kind.THEN)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    items = fold.graph.chain(node.number)
    return _go_on(fold, node, indices, items, 0, fold.enter(items[0].node, indices, names))


def _go_on(
    fold: Fold, node: Node, indices: tuple[int, ...], items: tuple[ChainItem, ...], place: int, result: Result
) -> Result:
    while isinstance(result, Done):
        item = items[place]
        names: Names = result.names
        for name in item.names:
            names = names.bind(name, result.value)
        place += 1
        if place == len(items):
            return finish(node, result.value, names)
        result = fold.enter(items[place].node, indices, names)
    return At(node.number, indices, place, result) if isinstance(result, Frame) else result
