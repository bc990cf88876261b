"""An ordinary role, and what it does in plain SQL: build, start, signal, read. Nothing here knows how walflow is made."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import TupleRow

from tests.servers import Row, wait_until
from tests.workflows import ENDS, World

SECONDS: Final = 15.0


class End(NamedTuple):
    """How an instance ended; result and error are parsed JSON."""

    status: str
    result: Any
    error: Any


class User:
    """A role with df.grant_usage and a connection of its own, autocommit."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world

    @property
    def connection(self) -> psycopg.Connection[TupleRow]:
        """The connection, for what the methods below do not do."""
        return self._world.connection(self.name)

    def transaction(self) -> AbstractContextManager[psycopg.Transaction]:
        """Everything inside is one transaction."""
        return self.connection.transaction()

    def connect(self) -> psycopg.Connection[TupleRow]:
        """Another connection, whose transaction stays open until it is committed."""
        return self._world.database.connect(self.name, autocommit=False)

    def run(self, query: str, parameters: Any = None) -> list[Row]:
        """Run one statement and return its rows, if it has any."""
        return self._world.run(query, parameters, self.name)

    def value(self, query: str, parameters: Any = None) -> Any:
        """The first column of the first row."""
        return self.run(query, parameters)[0][0]

    def refused(self, query: str, parameters: Any = None) -> str:
        """The message with which the server refuses a statement."""
        try:
            rows = self.run(query, parameters)
        except psycopg.Error as error:
            return str(error.diag.message_primary)
        raise AssertionError(f"not refused: {query}: {rows}")

    def build(self, expression: str) -> str:
        """The graph text that a builder expression makes."""
        return str(self.value(f"select {expression}"))

    def start(self, expression: str) -> str:
        """Start what a builder expression makes (a string literal is SQL), and return the instance's id."""
        return str(self.value(f"select df.start({expression})"))

    def insert(self, graph: Any, id: str | None = None) -> str:
        """Insert an instance by the plain INSERT, of a text or of what is that text as JSON, and return its id."""
        text = graph if isinstance(graph, str) else json.dumps(graph)
        query = "insert into df.instances (id, graph) values (coalesce(%s, df.new_id()), %s) returning id"
        return str(self.value(query, [id, text]))

    def end(self, id: str, seconds: float = SECONDS) -> End:
        """Wait for the end of an instance."""

        def ended() -> End | None:
            query = "select status, result::text, error::text, quarantined from df.instances where id = %s"
            status, result, error, quarantined = self.run(query, [id])[0]
            assert quarantined is None, quarantined
            return End(status, *(text and json.loads(text) for text in (result, error))) if status in ENDS else None

        return wait_until(ended, seconds, f"{id} ends")

    def outcome(self, expression: str, seconds: float = SECONDS) -> End:
        """Start what a builder expression makes and wait for its end."""
        return self.end(self.start(expression), seconds)

    def result(self, expression: str, seconds: float = SECONDS) -> Any:
        """The result of a workflow that completes."""
        end = self.outcome(expression, seconds)
        assert end.status == "completed", end
        return end.result

    def error(self, expression: str, seconds: float = SECONDS) -> Any:
        """The error of a workflow that fails."""
        end = self.outcome(expression, seconds)
        assert end.status == "failed", end
        return end.error

    def rows(self, expression: str, seconds: float = SECONDS) -> Any:
        """The rows of a workflow whose last step is SQL."""
        return self.result(expression, seconds)["rows"]
