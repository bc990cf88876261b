"""psql, as users have it: scripts are run by the program itself, not by a driver that takes it for one."""

from __future__ import annotations

import os
import re
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


def psql_output(database: Database, script: str, *, role: str = "alice") -> str:
    """Run a script to its end, whatever fails, and return all that it prints, errors in one line among the answers."""
    binary = database.cluster.server.bin_dir / "psql"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [
            binary,
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "-v",
            "VERBOSITY=terse",
            "-f",
            "-",
            database.dsn(role),
        ],
        input=script,
        env={**clean, "PGCLIENTENCODING": "UTF8", "PGOPTIONS": "-c client_min_messages=warning"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PSQL_SECONDS,
        check=False,
    )
    return re.sub(r"^psql:<stdin>:\d+: ", "", done.stdout, flags=re.MULTILINE)
