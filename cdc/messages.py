"""What a replication stream says, as values.

Frames are what the replication protocol carries; messages are what pgoutput puts into them. `Keepalive` is a frame
of its own and stands here because readers get it beside the messages.

These classes have slots but are not frozen: a frozen dataclass costs twice as much to make, and one is made for each
row. Nobody changes them.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from cdc.lsn import Lsn
from cdc.relations import Relation

Value: TypeAlias = str | bytes | None
"""A column as text; None is NULL; bytes only where the text is not valid UTF-8 (a database in SQL_ASCII)."""


@dataclass(slots=True)
class Begin:
    """A transaction starts. `final_lsn` is where its commit record begins; `commit_time_us` is Unix time in µs."""

    final_lsn: Lsn
    commit_time_us: int
    xid: int


@dataclass(slots=True)
class Commit:
    """A transaction is complete. `end_lsn` is the position to acknowledge: `commit_lsn` would bring it again."""

    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int


@dataclass(slots=True)
class Insert:
    """A row was inserted; `values` stand in the order of `relation.columns`."""

    relation: Relation
    values: tuple[Value, ...]


@dataclass(slots=True)
class RelationMessage:
    """A table is described; the following rows with its oid refer to this very `relation`."""

    relation: Relation


@dataclass(slots=True)
class TypeMessage:
    """A type that is not built in is described. Values arrive as text all the same."""

    oid: int
    schema: str
    name: str


class IgnoredKind(Enum):
    """Messages that are checked for their form and carry nothing for a reader of inserts."""

    UPDATE = "U"
    DELETE = "D"
    TRUNCATE = "T"
    ORIGIN = "O"
    LOGICAL_MESSAGE = "M"


@dataclass(slots=True)
class Ignored:
    """A well-formed message of a kind that an insert-only reader has no use for."""

    kind: IgnoredKind


@dataclass(slots=True)
class Keepalive:
    """The server is alive. Outside a transaction everything before `wal_end` has been delivered."""

    wal_end: Lsn
    sent_at_us: int
    reply_wanted: bool


Message: TypeAlias = Begin | Commit | Insert | RelationMessage | TypeMessage | Ignored
Received: TypeAlias = Message | Keepalive
