"""Mutated graphs that are taken run to an end in the machine, whatever comes of their steps.

`Run` (tests/engine/machinery.py) crashes after every row and checks what a crash must not change. Around it everything
happens that can: steps end in odd results and failures, timers fire, signals come and do not, children and awaited instances
end, a role writes completions of steps that are not reached yet, and whatever has not ended after a while is cancelled.
How many graphs and which ones: mutations.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from random import Random
from typing import Any, Final

import pytest

from engine import machine
from engine.effects import CancelChild, CancelStep, Effect, Execute
from engine.events import CancelRequested, Completed, Signalled
from engine.frames import step_key
from engine.graph import Graph, GraphError, Kind, graph_of
from engine.jsontext import unstorable
from tests.engine.machinery import ROLE, Run, cell, rows
from tests.properties.mutations import COUNT, SEED, good_graphs, mutants
from tests.servers import Database

EVENTS: Final = 40
"""Rows until an instance is cancelled that still runs."""
MOST_EVENTS: Final = 5_000
"""Rows by which one has ended, undos that are tried again and again included."""
ITERATIONS: Final = 3
"""Of loops where nothing else would end one: a cancellation does not stop an undo."""
RESULTS: Final = (
    rows(), rows({"n": 1, "t": "1x"}, {"n": 2, "t": None}), cell(0), cell(True), cell(0.01), cell(None), cell("x" * 600),
    cell([1, {"n": 2}]), '{"rows":[],"affected":3}', '{"rows":[],"row_count":0,"columns":["n"]}', '{"rows":[{}],"row_count":1}',
    '{"rows":[{"n":"\\u0000","t":"\\ud800"}],"row_count":1}', '{"rows":[{"n":1e4000,"n":-0}],"row_count":1}',
    '{"rows":[{"n":' + "[" * 3_000 + "]" * 3_000 + '}],"row_count":1}',
)  # fmt: skip
ERRORS: Final = (
    '{"message":"boom","code":"P0001"}', '{"message":"\\u0000\\ud800","code":"\\udfff","hint":"\\ud800"}', "null", "[]",
    '{"message":7}', "{", "[" * 3_000 + "]" * 3_000,
)  # fmt: skip
DATA: Final = ("null", "{}", '"\\ud800"', "1e400", '{"rows":[{"n":1}]}', "[" * 3_000 + "]" * 3_000)
INPUTS: Final = ("null", "[1,2]", '{"rows":[{"n":1},{"n":2}]}', '"x"', "[[],[1]]")


class Watched(Run):
    """A run whose every effect can be written into a database, and that can be shown at any moment."""

    def _note(self, effect: Effect) -> None:
        super()._note(effect)
        for field in fields(effect):
            text = getattr(effect, field.name)
            assert not isinstance(text, str) or unstorable(text) is None, effect

    def shown(self) -> None:
        text = json.dumps(machine.progress(self.subject, self.state), ensure_ascii=False)
        assert unstorable(text) is None, text


class Life:
    """What happens to one instance, as `seed` says."""

    def __init__(self, graph: Graph, text: str, seed: int) -> None:
        self.chance = Random(seed)
        endless = any(node.undoing and node.kind is Kind.LOOP for node in graph.nodes)
        self.run = Watched(
            text,
            input_=self.chance.choice(INPUTS),
            variables={"a": "0.5", "t": "2027-01-31"},
            loop_iterations=ITERATIONS if endless else self.chance.choice((0, ITERATIONS)),
        )
        self.statements = [node for node in graph.nodes if node.kind is Kind.SQL]
        self.given: set[tuple[str, int]] = set()
        self.events = 0

    # --- rows -----------------------------------------------------------------------------------------------------------

    def next(self) -> str:
        self.events += 1
        self.run.at_us += self.chance.randrange(3) * 300_000
        return f"e{self.events}"

    def answer(self, step: str, run_as: int, outcome: str = "", result: str | None = None) -> None:
        """A row for a step, as nobody but chance decided unless `outcome` says."""
        asked = self.run.open.get(step) or self.run.draining.get(step)
        attempt = asked.attempt if isinstance(asked, Execute | CancelStep) else 1
        outcome = outcome or self.chance.choice(("completed", "completed", "completed", "failed"))
        error = None if outcome == "completed" else self.chance.choice(ERRORS)
        if run_as == ROLE:
            result = self.chance.choice(RESULTS) if outcome == "completed" else None
            self.given.add((step, attempt))
        self.run.answered.setdefault(step, result or "null")
        event: Any = (self.next(), self.run.at_us, run_as, step, attempt, outcome, result, error)
        self.run.fold(Completed(*event))

    def fire(self, step: str) -> None:
        self.run.at_us = max(self.run.at_us, self.run.timers[step].due_us)
        told = '{"status":"running"}' if step in self.run.awaits else None
        self.answer(step, machine.ENGINE, "completed", self.chance.choice((told, None)))

    def end(self, step: str) -> None:
        """A child or an awaited instance ends, or cannot be had."""
        status = self.chance.choice(("completed", "failed", "cancelled", "pending"))
        result, error = self.chance.choice((*RESULTS, "null")), self.chance.choice(("null", *ERRORS[:3]))
        answer = f'{{"instance_id":"{step}","status":"{status}","result":{result},"error":{error}}}'
        self.answer(step, machine.ENGINE, self.chance.choice(("completed", "completed", "failed")), answer)

    def signal(self, name: str) -> None:
        self.run.fold(Signalled(self.next(), self.run.at_us, name, self.chance.choice(DATA)))

    def cancel(self) -> None:
        self.run.fold(CancelRequested(self.next(), self.run.at_us, "enough"))

    def forge(self) -> None:
        """The role writes a completion of a step of its own that nobody has asked for, or of what is no step at all."""
        if self.statements and self.chance.random() < 0.8:
            node = self.chance.choice(self.statements)
            step = step_key(node.number, tuple(self.chance.randint(1, 3) for _ in node.loops))
        else:
            step = self.chance.choice(("0", "x", "1.1.1.1.1.1", "999999", "", "2", "1"))
        if (step, 1) not in self.given and step not in {*self.run.open, *self.run.draining}:
            self.answer(step, ROLE)

    # --- its course -----------------------------------------------------------------------------------------------------

    def answers(self) -> list[Callable[[], None]]:
        run = self.run
        return [
            *(lambda step=step: self.answer(step, ROLE) for step in run.open),
            *(lambda step=step: self.fire(step) for step in run.timers),
            *(lambda step=step: self.end(step) for step in {**run.children, **run.awaits}),
            *(lambda step=step: self.settle(step) for step in run.draining),
        ]

    def settle(self, step: str) -> None:
        if isinstance(self.run.draining[step], CancelChild):
            self.end(step)
        else:
            self.answer(step, ROLE, self.chance.choice(("", "cancelled")))

    def go_on(self, *, mischief: bool) -> None:
        """One row."""
        answers = self.answers()
        waits = sorted({wait.name for wait in self.run.state.waits.values()})
        if mischief and self.chance.random() < 0.1:
            self.chance.choice((self.forge, lambda: self.signal("go")))()
        elif waits and (not answers or self.chance.random() < 0.2):
            self.signal(self.chance.choice(waits))
        else:
            assert answers, "it waits for nothing and has not ended"
            self.chance.choice(answers)()
        self.run.shown()

    def live(self) -> str:
        """To the end, and how that was."""
        if self.chance.random() < 0.2:
            self.forge()
            self.signal("go")
        if self.chance.random() < 0.05:
            self.cancel()
        self.run.start()
        patience = self.chance.choice((0, 3, 10, EVENTS, EVENTS))
        while self.run.status == "running" and self.events < patience:
            self.go_on(mischief=True)
        if self.run.status == "running":
            self.cancel()
        while self.run.status == "running":
            self.go_on(mischief=False)
            assert self.events < MOST_EVENTS
        finish = self.run.finish
        assert finish is not None
        assert (finish.result is None) == (finish.status != "completed")
        return finish.status


@pytest.mark.timeout(120 + COUNT // 20)
def test_every_graph_that_is_taken_ends_whatever_happens_to_it(database: Database) -> None:
    with database.connect("alice") as connection:
        graphs = good_graphs(connection)
    ends: Counter[str] = Counter()
    for seed, text in mutants(graphs, SEED, COUNT):
        try:
            graph = graph_of(text)
        except GraphError:
            ends["refused"] += 1
            continue
        try:
            ends[Life(graph, text, seed).live()] += 1
        except Exception as error:
            error.add_note(f"WALFLOW_FUZZ=1 WALFLOW_FUZZ_SEED={seed}: {text[:2_000]}")
            raise
    print(f"{COUNT} from {SEED}:", dict(ends))  # told with -s
    assert COUNT < 1_000 or min(ends[end] for end in ("refused", "completed", "failed", "cancelled")) > COUNT / 50, ends
