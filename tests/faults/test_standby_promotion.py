"""The primary is lost and a physical standby promoted: the engine goes on there, with the slot's copy (17 and later) or from the
tables. What the new primary holds is done exactly once; what it never had is not there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.embedded import Version, available_versions
from tests.faults.harness import NOISE, Fault, whole
from tests.faults.load import Load
from tests.faults.replica import FAILOVER_SINCE, SLOT, Replica
from tests.servers import Cluster, Database, EngineProcess, wait_until
from tests.workflows import World, world

VERSIONS = available_versions()


def of(*versions: Version) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pair", versions, indirect=True, ids=lambda version: f"pg{version}")


@dataclass(frozen=True, slots=True)
class Pair:
    """A primary with a database and an engine, and its standby. The engine's connection string names both servers."""

    replica: Replica
    here: World
    there: World

    @property
    def engine(self) -> EngineProcess:
        return self.here.engine


@pytest.fixture
def pair(request: pytest.FixtureRequest, reachable_path: Path, tmp_path: Path) -> Iterator[Pair]:
    version: Version = request.param
    primary = Cluster(version).start()
    replica = Replica(primary, reachable_path)
    try:
        replica.copy()
        replica.server.start()
        database = primary.database()
        engine = database.engine(tmp_path, log_level="info", dsn=both(database, replica)).start()
        with world(database, engine) as here, world(Database(replica, database.name), engine) as there:
            yield Pair(replica, here, there)
        engine.kill()
    finally:
        replica.close()
        primary.close()


def both(database: Database, replica: Replica) -> str:
    """A connection string of the engine's role for whichever of the two is the primary."""
    ports = f"{database.cluster.server.port},{replica.server.port}"
    return database.dsn("engine", host="127.0.0.1,127.0.0.1", port=ports, target_session_attrs="read-write")


@of(*(VERSIONS if whole() else {VERSIONS[0]: None, VERSIONS[-1]: None}))
def test_after_the_promotion_of_a_synchronous_standby_nothing_is_lost(pair: Pair) -> None:
    load = Load(pair.here)
    synchronous(pair, load)
    for _ in range(3):
        load.start()
    goes_on_there(pair, load, "a synchronous standby is promoted")
    log = pair.engine.log()
    if pair.replica.version >= FAILOVER_SINCE:
        assert log.count('"tables scanned"') == 1, "at the very beginning; the standby had a copy of the slot"
        assert '"checkpoint loaded"' in log
    else:
        assert log.count('"tables scanned"') == 2


@of(*(VERSIONS if whole() else VERSIONS[-1:]))
def test_after_the_promotion_of_a_standby_that_was_behind_what_it_has_is_done_once(pair: Pair) -> None:
    load = Load(pair.here)
    load.start()
    load.start()
    pair.replica.caught_up()
    before = pair.here.value("select count(*) from public.ledger")
    pair.replica.cut_off()
    wait_until(lambda: pair.here.value("select count(*) from public.ledger") > before, what="what will be lost is done")
    goes_on_there(pair, load, "a standby that is behind is promoted")


@of(VERSIONS[-1])
def test_an_engine_whose_address_leads_to_a_standby_waits_until_that_is_promoted(pair: Pair, tmp_path: Path) -> None:
    pair.engine.kill()
    pair.replica.caught_up()
    engine = Database(pair.replica, pair.here.database.name).engine(tmp_path, log_level="info").spawn()
    try:
        wait_until(lambda: "is a standby, which takes no writes" in engine.get("/readyz")[1])
        pair.here.database.cluster.server.stop("immediate")
        pair.replica.promote()
        engine.wait_ready()
    finally:
        engine.kill()


def synchronous(pair: Pair, load: Load) -> None:
    """Commits wait for the standby; from 17 on so does the log, of whose slot it has a copy."""
    here, primary = pair.here, pair.here.database.cluster
    here.run(f"alter system set synchronous_standby_names = '{SLOT}'")
    if primary.version >= FAILOVER_SINCE:
        here.run(f"alter system set synchronized_standby_slots = '{SLOT}'")
        wait_until(lambda: copied(pair, load), timeout=60, what="the slot is copied")
    primary.server.reload()
    wait_until(lambda: here.value("select count(*) from pg_stat_replication where sync_state = 'sync'") == 1)


def copied(pair: Pair, load: Load) -> bool:
    """Whether the standby has a copy of the slot. It looks often while the slot moves, and seldom while it does not."""
    pair.here.run("select pg_log_standby_snapshot()")
    pair.here.end(load.probe())
    return pair.replica.synchronises(pair.here.database.slot)


def goes_on_there(pair: Pair, load: Load, name: str) -> None:
    """The primary crashes for good, the standby is promoted: all that was started ends there, exactly once."""
    pair.here.database.cluster.server.stop("immediate")
    pair.replica.promote()
    began = time.monotonic()
    seen = Fault(name, pair.there, load)
    load.world = pair.there
    assert seen.goes_on(began) < NOISE * 2
    load.start()
    load.check()
    assert pair.engine.returncode is None
    seen.write()
