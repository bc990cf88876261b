"""`walflow dev`: an embedded PostgreSQL, migrated, with an engine in this process, for as long as it is wanted."""

from __future__ import annotations

import shlex
import shutil
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql as pgsql

from engine.config import NOWHERE, Settings, split_address, without_credentials
from engine.embedded import EmbeddedServer, Version
from sql.migrate import migrate

ENGINE_ROLE: Final = "walflow"
ORDINARY_ROLE: Final = "app"
DATABASE: Final = "app"
NEWEST: Final[Version] = 18


@dataclass(frozen=True, kw_only=True)
class DevServer:
    """A running server with schema df and an ordinary role."""

    server: EmbeddedServer

    @property
    def engine_dsn(self) -> str:
        """The engine's connection string."""
        return self.server.dsn(ENGINE_ROLE, DATABASE)

    def settings(self, given: Settings) -> Settings:
        """Return the settings of the engine on this server: `given`, but for where and under what names it works."""
        return replace(
            given,
            dsn=self.engine_dsn,
            replication_dsn=self.engine_dsn,
            step_dsn=without_credentials(self.engine_dsn),
            step_passfile=None,
            slot="walflow",
            publication="walflow",
            listen=free_listen_address(given.listen),
        )

    @property
    def url(self) -> str:
        """The ordinary role's connection string, as a URL."""
        return f"postgresql://{quote(ORDINARY_ROLE)}@127.0.0.1:{self.server.port}/{quote(DATABASE)}"

    @property
    def psql(self) -> str:
        """A line for a shell: psql from PATH, or the server's own."""
        psql = "psql" if shutil.which("psql") else str(self.server.bin_dir / "psql")
        return f"{shlex.quote(psql)} {self.url}"


def prepare(server: EmbeddedServer) -> DevServer:
    """Make roles, database and schema on a running server, as far as they are not there yet."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        _make_roles(connection)
        _make_database(connection)
    dev = DevServer(server=server)
    migrate(dev.engine_dsn)
    with psycopg.connect(server.dsn(dbname=DATABASE), autocommit=True) as connection:
        connection.execute("select df.grant_usage(%s::regrole)", [ORDINARY_ROLE])
        role = pgsql.Identifier(ORDINARY_ROLE)
        connection.execute(pgsql.SQL("grant usage, create on schema public to {}").format(role))
    return dev


def _make_roles(connection: psycopg.Connection) -> None:
    for role, attributes in ((ENGINE_ROLE, "login replication"), (ORDINARY_ROLE, "login")):
        if connection.execute("select from pg_roles where rolname = %s", [role]).rowcount == 0:
            connection.execute(pgsql.SQL("create role {} " + attributes).format(pgsql.Identifier(role)))


def _make_database(connection: psycopg.Connection) -> None:
    name, engine = pgsql.Identifier(DATABASE), pgsql.Identifier(ENGINE_ROLE)
    if connection.execute("select from pg_database where datname = %s", [DATABASE]).rowcount == 0:
        connection.execute(pgsql.SQL("create database {} owner {}").format(name, engine))


def version_for(data_dir: Path | None, wanted: int | None) -> int:
    """Return the major version to start: the wanted one, else that of the cluster in data_dir, else the newest."""
    if wanted is not None:
        return wanted
    try:
        return int((data_dir / "PG_VERSION").read_text()) if data_dir else NEWEST
    except OSError:
        return NEWEST


def free_listen_address(wanted: str) -> str:
    """Return `wanted`, or any free port of localhost where another engine has it already."""
    if wanted == NOWHERE:
        return wanted
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(split_address(wanted))
        except OSError:
            return "127.0.0.1:0"
    return wanted
