"""What the engine asks of its tables: one method a statement, typed rows, errors of our own.

Theory of operation. A `Store` is one connection of the engine's role. Who needs a connection of his own (what may wait must not
make others wait) is given a store of his own; everything else about connections, statements and SQLSTATEs stays behind this
border. `engine.store.postgres` is the one that speaks SQL.

Every method may raise

=========== =====================================================================================
Fenced      another engine leads: nothing was written (A stale engine cannot harm)
Lost        the connection is gone, and with it the answer: it may have been done
Transient   it was not done, for a reason that passes. Of these, KeyHeld: somebody's open transaction
            holds a key; NotVisible: it is about rows that this snapshot does not show yet
Refused     the database does not take it, now or later
=========== =====================================================================================
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from cdc.errors import Problem
from cdc.lsn import Lsn
from cdc.slot import SlotState
from engine.backlog import Backlog
from engine.cut import Cut
from engine.rows import CommandKind, CommandRow, CompletionRow, WaitRow
from engine.store.rows import (
    Begun,
    Cancelled,
    Checkpoint,
    Child,
    CompletionKey,
    Heartbeat,
    Moment,
    Record,
    Recorded,
    Seen,
    SetAside,
    StoredInstance,
    Waiting,
    Watched,
)
from engine.store.rows import Written as Written


class Writing(Protocol):
    """What the leader writes. All of it is fenced by the epoch."""

    async def write_checkpoint(self, epoch: int, cut: Cut) -> Written:
        """All of the cut in one transaction. Raises NotVisible for rows that are not visible yet: repeat it."""

    async def record_completions(self, epoch: int, records: Sequence[Record]) -> list[int]:
        """Inserts those whose keys are free. Returns the places of what was skipped: not due yet, or caused by what is not
        visible yet. Raises KeyHeld when somebody's open transaction has one of the keys.
        """

    async def start_children(self, epoch: int, children: Sequence[Child]) -> Begun:
        """Inserts those that are not there."""

    async def cancel_children(self, epoch: int, cancelled: Sequence[Cancelled]) -> Begun:
        """Inserts a cancellation for each that runs; one that is not there is inserted as cancelled."""

    async def begin_waits(self, epoch: int, waits: Sequence[Waiting]) -> Begun:
        """Inserts those whose instance is found under the waiter's rights."""

    async def heartbeat(self, epoch: int, slot: str) -> Heartbeat:
        """A row for the log to bring back, and what an idle leader wants to know."""

    async def distrust_log(self, epoch: int) -> None:
        """Whoever leads next scans the tables."""


class Results(Protocol):
    """What steps returned."""

    async def results(self, wanted: Sequence[tuple[int, int, str]]) -> list[tuple[int, str, str | None]]:
        """Instance, step and result of the completions with these roles, instances and steps."""

    async def signal_data(self, wanted: Sequence[tuple[int, int, str]]) -> list[tuple[int, str, str]]:
        """Instance, event and data of the signals with these owners, instances and events."""


class Loading(Results, Protocol):
    """What a checkpoint holds."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """One transaction around what is asked inside."""

    def stored_instances(self) -> AsyncIterator[list[StoredInstance]]:
        """All that have a state and do not sleep, some hundred at a time; inside a transaction."""

    async def open_waits(self) -> list[WaitRow]:
        """Folded waits that nothing has answered, of instances that do not sleep."""

    async def shown(self) -> list[tuple[int, str]]:
        """Instances that do not sleep, and what df.progress shows of them."""

    async def children(self) -> list[tuple[int, str, int]]:
        """Unfinished children of instances that do not sleep: parent, step, child."""

    async def asleep(self) -> int:
        """How many instances sleep."""


class Inbox(Protocol):
    """Events set aside, and the rows that they were."""

    async def with_inbox(self, keys: Sequence[int]) -> list[int]:
        """Those for which events are set aside."""

    async def inbox(self, key: int) -> list[SetAside]:
        """Of an instance, in the order of the log."""

    async def completion(self, key: CompletionKey) -> Recorded[CompletionRow] | None:
        """The row under a key."""

    async def start_of(self, key: int) -> str | None:
        """The event id of an instance's own row."""

    async def signals(self, keys: Sequence[tuple[int, str]]) -> list[tuple[int, str, str, str]]:
        """Owner, event id, name and data of those that are there, by owner and event id."""

    async def cancellation(self, owner: int, event_id: str) -> tuple[str, str] | None:
        """Event id and reason."""


class Scanning(Loading, Inbox, Protocol):
    """What the tables hold, checkpoint or not."""

    async def rewrite_oids(self) -> None:
        """After a dump and restore: `submitted_by` came by name, every other OID is that of a role of the old system."""

    async def submitters(self) -> list[int]:
        """Roles with unfinished instances."""

    async def import_snapshot(self, snapshot: str) -> str:
        """Begins a transaction that sees what the slot's beginning sees; it ends with the connection. Returns the snapshot, as
        text, for `sees_all_of`.
        """

    async def sees_all_of(self, snapshot: str) -> bool:
        """Whether everything that the snapshot sees can be seen by everybody."""

    def unfinished_instances(self) -> AsyncIterator[list[StoredInstance]]:
        """All, some hundred at a time; inside a transaction."""

    async def unfinished_among(self, keys: Collection[int]) -> list[StoredInstance]:
        """Those of the instances that are unfinished."""

    async def completions_of(self, instances: Sequence[StoredInstance]) -> list[Recorded[CompletionRow]]:
        """Of the instances, under their submitters' keys and the engine's: a stranger's are none of their history."""

    async def causes_of(self, instances: Sequence[StoredInstance]) -> list[tuple[int, str]]:
        """Instances, and the rows that are the causes of their children and waits."""

    async def commands_of(self, kind: CommandKind, instances: Sequence[StoredInstance]) -> list[Recorded[CommandRow]]:
        """Commands for the instances that are not marked as folded; every row names its instance's key."""

    async def nobodys(self, kind: CommandKind) -> list[tuple[str, int]]:
        """Event id and owner of the commands without a mark that are for no unfinished instance."""

    async def unfolded_waits(self) -> list[WaitRow]:
        """Waits that are not marked as folded."""

    async def see_unfolded(self, asked: Sequence[CompletionKey], waiting: Mapping[int, Backlog]) -> Seen:
        """A snapshot of the unfinished instances but those of `waiting`, of commands and waits without a mark and of which of the
        keys `asked` are taken, then a position of the log.
        """

    async def commands_among(self, kind: CommandKind, event_ids: Sequence[str]) -> list[Recorded[CommandRow]]:
        """Those of the commands that are not marked as folded, with their instances' keys."""

    async def waits_among(self, event_ids: Sequence[str]) -> list[WaitRow]:
        """Those of the waits that are not marked as folded."""


class Arriving(Results, Inbox, Protocol):
    """Instances that are not in memory."""

    async def instances(self, keys: Sequence[int]) -> list[StoredInstance]:
        """Those that are there, finished ones as well."""

    async def named(self, names: Sequence[tuple[int, str]]) -> list[tuple[int, str, int]]:
        """Owner, id and key of the instances with these owners and ids."""

    async def shown_of(self, keys: Sequence[int]) -> list[tuple[int, str]]:
        """What df.progress shows of them."""

    async def waits_of(self, keys: Sequence[int]) -> list[WaitRow]:
        """Their folded waits that nothing has answered."""

    async def children_of(self, keys: Sequence[int]) -> list[tuple[int, str, int]]:
        """Their unfinished children: parent, step, child."""

    async def set_aside(self, after: int, limit: int) -> list[int]:
        """Instances with a key above `after` for which events are set aside, lowest key first."""

    async def next_wake(self, after_us: int = 0) -> int | None:
        """When the first sleeper is to be woken that is to be woken later than this."""

    async def sleepers(self, after: tuple[int, int], upto_us: int, limit: int) -> list[tuple[int, int]]:
        """When to wake and key of those to be woken up to then, after a place in that order."""

    async def waiting(self, submitter: int, after: int, last: int, limit: int) -> list[StoredInstance]:
        """Pending instances of a submitter without a state, of keys above `after` and up to `last`, lowest key first."""


class Roles(Protocol):
    """Who roles are."""

    async def role(self, oid: int) -> tuple[str, bool] | None:
        """Its name, and whether it may log in."""


class Store(Writing, Scanning, Arriving, Roles, Protocol):
    """One connection of the engine's role."""

    @property
    def server_version(self) -> str: ...

    async def close(self) -> None: ...

    async def checkpoint(self) -> Checkpoint:
        """The row of df.checkpoint."""

    async def slot(self, name: str) -> SlotState | None:
        """The slot as the server sees it."""

    async def wal_position(self) -> Lsn:
        """Where the server's log ends."""

    async def take_over(self, *, scanning: bool) -> int:
        """Ends what an earlier leader left connected and bumps the epoch; returns the new one."""

    async def moment(self) -> Moment:
        """To be asked after `take_over`: what the old leader wrote lies before `flushed`."""

    async def settings(self) -> dict[str, str]:
        """df.settings."""

    async def store_slot(self, epoch: int, *, system_identifier: str, slot: str) -> None:
        """The checkpoint is of this slot, a new one, and no scan is under way any more."""

    async def watch(self, publication: str) -> Watched:
        """What every engine shows."""

    async def count_fenced(self) -> None:
        """This engine ends because another one leads."""

    async def blockers(self, pid: int) -> list[str]:
        """Whose transactions a session waits for."""

    async def publication_problems(self, publication: str) -> list[Problem]:
        """What is missing for all rows to arrive."""
