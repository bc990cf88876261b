"""*Retention*: which finished instances may be removed, clause by clause, decided by rows that are written by hand."""

from __future__ import annotations

import threading

import psycopg
import pytest

from tests.servers import PATIENCE_SECONDS, Database, wait_until
from tests.upkeep.shelf import EPOCH, Shelf

# --- what goes --------------------------------------------------------------------------------------------------------


def test_a_finished_instance_goes_with_everything_of_its_own_and_nothing_of_others(each_shelf: Shelf) -> None:
    gone, stays = each_shelf.finished("gone"), each_shelf.finished("stays", days=20)
    each_shelf.wait(gone, stays)
    each_shelf.wait(stays, gone)
    each_shelf.wait(stays, stays, step="7")
    each_shelf.answer(stays, "7")
    before = each_shelf.left(stays)
    assert each_shelf.left(gone).keys() == set(each_shelf.left(stays))
    assert each_shelf.keep() == 1
    assert each_shelf.left(gone) == {}
    assert each_shelf.left(stays) == {**before, "waits": 1}


def test_what_strangers_left_under_its_key_goes_with_it(shelf: Shelf) -> None:
    gone, stays = shelf.finished("gone"), shelf.finished("stays", days=20)
    for key in (gone, stays):
        query = "insert into df.completions (instance_key, step, attempt, outcome) values (%s, '1', 1, 'completed')"
        shelf.database.run(query, [key], "bob")
    assert shelf.keep() == 1
    assert shelf.left(gone) == {}
    assert shelf.left(stays)["completions"] == 3


def test_a_command_that_came_with_its_start_goes_with_it(shelf: Shelf) -> None:
    """Its key was not known yet when its row was written."""
    key = shelf.finished("one")
    shelf.run("update df.signals set instance_key = null")
    assert shelf.keep() == 1
    assert shelf.value("select count(*) from df.signals") == 0
    assert shelf.left(key) == {}


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_it_goes_however_it_ended(shelf: Shelf, status: str) -> None:
    shelf.finish(shelf.start("one"), status=status)
    assert shelf.keep() == 1


@pytest.mark.parametrize("status", ["pending", "running"])
def test_one_that_has_not_ended_stays(shelf: Shelf, status: str) -> None:
    key = shelf.start("one")
    shelf.finish(key, status=status)
    look = shelf.look()
    assert look.keys == []
    shelf.confirm()
    assert shelf.remove(look, keys=[key]).count == 0


def test_one_that_ended_a_moment_ago_stays_however_old_it_is(shelf: Shelf) -> None:
    key = shelf.finished("one")
    shelf.run("update df.instances set finished_at = now() where key = %s", [key])
    assert shelf.keep() == 0


def test_who_asks_for_it_by_name_gets_it_removed_no_earlier(shelf: Shelf) -> None:
    key = shelf.finished("one", days=20)
    look = shelf.look()
    shelf.confirm()
    assert shelf.remove(look, keys=[key]).count == 0
    assert shelf.remove(look, keys=[key], older_than="10 days").count == 1


# --- what keeps it ----------------------------------------------------------------------------------------------------

UNFINISHED_WAITER = """
    insert into df.waits (instance_key, owner, waiter_key, waiter_step, folded)
    values (%(key)s, %(owner)s, %(other)s, '9', true)
"""
KEPT = {
    "it is quarantined": (
        "update df.instances set quarantined = 'why' where key = %(key)s",
        "update df.instances set quarantined = null where key = %(key)s",
    ),
    "a state of it is stored": (
        "insert into df.states (instance_key, version, state) values (%(key)s, 1, '{}')",
        "delete from df.states where instance_key = %(key)s",
    ),
    "its parent is quarantined": (
        "update df.instances set quarantined = case key when %(other)s then 'why' end, "
        "parent_key = case key when %(key)s then %(other)s::bigint end where key in (%(key)s, %(other)s)",
        "update df.instances set quarantined = null",
    ),
    "what its parent was told waits in the inbox": (
        "with p as (update df.instances set parent_key = %(other)s where key = %(key)s) "
        "insert into df.inbox values (%(other)s, '0/1', 1, 'completion', '[0, \"2\", 1]', now(), '3')",
        "delete from df.inbox where instance_key = %(other)s",
    ),
    "somebody began to wait for it": (
        "insert into df.waits (instance_key, owner, waiter_key, waiter_step) values (%(key)s, %(owner)s, %(other)s, '9')",
        "delete from df.waits where instance_key = %(key)s",
    ),
    "somebody who waits for it is not answered": (
        UNFINISHED_WAITER,
        "insert into df.completions (run_as, instance_key, step, attempt, outcome) values (0, %(other)s, '9', 1, 'completed')",
    ),
    "the wait of somebody who has ended is not marked": (
        "with o as (update df.instances set status = 'cancelled' where key = %(other)s) "
        "insert into df.waits (instance_key, owner, waiter_key, waiter_step) values (%(key)s, %(owner)s, %(other)s, '9')",
        "update df.waits set folded = true",
    ),
    "a wait of its own is not marked": (
        "insert into df.waits (instance_key, owner, waiter_key, waiter_step) values (%(other)s, %(owner)s, %(key)s, '9')",
        "update df.waits set folded = true",
    ),
    **{
        f"one of its {table} is not marked": (
            f"update df.{table} set folded = false where instance_key = %(key)s",
            f"update df.{table} set folded = true",
        )
        for table in ("signals", "cancellations", "releases")
    },
}


@pytest.mark.parametrize("why", KEPT)
def test_it_is_kept_as_long_as(shelf: Shelf, why: str) -> None:
    key, other = shelf.finished("one"), shelf.start("other")
    given = {"key": key, "other": other, "owner": shelf.value("select 'alice'::regrole::oid")}
    keeps, lets_go = KEPT[why]
    shelf.run(keeps, given)
    before = shelf.left(key)
    assert shelf.keep() == 0
    assert shelf.left(key) == before
    shelf.run(lets_go, given)
    assert shelf.keep() == 1


def test_a_waiter_that_has_ended_keeps_nothing(shelf: Shelf) -> None:
    key, other = shelf.finished("one"), shelf.start("other")
    shelf.wait(key, other)
    shelf.finish(other, days=0, status="cancelled")
    assert shelf.keep() == 1


def test_children_of_a_parent_that_runs_go_and_so_does_the_parent_of_a_child_that_runs(shelf: Shelf) -> None:
    parent, child = shelf.start("parent"), shelf.finished("child")
    orphan, ended = shelf.start("orphan"), shelf.finished("ended")
    shelf.run("update df.instances set parent_key = %s where key = %s", [parent, child])
    shelf.run("update df.instances set parent_key = %s where key = %s", [ended, orphan])
    assert shelf.keep() == 2
    assert shelf.run("select id from df.instances order by id") == [("orphan",), ("parent",)]


# --- the confirmed position -------------------------------------------------------------------------------------------


def test_nothing_goes_before_a_checkpoint_has_passed_what_was_seen(shelf: Shelf) -> None:
    """What its parent is told is a row above that position, and may not be folded."""
    key = shelf.finished("one")
    look = shelf.look()
    assert look.keys == [key]
    assert shelf.remove(look).count is None
    # the server was told, but no checkpoint of that is stored
    shelf.run("create table public.t ()")
    shelf.run("select pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", [shelf.database.slot])
    assert shelf.remove(look).count is None
    shelf.run("update df.checkpoint set lsn = pg_current_wal_insert_lsn()")
    assert shelf.remove(look).count == 1


def test_nothing_goes_before_the_server_was_told_of_the_checkpoint(shelf: Shelf) -> None:
    shelf.finished("one")
    look = shelf.look()
    shelf.run("update df.checkpoint set lsn = pg_current_wal_insert_lsn()")
    assert shelf.remove(look).count is None


@pytest.mark.parametrize(
    "change", ["scanning = true", "slot_name = 'another'", "slot_name = null"], ids=["scan", "another slot", "no slot"]
)
def test_nothing_goes_while_the_position_means_nothing(shelf: Shelf, change: str) -> None:
    shelf.finished("one")
    look = shelf.look()
    shelf.confirm()
    another = f"{shelf.database.slot}_another"
    shelf.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [another])
    shelf.run(f"update df.checkpoint set {change.replace('another', another)}")
    assert shelf.remove(look).count is None


def test_an_engine_that_does_not_lead_removes_nothing(shelf: Shelf) -> None:
    key = shelf.finished("one")
    look = shelf.look()
    shelf.confirm()
    with pytest.raises(psycopg.errors.DatabaseError) as caught:
        shelf.remove(look, epoch=EPOCH - 1)
    assert caught.value.sqlstate == "DF001"
    assert shelf.left(key)["instances"] == 1


# --- backends that may still be at work ---------------------------------------------------------------------------------


def backend(database: Database, role: str, name: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(database.dsn(role), autocommit=True, application_name=name)


def test_a_step_connection_that_the_engine_does_not_know_of_keeps_its_roles_instances(each_shelf: Shelf) -> None:
    """Of an earlier engine, or closed by this one and not yet by the server: it may hold a statement that has not begun."""
    shelf = each_shelf
    alices, bobs = shelf.finished("a"), shelf.finished("b", role="bob")
    with backend(shelf.database, "alice", "walflow") as old:
        look = shelf.look()
        assert look.backends == [old.info.backend_pid]
        shelf.confirm()
        removed = shelf.remove(look)
        assert (removed.count, removed.busy) == (1, [alices])
        assert shelf.left(bobs) == {}
        assert shelf.remove(look, known=[old.info.backend_pid]).busy == []
    assert shelf.left(alices) == {}


def test_a_step_connection_that_was_opened_since_the_look_keeps_nothing(shelf: Shelf) -> None:
    """A role whose steps fail all the time has connections opened and closed all the time."""
    shelf.finished("one")
    look = shelf.look()
    shelf.run("select pg_current_xact_id()")
    shelf.confirm()
    with backend(shelf.database, "alice", "walflow"):
        assert shelf.remove(look).count == 1


def test_an_old_transaction_of_the_role_keeps_its_instances_whatever_it_calls_itself(each_shelf: Shelf) -> None:
    shelf = each_shelf
    key = shelf.finished("one")
    with backend(shelf.database, "alice", "renamed") as old:
        old.execute("begin isolation level repeatable read")
        old.execute("select 1 from df.epoch")
        look = shelf.look()
        shelf.confirm()
        assert shelf.remove(look).busy == [key]
        old.execute("rollback")
        assert shelf.remove(look).count == 1


def test_a_statement_under_way_keeps_the_roles_instances(shelf: Shelf) -> None:
    key = shelf.finished("one")
    with backend(shelf.database, "alice", "renamed") as old:
        waiting = threading.Thread(target=lambda: old.execute("select pg_advisory_lock(42)"))
        shelf.run("select pg_advisory_lock(42)")
        waiting.start()
        wait_until(lambda: shelf.run("select 1 from pg_locks where locktype = 'advisory' and not granted"))
        look = shelf.look()
        shelf.confirm()
        assert shelf.remove(look).busy == [key]
        shelf.run("select pg_advisory_unlock(42)")
        waiting.join()
        assert shelf.remove(look).count == 1


def test_sessions_of_users_that_began_later_or_do_nothing_keep_nothing(shelf: Shelf) -> None:
    shelf.finished("one")
    look = shelf.look()
    shelf.confirm()
    with backend(shelf.database, "alice", "psql") as idle, backend(shelf.database, "alice", "psql") as later:
        idle.execute("select 1")
        shelf.run("select pg_current_xact_id()")  # as any transaction that writes: the next id is another
        later.execute("begin isolation level repeatable read")
        later.execute("select 1 from df.epoch")
        assert shelf.remove(look).count == 1


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_removal_takes_so_many_rows_and_goes_on_where_it_stopped(shelf: Shelf) -> None:
    keys = [shelf.finished(f"i{number}") for number in range(3)]
    shelf.run(
        "insert into df.completions (run_as, instance_key, step, attempt, outcome) "
        "select 0, %s, '2.' || n, 1, 'completed' from generate_series(1, 50) as n",
        [keys[0]],
    )
    look = shelf.look()
    shelf.confirm()
    total = (
        "select sum(n_live) from ("
        + " union all ".join(
            f"select count(*) as n_live from df.{table}"
            for table in ("signals", "cancellations", "releases", "waits", "completions")
        )
        + ") as counts"
    )
    left, rest, calls, gone = int(shelf.value(total)), list(look.keys), 0, 0
    while rest:
        removed = shelf.remove(look, keys=rest, rows=10)
        now = int(shelf.value(total))
        assert left - now <= 10
        assert removed.count is not None
        left, rest, calls, gone = now, removed.rest, calls + 1, gone + removed.count
    assert (left, gone) == (0, 3)
    assert calls > 5
    assert [shelf.left(key) for key in keys] == [{}, {}, {}]


def test_a_removal_that_is_broken_off_leaves_what_the_next_one_removes(shelf: Shelf) -> None:
    keys = [shelf.finished(f"i{number}") for number in range(3)]
    before = [shelf.left(key) for key in keys]
    look = shelf.look()
    shelf.confirm()
    with shelf.database.connect("engine", autocommit=False) as dying:
        dying.execute("select df.remove_finished(%s, %s, %s, %s::pg_lsn, %s::xid8, '1 day', '{}', '{}', 1000)",
                      [EPOCH, shelf.database.slot, keys, look.seen, look.xid])  # fmt: skip
        shelf.run("select pg_terminate_backend(%s)", [dying.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            dying.execute("select 1")
    assert [shelf.left(key) for key in keys] == before
    # one that stopped between two batches
    shelf.remove(look, rows=4)
    assert any(shelf.left(key) != was for key, was in zip(keys, before, strict=True))
    while shelf.keep():
        pass
    assert [shelf.left(key) for key in keys] == [{}, {}, {}]


def test_what_somebody_holds_is_passed_over(shelf: Shelf) -> None:
    held, free = shelf.finished("held"), shelf.finished("free")
    look = shelf.look()
    shelf.confirm()
    with shelf.database.connect(autocommit=False) as other:
        other.execute("select from df.instances where key = %s for key share", [held])
        assert shelf.remove(look).count == 1
    assert (shelf.left(free), shelf.left(held)["instances"]) == ({}, 1)


def test_a_wait_that_begins_while_the_instance_is_removed_finds_no_instance(shelf: Shelf) -> None:
    key, waiter = shelf.finished("one"), shelf.start("waiter")
    look = shelf.look()
    shelf.confirm()
    missing: list[object] = []

    def begin() -> None:
        rows = f'[{{"ordinal": 0, "key": {waiter}, "step": "1", "instance_id": "one", "xids": []}}]'
        with shelf.database.connect("engine") as engine:
            missing.extend(engine.execute("select missing from df.begin_waits(1, %s)", [rows]).fetchone() or ())

    with shelf.database.connect("engine", autocommit=False) as remover:
        remover.execute("select df.remove_finished(%s, %s, %s, %s::pg_lsn, %s::xid8, '1 day', '{}', '{}', 1000)",
                        [EPOCH, shelf.database.slot, [key], look.seen, look.xid])  # fmt: skip
        beginning = threading.Thread(target=begin)
        beginning.start()
        wait_until(lambda: shelf.run("select 1 from pg_locks where not granted"))
        remover.commit()
    beginning.join(PATIENCE_SECONDS)
    assert missing == [[0]]
    assert shelf.value("select count(*) from df.waits") == 0


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_pass_goes_on_where_it_stopped_and_ends_at_those_that_are_too_young(shelf: Shelf) -> None:
    old = [shelf.finished(f"old{number}") for number in range(5)]
    running = shelf.start("running")
    shelf.run("update df.instances set recorded_at = now() - interval '40 days' where key = %s", [running])
    young = shelf.finished("young", days=1)
    first = shelf.look(looks=3)
    assert (first.keys, first.after, first.ended) == (old[:3], old[2], False)
    second = shelf.look(after=first.after, looks=3)
    assert (second.keys, second.after, second.ended) == (old[3:], running, False)
    third = shelf.look(after=second.after, looks=3)
    assert (third.keys, third.after, third.ended) == ([], running, True)
    assert shelf.look(after=running, looks=1).ended
    assert shelf.look(after=young).ended


def test_a_pass_goes_past_what_was_started_while_the_clock_was_wrong(shelf: Shelf) -> None:
    for number in range(3):
        shelf.finished(f"ahead{number}", days=-4000)
    old = shelf.finished("old")
    look = shelf.look(looks=2)
    assert (look.keys, look.ended) == ([], False)
    look = shelf.look(after=look.after, looks=2)
    assert look.keys == [old]
    # one that is only out of order by a little
    late, last = shelf.finished("late", days=1), shelf.finished("last")
    assert shelf.look(after=old).keys == [last]
    assert shelf.look(after=old).after == last
    assert late < last


def test_a_look_reads_few_pages_however_many_instances_there_are(shelf: Shelf) -> None:
    shelf.database.run("insert into df.instances (graph) select 'select 1' from generate_series(1, 5000)", role="alice")
    shelf.run("update df.instances set status = 'completed', finished_at = now()")
    pages = "select sum(heap_blks_hit + heap_blks_read) from pg_statio_user_tables where relname = 'instances'"
    shelf.run("select pg_stat_force_next_flush()")
    before = shelf.value(pages)
    assert shelf.look(looks=10).ended
    shelf.run("select pg_stat_force_next_flush()")
    assert 1 <= shelf.value(pages) - before <= 20


def test_a_removal_reads_no_table_from_one_end_to_the_other(each_shelf: Shelf) -> None:
    shelf = each_shelf
    shelf.database.run("insert into df.instances (graph) select 'select 1' from generate_series(1, 3000)", role="alice")
    shelf.run(
        "insert into df.completions (run_as, instance_key, step, attempt, outcome) "
        "select submitter, key, n::text, 1, 'completed' from df.instances cross join generate_series(1, 3) as n"
    )
    shelf.run("update df.instances set status = 'completed', recorded_at = '2001-01-01', finished_at = '2001-01-01'")
    look = shelf.look(looks=100)
    shelf.confirm()
    pages = """
        select sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)
          from pg_statio_user_tables where relname in ('instances', 'completions')
    """
    shelf.run("select pg_stat_force_next_flush()")
    before = shelf.value(pages)
    assert shelf.remove(look).count == 100
    shelf.run("select pg_stat_force_next_flush()")
    assert shelf.value(pages) - before < 100 * 60


# --- an id again --------------------------------------------------------------------------------------------------------


def test_an_id_used_again_is_another_workflow_with_a_history_of_its_own(shelf: Shelf) -> None:
    first = shelf.finished("again")
    assert shelf.keep() == 1
    second = shelf.start("again")
    assert second != first
    history = shelf.database.run("select event from df.history('again') order by number", role="alice")
    assert history == [("started",)]
    assert shelf.database.run("select instance_id, status from df.list_instances()", role="alice") == [
        ("again", "pending")
    ]
    assert shelf.left(second) == {"instances": 1}


# --- who may ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        "df.find_finished('0', 0, 10)",
        "df.remove_finished(1, 'walflow', '{}', '0/0', '3', '0', '{}', '{}', 10)",
        "df.find_old_iterations(0, 10, 10)",
        "df.remove_old_iterations(1, 'walflow', 1, '{}', '0/0', '3', '{}', '{}')",
        "df.roles_at_work('3', '{}', '{}')",
        "df.step_backends()",
        "df.is_confirmed('walflow', '0/0')",
        "df.steps_named('')",
        "df.steps_of_old_iterations(1, '', 1, 1)",
    ],
)
def test_no_user_can_call_it(database: Database, call: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.run(f"select {call}".encode(), role="alice")  # type: ignore[arg-type]
    database.run(f"select {call}".encode() if "remove" not in call else b"select 1", role="engine")  # type: ignore[arg-type]


def test_the_engine_needs_no_more_than_to_own_the_schema(shelf: Shelf) -> None:
    shelf.finished("one")
    look = shelf.look()
    shelf.confirm()
    query = b"select removed from df.remove_finished(%s, %s, %s, %s::pg_lsn, %s::xid8, '30 days', '{}', '{}', 1000)"
    parameters = [EPOCH, shelf.database.slot, look.keys, look.seen, look.xid]
    assert shelf.database.run(query, parameters, "engine") == [(1,)]  # type: ignore[arg-type]
