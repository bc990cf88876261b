"""Losing the slot loses nothing: when the log cannot be gone on with, and what a takeover leaves of the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import psycopg
import pytest

from cdc.lsn import Lsn
from cdc.slot import SlotState, SystemIdentity
from engine.config import load
from engine.connect import connect
from engine.errors import LeadershipLost, Unfit
from engine.postgres import PostgresHost
from engine.recovery import check_made, make_slot, why_rebuild
from engine.store.postgres import PostgresStore
from engine.store.rows import Checkpoint
from metrics.collect import Metrics
from tests.servers import ENGINE_ROLE, Cluster, Database, wait_until

SYSTEM: Final = SystemIdentity(system_identifier="7", timeline=1, flushed=Lsn(500), database="app")
SLOT: Final = SlotState(
    name="walflow",
    plugin="pgoutput",
    database="app",
    active=False,
    active_pid=None,
    restart_lsn=Lsn(100),
    confirmed_flush_lsn=Lsn(300),
    wal_status="reserved",
    invalidation=None,
)
CHECKPOINT: Final = Checkpoint(
    epoch=3,
    lsn=Lsn(300),
    system_identifier="7",
    slot_name="walflow",
    slot_generation=1,
    scanning=False,
    backlog={},
)


@pytest.mark.parametrize("confirmed", [100, 300], ids=["behind the checkpoint", "at the checkpoint"])
def test_a_slot_that_was_confirmed_no_further_than_the_checkpoint_is_gone_on_with(confirmed: int) -> None:
    slot = replace(SLOT, confirmed_flush_lsn=Lsn(confirmed))
    assert why_rebuild(CHECKPOINT, slot, SYSTEM, "walflow") is None


@pytest.mark.parametrize(
    ("checkpoint", "slot", "system", "why"),
    [
        ({"system_identifier": None}, {}, {}, "there is no checkpoint yet"),
        ({"scanning": True}, {}, {}, "a table scan was not finished"),
        ({}, {}, {"system_identifier": "8"}, "this is another system than the checkpoint's"),
        ({"slot_name": "other"}, {}, {}, "the checkpoint is of slot other"),
        ({}, None, {}, "does not exist"),
        ({}, {"invalidation": "wal_removed"}, {}, "was invalidated: wal_removed"),
        ({}, {"confirmed_flush_lsn": Lsn(301)}, {}, "beyond the checkpoint"),
        ({}, {}, {"flushed": Lsn(299)}, "lies beyond the server's WAL"),
    ],
)
def test_the_tables_are_scanned_when_slot_and_checkpoint_do_not_belong_together(
    checkpoint: dict[str, Any], slot: dict[str, Any] | None, system: dict[str, Any], why: str
) -> None:
    found = None if slot is None else replace(SLOT, **slot)
    said = why_rebuild(replace(CHECKPOINT, **checkpoint), found, replace(SYSTEM, **system), "walflow")
    assert said is not None
    assert why in said


@pytest.mark.parametrize("slot", [{"plugin": "test_decoding"}, {"plugin": None}, {"database": "another"}])
def test_a_slot_of_something_else_is_neither_read_nor_dropped(slot: dict[str, Any]) -> None:
    with pytest.raises(Unfit, match="is not a pgoutput slot of database app"):
        why_rebuild(CHECKPOINT, replace(SLOT, **slot), SYSTEM, "walflow")


@contextmanager
def session(database: Database, role: str, name: str) -> Iterator[int]:
    """A session of the role under an application name; its process id."""
    with psycopg.connect(database.dsn(role), application_name=name, autocommit=True) as connection:
        yield connection.info.backend_pid


def take_over(database: Database, *, scanning: bool) -> int:
    async def take() -> int:
        store = PostgresStore(await connect(database.engine_dsn, "walflow-standby"))
        try:
            return await store.take_over(scanning=scanning)
        finally:
            await store.close()

    return asyncio.run(take())


def test_a_takeover_ends_the_connections_of_the_leader_before_and_no_others(database: Database) -> None:
    with (
        session(database, ENGINE_ROLE, "walflow-leader") as leader,
        session(database, ENGINE_ROLE, "walflow-standby") as standby,
        session(database, ENGINE_ROLE, "walflow-cli") as command,
        session(database, "alice", "walflow-leader") as alice,
    ):
        take_over(database, scanning=False)
        there = "select pid from pg_stat_activity where pid = any (%s) order by pid"
        pids = [leader, standby, command, alice]
        wait_until(lambda: (leader,) not in database.run(there, [pids]))
        assert database.run(there, [pids]) == sorted([(standby,), (command,), (alice,)])


def test_a_takeover_counts_both_epochs_up_and_says_when_a_scan_begins(database: Database) -> None:
    epochs = "select c.epoch, e.epoch, c.scanning from df.checkpoint c, df.epoch e"
    before = database.run(epochs)[0][0]
    assert take_over(database, scanning=False) == before + 1
    assert database.run(epochs) == [(before + 1, before + 1, False)]
    assert take_over(database, scanning=True) == before + 2
    assert database.run(epochs) == [(before + 2, before + 2, True)]


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_slot_that_was_exchanged_between_its_making_and_its_reading_is_noticed(
    server: Cluster, exchanged: bool
) -> None:
    """What was committed between the two would come neither by the snapshot nor by the log."""
    database = server.database()

    async def make_and_read() -> None:
        host = PostgresHost(
            load({}, {"WALFLOW_DSN": database.engine_dsn, "WALFLOW_SLOT": database.slot}).settings, Metrics()
        )
        store, mine, other = await host.store("a"), await host.replication("b"), await host.replication("c")
        try:
            made = await make_slot(mine, database.slot)
            if exchanged:
                database.run("select df.start('select 1')", role="alice")
                await make_slot(other, database.slot)
            async with (await mine.start(database.slot, "walflow")).holding():
                check_made(await store.slot(database.slot), made)
        finally:
            for connection in (store, mine, other):
                await connection.close()

    if exchanged:
        with pytest.raises(LeadershipLost, match="was exchanged before it was read"):
            asyncio.run(make_and_read())
    else:
        asyncio.run(make_and_read())
    database.drop()


def test_a_scan_waits_for_what_is_committed_and_cannot_be_seen_yet_and_for_nothing_else(database: Database) -> None:
    """A commit that waits for a synchronous standby is in a slot's snapshot, and others still take it for under way."""

    async def look() -> list[bool]:
        host = PostgresHost(load({}, {"WALFLOW_DSN": database.engine_dsn}).settings, Metrics())
        store = await host.store("a")
        try:
            with (
                database.connect("alice", autocommit=False) as held,
                database.connect("bob", autocommit=False) as other,
            ):
                (mine,) = held.execute("select pg_current_xact_id()::text::bigint").fetchone() or (0,)
                (theirs,) = other.execute("select pg_current_xact_id()::text::bigint").fetchone() or (0,)
                last = max(mine, theirs) + 1
                snapshots = f"{mine}:{last}:{theirs}", f"{mine}:{last}:{mine},{theirs}", f"{mine}:{mine}:"
                before = [await store.sees_all_of(snapshot) for snapshot in snapshots]
                held.commit()
                return [*before, await store.sees_all_of(snapshots[0])]
        finally:
            await store.close()

    committed, under_way, later, then = asyncio.run(look())
    assert not committed, "the snapshot sees the held one"
    assert under_way, "the log will bring it"
    assert later, "it began after the snapshot"
    assert then
