"""What a table scan brings into the book by itself, before any cross-check: real rows, and no engine that runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from cdc.lsn import Lsn
from engine import recovery
from engine.book import Book
from engine.codec import VERSION, encode
from engine.connect import connect
from engine.longwork import LongWork
from engine.store.postgres import PostgresStore
from engine.visibility import Visibility
from tests.engine.machinery import await_, race, run, seq, sql, wait
from tests.servers import ENGINE_ROLE, Database


def scanned(database: Database, tell: Callable[[str], None] = lambda _where: None) -> tuple[Book, int]:
    """The book after a scan, and how many rows that folded. `tell` is told of each turn."""

    async def scan() -> tuple[Book, int]:
        store = PostgresStore(await connect(database.engine_dsn, "walflow-cli"))
        try:
            book = Book(visibility=Visibility(0), dispatch=lambda _live, _effect: None)
            async with store.transaction():
                return book, await recovery.scan(store, book, Lsn(100), LongWork(tell, lambda: 0.0, every_seconds=0))
        finally:
            await store.close()

    return asyncio.run(scan())


@pytest.fixture
def keys(database: Database) -> tuple[int, int]:
    """An instance, and one that waits for it."""
    database.run("select df.start(df.wait_for_signal('go'), id => 'awaited')", role="alice")
    database.run("select df.start(df.await_instance('awaited'), id => 'waiter')", role="alice")
    ((awaited, waiter),) = database.run("select min(key), max(key) from df.instances")
    database.run(
        "insert into df.waits (instance_key, owner, waiter_key, waiter_step) select %s, submitter, %s, '1' from df.instances "
        "where key = %s",
        [awaited, waiter, waiter],
        role=ENGINE_ROLE,
    )
    return awaited, waiter


def test_a_scan_brings_the_waits_that_no_checkpoint_holds_and_the_first_checkpoint_marks_and_answers_them(
    database: Database, keys: tuple[int, int]
) -> None:
    _, waiter = keys
    book, folded = scanned(database)
    assert folded == 3
    assert book.rings.waits(waiter, "1")
    assert book.awaited, "somebody waits for the next checkpoint"
    assert book.collect().marks.wait == [(waiter, "1")]


def test_a_scan_says_how_far_it_is(database: Database) -> None:
    told: list[str] = []
    database.run("select df.start('select 1') from generate_series(1, 501)", role="alice")
    scanned(database, told.append)
    assert told == [f"scanning the tables: {count} unfinished instances so far" for count in (500, 501)]


def test_a_scan_knows_the_waits_that_a_checkpoint_holds(database: Database, keys: tuple[int, int]) -> None:
    awaited, waiter = keys
    begun = run(await_("awaited"))
    state = encode(begun.state, begun.subject.scope)
    database.run("insert into df.states values (%s, %s, %s)", [waiter, VERSION, state], role=ENGINE_ROLE)
    database.run("update df.instances set status = 'running' where key = %s", [waiter], role=ENGINE_ROLE)
    database.run("update df.waits set folded = true", role=ENGINE_ROLE)
    book, _ = scanned(database)
    assert book.rings.waits(waiter, "1")
    assert book.collect().marks.wait == []
    database.run("select df.signal('awaited', 'go')", role="alice")
    book, _ = scanned(database)
    assert book.collect().ended == (awaited,), "it is waited for"


def test_a_scan_leaves_out_a_wait_that_was_answered(database: Database, keys: tuple[int, int]) -> None:
    _, waiter = keys
    begun = run(await_("awaited"))
    state = encode(begun.state, begun.subject.scope)
    database.run("insert into df.states values (%s, %s, %s)", [waiter, VERSION, state], role=ENGINE_ROLE)
    database.run("update df.waits set folded = true", role=ENGINE_ROLE)
    database.run(
        "insert into df.completions (run_as, instance_key, step, attempt, outcome, error) "
        "values (0, %s, '1', 1, 'failed', '{}')",
        [waiter],
        role=ENGINE_ROLE,
    )
    book, _ = scanned(database)
    assert not book.rings.waits(waiter, "1")


def test_a_scan_marks_the_commands_that_are_for_nobody(database: Database) -> None:
    """As the log's do: or the next cross-check would take them for rows that the log did not bring."""
    database.run("select df.start(df.wait_for_signal('go'), id => 'waits')", role="alice")
    database.run("select df.start('select 1', id => 'over')", role="alice")
    for target in ("waits", "over"):
        database.run("insert into df.signals (instance_id, name) values (%s, 'go')", [target], role="alice")
    database.run("insert into df.cancellations (instance_id) values ('over')", role="alice")
    database.run("update df.instances set status = 'completed' where id = 'over'", role=ENGINE_ROLE)
    book, _ = scanned(database)
    marks = book.collect().marks
    assert {event_id for event_id, _ in marks.signal} == ids(database, "signals")
    assert {event_id for event_id, _ in marks.cancellation} == ids(database, "cancellations")


def ids(database: Database, table: str) -> set[str]:
    """Of all commands in a table."""
    return {event_id for (event_id,) in database.run(f"select event_id::text from df.{table}")}


def test_a_scan_folds_first_what_an_existing_completion_names_as_its_cause(database: Database) -> None:
    """The log had brought b before a, and step 5 was dispatched for that; by the time of recording a came first."""
    graph = json.dumps(seq(race(wait("a"), wait("b")), sql("select 5")))
    database.run("select df.start(%s, id => 'raced')", [graph], role="alice")
    for name in ("a", "b"):
        database.run("select df.signal('raced', %s)", [name], role="alice")
    ((owner, event),) = database.run("select owner::bigint, event_id::text from df.signals where name = 'b'")
    database.run(
        "insert into df.completions (run_as, instance_key, step, attempt, outcome, cause) "
        "select s.owner, s.instance_key, '5', 1, 'completed', s.event_id from df.signals s where s.name = 'b'",
        role=ENGINE_ROLE,
    )
    book, folded = scanned(database)
    cut = book.collect()
    assert folded == 4
    assert cut.marks.taken == {(event, owner): "4"}, "b won again"
    assert [change.status for change in cut.changes] == ["completed"]


def test_a_cross_check_does_not_read_the_starts_that_wait_for_room(database: Database) -> None:
    """There may be millions. Those of others, and those beside the keys between which they lie, are read."""
    for role in ("alice", "bob"):
        database.run("select df.start('select 1') from generate_series(1, 4)", role=role)
    rows = database.run("select submitter::bigint, array_agg(key order by key) from df.instances group by 1 order by 2")
    (alice, hers), (_, his) = rows

    async def seen() -> list[int]:
        store = PostgresStore(await connect(database.engine_dsn, "walflow-cli"))
        try:
            book = Book(visibility=Visibility(0), dispatch=lambda _live, _effect: None)
            for key in hers[1:3]:
                book.backlog.postpone(alice, "", key, 0)
            return (await recovery.see_unfolded(store, book)).keys
        finally:
            await store.close()

    assert sorted(asyncio.run(seen())) == [hers[0], hers[3], *his]
