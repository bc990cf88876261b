"""What tests do with workflows from outside: start one, wait for its end, read its history. Everything by plain SQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow

from tests.servers import PATIENCE_SECONDS, Database, EngineProcess, Row, wait_until

ENDS: Final = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an instance ended. `result` keeps the JSON text that is stored, `error` is parsed."""

    status: str
    result: str | None
    error: dict[str, Any] | None

    @property
    def rows(self) -> Any:
        """The rows of a SQL step's result."""
        assert self.status == "completed", self
        assert self.result is not None
        return json.loads(self.result)["rows"]

    @property
    def code(self) -> str:
        """The code of the error."""
        assert self.error is not None, self
        return str(self.error["code"])

    @property
    def message(self) -> str:
        """The message of the error."""
        assert self.error is not None, self
        return str(self.error["message"])


class World:
    """A database with an engine on it, and one open connection of each role that is asked for."""

    def __init__(self, database: Database, engine: EngineProcess) -> None:
        self.database = database
        self.engine = engine
        self._connections: dict[str, psycopg.Connection[TupleRow]] = {}

    def connection(self, role: str = "postgres") -> psycopg.Connection[TupleRow]:
        """An autocommit connection that stays open between calls; made again when the server has ended it."""
        connection = self._connections.get(role)
        if connection is None or connection.closed:
            connection = self._connections[role] = self.database.connect(role)
        return connection

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()

    def run(self, query: str, parameters: Any = None, role: str = "postgres") -> list[Row]:
        """Run one statement and return its rows, if it has any."""
        try:
            cursor = self.connection(role).execute(query.encode(), parameters)
        except psycopg.OperationalError:
            if not self._connections[role].closed:
                raise
            cursor = self.connection(role).execute(query.encode(), parameters)  # the server was restarted meanwhile
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, parameters: Any = None, role: str = "postgres") -> Any:
        """The first column of the first row."""
        return self.run(query, parameters, role)[0][0]

    def start(self, graph: str, *, role: str = "alice", id: str | None = None) -> str:
        """Insert an instance as `role` and return its id."""
        query = "insert into df.instances (id, graph) values (coalesce(%s, df.new_id()), %s) returning id"
        return str(self.value(query, [id, graph], role))

    def build(self, expression: str) -> str:
        """The graph that a builder expression makes."""
        return str(self.run(expression)[0][0])

    def status(self, id: str) -> str:
        """`df.instances.status`."""
        return str(self.value("select status from df.instances where id = %s", [id]))

    def wait_for(self, id: str, status: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until the instance has this status."""
        wait_until(lambda: self.status(id) == status, timeout, f"{id} is {status}")

    def end(self, id: str, timeout: float = PATIENCE_SECONDS) -> Outcome:
        """Wait for the end of an instance."""

        def ended() -> Outcome | None:
            query = "select status, result::text, error, quarantined from df.instances where id = %s"
            status, result, error, quarantined = self.run(query, [id])[0]
            assert quarantined is None, quarantined
            return Outcome(status=status, result=result, error=error) if status in ENDS else None

        try:
            return wait_until(ended, timeout, f"{id} ends")
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.engine.log()[-4000:]}") from None

    def outcome(self, graph: str, *, role: str = "alice", timeout: float = PATIENCE_SECONDS) -> Outcome:
        """Run a workflow to its end."""
        return self.end(self.start(graph, role=role), timeout)

    def history(self, id: str) -> list[tuple[str, str]]:
        """Step and outcome of each completion, in the order in which they were recorded."""
        query = """
            select c.step, c.outcome from df.completions c join df.instances i on i.key = c.instance_key
             where i.id = %s order by c.recorded_at
        """
        return [(step, outcome) for step, outcome in self.run(query, [id])]

    def key(self, id: str) -> int:
        """The instance's internal key."""
        return int(self.value("select key from df.instances where id = %s", [id]))

    def backends(self, role: str = "alice") -> set[int]:
        """Process ids of the backends of step connections of a role."""
        query = """
            select pid from pg_stat_activity
             where usename = %s and application_name = 'walflow' and datname = current_database()
        """
        return {pid for (pid,) in self.run(query, [role])}

    def sender(self) -> int:
        """Process id of the server's sender that the leader reads from."""
        query = "select active_pid from pg_replication_slots where slot_name = %s and active_pid is not null"
        return int(wait_until(lambda: self.run(query, [self.database.slot]))[0][0])

    def end_sender(self) -> None:
        """What the server does by itself when a leader does not answer for `wal_sender_timeout`. It may be gone already."""
        query = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s"
        self.run(query, [self.database.slot])

    def kill(self) -> None:
        """SIGKILL for the engine; returns when the server, too, has done the last that it was asked for."""
        self.engine.kill()
        of_engines = "datname = current_database() and application_name like 'walflow%'"
        wait_until(lambda: not self.run(f"select pid from pg_stat_activity where {of_engines}"))

    def running(self, marker: str) -> set[int]:
        """Backends that are inside a step which began with `pg_advisory_xact_lock(hashtext(marker))`."""
        query = """
            select l.pid from pg_locks l
             where l.locktype = 'advisory' and l.granted and l.objid = hashtext(%s)::bit(32)::bigint::oid
        """
        return {pid for (pid,) in self.run(query, [marker])}


@contextmanager
def world(database: Database, engine: EngineProcess) -> Iterator[World]:
    """A world whose connections are closed at the end."""
    made = World(database, engine)
    try:
        yield made
    finally:
        made.close()
