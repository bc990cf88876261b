"""A PostgreSQL in a container, where tests expect an embedded server; started by testcontainers, on a network of its own.

It asks for passwords, unlike an embedded one. From the network it is `postgres:5432`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from psycopg.conninfo import make_conninfo
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config
from testcontainers.core.network import Network

from engine.embedded import EmbeddedServer, StopMode, Version
from tests.images.build import ImageError, can_be_had, docker
from tests.servers import FAST, password_of

LABEL: Final = "walflow-test"
OURS: Final = {LABEL: str(os.getpid())}
"""A label of whatever this process starts."""
ALIAS: Final = "postgres"
PORT: Final = 5432
SUPERUSER: Final = "postgres"
SETTINGS: Final = {**FAST, "wal_level": "logical", "max_replication_slots": "20", "max_wal_senders": "20"}


def remove_orphans() -> None:
    """Remove the containers and networks of test processes that live no more: killed ones could not do it themselves."""
    for kind, remove in (("container", ("rm", "--force", "--volumes")), ("network", ("rm",))):
        every = ("--all",) if kind == "container" else ()
        shown = docker(
            kind, "ls", *every, "--filter", f"label={LABEL}", "--format", '{{.ID}} {{.Label "' + LABEL + '"}}'
        )
        for id, pid in (line.split() for line in shown.splitlines()):
            if not Path(f"/proc/{pid}").exists():
                with suppress(ImageError):  # another process was faster
                    docker(kind, *remove, id)


def settle_ryuk() -> None:
    """Let testcontainers do without the container that cleans up after a killed test run, where its image cannot be had."""
    if not testcontainers_config.ryuk_disabled and not can_be_had(testcontainers_config.ryuk_image):
        testcontainers_config.ryuk_disabled = True


def reached(host: str) -> str:
    """The address of a published port; `localhost` may mean an address of IPv6 as well, where nothing is published."""
    return "127.0.0.1" if host == "localhost" else host


class ContainerServer(EmbeddedServer):
    """Only what a `tests.servers.Cluster` needs: start, close, dsn. Its processes and files are the container's own."""

    def __init__(self, image: str, version: Version, network: Network) -> None:
        self.version = version
        self.image = image
        self.network = network
        self._container: PostgresContainer | None = None
        self._host = ""

    @property
    def running(self) -> bool:
        """Whether it was started and not closed."""
        return self._container is not None

    @property
    def id(self) -> str:
        """Docker's name for it; it must have been started."""
        assert self._container is not None
        return self._container.get_container_id()

    def start(self) -> Self:
        """Start the container; return when the server answers."""
        settle_ryuk()
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        container = PostgresContainer(
            self.image,
            username=SUPERUSER,
            password=password_of(SUPERUSER),
            dbname=SUPERUSER,
            driver=None,
            network=self.network,
            network_aliases=[ALIAS],
            labels=OURS,
        ).with_command(options)
        self._container = container
        try:
            container.start()
        except BaseException:
            self.close()
            raise
        self._host, self.port = reached(container.get_container_host_ip()), container.get_exposed_port(PORT)
        return self

    def stop(self, mode: StopMode = "fast", timeout_seconds: float = 60.0) -> None:
        """Nobody stops it but `close`."""
        raise NotImplementedError("a server in a container is closed, not stopped")

    def close(self) -> None:
        """Remove the container and its data."""
        if self._container is not None:
            self._container.stop()
            self._container = None

    def dsn(self, user: str = SUPERUSER, dbname: str = SUPERUSER, **keywords: str | int) -> str:
        """As from this machine, with the role's password."""
        values: dict[str, str | int] = {
            "host": self._host,
            "port": self.port,
            "user": user,
            "password": password_of(user),
            "dbname": dbname,
        }
        return make_conninfo("", **{**values, **keywords})
