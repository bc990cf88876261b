"""SIGNAL: a wait for a signal, perhaps with a timeout.

=========  ==============================  ====================================
state      event                           becomes
=========  ==============================  ====================================
begins     a signal is buffered            Done with it (unless `fresh`)
begins                                     wait noted, timer asked for, *waiting*
begins     its name cannot be read         Failed; also one that is too long
waiting    a signal of its name            Done with it, timer dropped
waiting    its timer's completion          Done, timed out
waiting    abandoned                       wait and timer dropped
=========  ==============================  ====================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.effects import TakeSignal
from engine.errors import Failure, MachineError
from engine.events import Completed, Signalled
from engine.frames import Done, Failed, Fold, Frame, Result, Wait, entered_by, finish, framed, step_key
from engine.graph import Kind, Node, Signal
from engine.jsontext import dumps_string
from engine.limits import SIGNAL_NAME_BYTES
from engine.substitution import SubstitutionError, render_text
from engine.values import Names, Value


@framed
@dataclass(frozen=True, slots=True)
class Waiting(Frame):
    tag: ClassVar[str] = "signal"
    node: int
    indices: tuple[int, ...]
    names: Names
    name: str
    due_us: int | None
    cause: str

    def signalled(self, fold: Fold, signal: Signalled) -> Result:
        if self.due_us is not None:
            fold.drop_timer(step_key(self.node, self.indices))
        fold.emit(TakeSignal(step_key(self.node, self.indices), signal.event_id))
        return _done(fold.graph.node(self.node), self.names, self.name, signal.data, timed_out=False)

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        if self.due_us is None:
            raise MachineError(f"wait {completed.step} has no timeout")
        fold.drop_wait(completed.step)
        fold.at_us = max(fold.at_us, self.due_us)
        return _done(fold.graph.node(self.node), self.names, self.name, "null", timed_out=True)

    def abandon(self, fold: Fold) -> None:
        step = step_key(self.node, self.indices)
        fold.drop_wait(step)
        if self.due_us is not None:
            fold.drop_timer(step)

    def shown(self, fold: Fold) -> dict[str, int | str]:
        due: dict[str, int | str] = {} if self.due_us is None else {"due_us": self.due_us}
        return {"state": "waiting", "signal": self.name, **due}

    def outstanding(self, fold: Fold) -> None:
        if self.due_us is not None:
            fold.cause = self.cause
            fold.start_timer(step_key(self.node, self.indices), self.due_us)


@entered_by(Kind.SIGNAL)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    spec = node.spec
    assert isinstance(spec, Signal)
    fold.waited = True
    step = step_key(node.number, indices)
    try:
        name = fold.render(render_text, node, spec.name, names)
    except SubstitutionError as error:
        return Failed(Failure(str(error), "substitution", node.number, step))
    if len(name) > SIGNAL_NAME_BYTES or len(name.encode()) > SIGNAL_NAME_BYTES:
        message = f"df.wait_for_signal: the signal's name is longer than {SIGNAL_NAME_BYTES} bytes"
        return Failed(Failure(message, "22023", node.number, step))
    # where a completion is kept for it, the wait timed out once: what was sent later did not end it
    buffered = None if spec.fresh else fold.take_signal(name, fold.stash.get((step, 1)))
    if buffered is not None:
        fold.emit(TakeSignal(step, buffered.event_id))
        return _done(node, names, name, buffered.data, timed_out=False)
    fold.add_wait(step, Wait(node.number, indices, name))
    due_us = None
    if spec.timeout_seconds is not None:
        due_us = fold.at_us + round(spec.timeout_seconds * 1_000_000)
        fold.start_timer(step, due_us)
    return Waiting(node.number, indices, names, name, due_us, fold.cause)


def _done(node: Node, names: Names, name: str, data: str, *, timed_out: bool) -> Done:
    flag = "true" if timed_out else "false"
    value = Value(f'{{"signal_name":{dumps_string(name)},"timed_out":{flag},"data":{data}}}')
    return finish(node, value, names)
