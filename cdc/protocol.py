"""The replication protocol without its socket: frames in, messages and status frames out.

Theory of operation. Two facts about positions are kept here, and both matter to *Confirm only what is durable*:

- A position is known to be delivered only at the end of a commit, or at a keepalive *outside* a transaction: a
  keepalive between Begin and Commit speaks of rows that may not have come yet.
- What is reported as flushed is asked from `cdc.progress.Progress`, never computed here.

Messages must nest: Begin, rows, Commit, with commits in the order of the WAL. The table `_TRANSITIONS` says what may
follow what; anything else is a ProtocolError, after which the connection is of no use.

The clock is an argument: microseconds since the Unix epoch, from a source that never goes back.
"""

import struct
from enum import Enum
from typing import Final

from cdc.errors import ProtocolError
from cdc.limits import STATUSES_PER_TIMEOUT, WAL_SENDER_TIMEOUT_SECONDS
from cdc.lsn import NO_LSN, Lsn, format_lsn
from cdc.messages import Begin, Commit, Ignored, Insert, Keepalive, Message, Received, RelationMessage, TypeMessage
from cdc.pgoutput import POSTGRES_EPOCH_US, Decoder
from cdc.progress import Progress

_WAL_DATA: Final = ord("w")
_WAL_DATA_HEADER_BYTES: Final = 25
"""Kind, start, end and time. The positions are not used: relations carry 0/0, and no row is a place to resume."""

_KEEPALIVE: Final = ord("k")
_KEEPALIVE_FRAME = struct.Struct(">BQqB")
_STATUS_FRAME = struct.Struct(">BQQQqB")
_STATUS: Final = ord("r")


class _State(Enum):
    BETWEEN = "between transactions"
    INSIDE = "inside a transaction"


_TRANSITIONS: Final[dict[_State, dict[type[Message], _State]]] = {
    _State.BETWEEN: {
        Begin: _State.INSIDE,
        RelationMessage: _State.BETWEEN,
        TypeMessage: _State.BETWEEN,
    },
    _State.INSIDE: {
        Insert: _State.INSIDE,
        Ignored: _State.INSIDE,
        RelationMessage: _State.INSIDE,
        TypeMessage: _State.INSIDE,
        Commit: _State.BETWEEN,
    },
}


class ReplicationProtocol:
    """One connection's side of the protocol. Feed it every frame; send what `status` returns when `status_due`."""

    __slots__ = (
        "_decode",
        "_final_lsn",
        "_interval_us",
        "_last_commit_end",
        "_next",
        "_progress",
        "_reply_owed",
        "_state",
        "_status_due_us",
    )

    def __init__(
        self,
        progress: Progress,
        *,
        now_us: int,
        wal_sender_timeout_us: int = WAL_SENDER_TIMEOUT_SECONDS * 1_000_000,
        decoder: Decoder | None = None,
    ) -> None:
        self._progress = progress
        self._decode = (Decoder() if decoder is None else decoder).decode
        self._interval_us = wal_sender_timeout_us // STATUSES_PER_TIMEOUT
        self._status_due_us = now_us + self._interval_us
        self._reply_owed = False
        self._state = _State.BETWEEN
        self._next = _TRANSITIONS[self._state]
        self._final_lsn = NO_LSN
        self._last_commit_end = NO_LSN

    @property
    def progress(self) -> Progress:
        return self._progress

    @property
    def position(self) -> Lsn:
        """Everything before this position has been delivered in full."""
        return self._progress.received

    @property
    def in_transaction(self) -> bool:
        """Whether a Begin has come whose Commit has not."""
        return self._state is _State.INSIDE

    @property
    def reply_owed(self) -> bool:
        """Whether the server has asked for a status that was not sent yet."""
        return self._reply_owed

    @property
    def status_due_us(self) -> int:
        """When the next status must be sent at the latest, unless the server asks for one earlier."""
        return self._status_due_us

    def status_due(self, now_us: int) -> bool:
        """Whether a status must be sent now, in or between transactions."""
        return self._reply_owed or now_us >= self._status_due_us

    def receive(self, frame: bytes) -> Received:
        """The message in a frame. Raises ProtocolError, after which the connection must be given up."""
        kind = frame[0] if frame else None
        if kind == _WAL_DATA:
            message = self._decode(frame, _WAL_DATA_HEADER_BYTES)
            following = self._next.get(type(message))
            if following is not self._state:
                self._cross(message, following)
            return message
        if kind == _KEEPALIVE:
            return self._keepalive(frame)
        raise ProtocolError(f"unknown replication frame {frame[:1]!r}")

    def status(self, now_us: int, reply_wanted: bool = False) -> bytes:
        """A status frame to send right away; the next one is due a third of `wal_sender_timeout` later."""
        self._reply_owed = False
        self._status_due_us = now_us + self._interval_us
        flushed = self._progress.flush_to_report()
        return _STATUS_FRAME.pack(_STATUS, self.position, flushed, flushed, now_us - POSTGRES_EPOCH_US, reply_wanted)

    def _cross(self, message: Message, following: _State | None) -> None:
        """Go from one state to another, or refuse."""
        match message:
            case Begin() if following is not None:
                if message.final_lsn < self._last_commit_end:
                    raise ProtocolError(
                        f"transaction {message.xid} commits at {format_lsn(message.final_lsn)}, "
                        f"before the end of the previous one at {format_lsn(self._last_commit_end)}"
                    )
                self._final_lsn = message.final_lsn
            case Commit() if following is not None:
                if message.commit_lsn != self._final_lsn or message.end_lsn <= message.commit_lsn:
                    raise ProtocolError(
                        f"commit at {format_lsn(message.commit_lsn)}, ending at {format_lsn(message.end_lsn)}, "
                        f"for a transaction announced at {format_lsn(self._final_lsn)}"
                    )
                self._last_commit_end = message.end_lsn
                self._progress.receive(message.end_lsn)
            case _:
                raise ProtocolError(f"{type(message).__name__} {self._state.value}")
        self._state = following
        self._next = _TRANSITIONS[following]

    def _keepalive(self, frame: bytes) -> Keepalive:
        if len(frame) != _KEEPALIVE_FRAME.size:
            raise ProtocolError(f"keepalive of {len(frame)} bytes")
        _, wal_end, sent_at, reply_wanted = _KEEPALIVE_FRAME.unpack(frame)
        if reply_wanted:
            self._reply_owed = True
        if self._state is _State.BETWEEN:
            self._progress.receive(Lsn(wal_end))
        return Keepalive(Lsn(wal_end), sent_at + POSTGRES_EPOCH_US, bool(reply_wanted))
