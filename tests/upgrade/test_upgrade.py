"""Upgrading from every released version, with work in flight in every kind of node: nothing is lost and nothing doubled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.connect import connect
from engine.store.postgres import PostgresStore
from sql.migrate import migrate, migrations, newest_version
from tests.psql import psql
from tests.servers import Cluster, Database
from tests.upgrade.freeze import HERE, RELEASE
from tests.upgrade.freeze import dump as pg_dump
from tests.upgrade.inflight import FINISHED, HELD, LATE, Held
from tests.workflows import World, world

RELEASES = sorted(path.parent.name for path in HERE.glob("*/database.sql"))
AGAIN = (
    "before the first release: run python -m tests.upgrade.freeze; after it: a released migration must not be changed"
)
ENDS_SECONDS = 60.0


@pytest.fixture
def restored(server: Cluster, release: str) -> Iterator[Database]:
    """A database as the release left it, on each version."""
    made = server.database(migrated=False)
    psql(made, HERE / release / "database.sql", role="postgres")
    yield made
    made.drop()


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_release_is_frozen() -> None:
    assert RELEASE in RELEASES


def test_an_upgrade_of_a_release_applies_what_is_newer_and_gives_the_schema_of_a_fresh_install(
    server: Cluster, restored: Database
) -> None:
    of_the_release = restored.run("select number, name, checksum from df.migrations order by number")
    ours = [(one.number, one.name, one.checksum) for one in migrations()][: len(of_the_release)]
    assert of_the_release == ours, AGAIN
    report = migrate(restored.engine_dsn)
    assert [one.number for one in report.applied] == list(range(len(ours) + 1, newest_version() + 1))
    restored.run("drop table public.ledger")
    fresh = server.database(migrated=False)
    try:
        migrate(fresh.engine_dsn)
        fresh.run("select df.grant_usage('alice'), df.grant_usage('bob')", role="engine")
        assert restored_again(restored) == restored_again(fresh)
    finally:
        fresh.drop()


def restored_again(database: Database) -> list[str]:
    """The schema after a dump and a restore, which write some expressions in another way than migrations do."""
    again = database.cluster.database(migrated=False)
    try:
        psql(again, pg_dump(database, "--schema-only"), role="postgres")
        return pg_dump(again, "--schema-only").splitlines()
    finally:
        again.drop()


def test_all_that_was_in_flight_in_a_release_ends_exactly_once(restored: Database, tmp_path: Path) -> None:
    """On another server, so that all that was not folded yet is looked for in the tables."""
    migrate(restored.engine_dsn)
    engine = restored.engine(tmp_path).start()
    with world(restored, engine) as here:
        check_ends(here, {**HELD, **LATE})
    assert "tables scanned" in engine.log()


def test_all_that_was_in_flight_goes_on_from_the_releases_own_checkpoint(restored: Database, tmp_path: Path) -> None:
    """As on the same server: with the slot that the checkpoint is of."""
    migrate(restored.engine_dsn)
    asyncio.run(take_for_the_same_server(restored))
    restored.run("delete from df.instances where id = any (%s)", [list(LATE)])
    engine = restored.engine(tmp_path).start()
    with world(restored, engine) as here:
        check_ends(here, HELD)
    assert "checkpoint loaded" in engine.log()
    assert "tables scanned" not in engine.log()


async def take_for_the_same_server(restored: Database) -> None:
    """Roles have the OIDs of this server, and the checkpoint is of a slot that is there."""
    async with await connect(restored.engine_dsn, "test") as engine:
        await PostgresStore(engine).rewrite_oids()
    restored.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [restored.slot])
    restored.run(
        """
        update df.checkpoint
           set slot_name = %(slot)s::text,
               system_identifier = (select system_identifier::text from pg_control_system()),
               lsn = (select confirmed_flush_lsn from pg_replication_slots where slot_name = %(slot)s)
        """,
        {"slot": restored.slot},
    )


def check_ends(here: World, everything: Mapping[str, Held]) -> None:
    """All end as they should, with every row that they owe once, and new work runs beside them."""
    open_gates(here)
    for id, one in everything.items():
        assert here.end(id, ENDS_SECONDS).status == one.status, id
    assert here.status(FINISHED) == "completed"
    found = {id: Counter[str]() for id in everything}
    for id, word in here.run("select id, word from public.ledger"):
        found[id][word] += 1
    assert found == {id: Counter(one.words) for id, one in everything.items()}
    assert here.run("select id from df.instances where quarantined is not null") == []
    history = here.run("select event from df.history(%s) order by number", [FINISHED], "alice")
    assert history == [("started",), ("step",), ("ended",)]
    assert here.outcome("select 'as ever' as it").rows == [{"it": "as ever"}]


def open_gates(here: World) -> None:
    """The signals that the instances wait for."""
    for id, one in HELD.items():
        for _ in range(one.signals):
            here.run("insert into df.signals (instance_id, name) values (%s, 'gate')", [id], role="alice")


def test_what_is_frozen_stands_in_every_kind_of_node(restored: Database) -> None:
    for id, one in HELD.items():
        rows = restored.run(
            "select s.state from df.states s join df.instances i on i.key = s.instance_key where i.id = %s", [id]
        )
        assert all(f'["{tag}",' in rows[0][0] for tag in one.frames), id
