"""walflow's image as an engine that tests start, kill and ask: `tests.servers.EngineProcess`, but in a container.

It runs as docs/deployment.md says: not root, nothing writable, no capabilities, a login for the owner of df and another one
for the log, the passwords of submitting roles in a file.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final, Self

from psycopg.conninfo import make_conninfo
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from tests.containers.server import ALIAS, OURS, PORT, reached, settle_ryuk
from tests.images.build import engine_image
from tests.servers import (
    ENGINE_ROLE,
    ORDINARY_ROLES,
    PATIENCE_SECONDS,
    READER_ROLE,
    Database,
    EngineProcess,
    password_of,
    wait_until,
)

HTTP_PORT: Final = 9464
USER: Final = 10001
"""Of the image."""
PASSFILE: Final = "/run/secrets/step-passfile"
STOP_SECONDS: Final = 40
"""As terminationGracePeriodSeconds."""
CONFINED: Final[dict[str, Any]] = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}


def inside_dsn(database: Database, role: str) -> str:
    """The connection string of a role, as from the network."""
    return make_conninfo("", host=ALIAS, port=PORT, user=role, password=password_of(role), dbname=database.name)


def user() -> int:
    """Whom the container runs as: the image's user where files can be given to it, else whoever runs the tests."""
    return USER if os.geteuid() == 0 else os.geteuid()


def passwords() -> str:
    """Of the ordinary roles, in libpq's format."""
    return "".join(f"{ALIAS}:{PORT}:*:{role}:{password_of(role)}\n" for role in ORDINARY_ROLES)


def write_passfile(directory: Path) -> Path:
    """Passwords of the ordinary roles, in a file that the container's user alone may read: libpq takes no other."""
    path = directory / "step-passfile"
    if path.exists():  # another engine reads it
        return path
    path.write_text(passwords())
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, USER, USER)
    return path


class EngineContainer(EngineProcess):
    """`walflow run` in a container of its own; each start makes a new one."""

    def __init__(self, database: Database, network: Network, directory: Path, **settings: str | int) -> None:
        defaults: dict[str, str | int] = {
            "dsn": inside_dsn(database, ENGINE_ROLE),
            "replication_dsn": inside_dsn(database, READER_ROLE),
            "step_passfile": PASSFILE,
            "slot": database.slot,
            "log_level": "info",
            "listen": f"0.0.0.0:{HTTP_PORT}",
        }
        super().__init__({**defaults, **settings}, directory / "unused.log")
        self._network = network
        self._passfile = write_passfile(directory)
        self._container: DockerContainer | None = None

    def spawn(self) -> Self:
        """Start a container and return when its port is known."""
        self._remove()
        settle_ryuk()
        container = DockerContainer(
            engine_image(),
            env={f"WALFLOW_{name.upper()}": str(value) for name, value in self.settings.items()},
            network=self._network,
            ports=[HTTP_PORT],
            volumes=[(str(self._passfile), PASSFILE, "ro")],
            user=str(user()),
            labels=OURS,
            **CONFINED,
        )
        self._container = container
        container.start()
        self.host, self.port = reached(container.get_container_host_ip()), container.get_exposed_port(HTTP_PORT)
        return self

    @property
    def container(self) -> Any:
        """Docker's own; it must have been started."""
        assert self._container is not None
        return self._container.get_wrapped_container()

    @property
    def state(self) -> dict[str, Any]:
        """What Docker says of it."""
        self.container.reload()
        found: dict[str, Any] = self.container.attrs["State"]
        return found

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        if self._container is None or self.state["Running"]:
            return None
        return int(self.state["ExitCode"])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its first process, unless it has ended."""
        if self._container is not None and self.state["Running"]:
            self.container.kill(number.name)

    def kill(self) -> None:
        """SIGKILL, wait for the end, and remove what is left."""
        self.send(signal.SIGKILL)
        if self._container is not None:
            self.wait()
        self._remove()

    def terminate(self, timeout: float = STOP_SECONDS) -> int:
        """What `docker stop` does, and Kubernetes: SIGTERM, and SIGKILL after the timeout. Return the exit code."""
        self.container.stop(timeout=int(timeout))
        return self.wait()

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Wait for the end; return the exit code."""
        try:
            wait_until(lambda: self.returncode is not None, timeout)
        except AssertionError:
            raise AssertionError(f"the engine still runs after {timeout:g} s; its log:\n{self.log()}") from None
        return int(self.state["ExitCode"])

    def log(self) -> str:
        """What it has written."""
        return "" if self._container is None else str(self.container.logs().decode(errors="replace"))

    def _remove(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None
