"""The network between an engine and its server is cut: packets are lost, and no side hears of the other's end."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.limits import CONNECT_TIMEOUT_SECONDS, WAL_SENDER_TIMEOUT_SECONDS
from tests.faults.harness import fault, times
from tests.faults.network import PATHS, Network, may_make_namespaces, network, reachable_cluster
from tests.servers import Cluster, Database, wait_until
from tests.workflows import world

pytestmark = pytest.mark.skipif(not may_make_namespaces(), reason="needs root, iproute2 and nftables")

TAKEOVER_SECONDS = WAL_SENDER_TIMEOUT_SECONDS + 2
NOTICED_SECONDS = WAL_SENDER_TIMEOUT_SECONDS + CONNECT_TIMEOUT_SECONDS
"""Until an engine that is cut off has found every connection dead, and says so."""


@pytest.fixture(scope="module")
def reachable() -> Iterator[Cluster]:
    with reachable_cluster() as cluster:
        yield cluster


@pytest.fixture
def database(reachable: Cluster) -> Iterator[Database]:
    made = reachable.database()
    yield made
    made.drop()


@pytest.fixture
def cable() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.mark.timeout(3600)
def test_a_standby_takes_over_from_a_leader_that_is_cut_off_and_that_one_is_fenced_when_it_is_back(
    database: Database, cable: Network, tmp_path: Path
) -> None:
    standby = database.engine(tmp_path)
    with world(database, standby) as here, fault("the leader is cut off, a standby takes over", here) as seen:
        for _ in range(times(3, 10)):
            leader = cable.put(database.engine(tmp_path), database).start()
            standby.start(leading=False)
            seen.load.start()
            with cable.cut(database.cluster.server.port):
                began = time.monotonic()
                seen.load.start()
                seen.goes_on(began, timeout=2 * TAKEOVER_SECONDS)
                seen.load.start()
            assert leader.wait(2 * NOTICED_SECONDS) == 4, leader.log()
            standby.terminate()
        standby.start()
    assert max(seen.seconds) < 1.2 * TAKEOVER_SECONDS


@pytest.mark.timeout(3600)
def test_an_engine_that_is_cut_off_for_any_time_goes_on_when_the_network_is_back(
    database: Database, cable: Network, tmp_path: Path
) -> None:
    engine = cable.put(database.engine(tmp_path), database).start()
    chance = random.Random(5)
    with world(database, engine) as here, fault("the only engine is cut off for 1 to 35 s", here) as seen:
        for number in range(times(3, 20)):
            seen.load.start()
            with cable.cut(database.cluster.server.port):
                time.sleep((2, 8, 35)[number] if number < 3 else chance.uniform(1, 35))  # the length of the fault
                seen.load.start()
            seen.goes_on(timeout=60)
        assert engine.returncode is None


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", PATHS)
def test_an_engine_that_loses_the_way_of_some_connections_goes_on_when_it_is_back(
    database: Database, cable: Network, tmp_path: Path, path: str
) -> None:
    engine = cable.put(database.engine(tmp_path), database).start()
    with world(database, engine) as here, fault(f"only the way of the {path} connections is cut", here) as seen:
        for _ in range(times(1, 3)):
            seen.load.start()
            with cable.cut(database.cluster.server.port, path):
                seen.load.start()
                time.sleep(NOTICED_SECONDS)  # the length of the fault
            seen.goes_on(timeout=60)
        assert engine.returncode is None


@pytest.mark.timeout(600)
def test_an_engine_that_is_cut_off_says_so_and_stops_when_told_to(
    database: Database, cable: Network, tmp_path: Path
) -> None:
    engine = cable.put(database.engine(tmp_path, grace="1s"), database).start()
    with cable.cut(database.cluster.server.port):
        wait_until(lambda: engine.get("/readyz")[0] == 503, 2 * NOTICED_SECONDS)
        assert engine.get("/healthz")[0] == 200
        assert engine.terminate(2 * CONNECT_TIMEOUT_SECONDS) == 0, engine.log()
