"""docs/command-line.md shows what the commands say."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.app import app
from tests.cli.documents import BLOCK, DOCUMENT, as_long_as_shown, comparable, written_anew
from tests.servers import Database
from tests.workflows import world


def test_every_command_answers_what_stands_below_it(database: Database, tmp_path: Path) -> None:
    text = DOCUMENT.read_text()
    with world(as_long_as_shown(database), database.engine(tmp_path).start()) as here:
        now = written_anew(text, here)
    for shown, said in zip(BLOCK.findall(text), BLOCK.findall(now), strict=True):
        assert comparable(said) == comparable(shown)


@pytest.mark.parametrize("command", [command.name for command in app.registered_commands])
def test_every_command_is_in_the_document(command: str) -> None:
    assert f"`{command}`" in DOCUMENT.read_text()


def test_what_varies_is_all_that_is_passed_over() -> None:
    assert comparable("+2.5s  12ms 3s ago 0/s") == comparable("+26s 1.1s just now 3.4/s")
    assert comparable("select 1 as n") != comparable("select 2 as n")
    assert comparable("✓ step 5") != comparable("✗ step 5")
