"""psql, as users have it: scripts are run by the program itself, not by a driver that takes it for one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.servers import Database

PSQL_SECONDS = 60.0


def psql(database: Database, script: str | Path, *, role: str = "alice") -> list[str]:
    """Run a script and return the lines of its answers, unaligned. A failing statement fails the test."""
    binary = database.cluster.server.bin_dir / "psql"
    source = script if isinstance(script, str) else script.read_text()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [
            binary,
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            "-",
            database.dsn(role),
        ],
        input=source,
        env={**clean, "PGCLIENTENCODING": "UTF8"},
        capture_output=True,
        text=True,
        timeout=PSQL_SECONDS,
        check=False,
    )
    if done.returncode != 0 or done.stderr:
        pytest.fail(f"psql ended with {done.returncode}:\n{done.stderr}\n{done.stdout}")
    return done.stdout.splitlines()
