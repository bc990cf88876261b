"""Several engines of one database: what each shows, and that queries over all of them tell what is true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics.names import METRICS, Kind, Metric, Scope
from tests.metrics.scraping import Samples, scrape
from tests.servers import Database, EngineProcess, wait_until
from tests.workflows import World, world


@pytest.fixture
def two(database: Database, tmp_path: Path) -> Iterator[tuple[World, EngineProcess]]:
    """A leader and a standby."""
    with world(database, database.engine(tmp_path).start()) as here:
        yield here, database.engine(tmp_path).start(leading=False)


def of(samples: Samples, metric: Metric) -> Samples:
    names = {metric.name, *(f"{metric.name}_{part}" for part in ("bucket", "count", "sum"))}
    return {key: value for key, value in samples.items() if key[0] in names}


def leads_nothing(samples: Samples) -> bool:
    """Whether all that only a leader knows is 0."""
    return all(not any(of(samples, metric).values()) for metric in METRICS if metric.scope is Scope.LEADER)


def test_leader_and_standby_show_the_same_metrics_and_the_same_of_the_database(
    two: tuple[World, EngineProcess],
) -> None:
    here, standby = two
    for number in range(5):
        here.outcome(f"select {number}")
    shared = [metric for metric in METRICS if metric.scope is Scope.DATABASE and "bytes" not in metric.name]

    def agree() -> bool:
        one, other = scrape(here.engine), scrape(standby)
        assert one.keys() == other.keys()
        return all(of(one, metric) == of(other, metric) for metric in shared)

    wait_until(agree)
    assert standby.metric("walflow_slot_active") == 1
    wait_until(lambda: (standby.metric("walflow_slot_retained_wal_bytes") or 0) > 0)


def test_what_only_a_leader_knows_a_standby_shows_as_0(two: tuple[World, EngineProcess]) -> None:
    here, standby = two
    here.outcome("select 1")
    assert leads_nothing(scrape(standby))
    assert not leads_nothing(scrape(here.engine))


def test_sums_over_the_engines_are_what_the_database_says_also_after_a_takeover(
    two: tuple[World, EngineProcess],
) -> None:
    here, standby = two
    engines = [here.engine, standby]

    def total(name: str, **labels: str) -> float:
        return sum(engine.metric(name, **labels) or 0 for engine in engines)

    def agree() -> bool:
        started, completed, failed = here.run(
            "select total_instances, completed_instances, failed_instances from df.metrics()"
        )[0]
        return (
            total("walflow_instances_started_total") == started
            and total("walflow_instances_finished_total", status="completed") == completed
            and total("walflow_instances_finished_total", status="failed") == failed
            and total("walflow_leader") == 1
        )

    for number in range(7):
        here.outcome(f"select {number}")
    here.outcome("select 1/0")
    wait_until(agree)
    # the leader loses its connections and leads again, as nobody else does: its counters go on
    standby.freeze()
    here.end_sender()
    wait_until(lambda: here.value("select epoch from df.epoch") == 2)
    here.outcome("select 1")
    standby.thaw()
    wait_until(agree)
    assert max(engine.metric("walflow_epoch") or 0 for engine in engines) == here.value("select epoch from df.epoch")


def test_the_view_tells_a_watcher_what_the_engines_tell(two: tuple[World, EngineProcess]) -> None:
    here, _ = two
    here.outcome("select 1")
    watcher = here.database.new_role("watcher", granted=False)
    here.run("select df.grant_monitoring(%s::regrole)", [watcher])

    def agree() -> bool:
        shown = scrape(here.engine)
        slot, active, epoch, steps, connections = here.run(
            "select slot::text, slot_active, epoch, step_connections, connections from df.health", role=watcher
        )[0]
        opened = sum(value for (name, _), value in shown.items() if name == "walflow_step_connections")
        return bool(
            slot == here.database.slot
            and active
            and epoch == shown["walflow_epoch", ()]
            and steps == opened == 1
            and connections > steps
        )

    wait_until(agree)


def test_an_engine_that_lost_its_leadership_shows_none_of_it(two: tuple[World, EngineProcess]) -> None:
    here, standby = two
    here.outcome("select 1")
    here.database.cluster.server.stop("immediate")
    try:
        for engine in (here.engine, standby):
            wait_until(lambda engine=engine: engine.get("/readyz")[0] == 503)  # type: ignore[misc]
            wait_until(lambda engine=engine: leads_nothing(scrape(engine)))  # type: ignore[misc]
            assert engine.metric("walflow_slot_active") == 0
    finally:
        here.database.cluster.server.start()
    # whoever led before ends when another one is quicker
    leader = ("walflow_leader", ())
    wait_until(lambda: scrape(here.engine).get(leader, 0) + scrape(standby).get(leader, 0) == 1)


def test_every_scope_is_that_of_its_kind() -> None:
    for metric in METRICS:
        if metric.kind is Kind.GAUGE:
            continue
        assert metric.scope is not Scope.LEADER, f"{metric.name}: a counter of a process goes on when it leads no more"
