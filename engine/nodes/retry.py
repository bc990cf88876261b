"""RETRY: tries of a node, each anew, until one completes or there have been enough.

=========  ====================================  =======================================================
state      event                                 becomes
=========  ====================================  =======================================================
begins                                           left entered under index 1, *trying*
trying     Done, Broke                           the same
trying     Failed                                what the try owes is undone, *settling*
settling   unwound, tries left                   a timer asked for, *resting*
settling   unwound, an undo failed for good      Failed: another try would be on top of what was not undone
settling   unwound, no try left                  Failed
resting    its timer's completion                left entered under the next index, *trying*
resting    abandoned                             timer dropped
=========  ====================================  =======================================================

The delay is `initial`, times `backoff` for each further try, at most `max_interval`; of that a part, up to a tenth, is taken
off, by the row that the try failed with: a replay takes off the same. The rest's key is the node's own with the try that
failed appended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal
from zlib import crc32

from engine.errors import beside
from engine.events import Completed
from engine.frames import Failed, Fold, Frame, Outcome, Result, Where, entered_by, framed, step_key
from engine.graph import Kind, Node, Retry
from engine.nodes.settling import tried
from engine.values import Names


@framed
@dataclass(frozen=True, slots=True)
class Trying(Frame):
    """`attempt` counts tries from 1; `failed` is how the last one ended while settling and resting."""

    tag: ClassVar[str] = "retry"
    node: int
    indices: tuple[int, ...]
    names: Names
    attempt: int
    phase: Literal["trying", "settling", "resting"]
    inner: Frame | None
    failed: Failed | None = None
    due_us: int = 0
    cause: str = ""

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        attempt = indices[len(self.indices)] if len(indices) > len(self.indices) else 0
        if attempt == self.attempt and self.inner is not None:
            return self.inner
        return Where.FUTURE if attempt > self.attempt else Where.PAST

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        return replace(self, inner=result) if isinstance(result, Frame) else _tried(fold, self, result)

    def unwound(self, fold: Fold, failures: tuple[Failed, ...]) -> Result:
        assert self.failed is not None
        spec = fold.graph.node(self.node).spec
        assert isinstance(spec, Retry)
        if failures or self.attempt >= spec.max_attempts:
            return Failed(beside(self.failed.failure, (f.failure for f in failures)))
        fold.waited = True
        resting = replace(
            self, phase="resting", due_us=fold.at_us + _delay_us(spec, self.attempt, fold.cause), cause=fold.cause
        )
        fold.start_timer(resting.rest_key(), resting.due_us)
        return resting

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        fold.at_us = max(fold.at_us, self.due_us)
        fold.waited = True
        return _try(fold, self)

    def abandon(self, fold: Fold) -> None:
        if self.inner is not None:
            self.inner.abandon(fold)
        elif self.phase == "resting":
            fold.drop_timer(self.rest_key())

    def pause(self, index: int) -> Where | None:
        if index == self.attempt and self.phase == "resting":
            return None
        return Where.FUTURE if index >= self.attempt else Where.PAST

    def children(self) -> Iterable[Frame]:
        return () if self.inner is None else (self.inner,)

    def outstanding(self, fold: Fold) -> None:
        if self.inner is not None:
            self.inner.outstanding(fold)
        elif self.phase == "resting":
            fold.cause = self.cause
            fold.start_timer(self.rest_key(), self.due_us)

    def rest_key(self) -> str:
        return step_key(self.node, (*self.indices, self.attempt))

    def shown(self, fold: Fold) -> dict[str, int | str]:
        match self.phase:
            case "resting":
                return {"state": "resting", "attempt": self.attempt, "due_us": self.due_us}
            case "settling":
                return {"state": "undoing", "attempt": self.attempt}
            case "trying":
                return {"attempt": self.attempt}


@entered_by(Kind.RETRY)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    return _try(fold, Trying(node.number, indices, names, 0, "trying", None))


def _try(fold: Fold, before: Trying) -> Result:
    node = fold.graph.node(before.node)
    assert node.left is not None
    frame = replace(before, attempt=before.attempt + 1, phase="trying", inner=None, failed=None, cause="")
    result = fold.enter(node.left, (*frame.indices, frame.attempt), frame.names)
    return replace(frame, inner=result) if isinstance(result, Frame) else _tried(fold, frame, result)


def _tried(fold: Fold, frame: Trying, outcome: Outcome) -> Result:
    if isinstance(outcome, Failed):
        outcome = Failed(replace(outcome.failure, attempt=frame.attempt))
    return tried(
        fold,
        frame,
        (*frame.indices, frame.attempt),
        outcome,
        lambda failed: replace(frame, phase="settling", inner=None, failed=failed),
    )


def _delay_us(spec: Retry, attempt: int, cause: str) -> int:
    try:
        seconds = min(float(spec.max_interval_seconds), spec.initial_seconds * float(spec.backoff) ** (attempt - 1))
    except OverflowError:
        seconds = float(spec.max_interval_seconds)
    taken_off = crc32(f"{cause}/{attempt}".encode()) % 1000 / 10_000
    return round(seconds * (1 - taken_off) * 1_000_000)
