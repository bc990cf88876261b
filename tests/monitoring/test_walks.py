"""Alerts walked through on a server that is really broken: they see it, the runbook mends it, and says when it is over.

What an alert waits for before it fires (`for`) and thresholds in gigabytes are left to promtool; here its query is asked of a
real Prometheus.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.faults.network import may_make_namespaces, network, reachable_cluster
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.test_rules import ROOT, alerts
from tests.monitoring.test_runbooks import BLOCKS
from tests.psql import psql
from tests.servers import Cluster, Database, EngineProcess, wait_until
from tests.workflows import World, world

ALERTS: Final = {alert["alert"]: alert for alert in alerts()}
PATIENCE: Final = 90.0
"""An engine looks at what the tables say every twenty seconds."""

OUTAGE_SECONDS: Final = 15.0
"""Timers that fall due after three of them are late by more than five."""


class Walk:
    """A leader, a standby and a Prometheus, and what somebody does who is called."""

    def __init__(self, here: World, standby: EngineProcess, prometheus: Prometheus) -> None:
        self.here = here
        self.standby = standby
        self.prometheus = prometheus

    def values(self, alert: str, changed: Mapping[str, str]) -> list[float]:
        """What the alert's query answers. `changed`: with another threshold, or over another time."""
        promql = ALERTS[alert]["expr"]
        for was, now in changed.items():
            assert was in promql
            promql = promql.replace(was, now)
        return self.prometheus.values(promql)

    def sees(self, alert: str, **changed: str) -> None:
        """Wait until the alert's query has an answer."""
        wait_until(lambda: self.values(alert, changed), PATIENCE, f"{alert} is seen")

    def over(self, alert: str, **changed: str) -> None:
        """Wait until the query has no answer, and the runbook's last statement says that all is well."""
        wait_until(lambda: not self.values(alert, changed), PATIENCE, f"{alert} is over")
        wait_until(lambda: self.runbook(alert)[-1] == ["t"], PATIENCE, f"the runbook of {alert} says that it is over")

    def runbook(self, alert: str) -> list[list[str]]:
        """What the statements answer that only look, and the last one."""
        return [psql(self.here.database, block, role="postgres") for block in self._blocks(alert) if not _acts(block)]

    def do(self, alert: str) -> None:
        """What the runbook says to do, in SQL."""
        (block,) = (block for block in self._blocks(alert) if _acts(block))
        psql(self.here.database, block, role="postgres")

    def _blocks(self, alert: str) -> list[str]:
        page: Path = ROOT / ALERTS[alert]["annotations"]["runbook_url"]
        return BLOCKS.findall(page.read_text())


def _acts(block: str) -> bool:
    return bool(re.match(r"select pg_(terminate|drop)|checkpoint|insert", block))


@pytest.fixture
def walk(server18: Cluster, tmp_path: Path) -> Iterator[Walk]:
    database: Database = server18.database()
    try:
        leader = database.engine(tmp_path, step_connections=2).start()
        standby = database.engine(tmp_path, step_connections=2).start(leading=False)
        with world(database, leader) as here, Prometheus(tmp_path, [leader, standby]) as prometheus:
            here.outcome("select 1")
            yield Walk(here, standby, prometheus)
    finally:
        database.drop()


pytestmark = pytest.mark.timeout(400)


def test_a_server_that_is_stopped_and_comes_back(walk: Walk) -> None:
    server = walk.here.database.cluster.server
    sleeps = walk.here.build("select df.sleep(interval '3 s')")
    ids = [walk.here.start(sleeps) for _ in range(20)]
    wait_until(lambda: walk.here.value("select count(*) from df.states") == len(ids))
    stopped = time.monotonic()
    server.stop("immediate")
    try:
        walk.sees("WalflowNoLeader")
        walk.sees("WalflowSlotInactive")
        wait_until(lambda: time.monotonic() > stopped + OUTAGE_SECONDS, PATIENCE)
    finally:
        server.start()
    walk.over("WalflowNoLeader")
    walk.over("WalflowSlotInactive")
    for id in ids:
        walk.here.end(id)
    walk.sees("WalflowTimersLate")
    assert walk.runbook("WalflowTimersLate")[-1] == ["t"]


def test_a_server_s_sender_that_hangs(walk: Walk) -> None:
    sender = walk.here.sender()
    os.kill(sender, signal.SIGSTOP)
    try:
        walk.sees("WalflowLag")
        walk.sees("WalflowHeartbeatMissing", **{"[2m]": "[10s]"})
        assert walk.runbook("WalflowHeartbeatMissing")
        walk.do("WalflowHeartbeatMissing")
    finally:
        os.kill(sender, signal.SIGCONT)
    walk.over("WalflowHeartbeatMissing")
    walk.over("WalflowLag")
    assert walk.here.outcome("select 1").status == "completed"


def test_starts_for_which_there_is_no_connection(walk: Walk) -> None:
    here = walk.here
    with here.database.connect("alice") as gate:
        gate.execute("select pg_advisory_lock(hashtext('walk'))")
        held = [here.start("select pg_advisory_xact_lock_shared(hashtext('walk'))") for _ in range(3)]
        walk.sees("WalflowConnectionsExhausted")
        blocking = "\n".join(line for lines in walk.runbook("WalflowConnectionsExhausted") for line in lines)
        assert f"{{{gate.info.backend_pid}}}" in blocking, "the page names who is in the way"
    for id in held:
        here.end(id)
    walk.over("WalflowConnectionsExhausted", **{"[5m]": "[10s]"})


def test_starts_that_nobody_reads(walk: Walk) -> None:
    """Both engines are frozen, and somebody starts something."""
    here = walk.here
    for engine in (here.engine, walk.standby):
        engine.freeze()
    id = here.start("select 1")
    here.run("update df.instances set recorded_at = now() - interval '2 minutes' where id = %s", [id])
    assert "f" in walk.runbook("WalflowOldestPending")[-1]
    walk.sees("WalflowNoLeader")
    walk.do("WalflowNoLeader")
    for engine in (here.engine, walk.standby):
        engine.thaw()
    here.end(id)
    walk.over("WalflowNoLeader")
    walk.over("WalflowOldestPending")


def test_steps_that_fail_and_an_instance_that_cannot_go_on(walk: Walk) -> None:
    here = walk.here
    here.start("select 1", id="first")
    # Prometheus counts what happens between two scrapes
    wait_until(lambda: here.outcome("select 1/0") and walk.values("WalflowStepsFail", {}), PATIENCE)
    assert any("division by zero" in line for lines in walk.runbook("WalflowStepsFail") for line in lines)

    here.start(here.build("select df.seq(df.wait_for_signal('go'), 'select 1')"), id="bad")
    wait_until(lambda: here.value("select count(*) from df.states") == 1)
    walk.standby.kill()  # so that nobody goes on meanwhile
    here.kill()
    state = here.value("select state from df.states")
    here.run("update df.states set state = left(state, -10)")
    here.run("select df.signal('bad', 'go')", role="alice")
    here.engine.start()
    walk.sees("WalflowQuarantined")
    assert any("not readable" in line for lines in walk.runbook("WalflowQuarantined") for line in lines)
    # mended: an engine reads it again when it starts
    here.kill()
    here.run("update df.states set state = %s", [state])
    here.engine.start()
    walk.do("WalflowQuarantined")
    wait_until(lambda: here.value("select quarantined is null from df.instances where id = 'bad'"))
    here.end("bad")
    walk.over("WalflowQuarantined")


def test_a_transaction_that_is_open_for_long_keeps_the_log(walk: Walk) -> None:
    here = walk.here
    with here.database.connect(autocommit=False) as forgotten:
        forgotten.execute("create table public.forgotten (n int)")
        here.run("create table public.much as select repeat('x', 1000) as x from generate_series(1, 20000)")
        walk.sees("WalflowSlotRetainsTooMuch", **{"5e9": "1e7"})
        said = "\n".join(line for lines in walk.runbook("WalflowSlotRetainsTooMuch") for line in lines)
        assert str(forgotten.info.backend_pid) in said, "the page names who is in the way"
        forgotten.rollback()
    walk.do("WalflowSlotRetainsTooMuch")
    wait_until(lambda: not walk.prometheus.values("max(walflow_slot_retained_wal_bytes) > 1e7"), PATIENCE)


def test_a_slot_that_the_server_gives_up_on(walk: Walk) -> None:
    """The leader is frozen while others write more than the server may keep for it."""
    here = walk.here
    waits = here.start(here.build("select df.wait_for_signal('go')"))
    wait_until(lambda: here.value("select count(*) from df.states") == 1)
    here.run("alter system set max_slot_wal_keep_size = '1MB'")
    here.run("select pg_reload_conf()")
    try:
        here.engine.freeze()
        here.run("create table public.much as select repeat('x', 1000) as x from generate_series(1, 60000)")
        here.run("select pg_switch_wal()")
        walk.sees("WalflowSlotLost")
        assert walk.runbook("WalflowSlotLost")[-1] == ["f"]
        here.run("checkpoint")  # the server's own would come in five minutes
        here.run("select df.signal(%s, 'go')", [waits], role="alice")
        here.end(waits)
        walk.over("WalflowSlotLost")
        assert walk.prometheus.values('sum(walflow_recovered_total{how="scan"}) > 0')
    finally:
        here.engine.kill()
        here.run("alter system reset max_slot_wal_keep_size")
        here.run("select pg_reload_conf()")


def test_an_engine_that_gets_too_little_of_a_processor(walk: Walk) -> None:
    """As the scheduler of a container does that has used up its share: it stands still most of the time."""
    engine = walk.here.engine

    def throttled() -> bool:
        for _ in range(5):
            engine.freeze()
            time.sleep(0.7)
            engine.thaw()
            time.sleep(0.1)
        return bool(walk.values("WalflowEventLoopLag", {"[5m]": "[10s]"}))

    wait_until(throttled, PATIENCE)
    assert walk.here.outcome("select 1").status == "completed"
    walk.over("WalflowEventLoopLag", **{"[5m]": "[10s]"})


@pytest.mark.skipif(not may_make_namespaces(), reason="needs root, iproute2 and nftables")
def test_a_leader_that_is_cut_off_and_does_not_know_it_yet(tmp_path: Path) -> None:
    with reachable_cluster() as cluster, network() as cable:
        database = cluster.database()
        leader = cable.put(database.engine(tmp_path), database).start()
        standby = database.engine(tmp_path).start(leading=False)
        with world(database, standby) as here, Prometheus(tmp_path, [leader, standby]) as prometheus:
            walk = Walk(here, standby, prometheus)
            with cable.cut(cluster.server.port):
                walk.sees("WalflowTwoLeaders")
                stale, leading = sorted(prometheus.values("walflow_epoch"))
                assert stale < leading == here.value("select epoch from df.health")
                assert here.outcome("select 1").status == "completed"
                walk.over("WalflowTwoLeaders")
            assert leader.wait(PATIENCE) == 4, "it is back, and finds itself fenced"
            assert here.value("select fenced from df.health") == 1
        database.drop()


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_walked_through(alert: str) -> None:
    walked = re.findall(r'walk\.(?:sees|values|runbook)\("(\w+)"', Path(__file__).read_text())
    assert alert in walked
