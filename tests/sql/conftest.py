"""One migrated database for all tests that only ask or that roll back what they did, and roles that use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers import Cluster, Database
from tests.sql.asking import Asking


@pytest.fixture(scope="session")
def shared(server18: Cluster) -> Iterator[Database]:
    """A database that is never written to for good."""
    made = server18.database()
    yield made
    made.drop()


@pytest.fixture(scope="session")
def on_every_version(server: Cluster) -> Iterator[Database]:
    """The same, once a version."""
    made = server.database()
    yield made
    made.drop()


@contextmanager
def asking(database: Database, role: str) -> Iterator[Asking]:
    """A role in a transaction that is rolled back."""
    with database.connect(role, autocommit=False) as connection:
        connection.execute("select")  # else the first question would be the transaction, and be committed
        yield Asking(connection)
        connection.rollback()


@pytest.fixture
def alice(shared: Database) -> Iterator[Asking]:
    """Alice in a transaction that is rolled back."""
    with asking(shared, "alice") as asked:
        yield asked


@pytest.fixture
def everywhere(on_every_version: Database) -> Iterator[Asking]:
    """Alice in a transaction that is rolled back, once a version."""
    with asking(on_every_version, "alice") as asked:
        yield asked


@pytest.fixture
def bob(shared: Database) -> Iterator[Asking]:
    """Bob, likewise."""
    with asking(shared, "bob") as asked:
        yield asked
