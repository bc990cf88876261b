"""What a runbook tells somebody to type can be typed: each SQL block of each page, against a server with an engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.monitoring.test_rules import RUNBOOKS
from tests.psql import psql
from tests.servers import Cluster, Database, wait_until
from tests.workflows import world

MONITORING: Final = RUNBOOKS.parents[1] / "docs" / "monitoring.md"
PAGES: Final = sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md")
BLOCKS: Final = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def running(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = server18.database()
    with world(database, database.engine(tmp_path_factory.mktemp("runbooks")).start()) as here:
        here.outcome("select 1")
        here.outcome("select 1/0")
        yield database
    database.drop()


@pytest.mark.parametrize("page", [*PAGES, MONITORING], ids=lambda path: path.stem)
def test_every_statement_of_a_page_runs(running: Database, page: Path) -> None:
    blocks = BLOCKS.findall(page.read_text())
    assert len(blocks) >= 2
    for block in blocks:
        # the one before may have ended the leader's connections: the next leadership begins in the middle of no statement
        wait_until(lambda: running.run("select slot_active from df.health") == [(True,)])
        psql(running, block, role="alice" if block.startswith("insert into df.") else "postgres")


def test_what_an_exporter_is_told_to_ask_has_the_columns_that_it_is_told_of(running: Database) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", MONITORING.read_text(), re.MULTILINE | re.DOTALL)
    asked = yaml.safe_load(block)["walflow_db"]
    with running.connect() as connection:
        cursor = connection.execute(asked["query"])
        assert [column.name for column in cursor.description or ()] == [name for of in asked["metrics"] for name in of]
        assert cursor.fetchone() is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_asks_last_whether_it_is_over(page: Path) -> None:
    over = page.read_text().partition("## It is over when")[2]
    assert BLOCKS.search(over)
