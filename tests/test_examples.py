"""The examples run as they stand, twice, and end as their comments say."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.psql import psql
from tests.servers import Database

EXAMPLES: Final = Path(__file__).parent.parent / "examples"
ENDS: Final = {
    "order.sql": [
        "1|completed",
        "2|completed",
        "1|lamp|2|shipped|3998|pack 2 x lamp",
        "2|lamp|50|waiting for goods||",
    ],
    "approval.sql": [
        "a new chair|completed",
        "a new car|completed",
        "a new planet|completed",
        "a new chair|approved|maria|f",
        "a new car|rejected|jo|t",
        "a new planet|expired||t",
    ],
    "loop.sql": ["completed", "11|1050|1050", "completed", '{"reached": 5}'],
}


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.sql")} == set(ENDS)


@pytest.mark.parametrize("name", ENDS)
def test_an_example_runs_as_it_stands_and_runs_again(database: Database, tmp_path: Path, name: str) -> None:
    database.engine(tmp_path).start()
    for _ in range(2):
        printed = psql(database, EXAMPLES / name)
        assert printed[-len(ENDS[name]) :] == ENDS[name]
