"""The host that is a PostgreSQL server: see `engine.host`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import psycopg
from psycopg.pq.abc import PGconn

from cdc.lsn import NO_LSN, Lsn
from cdc.progress import Progress
from cdc.protocol import ReplicationProtocol
from cdc.slot import (
    FAILOVER_SLOTS_SINCE,
    CreatedSlot,
    SlotState,
    SystemIdentity,
    connect_replication,
    create_slot,
    drop_slot,
    identify_system,
    read_slot,
    start_replication,
)
from cdc.stream import Clock, Stream, StreamMessage
from engine.config import Settings
from engine.connect import connect
from engine.doctor import diagnose
from engine.doctor.findings import Finding
from engine.errors import Lost
from engine.executors.login import Login
from engine.store import Store
from engine.store.border import ours
from engine.store.postgres import PostgresStore
from engine.story import Told, all_of, to_log
from engine.story import log as story_log
from engine.upkeep import Leader, Upkeep
from metrics.collect import Metrics

Connection = psycopg.AsyncConnection[Any]

HOLD_SECONDS: Final = 5.0
"""Between statuses while the stream is held and nothing is read from it yet."""
BY_KEYS: Final = "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_sort=off"
"""A plan is kept for a session's life: one that was made while the tables were empty must serve when they are full."""


class PostgresHost:
    """`engine.host.Host` by the settings."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._tracers: dict[str, Told] = {}
        self.chance = random.Random()

    def monotonic(self) -> float:
        return time.monotonic()

    async def diagnose(self) -> Sequence[Finding]:
        return await diagnose(self._settings, try_steps=False)

    async def store(self, name: str, *, lock_timeout_ms: int | None = None) -> Store:
        options = BY_KEYS if lock_timeout_ms is None else f"{BY_KEYS} -c lock_timeout={lock_timeout_ms}"
        with _connecting():
            return PostgresStore(await connect(self._settings.dsn, name, options))

    async def replication(self, name: str) -> PostgresReplication:
        with _connecting():
            connection = await connect_replication(self._settings.replication_dsn, application_name=name)
        return PostgresReplication(connection)

    def logins(self, lookup: Store) -> Login:
        return Login(self._settings.step_dsn, self._settings.step_passfile, lookup)

    def told(self, system: str) -> Told | None:
        listeners: list[Told] = [to_log] if story_log.isEnabledFor(logging.DEBUG) else []
        if self._settings.traces == "otlp":
            if system not in self._tracers:
                from engine.tracing import to_otlp  # an optional extra

                self._tracers[system] = to_otlp(system)
            listeners.append(self._tracers[system])
        return all_of(listeners)

    def upkeep(self, leader: Leader) -> Coroutine[Any, Any, None]:
        settings = self._settings
        return Upkeep(leader, dsn=settings.dsn, retention=settings.retention, metrics=self._metrics).run()


@contextmanager
def _connecting() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise Lost(str(error).strip(), sqlstate=error.sqlstate) from error


class PostgresReplication:
    """`engine.host.Replication`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise ours(error, closed=self._connection.closed) from error

    @property
    def pid(self) -> int:
        return self._connection.info.backend_pid

    async def identify_system(self) -> SystemIdentity:
        with self._border():
            return await identify_system(self._connection)

    async def slot(self, name: str) -> SlotState | None:
        with self._border():
            return await read_slot(self._connection, name)

    async def drop_slot(self, name: str) -> bool:
        with self._border():
            return await drop_slot(self._connection, name)

    async def create_slot(self, name: str) -> CreatedSlot:
        with self._border():
            # one that standbys can copy, where there are such: without, a promotion means a scan of the tables
            failover = self._connection.info.server_version >= FAILOVER_SLOTS_SINCE
            return await create_slot(self._connection, name, failover=failover)

    async def start(self, slot: str, publication: str) -> PostgresStarted:
        with self._border():
            return PostgresStarted(await start_replication(self._connection, slot, publication))

    async def close(self) -> None:
        await self._connection.close()


class PostgresStarted:
    """`engine.host.Started`."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        protocol = ReplicationProtocol(Progress(NO_LSN), now_us=Clock()())
        pgconn = self._pgconn

        async def hold() -> None:
            while True:
                pgconn.put_copy_data(protocol.status(Clock()()))
                pgconn.flush()
                await asyncio.sleep(HOLD_SECONDS)

        task = asyncio.create_task(hold())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError), self._border():
                await task

    @contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise Lost(f"replication connection lost: {error}".strip()) from error

    def stream(
        self, stored: Lsn, *, on_message: Callable[[StreamMessage], None], on_end: Callable[[BaseException], None]
    ) -> Stream:
        clock = Clock()
        protocol = ReplicationProtocol(Progress(stored), now_us=clock())
        return Stream(protocol, self._pgconn, on_message=on_message, on_end=on_end, now_us=clock)
