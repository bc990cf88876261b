"""One leadership: from holding the slot to losing it. Everything in it is made anew for each, from the checkpoint.

Theory of operation. The stream hands messages to the book, the book hands effects to `_dispatch`, which starts steps and timers
at once; the checkpointer writes behind; what the engine decides itself goes through the recorder. Effects are held back until
the stream has passed the position that the server had flushed at the takeover: only then is it known what an earlier leader
has done, and what is outstanding is dispatched, marked *may have run before*.

Any end of the stream or of a connection ends the leadership: states in memory may be ahead of what another leader has
checkpointed meanwhile, and are of no use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg.pq.abc import PGconn

from cdc.errors import CdcError, StreamEnded
from cdc.lsn import NO_LSN, Lsn, parse_lsn
from cdc.messages import Begin, Commit, Insert
from cdc.progress import Progress
from cdc.protocol import ReplicationProtocol
from cdc.slot import SystemIdentity, start_replication
from cdc.stream import Clock, Stream, StreamMessage
from engine import recovery
from engine.book import Book, Live
from engine.checkpoint import FENCED, Checkpointer
from engine.config import Settings
from engine.connect import connect
from engine.effects import CancelStep, DropTimer, Effect, Execute, Finish, StartTimer
from engine.errors import Fenced, LeadershipLost
from engine.executors.login import Login
from engine.executors.pools import Pools
from engine.executors.recorder import LOCK_TIMEOUT_MS, Record, Recorder
from engine.executors.sql import SqlExecutor
from engine.log import fields
from engine.machine import ENGINE, outstanding
from engine.recovery import Checkpoint, Moment
from engine.rows import CompletionRow, HeartbeatRow
from engine.timers import Timer, Timers
from engine.visibility import Visibility
from metrics.collect import Histogram, Metrics
from metrics.names import STATUSES

Connection = psycopg.AsyncConnection[Any]

log = logging.getLogger("walflow.leader")

HEARTBEAT_SECONDS: Final = 20.0
"""Between heartbeats: each moves the slot when nothing else does, and costs an idle leader its two statements."""
HEARTBEATS_MISSED: Final = 3
"""Heartbeats that did not come back by the log: then rows are not published, and the tables are scanned."""
CROSS_CHECK_SECONDS: Final = 600.0
"""Between two cross-checks of the tables with what was folded."""
CROSS_CHECK_PATIENCE_SECONDS: Final = 0.2
"""Between looks at whether a checkpoint has passed what a cross-check saw."""
HOLD_SECONDS: Final = 5.0
"""Between statuses while the stream is held and nothing is read from it yet."""
CATCH_UP_SECONDS: Final = 0.05
"""Between questions for the server's position while catching up."""
RECORDING_SECONDS: Final = 2.0
"""How long an orderly stop waits for outcomes to be inserted: somebody may hold a key."""
STOPPING_POLL_SECONDS: Final = 0.01
LONGEST_TIMER_SECONDS: Final = 3600.0
"""Sleep of the timer task at most: the database's clock may be set."""

_LATENCIES: Final[dict[str, Callable[[Metrics], Histogram]]] = {
    "instances": lambda metrics: metrics.start_latency_seconds,
    "signals": lambda metrics: metrics.signal_latency_seconds,
}
"""Where it is measured how long a row took from its commit until something was begun because of it."""

_HEARTBEAT: Final = "select wal_end, restart_lsn, wal_status, settings, now_us from df.heartbeat(%s::bigint, %s)"


class Leadership:
    """See the module's docstring. Use `lead`."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        main: Connection,
        replication: Connection,
        system: SystemIdentity,
        checkpoint: Checkpoint,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._main = main
        self._replication = replication
        self._system = system
        self._before = checkpoint
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._timers = Timers()
        self._timer_handle: asyncio.TimerHandle | None = None
        self._clock_offset_us = 0
        self._caught_up = False
        self._heartbeats_owed = 0
        self._fired: dict[tuple[int, str], int] = {}
        self._dispatched = 0
        self._recovered = 0
        self._releases: set[asyncio.Task[None]] = set()
        self.epoch = 0
        self.book: Book
        self.stream: Stream

    # --- taking over --------------------------------------------------------------------------------------------------

    async def begin(self, pgconn: PGconn | None) -> None:
        """Loads the checkpoint and catches up; with no started stream, makes a slot and scans the tables."""
        self.epoch = await recovery.take_over(self._main, scanning=pgconn is None)
        self._lookup = await connect(self._settings.dsn, "walflow-leader")
        self._writer = await connect(self._settings.dsn, "walflow-leader")
        self._roles_writer = await connect(self._settings.dsn, "walflow-leader", f"-c lock_timeout={LOCK_TIMEOUT_MS}")
        login = Login(self._settings.step_dsn, self._settings.step_passfile, self._lookup)
        if pgconn is None:
            moment, pgconn, stored = await self._rebuild(login)
        else:
            moment, stored = await self._resume(pgconn)
        self._make(login, moment, stored)
        self._start_stream(pgconn, stored)
        await self._catch_up(moment.flushed)

    async def _resume(self, pgconn: PGconn) -> tuple[Moment, Lsn]:
        async with self._holding(pgconn):
            moment = await recovery.moment(self._main)
            stored = (await recovery.read_checkpoint(self._main)).lsn
            await self._make_book(moment, stored)
            await recovery.load(self._lookup, self._writer, self.book)
        log.info("checkpoint loaded", extra=fields(instances=len(self.book.instances), epoch=self.epoch))
        return moment, stored

    async def _rebuild(self, login: Login) -> tuple[Moment, PGconn, Lsn]:
        await recovery.prepare_rebuild(self._lookup, login, self._system, self._before)
        slot = await recovery.make_slot(self._replication, self._settings.slot)
        scanner = await connect(self._settings.dsn, "walflow-leader")
        try:
            await recovery.import_snapshot(scanner, slot.snapshot_name)
            pgconn = await start_replication(self._replication, self._settings.slot, self._settings.publication)
            async with self._holding(pgconn):
                moment = await recovery.moment(self._main)
                await self._make_book(moment, slot.consistent_point)
                folded = await recovery.scan(scanner, self.book, slot.consistent_point)
                await self._store_rebuilt(slot.consistent_point)
        finally:
            await scanner.close()
        self._metrics.recovered.inc("scan", by=folded)
        log.info("tables scanned", extra=fields(rows=folded, instances=len(self.book.instances), epoch=self.epoch))
        return moment, pgconn, slot.consistent_point

    async def _store_rebuilt(self, lsn: Lsn) -> None:
        """States, position and identity of the slot in one transaction: before it there was no slot to go on from."""
        writer = self._checkpointer_for(self._main)
        async with self._main.transaction():
            await writer.write()
            await self._main.execute(
                """
                update df.checkpoint
                   set system_identifier = %s, slot_name = %s, slot_generation = slot_generation + 1, scanning = false
                 where epoch = %s
                """,
                [self._system.system_identifier, self._settings.slot, self.epoch],
            )

    @asynccontextmanager
    async def _holding(self, pgconn: PGconn) -> AsyncIterator[None]:
        """Keeps a started stream alive that nobody reads yet: statuses that confirm nothing."""
        protocol = ReplicationProtocol(Progress(NO_LSN), now_us=Clock()())

        async def hold() -> None:
            while True:
                pgconn.put_copy_data(protocol.status(Clock()()))
                pgconn.flush()
                await asyncio.sleep(HOLD_SECONDS)

        task = self._loop.create_task(hold())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _make_book(self, moment: Moment, stored: Lsn) -> None:
        self._clock_offset_us = moment.now_us - time.monotonic_ns() // 1000
        self._visibility = Visibility(moment.next_xid)
        self.book = Book(visibility=self._visibility, dispatch=lambda _live, _effect: None, stored=stored)
        self.book.settings = await recovery.read_settings(self._main)
        self.book.on_release = self._release
        self.book.on_quarantined = self._quarantined

    def _make(self, login: Login, moment: Moment, stored: Lsn) -> None:
        self._recorder = Recorder(self._writer, self._roles_writer, self.epoch)
        self._executor = SqlExecutor(
            pools=Pools(
                login,
                connections=self._settings.step_connections,
                per_role=self._settings.step_connections_per_role,
                on_lost=self._end,
            ),
            recorder=self._recorder,
            epoch=self.epoch,
            result_bytes=lambda: int(self.book.settings.get("result_bytes", "1048576")),
            proven=self._visibility.proven,
            on_fenced=self._end,
            metrics=self._metrics,
        )
        self._checkpointer = self._checkpointer_for(self._main)
        self.book.on_settled = self._settled
        self.book.on_heartbeat = self._heartbeat_came
        self.book.on_event = self._metrics.events.inc
        self.book.on_started = lambda _live: self._metrics.instances_started.inc()

    def _checkpointer_for(self, connection: Connection) -> Checkpointer:
        return Checkpointer(self.book, connection, self.epoch, confirm=self._confirm, observed=self._checkpointed)

    def _confirm(self, lsn: Lsn) -> None:
        if hasattr(self, "stream"):
            self.stream.confirm(lsn)

    # --- the stream -----------------------------------------------------------------------------------------------------

    def _start_stream(self, pgconn: PGconn, stored: Lsn) -> None:
        clock = Clock()
        protocol = ReplicationProtocol(Progress(stored), now_us=clock())
        self.stream = Stream(protocol, pgconn, on_message=self._message, on_end=self._end, now_us=clock)
        self.stream.start()

    def _message(self, message: StreamMessage) -> None:
        kind = type(message)
        if kind is Insert:
            self._insert(message)  # type: ignore[arg-type]
        elif kind is Begin:
            self.book.begin(message.xid, message.commit_time_us, message.final_lsn)  # type: ignore[union-attr]
        elif kind is Commit:
            self.book.commit(message.end_lsn)  # type: ignore[union-attr]
            self._metrics.transactions.inc()
            self._checkpointer.poke()

    def _insert(self, message: Insert) -> None:
        if not self._caught_up:
            self._recovered += 1
        dispatched = self._dispatched
        self.book.insert(message)
        latency = _LATENCIES.get(message.relation.name)
        if latency is not None and self._dispatched > dispatched:
            latency(self._metrics).observe((self.now_us() - self.book.at_us) / 1_000_000)

    async def _catch_up(self, flushed: Lsn) -> None:
        while self.stream.protocol.position < flushed or self.stream.protocol.in_transaction:
            self._raise_if_lost()
            self.stream.send_status(reply_wanted=True)
            await asyncio.sleep(CATCH_UP_SECONDS if self.stream.protocol.position < flushed else 0)
        self._caught_up = True
        self._metrics.recovered.inc("stream", by=self._recovered)
        self._metrics.gather = self._gather
        self.book.dispatch = self._dispatch
        waiting = [live for live in self.book.instances.values() if live.quarantined is None]
        for live in waiting:
            for effect in outstanding(live.subject, live.state):
                self._dispatch(live, effect, look=True)
        log.info("leading", extra=fields(epoch=self.epoch, instances=len(self.book.instances)))

    def _end(self, error: BaseException) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)

    def _raise_if_lost(self) -> None:
        if self._lost.done():
            self._lost.result()

    # --- effects --------------------------------------------------------------------------------------------------------

    def _dispatch(self, live: Live, effect: Effect, *, look: bool = False) -> None:
        live.xids = xids = self._visibility.still_unproven(live.xids) if live.xids else ()
        self._dispatched += 1
        match effect:
            case Execute():
                self._executor.submit(live, effect, xids, look=look)
            case StartTimer():
                self._timers.start(Timer(effect.due_us, live.key, effect.step, effect.cause))
                self._arm()
            case DropTimer():
                self._timers.drop(live.key, effect.step)
            case CancelStep():
                self._executor.cancel(live, effect, xids)
            case Finish():
                self._metrics.instances_finished.inc(effect.status)
                began_us = live.started_us or live.state.at_us
                self._metrics.instance_duration_seconds.observe((live.state.at_us - began_us) / 1e6, effect.status)

    def _settled(self, key: int, step: str, row: CompletionRow) -> None:
        if row.run_as == ENGINE:
            self._timers.drop(key, step)
            due_us = self._fired.pop((key, step), None)
            if due_us is not None:
                self._metrics.timer_lateness_seconds.observe((self.now_us() - due_us) / 1e6)
                self._metrics.steps.inc("timer", row.outcome)
        else:
            live = self.book.instances.get(key)
            if live is not None and live.subject.submitter == row.run_as:
                self._executor.settled(key, step, row.outcome)

    # --- timers: the engine guesses when to ask, the database's clock decides ---------------------------------------------

    def now_us(self) -> int:
        """The database's clock, as well as it is known here."""
        return time.monotonic_ns() // 1000 + self._clock_offset_us

    def _arm(self) -> None:
        due_us = self._timers.next_due_us()
        if self._timer_handle is not None:
            self._timer_handle.cancel()
            self._timer_handle = None
        if due_us is not None:
            seconds = max(0.0, (due_us - self.now_us()) / 1_000_000)
            self._timer_handle = self._loop.call_later(min(seconds, LONGEST_TIMER_SECONDS), self._fire)

    def _fire(self) -> None:
        self._timer_handle = None
        for timer in self._timers.take_due(self.now_us()):
            live = self.book.instances.get(timer.key)
            if live is not None:
                self._fired[timer.key, timer.step] = timer.due_us
                self._recorder.record(
                    Record(
                        run_as=ENGINE,
                        key=timer.key,
                        step=timer.step,
                        outcome="completed",
                        cause=timer.cause or None,
                        due_us=timer.due_us,
                        xids=self._visibility.still_unproven(live.xids),
                    )
                )
        self._arm()

    # --- heartbeats -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            if self._heartbeats_owed >= HEARTBEATS_MISSED:
                await self._lookup.execute("update df.checkpoint set scanning = true where epoch = %s", [self.epoch])
                raise LeadershipLost(
                    "heartbeats do not come back by the log: rows are not published",
                    "walflow doctor names what is missing; the tables are scanned at the next start",
                )
            self._heartbeats_owed += 1
            await self._send_heartbeat()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _send_heartbeat(self) -> None:
        try:
            cursor = await self._lookup.execute(_HEARTBEAT, [self.epoch, self._settings.slot])
        except psycopg.Error as error:
            if error.sqlstate == FENCED:
                raise Fenced(f"epoch {self.epoch} does not lead any more") from error
            raise
        row = await cursor.fetchone()
        assert row is not None
        wal_end, restart_lsn, wal_status, settings, now_us = row
        self.book.settings = settings
        self._clock_offset_us = now_us - time.monotonic_ns() // 1000
        self._arm()
        end = parse_lsn(wal_end)
        self._metrics.replication_lag_bytes.set(max(0, end - self.book.lsn))
        self._metrics.unconfirmed_bytes.set(max(0, self.book.lsn - self.stream.protocol.progress.durable))
        self._metrics.slot_active.set(1)
        if restart_lsn is not None:
            self._metrics.slot_retained_wal_bytes.set(end - parse_lsn(restart_lsn))
        self._metrics.slot_wal_status.set_only(wal_status or "")

    def _heartbeat_came(self, row: HeartbeatRow, at_us: int) -> None:
        if row.epoch > self.epoch:
            self._end(Fenced(f"epoch {row.epoch} leads, this engine has {self.epoch}"))
        elif row.epoch == self.epoch:
            self._heartbeats_owed = 0
            self._metrics.replication_lag_seconds.set(max(0, self.now_us() - at_us) / 1_000_000)

    # --- the cross-check ---------------------------------------------------------------------------------------------

    async def _cross_check(self) -> None:
        """Looks now and then whether the tables hold what the log should have brought, and folds it."""
        while True:
            # on a connection of its own: its transaction must not be joined by what others send
            scanner = await connect(self._settings.dsn, "walflow-leader")
            try:
                missed = await self._cross_check_on(scanner)
            finally:
                await scanner.close()
            if missed:
                self._metrics.recovered.inc("scan", by=missed)
                log.error("rows that the log did not bring were folded from the tables", extra=fields(rows=missed))
                self._checkpointer.poke()
            await asyncio.sleep(CROSS_CHECK_SECONDS)

    async def _cross_check_on(self, scanner: Connection) -> int:
        seen = await recovery.see_unfolded(scanner)
        await self._send_heartbeat()  # its row takes the checkpoint past what was seen
        while self.stream.protocol.progress.durable < seen.position:
            await asyncio.sleep(CROSS_CHECK_PATIENCE_SECONDS)
        while self.book.in_transaction:
            await asyncio.sleep(CATCH_UP_SECONDS)
        return await recovery.fold_missed(scanner, self.book, seen)

    # --- quarantine ---------------------------------------------------------------------------------------------------------

    def _release(self, live: Live) -> None:
        task = self._loop.create_task(self._release_now(live))
        self._releases.add(task)
        task.add_done_callback(self._released)

    async def _release_now(self, live: Live) -> None:
        """What was set aside is complete in df.inbox once a checkpoint has passed the release."""
        while not self._caught_up or self.book.in_transaction:
            await asyncio.sleep(CATCH_UP_SECONDS)
        wanted = self.book.lsn
        while self.stream.protocol.progress.durable < wanted:
            self._checkpointer.poke()
            await asyncio.sleep(CATCH_UP_SECONDS)
        inbox = await recovery.read_inbox(self._lookup, live)
        self.book.release(live, inbox)
        if live.quarantined is None:
            known = self._executor.under_way(live.key)
            for effect in outstanding(live.subject, live.state):
                if not isinstance(effect, Finish) and effect.step not in known:
                    self._dispatch(live, effect, look=True)
        self._checkpointer.poke()

    def _released(self, task: asyncio.Task[None]) -> None:
        self._releases.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._end(task.exception() or LeadershipLost("release"))

    # --- metrics --------------------------------------------------------------------------------------------------------------

    def _quarantined(self, live: Live) -> None:
        self._metrics.quarantined.inc()
        log.error("instance quarantined", extra=fields(instance=live.subject.id, error=live.quarantined))

    def _gather(self) -> None:
        """Before a scrape: what is counted only when somebody asks."""
        counts = Counter(live.status for live in self.book.instances.values())
        for status in STATUSES:
            self._metrics.instances.set(counts[status], status)
        self._executor.gather()

    def _checkpointed(self, seconds: float, instances: int) -> None:
        self._metrics.checkpoint_seconds.observe(seconds)
        self._metrics.checkpoint_instances.set(instances)

    # --- running, and stopping --------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Leads until `stopping` is set. Raises what ended it otherwise."""
        jobs: list[Coroutine[Any, Any, Any]] = [
            self._checkpointer.run(),
            *self._recorder.jobs(),
            self._beat(),
            self._cross_check(),
            stopping.wait(),
            _awaited(self._lost),
        ]
        tasks = [self._loop.create_task(job) for job in jobs]
        self._checkpointer.poke()
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next((t for t in tasks if t.done() and t.exception() is not None), None)
            if ended is not None:
                ended.result()
            await self._stop_working()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._checkpointer.finish()

    async def _stop_working(self) -> None:
        """No new work; what is in flight may end and be folded. How it ended is recorded: what ran on its own shall not again."""
        self.book.dispatch = lambda _live, _effect: None
        if self._timer_handle is not None:
            self._timer_handle.cancel()
        await self._executor.stop(self._settings.grace.total_seconds())
        until = self._loop.time() + RECORDING_SECONDS
        while self._recorder.busy and not self._lost.done() and self._loop.time() < until:
            await asyncio.sleep(STOPPING_POLL_SECONDS)
        self._raise_if_lost()

    def counts(self) -> dict[str, int]:
        """For /status: what is under way."""
        return {"steps_in_flight": len(self._executor), "timers": len(self._timers), "to_record": len(self._recorder)}

    async def close(self) -> None:
        """Frees the slot and every connection."""
        if self._timer_handle is not None:
            self._timer_handle.cancel()
        for task in self._releases:
            task.cancel()
        self._metrics.gather = lambda: None
        if hasattr(self, "_executor"):
            self._executor.close()
        if hasattr(self, "stream"):
            await self.stream.close()
        for name in ("_lookup", "_writer", "_roles_writer"):
            connection = getattr(self, name, None)
            if connection is not None:
                await connection.close()
        if self._lost.done() and not self._lost.cancelled():
            self._lost.exception()


async def _awaited(future: asyncio.Future[None]) -> None:
    await asyncio.shield(future)


def is_loss(error: BaseException) -> bool:
    """Whether the world ended the leadership, so that it is worth starting again."""
    return isinstance(
        error, LeadershipLost | StreamEnded | CdcError | psycopg.OperationalError | psycopg.InterfaceError
    )
