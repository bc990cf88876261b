"""The examples run as they stand, twice, as an ordinary role, and print what is here; each has a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest

from tests.psql import psql
from tests.servers import Database

EXAMPLES: Final = Path(__file__).parent.parent / "examples"
WORKFLOWS: Final = {
    "order_with_undo.sql": [
        "Norway|completed",
        "Atlantis|failed",
        "Atlantis|no carrier goes to Atlantis",
        "Norway|t|f|{3998}",
        "Atlantis|f|t|{5997,-5997}",
        "lamp|38",
    ],
    "approval.sql": [
        "",
        "OK",
        "a new chair|completed",
        "a new car|completed",
        "a new house|completed",
        "a new planet|completed",
        "a new chair|approved|maria|f|f",
        "a new car|rejected|jo|t|f",
        "a new house|approved|the boss|t|t",
        "a new planet|expired||t|t",
    ],
    "nightly_etl.sql": [
        "completed",
        "2026-01-31|3|122.25|1",
        'Bodø|invalid input syntax for type numeric: "twelve"',
        "t",
        "cancelled",
    ],
    "polling.sql": ["completed|completed", "report|done", "never|gave up: timeout", "6"],
    "onboarding.sql": [
        "OK",
        "completed|completed",
        "administrator of acme|completed",
        "storage of acme|completed",
        "administrator confirmed",
        "storage of 500 GB",
        "welcome mail, onboarding completed",
        "acme|active",
    ],
}
PRINTED: Final = {**WORKFLOWS, "loop.sql": ["completed", "11|1050|1050", "completed", '{"reached": 5}']}


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.sql")} == set(PRINTED)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_an_example_has_a_page_and_each_points_to_the_other(name: str) -> None:
    page = (EXAMPLES / name).with_suffix(".md")
    assert f"]({name})" in page.read_text()
    assert page.name in (EXAMPLES / name).read_text()


def passages(script: str, length: int) -> Iterator[str]:
    """All passages of so many lines, moved to the left."""
    lines = script.splitlines()
    return (dedent("\n".join(lines[first : first + length])) for first in range(len(lines) - length + 1))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_sql_on_a_page_is_a_passage_of_its_script(name: str) -> None:
    script = (EXAMPLES / name).read_text()
    blocks = re.findall(
        r"^```sql\n(.*?)\n```$", (EXAMPLES / name).with_suffix(".md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert blocks
    for block in blocks:
        assert block in passages(script, block.count("\n") + 1), block


def test_pages_have_no_other_blocks_than_sql() -> None:
    for page in EXAMPLES.glob("*.md"):
        assert set(re.findall(r"^```(.+)$", page.read_text(), re.MULTILINE)) == {"sql"}, page.name


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs_as_it_stands_and_runs_again(database: Database, tmp_path: Path, name: str) -> None:
    database.engine(tmp_path).start()
    for _ in range(2):
        assert psql(database, EXAMPLES / name) == PRINTED[name]
