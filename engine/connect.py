"""Connections of the engine's own role, and of whoever looks at a database for it."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict

from cdc.network import open_connection
from cdc.sessions import UNHINDERED, end_no_transaction

Connection = psycopg.AsyncConnection[Any]

OPTIONS: Final = f"-c search_path=pg_catalog,pg_temp -c jit=off {UNHINDERED}"
"""Nobody else's schema is looked into (ROLES.md rule 12), and no setting of the role's ends what we do.

No plan is compiled: many of df's functions forbid sequential scans, and a plan that needs one all the same has a forbidding
cost. A server with JIT compiled those, a checkpoint for a second and a takeover for ten.
"""


UNCHECKED: Final = "SQL_ASCII"
"""The encoding of a database that holds any bytes. Asked for UTF8, its server refuses a whole answer for one bad value."""


FULL: Final = ("too many clients", "remaining connection slots are reserved", "too many connections for database")
"""What a server says that has no connection left (53300). There is no SQLSTATE for a login that failed, and other languages are
not understood.
"""
OWN_LIMIT: Final = "too many connections for role"
"""What it says where the role has as many as its own CONNECTION LIMIT lets it."""


ANY_OTHER: Final = 0
"""For psycopg: every type that has no loader of its own."""


class _AnyText(Loader):
    """Text that is valid UTF-8, else its bytes, as in the log (`cdc.messages.Value`)."""

    def load(self, data: Buffer) -> str | bytes:
        raw = bytes(data)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw


async def connect(dsn: str, application_name: str, options: str = "", **keywords: str) -> Connection:
    """A connection in autocommit, with `OPTIONS` after the connection string's own. Raises psycopg's errors.

    It speaks UTF8. In a database that is `UNCHECKED`, a column of type text may come as bytes.
    """
    given = conninfo_to_dict(dsn).get("options") or ""
    ours = {
        "options": f"{given} {OPTIONS} {options}".strip(),
        "application_name": application_name,
        "client_encoding": "UTF8",
    }
    connection = await open_connection(dsn, {**ours, **keywords})
    await end_no_transaction(connection)
    if connection.info.parameter_status("server_encoding") == UNCHECKED:
        for kind in ("text", "name", ANY_OTHER):
            connection.adapters.register_loader(kind, _AnyText)
        await connection.execute(f"set client_encoding to {UNCHECKED}")
    return connection


def is_full(message: str) -> bool:
    """Whether a login failed for want of room for anybody: there may be some soon."""
    return any(said in message for said in FULL)


def is_at_own_limit(message: str) -> bool:
    """Whether a login failed since the role has too many connections of its own: nobody else's doing."""
    return OWN_LIMIT in message
