"""A database and an engine for all tests of a module: each test has workflows and tables of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Cluster
from tests.workflows import World, world


def _on(server: Cluster, factory: pytest.TempPathFactory) -> Iterator[World]:
    database = server.database()
    try:
        engine = database.engine(factory.mktemp("engine")).start()
        with world(database, engine) as made:
            yield made
    finally:
        database.drop()


@pytest.fixture(scope="module")
def each(server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On each version: for what the server's own words and ways decide."""
    yield from _on(server, tmp_path_factory)


@pytest.fixture(scope="module")
def one(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On the newest version."""
    yield from _on(server18, tmp_path_factory)
