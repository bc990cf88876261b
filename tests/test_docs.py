"""The documents speak of what is there: files, functions and links that they name exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PLACES: Final = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
FILES: Final = sorted(
    str(found.relative_to(ROOT)) for path in PLACES for found in ([path] if path.is_file() else path.rglob("*.*"))
)
DOCUMENTS: Final = [ROOT / name for name in FILES if name.endswith(".md") and not name.startswith("CHANGELOG")]
SOURCES: Final = [path for package in ("cdc", "engine", "metrics", "sql") for path in (ROOT / package).rglob("*.*")]
PYTHON: Final = "\n".join(path.read_text() for path in SOURCES if path.suffix == ".py")
SQL: Final = "\n".join(path.read_text() for path in SOURCES if path.suffix == ".sql")

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
    made = set(re.findall(r'create (?:function|table|sequence) df\."?(\w+)', SQL))
    later = {"explain", "history", "map"}  # the README says what is not there yet
    for name in quoted(document):
        found = re.match(r"df\.(\w+)", name)
        if found and not (document.name == "README.md" and found[1] in later):
            assert found[1] in made, name


@documents
def test_each_class_and_method_that_is_named_is_there(document: Path) -> None:
    for name in quoted(document):
        found = re.fullmatch(r"([A-Z]\w+)\.(\w+)", name)
        if found and found[2] not in ("md", "py"):
            assert re.search(rf"^class {found[1]}\b", PYTHON, re.MULTILINE), name
            assert re.search(rf"\b{found[2]}\b", PYTHON), name
