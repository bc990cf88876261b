"""Connections of the engine's own role, and of whoever looks at a database for it."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

Connection = psycopg.AsyncConnection[Any]

CONNECT_TIMEOUT_SECONDS: Final = 10
OPTIONS: Final = "-c search_path=pg_catalog,pg_temp -c statement_timeout=0"
"""Nobody else's schema is looked into (ROLES.md rule 12), and no setting of the role's ends what we do."""


async def connect(dsn: str, application_name: str, options: str = "", **keywords: str) -> Connection:
    """A connection in autocommit, in UTF8, with `OPTIONS` after the connection string's own. Raises psycopg's errors."""
    given = conninfo_to_dict(dsn).get("options") or ""
    conninfo = make_conninfo(
        dsn,
        options=f"{given} {OPTIONS} {options}".strip(),
        application_name=application_name,
        client_encoding="UTF8",
        connect_timeout=connect_timeout(dsn),
        **keywords,
    )
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)


def connect_timeout(dsn: str) -> str:
    """The connection string's own time-out, in seconds, or ours."""
    return str(conninfo_to_dict(dsn).get("connect_timeout") or CONNECT_TIMEOUT_SECONDS)
