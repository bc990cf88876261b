"""What the README shows is so: its SQL runs in psql and answers what stands beside it, its commands are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.psql import psql
from tests.servers import Database

ROOT: Final = Path(__file__).parent.parent
README: Final = (ROOT / "README.md").read_text()
COMMAND_SECONDS: Final = 30.0


def blocks(language: str) -> str:
    """All code blocks of a language, one after the other."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language} block"
    return "\n".join(found)


def lines_beginning_with(word: str) -> list[str]:
    return re.findall(rf"^{word} (\S+)", blocks("sh"), re.MULTILINE)


def test_the_sql_runs_and_answers_what_stands_beside_it(database: Database, tmp_path: Path) -> None:
    database.engine(tmp_path).start()
    script = blocks("sql")
    beside = re.findall(r"^select .*;\s+-- (.+)$", script, re.MULTILINE)
    assert beside
    assert psql(database, script) == beside


@pytest.mark.parametrize("target", lines_beginning_with("make"))
def test_each_make_target_is_there(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("command", [*lines_beginning_with("walflow"), "dev"])
def test_each_command_is_there(command: str) -> None:
    asked = [sys.executable, "-m", "engine", command, "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    assert done.returncode == 0, done.stderr


def test_whatever_it_points_to_is_there() -> None:
    for path in re.findall(r"`((?:docs|examples)/[^`]*|[A-Z]+\.md)`", README):
        assert (ROOT / path).exists(), path


def test_no_path_of_somebodys_machine_stands_in_it() -> None:
    assert not re.search(r"/(?:home|root|work|Users|tmp)/", README)
