"""Runs seeds: `python -m tests.simulation --seed N` one of them, `--minutes M` as many as that takes, `--count N` so many."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.simulation import Outcome, shrink, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and print its history")
    parser.add_argument("--first", type=int, default=None, help="where to begin; by default somewhere")
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    if given.seed is not None:
        outcome = simulate(given.seed)
        print("\n".join(outcome.history))
        return report(outcome)
    first = given.first if given.first is not None else time.time_ns() % 10**9 * 1000
    return soak(first, given.count, given.minutes)


def soak(first: int, count: int | None, minutes: float) -> int:
    until = time.monotonic() + 60 * minutes
    seed = first
    while time.monotonic() < until and (count is None or seed < first + count):
        outcome = simulate(seed)
        if outcome.violations:
            return report(outcome)
        seed += 1
    print(f"{seed - first} seeds from {first}: nothing found")
    return 0


def report(outcome: Outcome) -> int:
    """Says what was found, and how to see it again."""
    if not outcome.violations:
        print(f"seed {outcome.seed}: nothing found in {outcome.seconds:.0f} simulated seconds")
        return 0
    small = shrink(outcome)
    print(f"seed {outcome.seed} fails; the shortest history found that does:\n")
    print("\n".join(small.history))
    print("", *small.violations, sep="\n")
    print(f"\nto see it again: python -m tests.simulation --seed {outcome.seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
