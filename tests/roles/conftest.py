"""A database full of roles that do not trust each other. Attacks are rolled back, so one database serves them all.

============ ============================================================================
alice        has an instance, a signal, a cancellation, a release, a completion, a variable
bob          ordinary as well
mallory      ordinary; may create schemas in the database
stranger     logs in and was granted nothing
carol        a member of alice, with her rights
dave         a member of alice without them (NOINHERIT)
team         NOLOGIN, with df; mallory is a member
writer       ordinary, and a member of pg_write_all_data
reader_all   ordinary, and a member of pg_read_all_data
============ ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from engine.embedded import Version, available_versions
from tests.conftest import ClusterFor
from tests.roles.attack import Connection, named
from tests.servers import Cluster, Database, Query

As = Callable[[str], Connection]

ROLES = {
    "mallory": "login",
    "stranger": "login",
    "carol": "login in role alice",
    "dave": "login noinherit in role alice",
    "team": "nologin role mallory",
    "writer": "login in role pg_write_all_data",
    "reader_all": "login in role pg_read_all_data",
}
NEWEST: Version = 18
GRANTED = ("mallory", "carol", "dave", "team", "writer", "reader_all")


class Ground(Database):
    """The database, with what alice has in it. `key` is that of her instance order-42."""

    key: int = 0

    def scalar(self, query: Query, role: str = "postgres") -> object:
        """The first column of the first row."""
        return self.run(query, role=role)[0][0]


def make_ground(cluster: Cluster) -> Ground:
    """A ground on this cluster, its roles included."""
    made = cluster.database()
    ground = Ground(cluster, made.name)
    with ground.connect() as connection:
        for role, attributes in ROLES.items():
            connection.execute(named(f"create role {{}} {attributes}", role))
        for role in GRANTED:
            connection.execute("select df.grant_usage(%s)", [role])
        connection.execute("grant usage, create on schema public to mallory, carol, writer")
        connection.execute(named("grant create on database {} to mallory", ground.name))
    with ground.connect("alice") as connection:
        connection.execute("select df.setvar('password', 'hunter2')")
        connection.execute(
            "insert into df.instances (id, graph, label, input) values ('order-42', 'select 42', 'secret', '{}')"
        )
        connection.execute("select df.signal('order-42', 'go', '{\"pin\": 1234}')")
        connection.execute("insert into df.releases (instance_id) values ('order-42')")
        connection.execute("select df.cancel('order-42', 'changed my mind')")
        ground.key = int(connection.execute("select key from df.instances").fetchall()[0][0])
        connection.execute(
            "insert into df.completions (instance_key, step, attempt, outcome, result) values (%s, '1', 1, 'completed', '7')",
            [ground.key],
        )
    ground.run(
        "insert into df.progress (submitted_by, instance_key, nodes) values ('alice', %s, '[1]')",
        [ground.key],
        role="engine",
    )
    return ground


def remove_ground(ground: Ground) -> None:
    """Drops the database and the roles."""
    ground.drop()
    with ground.cluster.connect() as connection:
        for role in ROLES:
            connection.execute(named("drop role {}", role))


@pytest.fixture(scope="session")
def ground(server18: Cluster) -> Iterator[Ground]:
    """The ground on the newest version."""
    made = make_ground(server18)
    yield made
    remove_ground(made)


@pytest.fixture(scope="session")
def old_ground(clusters: ClusterFor) -> Iterator[Ground]:
    """The ground on the oldest version, which plans, locks and grants differently."""
    oldest = min(available_versions())
    if oldest == NEWEST:
        pytest.skip("there is one version only")
    made = make_ground(clusters(oldest))
    yield made
    remove_ground(made)


@pytest.fixture
def role_named(ground: Ground) -> Iterator[Callable[..., str]]:
    """Makes a role with df and returns its name; it is dropped afterwards, with all that it owns."""
    names: list[str] = []

    def make(name: str, attributes: str = "login", *, granted: bool = True) -> str:
        with ground.connect() as connection:
            connection.execute(named(f"create role {{}} {attributes}", name))
            names.append(name)
            if granted:
                connection.execute("select df.grant_usage(quote_ident(%s)::regrole)", [name])
        return name

    yield make
    with ground.connect() as connection:
        for name in names:
            connection.execute(named("drop owned by {} cascade", name))
            connection.execute(named("drop role {}", name))


@pytest.fixture
def as_role(ground: Ground, role_named: Callable[..., str]) -> Iterator[As]:
    """Connects as a role, in a transaction that is rolled back (before roles are dropped, which would wait for it)."""
    with ExitStack() as stack:

        def connect(role: str) -> Connection:
            connection = ground.connect(role, autocommit=False)
            stack.callback(connection.close)
            stack.callback(connection.rollback)
            return connection

        yield connect
