"""Asking a database short questions inside one transaction, where a failing one does not end it."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import TupleRow


class Asking:
    """A role's connection with an open transaction; every question is a savepoint of its own."""

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        self.connection = connection

    def rows(self, query: str, *values: Any) -> list[TupleRow]:
        """The rows of a statement; none when it returns none."""
        with self.connection.transaction():
            cursor = self.connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        return self.rows(query, *values)[0][0]

    def text(self, expression: str, *values: Any) -> str:
        """An expression's value, which must be text."""
        value = self.one(f"select {expression}", *values)
        assert isinstance(value, str)
        return value

    def refused(self, query: str, *values: Any) -> str:
        """The message of the error that a statement must end with."""
        with pytest.raises(psycopg.Error) as caught:
            self.rows(query, *values)
        return caught.value.diag.message_primary or str(caught.value)

    def set(self, name: LiteralString, value: str) -> None:
        """A setting for the rest of the transaction."""
        self.connection.execute("select set_config(%s, %s, true)", [name, value])


def query_of(node: str) -> str:
    """The `query` of a leaf, decoded."""
    import json

    value: Any = json.loads(node)["query"]
    assert isinstance(value, str)
    return value
