"""A network that can be cut between engines and their server: packets are dropped, nothing is refused, nobody is told.

Engines run in a namespace of their own, which one cable joins to where the server is. The server's end of the cable has three
addresses, so that a cut can spare some of an engine's connections. Needs root, and Linux' `ip` and `nft`: `may_make_namespaces`.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psycopg.conninfo import make_conninfo

from tests.servers import ENGINE_OPTIONS, ENGINE_ROLE, Cluster, Database, EngineProcess

PATHS: Final = ("main", "replication", "steps")
"""The three addresses: what the connections of an engine are for."""
_numbers = itertools.count(os.getpid() * 8)


def may_make_namespaces() -> bool:
    """Whether we are let: by the kernel, and with the tools that it takes."""
    tools = all(shutil.which(tool) for tool in ("ip", "nft", "unshare"))
    return (
        tools
        and subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode == 0
    )


class Network:
    """See the module's docstring. `name` is that of the namespace."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.name = f"walflow-{number}"
        subnet = f"10.{200 + number // 7936 % 40}.{number // 31 % 256}"
        first = number % 31 * 8
        self._server = {path: f"{subnet}.{first + place}" for place, path in enumerate(PATHS, 1)}
        self._engines = f"{subnet}.{first + 6}"
        self._cable = f"wf{number % 10**9}"

    def lay(self) -> None:
        """Make namespace and cable."""
        _run("ip", "netns", "add", self.name)
        far = f"{self._cable}e"
        _run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", far, "netns", self.name)
        for address in self._server.values():
            _run("ip", "address", "add", f"{address}/29", "dev", self._cable)
        _run("ip", "link", "set", self._cable, "up")
        self._inside("ip", "address", "add", f"{self._engines}/29", "dev", far)
        self._inside("ip", "link", "set", far, "up")
        self._inside("ip", "link", "set", "lo", "up")

    def remove(self) -> None:
        """The cable goes with its end."""
        _run("ip", "netns", "delete", self.name)

    def put(self, engine: EngineProcess, database: Database) -> EngineProcess:
        """An engine that was not started moves into the namespace, and reaches the database by the cable."""
        port = database.cluster.server.port
        of = {
            path: make_conninfo("", host=address, port=port, dbname=database.name)
            for path, address in self._server.items()
        }
        engine.settings |= {
            "dsn": make_conninfo(of["main"], user=ENGINE_ROLE, options=ENGINE_OPTIONS),
            "replication_dsn": make_conninfo(of["replication"], user=ENGINE_ROLE),
            "step_dsn": of["steps"],
            "listen": f"{self._engines}:{engine.port}",
        }
        engine.host = self._engines
        engine.prefix = ("ip", "netns", "exec", self.name)
        return engine

    @contextmanager
    def cut(self, port: int, *paths: str) -> Iterator[None]:
        """Between the engines and a port of the server no packet arrives, either way; on all paths unless some are named."""
        addresses = ", ".join(self._server[path] for path in paths or PATHS)
        rules = f"""
        table ip cut {{
          chain from_server {{ type filter hook input priority 0; ip saddr {{ {addresses} }} tcp sport {port} drop; }}
          chain to_server {{ type filter hook output priority 0; ip daddr {{ {addresses} }} tcp dport {port} drop; }}
        }}
        """
        self._inside("nft", "-f", "-", given=rules)
        try:
            yield
        finally:
            self._inside("nft", "delete", "table", "ip", "cut")

    def _inside(self, *command: str, given: str = "") -> None:
        _run("ip", "netns", "exec", self.name, *command, given=given)


def _run(*command: str, given: str = "") -> None:
    subprocess.run(command, input=given, text=True, check=True, capture_output=True)


@contextmanager
def reachable_cluster() -> Iterator[Cluster]:
    """A server that listens on every address, and trusts whoever comes by a cable."""
    cluster = Cluster(18, {"listen_addresses": "*"}).start()
    try:
        with (cluster.server.data_dir / "pg_hba.conf").open("a") as hba:
            hba.write("host all all 10.192.0.0/10 trust\n")
        cluster.server.reload()
        yield cluster
    finally:
        cluster.close()


@contextmanager
def network() -> Iterator[Network]:
    """A network that is removed at the end."""
    made = Network()
    made.lay()
    try:
        yield made
    finally:
        made.remove()
