"""Whether the simulation would find anything: bugs are planted, one for each checker at least, and found within a few hundred
seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from cdc.lsn import NO_LSN
from engine import leadership
from engine.book import Book
from engine.checkpoint import Checkpointer
from engine.executors.sql import SqlExecutor
from engine.nodes import branch
from engine.visibility import Visibility
from tests.simulation import rules
from tests.simulation.server import Work
from tests.simulation.simulation import simulate

SEEDS = 1_000

Plant = Callable[[pytest.MonkeyPatch], None]


def confirm_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    write = Checkpointer.write

    async def hasty(self: Any) -> float:
        self._confirm(self._book.lsn)
        return await write(self)

    patch.setattr(Checkpointer, "write", hasty)


def key_not_checked(patch: pytest.MonkeyPatch) -> None:
    def insert(b: Any, row: Any) -> Work:
        b.insert("df.completions", row)
        b.server.tables["completions"].put(b.transaction, (row["run_as"], row["key"], row["step"], row["attempt"]), row)
        return True
        yield

    patch.setattr(rules, "insert_completion", insert)


def effect_before_it_is_visible(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Visibility, "still_unproven", lambda self, xids: ())


def redelivered_transaction_folded_twice(patch: pytest.MonkeyPatch) -> None:
    made = Book.__init__

    def forgetful(self: Any, *args: Any, **keywords: Any) -> None:
        made(self, *args, **keywords)
        self._skip_before = NO_LSN

    patch.setattr(Book, "__init__", forgetful)


def branch_decided_by_something_else_than_the_rows(patch: pytest.MonkeyPatch) -> None:
    taken, calls = branch._taken, itertools.count()

    def moody(fold: Any, node: Any, indices: Any, names: Any, truth: bool) -> Any:
        return taken(fold, node, indices, names, truth != (next(calls) % 3 == 0))

    patch.setattr(branch, "_taken", moody)


def statement_of_another_instance(patch: pytest.MonkeyPatch) -> None:
    parameters = SqlExecutor._parameters

    def mixed_up(self: Any, step: Any) -> Any:
        known = self.__dict__.setdefault("known", {})
        mine = parameters(self, step)
        mine[2] = known.setdefault(step.effect.step, mine[2])
        return mine

    patch.setattr(SqlExecutor, "_parameters", mixed_up)


def nothing_outstanding_is_taken_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leadership, "outstanding", lambda subject, state: ())


@pytest.mark.parametrize(
    ("plant", "checker"),
    [
        (key_not_checked, "Once"),
        (redelivered_transaction_folded_twice, "Order"),
        (branch_decided_by_something_else_than_the_rows, "Decisions"),
        (confirm_before_the_commit, "Durable"),
        (effect_before_it_is_visible, "Visible"),
        (statement_of_another_instance, "Apart"),
        (nothing_outstanding_is_taken_over, "Ends"),
    ],
)
def test_a_planted_bug_is_found(plant: Plant, checker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(1, SEEDS):
        violations = simulate(seed).violations
        if any(violation.startswith(f"{checker}:") for violation in violations):
            return
    pytest.fail(f"{plant.__name__} was not found in {SEEDS} seeds")
