"""OpenTelemetry traces of workflows: a span for each instance, and in it one for each step that somebody works on.

Theory of operation. Spans are made from what is folded (`engine.story`), when something is over, with the times that the log
gives. So nothing is held open for a workflow that sleeps for a month, and ids follow from the system, the instance and the step:
a leader that takes over and tells something again gives it the same ids, and a span that an earlier leader sent has its parent.

An instance belongs to the trace of the application that inserted it, if that put a W3C `traceparent` into the variables or
into the input, as a member of the object; else to one of its own. Only names, numbers and codes become attributes (see there).

The exporter is OpenTelemetry's own, set up by its own variables (OTEL_EXPORTER_OTLP_ENDPOINT and so on).
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from engine.effects import AwaitInstance, Effect, Execute, Finish, StartChild
from engine.events import Completed, Event
from engine.instance import Live
from engine.story import code_of
from metrics.collect import walflow_version

TRACEPARENT: Final = "traceparent"
REMEMBERED: Final = 20_000
"""Instances of which it is remembered to which trace they belong."""

EXPORT_SECONDS: Final = 3.0
"""For one try to reach the collector, unless the variables say otherwise: an engine that stops waits for it."""

Attempt = tuple[str, int]


class Tracer:
    """Called as `engine.story.Told`. `system`: the database system's identifier, one part of all ids."""

    def __init__(self, system: str, processor: SpanProcessor) -> None:
        self._system = system
        self._ids = _Given()
        provider = TracerProvider(resource=_resource(), id_generator=self._ids)
        provider.add_span_processor(processor)
        self._sampler = provider.sampler
        self._tracer = provider.get_tracer("walflow", walflow_version())
        self._begun: dict[int, dict[Attempt, tuple[str, int]]] = {}
        """What steps are, and since when they are wanted."""
        self._contexts: dict[int, tuple[Context, SpanContext]] = {}

    def __call__(self, live: Live, event: Event, effects: tuple[Effect, ...]) -> None:
        if isinstance(event, Completed):
            self._step_ended(live, event)
        for effect in effects:
            match effect:
                case Execute():
                    self._wanted(live, effect.step, effect.attempt, "sql", event.at_us)
                case StartChild():
                    self._wanted(live, effect.step, 1, "call_child", event.at_us)
                case AwaitInstance():
                    self._wanted(live, effect.step, 1, "await_instance", event.at_us)
                case Finish():
                    self._ended(live, effect, event.at_us)
                case _:
                    pass

    def _wanted(self, live: Live, step: str, attempt: int, what: str, at_us: int) -> None:
        self._begun.setdefault(live.key, {})[step, attempt] = what, at_us

    def _step_ended(self, live: Live, event: Completed) -> None:
        begun = self._begun.get(live.key, {})
        what, since_us = begun.pop((event.step, event.attempt), (None, event.at_us))
        if not begun:
            self._begun.pop(live.key, None)
        if what is None and event.run_as == 0:
            return  # a timer's
        attributes: dict[str, AttributeValue] = {
            "walflow.step": event.step,
            "walflow.attempt": event.attempt,
            "walflow.outcome": event.outcome,
        }
        if what is None:
            attributes["walflow.wanted_by_an_earlier_leader"] = True
        _, own = self._context(live)
        name = what or "sql"
        self._emit(
            name,
            set_span_in_context(NonRecordingSpan(own)),
            self._id(8, live.key, event.step, event.attempt),
            own.trace_id,
            (since_us, event.at_us),
            {**_attributes(live), **attributes},
            event.error,
        )

    def _ended(self, live: Live, effect: Finish, at_us: int) -> None:
        self._begun.pop(live.key, None)
        parent, own = self._context(live)
        self._contexts.pop(live.key, None)
        attributes = {**_attributes(live), "walflow.status": effect.status}
        name = live.subject.label or "workflow"
        self._emit(name, parent, own.span_id, own.trace_id, (live.started_us or at_us, at_us), attributes, effect.error)

    def _emit(
        self, name: str, parent: Context, span_id: int, trace_id: int, times_us: tuple[int, int],
        attributes: dict[str, AttributeValue], error: str | None,
    ) -> None:  # fmt: skip
        self._ids.span_id, self._ids.trace_id = span_id, trace_id
        since_us, until_us = times_us
        span = self._tracer.start_span(name, parent, attributes=attributes, start_time=since_us * 1000)
        if error is not None:
            span.set_attribute("walflow.error_code", code_of(error))
            span.set_status(Status(StatusCode.ERROR, code_of(error)))
        span.end(max(since_us, until_us) * 1000)

    def _context(self, live: Live) -> tuple[Context, SpanContext]:
        """Of the instance: what stands around it, and its own span."""
        known = self._contexts.get(live.key)
        if known is None:
            known = self._contexts[live.key] = self._new_context(live)
            if len(self._contexts) > REMEMBERED:
                del self._contexts[next(iter(self._contexts))]
        return known

    def _new_context(self, live: Live) -> tuple[Context, SpanContext]:
        given = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent_of(live)}, Context())
        outside = get_current_span(given).get_span_context()
        trace_id = outside.trace_id if outside.is_valid else self._id(16, live.key)
        decision = self._sampler.should_sample(given, trace_id, live.subject.label or "workflow").decision
        flags = TraceFlags(TraceFlags.SAMPLED if decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        return given, SpanContext(trace_id, self._id(8, live.key), is_remote=False, trace_flags=flags)

    def _id(self, size: int, *parts: object) -> int:
        """Never zero, which means none."""
        text = "/".join(map(str, (self._system, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size]) or 1


class _Given(IdGenerator):
    """Gives the ids that the next span is to have."""

    span_id = trace_id = 1

    def generate_span_id(self) -> int:
        return self.span_id

    def generate_trace_id(self) -> int:
        return self.trace_id


def traceparent_of(live: Live) -> str:
    """What the application put into the variables, else into the input; empty without."""
    given = live.subject.variables.get(TRACEPARENT)
    if isinstance(given, str):
        return given
    whole = live.subject.scope.value("input")
    if whole is None or TRACEPARENT not in whole.text:
        return ""
    found = json.loads(whole.text)
    text = found.get(TRACEPARENT) if isinstance(found, dict) else None
    return text if isinstance(text, str) else ""


def _attributes(live: Live) -> dict[str, AttributeValue]:
    subject = live.subject
    return {"walflow.instance": subject.id, "walflow.key": subject.key, "walflow.role": subject.submitter}


def _resource() -> Resource:
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {"service.name": "walflow"})


def to_otlp(system: str) -> Tracer:
    """Sends spans to where OpenTelemetry's variables say, from a thread of its own, and what is left at the end."""
    chosen = any(name in os.environ for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"))
    return Tracer(system, BatchSpanProcessor(OTLPSpanExporter(timeout=None if chosen else EXPORT_SECONDS)))
