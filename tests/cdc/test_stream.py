"""A stream against a real server: what it delivers, what it confirms, and each way in which it ends."""

import asyncio
import itertools
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from cdc import stream as stream_module
from cdc.errors import ProtocolError, StreamEnded
from cdc.limits import UNANSWERED_STATUSES
from cdc.lsn import NO_LSN, Lsn
from cdc.messages import Begin, Commit, Insert, Keepalive
from cdc.pgoutput import POSTGRES_EPOCH_US
from cdc.protocol import ReplicationProtocol
from cdc.slot import read_slot, start_replication
from cdc.stream import StreamMessage
from engine.embedded import EmbeddedServer, Version, available_versions
from tests.cdc import wire
from tests.cdc.conftest import Run
from tests.cdc.raw import read_frames
from tests.cdc.source import Reader, Source, until
from tests.servers import FAST


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A server process that holds its connection and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def status(written: int, flushed: int) -> bytes:
    """A status that claims anything."""
    return struct.pack(">cQQQqB", b"r", written, flushed, flushed, 0, 0)


# --- delivery


def test_a_transaction_arrives_as_begin_rows_and_commit(each_source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await each_source.make_slot()
        before_us = time.time_ns() // 1000
        with each_source.connect() as writer, writer.transaction():
            ((xid,),) = writer.execute("select txid_current()").fetchall()
            writer.execute("insert into events (note) values ('one'), (null)")
        reader = await Reader.start(each_source)
        await reader.until_committed(1)
        begin, one, two, commit = [m for m in reader.messages if not isinstance(m, Keepalive)]
        assert isinstance(begin, Begin)
        assert isinstance(one, Insert)
        assert isinstance(two, Insert)
        assert isinstance(commit, Commit)
        assert begin.xid == xid
        assert before_us <= begin.commit_time_us == commit.commit_time_us <= time.time_ns() // 1000
        assert begin.final_lsn == commit.commit_lsn < commit.end_lsn <= each_source.flushed()
        assert (one.values, two.values) == (("1", "one"), ("2", None))
        assert one.relation is two.relation
        assert one.relation.qualified_name == "public.events"
        assert reader.protocol.position >= commit.end_lsn
        assert await reader.close()

    run_on_each_loop(test())


def test_a_row_inserted_while_streaming_arrives(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        for number in range(3):
            source.insert(f"row {number}")
            await reader.until_committed(number + 1)
        assert reader.notes == ["row 0", "row 1", "row 2"]
        await reader.close()

    run_on_each_loop(test())


def test_frames_that_libpq_holds_already_are_delivered_without_a_sound_from_the_socket(
    source: Source, run_on_each_loop: Run
) -> None:
    async def test() -> None:
        await source.make_slot()
        source.insert("x")
        flushed = source.flushed()
        conn = await source.replication(wal_sender_timeout_seconds=600)
        await start_replication(conn, source.slot, "published")
        await until(
            lambda: source.run(
                "select 1 from pg_stat_replication where pid = %s and sent_lsn - '0/0' >= %s",
                [conn.pgconn.backend_pid, flushed],
            )
        )
        with frozen(conn.pgconn.backend_pid):
            conn.pgconn.consume_input()
            reader = Reader(conn, wal_sender_timeout_seconds=600)
            reader.stream.start()
            await reader.until_committed(1)
        await reader.close()

    run_on_each_loop(test())


def test_what_rolls_back_and_what_is_not_published_stays_unseen(each_source: Source, run: Run) -> None:
    async def test() -> None:
        each_source.run("create table private (x int)")
        await each_source.make_slot()
        with each_source.open_transaction():
            pass
        each_source.run("insert into private values (1)")
        each_source.run("update events set note = 'x'")
        each_source.insert("seen")
        reader = await Reader.start(each_source)
        await reader.until_committed(1)
        assert reader.notes == ["seen"]
        assert len([m for m in reader.messages if isinstance(m, Begin)]) == 1  # empty transactions do not come at all
        await reader.close()

    run(test())


def test_rows_arrive_in_the_order_of_commits_not_of_their_ids(source: Source, run: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        with source.connect() as slow, slow.transaction():
            slow.execute("insert into events (note) values ('inserted first, committed last')")
            source.insert("inserted last, committed first")
        reader = await Reader.start(source)
        await reader.until_committed(2)
        ids = [int(m.values[0] or 0) for m in reader.messages if isinstance(m, Insert)]
        assert ids == [2, 1]
        await reader.close()

    run(test())


def test_a_column_added_while_streaming_comes_with_the_next_row(source: Source, run: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        source.insert("narrow")
        source.run("alter table events add column more int default 5")
        source.insert("wide")
        await reader.until_committed(2)
        narrow, wide = [m for m in reader.messages if isinstance(m, Insert)]
        assert narrow.relation.columns == ("id", "note")
        assert wide.relation.columns == ("id", "note", "more")
        assert wide.values == ("2", "wide", "5")
        assert reader.notes == ["narrow", "wide"]
        await reader.close()

    run(test())


def test_a_value_of_many_megabytes_arrives_whole(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        source.run("insert into events (note) select string_agg(md5(n::text), '') from generate_series(1, 300000) as n")
        await reader.until_committed(1)
        assert len(reader.notes[0]) == 32 * 300_000
        await reader.close()

    run_on_each_loop(test())


def test_bytes_of_a_database_without_encoding_arrive_as_they_are(source: Source, run: Run) -> None:
    async def test() -> None:
        with EmbeddedServer(version=18, settings=FAST, encoding="SQL_ASCII") as server, Source(server) as ascii_source:
            await ascii_source.make_slot()
            with ascii_source.connect() as writer:
                writer.execute(b"insert into events (note) values (E'caf\xe9'), ('caf\xc3\xa9')")
            reader = await Reader.start(ascii_source)
            await reader.until_committed(1)
            assert reader.notes == [b"caf\xe9", "café"]
            await reader.close()

    run(test())


def test_a_flood_leaves_the_loop_its_turns(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        rows = 3_000
        await source.make_slot()
        source.run("insert into events (note) select n::text from generate_series(1, 3000) as n")
        reader = await Reader.start(source)
        reader.on_message = lambda message: time.sleep(0.0001)
        turns = 0
        while not reader.commits:
            await asyncio.sleep(0)
            turns += bool(reader.messages)
        assert reader.notes == [str(n) for n in range(1, rows + 1)]
        assert turns > 20  # 0.3 s of work in slices of 5 ms
        await reader.close()

    run_on_each_loop(test())


# --- positions


def test_what_a_checkpoint_holds_is_confirmed_promptly_and_not_sent_again(each_source: Source, run: Run) -> None:
    async def test() -> None:
        await each_source.make_slot()
        each_source.insert("first")
        each_source.insert("second")
        reader = await Reader.start(each_source)
        await reader.until_committed(2)
        stored = reader.commits[0].end_lsn
        reader.stream.confirm(stored)

        async def confirmed() -> bool:
            return await each_source.confirmed() == stored

        await until(confirmed)
        await reader.close()
        again = await Reader.start(each_source, stored=stored)
        await again.until_committed(1)
        assert again.notes == ["second"]
        await again.close()

    run(test())


def test_nothing_is_confirmed_without_a_checkpoint_however_many_statuses_leave(source: Source, run: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        before = await source.confirmed()
        source.insert("x")
        reader = await Reader.start(source)
        await reader.until_committed(1)
        for _ in range(3):
            reader.messages = [m for m in reader.messages if isinstance(m, Insert)]
            reader.stream.send_status(reply_wanted=True)
            await reader.until(lambda: any(isinstance(m, Keepalive) for m in reader.messages))
        assert reader.protocol.position > before
        assert await reader.close()
        assert await source.confirmed() == before
        again = await Reader.start(source)
        await again.until_committed(1)
        assert again.notes == ["x"]
        await again.close()

    run(test())


def test_a_keepalive_moves_the_position_past_what_is_not_published(source: Source, run: Run) -> None:
    async def test() -> None:
        source.run("create table private (x int)")
        await source.make_slot()
        reader = await Reader.start(source)
        source.run("insert into private values (1)")
        flushed = source.flushed()

        async def past() -> bool:
            reader.stream.send_status(reply_wanted=True)
            return reader.protocol.position >= flushed

        await until(past)
        assert not reader.commits
        await reader.close()

    run(test())


def test_confirmations_within_a_moment_leave_as_one(source: Source, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(stream_module, "CONFIRM_SPACING_SECONDS", 0.1)
        monkeypatch.setattr(stream_module, "LOOK_AGAIN_SECONDS", 60)
        await source.make_slot()
        reader = await Reader.start(source)
        sent: list[float] = []
        make = ReplicationProtocol.status

        def noted(protocol: ReplicationProtocol, now_us: int, reply_wanted: bool = False) -> bytes:
            sent.append(time.monotonic())
            return make(protocol, now_us, reply_wanted)

        monkeypatch.setattr(ReplicationProtocol, "status", noted)
        for number in range(5):
            source.insert(str(number))
            await reader.until_committed(number + 1)
            for _ in range(20):
                reader.stream.confirm(reader.commits[-1].end_lsn)
        last = reader.commits[-1].end_lsn

        async def confirmed() -> bool:
            return await source.confirmed() == last

        await until(confirmed)
        assert 1 <= len(sent) <= 4
        assert all(later - earlier > 0.09 for earlier, later in itertools.pairwise(sent))
        await reader.close()

    run(test())


def test_a_status_follows_a_burst_so_that_a_server_that_missed_a_flush_looks_again(
    source: Source, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a commit sometimes came 6.7 s late (16 and 18): once in some thousand on an otherwise idle server."""

    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        sent: list[bool] = []
        make = ReplicationProtocol.status

        def noted(protocol: ReplicationProtocol, now_us: int, reply_wanted: bool = False) -> bytes:
            sent.append(reply_wanted)
            return make(protocol, now_us, reply_wanted)

        monkeypatch.setattr(ReplicationProtocol, "status", noted)
        for number in range(3):
            before = len(sent)
            source.insert(str(number))
            await reader.until_committed(number + 1)
            await until(lambda: len(sent) > before)  # noqa: B023 (awaited here)
        assert not any(sent)  # an answer would be a burst again
        await reader.close()

    run(test())


def test_what_was_confirmed_just_before_closing_is_still_reported(source: Source, run: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        source.insert("x")
        reader = await Reader.start(source)
        await reader.until_committed(1)
        stored = reader.commits[0].end_lsn
        reader.stream.confirm(stored)
        assert await reader.close()
        assert await source.confirmed() == stored

    run(test())


def test_acknowledging_where_the_commit_begins_brings_it_again(source: Source, run: Run) -> None:
    """Why `end_lsn` is the position of a transaction."""

    async def test() -> None:
        await source.make_slot()
        source.insert("x")
        for position in ("commit_lsn", "end_lsn"):
            reader = await Reader.start(source)
            await reader.until_committed(1)
            assert reader.notes == ["x"]
            claimed = getattr(reader.commits[0], position)
            reader.conn.pgconn.put_copy_data(status(claimed, claimed))
            await reader.close()
            assert await source.confirmed() == claimed
        source.insert("y")
        reader = await Reader.start(source)
        await reader.until_committed(1)
        assert reader.notes == ["y"]
        await reader.close()

    run(test())


def test_the_server_believes_a_position_beyond_its_wal_and_skips_commits(source: Source, run: Run) -> None:
    """Why nothing but a checkpoint's position may be confirmed."""

    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        future = Lsn(source.flushed() + 100_000)
        with pytest.raises(AssertionError):
            reader.stream.confirm(future)
        reader.conn.pgconn.put_copy_data(status(future, future))
        await reader.close()
        assert await source.confirmed() == future
        source.insert("lost")
        source.run("select pg_logical_emit_message(false, 'filler', repeat('x', 120000))")
        source.insert("seen")
        reader = await Reader.start(source)
        await reader.until_committed(1)
        assert reader.notes == ["seen"]
        await reader.close()

    run(test())


# --- staying alive


def test_a_huge_transaction_does_not_keep_statuses_from_leaving(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        source.run("insert into events (note) select repeat('x', 1000) from generate_series(1, 5000)")
        reader = await Reader.start(source, wal_sender_timeout_seconds=2)
        reader.on_message = lambda message: time.sleep(0.0006)
        await reader.until_committed(1)  # after 3 s of work
        assert len(reader.notes) == 5_000
        reader.messages.clear()
        reader.stream.send_status(reply_wanted=True)
        await reader.until(lambda: reader.messages or reader.ends)
        assert not reader.ends
        await reader.close()

    run_on_each_loop(test())


def test_a_reader_that_sends_no_status_is_dropped(source: Source, run: Run) -> None:
    """Why statuses leave by the clock."""

    async def test() -> None:
        await source.make_slot()
        async with await source.replication(wal_sender_timeout_seconds=1) as conn:
            pgconn = await start_replication(conn, source.slot, "published")
            with pytest.raises(psycopg.OperationalError):
                read_frames(pgconn, lambda frames: False)

    run(test())


def test_an_idle_stream_outlives_the_timeout_and_hears_from_the_server(each_source: Source, run: Run) -> None:
    async def test() -> None:
        await each_source.make_slot()
        reader = await Reader.start(each_source, wal_sender_timeout_seconds=1)
        await reader.until(lambda: sum(isinstance(m, Keepalive) for m in reader.messages) >= 5)
        assert not reader.ends
        assert await reader.close()

    run(test())


def test_a_question_of_the_server_is_answered_at_once(source: Source, run: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        # The server asks after half of its timeout; we would speak by ourselves after a third of ours.
        conn = await source.replication(wal_sender_timeout_seconds=1)
        await start_replication(conn, source.slot, "published")
        reader = Reader(conn, wal_sender_timeout_seconds=600)
        reader.stream.start()
        await reader.until(lambda: sum(isinstance(m, Keepalive) and m.reply_wanted for m in reader.messages) >= 3)
        assert not reader.ends
        await reader.close()

    run(test())


def test_a_silent_server_ends_the_stream(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        conn = await source.replication()
        await start_replication(conn, source.slot, "published")
        reader = Reader(conn, wal_sender_timeout_seconds=0.15)
        with frozen(conn.pgconn.backend_pid):
            reader.stream.start()
            error = await reader.end()
            assert isinstance(error, StreamEnded)
            assert f"no answer to {UNANSWERED_STATUSES} status messages" in error.what
            assert not await reader.stream.close(timeout_seconds=0.1)
        await conn.close()

    run_on_each_loop(test())


def test_statuses_that_the_socket_does_not_take_are_merged(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        source.insert("x")
        reader = await Reader.start(source, wal_sender_timeout_seconds=600)  # so that nothing leaves by the clock
        await reader.until_committed(1)
        with frozen(reader.conn.pgconn.backend_pid):
            while not reader.stream._writing:
                reader.stream.send_status()
            assert not reader.stream._status_owed
            reader.stream.confirm(reader.commits[0].end_lsn)
            await until(lambda: reader.stream._status_owed)
            assert reader.stream.running
        await until(lambda: not reader.stream._writing)

        async def confirmed() -> bool:
            return await source.confirmed() == reader.commits[0].end_lsn

        await until(confirmed)
        assert not reader.ends
        assert await reader.close()

    run_on_each_loop(test())


# --- ending


def test_closing_gives_the_connection_back_and_the_slot_free_in_milliseconds(
    each_source: Source, run_on_each_loop: Run
) -> None:
    async def test() -> None:
        await each_source.make_slot()
        each_source.insert("x")
        reader = await Reader.start(each_source)
        await reader.until_committed(1)
        before = time.monotonic()
        assert await reader.stream.close()
        assert time.monotonic() - before < 1
        slot = await read_slot(reader.conn, each_source.slot)
        assert slot is not None
        assert not slot.active
        assert not reader.ends
        with pytest.raises(AssertionError):
            await reader.stream.close()
        reader.stream.send_status()  # of no effect
        await reader.conn.close()

    run_on_each_loop(test())


def test_nothing_is_delivered_after_closing(source: Source, run: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        source.run("insert into events (note) select n::text from generate_series(1, 20000) as n")
        reader = await Reader.start(source)
        reader.on_message = lambda message: time.sleep(0.0001)
        await reader.until(lambda: reader.notes)
        delivered = len(reader.messages)
        assert await reader.stream.close()
        assert len(reader.messages) == delivered < 20_000
        await reader.conn.close()

    run(test())


def test_closing_does_not_wait_for_a_server_that_does_not_answer(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        with frozen(reader.conn.pgconn.backend_pid):
            assert not await reader.stream.close(timeout_seconds=0.1)
            assert reader.conn.closed
        await reader.conn.close()

    run_on_each_loop(test())


def test_a_close_that_is_cancelled_closes_the_connection(source: Source, run: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        with frozen(reader.conn.pgconn.backend_pid):
            closing = asyncio.create_task(reader.stream.close())
            await asyncio.sleep(0.01)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert reader.conn.closed
        await reader.conn.close()

    run(test())


@pytest.mark.parametrize("failure", [ValueError("a bug"), psycopg.OperationalError("x"), asyncio.CancelledError()])
def test_an_exception_of_the_reader_ends_the_stream_and_the_slot_can_be_freed(
    source: Source, run_on_each_loop: Run, failure: BaseException
) -> None:
    async def test() -> None:
        await source.make_slot()
        source.insert("good", "bad", "never delivered")
        reader = await Reader.start(source)

        def fail(message: StreamMessage) -> None:
            if isinstance(message, Insert) and "bad" in message.values:
                raise failure

        reader.on_message = fail
        assert await reader.end() is failure
        assert reader.notes == ["good", "bad"]
        assert not reader.stream.running
        assert await reader.close()
        again = await Reader.start(source)
        await again.until_committed(1)
        assert again.notes == ["good", "bad", "never delivered"]
        await again.close()

    run_on_each_loop(test())


def test_bytes_that_make_no_sense_end_the_stream(source: Source, run: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        conn = await source.replication()
        await start_replication(conn, source.slot, "published")
        reader = Reader(conn)
        reader.protocol.receive(wire.wal_data(wire.begin(1)))  # so that the next Begin comes inside a transaction
        reader.stream.start()
        source.insert("x")
        assert isinstance(await reader.end(), ProtocolError)
        assert reader.notes == []
        assert await reader.close()

    run(test())


def test_a_terminated_backend_ends_the_stream_with_its_sqlstate(each_source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await each_source.make_slot()
        reader = await Reader.start(each_source)
        each_source.run("select pg_terminate_backend(%s)", [reader.conn.pgconn.backend_pid])
        error = await reader.end()
        assert isinstance(error, StreamEnded)
        assert error.sqlstate == "57P01"
        assert error.hint
        assert not await reader.close()

    run_on_each_loop(test())


def test_a_connection_cut_by_the_network_ends_the_stream(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        await reader.until(lambda: reader.messages)
        with socket.socket(fileno=os.dup(reader.conn.pgconn.socket)) as ours:
            ours.shutdown(socket.SHUT_RDWR)
        error = await reader.end()
        assert isinstance(error, StreamEnded)
        assert error.sqlstate is None
        reader.stream.send_status()
        reader.stream.confirm(NO_LSN)
        assert not await reader.close()

    run_on_each_loop(test())


def test_an_ended_stream_leaves_the_number_of_its_socket_to_others(source: Source, run_on_each_loop: Run) -> None:
    async def test() -> None:
        await source.make_slot()
        reader = await Reader.start(source)
        number = reader.conn.pgconn.socket
        await reader.until(lambda: reader.messages)
        with socket.socket(fileno=os.dup(number)) as ours:
            ours.shutdown(socket.SHUT_RDWR)
        await reader.end()
        left, right = socket.socketpair()
        with left, right:
            if left.fileno() != number:
                os.dup2(left.fileno(), number)
            readable = asyncio.Event()
            asyncio.get_running_loop().add_reader(number, readable.set)
            assert not await reader.close()
            right.send(b"x")
            async with asyncio.timeout(5):
                await readable.wait()
            asyncio.get_running_loop().remove_reader(number)
            if left.fileno() != number:
                os.close(number)

    run_on_each_loop(test())


def test_a_dropped_publication_ends_the_stream_or_is_found_by_the_check_only(each_source: Source, run: Run) -> None:
    """Up to 17 the first change fails; 18 skips the changes and only warns in the server's log."""

    async def test() -> None:
        each_source.run("create publication short_lived for table events")
        await each_source.make_slot()
        reader = await Reader.start(each_source, publication="short_lived")
        each_source.run("drop publication short_lived")
        each_source.insert("x")
        if each_source.version < 18:
            error = await reader.end()
            assert isinstance(error, StreamEnded)
            assert error.sqlstate == "42704"
            assert "publication" in error.hint
        else:
            flushed = each_source.flushed()

            async def past() -> bool:
                reader.stream.send_status(reply_wanted=True)
                return reader.protocol.position >= flushed

            await until(past)
            assert reader.notes == []
        assert await reader.close()  # in both cases the connection is as good as new

    run(test())


# --- the server stops, crashes, comes back


@pytest.fixture(params=available_versions(), ids=lambda version: f"pg{version}")
def own_server(request: pytest.FixtureRequest) -> Iterator[Source]:
    """A server that the test may stop."""
    version: Version = request.param
    with EmbeddedServer(version=version, settings={**FAST, "fsync": "on"}) as server, Source(server) as made:
        yield made
        if not server.running:
            server.start()


def test_a_crash_of_the_server_loses_nothing(own_server: Source, run: Run) -> None:
    async def test() -> None:
        await own_server.make_slot()
        own_server.insert("confirmed")
        own_server.insert("not confirmed")
        reader = await Reader.start(own_server)
        await reader.until_committed(2)
        stored = reader.commits[0].end_lsn
        reader.stream.confirm(stored)

        async def confirmed() -> bool:
            return await own_server.confirmed() == stored

        await until(confirmed)
        await asyncio.to_thread(own_server.server.restart, "immediate")
        assert isinstance(await reader.end(), StreamEnded)
        await reader.close()
        assert await own_server.confirmed() <= stored  # the slot may have moved back: redelivery is normal
        own_server.insert("after")
        again = await Reader.start(own_server, stored=stored)
        await again.until(lambda: "after" in again.notes)
        assert again.notes[-2:] == ["not confirmed", "after"]
        assert next(c.end_lsn for c in again.commits if c.end_lsn > stored) == reader.commits[1].end_lsn
        await again.close()

    run(test())


def test_a_fast_stop_waits_for_a_reader_that_does_not_confirm_everything_and_ends_when_it_closes(
    own_server: Source, run: Run
) -> None:
    async def test() -> None:
        await own_server.make_slot()
        own_server.insert("confirmed")
        own_server.insert("not confirmed")
        reader = await Reader.start(own_server)
        await reader.until_committed(2)
        reader.stream.confirm(reader.commits[0].end_lsn)
        stopping = asyncio.create_task(asyncio.to_thread(own_server.server.stop, "fast"))
        # It asks again and again, which is no reason to end.
        await reader.until(lambda: sum(isinstance(m, Keepalive) and m.reply_wanted for m in reader.messages) > 3)
        assert not stopping.done()
        assert not reader.ends
        await reader.close()
        async with asyncio.timeout(10):
            await stopping

    run(test())


def test_a_fast_stop_ends_a_reader_that_has_confirmed_everything(own_server: Source, run: Run) -> None:
    async def test() -> None:
        await own_server.make_slot()
        own_server.insert("x")
        reader = await Reader.start(own_server)

        def store(message: StreamMessage) -> None:
            reader.stream.confirm(reader.protocol.position)

        reader.on_message = store
        await reader.until_committed(1)
        await asyncio.to_thread(own_server.server.stop, "fast")
        error = await reader.end()
        assert isinstance(error, StreamEnded)
        await reader.close()

    run(test())


def test_the_clock_of_a_stream_agrees_with_the_wall_and_never_goes_back() -> None:
    clock = stream_module.Clock()
    assert abs(clock() - time.time_ns() // 1000) < 1_000_000
    assert clock() > POSTGRES_EPOCH_US
    readings = [clock() for _ in range(1000)]
    assert readings == sorted(readings)
