"""What the engines decided: every fold of every leadership, with what it asked for, and which history it goes on from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from engine.effects import Effect, Execute, StartChild
from engine.events import Event
from engine.frames import Subject
from engine.machine import State
from tests.simulation.loop import ACTOR, Actor

Attempt = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Fold:
    """One row taken in. `folds`: the state's own count after it; `source`: `log`, also by way of the inbox, or `scan`, also when
    what it put into an order waited in the inbox.
    """

    event_id: str
    at_us: int
    folds: int
    effects: tuple[Effect, ...]
    source: str
    taken: tuple[Attempt, ...] = ()
    """Steps whose rows had been kept until they were reached, by this very fold."""


@dataclass(slots=True)
class History:
    """What one leadership folded into one instance. `base`: the history of the state that it loaded, as far as that went."""

    life: int
    key: int
    base: list[Fold]
    folds: list[Fold] = field(default_factory=list)

    def whole(self) -> list[Fold]:
        return self.base + self.folds


class Trace:
    """All histories, by leadership and instance."""

    def __init__(self) -> None:
        self.histories: dict[tuple[int, int], History] = {}
        self.ignored: set[str] = set()
        """Rows that some leadership took for none of an instance's history."""
        self.last: dict[int, History] = {}
        """Of each instance, the one that was added to last by a leadership that could commit."""
        self.asked: dict[tuple[int, int, str, int], tuple[History, int]] = {}
        """By leadership, instance, step and attempt: after how many folds."""
        self.faults: list[str] = []
        self.scanned: set[str] = set()
        """Rows that a scan of the tables has read: from then on they stand in its order, not in the log's."""
        self.lives = 0

    def new_life(self) -> int:
        self.lives += 1
        return self.lives

    def loaded(self, life: int, key: int, by: int, state: str) -> None:
        """A leadership read a state that another wrote."""
        if (life, key) not in self.histories:
            before = self.histories[by, key]
            count: int = json.loads(state)["state"][0]
            base = [fold for fold in before.whole() if fold.folds <= count]
            if count != (base[-1].folds if base else 0):
                self.faults.append(f"instance {key}: a state of {count} rows was stored, and {len(base)} were folded")
            self.histories[life, key] = History(life, key, base)

    def folded(self, subject: Subject, before: State, event: Event, after: State, effects: tuple[Effect, ...]) -> None:
        actor = ACTOR.get()
        assert isinstance(actor, Actor)
        history = self.histories.get((actor.life, subject.key))
        if history is None:
            history = self.histories[actor.life, subject.key] = History(actor.life, subject.key, [])
        source = "scan" if actor.scanning or event.event_id in self.scanned else "log"
        if after is before:
            self.ignored.add(event.event_id)
            return
        taken = tuple(before.stash.keys() - after.stash.keys()) if before.stash else ()
        history.folds.append(Fold(event.event_id, event.at_us, after.folds, effects, source, taken))
        count = len(history.base) + len(history.folds)
        for effect in effects:
            if isinstance(effect, Execute):
                self.asked[actor.life, subject.key, effect.step, effect.attempt] = history, count
            elif isinstance(effect, StartChild):
                self.asked[actor.life, subject.key, effect.step, 1] = history, count

    def before(self, life: int, key: int, step: str, attempt: int) -> list[Fold] | None:
        """The folds that led a leadership to an attempt; None if it never asked for it."""
        found = self.asked.get((life, key, step, attempt))
        if found is not None:
            return found[0].whole()[: found[1]]
        history = self.histories.get((life, key))
        for place, fold in enumerate(history.base if history is not None else ()):
            assert history is not None
            if (step, attempt) in asked_by(fold):
                return history.base[: place + 1]
        return None


def asked_by(fold: Fold) -> dict[Attempt, Any]:
    """Attempts that a fold asked for, and what each was to do."""
    asked: dict[Attempt, Any] = {}
    for effect in fold.effects:
        if isinstance(effect, Execute):
            asked[effect.step, effect.attempt] = effect.query
        elif isinstance(effect, StartChild):
            asked[effect.step, 1] = effect.graph
    return asked
