"""What the metrics cost: the engine beside one whose metrics do nothing, in turns, on one server."""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.rig import STEPS, Figure, Rig
from tests.servers import EngineProcess, processor_seconds

UNFED: Final = """
from metrics.collect import Histogram, Tally

def nothing(*_args, **_kwargs):
    pass

Tally.inc = Tally.set = Tally.raise_to = Tally.set_only = Histogram.observe = nothing
"""
"""Runs before the engine does."""
ROUNDS: Final = 7
WORKFLOWS: Final = 4000
SCRAPE_SECONDS: Final = 1.0
"""Fifteen times as often as Prometheus asks by default."""


def metrics(rig: Rig) -> list[Figure]:
    """Processor time and throughput of an engine that is scraped every second, and of one that counts nothing."""
    rig.engine.terminate()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "sitecustomize.py").write_text(UNFED)
        unfed = rig.database.engine(directory)
        unfed.settings = {**rig.engine.settings, "listen": unfed.settings["listen"]}
        unfed.environment = {"PYTHONPATH": str(directory)}
        fed: list[tuple[float, float]] = []
        bare: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            with _scraped(rig.engine.start()):
                fed.append(_round(rig, rig.engine))
            rig.engine.terminate()
            bare.append(_round(rig, unfed.start()))
            unfed.terminate()
    rig.engine.start()
    rate, processor = (statistics.median(a[i] for a in fed) / statistics.median(b[i] for b in bare) for i in range(2))
    return [
        (
            "metrics, scraped every second: throughput with ÷ without; the engine's processor time a step with ÷ without",
            "≥ 0.98; ≤ 1.02",
            f"{rate:.3f}; {processor:.3f} ({1e6 * statistics.median(a[1] for a in fed):.0f} µs a step)",
        )
    ]


def _round(rig: Rig, engine: EngineProcess) -> tuple[float, float]:
    """Steps a second, and the engine's processor seconds a step. What comes first is not measured: plans and pages are cold."""
    rig.finish(WORKFLOWS // 8)
    used = processor_seconds(engine.pid)
    seconds = rig.finish(WORKFLOWS)
    steps = WORKFLOWS * STEPS
    return steps / seconds, (processor_seconds(engine.pid) - used) / steps


@contextmanager
def _scraped(engine: EngineProcess) -> Iterator[None]:
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE_SECONDS):
            engine.get("/metrics")

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
