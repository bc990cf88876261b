"""Real servers, fresh databases and engine processes for the tests, and the one way to wait: on a condition.

A cluster has the roles `engine` (plain LOGIN with REPLICATION, owner of df), `reader` (REPLICATION and nothing else),
`alice` and `bob` (ordinary, with df.grant_usage). Every database is a copy of one that was migrated once. A test that
changes a role itself (drops it, takes LOGIN away, sets something on it) makes one of its own with `Database.new_role`.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, LiteralString, Self, TypeVar

import psycopg
from psycopg import sql as pgsql
from psycopg.rows import TupleRow

from engine.embedded import EmbeddedServer, Version, free_port
from sql.migrate import migrate
from tests.warm import POSSIBLE, WarmProcess, die_with_parent

T = TypeVar("T")
E = TypeVar("E", bound="EngineProcess")
Row = tuple[Any, ...]
Query = LiteralString | pgsql.SQL | pgsql.Composed

ENGINE_ROLE: Final = "engine"
READER_ROLE: Final = "reader"
ORDINARY_ROLES: Final = ("alice", "bob")
ROLES: Final[Mapping[str, LiteralString]] = {
    ENGINE_ROLE: "login replication",
    READER_ROLE: "login replication",
    **dict.fromkeys(ORDINARY_ROLES, "login"),
}
TEMPLATE: Final = "migrated"
EMPTY: Final = "template0"
FAST: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "authentication_timeout": "10s",  # up to 16, a connection that has not logged in holds up even an immediate stop
}
ENGINE_OPTIONS: Final = "-c search_path=pg_catalog,pg_temp"
POLL_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 20.0


def wait_until(condition: Callable[[], T | None], timeout: float = PATIENCE_SECONDS, what: str = "") -> T:
    """Call `condition` until it returns something true, and return that; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or getattr(condition, '__name__', condition)}")
        time.sleep(POLL_SECONDS)


def processor_seconds(pid: int) -> float:
    """Processor time that a process of this machine has used so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def backend_seconds(connection: psycopg.Connection[TupleRow]) -> float:
    """That of a session's backend: what a call costs, however full the machine is."""
    return processor_seconds(connection.info.backend_pid)


def password_of(role: str) -> str:
    """Of each role of a cluster; embedded servers do not ask for it."""
    return f"password-of-{role}"


class Cluster:
    """A running server with the roles above, and as many migrated databases as are asked for."""

    def __init__(
        self, version: Version, settings: Mapping[str, str] | None = None, server: EmbeddedServer | None = None
    ) -> None:
        self.server = server or EmbeddedServer(version=version, settings={**FAST, **(settings or {})})
        self._numbers = itertools.count(1)

    @property
    def version(self) -> Version:
        """The server's major version."""
        return self.server.version

    def start(self) -> Self:
        """Start the server, make the roles and the database that all others are copies of."""
        self.server.start()
        with self.connect() as connection:
            for role, attributes in ROLES.items():
                query = pgsql.SQL("create role {} " + attributes + " password {}")
                connection.execute(query.format(pgsql.Identifier(role), pgsql.Literal(password_of(role))))
        template = self._create(TEMPLATE, EMPTY)
        template.migrate()
        with template.connect() as connection:
            for role in ORDINARY_ROLES:
                connection.execute("select df.grant_usage(%s)", [role])
            connection.execute("grant usage, create on schema public to alice, bob")
        return self

    def close(self) -> None:
        """Stop the server and remove everything."""
        self.server.close()

    def connect(self, dbname: str = "postgres", **keywords: Any) -> psycopg.Connection[TupleRow]:
        """Connect as the superuser, autocommit."""
        return psycopg.connect(self.server.dsn(dbname=dbname), autocommit=True, **keywords)

    def database(self, *, migrated: bool = True, encoding: str = "UTF8") -> Database:
        """Make a database: a migrated one, or one that has no df yet. Drop it after use."""
        return self._create(f"test{next(self._numbers)}", TEMPLATE if migrated else EMPTY, encoding)

    def _create(self, name: str, template: str, encoding: str = "UTF8") -> Database:
        database = pgsql.Identifier(name)
        query = pgsql.SQL("create database {} template {} encoding {} strategy file_copy")
        with self.connect() as connection:
            connection.execute(query.format(database, pgsql.Identifier(template), encoding))
            # ACLs of a database are not copied with it
            connection.execute(pgsql.SQL("grant create on database {} to engine").format(database))
        made = Database(self, name)
        if template == EMPTY:
            made.run("grant create on schema public to engine")  # where the operators go
        return made


class Database:
    """A database of its own for one test, with the engines that the test starts on it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.slot = f"walflow_{name}"  # slots belong to the cluster
        self._engines: list[EngineProcess] = []
        self._roles: list[str] = []

    @property
    def engine_dsn(self) -> str:
        """The connection string of the role that owns df."""
        return self.dsn(ENGINE_ROLE)

    def dsn(self, role: str = "postgres", **keywords: str | int) -> str:
        """Return the connection string of a role (the superuser's without one)."""
        if role == ENGINE_ROLE:
            keywords.setdefault("options", ENGINE_OPTIONS)
        return self.cluster.server.dsn(user=role, dbname=self.name, **keywords)

    def connect(self, role: str = "postgres", *, autocommit: bool = True) -> psycopg.Connection[TupleRow]:
        """Connect as a role; use it as a context manager, which closes it."""
        return psycopg.connect(self.dsn(role), autocommit=autocommit, client_encoding="UTF8")

    def run(self, query: Query, parameters: Any = None, role: str = "postgres") -> list[Row]:
        """Run one statement on a connection of its own and return its rows, if it has any."""
        with self.connect(role) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def migrate(self, role: str = ENGINE_ROLE) -> None:
        """Install df as the engine's role does, or another."""
        migrate(self.dsn(role))

    def new_role(self, suffix: str, attributes: LiteralString = "login", *, granted: bool = True) -> str:
        """Make a role of this database's own (`<database>_<suffix>`); it goes with the database."""
        name = f"{self.name}_{suffix}"
        with self.connect() as connection:
            role = pgsql.Identifier(name)
            connection.execute(pgsql.SQL("create role {} " + attributes).format(role))
            self._roles.append(name)
            if granted:
                connection.execute("select df.grant_usage(quote_ident(%s)::regrole)", [name])
                connection.execute(pgsql.SQL("grant usage, create on schema public to {}").format(role))
        return name

    def engine(self, directory: Path, **settings: str | int) -> EngineProcess:
        """Return an engine on this database, not started; `settings` are those of OPERATING.md, e.g. `grace="1s"`."""
        number = len(self._engines) + 1
        defaults: dict[str, str | int] = {"dsn": self.engine_dsn, "slot": self.slot}
        return self.adopt(EngineProcess({**defaults, **settings}, directory / f"{self.name}-engine{number}.log"))

    def adopt(self, engine: E) -> E:
        """Kill this engine before the database is dropped."""
        self._engines.append(engine)
        return engine

    def drop(self) -> None:
        """Kill its engines, drop its slots, itself and its roles."""
        for engine in self._engines:
            engine.kill()
        if not self.cluster.server.running:
            self.cluster.server.start()
        with self.cluster.connect() as connection:
            drop_slots(connection, self.name)
            connection.execute(pgsql.SQL("drop database if exists {} with (force)").format(pgsql.Identifier(self.name)))
            for role in self._roles:
                connection.execute(pgsql.SQL("drop role if exists {}").format(pgsql.Identifier(role)))


def drop_slots(connection: psycopg.Connection[TupleRow], dbname: str) -> None:
    """Drop every replication slot of a database, ending the readers that hold one."""

    def gone() -> bool:
        connection.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where database = %s and active", [dbname]
        )
        try:
            connection.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s", [dbname]
            )
        except psycopg.errors.ObjectInUse:
            return False
        return True

    wait_until(gone, what=f"the slots of {dbname} are free")


class EngineProcess:
    """`walflow run` as a process of its own, which a test may kill, freeze and read the log of."""

    def __init__(self, settings: Mapping[str, str | int], log_path: Path) -> None:
        self.port = free_port()
        defaults = {"listen": f"127.0.0.1:{self.port}", "log_format": "json", "log_level": "debug"}
        self.settings = {**defaults, **settings}
        self.log_path = log_path
        self.host = "127.0.0.1"
        """Where its HTTP endpoint is reached."""
        self.prefix: Sequence[str] = ()
        """A command that runs the engine in other surroundings, and becomes it (`ip netns exec`, `unshare`)."""
        self.environment: Mapping[str, str] = {}
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None

    def spawn(self) -> Self:
        """Start the process and return at once."""
        variables = {f"WALFLOW_{name.upper()}": str(value) for name, value in self.settings.items()}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "WALFLOW_"))}
        with self.log_path.open("ab") as log:
            if not self.prefix and not self.environment and POSSIBLE:
                output = self.log_path
                self._process = WarmProcess(["run"], {**clean, **variables}, stdout=output, stderr=output)
            else:
                self._process = subprocess.Popen(
                    [*self.prefix, sys.executable, "-m", "engine", "run"],
                    env={**clean, **variables, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
        return self

    def start(self, *, leading: bool = True, timeout: float = PATIENCE_SECONDS) -> Self:
        """Start the process and return when it is ready, and leads unless `leading` is false."""
        self.spawn()
        self.wait_ready(leading=leading, timeout=timeout)
        return self

    def wait_ready(self, *, leading: bool = True, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait for /readyz to answer 200, and for the leader's role unless `leading` is false."""

        def ready() -> bool:
            if self.returncode is not None:
                raise AssertionError(f"the engine ended with {self.returncode}:\n{self.log()}")
            if self.get("/readyz")[0] != 200:
                return False
            return not leading or self.status().get("role") == "leader"

        try:
            wait_until(ready, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; /readyz says {self.get('/readyz')}; its log:\n{self.log()}") from None

    @property
    def pid(self) -> int:
        """The process id; the process must have been started."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(PATIENCE_SECONDS)

    def terminate(self, timeout: float = PATIENCE_SECONDS) -> int:
        """SIGTERM; return the exit code."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Wait for the end; return the exit code."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the engine still runs after {timeout:g} s; its log:\n{self.log()}") from None

    def freeze(self) -> None:
        """SIGSTOP: it holds its connections and does nothing."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    def log(self) -> str:
        """What it has written to stdout and stderr."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def events(self) -> list[dict[str, Any]]:
        """Its log, one dictionary an event (the format is json unless the test chose another)."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def get(self, path: str, accept: str = "*/*") -> tuple[int, str]:
        """GET from its HTTP endpoint: the status code (0 when nobody answers) and the body."""
        request = urllib.request.Request(f"http://{self.host}:{self.port}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def status(self) -> dict[str, Any]:
        """What /status says; empty when nobody answers."""
        code, body = self.get("/status")
        answer: dict[str, Any] = json.loads(body) if code == 200 else {}
        return answer

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of one sample of /metrics, None when it is not there."""
        from prometheus_client.parser import text_string_to_metric_families

        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None
