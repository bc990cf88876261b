"""What happens before a stream runs, against real servers."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from cdc.errors import CdcError, LossReason, PublicationIncomplete, ServerUnfit, SlotInUse, SlotLost, SlotNotCreated
from cdc.lsn import NO_LSN, Lsn
from cdc.slot import (
    _slot_state,
    check_publication,
    check_server,
    check_slot,
    check_stored_position,
    connect_replication,
    create_slot,
    drop_slot,
    identify_system,
    read_slot,
    require_publication,
    require_server,
    start_replication,
)
from engine.embedded import EmbeddedServer, Version, available_versions
from tests.cdc.conftest import Run
from tests.cdc.source import Reader, Source, until
from tests.servers import FAST

# --- the connection


def test_the_replication_connection_speaks_sql_again_and_again(each_source: Source, run: Run) -> None:
    async def test() -> None:
        async with await each_source.replication() as conn:
            for _ in range(10):  # the sixth would be prepared, and refused
                assert await (await conn.execute("select 1")).fetchall() == [(1,)]
            with pytest.raises(psycopg.errors.ProtocolViolation):  # which is why nothing here has parameters
                await conn.execute("select %s", [1])

    run(test())


def test_the_replication_connection_has_its_settings(each_source: Source, run: Run) -> None:
    async def test() -> None:
        async with await each_source.replication(wal_sender_timeout_seconds=7) as conn:
            settings = {}
            for name in ("wal_sender_timeout", "search_path", "client_encoding", "application_name"):
                cursor = await conn.execute(f"show {name}".encode())
                ((settings[name],),) = await cursor.fetchall()
        assert settings == {
            "wal_sender_timeout": "7s",
            "search_path": "pg_catalog,pg_temp",
            "client_encoding": "UTF8",
            "application_name": "test-reader",
        }

    run(test())


def test_options_of_the_dsn_are_kept(source: Source, run: Run) -> None:
    async def test() -> None:
        dsn = source.dsn(options="-c work_mem=123kB")
        async with await connect_replication(dsn, application_name="x") as conn:
            cursor = await conn.execute("show work_mem")
            assert await cursor.fetchall() == [("123kB",)]

    run(test())


def test_the_system_is_identified(each_source: Source, run: Run) -> None:
    async def test() -> None:
        before = each_source.flushed()
        async with await each_source.replication() as conn:
            system = await identify_system(conn)
        ((expected,),) = each_source.run("select system_identifier::text from pg_control_system()")
        assert system.system_identifier == expected
        assert system.timeline == 1
        assert system.database == each_source.name
        assert system.flushed >= before > NO_LSN

    run(test())


# --- the slot


def test_a_new_slot_is_described_in_full(each_source: Source, run: Run) -> None:
    async def test() -> None:
        async with await each_source.replication() as conn:
            created = await create_slot(conn, each_source.slot)
            slot = await read_slot(conn, each_source.slot)
        assert slot is not None
        assert slot.confirmed_flush_lsn == created.consistent_point
        assert slot.restart_lsn is not None
        assert slot.restart_lsn <= created.consistent_point
        assert (slot.plugin, slot.database, slot.wal_status) == ("pgoutput", each_source.name, "reserved")
        assert (slot.active, slot.active_pid, slot.invalidation) == (False, None, None)
        check_slot(slot, each_source.slot, each_source.name)

    run(test())


def test_a_missing_slot_is_none_and_lost(source: Source, run: Run) -> None:
    async def test() -> None:
        async with await source.replication() as conn:
            assert await read_slot(conn, "no'such%slot") is None
        with pytest.raises(SlotLost) as caught:
            check_slot(None, source.slot, source.name)
        assert caught.value.reason is LossReason.MISSING

    run(test())


def test_a_physical_slot_and_one_of_another_plugin_or_database_are_foreign(source: Source, run: Run) -> None:
    async def test() -> None:
        async with await source.replication() as conn:
            await conn.execute(f"select pg_create_physical_replication_slot('{source.slot}')".encode())
            slot = await read_slot(conn, source.slot)
            with pytest.raises(SlotLost, match="physical") as caught:
                check_slot(slot, source.slot, source.name)
            assert caught.value.reason is LossReason.FOREIGN
            assert await drop_slot(conn, source.slot)
            await conn.execute(f"select pg_create_logical_replication_slot('{source.slot}', 'pgoutput')".encode())
            slot = await read_slot(conn, source.slot)
            check_slot(slot, source.slot, source.name)
            with pytest.raises(SlotLost, match="of database") as caught:
                check_slot(slot, source.slot, "another")
            assert caught.value.reason is LossReason.FOREIGN

    run(test())


def test_dropping_a_slot_says_whether_there_was_one(source: Source, run: Run) -> None:
    async def test() -> None:
        async with await source.replication() as conn:
            assert not await drop_slot(conn, source.slot)
            await create_slot(conn, source.slot)
            assert await drop_slot(conn, source.slot)
            assert await read_slot(conn, source.slot) is None

    run(test())


def test_creating_a_slot_gives_up_on_a_transaction_that_stays_open(each_source: Source, run: Run) -> None:
    async def test() -> None:
        async with await each_source.replication() as conn:
            with each_source.open_transaction(), pytest.raises(SlotNotCreated, match="open all the time") as caught:
                await create_slot(conn, each_source.slot, lock_timeout_seconds=0.1)
            assert caught.value.sqlstate == "55P03"
            assert await read_slot(conn, each_source.slot) is None
            await create_slot(conn, each_source.slot)  # and the connection is still good

    run(test())


def test_a_slot_that_exists_is_not_created_again(source: Source, run: Run) -> None:
    async def test() -> None:
        async with await source.replication() as conn:
            await create_slot(conn, source.slot)
            with pytest.raises(SlotNotCreated, match="exists already") as caught:
                await create_slot(conn, source.slot)
            assert caught.value.sqlstate == "42710"

    run(test())


def test_a_failover_slot_is_made_where_the_server_knows_them_and_refused_elsewhere(
    each_source: Source, run: Run
) -> None:
    async def test() -> None:
        async with await each_source.replication() as conn:
            if each_source.version < 17:
                with pytest.raises(ServerUnfit, match="17"):
                    await create_slot(conn, each_source.slot, failover=True)
                return
            await create_slot(conn, each_source.slot, failover=True)
        made = each_source.run("select failover from pg_replication_slots where slot_name = %s", [each_source.slot])
        assert made == [(True,)]

    run(test())


def test_snapshot_and_stream_of_a_new_slot_neither_overlap_nor_leave_a_gap(each_source: Source, run: Run) -> None:
    async def test() -> None:
        each_source.insert("before")
        async with await each_source.replication() as conn:
            created = await create_slot(conn, each_source.slot)
            each_source.insert("after")
            with psycopg.connect(each_source.dsn()) as importer:
                importer.execute("set transaction isolation level repeatable read")
                importer.execute(f"set transaction snapshot '{created.snapshot_name}'".encode())
                assert importer.execute("select note from events").fetchall() == [("before",)]
                await start_replication(conn, each_source.slot, "published")
                assert importer.execute("select note from events").fetchall() == [("before",)]
            reader = Reader(conn)
            reader.stream.start()
            await reader.until_committed(1)
            assert reader.notes == ["after"]
            await reader.close()

    run(test())


def test_the_snapshot_dies_with_the_next_command(source: Source, run: Run) -> None:
    async def test() -> None:
        async with await source.replication() as conn:
            created = await create_slot(conn, source.slot)
            await conn.execute("select 1")
            with psycopg.connect(source.dsn()) as importer:
                importer.execute("set transaction isolation level repeatable read")
                with pytest.raises(psycopg.Error):
                    importer.execute(f"set transaction snapshot '{created.snapshot_name}'".encode())

    run(test())


# --- starting


def test_a_slot_is_read_by_one_and_free_when_that_one_closes(each_source: Source, run: Run) -> None:
    async def test() -> None:
        await each_source.make_slot()
        first = await Reader.start(each_source)
        async with await each_source.replication() as conn:
            with pytest.raises(SlotInUse):
                await start_replication(conn, each_source.slot, "published")
            with pytest.raises(SlotInUse):
                await drop_slot(conn, each_source.slot)
            state = await read_slot(conn, each_source.slot)
            assert state is not None
            assert (state.active, state.active_pid) == (True, first.conn.pgconn.backend_pid)
            assert await first.close()
            await start_replication(conn, each_source.slot, "published")  # at once, on the same connection
            assert await Reader(conn).close()

    run(test())


def test_starting_on_a_slot_that_is_gone_says_so(each_source: Source, run: Run) -> None:
    async def test() -> None:
        async with await each_source.replication() as conn:
            with pytest.raises(SlotLost) as caught:
                await start_replication(conn, "no_such_slot", "published")
            assert caught.value.reason is LossReason.MISSING
            assert await (await conn.execute("select 1")).fetchall() == [(1,)]

    run(test())


@pytest.mark.parametrize("name", ["", "Upper", "with space", 'quo"te', "ü", "x" * 64, "x\n"])
def test_what_cannot_be_a_slots_name_never_reaches_the_server(source: Source, run: Run, name: str) -> None:
    async def test() -> None:
        async with await source.replication() as conn:
            with pytest.raises(CdcError, match="no name for a slot"):
                await create_slot(conn, name)
            with pytest.raises(CdcError, match="no name for a slot"):
                await start_replication(conn, name, "published")

    run(test())


def test_any_name_of_a_publication_can_be_read(source: Source, run: Run) -> None:
    async def test() -> None:
        source.run("""create publication "it's an ""odd"", name" for table events""")
        await source.make_slot()
        source.insert("x")
        reader = await Reader.start(source, publication="""it's an "odd", name""")
        await reader.until_committed(1)
        assert reader.notes == ["x"]
        await reader.close()

    run(test())


@pytest.fixture(params=available_versions(), ids=lambda version: f"pg{version}")
def short_of_wal(request: pytest.FixtureRequest) -> Iterator[Source]:
    """A server that keeps next to no WAL for a slot."""
    version: Version = request.param
    limits = {"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "wal_keep_size": "0"}
    with EmbeddedServer(version=version, settings={**FAST, **limits}) as server, Source(server) as made:
        yield made


def test_an_invalidated_slot_is_recognised_before_and_at_the_start(short_of_wal: Source, run: Run) -> None:
    async def test() -> None:
        await short_of_wal.make_slot()
        for _ in range(4):
            short_of_wal.run("select pg_logical_emit_message(false, 'x', 'y'), pg_switch_wal()")
        short_of_wal.run("checkpoint")
        async with await short_of_wal.replication() as conn:
            slot = await read_slot(conn, short_of_wal.slot)
            assert slot is not None
            reason = "lost" if short_of_wal.version < 17 else "wal_removed"
            assert (slot.wal_status, slot.invalidation) == ("lost", reason)
            with pytest.raises(SlotLost) as caught:
                check_slot(slot, short_of_wal.slot, short_of_wal.name)
            assert caught.value.reason is LossReason.INVALIDATED
            with pytest.raises(SlotLost) as caught:
                await start_replication(conn, short_of_wal.slot, "published")
            assert caught.value.reason is LossReason.INVALIDATED
            assert await drop_slot(conn, short_of_wal.slot)

    run(test())


# --- the stored position


def test_a_slot_dropped_and_made_again_does_not_fit_the_checkpoint(source: Source, run: Run) -> None:
    async def test() -> None:
        async with await source.replication() as conn:
            stored = (await create_slot(conn, source.slot)).consistent_point
            slot, system = await read_slot(conn, source.slot), await identify_system(conn)
            assert slot is not None
            check_stored_position(stored, slot, system)
            await drop_slot(conn, source.slot)
            source.insert("in the gap")
            await create_slot(conn, source.slot)
            slot = await read_slot(conn, source.slot)
            assert slot is not None
            with pytest.raises(SlotLost, match="beyond the checkpoint") as caught:
                check_stored_position(stored, slot, system)
            assert caught.value.reason is LossReason.FOREIGN

    run(test())


def test_a_checkpoint_beyond_the_servers_wal_is_refused_and_a_slot_behind_it_is_not(source: Source, run: Run) -> None:
    async def test() -> None:
        async with await source.replication() as conn:
            await create_slot(conn, source.slot)
            slot, system = await read_slot(conn, source.slot), await identify_system(conn)
        assert slot is not None
        check_stored_position(system.flushed, slot, system)
        with pytest.raises(SlotLost, match="beyond the server's WAL"):
            check_stored_position(Lsn(system.flushed + 1), slot, system)

    run(test())


def test_conflicts_of_version_16_count_as_invalidation() -> None:
    row = dict.fromkeys(("plugin", "database", "active_pid", "restart_lsn", "confirmed_flush_lsn"))
    state = _slot_state({**row, "slot_name": "s", "active": False, "wal_status": None, "conflicting": True})
    assert state.invalidation == "lost"


# --- the publication and the server


def test_a_complete_publication_has_no_problems(each_source: Source, run: Run) -> None:
    async def test() -> None:
        async with await each_source.replication() as conn:
            assert await check_publication(conn, "published", {"public.events": ["note", "id"]}) == []
            await require_publication(conn, "published", {"public.events": ["note"]})

    run(test())


def test_everything_that_a_publication_leaves_out_is_named(each_source: Source, run: Run) -> None:
    async def test() -> None:
        each_source.run("create table narrow (id int, a int, b int)")
        each_source.run("create table filtered (id int)")
        each_source.run(
            "create publication poor for table narrow (id), filtered where (id > 1) with (publish = 'update')"
        )
        expected = {"public.narrow": ["id", "b", "a"], "public.filtered": ["id"], "public.events": ["note"]}
        async with await each_source.replication() as conn:
            problems = await check_publication(conn, "poor", expected)
            missing = await check_publication(conn, "no 'such' one", expected)
            with pytest.raises(PublicationIncomplete) as caught:
                await require_publication(conn, "poor", expected)
        assert [problem.what for problem in problems] == [
            "publication poor does not publish inserts",
            "publication poor leaves out b, a of public.narrow",
            "publication poor filters the rows of public.filtered by (id > 1)",
            "publication poor leaves out public.events",
        ]
        assert all(problem.hint for problem in problems)
        assert [problem.what for problem in missing] == ["publication no 'such' one does not exist"]
        assert list(caught.value.problems) == problems

    run(test())


def test_a_publication_of_all_tables_is_complete(source: Source, run: Run) -> None:
    async def test() -> None:
        source.run("create publication everything for all tables")
        async with await source.replication() as conn:
            assert await check_publication(conn, "everything", {"public.events": ["id", "note"]}) == []

    run(test())


def test_a_server_that_decodes_has_no_problems(each_source: Source, run: Run) -> None:
    async def test() -> None:
        async with await each_source.replication() as conn:
            assert await check_server(conn) == []
            await require_server(conn)

    run(test())


def test_whom_the_server_lets_replicate_may_whatever_its_attributes_say(source: Source, run: Run) -> None:
    """On RDS and Aurora no role has the attribute: they go by membership in rds_replication."""

    async def test() -> None:
        source.run("create role let_in login replication")
        try:
            async with await connect_replication(source.dsn(user="let_in"), application_name="test-reader") as conn:
                source.run("alter role let_in noreplication")
                assert await check_server(conn) == []
        finally:
            source.run("drop role let_in")

    run(test())


def test_where_replication_is_a_matter_of_membership_the_hint_says_so(source: Source, run: Run) -> None:
    async def test() -> None:
        source.run("create role rds_replication")
        try:
            async with await psycopg.AsyncConnection.connect(source.dsn(user="alice")) as conn:
                [problem] = await check_server(conn)
        finally:
            source.run("drop role rds_replication")
        assert (problem.what, problem.hint) == ("role alice may not replicate", 'grant rds_replication to "alice"')

    run(test())


def test_an_unfit_server_and_role_are_named() -> None:
    async def test() -> None:
        async with await psycopg.AsyncConnection.connect(server.dsn(user="nobody in particular")) as conn:
            problems = await check_server(conn)
            with pytest.raises(ServerUnfit):
                await require_server(conn)
        assert [(problem.what, problem.hint) for problem in problems] == [
            ("wal_level is replica", "alter system set wal_level = 'logical'; then restart the server"),
            ("role nobody in particular may not replicate", 'alter role "nobody in particular" replication'),
        ]

    with EmbeddedServer(version=18, settings={**FAST, "wal_level": "replica"}) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute('create role "nobody in particular" login')
        asyncio.run(test())


def test_waiting_for_a_slot_leaves_nothing_behind_when_cancelled(source: Source, run: Run) -> None:
    async def test() -> None:
        with source.open_transaction():
            async with await source.replication() as conn:
                creating = asyncio.create_task(create_slot(conn, source.slot))
                await until(
                    lambda: source.run("select 1 from pg_replication_slots where slot_name = %s", [source.slot])
                )
                creating.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await creating
        assert source.run("select 1 from pg_replication_slots where slot_name = %s", [source.slot]) == []

    run(test())
