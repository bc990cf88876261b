"""What the machine asks for. Every effect is idempotent: its outcome competes for one key of df.completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Execute:
    """Run a SQL statement as the submitter. `shown` where substitution changed the text. `cause`: the row that led here."""

    step: str
    node: int
    query: str
    shown: bool
    cause: str


@dataclass(frozen=True, slots=True)
class CancelStep:
    """Stop a SQL step and take its key. Its frame is gone; the instance's end waits for the key."""

    step: str
    cause: str


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Insert a completion for `step` once the database's clock has reached `due_us` (microseconds since 1970 UTC)."""

    step: str
    due_us: int
    cause: str


@dataclass(frozen=True, slots=True)
class DropTimer:
    """The timer decides nothing any more."""

    step: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The instance ended. `result` and `error` are JSON texts."""

    status: Literal["completed", "failed", "cancelled"]
    result: str | None
    error: str | None


Effect = Execute | CancelStep | StartTimer | DropTimer | Finish
