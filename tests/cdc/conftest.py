"""Servers with nothing of walflow in them: this package is about any database's rows."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias, TypeVar

import pytest
import uvloop

from engine.embedded import EmbeddedServer, Version, available_versions
from tests.cdc.source import Source
from tests.servers import FAST

T = TypeVar("T")
Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[Version], EmbeddedServer]]:
    """The server of a version, started when first asked for and kept for the session."""
    running: dict[Version, EmbeddedServer] = {}

    def server_for(version: Version) -> EmbeddedServer:
        if version not in running:
            running[version] = EmbeddedServer(version=version, settings=FAST)
            running[version].start()
        return running[version]

    yield server_for
    for server in running.values():
        server.close()


@pytest.fixture
def source(servers: Callable[[Version], EmbeddedServer]) -> Iterator[Source]:
    """A fresh database with one published table on the newest server."""
    with Source(servers(18)) as made:
        yield made


@pytest.fixture(params=available_versions(), ids=lambda version: f"pg{version}")
def each_source(request: pytest.FixtureRequest, servers: Callable[[Version], EmbeddedServer]) -> Iterator[Source]:
    """The same on each version: for what differs between versions."""
    with Source(servers(request.param)) as made:
        yield made


@pytest.fixture
def run() -> Run:
    """Run a coroutine as the engine does."""
    return _runner("uvloop")


@pytest.fixture(params=LOOPS)
def run_on_each_loop(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on asyncio's own loop and on uvloop: for what touches the loop."""
    return _runner(request.param)


def _runner(name: str) -> Run:
    def run(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[name], debug=False) as runner:
            runner.run(test)

    return run
