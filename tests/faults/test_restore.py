"""A dump, taken with work in flight, goes on in another cluster: other OIDs, another system identifier, other transaction ids.

What was done before the dump stays done; what was not is done there, once.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql as pgsql

from engine.embedded import Version, available_versions
from engine.limits import STASH_COMPLETIONS
from tests.conftest import ClusterFor
from tests.faults.harness import Fault, whole
from tests.faults.load import Load
from tests.servers import Cluster, Database, wait_until
from tests.workflows import World, world

VERSIONS = available_versions() if whole() else available_versions()[-1:]
ROLES = ("bob", "somebody", "engine", "reader", "alice")
"""In another order than the cluster of the dump made them, so that one's OID there is another's here."""
FLOOD = """
insert into df.completions (instance_key, step, attempt, outcome, result)
select %s, '8.' || i, 1, 'completed', '{"rows":[],"row_count":0}' from generate_series(1, %s) i
"""


@pytest.fixture(scope="module")
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster that has the roles, and no database yet."""
    version: Version = request.param
    cluster = Cluster(version)
    cluster.server.start()
    with cluster.connect() as admin:
        for role in ROLES:
            query = "create role {} login replication" if role in ("engine", "reader") else "create role {} login"
            admin.execute(pgsql.SQL(query).format(pgsql.Identifier(role)))
    yield cluster
    cluster.close()


@pytest.mark.parametrize("elsewhere", VERSIONS, indirect=True, ids=lambda version: f"pg{version}")
def test_a_dump_with_work_in_flight_goes_on_in_another_cluster(
    elsewhere: Cluster, clusters: ClusterFor, tmp_path: Path
) -> None:
    here_database = clusters(elsewhere.version).database()
    try:
        moves(here_database, elsewhere, tmp_path)
    finally:
        here_database.drop()


def moves(database: Database, elsewhere: Cluster, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here:
        seen = Fault("dump and restore into another cluster", here, Load(here))
        seen.load.start()
        wait_until(lambda: here.value("select count(*) from public.ledger") > 5)
        seen.load.start()
        there_database = restored(database, elsewhere, tmp_path)
        engine.kill()
        began = time.monotonic()
        there_engine = there_database.engine(tmp_path, log_level="info").spawn()
        with world(there_database, there_engine) as there:
            assert oids(there) != oids(here)
            seen.world = seen.load.world = there
            seen.goes_on(began)
            seen.load.start()
            seen.load.check()
            seen.write()
        there_database.drop()


def oids(where: World) -> list[int]:
    return [
        oid
        for (oid,) in where.run("select oid::bigint from pg_roles where rolname in ('alice', 'bob') order by rolname")
    ]


def restored(database: Database, elsewhere: Cluster, tmp_path: Path) -> Database:
    """The database of the same name in another cluster, from a dump of this one."""
    dump = tmp_path / f"{database.name}.dump"
    run(database.cluster, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={database.dsn()}")
    with elsewhere.connect() as admin:
        admin.execute(pgsql.SQL("create database {} template template0").format(pgsql.Identifier(database.name)))
        admin.execute(pgsql.SQL("grant create on database {} to engine").format(pgsql.Identifier(database.name)))
    there = Database(elsewhere, database.name)
    run(elsewhere, "pg_restore", "--exit-on-error", f"--dbname={there.dsn()}", str(dump))
    there.migrate()  # as after every restore: a dump does not hold what was taken from PUBLIC of types
    return there


def run(cluster: Cluster, program: str, *arguments: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [cluster.server.bin_dir / program, *arguments], env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("elsewhere", [18], indirect=True, ids=["pg18"])
def test_a_quarantined_instance_is_released_in_another_cluster(
    elsewhere: Cluster, clusters: ClusterFor, tmp_path: Path
) -> None:
    """What was set aside for it carries transaction ids of the old one."""
    database = clusters(elsewhere.version).database()
    graph = "select df.seq_all(df.wait_for_signal('go'), 'select 1', df.loop('select 2', 'select false'), 'select 3 as last')"
    engine = database.engine(tmp_path, log_level="info").start()
    try:
        with world(database, engine) as here:
            for _ in range(2000):
                here.run("select pg_current_xact_id()")
            here.start(here.build(graph), id="held")
            here.wait_for("held", "running")
            here.run(FLOOD, [here.key("held"), STASH_COMPLETIONS + 5], role="alice")
            wait_until(lambda: here.value("select quarantined from df.instances where id = 'held'"))
            here.run("select df.signal('held', 'go')", role="alice")
            assert here.outcome("select 1").status == "completed"
            wait_until(lambda: here.value("select count(*) from df.inbox where kind = 'signal'"))
            here.run("delete from df.completions where step like '8.%%'")
            there_database = restored(database, elsewhere, tmp_path)
            engine.kill()
        there_engine = there_database.engine(tmp_path, log_level="info").start()
        with world(there_database, there_engine) as there:
            assert there.value("select quarantined is not null from df.instances where id = 'held'")
            there.run("insert into df.releases (instance_id) values ('held')", role="alice")
            wait_until(lambda: there.value("select quarantined is null from df.instances where id = 'held'"))
            assert there.end("held").rows == [{"last": 3}]
        there_database.drop()
    finally:
        database.drop()
