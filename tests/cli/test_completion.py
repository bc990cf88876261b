"""What the shell offers at the tab key."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.commands import Shell, walflow
from tests.workflows import World


def offered(line: str, **environment: str) -> list[str]:
    """As bash asks for it."""
    words = line.split(" ")
    done = walflow(**environment, _WALFLOW_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_options_and_statuses_are_offered() -> None:
    assert set(offered("walflow s")) == {"show", "signal", "start"}
    assert offered("walflow show --wa") == ["--watch"]
    assert offered("walflow list --status c") == ["completed", "cancelled"]


def test_ids_of_ones_own_workflows_are_offered(town: World, alice: Shell) -> None:
    town.start("select 1", id="tab-1")
    town.start("select 1", id="tab-2", role="bob")
    assert offered("walflow show tab-", **alice.environment) == ["tab-1"]


def test_nothing_is_offered_where_nobody_can_be_asked() -> None:
    assert offered("walflow show tab-", PGHOST="127.0.0.1", PGPORT="1") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_can_be_had(shell: str) -> None:
    done = walflow("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert "_WALFLOW_COMPLETE" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
