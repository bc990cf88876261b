"""In which order a table scan folds the rows of an instance: the one that asks for what was asked for before.

A scan does not know the order of the log. What it has is evidence: each completion names the row whose folding asked for its
step. By the rule, rows that are so named come first, the others after them, each by the time of recording. That brings rows
to their place that were recorded early and committed late. It fails where a row was acted on and nothing names it any more: a
signal let a branch go on, the branch lost a race, and its step was cancelled for another row's sake, while the signal's undo
was owed, and done. So an order is tried before it is taken: it *contradicts* a completion whose step it does not ask for because
of the row that is named there. If the rule's order contradicts some, the order of recording is tried, then such orders in which
one row comes later than it was recorded. Of several, the one that contradicts fewest is taken.

Pure: an order is tried by folding it, and nothing is kept of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from engine.effects import (
    AwaitInstance,
    CancelChild,
    CancelStep,
    DropTimer,
    DropWait,
    Effect,
    Execute,
    Finish,
    StartChild,
    StartTimer,
    TakeSignal,
)
from engine.events import Completed, Event
from engine.frames import Subject
from engine.machine import State, fold, outstanding

FOLDS: Final = 20_000
"""For one instance, so many rows are folded on trial at most, in all orders together. One with more follows the rule."""

Asked = tuple[str, int, str | None]
"""Step, attempt, and the row that it is asked for because of."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a scan found. `cause`: of a completion, the event id that it names; `named`: whether some completion names this."""

    event: Event
    recorded_us: int
    cause: str | None
    named: bool


def in_order(subject: Subject, state: State, rows: Sequence[Row]) -> list[Row]:
    """The rows in the order in which they are to be folded into the state."""
    by_time = sorted(rows, key=lambda row: (row.recorded_us, row.event.event_id))
    by_rule = sorted(by_time, key=lambda row: not row.named)
    if len(rows) > FOLDS:
        return by_rule
    try:
        return _least_contradicted(_Trial(subject, state, by_time), by_rule, by_time)
    except MemoryError:
        raise
    except Exception:
        return (
            by_rule  # a row cannot be folded: whoever folds it in earnest meets it again, and sets the instance aside
        )


def _least_contradicted(trial: _Trial, by_rule: list[Row], by_time: list[Row]) -> list[Row]:
    if not trial.has_evidence:
        return by_rule
    fewest, best = trial.contradicted(by_rule), by_rule
    for order in _others(by_time):
        if not fewest or trial.folds + len(order) > FOLDS:
            break
        contradicted = trial.contradicted(order)
        if contradicted < fewest:
            fewest, best = contradicted, order
    return best


def _others(by_time: list[Row]) -> Iterator[list[Row]]:
    yield by_time
    for place, row in enumerate(by_time):
        rest = by_time[:place] + by_time[place + 1 :]
        for later in range(place + 1, len(by_time)):
            yield [*rest[:later], row, *rest[later:]]


class _Trial:
    """Folds orders. `folds`: how many rows so far."""

    def __init__(self, subject: Subject, state: State, rows: Sequence[Row]) -> None:
        self.folds = 0
        self._subject, self._state = subject, state
        self._base = frozenset(_asked(outstanding(subject, state)))
        # a cause that is not known says nothing, nor does what the state has behind it
        causes = {row.event.event_id for row in rows}.union(cause for _, _, cause in self._base)
        past = self._past(rows)
        self._evidence = [
            (event.step, event.attempt, row.cause)
            for row in rows
            if isinstance(event := row.event, Completed) and row.cause in causes and event.event_id not in past
        ]

    @property
    def has_evidence(self) -> bool:
        """Whether anything could contradict an order."""
        return bool(self._evidence)

    def _past(self, by_time: Sequence[Row]) -> set[str | None]:
        """Completions that the state has behind it: those that say nothing to it, and those that such a row asked for and that
        are not asked for any more. (To the state a step of an earlier try looks like one that may still come.)
        """
        past = set[str | None]()
        for row in by_time:
            event = row.event
            if isinstance(event, Completed) and (
                (row.cause in past and (event.step, event.attempt, row.cause) not in self._base)
                or fold(self._subject, self._state, event)[0] is self._state
            ):
                past.add(event.event_id)
        return past

    def contradicted(self, order: Sequence[Row]) -> int:
        """How many completions the order does not account for."""
        self.folds += len(order)
        state, asked, kept = self._state, set(self._base), set[tuple[str, int]]()
        for row in order:
            before = state
            state, effects = fold(self._subject, before, row.event)
            asked.update(_asked(effects))
            # what was kept until its step was reached is not asked for any more; thousands may be, of steps that never come.
            # whoever has finished keeps nothing, and has reached nothing by that
            if len(state.stash) < len(before.stash) and not state.finished:
                kept.update(before.stash.keys() - state.stash.keys())
        return sum(
            (step, attempt, cause) not in asked and (step, attempt) not in kept
            for step, attempt, cause in self._evidence
        )


def _asked(effects: Sequence[Effect]) -> Iterator[Asked]:
    for effect in effects:
        match effect:
            case Execute() | CancelStep():
                yield effect.step, effect.attempt, effect.cause
            case StartTimer() | StartChild() | CancelChild() | AwaitInstance():
                yield effect.step, 1, effect.cause
            case DropTimer() | DropWait() | TakeSignal() | Finish():
                pass
