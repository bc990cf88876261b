"""CALL_CHILD: another instance, started as part of this one, and perhaps waited for.

=========  ====================================  =======================================================
state      event                                 becomes
=========  ====================================  =======================================================
begins                                           StartChild asked for, a timer if there is a timeout, *waiting*
begins     label or options cannot be read       Failed
waiting    the child ended                       Done or Failed, as `on_failure` says; timer dropped
waiting    detached: the child is there          Done
waiting    its timer's completion                the child abandoned; Failed, or Done with `timed_out`
waiting    abandoned                             CancelChild asked for and its end waited for, or the child let go
=========  ====================================  =======================================================

The child answers under the node's own key; the timer's key has one index more, so that a child that is cancelled for taking
too long still says when it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.effects import StartChild
from engine.errors import Failure, failure_from_json
from engine.events import Completed
from engine.frames import Failed, Fold, Frame, Result, Where, entered_by, finish, framed, step_key
from engine.graph import CallChild, Kind, Node, as_seconds
from engine.jsontext import JsonError, dumps_string, members, parse
from engine.substitution import SubstitutionError, render_json, render_text
from engine.values import NULL, Names, Value

LABEL_BYTES = 1000
"""Of df.instances.label."""
TEXT_BYTES = 16_777_216
"""Of df.instances.input and vars."""
TIMER = 1
"""The index that the timer's key has more."""


class _Unfit(Exception):
    """Options that came out as something that cannot be."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a call, references filled in. `input` and `variables` are JSON texts."""

    label: str | None
    timeout_seconds: float | None
    returns: bool
    abandons: bool
    detach: bool
    input: str | None
    variables: str | None


@framed
@dataclass(frozen=True, slots=True)
class Waiting(Frame):
    tag: ClassVar[str] = "child"
    node: int
    indices: tuple[int, ...]
    names: Names
    due_us: int | None
    returns: bool
    abandons: bool
    cause: str

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        return Where.PAST  # its graph is that of another instance

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        node = fold.graph.node(self.node)
        step = step_key(self.node, self.indices)
        if completed.step != step:
            return self._timed_out(fold, node, step)
        if self.due_us is not None:
            fold.drop_timer(self.timer_key())
        if completed.outcome != "completed" or completed.result is None:
            return Failed(failure_from_json(completed.error, node=self.node, step=step))
        answer = dict(members(completed.result))
        if self.returns or answer.get("status") == '"pending"':
            return finish(node, Value(completed.result), self.names)
        if answer.get("status") == '"completed"':
            result = answer.get("result", "null")
            return finish(node, Value(result) if result != "null" else NULL, self.names)
        failure = failure_from_json(answer.get("error"), node=self.node, step=step)
        failure.more["instance_id"] = child_id(fold, step)
        return Failed(failure)

    def _timed_out(self, fold: Fold, node: Node, step: str) -> Result:
        assert self.due_us is not None
        fold.at_us = max(fold.at_us, self.due_us)
        self._let_go(fold, step)
        failure = Failure(f"the child {child_id(fold, step)} did not end in time", "timeout", self.node, step)
        if not self.returns:
            return Failed(failure)
        text = (
            f'{{"instance_id":{dumps_string(child_id(fold, step))},"status":"running","result":null,'
            f'"error":{failure.to_json()},"timed_out":true}}'
        )
        return finish(node, Value(text), self.names)

    def _let_go(self, fold: Fold, step: str) -> None:
        if self.abandons:
            fold.forget_child(step)
        else:
            fold.cancel_child(step)

    def abandon(self, fold: Fold) -> None:
        if self.due_us is not None:
            fold.drop_timer(self.timer_key())
        self._let_go(fold, step_key(self.node, self.indices))

    def pause(self, index: int) -> Where | None:
        return None if index == TIMER and self.due_us is not None else Where.PAST

    def outstanding(self, fold: Fold) -> None:
        node = fold.graph.node(self.node)
        fold.cause = self.cause
        _ask(fold, node, self.indices, _options(fold, node, self.names))
        if self.due_us is not None:
            fold.start_timer(self.timer_key(), self.due_us)

    def timer_key(self) -> str:
        return step_key(self.node, (*self.indices, TIMER))

    def shown(self, fold: Fold) -> dict[str, int | str]:
        due: dict[str, int | str] = {} if self.due_us is None else {"due_us": self.due_us}
        return {"state": "waiting", "child": child_id(fold, step_key(self.node, self.indices)), **due}


def child_id(fold: Fold, step: str) -> str:
    """The id of a child: the engine's to give, so it starts once and nobody can take its place."""
    return f"~{fold.subject.key}/{step}"


@entered_by(Kind.CALL_CHILD)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    step = step_key(node.number, indices)
    try:
        options = _options(fold, node, names)
    except SubstitutionError as error:
        return Failed(Failure(str(error), "substitution", node.number, step))
    except (_Unfit, JsonError) as error:
        return Failed(Failure(f"df.call_child: {error}", "22023", node.number, step))
    fold.waited = True
    fold.read(node, len(options.input or "") + len(options.variables or ""))
    fold.work[node.undoing] += node.last - node.number  # its text is put together
    _ask(fold, node, indices, options)
    due_us = None
    if options.timeout_seconds is not None and not options.detach:
        due_us = fold.at_us + round(options.timeout_seconds * 1_000_000)
        fold.start_timer(step_key(node.number, (*indices, TIMER)), due_us)
    return Waiting(node.number, indices, names, due_us, options.returns, options.abandons or options.detach, fold.cause)


def _ask(fold: Fold, node: Node, indices: tuple[int, ...], options: Options) -> None:
    assert node.left is not None
    fold.ask(
        StartChild(
            step=step_key(node.number, indices),
            graph=fold.graph.text(node.left),
            label=options.label,
            input=options.input,
            variables=options.variables,
            detach=options.detach,
            cause=fold.cause,
        )
    )


def _options(fold: Fold, node: Node, names: Names) -> Options:
    spec = node.spec
    assert isinstance(spec, CallChild)
    label = None if spec.label is None else fold.render(render_text, node, spec.label, names)
    if label is not None and len(label.encode()) > LABEL_BYTES:
        raise _Unfit(f"the label is longer than {LABEL_BYTES} bytes")
    text = "{}" if spec.options is None else fold.render(render_json, node, spec.options, names)
    given = {key: value for key, value in members(text) if value != "null"}
    options = Options(
        label=label or None,
        timeout_seconds=_seconds(given.get("timeout_seconds")),
        returns=_word(given, "on_failure", "raise", "return") == "return",
        abandons=_word(given, "on_parent_cancel", "cancel", "abandon") == "abandon",
        detach=_word(given, "detach", False, True) is True,
        input=given.get("input"),
        variables=_variables(fold, given),
    )
    for name, value in (("input", options.input), ("vars", options.variables)):
        if value is not None and len(value.encode()) > TEXT_BYTES:
            raise _Unfit(f"{name} is longer than {TEXT_BYTES} bytes")
    return options


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = as_seconds(text.strip('"'))
    if seconds is None:
        raise _Unfit(f"timeout_seconds is not a number of seconds: {text[:60]}")
    return seconds


def _word(given: dict[str, str], key: str, *allowed: str | bool) -> str | bool:
    """One of a few values; the first is the default."""
    if key not in given:
        return allowed[0]
    value = parse(given[key])
    if not any(value == word and type(value) is type(word) for word in allowed):
        raise _Unfit(f"{key} cannot be {given[key][:60]}")
    assert isinstance(value, str | bool)
    return value


def _variables(fold: Fold, given: dict[str, str]) -> str | None:
    """The child's variables as a JSON object of strings: the parent's where they are inherited, and its own over them."""
    found: dict[str, str] = {}
    if _word(given, "inherit_vars", False, True) is True:
        found = {name: value for name, value in fold.subject.variables.items() if not name.startswith("sys_")}
    for name, text in members(given.get("vars", "{}")):
        value = parse(text)
        found[name] = value if type(value) is str else text
    if not found:
        return None
    return f"{{{','.join(f'{dumps_string(name)}:{dumps_string(value)}' for name, value in found.items())}}}"
