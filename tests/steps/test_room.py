"""More instances than there is room for: they wait as rows, sleep outside the memory, and all of them end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Database, wait_until
from tests.workflows import World, world

ROOM = 20
MANY = 300


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[World]:
    engine = database.engine(tmp_path, admission=str(ROOM)).start()
    with world(database, engine) as made:
        made.run("create table public.done (id text)", role="alice")
        yield made


def start_many(here: World, graph: str, count: int = MANY) -> None:
    here.run(
        "insert into df.instances (id, graph) select 'w' || n, %s from generate_series(1, %s::int) as n",
        [here.build(f"select {graph}"), count],
        role="alice",
    )


def ended(here: World) -> int:
    return int(here.value("select count(*) from df.instances where finished_at is not null"))


def each_once(here: World, count: int = MANY) -> None:
    wait_until(lambda: ended(here) == count, what=f"{count} end")
    assert here.run("select status, count(*) from df.instances group by 1") == [("completed", count)]
    assert here.run("select count(*), count(distinct id) from public.done") == [(count, count)]
    assert here.run("select count(*) from df.inbox") == [(0,)]
    wait_until(lambda: here.run("select count(*) from df.states") == [(0,)])


MARK = "'insert into public.done select ''{sys_instance_id}'''"


def in_memory(here: World) -> int:
    return int(here.engine.status()["instances"])


def test_starts_for_which_there_is_no_room_wait_as_rows_and_each_runs_once(here: World) -> None:
    start_many(here, f"df.seq('select 1', {MARK})")
    each_once(here)


def test_what_waits_for_a_signal_leaves_the_memory_and_comes_back_for_it(here: World) -> None:
    start_many(here, f"df.seq(df.wait_for_signal('go'), {MARK})")
    wait_until(lambda: here.value("select count(*) from df.instances where status = 'running'") == MANY)
    wait_until(lambda: in_memory(here) <= ROOM)
    here.run("insert into df.signals (instance_id, name) select id, 'go' from df.instances", role="alice")
    each_once(here)


def test_a_signal_for_a_start_that_waits_is_not_lost(here: World) -> None:
    here.run(
        "with started as (insert into df.instances (id, graph) select 'w' || n, %s from generate_series(1, %s::int) as n) "
        "insert into df.signals (instance_id, name) select 'w' || n, 'go' from generate_series(1, %s::int) as n",
        [here.build(f"select df.seq(df.wait_for_signal('go'), {MARK})"), MANY, MANY],
        role="alice",
    )
    each_once(here)


def test_parents_make_room_for_their_children(here: World) -> None:
    start_many(here, f"df.seq(df.call_child('select 1'), {MARK})", 100)
    wait_until(lambda: ended(here) == 200)
    assert here.run("select count(*), count(distinct id) from public.done") == [(100, 100)]


def test_sleepers_leave_the_memory_and_wake_in_time(here: World) -> None:
    start_many(here, f"df.seq(df.sleep(14), {MARK})", 100)
    wait_until(lambda: here.value("select count(*) from df.instances where status = 'running'") == 100)
    wait_until(lambda: in_memory(here) <= ROOM)
    assert ended(here) == 0
    each_once(here, 100)
    late = here.value("select max(extract(epoch from finished_at - started_at)) from df.instances")
    assert 14 <= late < 20


def test_a_new_leader_finds_what_sleeps_what_waits_for_room_and_what_was_set_aside(here: World) -> None:
    start_many(here, f"df.seq(df.wait_for_signal('go'), {MARK})")
    wait_until(lambda: here.value("select count(*) from df.states") > ROOM)
    here.engine.kill()
    here.run("insert into df.signals (instance_id, name) select id, 'go' from df.instances", role="alice")
    here.engine.start()
    wait_until(lambda: ended(here) > ROOM)
    here.engine.kill()
    here.engine.start()
    each_once(here)


def test_a_lost_slot_finds_them_too(here: World) -> None:
    start_many(here, f"df.seq(df.wait_for_signal('go'), {MARK})")
    wait_until(lambda: here.value("select count(*) from df.states") > ROOM)
    here.engine.kill()
    wait_until(
        lambda: here.value("select not active from pg_replication_slots where slot_name = %s", [here.database.slot])
    )
    here.run("select pg_drop_replication_slot(%s)", [here.database.slot])
    here.run("insert into df.signals (instance_id, name) select id, 'go' from df.instances", role="alice")
    here.engine.start()
    each_once(here)


def test_a_cancelled_start_that_waits_never_begins_and_one_that_sleeps_ends(here: World) -> None:
    start_many(here, f"df.seq(df.wait_for_signal('go'), {MARK})")
    here.run("insert into df.cancellations (instance_id) select id from df.instances", role="alice")
    wait_until(lambda: ended(here) == MANY)
    assert here.run("select status, count(*) from df.instances group by 1") == [("cancelled", MANY)]
    assert here.run("select count(*) from public.done") == [(0,)]


def test_cancelled_parents_end_though_their_children_wait_for_room(here: World) -> None:
    start_many(here, "df.call_child(df.wait_for_signal('never'))", 100)
    wait_until(lambda: here.value("select count(*) from df.instances") > 100 + ROOM)
    here.run(
        "insert into df.cancellations (instance_id) select id from df.instances where parent_key is null", role="alice"
    )
    wait_until(lambda: here.value("select count(*) from df.instances where finished_at is null") == 0)
    assert here.run("select distinct status from df.instances") == [("cancelled",)]


def test_a_role_that_floods_leaves_room_for_others(here: World) -> None:
    start_many(here, "df.seq('select pg_sleep(0.05)', 'select pg_sleep(0.05)')")
    id = here.start("select 1", role="bob")
    assert here.end(id).status == "completed"
    assert ended(here) < MANY // 2
