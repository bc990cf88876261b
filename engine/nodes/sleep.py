"""SLEEP: a timer.

=========  ==============================  ====================================
state      event                           becomes
=========  ==============================  ====================================
begins                                     timer asked for, *sleeping*
begins     the duration cannot be read     Failed
sleeping   its timer's completion          Done
sleeping   abandoned                       timer dropped
=========  ==============================  ====================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.durations import DurationError, parse_seconds, parse_time_us
from engine.errors import Failure
from engine.events import Completed
from engine.frames import Failed, Fold, Frame, Result, entered_by, finish, framed, step_key
from engine.graph import Kind, Node, Sleep
from engine.limits import LONGEST_WAIT_SECONDS
from engine.substitution import SubstitutionError, render_text
from engine.values import Names, Value


@framed
@dataclass(frozen=True, slots=True)
class Sleeping(Frame):
    tag: ClassVar[str] = "sleep"
    node: int
    indices: tuple[int, ...]
    names: Names
    began_us: int
    due_us: int
    cause: str

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        fold.at_us = max(fold.at_us, self.due_us)
        seconds = f"{(self.due_us - self.began_us) / 1_000_000:.6f}".rstrip("0").rstrip(".")
        value = Value(f'{{"slept":true,"seconds":{seconds}}}')
        return finish(fold.graph.node(self.node), value, self.names)

    def abandon(self, fold: Fold) -> None:
        fold.drop_timer(step_key(self.node, self.indices))

    def shown(self, fold: Fold) -> dict[str, int | str]:
        return {"state": "sleeping", "due_us": self.due_us}

    def outstanding(self, fold: Fold) -> None:
        fold.cause = self.cause
        fold.start_timer(step_key(self.node, self.indices), self.due_us)


@entered_by(Kind.SLEEP)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    fold.waited = True
    step = step_key(node.number, indices)
    try:
        due_us = _due_us(fold, node, names)
    except (SubstitutionError, DurationError) as error:
        return Failed(Failure(str(error), "substitution", node.number, step))
    fold.start_timer(step, due_us)
    return Sleeping(node.number, indices, names, fold.at_us, due_us, fold.cause)


def _due_us(fold: Fold, node: Node, names: Names) -> int:
    spec = node.spec
    assert isinstance(spec, Sleep)
    if spec.seconds is not None:
        return fold.at_us + round(spec.seconds * 1_000_000)
    if spec.until is not None:
        return max(fold.at_us, parse_time_us(fold.render(render_text, node, spec.until, names)))
    seconds = parse_seconds(fold.render(render_text, node, spec.text or "", names))
    if seconds > LONGEST_WAIT_SECONDS:
        raise DurationError(f"a sleep of {seconds} seconds is too long")
    return fold.at_us + round(seconds * 1_000_000)
