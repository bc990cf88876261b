"""Connections of the engine's own role, and of whoever looks at a database for it."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo

Connection = psycopg.AsyncConnection[Any]

CONNECT_TIMEOUT_SECONDS: Final = 10
OPTIONS: Final = "-c search_path=pg_catalog,pg_temp -c statement_timeout=0"
"""Nobody else's schema is looked into (ROLES.md rule 12), and no setting of the role's ends what we do."""


UNCHECKED: Final = "SQL_ASCII"
"""The encoding of a database that holds any bytes. Asked for UTF8, its server refuses a whole answer for one bad value."""


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
    conninfo = make_conninfo(
        dsn,
        options=f"{given} {OPTIONS} {options}".strip(),
        application_name=application_name,
        client_encoding="UTF8",
        connect_timeout=connect_timeout(dsn),
        **keywords,
    )
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    if connection.info.parameter_status("server_encoding") == UNCHECKED:
        for kind in ("text", "name", ANY_OTHER):
            connection.adapters.register_loader(kind, _AnyText)
        await connection.execute(f"set client_encoding to {UNCHECKED}")
    return connection


def connect_timeout(dsn: str) -> str:
    """The connection string's own time-out, in seconds, or ours."""
    return str(conninfo_to_dict(dsn).get("connect_timeout") or CONNECT_TIMEOUT_SECONDS)
