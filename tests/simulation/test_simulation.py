"""Ten thousand histories, and that a seed is one history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.simulation import shrink, simulate

SEEDS = int(os.environ.get("WALFLOW_SIMULATION_SEEDS", "10000"))
PART = 250
"""Seeds that one test runs: a worker's share of a second or five."""
FIRST = 1


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, PART))
def test_whatever_goes_wrong_every_rule_holds(first: int) -> None:
    for seed in range(first, min(first + PART, FIRST + SEEDS)):
        outcome = simulate(seed)
        if outcome.violations:
            small = shrink(outcome)
            pytest.fail("\n".join((*small.history, "", *small.violations, "", again(seed))))


def again(seed: int) -> str:
    return f"to see it again: python -m tests.simulation --seed {seed}"


def test_a_seed_is_one_history_whatever_the_process() -> None:
    """Also where strings hash to other numbers."""
    program = (
        "from tests.simulation.simulation import simulate\n"
        "for seed in range(20): print(*simulate(seed, in_detail=True).history, sep='\\n')"
    )
    root = Path(__file__).parents[2]
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": str(root)},
            capture_output=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert said[0] == said[1]
    assert said[0].count(b"\n") > 500
