"""What the engine inserts, called as it calls it: by whom, and what has to wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import psycopg
import pytest

from engine.connect import connect
from engine.cut import Cut
from engine.errors import NotVisible
from engine.store.postgres import PostgresStore
from tests.engine.logbook import Log, start
from tests.servers import ENGINE_ROLE, Cluster, Database

ROWS: Final[dict[str, dict[str, Any]]] = {
    "record_completions": {"run_as": 0, "step": "1", "attempt": 1, "outcome": "completed"},
    "start_children": {"step": "1", "graph": "select 1", "detach": False},
    "cancel_children": {"step": "1", "graph": "select 1"},
    "begin_waits": {"step": "1", "instance_id": "other"},
}
WRITTEN: Final = """
    select (select count(*) from df.completions) + (select count(*) from df.instances) + (select count(*) from df.waits)
         + (select count(*) from df.cancellations)
"""


@pytest.fixture(scope="module")
def home(server18: Cluster) -> Iterator[Database]:
    """One database; every test has an instance of its own."""
    made = server18.database()
    made.run("select df.start('select 1', id => 'other')", role="alice")
    yield made
    made.drop()


@pytest.fixture
def key(home: Database) -> int:
    """An instance's key."""
    ((id,),) = home.run("select df.start('select 1')", role="alice")
    return int(home.run("select key from df.instances where id = %s", [id])[0][0])


def call(home: Database, function: str, key: int, *, later: int = 0, **more: object) -> list[int]:
    """Call it for one row, `later` epochs after the present one; the ordinals that it skipped."""
    row = {"ordinal": 7, "key": key, "parent": key, **ROWS[function], **more}
    query = f"select skipped from df.{function}((select epoch + %s from df.epoch), %s)"
    with home.connect(ENGINE_ROLE) as engine:
        found = engine.execute(query.encode(), [later, json.dumps([row])]).fetchone()
        assert found is not None
        return found[0] or []


@pytest.mark.parametrize("later", [-1, 1])
@pytest.mark.parametrize("function", ROWS)
def test_an_engine_that_does_not_lead_writes_nothing(home: Database, key: int, function: str, later: int) -> None:
    before = home.run(WRITTEN)
    with pytest.raises(psycopg.Error) as caught:
        call(home, function, key, later=later)
    assert caught.value.sqlstate == "DF001"
    assert home.run(WRITTEN) == before


@pytest.mark.parametrize("later", [-1, 1])
def test_an_engine_that_does_not_lead_has_no_heartbeat(home: Database, later: int) -> None:
    query = "select now_us from df.heartbeat((select epoch + %s from df.epoch), 'none')"
    assert home.run(query, [0], ENGINE_ROLE)[0][0] > 0
    with pytest.raises(psycopg.Error) as caught:
        home.run(query, [later], ENGINE_ROLE)
    assert caught.value.sqlstate == "DF001"


@pytest.mark.parametrize("function", ROWS)
def test_what_a_transaction_caused_that_is_not_visible_yet_is_skipped_and_then_written(
    home: Database, key: int, function: str
) -> None:
    with home.connect("alice", autocommit=False) as connection:
        found = connection.execute("select pg_current_xact_id()::text").fetchone()
        assert found is not None
        before = home.run(WRITTEN)
        assert call(home, function, key, xids=["3", found[0]]) == [7]
        assert home.run(WRITTEN) == before
        connection.commit()
    assert call(home, function, key, xids=["3", found[0]]) == []
    assert home.run(WRITTEN) > before


def test_a_timer_that_is_not_due_by_the_databases_clock_is_skipped(home: Database, key: int) -> None:
    assert call(home, "record_completions", key, due="2199-01-01 00:00+00") == [7]
    assert call(home, "record_completions", key, due="2020-01-01 00:00+00") == []


def checkpointed(home: Database, cut: Cut) -> None:
    """Write a checkpoint as the engine that leads does."""

    async def write() -> None:
        store = PostgresStore(await connect(home.engine_dsn, "walflow-cli"))
        try:
            await store.write_checkpoint((await store.checkpoint()).epoch, cut)
        finally:
            await store.close()

    asyncio.run(write())


def test_a_checkpoint_does_not_say_where_starts_wait_before_they_can_be_seen(home: Database) -> None:
    """A new leader looks for them in the tables, and the log does not bring them again."""
    log = Log(admission=0)
    log.transaction(start())
    with home.connect("alice", autocommit=False) as connection:
        cut = replace(log.book.collect(), xids=[its_xid(connection)], backlog=log.book.backlog)
        with pytest.raises(NotVisible):
            checkpointed(home, cut)
        assert home.run("select backlog::text from df.checkpoint") == [("[]",)]
        connection.commit()
    checkpointed(home, cut)
    assert home.run("select backlog::text from df.checkpoint") != [("[]",)]


def test_a_checkpoint_does_not_write_a_state_before_all_that_it_rests_on_can_be_seen(home: Database, key: int) -> None:
    """A new leader runs its next step at once, and does not know what to wait for. No status changes with it here."""
    log = Log()
    log.transaction(start(key=key))
    states = "select count(*) from df.states where instance_key = %s"
    with home.connect("alice", autocommit=False) as connection:
        cut = replace(log.book.collect(), xids=[its_xid(connection)], changes=())
        assert cut.states
        with pytest.raises(NotVisible):
            checkpointed(home, cut)
        assert home.run(states, [key]) == [(0,)]
        connection.commit()
    checkpointed(home, cut)
    assert home.run(states, [key]) == [(1,)]


def its_xid(connection: psycopg.Connection[Any]) -> int:
    """The transaction's id."""
    found = connection.execute("select pg_current_xact_id()::text::bigint").fetchone()
    assert found is not None
    return int(found[0])
