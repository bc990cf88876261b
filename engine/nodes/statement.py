"""SQL: one statement.

=========  =====================================  =============================================
state      event                                  becomes
=========  =====================================  =============================================
begins                                            Execute asked for, *running*
begins     substitution fails                     Failed
running    completed under its key                Done
running    failed, in an undo, attempts left      a timer asked for, *resting*
running    failed, cancelled                      Failed
running    abandoned                              CancelStep asked for; gone
resting    its timer's completion                 Execute asked for with the next attempt, *running*
resting    abandoned                              timer dropped
=========  =====================================  =============================================

Only in an undo does the machine repeat a statement under one step: what completed of the undo is not run again. The key of
a rest is the step's own with the attempt that failed appended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from engine.errors import Failure, failure_from_json
from engine.events import Completed
from engine.frames import Failed, Fold, Frame, Result, Where, entered_by, finish, framed, step_key
from engine.graph import Kind, Node
from engine.limits import LONGEST_UNDO_PAUSE_US, UNDO_ATTEMPTS, UNDO_PAUSE_US
from engine.substitution import SubstitutionError, render_sql
from engine.values import NULL, Names, Value


@framed
@dataclass(frozen=True, slots=True)
class Running(Frame):
    """`due_us` is there while it rests."""

    tag: ClassVar[str] = "sql"
    node: int
    indices: tuple[int, ...]
    names: Names
    cause: str
    attempt: int = 1
    due_us: int | None = None

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        if self.due_us is not None:
            fold.at_us = max(fold.at_us, self.due_us)
            again = replace(self, attempt=self.attempt + 1, due_us=None, cause=fold.cause)
            again.ask(fold)
            return again
        node = fold.graph.node(self.node)
        if completed.outcome == "completed":
            # states refer to first attempts only
            step = completed.step if self.attempt == 1 else None
            value = Value(completed.result, step) if completed.result is not None else NULL
            return finish(node, value, self.names)
        failure = failure_from_json(completed.error, node=self.node, step=completed.step)
        if node.undoing and completed.outcome == "failed" and self.attempt < UNDO_ATTEMPTS:
            due_us = fold.at_us + min(UNDO_PAUSE_US << (self.attempt - 1), LONGEST_UNDO_PAUSE_US)
            fold.start_timer(self.rest_key(), due_us)
            return replace(self, due_us=due_us, cause=fold.cause)
        return Failed(replace(failure, attempt=self.attempt))

    def abandon(self, fold: Fold) -> None:
        if self.due_us is not None:
            fold.drop_timer(self.rest_key())
        else:
            fold.cancel_step(step_key(self.node, self.indices), self.attempt)

    def outstanding(self, fold: Fold) -> None:
        fold.cause = self.cause
        if self.due_us is not None:
            fold.start_timer(self.rest_key(), self.due_us)
        else:
            self.ask(fold)

    def ask(self, fold: Fold) -> None:
        node = fold.graph.node(self.node)
        query = _query(fold, node, self.names)
        fold.execute(step_key(self.node, self.indices), self.node, query, query != node.query, self.attempt)

    def expects(self, attempt: int) -> Where | None:
        if attempt == self.attempt and self.due_us is None:
            return None
        return Where.FUTURE if attempt > self.attempt else Where.PAST

    def pause(self, index: int) -> Where | None:
        if index == self.attempt and self.due_us is not None:
            return None
        return Where.FUTURE if index >= self.attempt else Where.PAST

    @property
    def busy(self) -> bool:
        return self.due_us is None

    def rest_key(self) -> str:
        return step_key(self.node, (*self.indices, self.attempt))

    def shown(self, fold: Fold) -> dict[str, int | str]:
        if self.due_us is not None:
            return {"state": "resting", "attempt": self.attempt, "due_us": self.due_us}
        return {"attempt": self.attempt}


@entered_by(Kind.SQL)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    running = Running(node.number, indices, names, fold.cause)
    try:
        running.ask(fold)
    except SubstitutionError as error:
        return Failed(Failure(str(error), "substitution", node.number, step_key(node.number, indices)))
    return running


def _query(fold: Fold, node: Node, names: Names) -> str:
    return fold.render(render_sql, node, node.query or "", names)
