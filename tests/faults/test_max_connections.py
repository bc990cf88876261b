"""The server has no connection left: the engine keeps trying, and work goes on when there is room."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.faults.harness import NOISE, fault, times
from tests.servers import Cluster, Database, wait_until
from tests.workflows import World, world

CONNECTIONS: Final = 30
GOES_ON_SECONDS: Final = 2.0
"""From the first free connection on."""
END: Final = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like %s"


@pytest.fixture(scope="module")
def small() -> Iterator[Cluster]:
    """A server with few connections."""
    cluster = Cluster(18, {"max_connections": str(CONNECTIONS)}).start()
    yield cluster
    cluster.close()


@pytest.fixture
def database(small: Cluster) -> Iterator[Database]:
    made = small.database()
    yield made
    made.drop()


@contextmanager
def full(here: World, ending: str = "") -> Iterator[None]:
    """Every connection that an ordinary role may have is taken, for as long as the block lasts; `ending` names whose end."""
    enough = threading.Event()
    with ExitStack() as taken, ThreadPoolExecutor() as pool:
        while take(here, taken) or (ending and here.run(END, [ending])):
            pass
        keeping = pool.submit(keep, here, taken, enough)
        try:
            yield
        finally:
            enough.set()
            keeping.result()


def keep(here: World, taken: ExitStack, enough: threading.Event) -> None:
    """Take what becomes free meanwhile."""
    while not enough.wait(0.01):
        take(here, taken)


def take(here: World, taken: ExitStack) -> bool:
    """Whether there was one more to take."""
    try:
        taken.enter_context(here.database.connect("bob"))
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.timeout(1800)
def test_steps_wait_for_room_when_the_server_has_no_connection_left(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here, fault("max_connections is reached: no step connection", here) as seen:
        here.run("select 1", role="alice")
        for number in range(times(3, 10)):
            with full(here, "walflow"):
                seen.load.start()
                time.sleep(25 if number == 0 else 3)  # the length of the fault: longer than ten tries take
                assert engine.returncode is None
            seen.goes_on(time.monotonic())
    assert max(seen.seconds) < NOISE * GOES_ON_SECONDS, seen.seconds


@pytest.mark.timeout(1800)
def test_an_engine_that_lost_its_connections_to_a_full_server_waits_for_room(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path).start()
    with world(database, engine) as here, fault("max_connections is reached: the engine must reconnect", here) as seen:
        here.run("select 1", role="alice")
        for _ in range(times(3, 20)):
            seen.load.start()
            with full(here, "walflow%"):
                wait_until(lambda: engine.get("/readyz")[0] == 503)
                seen.load.start()
                time.sleep(3)  # the length of the fault
                assert engine.returncode is None, engine.log()
            seen.goes_on(time.monotonic())
    assert max(seen.seconds) < NOISE * GOES_ON_SECONDS, seen.seconds


@pytest.mark.timeout(1800)
def test_a_standby_takes_over_on_a_full_server_as_soon_as_there_is_room(database: Database, tmp_path: Path) -> None:
    engines = [database.engine(tmp_path) for _ in range(2)]
    engines[0].start()
    with world(database, engines[0]) as here, fault("max_connections is reached: a standby takes over", here) as seen:
        here.run("select 1", role="alice")
        for number in range(times(3, 20)):
            leader, standby = engines[number % 2], engines[1 - number % 2]
            standby.start(leading=False)
            seen.load.start()
            here.engine = standby
            with full(here):
                leader.kill()
                with full(here):
                    seen.load.start()
                    time.sleep(3)  # the length of the fault
                    assert standby.returncode is None, standby.log()
            seen.goes_on(time.monotonic())
    assert max(seen.seconds) < NOISE * GOES_ON_SECONDS, seen.seconds


def test_an_engine_that_is_started_on_a_full_server_waits_for_room(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path)
    with world(database, engine) as here:
        here.run("select 1", role="alice")
        with full(here):
            engine.spawn()
            wait_until(lambda: "slots" in engine.get("/readyz")[1] or "clients" in engine.get("/readyz")[1])
            assert engine.returncode is None
        assert here.outcome("select 1").status == "completed"
