"""CATCH: a node, and a handler for its failure.

=========  ====================================  =======================================================
state      event                                 becomes
=========  ====================================  =======================================================
begins                                           left entered, *trying*
trying     Done, Broke                           the same
trying     Failed                                what left owes is undone, *settling*
settling   unwound                               right entered with `$error`, *handling*
handling   Done, Failed, Broke                   the same; `$error` ends with the handler
=========  ====================================  =======================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from engine.errors import beside
from engine.frames import Broke, Done, Failed, Fold, Frame, Outcome, Result, Where, entered_by, finish, framed
from engine.graph import Kind, Node
from engine.nodes.settling import tried
from engine.values import Names, Value

ERROR = "error"


@framed
@dataclass(frozen=True, slots=True)
class Guarding(Frame):
    """`names` are those from before the node; `error` is what the handler sees."""

    tag: ClassVar[str] = "catch"
    node: int
    indices: tuple[int, ...]
    names: Names
    phase: Literal["trying", "settling", "handling"]
    inner: Frame | None
    failed: Failed | None = None
    error: Value | None = None

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        if self.inner is not None and target == self.inner.node:
            return self.inner
        # the left node comes right after this one, and before the handler
        return Where.PAST if self.phase == "handling" or target == self.node + 1 else Where.FUTURE

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        if isinstance(result, Frame):
            return replace(self, inner=result)
        if self.phase == "trying":
            return _tried(fold, self, result)
        return _handled(fold, self, result)

    def unwound(self, fold: Fold, failures: tuple[Failed, ...]) -> Result:
        assert self.failed is not None
        node = fold.graph.node(self.node)
        assert node.right is not None
        error = Value(beside(self.failed.failure, (f.failure for f in failures)).to_json())
        handling = replace(self, phase="handling", inner=None, error=error)
        result = fold.enter(node.right, self.indices, self.names.nested().bind(ERROR, error))
        return replace(handling, inner=result) if isinstance(result, Frame) else _handled(fold, handling, result)

    def children(self) -> Iterable[Frame]:
        return () if self.inner is None else (self.inner,)

    def shown(self, fold: Fold) -> dict[str, int | str]:
        return {"state": "undoing"} if self.phase == "settling" else {}


@entered_by(Kind.CATCH)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    assert node.left is not None
    guarding = Guarding(node.number, indices, names, "trying", None)
    result = fold.enter(node.left, indices, names)
    return replace(guarding, inner=result) if isinstance(result, Frame) else _tried(fold, guarding, result)


def _tried(fold: Fold, frame: Guarding, outcome: Outcome) -> Result:
    return tried(
        fold, frame, frame.indices, outcome, lambda failed: replace(frame, phase="settling", inner=None, failed=failed)
    )


def _handled(fold: Fold, frame: Guarding, result: Result) -> Result:
    if not isinstance(result, Done | Broke):
        return result
    own = {name: value for name, value in result.names.own.items() if (name, value) != (ERROR, frame.error)}
    names = frame.names.merge(Names(own))
    if isinstance(result, Broke):
        return replace(result, names=names)
    return finish(fold.graph.node(frame.node), result.value, names)
