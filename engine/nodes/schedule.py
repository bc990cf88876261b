"""WAIT_SCHEDULE: a timer for the next tick of a cron expression.

=========  ====================================  =======================================================
state      event                                 becomes
=========  ====================================  =======================================================
begins                                           a timer asked for, *waiting*
begins     the expression cannot be read         Failed
waiting    its timer's completion                Done
waiting    abandoned                             timer dropped
=========  ====================================  =======================================================

The next tick counts from the instance's time, which a late timer moves on: ticks that passed meanwhile are not made up, and
the timer's row says how many there were.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from engine.errors import Failure
from engine.events import Completed
from engine.frames import Failed, Fold, Frame, Result, entered_by, finish, framed, step_key
from engine.graph import Kind, Node, Schedule
from engine.schedule import ScheduleError, next_tick_us
from engine.substitution import SubstitutionError, render_text
from engine.values import Names, Value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@framed
@dataclass(frozen=True, slots=True)
class Waiting(Frame):
    tag: ClassVar[str] = "schedule"
    node: int
    indices: tuple[int, ...]
    names: Names
    due_us: int
    cron: str
    zone: str
    cause: str

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        fold.at_us = max(fold.at_us, self.due_us)
        at = (_EPOCH + timedelta(microseconds=self.due_us)).isoformat()
        return finish(fold.graph.node(self.node), Value(f'{{"scheduled":true,"at":"{at}"}}'), self.names)

    def abandon(self, fold: Fold) -> None:
        fold.drop_timer(step_key(self.node, self.indices))

    def outstanding(self, fold: Fold) -> None:
        fold.cause = self.cause
        fold.start_timer(step_key(self.node, self.indices), self.due_us, (self.cron, self.zone))

    def shown(self, fold: Fold) -> dict[str, int | str]:
        return {"state": "sleeping", "due_us": self.due_us}


@entered_by(Kind.WAIT_SCHEDULE)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    spec = node.spec
    assert isinstance(spec, Schedule)
    fold.waited = True
    step = step_key(node.number, indices)
    try:
        cron = fold.render(render_text, node, spec.cron, names)
        zone = fold.render(render_text, node, spec.timezone, names)
        due_us = next_tick_us(cron, zone, fold.at_us)
    except SubstitutionError as error:
        return Failed(Failure(str(error), "substitution", node.number, step))
    except ScheduleError as error:
        return Failed(Failure(str(error), "22023", node.number, step))
    fold.start_timer(step, due_us, (cron, zone))
    return Waiting(node.number, indices, names, due_us, cron, zone, fold.cause)
