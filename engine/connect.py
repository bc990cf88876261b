"""Connections of the engine's own role."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from engine.config import Settings

Connection = psycopg.AsyncConnection[Any]

CONNECT_TIMEOUT_SECONDS = 10


async def connect_engine(settings: Settings, application_name: str, options: str = "") -> Connection:
    """A connection of the engine's role: autocommit, UTF8, nobody else's schema in its search_path (ROLES.md rule 12)."""
    given = conninfo_to_dict(settings.dsn)
    pinned = f"{given.get('options') or ''} -c search_path=pg_catalog,pg_temp -c statement_timeout=0 {options}".strip()
    return await psycopg.AsyncConnection.connect(
        make_conninfo(
            settings.dsn,
            options=pinned,
            application_name=application_name,
            client_encoding="UTF8",
            connect_timeout=given.get("connect_timeout") or CONNECT_TIMEOUT_SECONDS,
        ),
        autocommit=True,
    )
