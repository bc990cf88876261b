"""One leadership: from holding the slot to losing it. Everything in it is made anew for each, from the checkpoint.

Theory of operation. The stream hands messages to the book, the book hands effects to `_dispatch`, which starts steps and timers
at each commit; the checkpointer writes behind; what the engine decides itself goes through the recorder. Effects are held back
until the stream has passed the position that the server had flushed at the takeover: only then is it known what an earlier
leader has done, and what is outstanding is dispatched, marked *may have run before*.

Any end of the stream or of a connection ends the leadership: states in memory may be ahead of what another leader has
checkpointed meanwhile, and are of no use.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cdc.errors import CdcError, StreamEnded
from cdc.lsn import NO_LSN, Lsn
from cdc.messages import Begin, Commit, Insert
from cdc.slot import CreatedSlot, SystemIdentity
from cdc.stream import StreamMessage
from engine import recovery
from engine.admission import Arrivals
from engine.book import Book
from engine.checkpoint import Checkpointer
from engine.clock import ServerClock
from engine.config import Settings
from engine.effects import (
    AwaitInstance,
    CancelChild,
    CancelStep,
    DropTimer,
    DropWait,
    Effect,
    Execute,
    Finish,
    StartChild,
    StartTimer,
    TakeSignal,
)
from engine.errors import Fenced, LeadershipLost, LogIncomplete, MachineError
from engine.executors.login import Logins
from engine.executors.pools import Pools
from engine.executors.recorder import LOCK_TIMEOUT_MS, Recorder
from engine.executors.sql import SqlExecutor
from engine.frames import parse_step_key
from engine.heartbeats import Heartbeats
from engine.host import Host, Replication, Started, Stream
from engine.instance import Live
from engine.log import fields
from engine.longwork import LongWork
from engine.machine import ENGINE, outstanding
from engine.rows import CompletionRow, HeartbeatRow
from engine.schedule import ScheduleError, ticks_between
from engine.store import Store
from engine.store.rows import Cancelled, Checkpoint, Child, Moment, Record, Waiting, Watched
from engine.tasks import end, wait_at_most
from engine.timers import Timer, Timers
from engine.upkeep import Leader
from engine.visibility import Visibility
from metrics.collect import Histogram, Metrics
from metrics.names import STATUSES

log = logging.getLogger("walflow.leader")

HEARTBEAT_SECONDS: Final = 20.0
"""Between heartbeats: each moves the slot when nothing else does, and costs an idle leader its two statements."""
HEARTBEATS_MISSED: Final = 2
"""Heartbeats that the log left out: then rows are not published, and the tables are scanned."""
CROSS_CHECK_SECONDS: Final = 600.0
"""Between two cross-checks of the tables with what was folded."""
CROSS_CHECK_PATIENCE_SECONDS: Final = 0.2
"""Between looks at whether a checkpoint has passed what a cross-check saw."""
BLOCKED_SECONDS: Final = 1.0
"""Between looks at what the making of the slot waits for."""
CATCH_UP_SECONDS: Final = 0.05
"""Between questions for the server's position while catching up."""
COMMIT_POLL_SECONDS: Final = 0.001
"""Between looks for the end of a transaction that is being read: a large one takes long, and no processor is to spin for it."""
RECORDING_SECONDS: Final = 2.0
"""How long an orderly stop waits for outcomes to be inserted: somebody may hold a key."""
PASSED_PATIENCE_SECONDS: Final = 0.01
"""Between looks at whether a checkpoint has passed what is about to be brought into memory."""
STOPPING_POLL_SECONDS: Final = 0.01
LONGEST_TIMER_SECONDS: Final = 3600.0
"""Sleep of the timer task at most: the database's clock may be set."""

_LATENCIES: Final[dict[str, Callable[[Metrics], Histogram]]] = {
    "instances": lambda metrics: metrics.start_latency_seconds,
    "signals": lambda metrics: metrics.signal_latency_seconds,
}
"""Where it is measured how long a row took from its commit until something was begun because of it."""

LEADER: Final = "walflow-leader"
"""Application name of a leader's connections: a new leader ends those of the one before."""
_UNDEFINED_OBJECT: Final = "42704"


class Leadership:
    """See the module's docstring. Use `lead`."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        host: Host,
        main: Store,
        replication: Replication,
        system: SystemIdentity,
        checkpoint: Checkpoint,
        takeover: LongWork,
    ) -> None:
        """`takeover` is told how far it is."""
        self._takeover = takeover
        self._settings = settings
        self._metrics = metrics
        self._host = host
        self._main = main
        self._replication = replication
        self._system = system
        self._before = checkpoint
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._timers = Timers()
        self._timer_handle: asyncio.TimerHandle | None = None
        self._clock = ServerClock()
        self._caught_up = False
        self._heartbeats = Heartbeats()
        self._sent_us: int | None = None
        """When the first heartbeat was sent that has not come back."""
        self._lag_seconds = 0.0
        self._wal_end = NO_LSN
        self._begun = 0
        """The instance that was begun last."""
        self._fired: dict[tuple[int, str], int] = {}
        self._asking: list[Callable[[Metrics], Histogram]] = []
        self._recovered = 0
        self._releases: set[asyncio.Task[None]] = set()
        self._publication_stamp: str | None = None
        self._cross_check_wanted = asyncio.Event()
        self.epoch = 0
        self.book: Book
        self.stream: Stream

    # --- taking over --------------------------------------------------------------------------------------------------

    async def begin(self, started: Started | None) -> None:
        """Loads the checkpoint and catches up; with no started stream, makes a slot and scans the tables."""
        self.epoch = await self._main.take_over(scanning=started is None)
        self._lookup = await self._host.store(LEADER)
        self._writer = await self._host.store(LEADER)
        self._roles_writer = await self._host.store(LEADER, lock_timeout_ms=LOCK_TIMEOUT_MS)
        self._instances_writer = await self._host.store(LEADER)
        logins = self._host.logins(self._lookup)
        if started is None:
            moment, started, stored = await self._rebuild(logins)
        else:
            moment, stored = await self._resume(started)
        self._make(logins, moment, stored)
        self.stream = started.stream(stored, on_message=self._message, on_end=self._end)
        self.stream.start()
        await self._catch_up(moment.flushed)

    async def _resume(self, started: Started) -> tuple[Moment, Lsn]:
        async with started.holding():
            moment = await self._main.moment()
            checkpoint = await self._main.checkpoint()
            stored = checkpoint.lsn
            await self._make_book(moment, stored)
            self.book.backlog.update(checkpoint.backlog)
            await recovery.load(self._lookup, self._writer, self.book, self._takeover)
        log.info("checkpoint loaded", extra=fields(instances=len(self.book.instances), epoch=self.epoch))
        return moment, stored

    async def _rebuild(self, logins: Logins) -> tuple[Moment, Started, Lsn]:
        await recovery.prepare_rebuild(self._lookup, logins, self._system, self._before)
        slot = await self._make_slot()
        scanner = await self._host.store(LEADER)
        try:
            snapshot = await scanner.import_snapshot(slot.snapshot_name)
            started = await self._replication.start(self._settings.slot, self._settings.publication)
            async with started.holding():
                recovery.check_made(await self._main.slot(self._settings.slot), slot)
                await recovery.until_visible(self._main, snapshot, self._takeover)
                moment = await self._main.moment()
                await self._make_book(moment, slot.consistent_point)
                folded = await recovery.scan(scanner, self.book, slot.consistent_point, self._takeover)
                await self._store_rebuilt()
        finally:
            await scanner.close()
        self._metrics.recovered.inc("scan", by=folded)
        log.info("tables scanned", extra=fields(rows=folded, instances=len(self.book.instances), epoch=self.epoch))
        return moment, started, slot.consistent_point

    async def _make_slot(self) -> CreatedSlot:
        """A slot waits for every transaction that runs on the server when it is made, whoever's. That is said."""
        name, pid = self._settings.slot, self._replication.pid
        making = self._loop.create_task(recovery.make_slot(self._replication, name))
        try:
            while not (await asyncio.wait((making,), timeout=BLOCKED_SECONDS))[0]:
                if blockers := await self._lookup.blockers(pid):
                    self._takeover.at(f"making slot {name}, which waits for the transaction of {', '.join(blockers)}")
            return making.result()
        finally:
            await end((making,))

    async def _store_rebuilt(self) -> None:
        """States, position and identity of the slot in one transaction: before it there was no slot to go on from."""
        writer = self._checkpointer_for(self._main)
        async with self._main.transaction():
            await writer.write()
            await self._main.store_slot(
                self.epoch, system_identifier=self._system.system_identifier, slot=self._settings.slot
            )

    async def _make_book(self, moment: Moment, stored: Lsn) -> None:
        counted_us = self._counted_us()
        self._clock.said(moment.now_us, asked_us=counted_us, counted_us=counted_us)
        self._visibility = Visibility(moment.next_xid)
        self.book = Book(
            visibility=self._visibility,
            dispatch=lambda _live, _effect: None,
            stored=stored,
            admission=self._settings.admission,
        )
        self.book.settings = await self._main.settings()
        self._arrivals = Arrivals(
            self.book,
            self._lookup,
            passed=self._passed,
            brought=lambda: self._checkpointer.poke(),
            now_us=self.now_us,
        )
        self.book.on_folded = self._host.told(self._system.system_identifier)
        self.book.on_absent = self._arrivals.poke
        self.book.owed.on_first = self._hand_out_soon
        self.book.on_arrived = self._arrived
        self.book.on_evicted = self._evicted
        self.book.on_release = self._release
        self.book.on_quarantined = self._quarantined

    def _make(self, logins: Logins, moment: Moment, stored: Lsn) -> None:
        self._recorder = Recorder(self._writer, self._roles_writer, self._instances_writer, self.epoch)
        self._executor = SqlExecutor(
            pools=Pools(
                logins,
                connections=self._settings.step_connections,
                per_role=self._settings.step_connections_per_role,
                on_lost=self._end,
                chance=self._host.chance,
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
        self.book.rings.on_deadlock = self._deadlock
        self.book.on_event = self._metrics.events.inc
        self.book.on_started = self._started

    def _started(self, live: Live) -> None:
        self._begun = live.key
        self._metrics.instances_started.inc()

    def _checkpointer_for(self, store: Store) -> Checkpointer:
        return Checkpointer(
            self.book,
            store,
            self.epoch,
            monotonic=self._host.monotonic,
            confirm=self._confirm,
            observed=self._checkpointed,
            now_us=self.now_us,
        )

    def _confirm(self, lsn: Lsn) -> None:
        if hasattr(self, "stream"):
            self.stream.confirm(lsn)

    # --- the stream -----------------------------------------------------------------------------------------------------

    def _message(self, message: StreamMessage) -> None:
        kind = type(message)
        if kind is Insert:
            self._insert(message)  # type: ignore[arg-type]
        elif kind is Begin:
            self.book.begin(message.xid, message.commit_time_us, message.final_lsn)  # type: ignore[union-attr]
        elif kind is Commit:
            self.book.commit(message.end_lsn)  # type: ignore[union-attr]
            self._began()
            self._metrics.transactions.inc()
            self._checkpointer.poke()

    def _insert(self, message: Insert) -> None:
        if not self._caught_up:
            self._recovered += 1
        asked = self.book.asked
        self.book.insert(message)
        latency = _LATENCIES.get(message.relation.name)
        if latency is not None and self._caught_up and self.book.asked > asked:
            self._asking.append(latency)

    def _began(self) -> None:
        """The effects of a transaction were handed out."""
        if self._asking:
            self._clock.came(self.book.at_us, self._counted_us())
            seconds = (self.now_us() - self.book.at_us) / 1_000_000
            for latency in self._asking:
                latency(self._metrics).observe(seconds)
            self._asking.clear()

    async def _catch_up(self, flushed: Lsn) -> None:
        while self.stream.position < flushed or self.stream.in_transaction:
            self._raise_if_lost()
            self._takeover.at(f"reading the log: {max(0, flushed - self.stream.position):,} bytes to go")
            if self.stream.position < flushed:
                self.stream.send_status(reply_wanted=True)
                await asyncio.sleep(CATCH_UP_SECONDS)
            else:
                await asyncio.sleep(COMMIT_POLL_SECONDS)
        self._caught_up = True
        self._metrics.recovered.inc("stream", by=self._recovered)
        self._metrics.gather = self._gather
        self.book.owed.forget()
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

    def _hand_out_soon(self) -> None:
        self._loop.call_soon(self._hand_out)

    def _hand_out(self) -> None:
        """A large transaction's effects, with everything else that the loop has to do in between."""
        if self.book.hand_out_owed():
            self._hand_out_soon()

    # --- effects --------------------------------------------------------------------------------------------------------

    def _dispatch(self, live: Live, effect: Effect, *, look: bool = False) -> None:
        live.xids = xids = self._visibility.still_unproven(live.xids) if live.xids else ()
        match effect:
            case Execute():
                self._executor.submit(live, effect, xids, look=look)
            case StartTimer():
                self._timers.start(Timer(effect.due_us, live.key, effect.step, effect.cause, effect.schedule))
                self._arm()
            case DropTimer():
                self._timers.drop(live.key, effect.step)
            case CancelStep():
                self._executor.cancel(live, effect, xids)
            case StartChild() | CancelChild() | AwaitInstance() | DropWait():
                self._ask_recorder(live, effect, xids)
            case TakeSignal():
                raise MachineError("the book keeps which signals were taken")
            case Finish():
                self._metrics.instances_finished.inc(effect.status)
                began_us = live.started_us or live.state.at_us
                self._metrics.instance_duration_seconds.observe((live.state.at_us - began_us) / 1e6, effect.status)

    def _ask_recorder(
        self, live: Live, effect: StartChild | CancelChild | AwaitInstance | DropWait, xids: tuple[int, ...]
    ) -> None:
        match effect:
            case StartChild():
                self._recorder.start_child(
                    Child(
                        key=live.key,
                        step=effect.step,
                        graph=effect.graph,
                        label=effect.label,
                        input=effect.input,
                        variables=effect.variables,
                        detach=effect.detach,
                        cause=effect.cause or None,
                        xids=xids,
                    )
                )
            case CancelChild():
                cause, graph = effect.cause or None, _graph_of_child(live, effect.step)
                self._recorder.cancel_child(
                    Cancelled(key=live.key, step=effect.step, graph=graph, cause=cause, xids=xids)
                )
            case AwaitInstance():
                self._await(live, effect, xids)
            case DropWait():
                self._recorder.drop_wait(live.key, effect.step)

    def _await(self, live: Live, effect: AwaitInstance, xids: tuple[int, ...]) -> None:
        if self.book.rings.waits(live.key, effect.step):
            # a checkpoint answers it; an earlier leader may have found that it would never end, and not have said so
            self.book.rings.check(live, effect.step)
            return
        self._recorder.begin_wait(
            Waiting(
                key=live.key,
                step=effect.step,
                instance_id=effect.instance_id,
                cause=effect.cause or None,
                xids=xids,
                since=self._loop.time(),
            )
        )

    def _deadlock(self, live: Live, step: str, why: str) -> None:
        if self._caught_up:
            error = json.dumps({"message": why, "code": "deadlock"}, ensure_ascii=False)
            self._recorder.record(
                Record(
                    run_as=ENGINE,
                    key=live.key,
                    step=step,
                    outcome="failed",
                    cause=None,
                    error=error,
                    xids=self._visibility.still_unproven(live.xids),
                )
            )

    def _settled(self, key: int, step: str, row: CompletionRow) -> None:
        if row.run_as == ENGINE:
            self._timers.drop(key, step)
            self._recorder.drop_wait(key, step)
            due_us = self._fired.pop((key, step), None)
            if due_us is not None:
                self._metrics.timer_lateness_seconds.observe((self.now_us() - due_us) / 1e6)
                self._metrics.steps.inc("timer", row.outcome)
        else:
            live = self.book.instances.get(key)
            if live is not None and live.subject.submitter == row.run_as:
                self._executor.settled(key, step, row.attempt, row.outcome)

    # --- timers: the engine guesses when to ask, the database's clock decides ---------------------------------------------

    def now_us(self) -> int:
        """The database's clock, as well as it is known here."""
        return self._clock.now_us(self._counted_us())

    def _counted_us(self) -> int:
        return int(self._host.monotonic() * 1_000_000)

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
            xids = () if live is None else self._visibility.still_unproven(live.xids)
            if live is not None or not self.book.complete:
                self._fired[timer.key, timer.step] = timer.due_us
                self._recorder.record(
                    Record(
                        run_as=ENGINE,
                        key=timer.key,
                        step=timer.step,
                        outcome="completed",
                        cause=timer.cause or None,
                        note=passed_ticks(timer, self.now_us()),
                        due_us=timer.due_us,
                        xids=xids,
                    )
                )
        self._arm()

    # --- heartbeats -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            if self._heartbeats.missing(self.stream.progress.received) >= HEARTBEATS_MISSED:
                raise LogIncomplete(
                    "heartbeats do not come back by the log: rows are not published",
                    "walflow doctor names what is missing; the tables are scanned at the next start",
                )
            await self._send_heartbeat()
            watched = await self._lookup.watch(self._settings.publication)
            show_watched(self._metrics, watched)
            await self._look_at_publication(watched.publication_stamp)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _look_at_publication(self, stamp: str) -> None:
        """What it leaves out nobody misses at once. One that was altered, and is whole again, may have left out rows."""
        if stamp == self._publication_stamp:
            return
        problems = await self._lookup.publication_problems(self._settings.publication)
        if problems:
            raise LogIncomplete("; ".join(problem.what for problem in problems), "walflow doctor names the repair")
        self._publication_stamp = stamp
        self._cross_check_wanted.set()

    async def distrust_log(self, error: Exception) -> None:
        """Whoever leads next scans the tables, if `error` says that the log is not whole.

        Up to 17 a change is decoded with the publication as it was then: where there was none, each new start ends there.
        """
        if isinstance(error, LogIncomplete) or (isinstance(error, StreamEnded) and error.sqlstate == _UNDEFINED_OBJECT):
            store = await self._host.store(LEADER)
            try:
                await store.distrust_log(self.epoch)
            finally:
                await store.close()

    async def _send_heartbeat(self) -> None:
        self._heartbeats.sending()
        if self._sent_us is None:
            self._sent_us = self.now_us()
        asked_us = self._counted_us()
        beat = await self._lookup.heartbeat(self.epoch, self._settings.slot)
        self._heartbeats.sent(beat.wal_end)
        self.book.settings = beat.settings
        self._clock.said(beat.now_us, asked_us=asked_us, counted_us=self._counted_us())
        self._arm()
        self._wal_end = beat.wal_end
        self._metrics.slot_active.set(1)
        if beat.restart_lsn is not None:
            self._metrics.slot_retained_wal_bytes.set(beat.wal_end - beat.restart_lsn)
        self._metrics.slot_wal_status.set_only(beat.wal_status or "")

    def _heartbeat_came(self, row: HeartbeatRow, at_us: int) -> None:
        if row.epoch > self.epoch:
            self._end(Fenced(f"epoch {row.epoch} leads, this engine has {self.epoch}"))
        elif row.epoch == self.epoch:
            self._heartbeats.came()
            self._sent_us = None
            self._clock.came(at_us, self._counted_us())
            self._lag_seconds = max(0, self.now_us() - at_us) / 1_000_000

    # --- the cross-check ---------------------------------------------------------------------------------------------

    async def _cross_check(self) -> None:
        """Looks now and then whether the tables hold what the log should have brought, and folds it. At once when somebody
        altered the publication.
        """
        while True:
            self._cross_check_wanted.clear()
            # on a connection of its own: its transaction must not be joined by what others send
            scanner = await self._host.store(LEADER)
            try:
                missed = await self._cross_check_on(scanner)
            finally:
                await scanner.close()
            if missed:
                self._metrics.recovered.inc("scan", by=missed)
                log.error("rows that the log did not bring were folded from the tables", extra=fields(rows=missed))
                self._checkpointer.poke()
            await wait_at_most(self._cross_check_wanted, CROSS_CHECK_SECONDS)

    async def _cross_check_on(self, scanner: Store) -> int:
        seen = await recovery.see_unfolded(scanner, self.book)
        await self._until_durable(seen.position, CROSS_CHECK_PATIENCE_SECONDS)
        while self.book.in_transaction:
            await asyncio.sleep(CATCH_UP_SECONDS)
        return await recovery.fold_missed(scanner, self.book, seen)

    async def _until_durable(self, position: Lsn, patience_seconds: float) -> None:
        if self.stream.progress.durable < position:
            await self._send_heartbeat()  # its row takes a checkpoint past the position
        while self.stream.progress.durable < position:
            self._checkpointer.hasten()
            await asyncio.sleep(patience_seconds)

    # --- what is not in memory ----------------------------------------------------------------------------------------------

    async def _passed(self) -> None:
        await self._until_durable(await self._lookup.wal_position(), PASSED_PATIENCE_SECONDS)

    def _arrived(self, live: Live) -> None:
        """An earlier leader may have begun what is outstanding, or this one."""
        if not self._caught_up:
            return
        if live.key == self._begun and live.started_us is not None:  # it had waited for room
            self._metrics.start_latency_seconds.observe((self.now_us() - live.started_us) / 1_000_000)
        for effect in self._not_under_way(live):
            if not (isinstance(effect, StartChild | AwaitInstance) and self.book.rings.is_there(live.key, effect.step)):
                self._dispatch(live, effect, look=True)

    def _not_under_way(self, live: Live) -> list[Effect]:
        """What is outstanding, but for steps that this leader has begun or stopped."""
        is_under_way = self._executor.is_under_way
        return [
            effect
            for effect in outstanding(live.subject, live.state)
            if not (isinstance(effect, Execute | CancelStep) and is_under_way(live.key, effect.step, effect.attempt))
        ]

    def _evicted(self, live: Live) -> None:
        for step in self._arrivals.leaves(live):
            self._timers.drop(live.key, step)

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
        while self.stream.progress.durable < wanted:
            self._checkpointer.poke()
            await asyncio.sleep(CATCH_UP_SECONDS)
        inbox = await recovery.read_inbox(self._lookup, live.key, live.subject.submitter)
        self.book.release(live, inbox)
        if live.quarantined is None:
            for effect in self._not_under_way(live):
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
        counts["running"] += self.book.asleep
        counts["pending"] += self.book.waiting
        for status in STATUSES:
            self._metrics.instances.set(counts[status], status)
        self._executor.gather()
        waiting_us = 0 if self._sent_us is None else self.now_us() - self._sent_us
        self._metrics.replication_lag_seconds.set(max(self._lag_seconds, waiting_us / 1_000_000))
        self._metrics.replication_lag_bytes.set(max(0, self._wal_end - self.book.lsn))
        self._metrics.unconfirmed_bytes.set(max(0, self.book.lsn - self.stream.progress.durable))

    def _checkpointed(self, seconds: float, instances: int) -> None:
        self._metrics.checkpoint_seconds.observe(seconds)
        self._metrics.checkpoint_instances.set(instances)
        if self.book.backlog:
            self._arrivals.poke()  # there may be room

    # --- running, and stopping --------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Leads until `stopping` is set. Raises what ended it otherwise."""
        jobs: list[Coroutine[Any, Any, Any]] = [
            self._checkpointer.run(),
            *self._recorder.jobs(),
            self._beat(),
            self._cross_check(),
            self._arrivals.run(),
            self._upkeep(),
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
            await end(tasks)
        await self._checkpointer.finish()

    def _upkeep(self) -> Coroutine[Any, Any, None]:
        return self._host.upkeep(
            Leader(
                epoch=self.epoch,
                slot=self._settings.slot,
                durable=lambda: self.stream.progress.durable,
                backends=self._executor.backends,
            )
        )

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
        return {
            "steps_in_flight": len(self._executor),
            "timers": len(self._timers),
            "to_record": len(self._recorder),
            "asleep": self.book.asleep,
            "waiting_for_room": self.book.waiting,
        }

    async def close(self) -> None:
        """Frees the slot and every connection."""
        if self._timer_handle is not None:
            self._timer_handle.cancel()
        await end(tuple(self._releases))
        self._metrics.gather = lambda: None
        if hasattr(self, "_executor"):
            self._executor.close()
        if hasattr(self, "stream"):
            await self.stream.close()
        for name in ("_lookup", "_writer", "_roles_writer", "_instances_writer"):
            store = getattr(self, name, None)
            if store is not None:
                await store.close()
        if self._lost.done() and not self._lost.cancelled():
            self._lost.exception()


def _graph_of_child(live: Live, step: str) -> str:
    key = parse_step_key(step)
    if key is None:
        raise MachineError(f"a child of step {step!r}")
    child = live.subject.graph.node(key[0]).left
    if child is None:
        raise MachineError(f"step {step} calls no child")
    return live.subject.graph.text(child)


def passed_ticks(timer: Timer, now_us: int) -> str | None:
    """What the history says of a schedule's tick that comes late."""
    if timer.schedule is None:
        return None
    try:
        passed = ticks_between(*timer.schedule, timer.due_us, now_us)
    except ScheduleError:
        return None
    return f"{passed} ticks passed" if passed else None


async def _awaited(future: asyncio.Future[None]) -> None:
    await asyncio.shield(future)


def show_watched(metrics: Metrics, watched: Watched) -> None:
    """What the tables say: every engine shows the same."""
    metrics.fenced.raise_to(watched.fenced)
    metrics.oldest_pending_seconds.set(watched.oldest_pending_seconds)
    metrics.quarantined_instances.set(watched.quarantined)


def is_loss(error: BaseException) -> bool:
    """Whether the world ended the leadership, so that it is worth starting again."""
    return isinstance(error, LeadershipLost | CdcError)
