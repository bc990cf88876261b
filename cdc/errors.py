"""Everything the outside world can do wrong to logical decoding, as one tree.

::

    CdcError                     what happened, and a hint: what to do about it
    ├── ProtocolError            bytes that are not the replication protocol, or not pgoutput
    ├── SlotInUse                another reader holds the slot (55006): keep trying
    ├── SlotLost                 the slot is missing, invalidated or someone else's: rebuild from the tables
    ├── SlotNotCreated           creating the slot was given up or refused
    ├── PublicationIncomplete    rows that are needed are not published
    ├── ServerUnfit              version, wal_level, rights or limits do not allow logical decoding
    └── StreamEnded              the server, or the network, ended a running stream

Our own mistakes (a checkpoint that goes backwards, say) are `AssertionError`, never one of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class CdcError(Exception):
    """`what` happened, to what; `hint` says what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} ({hint})" if hint else what)
        self.what = what
        self.hint = hint


class ProtocolError(CdcError):
    """The bytes do not follow the protocol. The connection is of no further use; nothing was misread."""

    def __init__(self, what: str, hint: str = "close the stream and connect again; if it repeats, report it") -> None:
        super().__init__(what, hint)


class SlotInUse(CdcError):
    """Another session reads the slot. It frees itself within `wal_sender_timeout` if that session is dead."""


class LossReason(StrEnum):
    """Why a slot cannot be continued from."""

    MISSING = "missing"
    INVALIDATED = "invalidated"
    FOREIGN = "foreign"


class SlotLost(CdcError):
    """The slot cannot be continued from; `reason` says how it was lost."""

    def __init__(self, what: str, hint: str = "", *, reason: LossReason) -> None:
        super().__init__(what, hint)
        self.reason = reason


class SlotNotCreated(CdcError):
    """The server did not create the slot; `sqlstate` is 55P03 when a running transaction was waited for in vain."""

    def __init__(self, what: str, hint: str = "", *, sqlstate: str | None) -> None:
        super().__init__(what, hint)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing found wrong by a check before streaming."""

    what: str
    hint: str
    statement: str = ""
    """SQL that can be run as it stands to repair it, or a part of it; empty where there is none."""

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})"


class _Problems(CdcError):
    """A check that failed, with every problem it found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(p.what for p in problems), "; ".join(dict.fromkeys(p.hint for p in problems)))
        self.problems = tuple(problems)


class PublicationIncomplete(_Problems):
    """The publication leaves out rows or columns that are needed."""


class ServerUnfit(_Problems):
    """The server, or this role on it, cannot do logical decoding."""


class StreamEnded(CdcError):
    """A running stream ended from the other side; `sqlstate` is None when no error came with it."""

    def __init__(self, what: str, hint: str = "", *, sqlstate: str | None = None) -> None:
        super().__init__(what, hint)
        self.sqlstate = sqlstate
