"""Retention with an engine: what is over goes by itself, and nothing that is not over is lost or doubled by it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from cdc.lsn import Lsn
from engine.errors import Fenced
from engine.log import FIELDS_ATTRIBUTE
from engine.upkeep import LEAST_REST, LOOK_SECONDS, REST, Leader, Upkeep
from metrics.collect import Metrics
from tests.faults.load import KINDS, Load
from tests.servers import Database, wait_until
from tests.upkeep.shelf import EPOCH, TABLES, Shelf
from tests.workflows import World, world

MIXED = tuple(kind for kind in KINDS if kind != "waiter")
"""A waiter looks for its instance by id, and one that was removed is not found."""
PATIENCE = 60.0


def heartbeat(here: World) -> None:
    """An idle leader's next heartbeat may be twenty seconds away, and until then no checkpoint passes anything."""
    here.run("insert into df.heartbeats (epoch) select epoch from df.epoch")


def wait_gone(here: World, ids: str = "%") -> None:
    def gone() -> bool:
        heartbeat(here)
        return not here.run("select 1 from df.instances where id like %s", [ids])

    wait_until(gone, PATIENCE, f"{ids} is removed")


def left(here: World) -> dict[str, int]:
    counts = {table: here.value(f"select count(*) from df.{table}") for table in TABLES}
    return {table: count for table, count in counts.items() if count}


def test_every_kind_of_workflow_is_removed_and_nothing_of_it_is_left_behind(
    each_database: Database, tmp_path: Path
) -> None:
    """Removed only when all are over: a waiter that a loaded machine delays would look for what has gone."""
    engine = each_database.engine(tmp_path, retention="0").start()
    with world(each_database, engine) as here:
        load = Load(here)
        load.start()
        load.start()
        load.check()
        engine.terminate()
        engine.settings["retention"] = "1s"
        engine.start()
        wait_gone(here)
        assert left(here) == {}
        total = here.value("select completed_instances from df.metrics()")
        assert total >= 2 * len(KINDS)
        assert engine.metric("walflow_removed_total", what="instance") == total
        wait_until(lambda: any(event["message"] == "finished instances removed" for event in engine.events()))


def test_a_retention_of_zero_keeps_everything(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, retention="0").start()
    with world(database, engine) as here:
        id = here.start("select 1")
        here.end(id)
        here.run("update df.instances set finished_at = '2001-01-01', recorded_at = '2001-01-01'")
        engine.terminate()
        engine.start()
        heartbeat(here)
        here.end(here.start("select 1"))
        assert here.status(id) == "completed"


@pytest.mark.parametrize("admission", [10_000, 10], ids=["all in memory", "most not in memory"])
def test_engines_that_die_while_they_remove_lose_and_double_nothing(
    database: Database, tmp_path: Path, admission: int
) -> None:
    engine = database.engine(tmp_path, retention="500ms", admission=admission)
    with world(database, engine) as here:
        load = Load(here)
        for _ in range(6):
            engine.start()
            load.start(*MIXED)
            before = here.value("select count(*) from df.instances where status = 'completed'")
            wait_until(
                lambda: here.value("select count(*) from df.instances where status = 'completed'") != before  # noqa: B023
            )
            engine.kill()
        engine.start()
        load.check()
        wait_gone(here)
        assert left(here) == {}


def test_a_parent_that_goes_on_for_ever_has_its_children_removed_and_goes_on_once(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path, retention="1s").start()
    with world(database, engine) as here:
        here.run("create table public.done (i int generated always as identity, parent text)", role="alice")
        graph = here.build(
            "select df.loop(df.call_child('insert into public.done (parent) values (''x'')'), "
            "'select count(*) < 300 from public.done', every => '20 milliseconds')"
        )
        id = here.start(graph)
        wait_until(lambda: (engine.metric("walflow_removed_total", what="instance") or 0) >= 20, PATIENCE)
        assert here.status(id) == "running"
        assert here.end(id, PATIENCE).status == "completed"
        assert here.value("select count(*) from public.done") == 300


def test_whoever_waits_for_an_instance_keeps_it_until_he_is_answered(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, retention="300ms").start()
    with world(database, engine) as here:
        here.start(here.build("select df.wait_for_signal('go')"), id="awaited")
        waiter = here.start(here.build("select df.seq(df.await_instance('awaited'), 'select pg_sleep(1)')"))
        wait_until(lambda: here.run("select 1 from df.waits where folded"))
        engine.kill()
        here.run("insert into df.signals (instance_id, name) values ('awaited', 'go')", role="alice")
        engine.start()
        wait_gone(here, "awaited")
        outcome = here.run("select status from df.instances where id = %s", [waiter])
        assert outcome in ([("running",)], [("completed",)], [])
        wait_gone(here)
        assert left(here) == {}


def test_an_instance_is_kept_while_a_backend_that_was_given_up_may_still_run_its_step(
    database: Database, tmp_path: Path
) -> None:
    """The server has not heard of the cancellation; with the key gone, the statement could commit after all."""
    engine = database.engine(tmp_path, retention="300ms").start()
    with world(database, engine) as here:
        role = database.new_role("stopped")
        graph = here.build(
            "select df.race('select pg_advisory_xact_lock(hashtext(''slow'')), pg_sleep(3600)', df.wait_for_signal('go'))"
        )
        here.start(graph, role=role, id="kept")
        (pid,) = wait_until(lambda: here.running("slow"))
        os.kill(pid, signal.SIGSTOP)
        try:
            here.run("insert into df.signals (instance_id, name) values ('kept', 'go')", role=role)
            here.wait_for("kept", "completed")
            here.start("select 1", id="other")
            wait_gone(here, "other")
            assert here.status("kept") == "completed"
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_gone(here, "kept")


def test_a_step_that_runs_for_long_keeps_no_other_instance_of_its_role(database: Database, tmp_path: Path) -> None:
    """The leader knows what runs in its own connections."""
    engine = database.engine(tmp_path, retention="300ms").start()
    with world(database, engine) as here:
        id = here.start("select pg_advisory_xact_lock(hashtext('long')), pg_sleep(3600)")
        wait_until(lambda: here.running("long"))
        here.start("select 1", id="other")
        wait_gone(here, "other")
        assert here.running("long")
        assert here.status(id) == "running"


def test_an_id_that_was_used_is_used_again_by_the_same_role(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, retention="300ms").start()
    with world(database, engine) as here:
        keys = []
        for _ in range(3):
            here.start("select 1", id="again")
            keys.append(here.key("again"))
            wait_gone(here, "again")
        assert len(set(keys)) == 3


# --- upkeep by itself ---------------------------------------------------------------------------------------------------


def upkeep(
    shelf: Shelf, *, epoch: int = EPOCH, durable: int = 1 << 60, retention: timedelta = timedelta(days=30)
) -> Upkeep:
    leader = Leader(epoch=epoch, slot=shelf.database.slot, durable=lambda: Lsn(durable), backends=list)
    return Upkeep(leader, dsn=shelf.database.engine_dsn, retention=retention, metrics=Metrics())


def test_a_look_waits_until_a_checkpoint_has_passed_what_it_saw(shelf: Shelf) -> None:
    key = shelf.finished("one")
    early = upkeep(shelf, durable=0)

    async def look() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(look_and_confirm(early, shelf), 1)

    asyncio.run(look())
    assert shelf.left(key)["instances"] == 1
    shelf.run("create table public.t ()")
    asyncio.run(look_and_confirm(upkeep(shelf), shelf))
    assert shelf.left(key) == {}


def test_a_removal_that_takes_long_says_how_far_it_is(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first one of a table that has grown for a year takes hours."""
    keys = [shelf.finished(name) for name in ("one", "two")]
    monkeypatch.setattr("engine.upkeep.TELL_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "walflow.upkeep"):
        asyncio.run(look_and_confirm(upkeep(shelf), shelf))
    told = [vars(r)[FIELDS_ATTRIBUTE]["progress"] for r in caplog.records if r.message == "removing finished instances"]
    assert told == [f"2 so far, those up to key {max(keys)} looked at"]


async def look_and_confirm(here: Upkeep, shelf: Shelf) -> None:
    looking = asyncio.create_task(here.look())
    try:
        while not looking.done():
            await asyncio.to_thread(shelf.confirm)
            await asyncio.sleep(0.01)
    finally:
        looking.cancel()
    await looking


def test_without_a_retention_a_look_removes_no_instance(shelf: Shelf) -> None:
    key = shelf.finished("one")
    asyncio.run(look_and_confirm(upkeep(shelf, retention=timedelta(0)), shelf))
    assert shelf.left(key)["instances"] == 1


def test_one_look_removes_all_of_an_instance_a_few_rows_at_a_time(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.upkeep.ROWS", 2)
    keys = [shelf.finished(f"i{number}") for number in range(3)]
    asyncio.run(look_and_confirm(upkeep(shelf), shelf))
    assert [shelf.left(key) for key in keys] == [{}, {}, {}]


def test_what_a_backend_kept_is_tried_at_the_next_look_without_another_pass(shelf: Shelf) -> None:
    key = shelf.finished("one")
    here = upkeep(shelf)
    with psycopg.connect(shelf.database.dsn("alice"), application_name="walflow"):
        asyncio.run(look_and_confirm(here, shelf))
        assert shelf.left(key)["instances"] == 1
    asyncio.run(look_and_confirm(here, shelf))
    assert shelf.left(key) == {}


def test_another_leaders_epoch_ends_it(shelf: Shelf) -> None:
    shelf.finished("one")
    here = upkeep(shelf, epoch=EPOCH + 1)

    async def run() -> None:
        running = asyncio.create_task(here.run())
        while not running.done():
            await asyncio.to_thread(shelf.confirm)
            await asyncio.sleep(0.01)
        await running

    with pytest.raises(Fenced):
        asyncio.run(run())


def test_what_fails_is_told_and_tried_again(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    key = shelf.finished("one")
    shelf.run("alter function df.find_finished rename to hidden")
    here = upkeep(shelf, retention=timedelta(seconds=1))

    async def run() -> None:
        running = asyncio.create_task(here.run())
        while not caplog.messages:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(shelf.run, "alter function df.hidden rename to find_finished")
        while await asyncio.to_thread(shelf.left, key):
            await asyncio.to_thread(shelf.confirm)
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert caplog.messages == ["upkeep failed and will be tried again"]


@pytest.mark.parametrize(
    ("retention", "seconds"),
    [(timedelta(days=30), LOOK_SECONDS), (timedelta(0), LOOK_SECONDS), (timedelta(minutes=1), 2.5)],
)
def test_it_looks_every_few_minutes_and_more_often_where_retention_is_short(
    shelf: Shelf, retention: timedelta, seconds: float
) -> None:
    assert upkeep(shelf, retention=retention).look_seconds == seconds


def test_the_rest_after_a_batch_is_many_times_as_long_as_the_batch(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        shelf.finished(f"i{number}")
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr("engine.upkeep.INSTANCES", 1)
    monkeypatch.setattr("engine.upkeep.asyncio.sleep", sleep)
    asyncio.run(look_and_confirm(upkeep(shelf), shelf))
    rests = [seconds for seconds in slept if seconds not in (0.01, 0.1)]
    assert len(rests) == 5  # a look, three batches, the loops
    assert min(rests) > 0.005


def test_whoever_falls_behind_rests_less_until_he_has_caught_up(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("engine.upkeep.asyncio.sleep", sleep)
    monkeypatch.setattr("engine.upkeep.time.monotonic", lambda: 1.0)
    here = upkeep(shelf)

    def rest(look_seconds: float) -> float:
        here.keep_up(look_seconds)
        asyncio.run(here._rest(0.0))
        return slept[-1]

    assert [rest(LOOK_SECONDS + 1) for _ in range(4)] == [REST / 2, REST / 4, LEAST_REST, LEAST_REST]
    assert [rest(LOOK_SECONDS - 1) for _ in range(4)] == [2 * LEAST_REST, 4 * LEAST_REST, REST, REST]
