"""What comes into the leader's memory after it has been loaded: starts that waited for room, instances that slept.

Theory of operation. The book says what it misses (`absent`, `strays`, `backlog`), this looks it up in the tables and brings it
in, one batch after another. Three things are brought in:

- an instance for which an event came while it was not in memory. Its state is as the last checkpoint wrote it; what came since
  is held by the book, and what came before stands in df.inbox;
- a sleeper whose timer is due soon (`df.states.wake_at`);
- as there is room, starts that waited. A row that is seen in a table may not have come by the log yet; so it begins only after
  a checkpoint has passed a position that was read after it (Folded or stored).

Whoever has a backlog has his turn, then the next, each with a batch at most.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from engine import recovery
from engine.book import Book, Stray
from engine.cut import HORIZON_US
from engine.effects import StartTimer
from engine.events import CancelRequested
from engine.instance import FINAL, HeldEvent, Live
from engine.machine import outstanding
from engine.rows import InstanceRow, WaitRow
from engine.store import Arriving
from engine.store.rows import StoredInstance
from engine.tasks import in_turns, wait_at_most

BATCH: Final = 50
"""Instances brought in at a time."""
TURN: Final = 20
"""Of a batch so many arrive before others have their turn: a start costs some tenths of a millisecond."""
REFILL: Final = 20
"""A backlog is looked at when this part of all room is free, so that a query brings many."""
REPEAT_SECONDS: Final = 0.01
"""Before what cannot be seen yet is looked for again, and before it is tried again whether there is room."""


class Arrivals:
    """Brings in for as long as `run` runs. `passed` returns when a checkpoint has passed all that is committed now.

    `brought` is told when there is something to write; `now_us` is the database's clock, as well as it is known.
    """

    def __init__(
        self,
        book: Book,
        store: Arriving,
        *,
        passed: Callable[[], Awaitable[None]],
        brought: Callable[[], None],
        now_us: Callable[[], int],
    ) -> None:
        self._book = book
        self._store = store
        self._passed = passed
        self._brought = brought
        self._now_us = now_us
        self._wanted = asyncio.Event()
        self._next_wake_us: int | None = None
        self._missed: dict[int, tuple[int, ...]] = {}
        """Instances that were not to be seen, and the transactions that could not be seen when they were looked for."""

    def poke(self) -> None:
        """Something is missing, or there is room again. Cheap."""
        self._wanted.set()

    def leaves(self, live: Live) -> list[str]:
        """An instance leaves the memory. Returns the steps whose timers need not stay, and remembers when to wake it."""
        horizon_us = self._now_us() + HORIZON_US
        far = [
            (effect.due_us, effect.step)
            for effect in outstanding(live.subject, live.state)
            if isinstance(effect, StartTimer) and effect.due_us > horizon_us
        ]
        for due_us, _ in far:
            self._note_wake(due_us)
        self.poke()  # who waits is told of the new time
        return [step for _, step in far]

    def _note_wake(self, due_us: int) -> None:
        if self._next_wake_us is None or due_us < self._next_wake_us:
            self._next_wake_us = due_us

    async def run(self) -> None:
        """Raises what the store raises."""
        self._next_wake_us = await self._store.next_wake()
        self._wanted.set()
        while True:
            await self._until_wanted()
            self._wanted.clear()
            await self._look_for_strays()
            await self._look()
            await self._drain_inbox()
            await self._wake()
            await self._admit()

    async def _until_wanted(self) -> None:
        seconds = None
        if self._next_wake_us is not None:
            seconds = max(0, self._next_wake_us - HORIZON_US - self._now_us()) / 1_000_000
        await wait_at_most(self._wanted, seconds)

    # --- what an event came for -------------------------------------------------------------------------------------

    async def _look_for_strays(self) -> None:
        """Commands that name their instance by its owner and id only."""
        strays, self._book.strays = self._book.strays, []
        for first in range(0, len(strays), BATCH):
            batch = strays[first : first + BATCH]
            names = [(stray.row.owner, stray.row.instance_id) for stray in batch]
            # asked before the tables are: what becomes visible in between may be missing in the answer
            unsure = [bool(self._book.visibility.still_unproven((stray.xid,))) for stray in batch]
            keys = {(owner, id_): key for owner, id_, key in await self._store.named(names)}
            for stray, name, is_unsure in zip(batch, names, unsure, strict=True):
                self._found(stray, keys.get(name), is_unsure)

    def _found(self, stray: Stray, key: int | None, is_unsure: bool) -> None:
        if key is None and is_unsure:
            self._book.strays.append(stray)  # the instance's row may be as young as the command
            self._again()
        else:
            self._book.found(stray, key)

    async def _look(self) -> None:
        while self._book.absent:
            if self._book.spilled:
                await self._passed()
            before = len(self._book.absent)
            await self._bring(list(self._book.absent)[:BATCH])
            if len(self._book.absent) >= before:
                self._again()
                return
            await self._until_room()

    async def _bring(self, keys: list[int]) -> None:
        """What the tables say of instances that are not in memory: they arrive, stay away, or are nobody."""
        visibility = self._book.visibility
        unproven = tuple(visibility.unproven())
        certain = {key for key in keys if not visibility.still_unproven(self._missed.get(key, unproven))}
        found = {instance.row.key: instance for instance in await self._store.instances(keys)}
        lives = await self._lives([found[key] for key in keys if key in found and found[key].state is not None])
        inboxes = await recovery.inboxes(self._store, [live.subject for live in lives.values()])
        cancelled = await self._cancelled([i for i in found.values() if i.state is None and i.status == "pending"])
        waits, children = await self._edges(list(lives))
        async for key in in_turns(keys, TURN):
            instance, live = found.get(key), lives.get(key)
            if live is not None:
                self._book.arrive(live, inboxes.get(key, ()), waits.get(key, ()), children.get(key, ()))
            elif instance is None:
                if key in certain:
                    self._book.nobody(key)
                else:  # its row may only not have been visible yet
                    self._missed.setdefault(key, unproven)
                    continue
            elif instance.status in FINAL:
                self._book.nobody(key)
            elif key in cancelled:
                self._book.admit(instance.row, instance.recorded_us, cancelled[key])
            else:
                self._book.stay_away(key)
            self._missed.pop(key, None)
        self._brought()

    async def _lives(self, instances: list[StoredInstance]) -> dict[int, Live]:
        lives = await recovery.lives(self._store, self._book, [i for i in instances if i.status not in FINAL])
        shown = dict(await self._store.shown_of([live.key for live in lives]))
        for live in lives:
            live.shown = hash(shown[live.key]) if live.key in shown else None
        return {live.key: live for live in lives}

    async def _cancelled(self, waiting: list[StoredInstance]) -> dict[int, list[HeldEvent]]:
        """Of starts that wait for room those that are cancelled, and what was set aside for them.

        They end at once, room or not: parents that are being cancelled stay in memory until their children have ended.
        """
        inboxes = await recovery.inboxes(self._store, [instance.row for instance in waiting])
        found = [i.row for i in waiting if self._is_cancelled(i.row, inboxes.get(i.row.key, []))]
        if found:
            await self._passed()  # what was set aside before is in the inbox now
        again = await recovery.inboxes(self._store, found)
        return {row.key: again.get(row.key, []) for row in found}

    def _is_cancelled(self, row: InstanceRow, inbox: list[HeldEvent]) -> bool:
        absent = self._book.absent.get(row.key)
        held = [*inbox, *(absent.held if absent is not None else ())]
        return any(isinstance(each.event, CancelRequested) and each.owner == row.submitter for each in held)

    async def _edges(self, keys: list[int]) -> tuple[dict[int, list[WaitRow]], dict[int, list[tuple[str, int]]]]:
        """For whom instances wait: others, and their children by step."""
        waits: dict[int, list[WaitRow]] = defaultdict(list)
        children: dict[int, list[tuple[str, int]]] = defaultdict(list)
        if keys:
            for wait in await self._store.waits_of(keys):
                waits[wait.waiter_key].append(wait)
            for parent, step, child in await self._store.children_of(keys):
                children[parent].append((step, child))
        return waits, children

    async def _drain_inbox(self) -> None:
        """Instances with events in df.inbox that nobody holds: of an earlier leader, or more than could be held."""
        if not self._book.spilled or self._book.absent:
            return
        self._book.spilled = False
        await self._passed()
        after = 0
        while keys := await self._store.set_aside(after, BATCH):
            after = keys[-1]
            await self._bring([key for key in keys if not self._book.is_known(key)])
            await self._until_room()

    async def _until_room(self) -> None:
        """What arrives may be too much for a moment; the next checkpoint lets go of what sleeps again."""
        while len(self._book.instances) >= self._book.admission + BATCH:
            await asyncio.sleep(REPEAT_SECONDS)

    def _again(self) -> None:
        asyncio.get_running_loop().call_later(REPEAT_SECONDS, self.poke)

    # --- sleepers ---------------------------------------------------------------------------------------------------

    async def _wake(self) -> None:
        horizon_us = self._now_us() + HORIZON_US
        if self._next_wake_us is None or self._next_wake_us > horizon_us:
            return
        after = (0, 0)
        while found := await self._store.sleepers(after, horizon_us, BATCH):
            after = found[-1]
            await self._bring([key for _, key in found if not self._book.is_known(key)])
            await self._until_room()
        self._next_wake_us = await self._store.next_wake(horizon_us)

    # --- starts that waited -----------------------------------------------------------------------------------------

    async def _admit(self) -> None:
        """A batch of each whose starts wait, as far as there is room."""
        enough = max(1, min(BATCH, self._book.admission // REFILL))
        for submitter in list(self._book.backlog):
            room = self._book.room(submitter)
            if room >= enough:
                further = await self._admit_of(submitter, min(room, BATCH))
                (self.poke if further else self._again)()

    async def _admit_of(self, submitter: int, count: int) -> bool:
        """Returns whether it came further: rows may wait that cannot be seen yet."""
        waiting = self._book.look_for_waiting(submitter)
        seen = await self._store.waiting(submitter, waiting.after, waiting.last, count)
        rows = [instance for instance in seen if not self._book.is_known(instance.row.key)]
        keys = [instance.row.key for instance in rows]
        self._book.hold_for(keys)
        await self._passed()
        still = {i.row.key for i in await self._store.instances(keys) if i.status == "pending" and i.state is None}
        inboxes = await recovery.inboxes(self._store, [i.row for i in rows if i.row.key in still])
        async for instance in in_turns(rows, TURN):
            key = instance.row.key
            if key in still and not self._book.is_known(key):
                self._book.admit(instance.row, instance.recorded_us, inboxes.get(key, []))
            else:
                self._book.stay_away(key)
        upto = seen[-1].row.key if len(seen) == count else waiting.last
        further = self._book.admitted(submitter, upto=upto, count=len(rows))
        self._brought()
        return further
