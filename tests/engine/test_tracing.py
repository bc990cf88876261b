"""Spans: for each instance one, in it one for each step, in the trace of whoever inserted it, with the same ids whoever tells."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engine.tracing import Tracer
from tests.engine.logbook import Log, done, start
from tests.engine.machinery import await_, child, race, seq, sleep, sql
from tests.servers import Database, wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
NOT_SAMPLED = f"00-{TRACE}-{SPAN}-00"
GRAPH = seq(sql("a"), sql("b"))


class Traced:
    """A log whose story becomes spans."""

    def __init__(self, system: str = "7000") -> None:
        self._exporter = InMemorySpanExporter()
        self.log = Log()
        self.log.book.on_folded = Tracer(system, SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def ids(self) -> list[tuple[str, int, int, int | None]]:
        """Name, trace, span and parent of each."""
        return [(s.name, s.context.trace_id, s.context.span_id, s.parent and s.parent.span_id) for s in self.spans]


def run(*, input: str | None = None, vars: str | None = None) -> Traced:
    """A workflow of two steps, to its end."""
    traced = Traced()
    traced.log.transaction(start(GRAPH, label="order", input=input, vars=vars))
    traced.log.transaction(done("2"))
    traced.log.transaction(done("3"))
    return traced


def test_an_instance_is_a_span_and_each_step_one_in_it() -> None:
    first, second, whole = run().spans
    assert [span.name for span in (first, second, whole)] == ["sql", "sql", "order"]
    assert whole.parent is None
    for step in (first, second):
        assert step.parent is not None
        assert step.parent.span_id == whole.context.span_id
        assert step.context.trace_id == whole.context.trace_id
    assert first.attributes is not None
    assert first.attributes["walflow.step"] == "2"
    assert whole.attributes is not None
    assert whole.attributes["walflow.instance"] == "w1"
    assert whole.attributes["walflow.status"] == "completed"
    assert whole.instrumentation_scope is not None
    assert whole.instrumentation_scope.name == "walflow"


def test_its_times_are_those_of_the_log() -> None:
    first, second, whole = run().spans
    began = 1_700_000_001_000_000_000
    assert (first.start_time, first.end_time) == (began, began + 1_000_000_000)
    assert (second.start_time, second.end_time) == (began + 1_000_000_000, began + 2_000_000_000)
    assert (whole.start_time, whole.end_time) == (began, began + 2_000_000_000)


@pytest.mark.parametrize(
    "given",
    [
        {"vars": json.dumps({"traceparent": SAMPLED})},
        {"input": json.dumps({"order": 7, "traceparent": SAMPLED})},
    ],
)
def test_it_belongs_to_the_trace_of_the_application_that_inserted_it(given: dict[str, str]) -> None:
    *_, whole = traced = run(**given).spans
    assert {format(span.context.trace_id, "032x") for span in traced} == {TRACE}
    assert whole.parent is not None
    assert format(whole.parent.span_id, "016x") == SPAN


@pytest.mark.parametrize(
    "given",
    [
        {"vars": json.dumps({"traceparent": "nonsense"})},
        {"input": json.dumps(["traceparent"])},
        {"input": json.dumps({"traceparent": 7})},
    ],
)
def test_what_is_no_traceparent_gives_it_a_trace_of_its_own(given: dict[str, str]) -> None:
    assert run(**given).ids() == run().ids()


def test_what_the_application_does_not_sample_is_not_sampled() -> None:
    assert run(vars=json.dumps({"traceparent": NOT_SAMPLED})).spans == []


def test_whoever_tells_it_again_gives_it_the_same_ids_and_another_system_gives_others() -> None:
    assert run().ids() == run().ids()
    other = Traced("7001")
    other.log.transaction(start(), start(key=2, id_="w2"))
    other.log.transaction(done(), done(key=2))
    ids = [id_ for _, _, id_, _ in run().ids() + other.ids()]
    assert len(set(ids)) == len(ids)
    assert {trace for _, trace, _, _ in run().ids()}.isdisjoint(trace for _, trace, _, _ in other.ids())


def test_a_failed_step_and_instance_have_the_code_and_not_the_text() -> None:
    traced = Traced()
    traced.log.transaction(start())
    error = json.dumps({"message": "hunter2", "code": "23505"})
    traced.log.transaction(done(outcome="failed", result=None, error=error))
    for span in traced.spans:
        assert not span.status.is_ok
        assert span.status.description == "23505"
        assert "hunter2" not in span.to_json()


def test_children_and_waits_are_steps_and_timers_are_not() -> None:
    traced = Traced()
    traced.log.transaction(start(race(seq(child(sql()), sql("x")), seq(await_("other"), sql("x")), sleep(5))))
    answer = json.dumps({"instance_id": "i", "status": "completed", "result": None, "error": None})
    steps = [effect.step for _, effect in traced.log.effects if hasattr(effect, "step")]  # before any is answered
    assert len(steps) == 3
    for step in sorted(set(steps)):
        traced.log.transaction(done(step, answer, run_as=0))
    names = [span.name for span in traced.spans]
    assert "call_child" in names
    assert "workflow" not in names[:1]
    assert set(names) <= {"call_child", "await_instance", "workflow", "sql"}


def test_a_step_that_an_earlier_leader_began_is_told_too() -> None:
    traced = Traced()
    told, traced.log.book.on_folded = traced.log.book.on_folded, None
    traced.log.transaction(start(GRAPH))
    traced.log.book.on_folded = told
    traced.log.transaction(done("2"))
    (step,) = traced.spans
    assert step.attributes is not None
    assert step.attributes["walflow.wanted_by_an_earlier_leader"] is True
    assert step.start_time == step.end_time


# --- on a server --------------------------------------------------------------------------------------------------------


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        taken = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                taken.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def names(self) -> list[str]:
        scopes = [s for request in self.requests for r in request.resource_spans for s in r.scope_spans]
        return sorted(span.name for scope in scopes for span in scope.spans)

    def services(self) -> set[str]:
        resources = [r.resource for request in self.requests for r in request.resource_spans]
        return {a.value.string_value for r in resources for a in r.attributes if a.key == "service.name"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_a_running_engine_sends_its_spans_to_a_collector(
    database: Database, tmp_path: Path, collector: Collector
) -> None:
    engine = database.engine(tmp_path, traces="otlp")
    engine.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    engine.start()
    database.run("select df.start(df.seq('select 1', 'select 2'), 'order')", role="alice")
    wait_until(lambda: collector.names() == ["order", "sql", "sql"])
    assert collector.services() == {"walflow"}
    assert engine.terminate() == 0


def test_a_collector_that_is_away_holds_up_neither_workflows_nor_the_stop(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, traces="otlp", log_level="info")
    engine.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    engine.start()
    database.run("select df.start(df.seq('select 1', 'select 2'), id => 'w')", role="alice")
    wait_until(lambda: database.run("select 1 from df.instances where id = 'w' and status = 'completed'"))
    assert engine.terminate() == 0


def test_nothing_of_it_is_loaded_where_it_is_off() -> None:
    look = "import sys, engine.cli, engine.postgres; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
