"""A server, an engine and pgbench, for measuring: durable settings, nothing else running, figures only as ratios or medians."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, LiteralString

from tests.servers import Cluster, Database, EngineProcess

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "autovacuum": "off",
}
CONNECTIONS = 8
GRAPH: Final = """
    df.seq(df.seq('insert into t (x) values (1) returning id', 'insert into t (x) values (2) returning id'),
           'insert into t (x) values (3) returning id')
"""
STEPS = 3
PATIENCE_SECONDS = 300

Figure = tuple[str, str, str]
"""What, at least or at most, seen."""


class Rig:
    """One database with an engine on it, and alice, who submits."""

    def __init__(self, database: Database, engine: EngineProcess) -> None:
        self.database = database
        self.engine = engine
        self._runs = 0

    def run(self, query: LiteralString, parameters: Any = None, role: str = "postgres") -> list[tuple[Any, ...]]:
        return self.database.run(query, parameters, role)

    def value(self, query: LiteralString, parameters: Any = None) -> Any:
        return self.run(query, parameters)[0][0]

    def start_workflows(self, count: int, graph: LiteralString = GRAPH) -> None:
        """Starts `count` workflows, of three steps by default, in one INSERT."""
        query: LiteralString = "insert into df.instances (graph) select " + graph + " from generate_series(1, %s)"
        self.run(query, [count], role="alice")

    def wait_finished(self, count: int) -> None:
        """Waits until `count` instances in all are completed. Looks seldom: it takes processor time from what is measured."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self.database.connect() as observer:
            while observer.execute("select completed_total < %s from df.checkpoint", [count]).fetchone() != (False,):
                assert time.monotonic() < until, f"{count} instances are not completed"
                time.sleep(0.02)

    def finish(self, count: int) -> float:
        """Starts `count` workflows and waits for their end: seconds from the commit of their INSERT."""
        before = self.finished()
        self.start_workflows(count)
        began = time.monotonic()
        self.wait_finished(before + count)
        return time.monotonic() - began

    def finished(self) -> int:
        """How many instances the checkpoints say are completed."""
        return int(self.value("select completed_total from df.checkpoint"))

    def pgbench(self, script: str, *, seconds: int, connections: int = CONNECTIONS) -> float:
        """Transactions per second of a script, as alice, with prepared statements."""
        server = self.database.cluster.server
        self._runs += 1
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            command = [str(server.bin_dir / "pgbench"), "-n", "-M", "prepared", "-T", str(seconds), "-f", file.name]
            command += ["-c", str(connections), "-j", "1", "-h", "127.0.0.1", "-p", str(server.port), "-U", "alice"]
            command += [
                "-D",
                "n=0",
                "-D",
                f"run={self._runs}",
                "-D",
                f"epoch={self.value('select epoch from df.epoch')}",
                self.database.name,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"tps = ([\d.]+)", done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        assert found is not None, done.stdout
        return float(found[1])


@contextmanager
def rig(**settings: str | int) -> Iterator[Rig]:
    """A fresh server, database and engine; all gone afterwards."""
    cluster = Cluster(18, DURABLE).start()
    try:
        database = cluster.database()
        with tempfile.TemporaryDirectory() as directory:
            defaults: dict[str, str | int] = {"step_connections": CONNECTIONS, "step_connections_per_role": CONNECTIONS}
            engine = database.engine(Path(directory), **{**defaults, "log_level": "info", **settings}).start()
            database.run("create table t (id bigserial, x int)", role="alice")
            try:
                yield Rig(database, engine)
            finally:
                engine.terminate()
                database.drop()
    finally:
        cluster.close()
