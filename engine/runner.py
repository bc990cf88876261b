"""The engine's process: one loop that leads when it can and stands by when it cannot, until it is told to stop.

Theory of operation. The slot is the only leader lock. A standby looks at it once a second; an engine that finds it free starts
the stream, and whoever has that leads (`engine.leadership`). Whatever ends a leadership but a stop or a fence leads back here:
the server may be away for long, and this process waits for it with growing delay; it does not exit.

It ends by being told to stop, by `Unfit` and by `Fenced`; anything else that leaves it is a bug.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, Final, Literal

import psycopg
import uvloop
from psycopg.pq.abc import PGconn

from cdc.errors import SlotInUse
from cdc.lsn import format_lsn, parse_lsn
from cdc.slot import SlotState, SystemIdentity, connect_replication, identify_system, read_slot, start_replication
from engine import recovery
from engine.config import Settings
from engine.connect import connect
from engine.doctor import diagnose, failed
from engine.errors import Fenced, LeadershipLost, Unfit
from engine.leadership import Leadership, is_loss
from engine.log import fields
from engine.recovery import Checkpoint
from metrics.collect import Metrics
from metrics.exposition import HttpServer, Readiness, watch_event_loop

Connection = psycopg.AsyncConnection[Any]
Role = Literal["starting", "standby", "leader", "stopping"]

log = logging.getLogger("walflow.engine")

GC_ALLOCATIONS: Final = 50_000
"""Objects made and not freed before the garbage collector looks at the youngest: some thousand instances."""
STANDBY_SECONDS: Final = 1.0
"""Between two looks at the slot."""
FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 10.0
"""Between tries to reach the server; doubled each time."""


def run(settings: Settings) -> int:
    """Runs the engine until it is told to stop; returns 0. Raises Unfit and Fenced."""
    # states are many, live long and hold no cycles: the collector's default would look through all of them all the time
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 50, 100)
    return uvloop.run(Engine(settings).run())


class Engine:
    """See the module's docstring."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._role: Role = "starting"
        self._reason = "not connected yet"
        self._leadership: Leadership | None = None
        self._connected = False
        self._led = 0
        """The epoch of the leadership that was lost last; 0 when there is none to come back to."""
        self._stopping = asyncio.Event()
        self._http = HttpServer(self._metrics.registry(), self._readiness, self._status)

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        host, port = self._settings.listen_address
        port = await self._http.start(host, port)
        log.info("listening", extra=fields(address=f"{host}:{port}"))
        lag = loop.create_task(watch_event_loop(self._metrics.event_loop_lag_seconds))
        try:
            return await self._until_stopped()
        finally:
            lag.cancel()
            await self._http.close()

    def _signalled(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            log.warning("second signal: stopping at once", extra=fields(signal=number.name))
            sys.stderr.flush()
            os._exit(0)
        log.info("stopping", extra=fields(signal=number.name))
        self._role = "stopping"
        self._stopping.set()

    # --- what ends a try, and what comes after ------------------------------------------------------------------------

    async def _until_stopped(self) -> int:
        delay = FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            try:
                if await self._try_to_lead():
                    delay = FIRST_DELAY_SECONDS
            except Fenced:
                self._metrics.fenced.inc()
                raise
            except Exception as error:
                if not is_loss(error):
                    raise
                self._lost(error)
                await self._pause(delay)
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            finally:
                self._leadership = None
                self._metrics.leader.set(0)
        return 0

    def _lost(self, error: Exception) -> None:
        if not self._stopping.is_set():
            self._role, self._reason = "starting", f"{type(error).__name__}: {error}"
            log.warning("starting again", extra=fields(error=self._reason))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    # --- one try --------------------------------------------------------------------------------------------------------

    async def _try_to_lead(self) -> bool:
        """Connects, checks, waits for the slot, leads. Returns when told to stop; True if it led for a while."""
        await self._check_fitness()
        main = await connect(self._settings.dsn, "walflow-standby")
        try:
            self._metrics.server_version = main.info.parameter_status("server_version") or ""
            replication = await connect_replication(self._settings.replication_dsn, application_name="walflow-standby")
            try:
                return await self._lead_when_free(main, replication)
            finally:
                await replication.close()
        finally:
            await main.close()

    async def _check_fitness(self) -> None:
        """Raises Unfit, or LeadershipLost when the server is away.

        A server that refuses us after it had let us in is away, too: one that recovers from a crash refuses for a while, and
        may have ended that by the time somebody asks why.
        """
        problems = failed(await diagnose(self._settings, try_steps=False))
        if any(finding.away or (self._connected and finding.refused) for finding in problems):
            raise LeadershipLost(problems[0].what, problems[0].repair)
        if problems:
            raise Unfit(
                "; ".join(finding.what for finding in problems),
                "\n".join(finding.repair for finding in problems if finding.repair),
            )
        self._connected = True

    async def _lead_when_free(self, main: Connection, replication: Connection) -> bool:
        system = await identify_system(replication)
        await self._check_epoch(main)
        while not self._stopping.is_set():
            slot = await read_slot(main, self._settings.slot)
            if slot is None or not slot.active:
                try:
                    started = await self._claim(main, replication, system)
                except SlotInUse:
                    pass
                else:
                    await self._lead(main, replication, system, *started)
                    return True
            await self._stand_by(main, slot)
            await self._pause(STANDBY_SECONDS)
        return False

    async def _check_epoch(self, main: Connection) -> None:
        """An engine that lost its leadership to another one stops: it may have been frozen, and who knows what else is stale."""
        epoch = (await recovery.read_checkpoint(main)).epoch
        if self._led and epoch > self._led:
            raise Fenced(
                f"this engine led with epoch {self._led}, and another one leads with epoch {epoch}",
                "start it again: it will stand by",
            )

    async def _stand_by(self, main: Connection, slot: SlotState | None) -> None:
        """Another engine holds the slot. Its figures are shown here as well: a dead leader shows none."""
        if self._role != "standby":
            log.info("standing by: another engine holds the slot", extra=fields(slot=self._settings.slot))
        if not self._stopping.is_set():
            self._role, self._reason = "standby", "another engine holds the slot"
        cursor = await main.execute("select pg_current_wal_lsn()")
        row = await cursor.fetchone()
        assert row is not None
        self._metrics.slot_active.set(1 if slot is not None and slot.active else 0)
        self._metrics.slot_wal_status.set_only(slot.wal_status or "" if slot is not None else "")
        if slot is not None and slot.restart_lsn is not None:
            self._metrics.slot_retained_wal_bytes.set(max(0, parse_lsn(row[0]) - slot.restart_lsn))

    async def _claim(
        self, main: Connection, replication: Connection, system: SystemIdentity
    ) -> tuple[Checkpoint, PGconn | None]:
        """The slot's stream, started; or none, when the slot cannot be continued from and is to be made anew."""
        checkpoint = await recovery.read_checkpoint(main)
        slot = await read_slot(main, self._settings.slot)
        why = recovery.why_rebuild(checkpoint, slot, system, self._settings.slot)
        if why is not None:
            log.warning("the tables will be scanned", extra=fields(reason=why))
            return checkpoint, None
        return checkpoint, await start_replication(replication, self._settings.slot, self._settings.publication)

    async def _lead(
        self,
        main: Connection,
        replication: Connection,
        system: SystemIdentity,
        checkpoint: Checkpoint,
        pgconn: PGconn | None,
    ) -> None:
        leadership = Leadership(
            self._settings,
            self._metrics,
            main=main,
            replication=replication,
            system=system,
            checkpoint=checkpoint,
        )
        try:
            self._led = 0
            if not await self._unless_stopped(leadership.begin(pgconn)):
                return
            self._leadership, self._led = leadership, leadership.epoch
            if not self._stopping.is_set():
                self._role, self._reason = "leader", "leading"
            self._metrics.leader.set(1)
            self._metrics.epoch.set(leadership.epoch)
            await leadership.run(self._stopping)
        finally:
            await leadership.close()

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
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    # --- what is shown ----------------------------------------------------------------------------------------------------

    def _readiness(self) -> Readiness:
        return Readiness(ready=self._role in ("leader", "standby"), reason=f"{self._role}: {self._reason}")

    def _status(self) -> Mapping[str, object]:
        status: dict[str, object] = {"role": self._role, "reason": self._reason}
        leadership = self._leadership
        if leadership is not None:
            progress = leadership.stream.protocol.progress
            status |= {
                "epoch": leadership.epoch,
                "confirmed_lsn": format_lsn(progress.durable),
                "received_lsn": format_lsn(progress.received),
                "lag_bytes": max(0, progress.received - progress.durable),
                "instances": len(leadership.book.instances),
                **leadership.counts(),
            }
        return status
