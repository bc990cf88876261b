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
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class CancelStep:
    """Stop a SQL step and take its key. Its frame is gone; whatever must not overlap with it waits for the key."""

    step: str
    cause: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Insert a completion for `step` once the database's clock has reached `due_us` (microseconds since 1970 UTC).

    `schedule`: cron expression and time zone whose tick this is; the completion's note says how many more have passed.
    """

    step: str
    due_us: int
    cause: str
    schedule: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class DropTimer:
    """The timer decides nothing any more."""

    step: str


@dataclass(frozen=True, slots=True)
class StartChild:
    """Insert the instance `~<key>/<step>`, which answers under `step` when it ends; when detached, as soon as it is there.

    `graph` is the child's text; `input` and `variables` are JSON texts, null for none.
    """

    step: str
    graph: str
    label: str | None
    input: str | None
    variables: str | None
    detach: bool
    cause: str


@dataclass(frozen=True, slots=True)
class CancelChild:
    """Cancel the child of `step`; one that is not there yet is inserted cancelled. It answers under `step` all the same."""

    step: str
    cause: str


@dataclass(frozen=True, slots=True)
class AwaitInstance:
    """Answer under `step` when the instance that `instance_id` means to the submitter has ended, or cannot be found."""

    step: str
    instance_id: str
    cause: str


@dataclass(frozen=True, slots=True)
class DropWait:
    """Nobody waits under `step` for another instance any more."""

    step: str


@dataclass(frozen=True, slots=True)
class TakeSignal:
    """The wait `step` took this row of df.signals: noted on it for whoever reads the history."""

    step: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The instance ended. `result` and `error` are JSON texts."""

    status: Literal["completed", "failed", "cancelled"]
    result: str | None
    error: str | None


Effect = (
    Execute
    | CancelStep
    | StartTimer
    | DropTimer
    | StartChild
    | CancelChild
    | AwaitInstance
    | DropWait
    | TakeSignal
    | Finish
)
