"""Databases with nothing of walflow in them: this package is about any database's rows."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias, TypeVar

import pytest
import uvloop

from tests.cdc.source import Source
from tests.servers import Cluster

T = TypeVar("T")
Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture
def source(server18: Cluster) -> Iterator[Source]:
    """A fresh database with one published table on the newest server."""
    with Source(server18.server) as made:
        yield made


@pytest.fixture
def each_source(server: Cluster) -> Iterator[Source]:
    """The same on each version: for what differs between versions."""
    with Source(server.server) as made:
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
