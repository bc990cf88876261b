"""A database with an engine for all tests of commands that leave it as it was; each test uses ids of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql as pgsql

from tests.cli.commands import Shell
from tests.servers import Cluster
from tests.workflows import World, world


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The database, its engine, and roles: alice and bob; `chief`, who has the rights of both.

    On a server of its own: roles are the whole cluster's, and one with others' rights changes what other tests find.
    """
    cluster = Cluster(18).start()
    try:
        database = cluster.database()
        chief = pgsql.Identifier(database.new_role("chief"))
        database.run(pgsql.SQL("grant alice, bob to {}").format(chief))
        with world(database, database.engine(tmp_path_factory.mktemp("town")).start()) as made:
            yield made
        database.drop()
    finally:
        cluster.close()


@pytest.fixture
def alice(town: World) -> Shell:
    """Alice's shell."""
    return Shell(town.database)


@pytest.fixture
def chief(town: World) -> Shell:
    """The shell of a role that has the rights of alice and of bob."""
    return Shell(town.database, f"{town.database.name}_chief")
