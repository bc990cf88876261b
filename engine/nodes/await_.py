"""AWAIT_INSTANCE: waits for the end of another instance.

=========  ====================================  =======================================================
state      event                                 becomes
=========  ====================================  =======================================================
begins                                           AwaitInstance asked for, a timer if there is a timeout, *waiting*
begins     the id cannot be read, or is its own  Failed
waiting    the other ended                       Done with how; timer dropped
waiting    it cannot be found, or a deadlock     Failed
waiting    its timer's completion                Done, timed out
waiting    abandoned                             wait and timer dropped
=========  ====================================  =======================================================

Nothing outside is acted on, so answer and timer compete for one key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.effects import AwaitInstance as Ask
from engine.errors import Failure, failure_from_json
from engine.events import Completed
from engine.frames import Failed, Fold, Frame, Result, entered_by, finish, framed, step_key
from engine.graph import AwaitInstance, Kind, Node
from engine.jsontext import dumps_string, members
from engine.limits import INSTANCE_ID_BYTES
from engine.substitution import SubstitutionError, render_text
from engine.values import Names, Value


@framed
@dataclass(frozen=True, slots=True)
class Awaiting(Frame):
    tag: ClassVar[str] = "await"
    node: int
    indices: tuple[int, ...]
    names: Names
    instance_id: str
    due_us: int | None
    cause: str

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        node = fold.graph.node(self.node)
        if completed.outcome != "completed":
            if self.due_us is not None:
                fold.drop_timer(completed.step)
            return Failed(failure_from_json(completed.error, node=self.node, step=completed.step))
        answer = {} if completed.result is None else dict(members(completed.result))
        if completed.result is not None and "instance_id" in answer:
            if self.due_us is not None:
                fold.drop_timer(completed.step)
            return finish(node, Value(completed.result), self.names)
        fold.drop_await(completed.step)
        fold.at_us = max(fold.at_us, self.due_us or 0)
        status = answer.get("status", "null")
        text = f'{{"instance_id":{dumps_string(self.instance_id)},"status":{status},"timed_out":true}}'
        return finish(node, Value(text), self.names)

    def abandon(self, fold: Fold) -> None:
        step = step_key(self.node, self.indices)
        fold.drop_await(step)
        if self.due_us is not None:
            fold.drop_timer(step)

    def outstanding(self, fold: Fold) -> None:
        step = step_key(self.node, self.indices)
        fold.cause = self.cause
        fold.ask(Ask(step, self.instance_id, fold.cause))
        if self.due_us is not None:
            fold.start_timer(step, self.due_us)

    def shown(self, fold: Fold) -> dict[str, int | str]:
        due: dict[str, int | str] = {} if self.due_us is None else {"due_us": self.due_us}
        return {"state": "waiting", "instance": self.instance_id, **due}


@entered_by(Kind.AWAIT_INSTANCE)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    spec = node.spec
    assert isinstance(spec, AwaitInstance)
    fold.waited = True
    step = step_key(node.number, indices)
    try:
        awaited = fold.render(render_text, node, spec.instance_id, names)
    except SubstitutionError as error:
        return Failed(Failure(str(error), "substitution", node.number, step))
    if len(awaited) > INSTANCE_ID_BYTES or len(awaited.encode()) > INSTANCE_ID_BYTES:
        message = f"df.await_instance: the instance's id is longer than {INSTANCE_ID_BYTES} bytes"
        return Failed(Failure(message, "22023", node.number, step))
    if awaited == fold.subject.id:
        return Failed(Failure(f"Instance {awaited} cannot wait for itself", "deadlock", node.number, step))
    fold.ask(Ask(step, awaited, fold.cause))
    due_us = None
    if spec.timeout_seconds is not None:
        due_us = fold.at_us + round(spec.timeout_seconds * 1_000_000)
        fold.start_timer(step, due_us)
    return Awaiting(node.number, indices, names, awaited, due_us, fold.cause)
