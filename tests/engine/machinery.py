"""Graphs in a line, and an instance that is driven by hand. Every fold in every test is also a crash: see `Run`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine import machine
from engine.codec import VERSION, Stored, encode
from engine.effects import (
    AwaitInstance,
    CancelChild,
    CancelStep,
    DropTimer,
    DropWait,
    Effect,
    Execute,
    Finish,
    StartChild,
    StartTimer,
    TakeSignal,
)
from engine.events import CancelRequested, Completed, Event, Outcome, Signalled, Started
from engine.frames import Subject
from engine.graph import graph_of
from engine.machine import NEW, State
from engine.values import Names, Value

ROLE = 16_385
"""The submitter."""
SECOND = 1_000_000
"""Microseconds."""
EPOCH = 1_700_000_000 * SECOND
"""When tests begin."""

Json = dict[str, Any]


# --- graphs -----------------------------------------------------------------------------------------------------------


def node(kind: str, name: str | None = None, **parts: Any) -> Json:
    given = {"node_type": kind, **parts, "result_name": name}
    return {key: value for key, value in given.items() if value is not None and value != []}


def sql(query: str = "select 1", name: str | None = None) -> Json:
    return node("SQL", name, query=query)


def seq(*items: Json) -> Json:
    chain = items[0]
    for item in items[1:]:
        chain = node("THEN", left_node=chain, right_node=item)
    return chain


def join(*branches: Json, name: str | None = None) -> Json:
    right = branches[1] if len(branches) > 1 else None
    return node("JOIN", name, left_node=branches[0], right_node=right, extra_nodes=list(branches[2:]))


def race(*branches: Json, name: str | None = None) -> Json:
    return node("RACE", name, left_node=branches[0], right_node=branches[1], extra_nodes=list(branches[2:]))


def if_(condition: Json, then: Json, other: Json, name: str | None = None) -> Json:
    return node("IF", name, condition_node=condition, left_node=then, right_node=other)


def if_rows(result: str, then: Json, other: Json, name: str | None = None) -> Json:
    query = json.dumps({"condition_type": "result_has_rows", "result_name": result})
    return node("IF", name, query=query, left_node=then, right_node=other)


def loop(body: Json, condition: Json | None = None, *, every: float | None = None, name: str | None = None) -> Json:
    query = None if every is None else json.dumps({"every": every})
    return node("LOOP", name, left_node=body, condition_node=condition, query=query)


def brk(value: Any = None) -> Json:
    return node("BREAK", query=None if value is None else json.dumps({"break_value": value}))


def sleep(text: str | int = 30, name: str | None = None) -> Json:
    return node("SLEEP", name, query=str(text))


def sleep_until(text: str, name: str | None = None) -> Json:
    return node("SLEEP", name, query=json.dumps({"until": text}))


def wait(signal: str, timeout: float | None = None, *, fresh: bool = False, name: str | None = None) -> Json:
    query: Json = {"signal_name": signal}
    if timeout is not None:
        query["timeout_seconds"] = timeout
    if fresh:
        query["fresh"] = True
    return node("SIGNAL", name, query=json.dumps(query))


def named(inner: Json, name: str) -> Json:
    return {**inner, "result_name": name}


def retry(body: Json, attempts: int = 3, *, initial: float = 1, backoff: float = 2, name: str | None = None) -> Json:
    query = json.dumps({"max_attempts": attempts, "initial": initial, "backoff": backoff, "max_interval": 300})
    return node("RETRY", name, left_node=body, query=query)


def timeout(body: Json, seconds: float, name: str | None = None) -> Json:
    return node("TIMEOUT", name, left_node=body, query=json.dumps({"seconds": seconds}))


def catch(body: Json, handler: Json, name: str | None = None) -> Json:
    return node("CATCH", name, left_node=body, right_node=handler)


def undo(body: Json, undone: Json, name: str | None = None) -> Json:
    return node("UNDO", name, left_node=body, right_node=undone)


def map_(items: Json | str, body: Json, parallel: int = 10, name: str | None = None) -> Json:
    query: Json = {"max_parallel": parallel}
    if isinstance(items, str):
        return node("MAP", name, right_node=body, query=json.dumps({"items": items, **query}))
    return node("MAP", name, left_node=items, right_node=body, query=json.dumps(query))


def schedule(cron: str, timezone: str = "UTC", name: str | None = None) -> Json:
    return node("WAIT_SCHEDULE", name, query=json.dumps({"cron_expr": cron, "timezone": timezone}))


def child(graph: Json, label: str | None = None, name: str | None = None, **options: Any) -> Json:
    return node("CALL_CHILD", name, left_node=graph, query=json.dumps({"label": label, "options": options}))


def await_(instance: str, seconds: float | None = None, name: str | None = None) -> Json:
    return node("AWAIT_INSTANCE", name, query=json.dumps({"instance_id": instance, "timeout_seconds": seconds}))


def rows(*given: Json) -> str:
    """The result of a query."""
    return json.dumps({"rows": list(given), "row_count": len(given)})


def cell(value: Any) -> str:
    return rows({"x": value})


# --- an instance ------------------------------------------------------------------------------------------------------


def subject_of(
    graph: Json | str,
    *,
    input_: str = "null",
    variables: Mapping[str, str] | None = None,
    loop_iterations: int = 0,
    composite_bytes: int = 16_777_216,
) -> Subject:
    return Subject(
        key=7,
        id="order-7",
        submitter=ROLE,
        graph=graph_of(graph if isinstance(graph, str) else json.dumps(graph)),
        label="",
        variables={"sys_instance_id": "order-7", **(variables or {})},
        scope=Names({"input": Value(input_)}),
        loop_iterations=loop_iterations,
        composite_bytes=composite_bytes,
    )


def crashed(subject: Subject, state: State, results: Mapping[str, str]) -> State:
    """The state as it is after a checkpoint and a crash."""
    text = encode(state, subject.scope)
    stored = Stored(VERSION, text)
    again = stored.state(subject.scope, {key: results[key] for key in {*stored.references, *stored.signals}})
    assert encode(again, subject.scope) == text
    return again


class Run:
    """An instance that a test drives row by row.

    After each row it crashes: its state is written, read and gone on from. What is outstanding then must be exactly what
    was asked for and not answered, nothing is ever asked for twice, and an instance beside it that never crashed decides
    the same. So every test of the machine is a test of that too.
    """

    def __init__(self, graph: Json | str, **given: Any) -> None:
        self.subject = subject_of(graph, **given)
        self.state = NEW
        self.uninterrupted = NEW
        """The same without any crash."""
        self.at_us = EPOCH
        self.log: list[str] = []
        """Steps asked for, in order, with what was run."""
        self.open: dict[str, Execute] = {}
        self.timers: dict[str, StartTimer] = {}
        self.children: dict[str, StartChild] = {}
        self.awaits: dict[str, AwaitInstance] = {}
        self.draining: dict[str, CancelStep | CancelChild] = {}
        self.taken: list[TakeSignal] = []
        self.answered: dict[str, str] = {}
        """Results by step, and data of signals by event."""
        self.finish: Finish | None = None
        self._asked: set[tuple[str, str, int]] = set()
        self._events = 0

    # --- rows -----------------------------------------------------------------------------------------------------

    def start(self, *, at: float | None = None) -> Run:
        return self.fold(Started(self._event(at), self.at_us))

    def signal(self, name: str, data: str = "{}", *, at: float | None = None) -> Run:
        return self.fold(Signalled(self._event(at), self.at_us, name, data))

    def cancel(self, reason: str = "no more", *, at: float | None = None) -> Run:
        return self.fold(CancelRequested(self._event(at), self.at_us, reason))

    def done(self, step: str, result: str = '{"rows":[],"row_count":0}', *, at: float | None = None) -> Run:
        return self.completed(step, "completed", result, None, at=at)

    def fail(self, step: str, message: str = "boom", code: str = "P0001", *, at: float | None = None) -> Run:
        return self.completed(step, "failed", None, json.dumps({"message": message, "code": code}), at=at)

    def stopped(self, step: str, *, at: float | None = None) -> Run:
        """The key of a step that was given up was taken by its cancellation."""
        return self.completed(step, "cancelled", None, '{"message":"cancelled","code":"57014"}', at=at)

    def fire(self, step: str, *, at: float | None = None) -> Run:
        """A timer's row, by default at the moment when it is due."""
        if at is None and step in self.timers:
            self.at_us = max(self.at_us, self.timers[step].due_us)
        return self.completed(step, "completed", "null", None, run_as=machine.ENGINE, at=at)

    def ended(
        self, step: str, status: str = "completed", result: Any = None, error: Any = None, *, at: float | None = None
    ) -> Run:
        """A child or an awaited instance ended; it answers under `step`."""
        answer = {"instance_id": f"~7/{step}", "status": status, "result": result, "error": error}
        return self.completed(step, "completed", json.dumps(answer), None, run_as=machine.ENGINE, at=at)

    def completed(
        self,
        step: str,
        outcome: Outcome,
        result: str | None,
        error: str | None,
        *,
        run_as: int = ROLE,
        attempt: int | None = None,
        at: float | None = None,
    ) -> Run:
        if attempt is None:
            asked = self.open.get(step) or self.draining.get(step)
            attempt = asked.attempt if isinstance(asked, Execute | CancelStep) else 1
        event = Completed(self._event(at), self.at_us, run_as, step, attempt, outcome, result, error)
        by_engine = step in {*self.timers, *self.children, *self.awaits}
        if run_as == (machine.ENGINE if by_engine else ROLE) or isinstance(self.draining.get(step), CancelChild):
            self.answered.setdefault(step, result or "null")
        return self.fold(event)

    def fold(self, event: Event) -> Run:
        if isinstance(event, Signalled):
            self.answered[event.event_id] = event.data
        after, effects = machine.fold(self.subject, self.state, event)
        self.uninterrupted, uninterrupted_effects = machine.fold(self.subject, self.uninterrupted, event)
        assert effects == uninterrupted_effects, "a crash changed a decision"
        assert after.at_us >= self.state.at_us, "time went back"
        if isinstance(event, Completed) and after is not self.state and event.step in self.answered:
            for due in (self.open, self.timers, self.children, self.awaits, self.draining):
                due.pop(event.step, None)
        self.state = after
        for effect in effects:
            self._note(effect)
        if not after.finished:
            self.state = crashed(self.subject, after, self.answered)
            self._compare_outstanding()
        return self

    # --- what came of it --------------------------------------------------------------------------------------------

    @property
    def steps(self) -> set[str]:
        """Everything that is asked for and not answered."""
        return {*self.open, *self.timers, *self.children, *self.awaits}

    @property
    def queries(self) -> dict[str, str]:
        return {step: effect.query for step, effect in self.open.items()}

    def due(self, step: str) -> float:
        """Seconds after the tests' beginning at which a timer is due."""
        return (self.timers[step].due_us - EPOCH) / SECOND

    @property
    def status(self) -> str:
        return "running" if self.finish is None else self.finish.status

    @property
    def result(self) -> Any:
        assert self.finish is not None, f"not finished: {sorted(self.steps)}, {sorted(self.draining)}"
        assert self.finish.result is not None, self.finish
        return json.loads(self.finish.result)

    @property
    def error(self) -> Any:
        assert self.finish is not None
        assert self.finish.error is not None, self.finish
        return json.loads(self.finish.error)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _event(self, at: float | None) -> str:
        if at is not None:
            self.at_us = EPOCH + round(at * SECOND)
        self._events += 1
        return f"e{self._events}"

    def _note(self, effect: Effect) -> None:  # noqa: C901 - one case a kind of effect
        assert self.finish is None, f"{effect} after the end"
        match effect:
            case Execute(step=step):
                self._ask(effect)
                self.open[step] = effect
                self.log.append(f"{step}: {effect.query}")
            case StartTimer(step=step):
                self._ask(effect)
                self.timers[step] = effect
            case StartChild(step=step):
                self._ask(effect)
                self.children[step] = effect
            case AwaitInstance(step=step):
                self._ask(effect)
                self.awaits[step] = effect
            case CancelStep(step=step):
                del self.open[step]
                self.draining[step] = effect
            case CancelChild(step=step):
                del self.children[step]
                self.draining[step] = effect
            case DropTimer(step=step):
                self.timers.pop(step, None)
            case DropWait(step=step):
                self.awaits.pop(step, None)
                self.children.pop(step, None)
            case TakeSignal():
                self.taken.append(effect)
            case Finish():
                assert not self.steps
                assert not self.draining
                self.finish = effect

    def _ask(self, effect: Execute | StartTimer | StartChild | AwaitInstance) -> None:
        key = type(effect).__name__, effect.step, effect.attempt if isinstance(effect, Execute) else 1
        assert key not in self._asked, f"{key} was asked for twice"
        self._asked.add(key)

    def _compare_outstanding(self) -> None:
        asked = self.open, self.timers, self.children, self.awaits, self.draining
        expected: list[Effect] = [effect for effects in asked for effect in effects.values()]
        found = machine.outstanding(self.subject, self.state)
        assert sorted(map(repr, found)) == sorted(map(repr, expected))


def run(graph: Json | str, **given: Any) -> Run:
    """An instance that has begun."""
    return Run(graph, **given).start()
