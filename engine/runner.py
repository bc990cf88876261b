"""The engine's process: one loop that leads when it can and stands by when it cannot, until it is told to stop.

Theory of operation. The slot is the only leader lock. A standby looks at it once a second; an engine that finds it free starts
the stream, and whoever has that leads (`engine.leadership`). Whatever ends a leadership but a stop or a fence leads back here:
the server may be away for long, and this process waits for it with growing delay; it does not exit.

It ends by being told to stop, by `Unfit` and by `Fenced`; anything else that leaves it is a bug.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

import uvloop

from cdc.errors import SlotInUse, StreamEnded
from cdc.lsn import format_lsn
from cdc.slot import SlotState, SystemIdentity
from engine import recovery, threads
from engine.config import Settings
from engine.doctor import failed
from engine.errors import Fenced, LeadershipLost, LogIncomplete, ServerAway, Unfit
from engine.host import Host, Replication, Started
from engine.leadership import Leadership, is_loss, show_watched
from engine.log import fields
from engine.longwork import LongWork
from engine.postgres import PostgresHost
from engine.store import Store
from engine.store.rows import Checkpoint
from engine.tasks import end, wait_at_most
from metrics.collect import Metrics
from metrics.exposition import HttpServer, Readiness, watch_event_loop

Role = Literal["starting", "standby", "leader", "stopping"]

log = logging.getLogger("walflow.engine")

GC_ALLOCATIONS: Final = 50_000
"""Objects made and not freed before the garbage collector looks at the youngest: some thousand instances."""
STANDBY: Final = "walflow-standby"
"""Application name of the connections of an engine that does not lead: a new leader leaves them alone."""
STANDBY_SECONDS: Final = 1.0
"""Between two looks at the slot."""
WATCH_SECONDS: Final = 20.0
"""Between a standby's looks at what the tables say for its metrics; the leader's are as far apart."""
COUNTING_SECONDS: Final = 2.0
"""For telling the database that this engine was fenced, at most: it ends anyway."""
FIRST_DELAY_SECONDS: Final = 0.2
AWAY_DELAY_SECONDS: Final = 0.5
"""Between tries to reach a server that is away, at most: a try costs little, and work goes on as soon as it is back."""
LONGEST_DELAY_SECONDS: Final = 1.0
"""Between tries to lead, at most; doubled each time that one fails on a server that is there."""
LED_SECONDS: Final = 0.3
"""Whoever led for so long did not fail: his next try is a first one."""


def run(settings: Settings) -> int:
    """Runs the engine until it is told to stop; returns 0. Raises Unfit and Fenced."""
    # states are many, live long and hold no cycles: the collector's default would look through all of them all the time
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 50, 100)
    threads.start()
    return uvloop.run(Process(settings).run())


class Process:
    """An engine with what surrounds it in a process of its own: signals, and HTTP."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = metrics = Metrics()
        self._engine = Engine(settings, metrics, PostgresHost(settings, metrics))
        self._http = HttpServer(metrics.registry(), self._engine.readiness, self._engine.status)

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_stray)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        await self._listen()
        lag = loop.create_task(watch_event_loop(self._metrics.event_loop_lag_seconds))
        try:
            await self._engine.run()
        finally:
            lag.cancel()
            await self._http.close()
        return 0

    async def _listen(self) -> None:
        address = self._settings.listen_address
        if address is None:
            log.info("not listening: no metrics, no health")
            return
        host, port = address
        port = await self._http.start(host, port)
        log.info("listening", extra=fields(address=f"{host}:{port}"))

    def _signalled(self, number: signal.Signals) -> None:
        if self._engine.stopping:
            log.warning("second signal: stopping at once", extra=fields(signal=number.name))
            sys.stderr.flush()
            os._exit(0)
        log.info("stopping", extra=fields(signal=number.name))
        self._engine.stop()


class Engine:
    """See the module's docstring."""

    def __init__(self, settings: Settings, metrics: Metrics, host: Host) -> None:
        self._settings = settings
        self._metrics = metrics
        metrics.step_connections_limit.set(settings.step_connections)
        self._host = host
        self._role: Role = "starting"
        self._reason = "not connected yet"
        self._leadership: Leadership | None = None
        self._leading_since: float | None = None
        self._connected = False
        self._watched_at = float("-inf")
        self._led = 0
        """The epoch of the leadership that was lost last; 0 when there is none to come back to."""
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Makes `run` end, in good order."""
        self._role = "stopping"
        self._stopping.set()

    # --- what ends a try, and what comes after ------------------------------------------------------------------------

    async def run(self) -> None:
        """Leads when it can, until it is told to stop. Raises Unfit and Fenced."""
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            try:
                await self._try_to_lead()
            except Fenced:
                await self._count_fenced()
                raise
            except Exception as error:
                if not is_loss(error):
                    raise
                self._lost(error)
                if self._leading_since is not None and loop.time() - self._leading_since >= LED_SECONDS:
                    delay = FIRST_DELAY_SECONDS
                await self._pause(delay)
                delay = min(2 * delay, AWAY_DELAY_SECONDS if isinstance(error, ServerAway) else LONGEST_DELAY_SECONDS)
            finally:
                self._leadership = self._leading_since = None
                self._metrics.stop_leading()

    async def _count_fenced(self) -> None:
        """Counted in the database: nobody will ask this process any more."""
        try:
            async with asyncio.timeout(COUNTING_SECONDS):
                store = await self._host.store(STANDBY)
                try:
                    await store.count_fenced()
                finally:
                    await store.close()
        except (LeadershipLost, TimeoutError) as error:
            log.warning("being fenced could not be counted", extra=fields(error=str(error)))

    def _lost(self, error: Exception) -> None:
        self._metrics.stop_leading()
        if not self._stopping.is_set():
            self._role, self._reason = "starting", f"{type(error).__name__}: {error}"
            log.warning("starting again", extra=fields(error=self._reason))

    async def _pause(self, seconds: float) -> None:
        await wait_at_most(self._stopping, seconds)

    # --- one try --------------------------------------------------------------------------------------------------------

    async def _try_to_lead(self) -> None:
        """Connects, checks, waits for the slot, leads. Returns when told to stop."""
        await self._check_fitness()
        main = await self._host.store(STANDBY)
        try:
            self._metrics.server_version = main.server_version
            replication = await self._host.replication(STANDBY)
            try:
                await self._lead_when_free(main, replication)
            finally:
                await replication.close()
        finally:
            await main.close()

    async def _check_fitness(self) -> None:
        """Raises Unfit, or ServerAway.

        A server that refuses us after it had let us in is away, too: one that recovers from a crash refuses for a while, and
        may have ended that by the time somebody asks why.
        """
        problems = failed(list(await self._host.diagnose()))
        if any(finding.away or (self._connected and finding.refused) for finding in problems):
            raise ServerAway(problems[0].what, problems[0].repair)
        if problems:
            raise Unfit(
                "; ".join(finding.what for finding in problems),
                "\n".join(finding.repair for finding in problems if finding.repair),
            )
        self._connected = True

    async def _lead_when_free(self, main: Store, replication: Replication) -> None:
        system = await replication.identify_system()
        await self._check_epoch(main)
        while not self._stopping.is_set():
            slot = await main.slot(self._settings.slot)
            if slot is None or not slot.active:
                try:
                    started = await self._claim(main, replication, system)
                except SlotInUse:
                    pass
                else:
                    await self._lead(main, replication, system, *started)
                    return
            await self._stand_by(main, slot)
            await self._pause(STANDBY_SECONDS)

    async def _check_epoch(self, main: Store) -> None:
        """An engine that lost its leadership to another one stops: it may have been frozen, and who knows what else is stale."""
        epoch = (await main.checkpoint()).epoch
        if self._led and epoch > self._led:
            raise Fenced(
                f"this engine led with epoch {self._led}, and another one leads with epoch {epoch}",
                "start it again: it will stand by",
            )

    async def _stand_by(self, main: Store, slot: SlotState | None) -> None:
        """Another engine holds the slot. Its figures are shown here as well: a dead leader shows none."""
        if self._role != "standby":
            log.info("standing by: another engine holds the slot", extra=fields(slot=self._settings.slot))
        if not self._stopping.is_set():
            self._role, self._reason = "standby", "another engine holds the slot"
        position = await main.wal_position()
        self._metrics.slot_active.set(1 if slot is not None and slot.active else 0)
        self._metrics.slot_wal_status.set_only(slot.wal_status or "" if slot is not None else "")
        if slot is not None and slot.restart_lsn is not None:
            self._metrics.slot_retained_wal_bytes.set(max(0, position - slot.restart_lsn))
        now = asyncio.get_running_loop().time()
        if now - self._watched_at >= WATCH_SECONDS:
            self._watched_at = now
            show_watched(self._metrics, await main.watch(self._settings.publication))

    async def _claim(
        self, main: Store, replication: Replication, system: SystemIdentity
    ) -> tuple[Checkpoint, Started | None]:
        """The slot's stream, started; or none, when the slot cannot be continued from and is to be made anew."""
        checkpoint, why = await self._look(main, system)
        if why is not None:
            log.warning("the tables will be scanned", extra=fields(reason=why))
            return checkpoint, None
        started = await replication.start(self._settings.slot, self._settings.publication)
        # from here on nobody can put another slot in its place: was it the one that was looked at?
        checkpoint, why = await self._look(main, system)
        if why is not None:
            raise LeadershipLost(f"the slot was exchanged before it was read: {why}")
        return checkpoint, started

    async def _look(self, main: Store, system: SystemIdentity) -> tuple[Checkpoint, str | None]:
        """The checkpoint, and why the log cannot be continued from it.

        What the slot has confirmed a checkpoint held before, and the log goes beyond every checkpoint: so they are read in this
        order. The log's end as it was when this engine began to stand by says nothing any more.
        """
        slot = await main.slot(self._settings.slot)
        checkpoint = await main.checkpoint()
        system = replace(system, flushed=await main.wal_position())
        return checkpoint, recovery.why_rebuild(checkpoint, slot, system, self._settings.slot)

    async def _lead(
        self,
        main: Store,
        replication: Replication,
        system: SystemIdentity,
        checkpoint: Checkpoint,
        started: Started | None,
    ) -> None:
        leadership = Leadership(
            self._settings,
            self._metrics,
            host=self._host,
            main=main,
            replication=replication,
            system=system,
            checkpoint=checkpoint,
            takeover=LongWork(self._say, self._host.monotonic),
        )
        self._reason = "taking over"
        try:
            self._led = 0
            if not await self._unless_stopped(leadership.begin(started)):
                return
            self._leadership, self._led = leadership, leadership.epoch
            self._leading_since = asyncio.get_running_loop().time()
            if not self._stopping.is_set():
                self._role, self._reason = "leader", "leading"
            self._metrics.leader.set(1)
            self._metrics.epoch.set(leadership.epoch)
            await leadership.run(self._stopping)
        except (LogIncomplete, StreamEnded) as error:
            await leadership.distrust_log(error)
            raise
        finally:
            await leadership.close()

    def _say(self, reason: str) -> None:
        """How far a takeover is that takes long, for whoever looks at us or reads the log."""
        if reason != self._reason:
            self._reason = reason
            log.warning("taking over", extra=fields(reason=reason))

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work was done; it is given up when the engine is told to stop meanwhile."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return False
            task.result()
            return True
        finally:
            await end((task, stopped))

    # --- what is shown ----------------------------------------------------------------------------------------------------

    def readiness(self) -> Readiness:
        """For /readyz."""
        return Readiness(ready=self._role in ("leader", "standby"), reason=f"{self._role}: {self._reason}")

    def status(self) -> Mapping[str, object]:
        """For /status."""
        status: dict[str, object] = {"role": self._role, "reason": self._reason}
        leadership = self._leadership
        if leadership is not None:
            progress = leadership.stream.progress
            status |= {
                "epoch": leadership.epoch,
                "confirmed_lsn": format_lsn(progress.durable),
                "received_lsn": format_lsn(progress.received),
                "lag_bytes": max(0, progress.received - progress.durable),
                "instances": len(leadership.book.instances),
                **leadership.counts(),
            }
        return status


def _stray(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a callback raised is logged. One that had no memory has dropped what it was told, perhaps how a step ended: an
    engine that went on would wait for that for ever, while the next one finds it in the database.
    """
    loop.default_exception_handler(context)
    if isinstance(context.get("exception"), MemoryError):
        sys.stderr.flush()
        os._exit(1)
