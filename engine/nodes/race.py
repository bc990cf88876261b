"""RACE: the first branch to finish wins, also by failing.

=============  ==============================  =========================================
state          event                           becomes
=============  ==============================  =========================================
begins                                         branches entered in order, until one ends at once
open           a branch ends                   the others abandoned; ended as that branch did
=============  ==============================  =========================================

The order of the log decides, so there is one answer before and after a crash. The winner does not wait for the losers'
keys; the instance's end does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from engine.frames import Done, Failed, Fold, Frame, Outcome, Result, Where, entered_by, finish, framed
from engine.graph import Kind, Node
from engine.values import Names


@framed
@dataclass(frozen=True, slots=True)
class Open(Frame):
    tag: ClassVar[str] = "race"
    node: int
    indices: tuple[int, ...]
    branches: tuple[Frame, ...]
    targets: tuple[int, ...]

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        return self.branches[bisect_left(self.targets, target)]

    def resumed(self, fold: Fold, target: int, result: Result) -> Result:
        i = bisect_left(self.targets, target)  # numbers grow in branch order
        if isinstance(result, Frame):
            return replace(self, branches=(*self.branches[:i], result, *self.branches[i + 1 :]))
        for loser in self.branches[:i] + self.branches[i + 1 :]:
            loser.abandon(fold)
        return _won(fold.graph.node(self.node), i + 1, result)

    def children(self) -> Iterable[Frame]:
        return self.branches


@entered_by(Kind.RACE)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    branches: list[Frame] = []
    for i, target in enumerate(node.branches, 1):
        result = fold.enter(target, indices, names)
        if not isinstance(result, Frame):
            for loser in branches:
                loser.abandon(fold)
            return _won(node, i, result)
        branches.append(result)
    return Open(node.number, indices, tuple(branches), node.branches)


def _won(node: Node, branch: int, outcome: Outcome) -> Outcome:
    if isinstance(outcome, Done):
        return finish(node, outcome.value, outcome.names)
    if isinstance(outcome, Failed):
        return Failed(outcome.failure.within(f"RACE branch {branch} failed: "))
    return outcome
