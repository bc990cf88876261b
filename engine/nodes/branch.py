"""IF: a condition, then one of two branches; or a question about a named result (if_rows).

=============  ==============================  =========================================
state          event                           becomes
=============  ==============================  =========================================
begins         with a condition                condition entered, *asking*
begins         if_rows                         the branch entered, *taken*; Failed when nothing has that name
asking         Done                            left when true, right when false, *taken*
asking, taken  Failed or Broke                 the same
taken          Done                            Done
=============  ==============================  =========================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from engine.errors import Failure
from engine.frames import Done, Failed, Fold, Frame, Result, Where, entered_by, finish, framed, step_key
from engine.graph import If, Kind, Node
from engine.values import Names


@framed
@dataclass(frozen=True, slots=True)
class Open(Frame):
    tag: ClassVar[str] = "if"
    node: int
    indices: tuple[int, ...]
    asking: bool
    target: int
    inner: Frame

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        if target == self.target:
            return self.inner
        return Where.FUTURE if self.asking else Where.PAST

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        if isinstance(result, Frame):
            return replace(self, inner=result)
        node = fold.graph.node(self.node)
        if self.asking:
            return _asked(fold, node, self.indices, result)
        return _ended(node, self.indices, self.target, result)

    def children(self) -> Iterable[Frame]:
        return (self.inner,)


@entered_by(Kind.IF)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    if node.condition is not None:
        return _asked(fold, node, indices, fold.enter(node.condition, indices, names))
    assert isinstance(node.spec, If)
    asked = node.spec.result_name or ""
    value = names.value(asked)
    if value is None:
        message = f"df.if_rows: no result is named '{asked}' here"
        return Failed(Failure(message, "substitution", node.number, step_key(node.number, indices)))
    return _taken(fold, node, indices, names, fold.has_rows(node, asked, value))


def _asked(fold: Fold, node: Node, indices: tuple[int, ...], result: Result) -> Result:
    if isinstance(result, Done):
        return _taken(fold, node, indices, result.names, fold.is_true(node, result.value))
    if isinstance(result, Frame):
        assert node.condition is not None
        return Open(node.number, indices, True, node.condition, result)
    return result


def _taken(fold: Fold, node: Node, indices: tuple[int, ...], names: Names, truth: bool) -> Result:
    target = node.left if truth else node.right
    assert target is not None
    return _ended(node, indices, target, fold.enter(target, indices, names))


def _ended(node: Node, indices: tuple[int, ...], target: int, result: Result) -> Result:
    if isinstance(result, Done):
        return finish(node, result.value, result.names)
    return Open(node.number, indices, False, target, result) if isinstance(result, Frame) else result
