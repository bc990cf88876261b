"""One server, one engine and one database for all of them: tests tell their instances apart by id and label."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.conformance.user import User
from tests.servers import Cluster
from tests.workflows import World
from tests.workflows import world as open_world

NUMBERS: Final = itertools.count(1)


@pytest.fixture(scope="session")
def world(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A database with an engine on it, on the newest version."""
    database = server18.database()
    try:
        engine = database.engine(tmp_path_factory.mktemp("engine")).start()
        with open_world(database, engine) as made:
            yield made
    finally:
        database.drop()


@pytest.fixture(scope="session")
def alice(world: World) -> User:
    """An ordinary role with df.grant_usage."""
    return User(world, "alice")


@pytest.fixture(scope="session")
def bob(world: World) -> User:
    """Another one."""
    return User(world, "bob")


@pytest.fixture(scope="session")
def admin(world: World) -> User:
    """The superuser, for what only an administrator may do; it starts no workflows."""
    return User(world, "postgres")


@pytest.fixture
def new_user(world: World) -> Callable[[str], User]:
    """Make a role of one's own, for a test that changes the role itself."""
    return lambda suffix: User(world, world.database.new_role(f"{suffix}{next(NUMBERS)}"))
