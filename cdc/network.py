"""What ends a connection whose other side is gone without a word: a cut cable, a lost host, a firewall that forgot.

The kernel would wait a quarter of an hour for an answer to what was sent, and for ever when nothing was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc.limits import (
    CONNECT_TIMEOUT_SECONDS,
    KEEPALIVE_IDLE_SECONDS,
    KEEPALIVE_INTERVAL_SECONDS,
    KEEPALIVE_PROBES,
    UNACKNOWLEDGED_SECONDS,
)

_OURS: Final[Mapping[str, str]] = {
    "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
    "keepalives": "1",
    "keepalives_idle": str(KEEPALIVE_IDLE_SECONDS),
    "keepalives_interval": str(KEEPALIVE_INTERVAL_SECONDS),
    "keepalives_count": str(KEEPALIVE_PROBES),
    "tcp_user_timeout": str(UNACKNOWLEDGED_SECONDS * 1000),
}


def network_options(dsn: str) -> dict[str, str]:
    """The parameters of a connection string that notice a dead network: its own where it has them, else ours."""
    given = conninfo_to_dict(dsn)
    return {name: str(given.get(name) or ours) for name, ours in _OURS.items()}


async def open_connection(
    dsn: str, parameters: Mapping[str, str], *, prepare_threshold: int | None = 5
) -> psycopg.AsyncConnection[Any]:
    """A connection in autocommit that notices a dead network; `parameters` beat the connection string. Raises psycopg's errors.

    One that was not answered in time is closed at once: psycopg leaves it to the garbage collector, since the error's traceback
    refers to itself, and until then the server waits for the rest of the login.
    """
    conninfo = make_conninfo(dsn, **{**network_options(dsn), **parameters})
    try:
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=prepare_threshold)
    except psycopg.Error as error:
        raise error.with_traceback(None)  # noqa: B904 (the same error)
