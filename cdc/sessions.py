"""What a role's own settings (ALTER ROLE … SET) must not do to a session of ours: end it, keep it from writing, or have it
speak in a notation that nobody reads here.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

UNHINDERED: Final = (
    "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    r"-c default_transaction_read_only=off -c default_transaction_isolation=read\ committed "
    "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex -c array_nulls=on "
    "-c standard_conforming_strings=on"
)
"""Startup options, which beat the role's settings."""

_TRANSACTION_TIMEOUT_SINCE: Final = 170_000


async def end_no_transaction(connection: psycopg.AsyncConnection[Any]) -> None:
    """Take the role's transaction_timeout off. Not a startup option, which servers before 17 would refuse.

    On a replication connection it would end the decoding of a large transaction, and of the same again and again.
    """
    if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        await connection.execute("set transaction_timeout = 0")
