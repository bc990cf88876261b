"""What passes between the engine and its tables, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cdc.lsn import Lsn
from engine.backlog import Backlog
from engine.events import Outcome
from engine.rows import CommandKind, CommandRow, CompletionRow, InstanceRow

# --- written ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How an attempt ended. `result` and `error` are JSON texts; `due_us` makes it wait for the database's clock."""

    run_as: int
    key: int
    step: str
    outcome: Outcome
    cause: str | None
    attempt: int = 1
    result: str | None = None
    error: str | None = None
    query: str | None = None
    note: str | None = None
    repetitions: int = 0
    due_us: int | None = None
    xids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """An instance to start as the child of a step. `input` and `variables` are JSON texts."""

    key: int
    step: str
    graph: str
    label: str | None
    input: str | None
    variables: str | None
    detach: bool
    cause: str | None
    xids: tuple[int, ...]

    def row(self) -> dict[str, Any]:
        return {
            "parent": self.key,
            "step": self.step,
            "graph": self.graph,
            "label": self.label,
            "input": self.input,
            "vars": self.variables,
            "detach": self.detach,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """A child to cancel. `graph` is what it would have run: its row is inserted if it is not there."""

    key: int
    step: str
    graph: str
    cause: str | None
    xids: tuple[int, ...]

    def row(self) -> dict[str, Any]:
        return {"parent": self.key, "step": self.step, "graph": self.graph}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A step that waits for an instance. `since`: when it was looked for first, by the event loop's clock."""

    key: int
    step: str
    instance_id: str
    cause: str | None
    xids: tuple[int, ...]
    since: float

    def row(self) -> dict[str, Any]:
        return {"key": self.key, "step": self.step, "instance_id": self.instance_id}


# --- answered -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """A checkpoint has committed. `invisible`: transactions that it did not see; `gone`: instances whose rows are no more."""

    invisible: list[int]
    gone: list[int]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A wait that the database refused; `ordinal` is its place in the request."""

    ordinal: int
    message: str
    code: str


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of requests, by their places. `skipped`: caused by what is not visible yet; `missing`: no such instance."""

    skipped: list[int]
    missing: list[int]
    refused: list[Refusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What the server says with a heartbeat."""

    wal_end: Lsn
    restart_lsn: Lsn | None
    wal_status: str | None
    settings: dict[str, str]
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What every engine shows, leader or not: see df.watch."""

    fenced: int
    oldest_pending_seconds: float
    quarantined: int
    publication_stamp: str
    """Another text whenever somebody has altered the publication, even if it is again what it was."""


# --- read ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The row of df.checkpoint."""

    epoch: int
    lsn: Lsn
    system_identifier: str | None
    slot_name: str | None
    slot_generation: int
    scanning: bool
    backlog: Mapping[int, Backlog]
    """Of submitters whose starts wait for admission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the server said when leadership was taken: its flushed position, next transaction id and clock."""

    flushed: Lsn
    next_xid: int
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInstance:
    """A row of df.instances with its state, if it has one. Times in microseconds since 1970 UTC."""

    row: InstanceRow
    status: Any
    quarantined: str | None
    started_us: int | None
    recorded_us: int
    submitted_by: str
    """The submitter's name; digits when there is no such role."""
    version: int | None
    state: str | None
    asleep: bool
    """Whether the state says that it need not be in memory."""


R = TypeVar("R", CompletionRow, CommandRow)


@dataclass(frozen=True, slots=True)
class Recorded(Generic[R]):
    """A row, and when it was recorded, microseconds since 1970 UTC."""

    recorded_us: int
    row: R


CompletionKey = tuple[int, int, str, int]
"""`run_as`, instance, step, attempt."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a snapshot showed as not folded, and a position after it: once a checkpoint has passed that, all must be folded."""

    position: Lsn
    keys: list[int]
    commands: dict[CommandKind, list[str]]
    waits: list[str]
    completions: list[CompletionKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A row of df.inbox: where the event stood in the log, and the key of its row."""

    lsn: Lsn
    ordinal: int
    kind: str
    row_key: str
    at_us: int
    xid: int
