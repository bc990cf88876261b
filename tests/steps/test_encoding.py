"""A database in SQL_ASCII checks nothing: what is not valid UTF-8 is one instance's trouble."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.servers import Cluster, wait_until
from tests.workflows import World, world

BAD = b"\xff\xfe"


@pytest.fixture(scope="module")
def ascii_world(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A database in SQL_ASCII with an engine."""
    database = server18.database(migrated=False, encoding="SQL_ASCII")
    try:
        database.migrate()
        with database.connect() as connection:
            for role in ("alice", "bob"):
                connection.execute("select df.grant_usage(%s)", [role])
            connection.execute("grant usage, create on schema public to alice, bob")
        engine = database.engine(tmp_path_factory.mktemp("engine")).start()
        with world(database, engine) as made:
            yield made
    finally:
        database.drop()


def raw(world: World, query: bytes) -> None:
    """Run a statement as alice whose text may hold any bytes."""
    with psycopg.connect(world.database.dsn("alice"), autocommit=True, client_encoding="SQL_ASCII") as connection:
        connection.execute(query)


def goes_on(world: World) -> None:
    assert world.outcome("select 'gr\u00fcn' as colour", role="bob").rows == [{"colour": "gr\u00fcn"}]


def test_text_that_is_valid_passes(ascii_world: World) -> None:
    goes_on(ascii_world)
    assert ascii_world.outcome("select e'a\\\\b\\n\u20ac' as x").rows == [{"x": "a\\b\n\u20ac"}]


def test_a_result_that_is_not_valid_utf8_fails_its_step_and_undoes_it(ascii_world: World) -> None:
    ascii_world.run("create table public.bytes (x text)", role="alice")
    outcome = ascii_world.outcome("insert into public.bytes values (e'a\\xff') returning x")
    assert (outcome.status, outcome.code) == ("failed", "22021"), outcome
    assert ascii_world.run("select 1 from public.bytes") == []
    goes_on(ascii_world)


def test_an_error_that_is_not_valid_utf8_fails_its_step(ascii_world: World) -> None:
    """The server says so instead of what the error was."""
    outcome = ascii_world.outcome("do $$ begin raise exception e'a\\xff'; end $$")
    assert (outcome.status, outcome.code) == ("failed", "22021")
    goes_on(ascii_world)


def test_a_graph_that_is_not_valid_utf8_fails_its_instance(ascii_world: World) -> None:
    raw(ascii_world, b"insert into df.instances (id, graph) values ('bad-graph', 'select ''" + BAD + b"''')")
    outcome = ascii_world.end("bad-graph")
    assert outcome.status == "failed"
    assert "UTF-8" in outcome.message
    goes_on(ascii_world)


def test_a_label_that_is_not_valid_utf8_is_no_matter(ascii_world: World) -> None:
    raw(ascii_world, b"insert into df.instances (id, graph, label) values ('bad-label', 'select 1', '" + BAD + b"')")
    assert ascii_world.end("bad-label").status == "completed"


def test_a_signal_that_is_not_valid_utf8_is_one_instances_trouble(ascii_world: World) -> None:
    graph = ascii_world.build("select df.wait_for_signal('go')")
    id = ascii_world.start(graph, id="bad-signal")
    raw(
        ascii_world,
        b"insert into df.signals (instance_id, name, data) values ('bad-signal', 'go', '\"" + BAD + b"\"')",
    )
    goes_on(ascii_world)
    outcome = ascii_world.end(id)
    assert outcome.status in ("completed", "failed")


def test_a_completion_that_is_not_valid_utf8_fails_its_step(ascii_world: World) -> None:
    graph = ascii_world.build("select df.seq(df.wait_for_signal('go'), 'select 1')")
    id = ascii_world.start(graph, id="bad-completion")
    key = ascii_world.key(id)
    raw(
        ascii_world,
        b"insert into df.completions (instance_key, step, attempt, outcome, result) values "
        b"(%d, '3', 1, 'completed', '\"" % key + BAD + b"\"')",
    )
    ascii_world.run("select df.signal(%s, 'go')", [id], role="alice")
    outcome = ascii_world.end(id)
    assert (outcome.status, outcome.code) == ("failed", "22021"), outcome
    goes_on(ascii_world)


def test_a_new_leader_and_a_table_scan_cope_with_what_is_not_valid_utf8(ascii_world: World) -> None:
    """Everything above in the tables, and some of it unfinished: read again from a checkpoint, then by a scan."""
    here = ascii_world
    graph = here.build("select df.seq(df.wait_for_signal('go'), 'select 1')")
    raw(
        here,
        b"insert into df.instances (id, graph, label) values ('unfinished', '" + graph.encode() + b"', '" + BAD + b"')",
    )
    here.wait_for("unfinished", "running")
    here.engine.kill()
    raw(here, b"insert into df.signals (instance_id, name, data) values ('unfinished', 'other', '\"" + BAD + b"\"')")
    raw(here, b"insert into df.instances (id, graph) values ('while-down', 'select ''" + BAD + b"''')")
    here.engine.start()
    goes_on(here)
    assert here.end("while-down").status == "failed"
    here.engine.kill()
    here.run("select pg_drop_replication_slot(%s)", [here.database.slot]) if not here.run(
        "select 1 from pg_replication_slots where slot_name = %s and active", [here.database.slot]
    ) else wait_until(lambda: dropped(here))
    raw(here, b"insert into df.signals (instance_id, name, data) values ('unfinished', 'third', '\"" + BAD + b"\"')")
    raw(here, b"insert into df.instances (id, graph) values ('while-down2', 'select ''" + BAD + b"''')")
    raw(here, b"insert into df.cancellations (instance_id, reason) values ('while-down2', '" + BAD + b"')")
    here.engine.start()
    goes_on(here)
    assert here.end("while-down2").status == "failed"
    here.run("select df.signal('unfinished', 'go')", role="alice")
    assert here.end("unfinished").status == "completed"


def dropped(here: World) -> bool:
    try:
        here.run("select pg_drop_replication_slot(%s)", [here.database.slot])
    except psycopg.errors.ObjectInUse:
        return False
    return True
