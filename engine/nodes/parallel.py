"""JOIN: all branches, each in a scope of its own; their results as an array in branch order.

=============  ==============================  =========================================
state          event                           becomes
=============  ==============================  =========================================
begins                                         every branch entered, in order
open           a branch ends, others are open  open
open           the last branch ends            Done with what the branches set merged in branch order,
                                               or Failed as the first failing branch in order
open           Broke, no branch has failed     the others abandoned, Broke
open           Broke, a branch has failed      as a branch that ended: a failure is not hidden
=============  ==============================  =========================================
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from engine.frames import (
    STOPPED,
    Broke,
    Done,
    Failed,
    Fold,
    Frame,
    Outcome,
    Result,
    Stopped,
    Where,
    composite,
    entered_by,
    finish,
    framed,
)
from engine.graph import Kind, Node
from engine.values import Names, Value

Branch = Frame | Outcome


@framed
@dataclass(frozen=True, slots=True)
class Open(Frame):
    """`waiting` counts the branches that have not ended: with thousands of them none is looked at but the one that moved."""

    tag: ClassVar[str] = "join"
    node: int
    indices: tuple[int, ...]
    names: Names
    branches: tuple[Branch, ...]
    targets: tuple[int, ...]
    waiting: int

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        branch = self.branches[bisect_left(self.targets, target)]
        return branch if isinstance(branch, Frame) else Where.PAST

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        i = bisect_left(self.targets, child.node)  # numbers grow in branch order
        branches = (*self.branches[:i], result, *self.branches[i + 1 :])
        waiting = self.waiting - (not isinstance(result, Frame))
        if waiting and not isinstance(result, Broke):
            return Open(self.node, self.indices, self.names, branches, self.targets, waiting)
        return _settle(fold, fold.graph.node(self.node), self.indices, self.names, branches)

    def children(self) -> Iterable[Frame]:
        return (branch for branch in self.branches if isinstance(branch, Frame))


@entered_by(Kind.JOIN)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    branches: list[Branch] = []
    for target in node.branches:
        branch = fold.enter(target, indices, names.nested())
        branches.append(branch)
        if isinstance(branch, Broke) and not any(isinstance(b, Failed) for b in branches):
            break
    return _settle(fold, node, indices, names, tuple(branches))


def _settle(fold: Fold, node: Node, indices: tuple[int, ...], names: Names, branches: tuple[Branch, ...]) -> Result:
    failed = next(((i, b) for i, b in enumerate(branches, 1) if isinstance(b, Failed)), None)
    broke = next((b for b in branches if isinstance(b, Broke)), None)
    if broke is not None and failed is None:
        for branch in branches:
            if isinstance(branch, Frame):
                branch.abandon(fold)
        return Broke(broke.value, _merged(names, branches))
    waiting = sum(isinstance(branch, Frame) for branch in branches)
    if waiting:
        return Open(node.number, indices, names, branches, node.branches, waiting)
    if failed is not None:
        return Failed(failed[1].failure.within(f"JOIN branch {failed[0]} failed: "))
    if any(isinstance(branch, Stopped) for branch in branches):
        return STOPPED
    value = composite(fold, node, indices, [b.value for b in branches if isinstance(b, Done)])
    return value if isinstance(value, Failed) else finish(node, value, _merged(names, branches))


def _merged(names: Names, branches: tuple[Branch, ...]) -> Names:
    own: dict[str, Value] = {}
    for branch in branches:
        if isinstance(branch, Done | Broke):
            own.update(branch.names.own)
    return names.merge(Names(own))
