"""The documents speak of what is there: files, functions, tests and links that they name exist, and their SQL answers what
stands below it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.psql import psql_output
from tests.servers import Database

ROOT: Final = Path(__file__).parent.parent
PLACES: Final = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
FILES: Final = sorted(
    str(found.relative_to(ROOT)) for path in PLACES for found in ([path] if path.is_file() else path.rglob("*.*"))
)
DOCUMENTS: Final = [ROOT / name for name in FILES if name.endswith(".md") and not name.startswith("CHANGELOG")]
SOURCES: Final = [path for package in ("cdc", "engine", "metrics", "sql") for path in (ROOT / package).rglob("*.*")]
PYTHON: Final = "\n".join(path.read_text() for path in SOURCES if path.suffix == ".py")
SQL: Final = "\n".join(path.read_text() for path in SOURCES if path.suffix == ".sql")

BLOCKS: Final = re.compile(r"^```sql\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
WITH_ANSWERS: Final = [path for path in DOCUMENTS if path.parent == ROOT / "docs" and "\n```text\n" in path.read_text()]
GUIDES: Final = [path for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs")]
BETWEEN: Final = "-- next block --"

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def quoted(document: Path) -> list[str]:
    """What stands in backticks outside code blocks."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


@documents
def test_each_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


@documents
def test_each_file_that_is_named_is_there(document: Path) -> None:
    for name in quoted(document):
        if re.fullmatch(r"[\w./-]+\.(py|sql|toml|md)", name):
            assert any(path == name or path.endswith(f"/{name}") for path in FILES), name


@documents
def test_each_function_and_table_of_df_that_is_named_is_there(document: Path) -> None:
    made = set(re.findall(r'create (?:function|table|sequence|view) df\."?(\w+)', SQL))
    made |= {"in_workflow", "instance_id"}  # settings
    elsewhere = (
        {"run", "target_database", "debug_connection"} if document.name == "coming-from-pg_durable.md" else set()
    )
    for name in quoted(document):
        found = re.match(r"df\.(\w+)", name)
        if found:
            assert found[1] in made | elsewhere, name


@documents
def test_each_class_and_method_that_is_named_is_there(document: Path) -> None:
    for name in quoted(document):
        found = re.fullmatch(r"([A-Z]\w+)\.(\w+)", name)
        if found and found[2] not in ("md", "py"):
            assert re.search(rf"^class {found[1]}\b", PYTHON, re.MULTILINE), name
            assert re.search(rf"\b{found[2]}\b", PYTHON), name


@documents
def test_each_test_that_is_named_is_there(document: Path) -> None:
    for file, name in re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", document.read_text()):
        assert f"def {name}(" in (ROOT / file).read_text(), name


@documents
def test_each_heading_that_is_linked_to_is_there(document: Path) -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", document.read_text())) <= headings


RUN: Final = {
    "README.md": {"sh", "sql"},  # tests/test_readme.py
    "command-line.md": {"console"},  # tests/cli/test_document.py
    "deployment.md": {"sh"},  # tests/containers/test_deployment.py
    "monitoring.md": {"sql", "yaml"},  # tests/monitoring/test_runbooks.py
    **{path.name: {"sql", "text"} for path in WITH_ANSWERS},
}
"""Languages of the code blocks of each document; a test runs them."""


@pytest.mark.parametrize("document", GUIDES, ids=lambda path: path.name)
def test_every_code_block_is_run_by_a_test(document: Path) -> None:
    """What has no language is a picture, or what a program says."""
    languages = set(re.findall(r"^```(\w+)$", document.read_text(), re.MULTILINE))
    assert languages <= RUN.get(document.name, set())


@pytest.mark.parametrize("document", WITH_ANSWERS, ids=lambda path: path.name)
def test_the_sql_of_a_document_answers_what_stands_below_it(database: Database, tmp_path: Path, document: Path) -> None:
    """One psql session for all blocks. A block without an answer below it may print nothing."""
    database.engine(tmp_path).start()
    blocks = BLOCKS.findall(document.read_text())
    output = psql_output(database, "".join(f"\\echo {BETWEEN}\n{script}" for script, _ in blocks))
    answers = output.split(f"{BETWEEN}\n")[1:]
    assert len(answers) == len(blocks)
    for (script, below), answer in zip(blocks, answers, strict=True):
        assert answer == below, script
