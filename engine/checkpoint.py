"""Checkpoints: what the book collected, written in one transaction, fenced by the epoch, and confirmed afterwards.

Theory of operation. One checkpoint is under way at a time; the next begins when it is done and something has ended, or a
little later when something is dirty at all; so an idle engine shows a result at once and a busy one writes many at a time.
After one that held more than a few instances the next waits twice as long as that one took, and after one that held many a
little longer: a third of the time at most goes into them, and what changed twice meanwhile is written once; but nobody waits for
somebody else's flood. The position is told to the stream only after the transaction has committed (Confirm only what is
durable): `Stream.confirm` is called here and nowhere else.

A checkpoint that met rows which are not visible yet is rolled back, given back to the book and repeated. One that finds
another epoch ends this engine (A stale engine cannot harm).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from cdc.lsn import Lsn
from engine.book import Book
from engine.errors import NotVisible
from engine.store import Writing
from engine.tasks import wait_at_most

REPEAT_SECONDS: Final = 0.005
"""Between two tries of a checkpoint whose rows are not visible yet; grows twofold up to 20 times that."""

FEW_INSTANCES: Final = 4
"""A checkpoint of no more is followed by the next at once: nobody is in a hurry but whoever waits for these."""
LEISURE_SECONDS: Final = 0.01
"""How long what nobody waits for may wait for a checkpoint. On an idle server one that is written at once would get in the
way of the very steps that it is about, and a short workflow would be written four times instead of once."""
MANY_INSTANCES: Final = 16
"""More of them are no handful of clients, each of whom waits for one."""
FLOOD_PAUSE_SECONDS: Final = 0.02
"""After a checkpoint that held many, at least: what short workflows have done meanwhile is written once, in one commit. (A
twentieth more steps a second, and as much less WAL: measured.)"""
LONGEST_PAUSE_SECONDS: Final = 0.1
"""Between two checkpoints: what a result may be late for whoever floods."""


class Checkpointer:
    """Writes checkpoints for as long as `run` runs. `confirm` tells the stream; `observed` gets seconds and instances;
    `monotonic` is a clock in seconds.

    `now_us` is the database's clock, as well as it is known: it says when progress is to be written.
    """

    def __init__(
        self,
        book: Book,
        store: Writing,
        epoch: int,
        *,
        monotonic: Callable[[], float],
        confirm: Callable[[Lsn], None],
        observed: Callable[[float, int], None],
        now_us: Callable[[], int] = lambda: 0,
    ) -> None:
        self._book = book
        self._store = store
        self._monotonic = monotonic
        self._epoch = epoch
        self._confirm = confirm
        self._observed = observed
        self._now_us = now_us
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._urgent = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    def poke(self) -> None:
        """Something may be dirty. Cheap; called after every transaction."""
        self._wanted.set()
        if self._book.awaited:
            self._hurry.set()
        if self._book.urgent:
            self._urgent.set()

    def hasten(self) -> None:
        """Somebody waits until a position is durable: the next one does not wait for more."""
        self._hurry.set()
        self._urgent.set()

    async def run(self) -> None:
        """Writes checkpoints until cancelled. Raises Fenced, and what else a store raises."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._leisure()
            if self._book.in_transaction:
                continue  # its commit comes here again
            if self._book.dirty or self._progress_seconds() == 0:
                self._urgent.clear()
                seconds = await self.write()
                if not self._book.urgent:
                    await wait_at_most(self._urgent, seconds)
            self._set_alarm()  # also when the last one rang a hair too early

    async def _leisure(self) -> None:
        """Waits a little for more, unless somebody waits for this one."""
        if not self._book.awaited:
            self._hurry.clear()
            await wait_at_most(self._hurry, LEISURE_SECONDS)

    def _progress_seconds(self) -> float | None:
        due_us = self._book.progress_due_us()
        return None if due_us is None else max(0, due_us - self._now_us()) / 1_000_000

    def _set_alarm(self) -> None:
        """Progress is written late, when nothing else may happen; what a checkpoint itself left to be written, soon."""
        if self._book.dirty:
            self._wanted.set()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        seconds = self._progress_seconds()
        if seconds is not None:
            self._alarm = asyncio.get_running_loop().call_later(seconds, self.poke)

    async def finish(self) -> None:
        """Writes what is dirty now; `run` must have ended. For an orderly stop."""
        if self._book.dirty and not self._book.in_transaction:
            await self.write()

    async def write(self) -> float:
        """One checkpoint, repeated until every row in it is visible. Returns how long the next should wait, in seconds."""
        pause = REPEAT_SECONDS
        while True:
            cut = self._book.collect(self._now_us())
            began = self._monotonic()
            try:
                written = await self._store.write_checkpoint(self._epoch, cut)
            except NotVisible:
                self._book.restore(cut)
            except BaseException:
                self._book.restore(cut)
                raise
            else:
                self._book.visibility.proven(set(cut.xids).difference(written.invisible))
                self._book.stored(cut, written.gone)
                self._confirm(cut.lsn)
                seconds = self._monotonic() - began
                self._observed(seconds, len(cut.lives))
                return _pause(seconds, len(cut.lives))
            await asyncio.sleep(pause)
            pause = min(2 * pause, 20 * REPEAT_SECONDS)
            while self._book.in_transaction:
                await asyncio.sleep(REPEAT_SECONDS)


def _pause(seconds: float, instances: int) -> float:
    """Between a checkpoint of so many instances, which took so long, and the next one."""
    if instances <= FEW_INSTANCES:
        return 0.0
    least = FLOOD_PAUSE_SECONDS if instances > MANY_INSTANCES else 0.0
    return min(max(least, 2 * seconds), LONGEST_PAUSE_SECONDS)
