"""What looking at one condition gives, and the small tools with which conditions are looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, LiteralString

import psycopg
from psycopg import pq
from psycopg import sql as pgsql
from psycopg.conninfo import make_conninfo

from cdc.network import network_options
from engine.connect import Connection, connect, is_at_own_limit, is_full
from engine.threads import in_thread

APPLICATION_NAME: Final = "walflow-cli"
MIGRATE: Final = "walflow migrate"
"""Among statements: not SQL, but what `sql.migrate` does."""
WHERE: Final[LiteralString] = "select current_database(), pg_postmaster_start_time()"
"""Two connections with the same answer are in the same database of the same server."""


class Severity(StrEnum):
    """How a condition stands."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One condition: what was found, and what repairs it (a statement where one does)."""

    condition: str
    """A name that programs may rely on, such as `publication`."""
    severity: Severity
    what: str
    repair: str = ""
    statements: tuple[str, ...] = ()
    """What `walflow doctor --fix` may run of `repair`, one by one: SQL, or `MIGRATE`. Empty where somebody has to decide."""
    away: bool = False
    """The server does not answer: wait and look again, rather than repair."""
    refused: bool = False
    """The server answered, and did not let us in."""

    @property
    def failed(self) -> bool:
        """Whether the engine must not start."""
        return self.severity is Severity.ERROR


def ok(condition: str, what: str) -> Finding:
    """The condition is met."""
    return Finding(condition=condition, severity=Severity.OK, what=what)


def warn(condition: str, what: str, repair: str) -> Finding:
    """The engine runs, but not as well as it could."""
    return Finding(condition=condition, severity=Severity.WARNING, what=what, repair=repair)


def fail(condition: str, what: str, repair: str, *statements: str) -> Finding:
    """The engine must not start. `statements` are what of the repair can be run as it stands."""
    return Finding(condition=condition, severity=Severity.ERROR, what=what, repair=repair, statements=statements)


def failed(findings: Iterable[Finding]) -> list[Finding]:
    """Return those on which the engine must not start."""
    return [finding for finding in findings if finding.failed]


@asynccontextmanager
async def logged_in(dsn: str, **keywords: str) -> AsyncIterator[Connection]:
    """Connect with a search_path that nobody else's schema is in (ROLES rule 12)."""
    conn = await connect(dsn, APPLICATION_NAME, **keywords)
    try:
        yield conn
    finally:
        await conn.close()


async def no_login(condition: str, setting: str, dsn: str, error: psycopg.Error) -> Finding:
    """Tell a server that is away, or full, from one that refuses us."""
    text = one_line(error)
    # libpq asks again, since a failed connection has no SQLSTATE; it blocks, hence the thread
    state = await in_thread(pq.PGconn.ping, make_conninfo(dsn, **network_options(dsn)).encode())
    silent = isinstance(error, psycopg.errors.ConnectionTimeout) or state in (pq.Ping.REJECT, pq.Ping.NO_RESPONSE)
    away = silent or is_full(text) or is_at_own_limit(text)
    repair = f"start the server, or set {setting} to one that runs" if away else f"mend {setting}, or pg_hba.conf"
    what = f"{setting}: {text}"
    return Finding(condition=condition, severity=Severity.ERROR, what=what, repair=repair, away=away, refused=not away)


def lost_connection(error: psycopg.Error) -> Finding:
    """The connection broke while we were looking."""
    what = f"the connection was lost: {one_line(error)}"
    return Finding(condition="connection", severity=Severity.ERROR, what=what, repair="look again", away=True)


def one_line(error: Exception) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).split())


def whereabouts(conn: Connection) -> str:
    """Who is logged in where."""
    info = conn.info
    version = ".".join(str(part) for part in divmod(info.server_version, 10_000))
    return f"{info.user} is logged in to {info.dbname} at {info.host}:{info.port}, PostgreSQL {version}"


async def rows_of(conn: Connection, query: LiteralString, *literals: object) -> list[tuple[Any, ...]]:
    """Run a query with its {} filled in on the client: replication connections know no parameters."""
    cursor = await conn.execute(pgsql.SQL(query).format(*literals))
    return await cursor.fetchall()


async def row_of(conn: Connection, query: LiteralString, *literals: object) -> tuple[Any, ...]:
    """Run a query that has exactly one row."""
    [row] = await rows_of(conn, query, *literals)
    return row


def quoted(name: str) -> str:
    """Return a name as SQL wants it."""
    return pgsql.Identifier(name).as_string()
