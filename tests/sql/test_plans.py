"""A plan is kept for a session's life, also one that was made while the tables were empty and a scan of them was the cheapest.

Until statistics are made anew, a minute at the earliest, every call would read whole tables: with a flood of 100,000 starts in
a new database, a checkpoint of twenty instances took 20 ms instead of 0.3.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, Final, LiteralString

import psycopg
import pytest

from engine.config import Settings, load
from engine.connect import connect
from engine.cut import Marks
from engine.postgres import PostgresHost
from engine.store.postgres import PostgresStore
from metrics.collect import Metrics
from tests.engine.logbook import ALICE, Log, done, start
from tests.engine.machinery import seq, sql, wait
from tests.servers import ENGINE_ROLE, Cluster, Database

TWICE_AS_OFTEN_AS_PLANNED: Final = 12
"""After five calls, a session may keep one plan for all that follow."""
MANY: Final = 3_000
FEW: Final = 300
"""Rows that a call may read. It would be thousands, and in a join millions, if it went through a table or an index."""
READ: Final = """
    select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
      from pg_stat_xact_user_tables
     where schemaname = 'df' and relname not in ('epoch', 'checkpoint', 'settings', 'heartbeats')
"""
FUNCTIONS: Final[dict[str, dict[str, Any]]] = {
    "record_completions": {
        "run_as": 0,
        "step": "1",
        "attempt": 1,
        "outcome": "completed",
        "due": "2020-01-01 00:00+00",
    },
    "start_children": {"step": "1", "graph": "select 1", "detach": True},
    "cancel_children": {"step": "1", "graph": "select 1"},
    "begin_waits": {"step": "1", "instance_id": "i2"},
    "begin_waits of nobody's": {"step": "1", "instance_id": "nobodys"},
}
ASKED: Final[tuple[LiteralString, ...]] = (
    "select df.status('i1')",
    "select df.result('i1')",
    "select df.signal('i1', 'go')",
    "select df.cancel('i1')",
    "insert into df.signals (instance_id, name) values ('i1', 'go')",
    "insert into df.signals (instance_id, owner, name) values ('i1', df.me(), 'go')",
    "select df.setvar('v', 'x')",
    "select df.getvar('v')",
    "select df.unsetvar('v')",
    "select df.start('select 1')",
)


@pytest.fixture(params=[1, 30])
def home(server18: Cluster, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A new database: one instance, or a few."""
    made = server18.database()
    made.run("select df.start('select 1', id => 'i' || n) from generate_series(1, %s) n", [request.param], "alice")
    yield made
    made.drop()


def grow(home: Database) -> None:
    """Suddenly there are many."""
    home.run("insert into df.instances (graph) select 'select 1' from generate_series(1, %s)", [MANY], role="alice")
    home.run("insert into df.signals (instance_id, name) select 'i1', 's' from generate_series(1, %s)", [MANY], "alice")
    home.run(
        "insert into df.states (instance_key, version, state) select 1000000 + n, 1, '{}' from generate_series(1, %s) n",
        [MANY],
        ENGINE_ROLE,
    )
    home.run(
        "insert into df.completions (run_as, instance_key, step, attempt, outcome) "
        "select i.submitter, 1000000 + n, '1', 1, 'completed' from df.instances i, generate_series(1, %s) n where i.id = 'i1'",
        [MANY],
        ENGINE_ROLE,
    )
    home.run(
        "insert into df.waits (instance_key, owner, waiter_key, waiter_step, folded) "
        "select 1000000, i.submitter, 1000000 + n, '1', true from df.instances i, generate_series(1, %s) n where i.id = 'i1'",
        [MANY],
        ENGINE_ROLE,
    )


def read_by(connection: psycopg.Connection[Any], statement: LiteralString, parameters: list[object] | None) -> int:
    """How many rows are read for a statement, by scans of tables or of their indexes. It is rolled back."""
    with connection.transaction(force_rollback=True):
        before = connection.execute(READ).fetchone()
        connection.execute(statement, parameters)
        after = connection.execute(READ).fetchone()
    assert before is not None
    assert after is not None
    return int(after[0] - before[0])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_the_engine_inserts_is_not_looked_for_in_whole_tables(home: Database, function: str) -> None:
    row = {"ordinal": 1, "key": 1, "parent": 1, **FUNCTIONS[function]}
    call: LiteralString = "select df." + function.split()[0] + "((select epoch from df.epoch), %s)"
    with home.connect(ENGINE_ROLE) as engine:
        for _ in range(TWICE_AS_OFTEN_AS_PLANNED):
            read_by(engine, call, [json.dumps([row])])
        grow(home)
        assert read_by(engine, call, [json.dumps([row])]) < FEW


@pytest.mark.parametrize("statement", ASKED)
def test_what_a_user_calls_does_not_look_in_whole_tables(home: Database, statement: LiteralString) -> None:
    with home.connect("alice") as alice:
        for _ in range(TWICE_AS_OFTEN_AS_PLANNED):
            read_by(alice, statement, None)
        grow(home)
        assert read_by(alice, statement, None) < FEW


ANY: Final = "00000000-0000-4000-8000-000000000000"
MARKS: Final = Marks(signal=[(ANY, ALICE)], cancellation=[(ANY, ALICE)], release=[(ANY, ALICE)], wait=[(1, "1")])
Reading = Callable[[PostgresStore], Awaitable[Any]]


async def waiting(store: PostgresStore) -> None:
    (alice,) = await store.one("select 'alice'::regrole::oid::bigint")
    assert await store.waiting(alice, 0, 1 << 40, 10)


LOOKS: Final[dict[str, Reading]] = {
    "instances": lambda store: store.instances([1, 2]),
    "unfinished_among": lambda store: store.unfinished_among([1, 2]),
    "named": lambda store: store.named([(ALICE, "i1")]),
    "results": lambda store: store.results([(ALICE, 1, "1")]),
    "signal_data": lambda store: store.signal_data([(ALICE, 1, ANY)]),
    "waits_of": lambda store: store.waits_of([1, 1000001]),
    "children_of": lambda store: store.children_of([1, 1000001]),
    "shown_of": lambda store: store.shown_of([1, 1000001]),
    "with_inbox": lambda store: store.with_inbox([1]),
    "set_aside": lambda store: store.set_aside(0, 10),
    "inbox": lambda store: store.inbox(1),
    "next_wake": lambda store: store.next_wake(),
    "sleepers": lambda store: store.sleepers((0, 0), 0, 10),
    "waiting": waiting,
    "completion": lambda store: store.completion((ALICE, 1, "1", 1)),
    "start_of": lambda store: store.start_of(1),
    "signals": lambda store: store.signals([(ALICE, ANY)]),
    "cancellation": lambda store: store.cancellation(ALICE, ANY),
}


@pytest.mark.parametrize("look", LOOKS)
def test_what_the_engine_looks_up_is_not_looked_for_in_whole_tables(home: Database, look: str) -> None:
    assert asyncio.run(_read_by(home, LOOKS[look])) < FEW


@pytest.mark.parametrize("by_keys", [True, False], ids=["as the engine connects", "by its function alone"])
def test_a_checkpoint_looks_for_nothing_in_whole_tables(home: Database, by_keys: bool) -> None:
    log = Log()
    log.transaction(start(seq(sql("a"), wait("s"))), start(key=2, id_="i2"))
    log.transaction(done("2"), done(key=2))
    cut = replace(
        log.book.collect(),
        xids=[],  # the log's are invented
        ended=(1, 2),
        dropped=(2,),
        hidden=((2, ALICE),),
        shown=((1, ALICE, "[]"),),
        marks=MARKS,
    )

    async def write(store: PostgresStore) -> None:
        epoch = (await store.checkpoint()).epoch
        await store.write_checkpoint(epoch, cut)

    assert asyncio.run(_read_by(home, write, by_keys=by_keys)) < FEW


async def _read_by(home: Database, look: Reading, *, by_keys: bool = True) -> int:
    settings = _settings(home)
    if by_keys:
        store = await PostgresHost(settings, Metrics()).store("walflow-cli")
        assert isinstance(store, PostgresStore)
    else:
        store = PostgresStore(await connect(settings.dsn, "walflow-cli"))
    try:
        for _ in range(TWICE_AS_OFTEN_AS_PLANNED):
            await look(store)
        grow(home)
        async with store.transaction():
            (before,) = await store.one(READ)
            await look(store)
            (after,) = await store.one(READ)
    finally:
        await store.close()
    return int(after - before)


def _settings(home: Database) -> Settings:
    return load({}, {"WALFLOW_DSN": home.engine_dsn}).settings


FORBIDDEN: Final = """
    select p.oid::regprocedure::text
      from pg_proc p
     where p.pronamespace = 'df'::regnamespace
       and exists (select from unnest(p.proconfig) as c where c ~ '^enable_.*=off$')
       and has_function_privilege('alice', p.oid, 'execute')
       and 'jit=off' <> all (p.proconfig)
"""


def test_no_plan_is_compiled_whose_cost_says_only_that_it_is_forbidden(database: Database) -> None:
    """A server with JIT would: half a second for a page of a list, ten seconds for a takeover."""
    assert database.run(FORBIDDEN) == []


def test_no_plan_of_the_engines_own_is_compiled_whatever_its_role_says(database: Database) -> None:
    database.run(f"alter role {ENGINE_ROLE} in database {database.name} set jit = on")

    async def setting() -> str:
        async with await connect(database.engine_dsn, "walflow-leader") as connection:
            row = await (await connection.execute("show jit")).fetchone()
        assert row is not None
        return str(row[0])

    assert asyncio.run(setting()) == "off"
