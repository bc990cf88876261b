"""SQL: one statement.

=========  =============================  ==================================
state      event                          becomes
=========  =============================  ==================================
begins                                    Execute asked for, *running*
begins     substitution fails             Failed
running    completed under its key        Done
running    failed, cancelled              Failed
running    abandoned                      CancelStep asked for; gone
=========  =============================  ==================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.errors import Failure, failure_from_json
from engine.events import Completed
from engine.frames import Failed, Fold, Frame, Result, entered_by, finish, framed, step_key
from engine.graph import Kind, Node
from engine.substitution import SubstitutionError, render_sql
from engine.values import NULL, Names, Value


@framed
@dataclass(frozen=True, slots=True)
class Running(Frame):
    tag: ClassVar[str] = "sql"
    node: int
    indices: tuple[int, ...]
    names: Names
    cause: str

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        node = fold.graph.node(self.node)
        if completed.outcome == "completed":
            value = Value(completed.result, completed.step) if completed.result is not None else NULL
            return finish(node, value, self.names)
        return Failed(failure_from_json(completed.error, node=self.node, step=completed.step))

    def abandon(self, fold: Fold) -> None:
        fold.cancel_step(step_key(self.node, self.indices))

    def outstanding(self, fold: Fold) -> None:
        node = fold.graph.node(self.node)
        query = _query(fold, node, self.names)
        fold.cause = self.cause
        fold.execute(step_key(self.node, self.indices), self.node, query, query != node.query)


@entered_by(Kind.SQL)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    step = step_key(node.number, indices)
    try:
        query = _query(fold, node, names)
    except SubstitutionError as error:
        return Failed(Failure(str(error), "substitution", node.number, step))
    fold.execute(step, node.number, query, query != node.query)
    return Running(node.number, indices, names, fold.cause)


def _query(fold: Fold, node: Node, names: Names) -> str:
    return render_sql(node.query or "", variables=fold.subject.variables, names=names)
