"""Commands as a shell runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

from tests import warm
from tests.servers import Database

COMMAND_SECONDS: Final = 60.0


def clean_environment() -> dict[str, str]:
    """Without what would say where, as whom, how wide or in which colours."""
    known = ("PG", "WALFLOW_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "LC_", "LANG")
    return {name: value for name, value in os.environ.items() if not name.startswith(known)}


def in_utf8(environment: Mapping[str, str]) -> dict[str, str]:
    """These variables and no others that matter, but for the encoding."""
    return {**clean_environment(), "LANG": "C.UTF-8", **environment}


def environment_of(database: Database, role: str = "alice") -> dict[str, str]:
    """What libpq reads: nobody has to say a connection string."""
    return {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(database.cluster.server.port),
        "PGDATABASE": database.name,
        "PGUSER": role,
    }


def walflow(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        env=in_utf8(environment),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )


class Shell:
    """Commands of one role in one database."""

    def __init__(self, database: Database, role: str = "alice") -> None:
        self.environment: Final = environment_of(database, role)

    def __call__(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever comes of it."""
        if not warm.POSSIBLE:
            return walflow(*arguments, stdin=stdin, **self.environment)
        return warm.run(arguments, in_utf8(self.environment), stdin, COMMAND_SECONDS)

    def says(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of a command that must succeed."""
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        """What a command says with --json."""
        return json.loads(self.says(*arguments, "--json", stdin=stdin))

    def refused(self, *arguments: str, code: int = 2, stdin: str | None = None) -> str:
        """Standard error of a command that must fail so, without a traceback and with nothing on standard output."""
        done = self(*arguments, stdin=stdin)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr
