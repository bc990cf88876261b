"""pgoutput, protocol version 1: bytes to messages.

Theory of operation. A message is decoded whole or not at all: every length is checked against the end of the data,
and the end of the message must be the end of the data, so a message cut short or with a tail is a ProtocolError and
never a different message. Positions in frame headers play no part here: Relation and Type messages carry 0/0 there.

Version 1 is deliberate: later versions can stream transactions that may still abort, and a row that is a command
must never be seen before its commit.

`_insert` is the hot path of the whole engine, which is why it is longer than its neighbours: a call per column would
cost as much as the decoding (bench/decode.py).
"""

import struct
from collections.abc import Callable
from typing import Final

from cdc.errors import ProtocolError
from cdc.lsn import Lsn
from cdc.messages import (
    Begin,
    Commit,
    Ignored,
    IgnoredKind,
    Insert,
    Message,
    RelationMessage,
    TypeMessage,
    Value,
)
from cdc.relations import Relation, RelationCache

POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01 UTC, where PostgreSQL counts from, in µs since 1970-01-01 UTC."""

_BEGIN = struct.Struct(">QqI")
_COMMIT = struct.Struct(">BQQq")
_INSERT_HEAD = struct.Struct(">IBH")
_LENGTH = struct.Struct(">I")
_COUNT = struct.Struct(">H")
_U64 = struct.Struct(">Q")
_COLUMN_TAIL_BYTES: Final = 8
"""Type oid and type modifier after a column's name."""

_INSERT: Final = ord("I")
_NEW: Final = ord("N")
_NULL: Final = ord("n")
_TEXT: Final = ord("t")
_BINARY: Final = ord("b")
_UNCHANGED: Final = ord("u")
_OLD_OR_KEY: Final = frozenset(b"OK")

_read_insert_head = _INSERT_HEAD.unpack_from
_read_length = _LENGTH.unpack_from


class Decoder:
    """Decodes the messages of one connection: relations are described anew on each."""

    __slots__ = ("_kinds", "_relation_by_oid", "_relations")

    def __init__(self, relations: RelationCache | None = None) -> None:
        """`relations` may be passed on from an earlier connection to keep its Relation objects."""
        self._relations = RelationCache() if relations is None else relations
        self._relation_by_oid = self._relations.get
        self._kinds: dict[int, Callable[[bytes, int], Message]] = {
            ord("B"): _begin,
            ord("C"): _commit,
            ord("R"): self._relation,
            ord("Y"): _type,
            ord("U"): _update,
            ord("D"): _delete,
            ord("T"): _truncate,
            ord("O"): _origin,
            ord("M"): _logical_message,
        }

    def decode(self, data: bytes, offset: int = 0) -> Message:
        """The message that fills `data` from `offset` to its end. Raises ProtocolError, and nothing else."""
        try:
            kind = data[offset]
            if kind == _INSERT:
                return self._insert(data, offset + 1)
            decode = self._kinds.get(kind)
            if decode is None:
                raise ProtocolError(f"unknown pgoutput message {bytes((kind,))!r}")
            return decode(data, offset + 1)
        except (IndexError, struct.error):
            raise ProtocolError(f"pgoutput message cut short: {data[offset : offset + 1]!r}") from None

    def _insert(self, data: bytes, at: int) -> Insert:
        oid, marker, count = _read_insert_head(data, at)
        relation = self._relation_by_oid(oid)
        if relation is None:
            raise ProtocolError(f"row of relation {oid}, which was never described")
        if marker != _NEW:
            raise ProtocolError(f"insert into {relation.qualified_name} without a new tuple")
        if count != len(relation.columns):
            raise ProtocolError(f"{count} values for {len(relation.columns)} columns of {relation.qualified_name}")
        at += 7
        size = len(data)
        values: list[Value] = []
        append = values.append
        for _ in range(count):
            kind = data[at]
            if kind == _TEXT:
                start = at + 5
                at = start + _read_length(data, at + 1)[0]
                if at > size:
                    raise ProtocolError(f"row of {relation.qualified_name} cut short")
                try:
                    append(data[start:at].decode())
                except UnicodeDecodeError:
                    append(data[start:at])
            elif kind == _NULL:
                append(None)
                at += 1
            else:
                raise ProtocolError(f"{_describe_kind(kind)} in a new row of {relation.qualified_name}")
        if at != size:
            raise ProtocolError(f"row of {relation.qualified_name} followed by {size - at} bytes")
        return Insert(relation, tuple(values))

    def _relation(self, data: bytes, at: int) -> RelationMessage:
        oid, schema, name, at = _named(data, at)
        at += 1  # replica identity
        (count,) = _COUNT.unpack_from(data, at)
        at += 2
        columns: list[str] = []
        for _ in range(count):
            column, at = _string(data, at + 1)  # after the flags, which tell the key
            columns.append(column)
            at += _COLUMN_TAIL_BYTES
        _end(data, at)
        # An empty schema is pgoutput's way to say pg_catalog.
        return RelationMessage(self._relations.describe(Relation(oid, schema or "pg_catalog", name, tuple(columns))))


def _begin(data: bytes, at: int) -> Begin:
    final_lsn, commit_time, xid = _BEGIN.unpack_from(data, at)
    _end(data, at + _BEGIN.size)
    return Begin(Lsn(final_lsn), commit_time + POSTGRES_EPOCH_US, xid)


def _commit(data: bytes, at: int) -> Commit:
    flags, commit_lsn, end_lsn, commit_time = _COMMIT.unpack_from(data, at)
    _end(data, at + _COMMIT.size)
    if flags:
        raise ProtocolError(f"commit with unknown flags {flags}")
    return Commit(Lsn(commit_lsn), Lsn(end_lsn), commit_time + POSTGRES_EPOCH_US)


def _type(data: bytes, at: int) -> TypeMessage:
    oid, schema, name, at = _named(data, at)
    _end(data, at)
    return TypeMessage(oid, schema or "pg_catalog", name)


def _update(data: bytes, at: int) -> Ignored:
    at += _LENGTH.size  # the relation
    if data[at] in _OLD_OR_KEY:
        at = _skip_tuple(data, at + 1)
    _expect(data, at, _NEW)
    _end(data, _skip_tuple(data, at + 1))
    return Ignored(IgnoredKind.UPDATE)


def _delete(data: bytes, at: int) -> Ignored:
    at += _LENGTH.size
    if data[at] not in _OLD_OR_KEY:
        raise ProtocolError("delete without an old tuple")
    _end(data, _skip_tuple(data, at + 1))
    return Ignored(IgnoredKind.DELETE)


def _truncate(data: bytes, at: int) -> Ignored:
    (count,) = _LENGTH.unpack_from(data, at)
    _end(data, at + _LENGTH.size + 1 + _LENGTH.size * count)  # flags, then an oid each
    return Ignored(IgnoredKind.TRUNCATE)


def _origin(data: bytes, at: int) -> Ignored:
    _, at = _string(data, at + _U64.size)
    _end(data, at)
    return Ignored(IgnoredKind.ORIGIN)


def _logical_message(data: bytes, at: int) -> Ignored:
    _, at = _string(data, at + 1 + _U64.size)  # after flags and position comes the prefix
    (size,) = _read_length(data, at)
    _end(data, at + _LENGTH.size + size)
    return Ignored(IgnoredKind.LOGICAL_MESSAGE)


def _skip_tuple(data: bytes, at: int) -> int:
    """The place after a tuple of any kind."""
    (count,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    for _ in range(count):
        kind = data[at]
        at += 1
        if kind in (_TEXT, _BINARY):
            at += _LENGTH.size + _read_length(data, at)[0]
        elif kind not in (_NULL, _UNCHANGED):
            raise ProtocolError(f"{_describe_kind(kind)} in a tuple")
    return at


def _named(data: bytes, at: int) -> tuple[int, str, str, int]:
    """Oid, schema and name of a relation or a type, and the place after them."""
    (oid,) = _LENGTH.unpack_from(data, at)
    schema, at = _string(data, at + _LENGTH.size)
    name, at = _string(data, at)
    return oid, schema, name, at


def _string(data: bytes, at: int) -> tuple[str, int]:
    """A string that ends with a NUL, and the place after it."""
    end = data.find(0, at)
    if end < 0:
        raise ProtocolError("string without an end in a pgoutput message")
    try:
        return data[at:end].decode(), end + 1
    except UnicodeDecodeError:
        raise ProtocolError(f"name that is not UTF-8: {data[at:end]!r}") from None


def _expect(data: bytes, at: int, kind: int) -> None:
    if data[at] != kind:
        raise ProtocolError(f"{_describe_kind(data[at])} where {chr(kind)!r} belongs")


def _end(data: bytes, at: int) -> None:
    """The message must end exactly here."""
    if at != len(data):
        tail = len(data) - at
        raise ProtocolError(
            f"pgoutput message with {tail} bytes too many" if tail > 0 else "pgoutput message cut short"
        )


def _describe_kind(kind: int) -> str:
    match kind:
        case _ if kind == _UNCHANGED:
            return "an unchanged TOAST value"
        case _ if kind == _BINARY:
            return "a binary value, though text was asked for,"
        case _:
            return f"unknown kind {bytes((kind,))!r}"
