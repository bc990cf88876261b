"""How long a quiet role's workflows take while another role floods, against the same on an idle server."""

from __future__ import annotations

import statistics
import time
from itertools import count

import psycopg
from psycopg.rows import TupleRow

from bench.rig import Rig
from tests.servers import wait_until

SAMPLES = 200
FLOOD = 100_000
"""Workflows of three steps in one INSERT: there must be some left when the last sample is taken."""
WARM = 20

_numbers = count(1)


def flood(rig: Rig) -> list[tuple[str, str, str]]:
    """Latency of three steps from the INSERT until the status is committed: p50 and p99, idle and flooded, as ratios."""
    with rig.database.connect("bob") as quiet, rig.database.connect() as observer:
        _latencies(quiet, observer, WARM)
        idle = _latencies(quiet, observer, SAMPLES)
        rig.start_workflows(FLOOD)
        wait_until(lambda: _arrived(rig) >= FLOOD, 120)  # before, it is the log that everybody stands behind
        began, before = time.monotonic(), rig.finished()
        flooded = _latencies(quiet, observer, SAMPLES)
        rate = (rig.finished() - before) / (time.monotonic() - began)
        assert rig.engine.status()["waiting_for_room"] > 0, "the flood was over before the last sample"
    return [
        _ratio("p50", statistics.median(idle), statistics.median(flooded)),
        _ratio("p99", _p99(idle), _p99(flooded)),
        ("workflows/s of the flooding role meanwhile", "", f"{rate:,.0f}"),
    ]


def _arrived(rig: Rig) -> int:
    """How many of the flood's starts the engine knows."""
    status = rig.engine.status()
    return sum(int(status.get(name, 0)) for name in ("waiting_for_room", "instances")) + rig.finished()


def _ratio(name: str, idle: float, flooded: float) -> tuple[str, str, str]:
    what = f"3-step workflow of a quiet role while another floods ÷ idle, {name}"
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
