"""What must hold, each rule an object of its own. Those with `finished` look at a simulation that is over; the others watch."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engine.effects import Finish
from engine.machine import ENGINE
from tests.simulation.trace import Fold, History, asked_by

if TYPE_CHECKING:
    from tests.simulation.server import Backend, Row
    from tests.simulation.simulation import Simulation

FINAL = ("completed", "failed", "cancelled")


class Checker(ABC):
    """One rule. `violations` grows while a simulation runs, and once more when it is over."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.violations: list[str] = []

    def said(self, what: str) -> None:
        self.violations.append(f"{type(self).__name__}: {what}")

    @abstractmethod
    def finished(self) -> None:
        """The simulation is over."""

    def final(self, key: int) -> History | None:
        """The history that led to an instance's end."""
        for (_, of), history in reversed(self.simulation.trace.histories.items()):
            if of == key and any(isinstance(e, Finish) for fold in history.folds for e in fold.effects):
                return history
        return None

    def instances(self) -> list[Row]:
        return self.simulation.server.all("instances")


class Once(Checker):
    """Each step's effects at most once; exactly once for what completed; never for what failed or was cancelled."""

    def finished(self) -> None:
        server = self.simulation.server
        effects = Counter((r["role"], r["key"], r["step"], r["attempt"]) for r in server.all("ledger"))
        for key, count in effects.items():
            if count > 1:
                self.said(f"step {key} had its effects {count} times")
        completed = {
            (r["run_as"], r["key"], r["step"], r["attempt"])
            for r in server.all("completions")
            if r["run_as"] != ENGINE and r["outcome"] == "completed"
        }
        for key in sorted(completed - effects.keys()):
            self.said(f"step {key} is completed and had no effects")
        for key in sorted(effects.keys() - completed):
            self.said(f"step {key} had effects and is not completed")


class Order(Checker):
    """What came by the log is folded in its order, once, and nothing of it is left out."""

    def finished(self) -> None:
        for fault in self.simulation.trace.faults:
            self.said(fault)
        for history in self.simulation.trace.histories.values():
            self._look(history)
        for row in self.instances():
            final = self.final(row["key"])
            if final is not None:
                self._nothing_left_out(row, final)

    def _look(self, history: History) -> None:
        # a scan brings rows again whose steps a state has forgotten: it keeps them, and asks for nothing
        ids = [fold.event_id for fold in history.whole() if fold.source == "log" or fold.effects]
        for event_id, count in Counter(ids).items():
            if count > 1:
                self.said(f"instance {history.key}: row {event_id} was folded {count} times")
        positions = self.simulation.server.positions
        came = [positions.get(fold.event_id, -1) for fold in history.folds if fold.source == "log"]
        if came != sorted(came):
            self.said(f"instance {history.key}: rows were folded in another order than the log's")

    def _nothing_left_out(self, row: Row, history: History) -> None:
        seen = {fold.event_id for fold in history.whole()} | self.simulation.trace.ignored
        end = self.simulation.server.positions.get(history.folds[-1].event_id, 0)
        for logged in self.simulation.server.log:
            for _, event in logged.rows if logged.final_lsn < end else ():
                if event["event_id"] not in seen and self._is_for(event, row):
                    self.said(f"instance {row['key']}: row {event['event_id']} was never folded")

    def _is_for(self, event: Row, row: Row) -> bool:
        if "run_as" in event:
            return bool(event["key"] == row["key"])
        if (event.get("instance_id"), event.get("owner")) != (row["id"], row["submitter"]):
            return False
        # a command that was there before its instance is for nobody
        positions = self.simulation.server.positions
        return bool(event["instance_key"] == row["key"] or positions[event["event_id"]] >= positions[row["event_id"]])


class Decisions(Checker):
    """No decision is taken twice differently: not by two leaders, and not otherwise than it was acted on."""

    def finished(self) -> None:
        by_key: dict[int, list[History]] = {}
        for history in self.simulation.trace.histories.values():
            by_key.setdefault(history.key, []).append(history)
        for key, histories in by_key.items():
            self._compare(key, histories)
        for row in self.instances():
            final = self.final(row["key"])
            if final is not None:
                self._acted_on(row, final)
                self._as_stored(row, final)

    def _compare(self, key: int, histories: list[History]) -> None:
        longest: list[Fold] = []
        for history in histories:
            folds = history.whole()
            if any(fold.source == "scan" for fold in folds) or self.simulation.restored:
                continue
            for mine, other in zip(folds, longest, strict=False):
                if (mine.folds, mine.event_id) == (1, other.event_id) and mine.at_us != other.at_us:
                    break  # a start that waited: the table knows when it was recorded, the log when that was committed
                if (mine.event_id, mine.effects) != (other.event_id, other.effects):
                    self.said(f"instance {key}: two leaders decided differently at row {mine.event_id}")
                    return
            longest = max(longest, folds, key=len)

    def _acted_on(self, row: Row, history: History) -> None:
        """Every effect that there is was asked for by the history that led to the instance's end."""
        asked: dict[tuple[str, int], Any] = {}
        for fold in history.whole():
            asked |= asked_by(fold)
        taken = {step for fold in history.whole() for step in fold.taken}
        for effect in self.simulation.server.all("ledger"):
            # what was kept and then reached is asked for and answered in one fold
            if effect["key"] == row["key"] and (effect["step"], effect["attempt"]) not in taken:
                wanted = asked.get((effect["step"], effect["attempt"]))
                if wanted != effect["query"]:
                    what = "nobody asked for" if wanted is None else "was another one"
                    self.said(f"instance {row['key']}: step {effect['step']} was done, and {what} it at last")

    def _as_stored(self, row: Row, history: History) -> None:
        ends = [effect for fold in history.folds for effect in fold.effects if isinstance(effect, Finish)]
        if (row["status"], row["result"], row["error"]) != (ends[-1].status, ends[-1].result, ends[-1].error):
            self.said(f"instance {row['key']} is stored as {row['status']}, and was decided to be {ends[-1].status}")


class Durable(Checker):
    """Nothing is confirmed that no committed checkpoint holds."""

    def confirmed(self, flushed: int) -> None:
        row = self.simulation.server.now("checkpoint", 1)
        assert row is not None
        if flushed > row["lsn"]:
            self.said(f"{flushed:x} was confirmed, and the checkpoint is at {row['lsn']:x}")

    def finished(self) -> None: ...


class Visible(Checker):
    """No effect runs before what caused it is visible to it."""

    def ran(self, backend: Backend, call: dict[str, Any]) -> None:
        server = self.simulation.server
        led = self.simulation.trace.before(call["life"], call["key"], call["step"], call["attempt"])
        if led is None:
            self.said(f"step {call['step']} of instance {call['key']} ran, and nobody asked for it")
            return
        for fold in led:
            transaction = server.by_event.get(fold.event_id)
            if transaction is not None and not backend.sees(transaction):
                self.said(f"step {call['step']} of instance {call['key']} ran before it could see row {fold.event_id}")

    def finished(self) -> None: ...


class Apart(Checker):
    """Nothing of one instance reaches another."""

    def ran(self, call: dict[str, Any]) -> None:
        row = self.simulation.server.now("instances", call["key"])
        while row is not None and row["parent_key"] is not None:
            row = self.simulation.server.now("instances", row["parent_key"])
        if row is not None and (others := _ids(call["query"]) - self._known(row["id"])):
            self.said(f"a step of {row['id']} was given something of {others}: {call['query']}")

    def _known(self, id_: str) -> set[str]:
        """The instance, and those whose results it may wait for."""
        graphs = {start.id: start.graph for start in self.simulation.plan.starts}
        known: set[str] = set()
        todo = {id_}
        while todo:
            known |= todo
            todo = {other for each in todo for other in _ids(graphs.get(each, ""))} - known
        return known

    def finished(self) -> None:
        for (run_as, key, step, _), row in self._completions():
            owner = self.simulation.server.now("instances", key)
            if owner is not None and run_as not in (ENGINE, owner["submitter"]):
                self.said(f"step {step} of instance {key} ran as role {run_as}: {json.dumps(row['result'])}")

    def _completions(self) -> Iterator[tuple[tuple[int, int, str, int], Row]]:
        for row in self.simulation.server.all("completions"):
            yield (row["run_as"], row["key"], row["step"], row["attempt"]), row


def _ids(text: str) -> set[str]:
    return set(re.findall(r"\bi\d+\b", text))


class Ends(Checker):
    """Once faults stop every instance ends, and no engine has stopped for a reason of its own."""

    def finished(self) -> None:
        for row in self.instances():
            if row["quarantined"] is not None:
                self.said(f"instance {row['id']} is quarantined: {row['quarantined']}")
            if row["status"] not in FINAL:
                self.said(f"instance {row['id']} ({row['key']}) does not end")


CHECKERS = (Once, Order, Decisions, Durable, Visible, Apart, Ends)
