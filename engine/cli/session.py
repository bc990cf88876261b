"""A user's own connection: whoever asks sees and sends what PostgreSQL lets that role.

Nothing here needs the engine's role. Each question is a transaction of its own with a pinned search_path, so it works through
a transaction pooler and, for what only reads, on a standby. What the server refuses becomes one of two errors: `ConfigError`
(exit 2) where something else has to be asked for, `Unfit` (exit 3) where the database, or a role's rights, have to change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString, Self, TypeVar

import psycopg
from psycopg import sql as pgsql
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row, dict_row, scalar_row

from cdc.network import network_options
from engine.cli.output import Raw
from engine.errors import ConfigError, Unfit, WalflowError

APPLICATION_NAME: Final = "walflow-cli"
NOT_THERE: Final = ("3F000", "42P01", "42883", "42703")
"""No such schema, table, function or column: there is no df, or an older one."""
OF_THE_REQUEST: Final = ("22", "23", "42", "P0", "0A")
"""Classes of SQLSTATE that say what is wrong with what was asked for."""
READING: Final = pgsql.SQL(
    "set transaction read only; set local search_path = pg_catalog, pg_temp; set local timezone = 'UTC'"
)
WRITING: Final = pgsql.SQL("set local search_path = pg_catalog, pg_temp; set local timezone = 'UTC'")

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Asked:
    """An open transaction to ask in."""

    connection: psycopg.Connection[Any]

    def rows(self, kind: type[R], query: LiteralString, **values: object) -> list[R]:
        """Every row as an object of a dataclass whose fields are the columns."""
        with self.connection.cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(query, values).fetchall()

    def dicts(self, query: LiteralString, **values: object) -> list[dict[str, Any]]:
        """Every row by its columns' names."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()

    def values(self, query: LiteralString | pgsql.Composed, **values: object) -> list[Any]:
        """The first column of every row."""
        with self.connection.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(query, values or None).fetchall()


class Session:
    """A connection. Raises ConfigError or Unfit."""

    def __init__(self, dsn: str, *, connect_timeout: int | None = None) -> None:
        parameters = {**network_options(dsn), "application_name": APPLICATION_NAME, "client_encoding": "UTF8"}
        if connect_timeout is not None:
            parameters["connect_timeout"] = str(connect_timeout)
        self._conninfo = make_conninfo(dsn, **parameters)
        self._connection = _connected(self._conninfo)

    @property
    def lost(self) -> bool:
        """Whether the server, or the way to it, is gone: `reconnect` may find it again."""
        return self._connection.closed

    def reconnect(self) -> None:
        """Connect anew. Raises Unfit."""
        self._connection = _connected(self._conninfo)

    @property
    def role(self) -> str:
        """Who is logged in."""
        return self._connection.info.user

    @property
    def place(self) -> str:
        """Where, for people."""
        info = self._connection.info
        return f"{info.dbname} at {info.host}:{info.port}"

    @property
    def dbname(self) -> str:
        """The database."""
        return self._connection.info.dbname

    @contextmanager
    def reading(self) -> Iterator[Asked]:
        """A transaction that changes nothing."""
        with self._transaction(READING) as asked:
            yield asked

    @contextmanager
    def writing(self) -> Iterator[Asked]:
        """A transaction that is committed at the end."""
        with self._transaction(WRITING) as asked:
            yield asked

    @contextmanager
    def _transaction(self, beginning: pgsql.SQL) -> Iterator[Asked]:
        try:
            with self._connection.transaction():
                self._connection.execute(beginning)
                yield Asked(self._connection)
        except psycopg.Error as error:
            raise self.explained(error) from error
        except UnicodeEncodeError as error:
            raise ConfigError(
                "what was given is not text in UTF-8", "Look at the arguments, and at standard input."
            ) from error

    def explained(self, error: psycopg.Error) -> WalflowError:
        """What an error of the server means to whoever asked."""
        state, message = error.sqlstate or "", error.diag.message_primary or str(error).strip()
        hint = error.diag.message_hint or error.diag.message_detail
        if state in NOT_THERE and "df" in message:
            return self._without_df(message)
        if state == "42501" and message.startswith("permission denied"):
            grant = f"As the owner of schema df: {_grant(self.role)}"
            return Unfit(f"{message} (role {self.role} in database {self.dbname})", hint or grant)
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return Unfit(message, "This server takes no writes (a standby?): say where the primary is with --dsn.")
        if isinstance(error, psycopg.DataError) and not state:  # psycopg's own: a text with a NUL
            return ConfigError(message)
        if isinstance(error, psycopg.OperationalError):
            return Unfit(message, hint or "Look at the server's log, and try again.")
        if state[:2] in OF_THE_REQUEST:
            return ConfigError(message, hint)
        return Unfit(f"{message} ({state})" if state else message, hint)

    def _without_df(self, message: str) -> Unfit:
        there = self._connection.execute("select from pg_catalog.pg_namespace where nspname = 'df'").rowcount
        if there:
            return Unfit(
                f"schema df in database {self.dbname} is not the one that this walflow knows: {message}",
                "Run walflow migrate as its owner, or use the walflow that made it.",
            )
        return Unfit(
            f"there is no schema df in database {self.dbname}",
            "Name another database with --dsn, or install walflow here: walflow migrate --dsn … (as the engine's role).",
        )

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connected(conninfo: str) -> psycopg.Connection[Any]:
    try:
        connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise cannot_connect(error) from error
    for kind in ("json", "jsonb"):  # as the server prints them
        connection.adapters.register_loader(kind, _RawJson)
    return connection


class _RawJson(psycopg.adapt.Loader):
    """JSON as text: nothing is lost of its numbers and of the order of its keys."""

    def load(self, data: psycopg.abc.Buffer) -> Raw:
        return Raw(bytes(data).decode())


def cannot_connect(error: psycopg.Error) -> Unfit:
    """What libpq says, on one line for each address that was tried, and where it took the address from."""
    lines = dict.fromkeys(line.strip() for line in str(error).splitlines() if line.strip())
    text = "\n".join(lines).removeprefix("connection failed: ")
    return Unfit(
        f"cannot connect: {text}",
        "Say where and as whom with --dsn or WALFLOW_DSN, or as for psql: PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, "
        "~/.pgpass.",
    )


def _grant(role: str) -> str:
    name = role if re.fullmatch(r"[a-z_][a-z0-9_]*", role) else pgsql.Identifier(role).as_string()
    return pgsql.SQL("select df.grant_usage({})").format(name).as_string()


def first_line(error: WalflowError) -> str:
    """An error on one line, without what to do."""
    return str(error).splitlines()[0]
