"""The server itself crashes, or goes away for a while: the engine waits and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.trail import Load
from tests.servers import Cluster, Database


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


def test_a_server_that_crashes_under_load_loses_nothing_and_doubles_nothing(database: Database, tmp_path: Path) -> None:
    load = Load(database)
    engine = database.engine(tmp_path).start()
    for _ in range(3):
        load.start(3)
        database.cluster.server.restart("immediate")
    load.check()
    assert engine.returncode is None


def test_a_commit_that_is_decoded_before_it_can_be_seen_runs_nothing_until_then(
    database: Database, tmp_path: Path
) -> None:
    """With a synchronous standby that does not answer, a commit is in the log and in nobody's snapshot."""
    engine = database.engine(tmp_path).start()
    database.run("create table seen (n int, of_start bigint)", role="alice")
    cluster = database.cluster
    with cluster.connect() as admin:
        admin.execute("alter system set synchronous_standby_names = 'nobody'")
        admin.execute("select pg_reload_conf()")
    try:
        alice = database.connect("alice")
        query = "insert into seen select 1, count(*) from df.instances where id = 'hidden'"
        alice.pgconn.send_query_params(b"select df.start($1, id => 'hidden')", [query.encode()])
        alice.pgconn.flush()
        heard = "walflow_events_total"
        from tests.servers import wait_until

        wait_until(lambda: (engine.metric(heard, kind="start") or 0) >= 1)  # decoded and folded …
        wait_until(lambda: (engine.metric("walflow_step_wait_seconds_count", kind="sql") or 0) >= 3)  # … and tried
        assert database.run("select count(*) from seen") == [(0,)]
        assert database.run("select count(*) from df.instances") == [(0,)], "the start is in nobody's snapshot"
    finally:
        with cluster.connect() as admin:
            admin.execute("alter system reset synchronous_standby_names")
            admin.execute("select pg_reload_conf()")
    database.run("select df.wait_for_completion('hidden')", role="alice")
    assert database.run("select n, of_start from seen") == [(1, 1)]
    alice.close()
