"""What the demo runs on: an embedded server, an engine process that can be killed, and an ordinary user's session."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg.rows import TupleRow

from engine.dev import DATABASE, ORDINARY_ROLE, DevServer, prepare
from engine.embedded import EmbeddedServer, free_port

POLL_SECONDS: Final = 0.02
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 20.0
LOG_TAIL_LINES: Final = 15
PR_SET_PDEATHSIG: Final = 1

Row = tuple[Any, ...]


class NotAsItMust(Exception):
    """Something did not happen, or not in time; the text says what."""


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to a query."""

    columns: tuple[str, ...]
    rows: Sequence[Row]


class Stage:
    """A server with schema df, an engine, and two sessions: an ordinary user's, who types, and one that sees everything."""

    def __init__(self) -> None:
        self._engine: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._stack = ExitStack()
        with self._stack as stack:
            server = stack.enter_context(EmbeddedServer())
            self._dev: DevServer = prepare(server)
            self._log: Path = server.run_dir / "engine.log"  # goes with the server
            self._app = stack.enter_context(closing(_session(server.dsn(ORDINARY_ROLE, DATABASE))))
            self._all_seeing = stack.enter_context(closing(_session(server.dsn(dbname=DATABASE))))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            self.kill_engine()

    @property
    def server_version(self) -> str:
        """Such as `18.1`."""
        return self._app.info.parameter_status("server_version") or "?"

    # --- what users do ------------------------------------------------------------------------------------------------

    def type(self, text: str) -> Table | None:
        """Sends a script as it stands, as psql would; returns the rows of its last statement, if it has any."""
        cursor = self._app.execute(text.encode())
        while cursor.nextset():
            pass
        if cursor.description is None:
            return None
        return Table(tuple(column.name for column in cursor.description), cursor.fetchall())

    def value(self, text: str) -> Any:
        """The only value of a query that the ordinary user asks."""
        table = self.type(text)
        assert table is not None
        return table.rows[0][0]

    def look(self, text: str, *parameters: Any) -> list[Row]:
        """The rows of a query that a superuser asks: timers' completions and other sessions are not the user's to see."""
        return self._all_seeing.execute(text.encode(), parameters or None).fetchall()

    # --- the engine -------------------------------------------------------------------------------------------------

    @property
    def engine_pid(self) -> int:
        """The process id of the engine, which runs."""
        assert self._engine is not None
        return self._engine.pid

    def start_engine(self) -> float:
        """Starts `walflow run`, waits until it leads, and returns how long that took, in seconds."""
        began = time.monotonic()
        self._port = free_port()
        given = {
            "WALFLOW_DSN": self._dev.engine_dsn,
            "WALFLOW_LISTEN": f"127.0.0.1:{self._port}",
            "WALFLOW_LOG_FORMAT": "text",
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "WALFLOW_"))}
        with self._log.open("ab") as log:
            self._engine = subprocess.Popen(
                [sys.executable, "-m", "engine", "run"],
                env={**clean, **given},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at the terminal is for the demo to act on
                preexec_fn=_die_with_parent,
            )
        until(self._leads, START_SECONDS, "the engine leads")
        return time.monotonic() - began

    def kill_engine(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._engine is not None:
            self._engine.kill()
            self._engine.wait()
            self._engine = None

    def stop_engine(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._engine is not None
        self._engine.send_signal(signal.SIGTERM)
        code = self._engine.wait(STOP_SECONDS)
        self._engine = None
        return code

    def engine_log(self) -> str:
        """The end of what the engine wrote."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _leads(self) -> bool:
        assert self._engine is not None
        if self._engine.poll() is not None:
            raise NotAsItMust(f"the engine ended with exit code {self._engine.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/status", timeout=5) as answer:
                return bool(json.load(answer).get("role") == "leader")
        except (OSError, urllib.error.URLError):
            return False


def _session(dsn: str) -> psycopg.Connection[TupleRow]:
    return psycopg.connect(dsn, autocommit=True)


def until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Polls until the condition holds. Raises NotAsItMust after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotAsItMust(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


def _die_with_parent() -> None:
    """Let the kernel end the engine with the demo, however that ends: an engine outlives its server, as it should."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
