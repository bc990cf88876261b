"""Where the driver's errors become ours, and statements are sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg

from engine.errors import Fenced, KeyHeld, Lost, NotVisible, Refused, Transient

Connection = psycopg.AsyncConnection[Any]

FENCED: Final = "DF001"
NOT_VISIBLE: Final = "DF002"
LOCK_NOT_AVAILABLE: Final = "55P03"
PASSING_CLASSES: Final = ("08", "40", "53", "55", "57", "58")
"""Of SQLSTATE: a connection, a conflict, no room, a lock, somebody's intervention, a disk. They say nothing about the row."""


def ours(error: psycopg.Error, *, closed: bool) -> Exception:
    """What the driver's error means to the engine; the error itself where it is a bug of ours."""
    code = error.sqlstate
    message = error.diag.message_primary or str(error).strip()
    if code == FENCED:
        return Fenced(message)
    if closed or (code is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)):
        return Lost(f"the connection is gone: {message}", sqlstate=code)
    if code is None:
        return error
    if code == NOT_VISIBLE:
        return NotVisible(message, sqlstate=code)
    if code == LOCK_NOT_AVAILABLE:
        return KeyHeld(message, sqlstate=code)
    if code[:2] in PASSING_CLASSES:
        return Transient(message, sqlstate=code)
    return Refused(message, code)


class Connected:
    """A connection, and how statements are sent on it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @contextmanager
    def border(self) -> Iterator[None]:
        """Errors inside become ours."""
        try:
            yield
        except psycopg.Error as error:
            raise ours(error, closed=self.connection.closed) from error

    async def run(self, query: LiteralString, parameters: Sequence[Any] | None = None) -> None:
        with self.border():
            await self.connection.execute(query, parameters)

    async def rows(self, query: LiteralString, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        with self.border():
            return await (await self.connection.execute(query, parameters)).fetchall()

    async def one(self, query: LiteralString, parameters: Sequence[Any] | None = None) -> tuple[Any, ...]:
        (row,) = await self.rows(query, parameters)
        return tuple(row)

    async def maybe(self, query: LiteralString, parameters: Sequence[Any]) -> tuple[Any, ...] | None:
        found = await self.rows(query, parameters)
        return tuple(found[0]) if found else None
