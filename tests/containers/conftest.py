"""Servers and engines in containers, each server on a private network of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from testcontainers.core.network import Network

from engine.embedded import Version
from tests.containers.engine import EngineContainer
from tests.containers.server import OURS, ContainerServer, remove_orphans
from tests.images.build import (
    POSTGRES_IMAGE,
    POSTGRES_VARIABLE,
    PYTHON_VARIABLE,
    ImageError,
    fixed_postgres,
    postgres_image,
    python_image,
    why_no_docker,
)
from tests.servers import Cluster, Database

VERSIONS: tuple[Version, ...] = (18,) if fixed_postgres() else (15, 16, 18)
NewEngine = Callable[..., EngineContainer]


@pytest.fixture(scope="session", autouse=True)
def docker_is_there() -> None:
    """Leave all of it out, loudly, where it is not."""
    if (why := why_no_docker()) is not None:
        pytest.skip(f"containers: {why}")
    try:
        for version in VERSIONS:
            postgres_image(version)
        python_image()
    except ImageError as error:  # of what they are made: neither a registry nor Debian's packages can be reached
        if {POSTGRES_VARIABLE, PYTHON_VARIABLE} & os.environ.keys():
            raise
        pytest.skip(f"containers: {error}")
    remove_orphans()


@contextmanager
def containers(version: Version) -> Iterator[Cluster]:
    """A server in a container, with the usual roles and the database that all others are copies of."""
    with Network(docker_network_kw={"labels": OURS}) as network:
        server = ContainerServer(postgres_image(version), version, network)
        try:
            yield Cluster(version, server=server).start()
        finally:
            server.close()


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda version: f"pg{version}")
def each_container(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each version."""
    with containers(request.param) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def container() -> Iterator[Cluster]:
    """A server of the newest version."""
    with containers(VERSIONS[-1]) as cluster:
        yield cluster


@pytest.fixture
def database(container: Cluster, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh database on the newest version; migrated, unless the test's parameter says `unmigrated`."""
    made = container.database(migrated=getattr(request, "param", "") != "unmigrated")
    yield made
    made.drop()


@pytest.fixture
def each_database(each_container: Cluster, record_property: Callable[[str, object], None]) -> Iterator[Database]:
    """A fresh migrated database on each version."""
    server = each_container.server
    assert isinstance(server, ContainerServer)
    if not fixed_postgres() and server.image != POSTGRES_IMAGE.format(version=server.version):
        record_property("seen", f"PostgreSQL {server.version} ran in an image made here: no registry can be reached")
    made = each_container.database()
    yield made
    made.drop()


@pytest.fixture
def new_engine(tmp_path: Path) -> NewEngine:
    """Makes an engine in a container, not started, for a database on one of these servers."""

    def make(database: Database, **settings: str | int) -> EngineContainer:
        server = database.cluster.server
        assert isinstance(server, ContainerServer)
        return database.adopt(EngineContainer(database, server.network, tmp_path, **settings))

    return make
