"""Logging in as the role that submitted an instance (Identity is PostgreSQL's)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cdc.network import open_connection
from engine.connect import is_full
from engine.errors import WalflowError
from engine.executors.driver import LibpqConnection, OnLoss, StepConnection
from engine.store import Roles

Connection = psycopg.AsyncConnection[Any]

APPLICATION_NAME: Final = "walflow"
"""Of every step connection, and of nothing else: everyone can read it, so it says nothing more."""

OPTIONS: Final = (
    "-c row_security=on -c default_transaction_read_only=off -c idle_session_timeout=0 -c client_min_messages=error "
    "-c standard_conforming_strings=on -c extra_float_digits=1 -c bytea_output=hex"
)
"""Startup options beat ALTER ROLE … SET and survive RESET ALL."""

ENDED_SECONDS: Final = 10.0
"""How long backends that were told to end may take; a connection is tried again after that."""
POLL_SECONDS: Final = 0.005

_IS: Final = "select pg_catalog.quote_ident(current_user)::pg_catalog.regrole::pg_catalog.oid = %s"
_OTHERS: Final = """
select pg_catalog.count(*), pg_catalog.bool_and(pg_catalog.pg_terminate_backend(a.pid))
  from pg_catalog.pg_stat_activity a
 where a.usesysid = %s::pg_catalog.oid
   and a.datname = pg_catalog.current_database()
   and a.application_name = 'walflow'
   and a.pid <> pg_catalog.pg_backend_pid()
   and (%s or a.pid = any (%s::pg_catalog.int4[]))
"""


class LoginRefused(WalflowError):
    """The submitter was dropped, may not log in, or may not run steps: trying again changes nothing."""

    def __init__(self, message: str, sqlstate: str = "28000", hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.sqlstate = sqlstate


class NoRoom(WalflowError):
    """The server has no connection left for anybody. A role at its own limit is not waited for."""


class Logins(Protocol):
    """What opens connections of submitting roles."""

    async def connect(self, role: int, *, end_all: bool, end: Set[int], on_idle_loss: OnLoss) -> StepConnection:
        """A connection as `role`, after the role's other backends of ours are gone:
        all of them with `end_all`, else those with the process ids in `end`.

        Raises LoginRefused, WalflowError when it cannot be had now (NoRoom when the server is full), and LeadershipLost when
        the engine's own connection is gone.
        """


class Login:
    """The logins of a server. `lookup` is the engine's own connection, on which roles are found by OID."""

    def __init__(self, step_dsn: str, passfile: Path | None, lookup: Roles) -> None:
        self._dsn = step_dsn
        self._passfile = passfile
        self._lookup = lookup

    async def connect(self, role: int, *, end_all: bool, end: Set[int], on_idle_loss: OnLoss) -> StepConnection:
        name = await self._name(role)
        try:
            connection = await open_connection(self._dsn, self._parameters(name), prepare_threshold=None)
            try:
                await self._check(connection, role, name)
                if end_all or end:
                    await _end(connection, role, end_all, sorted(end))
            except BaseException:
                await connection.close()
                raise
        except psycopg.Error as error:
            raise (NoRoom if is_full(str(error)) else WalflowError)(str(error)) from error
        return LibpqConnection(connection, on_idle_loss)

    async def _name(self, role: int) -> str:
        found = await self._lookup.role(role)
        if found is None:
            raise LoginRefused(f"the submitter, role with OID {role}, does not exist any more")
        name, may_login = found
        if not may_login:
            raise LoginRefused(f"the submitter, role {name}, is not permitted to log in")
        return name

    def _parameters(self, name: str) -> dict[str, str]:
        given = conninfo_to_dict(self._dsn)
        parameters = {
            "user": name,
            "application_name": APPLICATION_NAME,
            "options": f"{given.get('options') or ''} {OPTIONS}".strip(),
            "client_encoding": "UTF8",
        }
        if self._passfile is not None:
            parameters["passfile"] = str(self._passfile)
        return parameters

    async def _check(self, connection: Connection, role: int, name: str) -> None:
        """A role may have been renamed, and another one given its name, since its OID was looked up."""
        row = await (await connection.execute(_IS, [role])).fetchone()
        if row is None or not row[0]:
            raise LoginRefused(f"logged in as {name}, which is not the role with OID {role}")


async def _end(connection: Connection, role: int, end_all: bool, end: list[int]) -> None:
    """Ends the role's other backends (a role may end its own) and waits until they are gone."""
    until = time.monotonic() + ENDED_SECONDS
    while True:
        row = await (await connection.execute(_OTHERS, [role, end_all, end])).fetchone()
        if row is None or row[0] == 0:
            return
        if time.monotonic() > until:
            raise WalflowError(f"{row[0]} backends of role {role} do not end")
        await asyncio.sleep(POLL_SECONDS)
