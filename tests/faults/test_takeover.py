"""How long work stands still when the leader goes, and that the one that is replaced changes nothing any more."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from cdc.limits import WAL_SENDER_TIMEOUT_SECONDS
from tests.faults.harness import NOISE, fault, times
from tests.faults.load import KINDS
from tests.faults.trickle import trickle
from tests.servers import Database, EngineProcess, wait_until
from tests.workflows import world

MINUTES = ("loser", "timed")
"""Kinds of the load that have steps of a minute in flight."""
TAKEOVER_SECONDS = 2.0
"""From the slot being free to the first step of the new leader."""


@pytest.mark.timeout(1800)
def test_a_standby_works_soon_after_its_leader_was_killed(database: Database, tmp_path: Path) -> None:
    leader = database.engine(tmp_path, log_level="info").start()
    standby = database.engine(tmp_path, log_level="info")
    chance = random.Random(10)
    with world(database, leader) as here, fault("the leader is killed, a standby takes over", here) as seen:
        for _ in range(times(5, 100)):
            standby.start(leading=False)
            seen.load.start()
            time.sleep(chance.uniform(0, 1))  # the standby looks once a second: at any moment of that
            began = time.monotonic()
            leader.kill()
            seen.goes_on(began)
            seen.load.start()
            leader, standby = standby, leader
            here.engine = leader
    assert max(seen.seconds) < NOISE * TAKEOVER_SECONDS


@pytest.mark.timeout(3600)
def test_a_frozen_leader_is_replaced_and_when_it_thaws_it_changes_nothing_and_is_fenced(
    database: Database, tmp_path: Path
) -> None:
    leader = database.engine(tmp_path).start()
    standby = database.engine(tmp_path)
    with world(database, leader) as here, fault("the leader is frozen, a standby takes over", here) as seen:
        for _ in range(times(3, 10)):
            standby.start(leading=False)
            seen.load.start()
            began = time.monotonic()
            leader.freeze()
            seen.load.start()
            seen.goes_on(began, timeout=2 * WAL_SENDER_TIMEOUT_SECONDS)
            here.engine = standby
            seen.load.check()
            completions = here.run("select count(*), max(recorded_at) from df.completions")
            leader.thaw()
            assert leader.wait() == 4, leader.log()
            assert here.run("select count(*), max(recorded_at) from df.completions") == completions
            assert standby.status()["role"] == "leader"
            leader, standby = standby, leader
    assert max(seen.seconds) < WAL_SENDER_TIMEOUT_SECONDS + NOISE * TAKEOVER_SECONDS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("grace", ["10s", "500ms"])
def test_a_rolling_restart_of_two_engines_stops_no_work_for_long(
    database: Database, tmp_path: Path, grace: str
) -> None:
    """With the usual grace period, and steps that are done soon; and with a short one, and steps that take a minute."""
    kinds = [kind for kind in KINDS if grace == "500ms" or kind not in MINUTES]
    steps = "some steps take a minute" if grace == "500ms" else "short steps"
    engines = [database.engine(tmp_path, grace=grace).start(leading=number == 0) for number in range(2)]
    name = f"two engines are restarted one by one: grace {grace}, {steps}"
    with world(database, engines[0]) as here, fault(name, here) as seen, trickle(here) as trickling:
        for number in range(times(3, 30)):
            stopped, other = engines[number % 2], engines[1 - number % 2]
            seen.load.start(*kinds)
            other.wait_ready(leading=False)
            since = here.value("select clock_timestamp()")
            assert stopped.terminate() == 0, stopped.log()
            here.engine = other
            other.wait_ready()
            assert here.end(seen.load.probe()).status == "completed"
            seen.took(trickling.gap_seconds(since))
            stopped.start(leading=False)
    assert max(seen.seconds) < NOISE * TAKEOVER_SECONDS


def test_engines_that_are_told_to_stop_at_the_same_time_lose_nothing(database: Database, tmp_path: Path) -> None:
    engines: list[EngineProcess] = [database.engine(tmp_path, grace="200ms") for _ in range(2)]
    with world(database, engines[0]) as here, fault("both engines are stopped and started", here) as seen:
        for _ in range(times(3, 20)):
            for engine in engines:
                engine.spawn()
            seen.load.start()
            wait_until(lambda: any(engine.status().get("role") == "leader" for engine in engines))
            wait_until(lambda: all(engine.get("/healthz")[0] == 200 for engine in engines))  # so they hear of signals
            for engine in engines:
                engine.send(signal.SIGTERM)
            seen.load.start()
            assert {engine.wait() for engine in engines} == {0}
        began = time.monotonic()
        engines[0].spawn()
        seen.goes_on(began)
