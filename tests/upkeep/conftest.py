"""A shelf for each test, on the newest version or on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers import Database
from tests.upkeep.shelf import Shelf


@contextmanager
def _on(database: Database) -> Iterator[Shelf]:
    made = Shelf(database)
    try:
        yield made
    finally:
        made.connection.close()


@pytest.fixture
def shelf(database: Database) -> Iterator[Shelf]:
    """On the newest version."""
    with _on(database) as made:
        yield made


@pytest.fixture
def each_shelf(each_database: Database) -> Iterator[Shelf]:
    """On each version."""
    with _on(each_database) as made:
        yield made
