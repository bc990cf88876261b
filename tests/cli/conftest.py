"""A database with an engine for all tests of commands that leave it as it was; each test uses ids of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.commands import Shell
from tests.servers import Cluster
from tests.workflows import World, world


@pytest.fixture(scope="session")
def town(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The database, its engine, and roles: alice and bob; `chief`, who has the rights of both."""
    database = server18.database()
    try:
        chief = database.new_role("chief")
        database.run(f"grant alice, bob to {chief}".encode())  # type: ignore[arg-type]  # a name made here
        with world(database, database.engine(tmp_path_factory.mktemp("town")).start()) as made:
            yield made
    finally:
        database.drop()


@pytest.fixture
def alice(town: World) -> Shell:
    """Alice's shell."""
    return Shell(town.database)


@pytest.fixture
def chief(town: World) -> Shell:
    """The shell of a role that has the rights of alice and of bob."""
    return Shell(town.database, f"{town.database.name}_chief")
