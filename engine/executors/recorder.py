"""What the engine inserts itself: completions (failures, cancellations, fired timers), children, waits. Many in one statement.

Theory of operation. Whoever decides hands a `Record` in; it is inserted on the engine's connection, unless its key is taken
(One key, one outcome). The answer to the decision is not this insert but its row, when the log brings it (One way in).
Skipped and repeated are timers that are not due by the database's clock, and what was caused by a transaction that is not
visible yet (A row may arrive before it can be seen).

Inserting waits for a transaction that holds the same key and has not ended. Only the submitting role itself can have one. So
the engine's own keys (timers) have a connection of their own, on which nothing ever waits; rows under a role's key wait at
most `LOCK_TIMEOUT_MS`, in company first, then role by role, then one by one up to the held one, behind which the rest of that
role's waits a second. However many keys a role holds, it delays others by two timeouts a second (One workflow's trouble stays
its own).

Children, their cancellations and waits share a third connection: nobody can hold a key of theirs. What the database refuses
there becomes the failed completion of the step that asked for it. An instance to wait for that is not there is looked for
again for `MISSING_SECONDS`: its row may be committed and not visible yet.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

from engine.errors import KeyHeld, Lost, Refused, Transient
from engine.executors.queue import REPEAT_SECONDS, Queue
from engine.executors.requests import Requests, Waits
from engine.machine import ENGINE
from engine.store import Store, Writing
from engine.store.rows import Cancelled, Child, Record, Waiting

LOCK_TIMEOUT_MS: Final = 100
"""How long an insert waits for somebody's open transaction with the same key."""
BLOCKED_REPEAT_SECONDS: Final = 1.0
"""Before a row whose key somebody holds is tried again."""


class Recorder:
    """Inserts for as long as its `jobs` run: the engine's own keys on one connection, all others on another, and children and
    waits on a third.
    """

    def __init__(self, own: Store, others: Store, instances: Store, epoch: int) -> None:
        self._own = _Lane(own, epoch)
        self._others = _Lane(others, epoch)
        self._children = Requests[Child](instances.start_children, epoch, self._failed)
        self._cancels = Requests[Cancelled](instances.cancel_children, epoch, self._failed)
        self._waits = Waits(instances.begin_waits, epoch, self._failed)

    def __len__(self) -> int:
        return sum(len(lane) for lane in (self._own, self._others, self._children, self._cancels, self._waits))

    def start_child(self, child: Child) -> None:
        """The child's row is inserted soon."""
        self._children.take(child)

    def cancel_child(self, cancelled: Cancelled) -> None:
        """The child gets a cancellation soon, or is there cancelled."""
        self._cancels.take(cancelled)

    def begin_wait(self, waiting: Waiting) -> None:
        """The wait's row is inserted as soon as the instance is found."""
        self._waits.wanted.add((waiting.key, waiting.step))
        self._waits.take(waiting)

    def drop_wait(self, key: int, step: str) -> None:
        """The instance need not be found any more."""
        self._waits.wanted.discard((key, step))

    def _failed(self, key: int, step: str, cause: str | None, message: str, code: str) -> None:
        self.record(
            Record(
                run_as=ENGINE,
                key=key,
                step=step,
                outcome="failed",
                cause=cause,
                error=json.dumps({"message": message, "code": code}),
            )
        )

    def record(self, record: Record) -> None:
        """Takes a decision; it is inserted soon."""
        (self._own if record.run_as == ENGINE else self._others).take(record)

    @property
    def busy(self) -> bool:
        """Whether something is being inserted, or waits for no more than its turn."""
        return any(lane.busy for lane in (self._own, self._others, self._children, self._cancels, self._waits))

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        """What inserts, until cancelled. Each raises Fenced, and Lost."""
        return [lane.run() for lane in (self._own, self._others, self._children, self._cancels, self._waits)]


class _Lane(Queue[Record]):
    """Records that wait for one connection."""

    def __init__(self, store: Writing, epoch: int) -> None:
        super().__init__(epoch)
        self._store = store

    async def insert(self, rows: list[Record]) -> bool:
        """Whether nobody held a key of them. What was skipped or held is tried again later."""
        try:
            skipped = await self._store.record_completions(self.epoch, rows)
        except Lost:
            self.waiting = [*rows, *self.waiting]
            raise
        except KeyHeld:
            await self._held(rows)
            return False
        except Transient as error:
            self.pass_by(rows, error)
        except Refused as error:
            await self._refused(rows, error)
        else:
            for ordinal in skipped:
                self.later(REPEAT_SECONDS, rows[ordinal])
        return True

    async def _held(self, records: list[Record]) -> None:
        """Somebody holds a key: each role on its own, then each of its records until the held one; the rest waits with it."""
        roles = sorted({record.run_as for record in records})
        if len(roles) > 1:
            for role in roles:
                await self.insert([record for record in records if record.run_as == role])
        elif len(records) == 1:
            self.later(2 * BLOCKED_REPEAT_SECONDS, records[0])  # after those that waited behind it
        else:
            for place, record in enumerate(records, 1):
                if not await self.insert([record]):
                    for behind in records[place:]:
                        self.later(BLOCKED_REPEAT_SECONDS, behind)
                    return

    async def _refused(self, records: list[Record], error: Refused) -> None:
        """The statement failed: each on its own, and what fails alone is recorded in words that fit."""
        if len(records) > 1:
            for record in records:
                await self.insert([record])
            return
        why = json.dumps({"message": f"the outcome could not be recorded: {error}", "code": error.code})
        bare = replace(records[0], result=None, query=None, error=why, outcome="failed")
        if bare == records[0]:
            raise error
        await self.insert([bare])
