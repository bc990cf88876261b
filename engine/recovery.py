"""How a leader comes to know what is unfinished: from a checkpoint and the log after it, or from the tables.

Theory of operation. Who holds the slot leads. It ends what the leader before it left connected, bumps the epoch, and only then
loads: from there on nothing that the old one writes can be committed (A stale engine cannot harm).

When the slot cannot be continued from, the tables are the truth (Losing the slot loses nothing): `rebuild` makes a new slot,
imports the snapshot that ends exactly where it starts, holds the slot by streaming at once, and folds every row that no
checkpoint holds. Position, identity of the slot and states are stored by one transaction; until that has committed
`scanning` stands in df.checkpoint, and whoever finds it there begins again.

A scan does not know the order of the log. Per instance, a row that some completion names as its cause was acted on before: such
rows are folded first; the others follow in the order in which they were recorded, unless that contradicts what was done
(`engine.evidence`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

from cdc.errors import SlotLost
from cdc.lsn import Lsn
from cdc.slot import CreatedSlot, SlotState, SystemIdentity, check_slot, check_stored_position
from engine.book import Book, completed, event_of, parent_of
from engine.codec import CodecError, Stored
from engine.effects import (
    AwaitInstance,
    CancelChild,
    CancelStep,
    DropTimer,
    DropWait,
    Execute,
    Finish,
    StartChild,
    StartTimer,
    TakeSignal,
)
from engine.errors import LeadershipLost, MachineError, Unfit, WalflowError
from engine.events import CancelRequested, Event, Signalled, Started
from engine.evidence import Row, in_order
from engine.executors.login import Logins
from engine.frames import Subject
from engine.host import Replication
from engine.instance import HeldEvent, Live
from engine.log import fields
from engine.longwork import LongWork
from engine.machine import ENGINE, FOREVER, NEW, State, fold, outstanding
from engine.rows import CommandKind, CommandRow, CompletionRow, InstanceRow, WaitRow
from engine.store import Arriving, Inbox, Loading, Results, Scanning, Store
from engine.store.rows import Checkpoint, CompletionKey, Recorded, Seen, SetAside, StoredInstance
from engine.tasks import in_turns

log = logging.getLogger("walflow.recovery")

VISIBLE_POLL_SECONDS: Final = 0.02
"""Between looks at whether all can be seen that a scan will see."""
SIGNALS_AT_ONCE: Final = 1_000
"""Signals read in one query when an inbox is taken up."""
YIELD_EVERY: Final = 500
"""Instances looked at before others have their turn."""
STATE_MISSING: Final = "its state is missing in df.states: somebody has removed it"
LOGINS: Final = 4
"""Roles whose old backends are ended at the same time, before a scan."""


def why_rebuild(checkpoint: Checkpoint, slot: SlotState | None, system: SystemIdentity, name: str) -> str | None:
    """Why the log cannot be continued from the checkpoint; None when it can. Raises Unfit for somebody else's slot."""
    if slot is not None and (slot.plugin != "pgoutput" or slot.database != system.database):
        raise Unfit(
            f"slot {name} is not a pgoutput slot of database {system.database}",
            "choose another one with the setting slot",
        )
    if checkpoint.system_identifier is None:
        return "there is no checkpoint yet"
    if checkpoint.scanning:
        return "a table scan was not finished"
    if checkpoint.system_identifier != system.system_identifier:
        return "this is another system than the checkpoint's"
    if checkpoint.slot_name != name:
        return f"the checkpoint is of slot {checkpoint.slot_name}"
    try:
        check_slot(slot, name, system.database or "")
        assert slot is not None
        check_stored_position(checkpoint.lsn, slot, system)
    except SlotLost as lost:
        return lost.what
    return None


# --- from a checkpoint ------------------------------------------------------------------------------------------------


async def load(store: Loading, results: Store, book: Book, work: LongWork) -> None:
    """Reads every unfinished instance that does not sleep, as the checkpoint holds it. `results` is a second connection."""
    async with store.transaction():
        aside = await _set_aside(results)
        async for instances in store.stored_instances():
            for live in await lives(results, book, instances):
                if live.key in aside and live.quarantined is None:
                    book.hold_for([live.key])  # what was set aside comes before all that the log will bring
                else:
                    book.adopt(live)
            work.at(f"reading the checkpoint: {len(book.instances)} instances so far")
        await _adopt_waits(store, book)
        for parent, step, child in await store.children():
            book.adopt_child(parent, step, child)
        book.asleep = await store.asleep()
    book.complete = not book.asleep and not book.backlog and not book.absent
    book.spilled = not book.complete  # an earlier leader may have left something in the inbox


async def _set_aside(store: Arriving) -> set[int]:
    """Instances with events in df.inbox."""
    keys: set[int] = set()
    after = 0
    while found := await store.set_aside(after, YIELD_EVERY):
        keys.update(found)
        after = found[-1]
    return keys


async def _adopt_waits(store: Loading, book: Book) -> None:
    """Waits that the checkpoint holds, and what is shown of whom."""
    for wait in await store.open_waits():
        if wait.waiter_key in book.instances:
            book.adopt_wait(wait)
    for key, nodes in await store.shown():
        live = book.instances.get(key)
        if live is not None:
            live.shown = hash(nodes)


async def lives(results: Results, book: Book, instances: Sequence[StoredInstance]) -> list[Live]:
    """Instances with their states; one that cannot be read is quarantined."""
    drafts: list[tuple[StoredInstance, Stored | CodecError | None]] = []
    wanted: list[tuple[int, int, str]] = []
    signals: list[tuple[int, int, str]] = []
    for instance in instances:
        stored = _stored(instance)
        drafts.append((instance, stored))
        if isinstance(stored, Stored):
            wanted += [(instance.row.submitter, instance.row.key, step) for step in stored.references]
            signals += [(instance.row.submitter, instance.row.key, event_id) for event_id in stored.signals]
    found = await _results(results, wanted, signals)
    made = (_live(book, instance, stored, found.get(instance.row.key, {})) for instance, stored in drafts)
    return [live for live in made if live is not None]


def _stored(instance: StoredInstance) -> Stored | CodecError | None:
    if instance.state is None:
        return None
    assert instance.version is not None
    try:
        return Stored(instance.version, instance.state)
    except CodecError as error:
        return error


async def _results(
    store: Results, wanted: list[tuple[int, int, str]], signals: list[tuple[int, int, str]]
) -> dict[int, dict[str, str]]:
    """What states refer to, by instance: results by step, data of signals by event."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    if wanted:
        for key, step, result in await store.results(wanted):
            found[key][step] = result if result is not None else "null"
    if signals:
        for key, event_id, data in await store.signal_data(signals):
            found[key][event_id] = data
    return found


def _live(
    book: Book, instance: StoredInstance, stored: Stored | CodecError | None, results: dict[str, str]
) -> Live | None:
    """None for a row whose graph cannot be read and that has no state: `Book.start` fails it."""
    row = instance.row
    subject, state, trouble = book.placeholder(row), NEW, None
    try:
        subject = book.subject(row)
        if isinstance(stored, CodecError):
            raise stored
        if stored is not None:
            state = _of_this_system(stored.state(subject.scope, results), subject.submitter)
    except ValueError as error:  # a row that a trigger would not let through, or a state of another version
        if stored is None:
            return None
        trouble = f"{type(error).__name__}: {error}"
    live = Live(subject, state, status=instance.status, started_us=instance.started_us, in_states=stored is not None)
    live.parent = parent_of(row)
    live.quarantined = instance.quarantined or trouble
    live.stored_status = (instance.status, instance.quarantined)
    live.unread = trouble is not None
    live.wake_us = FOREVER if instance.asleep else None
    return live


def _of_this_system(state: State, submitter: int) -> State:
    """Completions that the state keeps for later are the submitter's or the engine's; its OID may have been another one."""
    if all(kept.run_as in (ENGINE, submitter) for kept in state.stash.values()):
        return state
    stash = {
        key: kept if kept.run_as == ENGINE else replace(kept, run_as=submitter) for key, kept in state.stash.items()
    }
    return replace(state, stash=stash)


def _without_state(book: Book, instance: StoredInstance) -> Live:
    """`running` is only written together with a state. Who removed that removed what signals it took, and which steps it ran."""
    live = Live(book.placeholder(instance.row), NEW, status="running", started_us=instance.started_us)
    live.parent = parent_of(instance.row)
    live.quarantined, live.unread = STATE_MISSING, True
    live.stored_status = ("running", instance.quarantined)
    return live


# --- from the tables --------------------------------------------------------------------------------------------------


async def prepare_rebuild(store: Scanning, logins: Logins, system: SystemIdentity, checkpoint: Checkpoint) -> None:
    """What must be so before the snapshot of a scan is taken: OIDs are those of this system, no old step is in flight."""
    if checkpoint.system_identifier not in (None, system.system_identifier):
        await store.rewrite_oids()
    roles = await store.submitters()
    gate = asyncio.Semaphore(LOGINS)

    async def end(role: int) -> None:
        async with gate:
            try:
                opened = await logins.connect(role, end_all=True, end=frozenset(), on_idle_loss=lambda _: None)
            except WalflowError as error:
                # its steps will meet the same trouble, and say so
                log.warning("old steps of a role could not be ended", extra=fields(role=role, error=str(error)))
            else:
                opened.close()

    await asyncio.gather(*(end(role) for role in roles))


async def make_slot(replication: Replication, name: str) -> CreatedSlot:
    """A new slot under the name, in place of one that is there. Raises SlotInUse, SlotNotCreated."""
    if await replication.slot(name) is not None:
        await replication.drop_slot(name)
    return await replication.create_slot(name)


def check_made(held: SlotState | None, made: CreatedSlot) -> None:
    """Raises LeadershipLost unless the slot that is read begins where the one began that was made.

    In between nobody held it: another engine that was to make one, and had not heard yet that it does not lead, may have put
    its own in the place. What was committed between the two would come neither by the snapshot nor by the log.
    """
    if held is None or held.confirmed_flush_lsn is None or held.confirmed_flush_lsn > made.consistent_point:
        raise LeadershipLost("the slot was exchanged before it was read: it is made again")


async def until_visible(store: Scanning, snapshot: str, work: LongWork) -> None:
    """Waits until everybody sees what the scan will see.

    The snapshot of a slot knows commits by the log, as the stream does: of one that waits for a synchronous standby it sees the
    rows, and a checkpoint would take them for gone. What was still under way when the snapshot was taken comes by the log.
    """
    while not await store.sees_all_of(snapshot):
        work.at("waiting until all that is committed can be seen: some commit is held, as by a synchronous standby")
        await asyncio.sleep(VISIBLE_POLL_SECONDS)


async def scan(store: Scanning, book: Book, consistent_point: Lsn, work: LongWork) -> int:
    """Folds every row that no checkpoint holds; returns how many. `store` has imported the slot's snapshot."""
    book.lsn = consistent_point
    folded = scanned = 0
    async for instances in store.unfinished_instances():
        folded += len(await _scan_chunk(store, book, instances, consistent_point))
        scanned += len(instances)
        work.at(f"scanning the tables: {scanned} unfinished instances so far")
        book.leave_unchanged([instance.row.key for instance in instances])
    await _adopt_waits(store, book)
    for kind in COMMANDS:
        book.pass_over(kind, await store.nobodys(kind))
    return folded + _fold_waits(book, await store.unfolded_waits())


def _fold_waits(book: Book, waits: list[WaitRow]) -> int:
    for wait in waits:
        book.wait(wait)
    return len(waits)


_Found = Recorded[CompletionRow] | Recorded[CommandRow]


@dataclass(slots=True)
class _History:
    """What a scan found of one instance; `causes` are the rows that some completion names as its cause."""

    found: list[_Found] = field(default_factory=list)
    causes: set[str] = field(default_factory=set)

    def ordered(self, book: Book, row: InstanceRow) -> list[_Found]:
        """As they are to be folded into the instance, which the book has taken up as far as it does."""
        base = _base(book, row)
        if base is None:
            return sorted(self.found, key=lambda f: (f.row.event_id not in self.causes, f.recorded_us, f.row.event_id))
        known = {found.row.event_id: found for found in self.found}
        rows = [made for found in self.found if (made := self._row(found)) is not None]
        events = [known.pop(made.event.event_id) for made in in_order(*base, rows)]
        return events + list(known.values())  # a release comes last: it is for what could not fold one of the others

    def _row(self, found: _Found) -> Row | None:
        cause = found.row.cause if isinstance(found.row, CompletionRow) else None
        event = event_of(found.row, found.recorded_us)
        return None if event is None else Row(event, found.recorded_us, cause, found.row.event_id in self.causes)


def _base(book: Book, row: InstanceRow) -> tuple[Subject, State] | None:
    """What the rows are folded into: the instance as it is in memory, or will begin when there is room; None when it cannot."""
    live = book.instances.get(row.key)
    if live is not None:
        return None if live.quarantined is not None else (live.subject, live.state)
    if not book.is_waiting(row):
        return None
    try:
        subject = book.subject(row)
    except ValueError:
        return None
    return subject, fold(subject, NEW, Started(row.event_id, 0))[0]


async def _scan_chunk(
    store: Scanning,
    book: Book,
    instances: list[StoredInstance],
    lsn: Lsn,
    *,
    is_other: Callable[[InstanceRow], bool] = lambda _row: False,
) -> set[str]:
    """Folds these instances and all that is found of them; returns the ids of the rows. `is_other`: asked at the last moment,
    whether an instance is another one by now than the one that was read.
    """
    histories = await _histories(store, instances)
    asides = await inboxes(store, [instance.row for instance in instances])
    known = {live.key: live for live in await lives(store, book, instances)}
    instances = [instance for instance in instances if not is_other(instance.row)]
    with book.elsewhere() as at:
        for instance in instances:
            row = instance.row
            live = known.get(row.key)
            aside = asides.get(row.key, [])
            at(0, instance.recorded_us, lsn, 0)
            if live is not None and live.in_states:
                book.adopt(live)
            elif instance.status == "running":
                book.adopt(_without_state(book, instance))
            elif instance.submitted_by.isdigit():
                book.unfit(row, f"the submitter, role {instance.submitted_by}, does not exist on this system")
            else:
                with book.asking_nothing() if aside else nullcontext():  # else what it asks for is handed out twice
                    book.start(row)
            # set aside by an earlier leader: before all that no checkpoint has passed, and marked
            if aside:
                book.take_up(row.key, aside)
            there = {held.event.event_id for held in aside}
            for ordinal, found in enumerate(histories[row.key].ordered(book, row), 1):
                if found.row.event_id in there:
                    continue
                at(0, found.recorded_us, lsn, ordinal)
                if isinstance(found.row, CompletionRow):
                    book.completion(found.row)
                else:
                    book.command(found.row)
    return {
        *(instance.row.event_id for instance in instances),
        *(found.row.event_id for instance in instances for found in histories[instance.row.key].found),
    }


async def _histories(store: Scanning, instances: list[StoredInstance]) -> dict[int, _History]:
    histories: dict[int, _History] = defaultdict(_History)
    for completion in await store.completions_of(instances):
        history = histories[completion.row.instance_key]
        history.found.append(completion)
        if completion.row.cause is not None:
            history.causes.add(completion.row.cause)
    # what led to a child or a wait was acted on as well
    for key, cause in await store.causes_of(instances):
        histories[key].causes.add(cause)
    for kind in COMMANDS:
        for command in await store.commands_of(kind, instances):
            assert command.row.instance_key is not None
            histories[command.row.instance_key].found.append(command)
    return histories


COMMANDS: Final[tuple[CommandKind, ...]] = ("signal", "cancellation", "release")


# --- the cross-check --------------------------------------------------------------------------------------------------


async def see_unfolded(store: Scanning, book: Book) -> Seen:
    """A snapshot of the unfinished instances, of the commands without a mark and of the completions of what `book` takes for
    unanswered, then a position of the log. Starts that wait for room are left out: they may be millions, and are looked for
    between their keys anyway.
    """
    asked = await _asked(book)
    return await store.see_unfolded(asked, dict(book.backlog))


async def _asked(book: Book) -> list[CompletionKey]:
    """The keys of the completions that unfinished instances wait for."""
    asked: list[CompletionKey] = []
    async for live in in_turns(list(book.instances.values()), YIELD_EVERY):
        asked += _open_keys(live)
    return asked


def _open_keys(live: Live) -> list[CompletionKey]:
    if live.quarantined is not None:
        return []
    keys: list[CompletionKey] = []
    for effect in outstanding(live.subject, live.state):
        match effect:
            case Execute() | CancelStep():
                keys.append((live.subject.submitter, live.key, effect.step, effect.attempt))
            case StartTimer() | StartChild() | CancelChild() | AwaitInstance():
                keys.append((ENGINE, live.key, effect.step, 1))
            case DropTimer() | DropWait() | TakeSignal() | Finish():
                raise MachineError(f"{effect} asks for no completion")
    return keys


async def fold_missed(store: Scanning, book: Book, seen: Seen) -> int:
    """Folds what the log should have brought and did not; to be called once a checkpoint has passed `seen.position`.

    Such rows are there when the publication left them out for a while. Returns their number.
    """
    with (
        book.noting_who_leaves() as left
    ):  # what is read without a state may begin, get one and leave before it is folded

        def is_other(row: InstanceRow) -> bool:
            return row.key in left or book.is_known(row.key) or book.is_waiting(row)

        keys = [key for key in seen.keys if not book.is_known(key)]
        unknown = [found for found in await store.unfinished_among(keys) if found.state is None]
        instances = [found for found in unknown if not is_other(found.row)]
        scanned = await _scan_chunk(store, book, instances, book.lsn, is_other=is_other) if instances else set()
    missed = len(scanned)
    for kind in COMMANDS:
        for command in await store.commands_among(kind, seen.commands[kind]):
            if command.row.event_id in scanned or book.is_late(command.row.event_id):
                continue
            missed += 1
            with book.elsewhere() as at:
                at(0, command.recorded_us, book.lsn, missed)
                book.command(command.row)
    missed += _fold_waits(book, await store.waits_among(seen.waits))
    return missed + await _fold_answers(store, book, seen.completions)


async def _fold_answers(store: Scanning, book: Book, keys: list[CompletionKey]) -> int:
    """Folds the completions under these keys for which their instances still wait."""
    missed = 0
    for key in keys:
        found = await store.completion(key)
        live = book.instances.get(key[1])
        if found is not None and live is not None and key in _open_keys(live):
            missed += 1
            with book.elsewhere() as at:
                at(0, found.recorded_us, book.lsn, missed)
                book.completion(found.row)
    return missed


# --- the inbox --------------------------------------------------------------------------------------------------------


async def inboxes(store: Inbox, instances: Sequence[InstanceRow | Subject]) -> dict[int, list[HeldEvent]]:
    """What was set aside, by instance: those for which nothing was are left out."""
    submitters = {instance.key: instance.submitter for instance in instances}
    waiting = await store.with_inbox(list(submitters)) if submitters else []
    return {key: await read_inbox(store, key, submitters[key]) for key in waiting}


async def read_inbox(store: Inbox, key: int, submitter: int) -> list[HeldEvent]:
    """What was set aside for an instance; rows are read by their announced keys, and dropped when they are gone."""
    held: list[HeldEvent] = []
    events = await store.inbox(key)
    signals = await _signals(store, [aside for aside in events if aside.kind == "signal"])
    for aside in events:
        event = signals.get(aside.row_key) if aside.kind == "signal" else await _event_at(store, key, aside)
        if event is not None:
            owner = submitter if aside.kind == "instance" else int(json.loads(aside.row_key)[0])
            held.append(HeldEvent(aside.lsn, aside.ordinal, aside.kind, aside.row_key, aside.xid, event, owner))
    return held


async def _signals(store: Inbox, events: list[SetAside]) -> dict[str, Signalled]:
    """By the keys of their rows. Many at a time: somebody may have sent a hundred thousand."""
    found: dict[str, Signalled] = {}
    for first in range(0, len(events), SIGNALS_AT_ONCE):
        batch = {tuple(json.loads(aside.row_key)): aside for aside in events[first : first + SIGNALS_AT_ONCE]}
        for owner, event_id, name, data in await store.signals(list(batch)):
            aside = batch[owner, event_id]
            found[aside.row_key] = Signalled(event_id, aside.at_us, name, data)
    return found


async def _event_at(store: Inbox, instance: int, aside: SetAside) -> Event | None:
    key = json.loads(aside.row_key)
    match aside.kind:
        case "instance":
            event_id = await store.start_of(key)
            return None if event_id is None else Started(event_id, aside.at_us)
        case "completion":
            run_as, step, attempt = key
            found = await store.completion((run_as, instance, step, attempt))
            return None if found is None else completed(found.row, aside.at_us)
        case "cancellation":
            cancellation = await store.cancellation(*key)
            return None if cancellation is None else CancelRequested(cancellation[0], aside.at_us, cancellation[1])
        case _:
            raise MachineError(f"an event of kind {aside.kind!r} was set aside")
