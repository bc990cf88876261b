"""What the README shows is so: its SQL runs in psql and answers what stands beside it, its commands are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.cli.commands import environment_of, walflow
from tests.psql import psql
from tests.servers import Database

ROOT: Final = Path(__file__).parent.parent
README: Final = (ROOT / "README.md").read_text()
SAYS: Final = {"list": "completed", "show": "shipped", "history": "shipped", "top": "throughput"}
"""Some of what each command that looks at the first workflow says."""


def blocks(language: str) -> str:
    """All code blocks of a language, one after the other."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no {language} block"
    return "\n".join(found)


def lines_beginning_with(word: str) -> list[str]:
    return re.findall(rf"^{word} (\S+)", blocks("sh"), re.MULTILINE)


def commands() -> list[str]:
    """Every `walflow` line, without its comment."""
    return re.findall(r"^(walflow [^#\n]*?) *(?:#.*)?$", blocks("sh"), re.MULTILINE)


def test_the_sql_runs_and_answers_what_stands_beside_it_and_so_do_the_commands(
    database: Database, tmp_path: Path
) -> None:
    """A server is prepared, the engine runs, a first workflow, a look at it from a shell."""
    engine = database.engine(tmp_path)
    for command in ("walflow doctor", "walflow migrate"):
        assert command in commands()
        done = shell(command, WALFLOW_DSN=database.engine_dsn, WALFLOW_SLOT=database.slot)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "walflow run" in commands()
    engine.start()
    script = blocks("sql")
    beside = re.findall(r"^select .*;\s+-- (.+)$", script, re.MULTILINE)
    assert beside
    assert psql(database, script) == beside
    looks = [command for command in commands() if command.split()[1] in SAYS]
    assert len(looks) == len(SAYS) == len(commands()) - 3
    for command in looks:
        here = f" --url http://127.0.0.1:{engine.port}" if command == "walflow top" else ""
        done = shell(command + here, **environment_of(database), WALFLOW_SLOT=database.slot)
        assert done.returncode == 0, done.stderr
        assert SAYS[command.split()[1]] in done.stdout


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of the page."""
    return walflow(*command.split()[1:], **environment)


@pytest.mark.parametrize("target", lines_beginning_with("make"))
def test_each_make_target_is_there(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_whatever_it_points_to_is_there() -> None:
    for path in re.findall(r"`((?:docs|examples)/[^`]*|[A-Z]+\.md)`", README):
        assert (ROOT / path).exists(), path


def test_no_path_of_somebodys_machine_stands_in_it() -> None:
    assert not re.search(r"/(?:home|root|work|Users|tmp)/", README)
