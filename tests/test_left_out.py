"""A test run that leaves something out says so where nobody overlooks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
RUN_SECONDS: Final = 100.0
REHEARSAL: Final = "tests/containers/test_rolling.py"


def test_what_is_left_out_for_want_of_docker_is_said_last_with_how_many_and_why() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", REHEARSAL],
        cwd=ROOT,
        env={**clean, "PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    _, heading, end = done.stdout.rpartition("LEFT OUT HERE")
    assert heading, done.stdout
    assert end.splitlines()[1] == "1 test: containers: no docker command"
    assert "short test summary" not in end
