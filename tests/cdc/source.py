"""A database to read from, and a reader that writes down what it is told."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, LiteralString, Self

import psycopg
from psycopg import sql as pgsql
from psycopg.rows import TupleRow

from cdc.lsn import NO_LSN, Lsn
from cdc.messages import Commit, Insert
from cdc.progress import Progress
from cdc.protocol import ReplicationProtocol
from cdc.slot import Connection, connect_replication, create_slot, read_slot, start_replication
from cdc.stream import Clock, Stream, StreamMessage
from engine.embedded import EmbeddedServer

PATIENCE_SECONDS: Final = 20.0
PUBLICATION: Final = "published"

_numbers = itertools.count(1)


class Source:
    """A database of its own with the published table `events (id, note)`, and the name of a slot nobody has made."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.name = f"source{next(_numbers)}"
        self.slot = f"slot_of_{self.name}"

    def __enter__(self) -> Self:
        with self.admin() as admin:
            admin.execute(pgsql.SQL("create database {}").format(pgsql.Identifier(self.name)))
        self.run("create table events (id int generated always as identity, note text)")
        self.run("create publication published for table events with (publish = 'insert')")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self.admin() as admin:
            slots: LiteralString = "from pg_replication_slots where database = %s"
            admin.execute(f"select pg_terminate_backend(active_pid, 5000) {slots} and active", [self.name])
            admin.execute(f"select pg_drop_replication_slot(slot_name) {slots}", [self.name])
            admin.execute(pgsql.SQL("drop database {} with (force)").format(pgsql.Identifier(self.name)))

    @property
    def version(self) -> int:
        return self.server.version

    def dsn(self, **keywords: str) -> str:
        return self.server.dsn(dbname=self.name, **keywords)

    def admin(self) -> psycopg.Connection[TupleRow]:
        """A connection to another database of the server."""
        return psycopg.connect(self.server.dsn(), autocommit=True)

    def connect(self) -> psycopg.Connection[TupleRow]:
        return psycopg.connect(self.dsn(), autocommit=True)

    def run(self, query: LiteralString, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run a statement in a transaction of its own, which is visible and flushed on return."""
        with self.connect() as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def insert(self, *notes: str) -> None:
        """One transaction that inserts these notes."""
        self.run("insert into events (note) select unnest(%s::text[])", [list(notes)])

    def flushed(self) -> Lsn:
        """The end of the WAL."""
        ((position,),) = self.run("select pg_current_wal_flush_lsn() - '0/0'")
        return Lsn(int(position))

    @contextmanager
    def open_transaction(self) -> Iterator[None]:
        """Somebody has written something and not committed."""
        with psycopg.connect(self.dsn()) as connection:
            connection.execute("insert into events (note) values ('never committed')")
            yield
            connection.rollback()

    async def replication(self, **keywords: Any) -> Connection:
        return await connect_replication(self.dsn(), application_name="test-reader", **keywords)

    async def make_slot(self) -> None:
        async with await self.replication() as conn:
            await create_slot(conn, self.slot)

    async def confirmed(self) -> Lsn:
        """How far the server believes the slot was confirmed."""
        async with await psycopg.AsyncConnection.connect(self.dsn(), autocommit=True) as conn:
            state = await read_slot(conn, self.slot)
        assert state is not None
        return state.confirmed_flush_lsn or NO_LSN


class Reader:
    """A started stream and all that it delivered. `on_message` may be replaced to do something about a message."""

    def __init__(self, conn: Connection, stored: Lsn = NO_LSN, wal_sender_timeout_seconds: float = 20) -> None:
        self.conn = conn
        self.messages: list[StreamMessage] = []
        self.ends: list[BaseException] = []
        self.on_message: Callable[[StreamMessage], None] = lambda message: None
        self._changed = asyncio.Event()
        clock = Clock()
        self.protocol = ReplicationProtocol(
            Progress(stored), now_us=clock(), wal_sender_timeout_us=int(wal_sender_timeout_seconds * 1e6)
        )
        self.stream = Stream(self.protocol, conn.pgconn, on_message=self._take, on_end=self._end, now_us=clock)

    @classmethod
    async def start(
        cls,
        source: Source,
        *,
        stored: Lsn = NO_LSN,
        wal_sender_timeout_seconds: int = 20,
        publication: str = PUBLICATION,
    ) -> Self:
        """Read the source's slot, which must exist."""
        conn = await source.replication(wal_sender_timeout_seconds=wal_sender_timeout_seconds)
        await start_replication(conn, source.slot, publication)
        reader = cls(conn, stored, wal_sender_timeout_seconds)
        reader.stream.start()
        return reader

    def _take(self, message: StreamMessage) -> None:
        self.messages.append(message)
        self._changed.set()
        self.on_message(message)

    def _end(self, error: BaseException) -> None:
        self.ends.append(error)
        self._changed.set()

    @property
    def notes(self) -> list[Any]:
        """The notes of the rows so far."""
        return [m.values[m.relation.positions(["note"])[0]] for m in self.messages if isinstance(m, Insert)]

    @property
    def commits(self) -> list[Commit]:
        return [message for message in self.messages if isinstance(message, Commit)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for messages, or the end, to make this true."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_committed(self, transactions: int) -> None:
        await self.until(lambda: len(self.commits) >= transactions)

    async def end(self) -> BaseException:
        """What the stream ends with."""
        await self.until(lambda: self.ends)
        (error,) = self.ends
        return error

    async def close(self) -> bool:
        """Close the stream and the connection; returns whether the stream ended in good order."""
        clean = await self.stream.close()
        await self.conn.close()
        return clean


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Ask again and again until the answer is true. The condition may return an awaitable."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.005)
