"""How often a fault is injected, and what was seen: nothing lost, nothing doubled, how long until work went on.

A test injects its fault `times(short, full)` often: the short form in every run, the whole one with WALFLOW_FAULTS=full
(`make faults`). What it saw is appended as a line of JSON to the file that WALFLOW_FAULTS_REPORT names, if it does;
`python -m tests.faults.harness FILE` prints such a file as a table.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.load import Load
from tests.servers import PATIENCE_SECONDS
from tests.workflows import World

FORM: Final = "WALFLOW_FAULTS"
REPORT: Final = "WALFLOW_FAULTS_REPORT"
COLUMNS: Final = ("fault", "n", "lost", "doubled", "seconds_median", "seconds_max", "version")
NOISE: Final = 5
"""Machines that run tests do other things as well: a figure may be so many times what it should be."""


def whole() -> bool:
    """Whether the whole form was asked for."""
    return os.environ.get(FORM) == "full"


def times(short: int, full: int) -> int:
    """How often a fault is injected, in this run."""
    return full if whole() else short


@dataclass(slots=True)
class Fault:
    """One kind of fault on one database: its load, and the seconds that each injection took until work went on."""

    name: str
    world: World
    load: Load
    seconds: list[float] = field(default_factory=list)

    def goes_on(self, since: float | None = None, timeout: float = PATIENCE_SECONDS) -> float:
        """Start an instance and wait until it has completed; returns the seconds since `since` (monotonic), else since now."""
        began = time.monotonic() if since is None else since
        id = self.load.probe()
        outcome = self.world.end(id, timeout)
        assert outcome.status == "completed", outcome
        return self.took(time.monotonic() - began)

    def took(self, seconds: float) -> float:
        """Work went on after so long."""
        self.seconds.append(seconds)
        return seconds

    def write(self) -> None:
        """Append what was seen to the report."""
        if path := os.environ.get(REPORT):
            tally = self.load.tally()
            seen = {
                "fault": self.name,
                "n": len(self.seconds),
                "lost": tally.lost,
                "doubled": tally.doubled,
                "seconds_max": round(max(self.seconds, default=0.0), 3),
                "seconds_median": round(statistics.median(self.seconds or [0.0]), 3),
                "version": self.world.database.cluster.version,
            }
            with Path(path).open("a") as report:
                report.write(json.dumps(seen) + "\n")


@contextmanager
def fault(name: str, world: World, timeout: float = 60) -> Iterator[Fault]:
    """A fault to be injected inside; at the end all of the load has ended within `timeout` seconds, exactly once."""
    seen = Fault(name, world, Load(world))
    yield seen
    try:
        seen.load.check(timeout)
    finally:
        seen.write()


def table(lines: list[str]) -> str:
    """A report as a table of Markdown, by fault."""
    rows = sorted((json.loads(line) for line in lines), key=lambda row: str(row["fault"]))
    cells = [list(COLUMNS), ["---"] * len(COLUMNS), *([str(row[column]) for column in COLUMNS] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text().splitlines()))
