"""How long a quiet role's workflows take while another role floods, against the same on an idle server.

Two floods: of steps that wait for something, as most do, and of steps that take all processor time. Beside the second one
whatever anybody does waits for its turn on the processors: a commit and a checkpoint as well.
"""

from __future__ import annotations

import statistics
import time
from itertools import count
from typing import Final, LiteralString

import psycopg
from psycopg.rows import TupleRow

from bench.rig import GRAPH, Figure, Rig
from tests.servers import wait_until

SAMPLES = 400
FLOOD = 100_000
"""Workflows of three steps in one INSERT: there must be some left when the last sample is taken."""
WARM = 20
WAITING: Final = "'select pg_sleep(0.02)' ~> 'select pg_sleep(0.02)' ~> 'select pg_sleep(0.02)'"

_numbers = count(1)


def flood(rig: Rig) -> list[Figure]:
    """Beside steps that take 20 ms each and no processor time."""
    return _beside(rig, "a flood of steps that wait", WAITING)


def busy_flood(rig: Rig) -> list[Figure]:
    """Beside steps that keep every processor busy."""
    return _beside(rig, "a flood that takes all processors", GRAPH)


def _beside(rig: Rig, name: str, graph: LiteralString) -> list[Figure]:
    """Latency of three steps from the INSERT until the status is committed: p50 and p99, idle and flooded, as ratios."""
    with rig.database.connect("bob") as quiet, rig.database.connect() as observer:
        _latencies(quiet, observer, WARM)
        idle = _latencies(quiet, observer, SAMPLES)
        known = _known(rig) + FLOOD
        rig.start_workflows(FLOOD, graph)
        wait_until(
            lambda: _known(rig) >= known - FLOOD // 100, 120
        )  # before, it is the log that everybody stands behind
        began, before = time.monotonic(), rig.finished()
        flooded = _latencies(quiet, observer, SAMPLES)
        rate = (rig.finished() - before) / (time.monotonic() - began)
        assert rig.engine.status()["waiting_for_room"] > 0, "the flood was over before the last sample"
    return [
        _ratio(f"p50 beside {name}", statistics.median(idle), statistics.median(flooded)),
        _ratio(f"p99 beside {name}", _p99(idle), _p99(flooded)),
        (f"workflows/s of {name}", "", f"{rate:,.0f}"),
    ]


def _known(rig: Rig) -> int:
    """How many of the flood's starts the engine knows."""
    status = rig.engine.status()
    return sum(int(status.get(name, 0)) for name in ("waiting_for_room", "instances")) + rig.finished()


def _ratio(name: str, idle: float, flooded: float) -> Figure:
    what = f"3-step workflow of a quiet role, {name} ÷ idle"
    return what, "≤ 5", f"{flooded / idle:.1f} ({flooded:.1f} ÷ {idle:.1f} ms)"


def _p99(seen: list[float]) -> float:
    return sorted(seen)[int(len(seen) * 0.99)]


def _latencies(
    quiet: psycopg.Connection[TupleRow], observer: psycopg.Connection[TupleRow], samples: int
) -> list[float]:
    """Milliseconds, one workflow after another."""
    status = "select status = 'completed' from df.instances where submitted_by = 'bob'::regrole and id = %s"
    graph = "select 'select 1' ~> 'select 2' ~> 'select 3'"
    row = quiet.execute(graph).fetchone()
    assert row is not None
    seen = []
    for _ in range(samples):
        id = f"quiet-{next(_numbers)}"
        began = time.perf_counter()
        quiet.execute("insert into df.instances (id, graph) values (%s, %s)", [id, row[0]])
        while not observer.execute(status, [id]).fetchone()[0]:  # type: ignore[index]
            time.sleep(0.001)  # polling without rest would take one of two processors from the engine
        seen.append((time.perf_counter() - began) * 1000)
    return seen
