"""What moves an instance: committed rows of published tables, and nothing else (One way in).

Every event carries the id of its row, by which completions name it as their cause, and its transaction's commit time in
microseconds since 1970 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Started:
    """The instance's own row."""

    event_id: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Signalled:
    """A row of df.signals. `data` is JSON text."""

    event_id: str
    at_us: int
    name: str
    data: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A row of df.cancellations."""

    event_id: str
    at_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class Completed:
    """A row of df.completions. `result` and `error` are JSON texts; `run_as` a role's OID, 0 for the engine's own."""

    event_id: str
    at_us: int
    run_as: int
    step: str
    attempt: int
    outcome: Outcome
    result: str | None
    error: str | None


Event = Started | Signalled | CancelRequested | Completed
