"""How an attack is written: a statement that must fail, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from psycopg import sql as pgsql
from psycopg.rows import TupleRow

Connection = psycopg.Connection[TupleRow]
Statement = str | pgsql.Composed
Parameters = Sequence[Any] | None

DENIED = psycopg.errors.InsufficientPrivilege
NOT_FOUND = psycopg.errors.NoDataFound


def run(connection: Connection, statement: Statement, parameters: Parameters = None) -> psycopg.Cursor[TupleRow]:
    """Runs a statement that was put together here."""
    return connection.execute(statement.encode() if isinstance(statement, str) else statement, parameters)


def rows(connection: Connection, statement: Statement, parameters: Parameters = None) -> list[TupleRow]:
    """All rows."""
    return run(connection, statement, parameters).fetchall()


def scalar(connection: Connection, statement: Statement, parameters: Parameters = None) -> Any:
    """The first column of the first row."""
    return rows(connection, statement, parameters)[0][0]


def refused(
    connection: Connection,
    statement: Statement,
    parameters: Parameters = None,
    *,
    match: str | None = None,
    error: type[psycopg.Error] = DENIED,
) -> psycopg.Error:
    """The statement fails with this error; what came before it in the transaction stays."""
    with pytest.raises(error, match=match) as caught, connection.transaction():
        run(connection, statement, parameters)
    return caught.value


def named(statement: str, *names: str) -> pgsql.Composed:
    """The statement with each {} replaced by a quoted name."""
    return pgsql.SQL(statement).format(*map(pgsql.Identifier, names))
