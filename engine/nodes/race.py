"""RACE: the first branch to finish wins, also by failing.

=============  ==============================  =========================================
state          event                           becomes
=============  ==============================  =========================================
begins                                         branches entered in order, until one ends at once
open           a branch ends                   the others abandoned; ended as that branch did
abandoned      a branch cannot go on           the others may still complete it
=============  ==============================  =========================================

The order of the log decides, so there is one answer before and after a crash. The winner does not wait for the losers'
keys; the instance's end does, and for what they owed to be undone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from engine.frames import Done, Failed, Fold, Frame, Outcome, Result, Stopped, Where, entered_by, finish, framed
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
        i = bisect_left(self.targets, target)
        return self.branches[i] if self.targets[i : i + 1] == (target,) else Where.PAST

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        i = bisect_left(self.targets, child.node)  # numbers grow in branch order
        if isinstance(result, Frame):
            return replace(self, branches=(*self.branches[:i], result, *self.branches[i + 1 :]))
        node = fold.graph.node(self.node)
        others = self.branches[:i] + self.branches[i + 1 :]
        if isinstance(result, Stopped) and others:
            return replace(self, branches=others, targets=self.targets[:i] + self.targets[i + 1 :])
        _lose(fold, node, others)
        return _won(node, i + 1, result)

    def children(self) -> Iterable[Frame]:
        return self.branches


@entered_by(Kind.RACE)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    branches: list[Frame] = []
    for i, target in enumerate(node.branches, 1):
        result = fold.enter(target, indices, names)
        if not isinstance(result, Frame):
            _lose(fold, node, tuple(branches))
            return _won(node, i, result)
        branches.append(result)
    return Open(node.number, indices, tuple(branches), node.branches)


def _lose(fold: Fold, node: Node, branches: tuple[Frame, ...]) -> None:
    for loser in branches:
        loser.abandon(fold)
        fold.lost(loser.node, loser.indices, node)


def _won(node: Node, branch: int, outcome: Outcome) -> Outcome:
    if isinstance(outcome, Done):
        return finish(node, outcome.value, outcome.names)
    if isinstance(outcome, Failed):
        return Failed(outcome.failure.within(f"RACE branch {branch} failed: "))
    return outcome
