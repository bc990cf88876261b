"""Builders of the bytes that a server would send, for what real servers cannot be made to send on demand."""

import struct
from collections.abc import Sequence

from cdc.pgoutput import POSTGRES_EPOCH_US


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def begin(final_lsn: int, xid: int = 1, commit_time_us: int = POSTGRES_EPOCH_US) -> bytes:
    return b"B" + struct.pack(">QqI", final_lsn, commit_time_us - POSTGRES_EPOCH_US, xid)


def commit(commit_lsn: int, end_lsn: int, flags: int = 0, commit_time_us: int = POSTGRES_EPOCH_US) -> bytes:
    return b"C" + struct.pack(">BQQq", flags, commit_lsn, end_lsn, commit_time_us - POSTGRES_EPOCH_US)


def relation(oid: int, *columns: str, schema: str = "df", name: str = "t") -> bytes:
    described = b"".join(b"\0" + text(column) + struct.pack(">Ii", 25, -1) for column in columns)
    return (
        b"R" + struct.pack(">I", oid) + text(schema) + text(name) + b"d" + struct.pack(">H", len(columns)) + described
    )


def tuple_data(values: Sequence[bytes | None]) -> bytes:
    packed = (b"n" if value is None else b"t" + struct.pack(">I", len(value)) + value for value in values)
    return struct.pack(">H", len(values)) + b"".join(packed)


def insert(oid: int, *values: bytes | None) -> bytes:
    return b"I" + struct.pack(">I", oid) + b"N" + tuple_data(values)


def wal_data(message: bytes) -> bytes:
    return b"w" + struct.pack(">QQq", 0, 0, 0) + message


def keepalive(wal_end: int, reply_wanted: bool = False, sent_at_us: int = POSTGRES_EPOCH_US) -> bytes:
    return b"k" + struct.pack(">QqB", wal_end, sent_at_us - POSTGRES_EPOCH_US, reply_wanted)
