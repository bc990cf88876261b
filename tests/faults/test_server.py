"""The server itself crashes, stops, or goes away for a while: the engine waits, and goes on within two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.faults.harness import NOISE, Fault, fault, times
from tests.servers import ENGINE_ROLE, Cluster, Database, wait_until
from tests.workflows import world

GOES_ON_SECONDS = 2.0
"""From the server's readiness until work goes on."""
COMMITTED = "select count(*) from public.canary"


@pytest.fixture(scope="module")
def durable() -> Iterator[Cluster]:
    """A server that may be crashed: with fsync, and nobody else's."""
    cluster = Cluster(18, {"fsync": "on", "full_page_writes": "on"}).start()
    yield cluster
    cluster.close()


@pytest.fixture
def database(durable: Cluster) -> Iterator[Database]:
    made = durable.database()
    yield made
    made.drop()


@pytest.mark.timeout(1200)
def test_a_server_that_crashes_under_load_loses_nothing_and_doubles_nothing(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    server = database.cluster.server
    with world(database, engine) as here, fault("PostgreSQL crashes (stop -m immediate)", here) as seen:
        for _ in range(times(3, 50)):
            seen.load.start()
            server.stop("immediate")
            server.start()
            assert seen.goes_on(time.monotonic()) < NOISE * GOES_ON_SECONDS
        assert engine.returncode is None


@pytest.mark.timeout(1200)
def test_a_server_that_loses_what_was_committed_asynchronously_doubles_nothing(
    database: Database, tmp_path: Path
) -> None:
    """Steps are lost with their records, and run again. A checkpoint may be lost that the slot was confirmed after."""
    for role in ("alice", ENGINE_ROLE):
        database.run(f"alter role {role} in database {database.name} set synchronous_commit = off")
    engine = database.engine(tmp_path, log_level="info").start()
    server = database.cluster.server
    acknowledged = 0
    with (
        world(database, engine) as here,
        fault("PostgreSQL crashes, synchronous_commit = off", here) as seen,
        ThreadPoolExecutor() as helper,
    ):
        here.run("create table public.canary ()", role="alice")
        for _ in range(times(3, 50)):
            seen.load.start()
            here.run("select pg_logical_emit_message(true, '', '')")  # with this commit, the starts are on disk
            before = here.value(COMMITTED)
            beside = helper.submit(commits_until_the_end, database)
            wait_until(lambda: here.value(COMMITTED) > before)  # noqa: B023
            server.stop("immediate")
            server.start()
            acknowledged += beside.result()
            assert seen.goes_on(time.monotonic()) < NOISE * GOES_ON_SECONDS
        assert engine.returncode is None
        assert here.value(COMMITTED) < acknowledged, "the crashes lost nothing"


@pytest.mark.timeout(600)
def test_a_server_that_stops_fast_is_not_held_up_by_the_engine_and_work_goes_on_when_it_is_back(
    database: Database, tmp_path: Path
) -> None:
    server = database.cluster.server
    alone = stop_seconds(database.cluster)
    server.start()
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here:
        with fault("PostgreSQL stops (stop -m fast)", here) as seen:
            held = Fault(f"the shutdown itself, which takes {alone:.3f} s without an engine", here, seen.load)
            for _ in range(times(3, 20)):
                seen.load.start()
                seen.load.start()
                assert held.took(stop_seconds(database.cluster)) < alone + NOISE
                server.start()
                assert seen.goes_on(time.monotonic()) < NOISE * GOES_ON_SECONDS
        held.write()
        assert engine.returncode is None


@pytest.mark.timeout(300)
def test_a_server_that_is_away_for_long_finds_the_engine_waiting(database: Database, tmp_path: Path) -> None:
    """However long it was away, the engine does not take much longer to come back."""
    engine = database.engine(tmp_path, log_level="info").start()
    server = database.cluster.server
    with world(database, engine) as here, fault("PostgreSQL is away for a minute", here) as seen:
        for _ in range(times(1, 3)):
            seen.load.start()
            server.stop("fast")
            wait_until(lambda: engine.get("/readyz")[0] == 503)
            assert engine.get("/healthz")[0] == 200
            time.sleep(times(8, 60))  # the fault
            server.start()
            assert seen.goes_on(time.monotonic()) < NOISE * GOES_ON_SECONDS
        assert engine.returncode is None


def commits_until_the_end(database: Database) -> int:
    """How many commits the server acknowledged before it crashed."""
    acknowledged = 0
    with suppress(psycopg.OperationalError), database.connect("alice") as connection:
        while True:
            connection.execute("insert into public.canary select")
            acknowledged += 1
    return acknowledged


def stop_seconds(cluster: Cluster) -> float:
    """Stop the server in good order; returns how long that took."""
    began = time.monotonic()
    cluster.server.stop("fast", timeout_seconds=30)
    return time.monotonic() - began
