"""The leader's memory: which instances are unfinished, what the log said of them, and what a checkpoint has to write.

Theory of operation. Messages of the log go in (`begin`, `insert`, `commit`), effects come out through `dispatch` at each
transaction's commit, before anything is written about it (The WAL is the redo log); what a transaction both asked for and took
back is never begun. Between two transactions `collect` takes a consistent cut (`engine.cut`). A checkpoint that commits is
told to `stored`; one that does not is given back to `restore`.

Memory is bounded by `admission` instances. What a stored checkpoint holds leaves the memory when it is finished, or, once more
than half of the room is taken, when it only waits; so does the quarantined. A start for which there is no room stays a row:
the book keeps only between which keys its submitter's waiting rows lie. A submitter may have at most `SHARE` times as many
instances as there is room left, so whoever floods leaves room for others.

An event for an instance that is not in memory is held while somebody looks what it is (`absent`), and set aside for df.inbox
should a checkpoint pass it meanwhile. Then the instance *arrives* and takes it up, or stays *away* (it has not been admitted,
or is quarantined), or is *nobody*: finished long ago.

An instance whose fold raises is *quarantined*: it keeps the state from before, and this event and all later ones are set
aside for `df.inbox`, in order, until a release folds them (One workflow's trouble stays its own).

No clock, no socket, no database in here: what is asked for leaves as effects and cuts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from operator import itemgetter
from typing import Final

from cdc.lsn import NO_LSN, Lsn
from cdc.messages import Insert
from cdc.relations import Relation
from engine import machine
from engine.backlog import Backlog, Backlogs
from engine.cut import Cut, Unwritten
from engine.effects import AwaitInstance as AwaitInstanceAsked
from engine.effects import CancelChild, CancelStep, Effect, Execute, Finish, StartChild, StartTimer, TakeSignal
from engine.errors import Failure, clip
from engine.events import CancelRequested, Completed, Event, Signalled, Started
from engine.frames import Subject
from engine.graph import GraphError, graph_of
from engine.instance import FINAL, HeldEvent, Live, Owed
from engine.limits import ERROR_MESSAGE_CHARACTERS
from engine.machine import ENGINE, NEW, State
from engine.rings import Rings
from engine.rows import (
    BadText,
    CommandKind,
    CommandRow,
    CompletionRow,
    HeartbeatRow,
    InstanceRow,
    Reader,
    WaitRow,
    readable,
    reader,
    strict,
)
from engine.values import Names, Value
from engine.visibility import Visibility

MANY_XIDS: Final = 16
"""An instance with more transactions on its list has those struck off that are visible by now."""
SHARE: Final = 4
"""A submitter may have so many times as many instances in memory as there is room left: alone, four fifths of it."""
OUTSTANDING: Final = (Execute, StartTimer, StartChild, AwaitInstanceAsked, CancelStep, CancelChild)
"""Effects that `machine.outstanding` gives as long as no row has answered them."""
ABSENT: Final = 10_000
"""Instances that are looked for at a time. Events for others wait in df.inbox only."""
AT_ONCE: Final = 250
"""Effects handed out in one go, some milliseconds: a row may ask for a hundred thousand, and a transaction has many rows."""
REMEMBERED: Final = 10_000
"""Keys of instances that ended lately: what still comes for them is nobody's, and nobody need look."""
UNFIT_GRAPH: Final = graph_of("select 1")
"""Stands in for a graph that cannot be read; nothing of it ever runs."""


@dataclass(slots=True)
class Absent:
    """An instance that is not in memory, and what came for it. Releases are carried out when it has arrived."""

    held: list[HeldEvent] = field(default_factory=list)
    releases: list[CommandRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stray:
    """A command whose instance was not to be seen when it was inserted, and is not in memory."""

    row: CommandRow
    xid: int
    at_us: int
    lsn: Lsn
    ordinal: int


Dispatch = Callable[[Live, Effect], None]


class Book:
    """See the module's docstring. `dispatch` may be exchanged; until a leader has caught up it drops what it is given."""

    def __init__(
        self, *, visibility: Visibility, dispatch: Dispatch, stored: Lsn = NO_LSN, admission: int = 10_000
    ) -> None:
        self.visibility = visibility
        self.admission = admission
        self.dispatch = dispatch
        self.on_settled: Callable[[int, str, CompletionRow], None] = lambda _key, _step, _row: None
        self.on_heartbeat: Callable[[HeartbeatRow, int], None] = lambda _row, _at: None
        self.on_release: Callable[[Live], None] = lambda _live: None
        self.on_event: Callable[[str], None] = lambda _kind: None
        self.on_quarantined: Callable[[Live], None] = lambda _live: None
        self.on_started: Callable[[Live], None] = lambda _live: None
        self.on_absent: Callable[[], None] = lambda: None
        self.on_arrived: Callable[[Live], None] = lambda _live: None
        """An instance has come into memory and taken up what was held: what is outstanding is to be handed out."""
        self.on_evicted: Callable[[Live], None] = lambda _live: None
        self.on_folded: Callable[[Live, Event, tuple[Effect, ...]], None] | None = None
        """Told of each event that changed something, and what it asked for."""
        self.instances: dict[int, Live] = {}
        self.complete = True
        """Whether every unfinished instance is in memory: then what comes for others is nobody's."""
        self.absent: dict[int, Absent] = {}
        self.strays: list[Stray] = []
        self._late: set[str] = set()
        """Commands that are marked later than the log brought them; no scan must take them for missed."""
        self.backlog = Backlogs()
        self.spilled = False
        """Whether df.inbox may hold events of instances that nobody looks for."""
        self.asleep = 0
        """How many instances sleep outside the memory."""
        self.settings: dict[str, str] = {}
        self.lsn = stored
        self._skip_before = stored
        self._by_id: dict[tuple[int, str], int] = {}
        self._readers: dict[int, tuple[Relation, Reader]] = {}
        self._unwritten = Unwritten()
        self._dirty, self._unshown = self._unwritten.dirty, self._unwritten.unshown
        self._of: dict[int, int] = {}
        self._idle: dict[int, None] = {}
        self._settling: dict[int, None] = {}
        """Whose last state says that they are busy with asking, and what they asked for has come since."""
        self._ended: dict[int, None] = {}
        self._leaving: set[int] = set()
        self._in_transaction = False
        self._asks = True
        self._skipping = False
        self._at_us = self._xid = self._ordinal = 0
        self._final_lsn = NO_LSN
        self._unresolved: dict[tuple[int, str], list[tuple[int, CommandRow]]] = {}
        self._asked: list[tuple[Live, Effect]] = []
        self.owed = Owed()
        self.rings = Rings(self.instances, is_unfinished=self._may_be_unfinished, look_for=self._away)

    # --- the log ------------------------------------------------------------------------------------------------

    def begin(self, xid: int, commit_time_us: int, final_lsn: Lsn) -> None:
        """A transaction follows. One that a checkpoint holds already is passed over whole.

        Its commit record begins at `final_lsn`; the checkpoint's position is the end of some commit record.
        """
        self._in_transaction = True
        self._skipping = final_lsn < self._skip_before
        if self._skipping:
            return
        self._at_us = commit_time_us
        self._final_lsn = final_lsn
        self._ordinal = 0
        self._xid = self.visibility.folded(xid)

    def insert(self, message: Insert) -> None:
        """A row of the transaction."""
        if self._skipping:
            return
        relation = message.relation
        known = self._readers.get(relation.oid)
        if known is None or known[0] is not relation:
            known = self._readers[relation.oid] = (relation, reader(relation))
        row = known[1](message.values)
        self._ordinal += 1
        self._unwritten.counts.events += 1
        if type(row) is CompletionRow:
            self.on_event("completion")
            self.completion(row)
        elif type(row) is InstanceRow:
            self.on_event("start")
            self.start(row)
        elif type(row) is CommandRow:
            self.on_event(row.kind)
            self.command(row)
        elif type(row) is WaitRow:
            self.on_event("wait")
            self.wait(row)
        elif type(row) is HeartbeatRow:
            self._unwritten.counts.events -= 1
            self.on_event("heartbeat")
            self.on_heartbeat(row, self._at_us)

    def commit(self, end_lsn: Lsn) -> None:
        """The transaction is complete. A command whose instance is not known may be for one that is not in memory."""
        self._in_transaction = False
        if self._skipping:
            return
        if self._unresolved:
            self._strayed()
        if self.backlog.newest:
            self.backlog.newest.clear()
        self.lsn = end_lsn
        self._unwritten.moved = True
        if self._asked:
            asked, self._asked = self._asked, []
            self._hand_out(asked)

    @property
    def asked(self) -> int:
        """How many effects the rows of this transaction asked for so far."""
        return len(self._asked)

    def _hand_out(self, asked: list[tuple[Live, Effect]]) -> None:
        """All in order, but nothing is begun that is to be stopped at once."""
        if len(asked) == 1:
            self._dispatch_or_owe(*asked[0])
            return
        stopped = {_attempt(live, effect) for live, effect in asked if isinstance(effect, CancelStep | CancelChild)}
        if stopped:
            begun = Execute | StartChild
            asked = [(live, e) for live, e in asked if not (isinstance(e, begun) and _attempt(live, e) in stopped)]
        for live, effect in asked[:AT_ONCE]:
            self._dispatch_or_owe(live, effect)
        for live, effect in asked[AT_ONCE:]:
            self.owed.add(live, effect)

    def _dispatch_or_owe(self, live: Live, effect: Effect) -> None:
        if live.key in self.owed:
            self.owed.add(live, effect)
        else:
            self._dispatch(live, effect)

    def hand_out_owed(self) -> bool:
        """Hands out some of what a large transaction asked for; whether there is more.

        Each instance's effects keep their order; those of others need not wait for them. A crash in between loses nothing: what
        was not begun is outstanding. It may be called in the middle of another transaction.
        """
        for live, effect in self.owed.take(AT_ONCE):
            self._dispatch(live, effect)
        return bool(self.owed)

    def _dispatch(self, live: Live, effect: Effect) -> None:
        try:
            self.dispatch(live, effect)
        except Exception as error:  # what was not dispatched is outstanding when the instance is released
            self.quarantine(live, _trouble(error))

    @contextmanager
    def elsewhere(self) -> Iterator[Callable[[int, int, Lsn, int], None]]:
        """For events that do not come from the log just now (a scan, an inbox): gives what sets their transaction, time and
        place, and takes up the log where it was.
        """
        here = self._xid, self._at_us, self._final_lsn, self._ordinal
        try:
            yield self._at
        finally:
            self._at(*here)

    def _at(self, xid: int, at_us: int, lsn: Lsn, ordinal: int) -> None:
        self._xid, self._at_us, self._final_lsn, self._ordinal = xid, at_us, lsn, ordinal

    # --- rows ---------------------------------------------------------------------------------------------------

    def start(self, row: InstanceRow) -> None:
        """An instance begins, unless it is known. Where there is no room for it, it stays a row."""
        if self.is_known(row.key):
            return
        if row.status == "cancelled":  # a child whose parent gave up on it before it was there
            self._unwritten.counts.started += 1
            self._unwritten.counts.cancelled += 1
            return
        if row.submitter in self.backlog or self.room(row.submitter) <= 0:
            self._postpone(row)
        else:
            self._begin(row)

    def _begin(self, row: InstanceRow) -> None:
        try:
            live = Live(self.subject(row), NEW, parent=parent_of(row))
        except (GraphError, BadText) as error:
            self.unfit(row, str(error))
            return
        except Exception as error:  # a bug of ours is the trouble of this one instance, too
            self.unfit(row, _trouble(error))
            return
        self._add(live)
        self.on_started(live)
        self.fold(live, Started(row.event_id, self._at_us), "instance", str(row.key))
        if self._unresolved:
            self._resolve(row.submitter, row.id, lambda command: self._apply_command(command, live))

    # --- admission ------------------------------------------------------------------------------------------------

    def room(self, submitter: int) -> int:
        """For how many more instances of this submitter there is room."""
        free = self.admission - len(self.instances)
        return min(free, SHARE * free - self._of.get(submitter, 0))

    @property
    def waiting(self) -> int:
        """How many starts wait for room."""
        return sum(waiting.count for waiting in self.backlog.values())

    def _postpone(self, row: InstanceRow) -> None:
        self.complete = False
        self.backlog.postpone(row.submitter, row.id, row.key, self._xid)
        self._unwritten.backlog_changed = True
        self._note_child(row.key, parent_of(row))
        if self._unresolved:
            self._resolve(row.submitter, row.id, lambda command: self._command_away(row.key, command))
        self.on_absent()

    def is_known(self, key: int) -> bool:
        """Whether the instance is in memory, or has ended lately."""
        return key in self.instances or key in self._ended

    def is_waiting(self, row: InstanceRow) -> bool:
        """Whether the start waits for admission, among others of its submitter."""
        waiting = self.backlog.get(row.submitter)
        return waiting is not None and waiting.spans(row.key)

    def hold_for(self, keys: Iterable[int]) -> None:
        """These are about to come into memory: what comes for them meanwhile is held."""
        for key in keys:
            self.absent.setdefault(key, Absent())

    def admit(self, row: InstanceRow, recorded_us: int, inbox: Iterable[HeldEvent]) -> None:
        """A row that waited begins. It takes the time at which it was recorded; what came for it meanwhile is folded."""
        absent = self.absent.pop(row.key, None) or Absent()
        with self.elsewhere() as at, self.asking_nothing():
            at(0, recorded_us, NO_LSN, 0)
            self._begin(row)
        self._take_up(self.instances[row.key], absent, inbox)

    def look_for_waiting(self, submitter: int) -> Backlog:
        """Where the submitter's waiting rows lie, for somebody who is about to read them, and says then what was `admitted`."""
        return self.backlog.look(submitter, lambda xid: not self.visibility.still_unproven((xid,)))

    def admitted(self, submitter: int, *, upto: int, count: int) -> bool:
        """The submitter's waiting rows up to this key are in memory, as far as they could be seen. Returns whether that is
        further than before.
        """
        further = self.backlog.admitted(submitter, upto, count)
        self._unwritten.backlog_changed = self._unwritten.moved = True
        return further

    # --- what is not in memory ------------------------------------------------------------------------------------

    def _away(self, key: int) -> Absent:
        """Whoever looks brings it, or says what it is."""
        absent = self.absent.get(key)
        if absent is None:
            absent = self.absent[key] = Absent()
            self.on_absent()
        return absent

    def _may_be_unfinished(self, key: int) -> bool:
        """Whether an instance that is not in memory may be."""
        return not self.complete and key not in self._ended

    def _hold(self, key: int, kind: str, row_key: str, owner: int, event: Event) -> None:
        held = HeldEvent(self._final_lsn, self._ordinal, kind, row_key, self._xid, event, owner)
        self._unwritten.set_aside(key, held)
        if key in self.absent or len(self.absent) < ABSENT:
            self._away(key).held.append(held)
        else:
            self.spilled = True
            self.on_absent()

    def arrive(
        self,
        live: Live,
        inbox: Iterable[HeldEvent],
        waits: Iterable[WaitRow] = (),
        children: Iterable[tuple[str, int]] = (),
    ) -> None:
        """An instance is in memory again, as the last checkpoint holds it.

        `inbox` is what df.inbox holds for it; `waits` and `children` (step and key) are what it waits for.
        """
        absent = self.absent.pop(live.key, None) or Absent()
        if live.quarantined is not None and live.quarantined == live.stored_status[1] and not absent.releases:
            return  # what came is in the inbox, and stays there
        if live.wake_us is not None:
            self.asleep = max(0, self.asleep - 1)
        self.adopt(live)
        for wait in waits:
            self.adopt_wait(wait)
        for step, key in children:
            self.adopt_child(live.key, step, key)
        self._idle[live.key] = None
        self._take_up(live, absent, inbox)
        self.rings.arrived(live)

    def _take_up(self, live: Live, absent: Absent, inbox: Iterable[HeldEvent]) -> None:
        if live.quarantined is None:
            self._fold_held(live, [*inbox, *absent.held])
        if live.quarantined is None:
            self.on_arrived(live)
        for row in absent.releases:
            self._release(row, live)

    def take_up(self, key: int, inbox: Iterable[HeldEvent]) -> None:
        """What a scan found in df.inbox for an instance that has asked for nothing yet. It stays there for one that cannot fold
        now.
        """
        live = self.instances.get(key)
        if live is not None and live.quarantined is None:
            self._fold_held(live, inbox)
            self.on_arrived(live)

    def stay_away(self, key: int) -> None:
        """The instance cannot fold now: what came for it waits in df.inbox."""
        for row in self.absent.pop(key, Absent()).releases:
            self._mark(row)  # there is nothing to release

    def nobody(self, key: int) -> None:
        """There is no unfinished instance of this key: what came for it has no effect."""
        self.rings.nobody(key)
        absent = self.absent.pop(key, Absent())
        self._remember(key)
        for held in absent.held:
            self._unwritten.taken_up(key, held)
        for row in absent.releases:
            self._mark(row)

    def _mark(self, row: CommandRow) -> None:
        """The next checkpoint says that the command was folded."""
        self._unwritten.marks.of(row.kind).append((row.event_id, row.owner))

    def _strayed(self) -> None:
        strays = sorted(chain.from_iterable(self._unresolved.values()), key=itemgetter(0))
        self._unresolved = {}
        if not self.complete:
            self._unwritten.marks.take_back(row for _, row in strays)
            for ordinal, row in strays:
                self._late.add(row.event_id)
                self.strays.append(Stray(row, self._xid, self._at_us, self._final_lsn, ordinal))
            self.on_absent()

    def found(self, stray: Stray, key: int | None) -> None:
        """It was looked for a stray command's instance."""
        if key is None:
            self._mark(stray.row)
            self._unwritten.moved = True
            return
        with self.elsewhere() as at:
            at(stray.xid, stray.at_us, stray.lsn, stray.ordinal)
            self.command(replace(stray.row, instance_key=key))

    def _resolve(self, submitter: int, id_: str, apply: Callable[[CommandRow], None]) -> None:
        """Commands that stood before their instance's row in one transaction: now, so that later ones come after them."""
        here = self._ordinal
        for ordinal, row in self._unresolved.pop((submitter, id_), ()):
            self._ordinal = ordinal
            apply(row)
        self._ordinal = here

    def subject(self, row: InstanceRow) -> Subject:
        """What stays the same about an instance. Raises GraphError and BadText."""
        given = strict(row.input, "input")
        variables = strict(row.vars, "vars")
        return Subject(
            key=row.key,
            id=row.id,
            submitter=row.submitter,
            graph=graph_of(strict(row.graph, "graph") or ""),
            label=readable(row.label),
            variables={
                **(json.loads(variables) if variables else {}),
                "sys_instance_id": row.id,
                "sys_label": readable(row.label),
            },
            scope=Names({"input": Value(given if given is not None else "null")}),
            loop_iterations=self._limit("loop_iterations", 0),
            composite_bytes=self._limit("composite_result_bytes", 16_777_216),
        )

    def _limit(self, name: str, default: int) -> int:
        """A number of df.settings; what an administrator mistyped there must not stop every instance."""
        value = self.settings.get(name, "")
        return int(value) if value.isascii() and value.isdigit() else default

    def unfit(self, row: InstanceRow, message: str) -> None:
        """A row that no trigger let through (or a newer one did): the instance fails, with the reason."""
        ended = State(finished=True, started_us=self._at_us, at_us=self._at_us)
        live = Live(self.placeholder(row), ended, started_us=self._at_us, parent=parent_of(row))
        self._add(live)
        self._finish(live, Finish("failed", None, Failure(message, "22023", 1, "1").to_json()))

    def placeholder(self, row: InstanceRow) -> Subject:
        """Of an instance whose row cannot be read: enough to name it."""
        return Subject(
            key=row.key, id=row.id, submitter=row.submitter, graph=UNFIT_GRAPH, label="", variables={}, scope=Names({})
        )

    def _add(self, live: Live) -> None:
        self._keep(live)
        self._dirty[live.key] = live
        self._unwritten.counts.started += 1

    def _keep(self, live: Live) -> None:
        submitter = live.subject.submitter
        self.instances[live.key] = live
        self._of[submitter] = self._of.get(submitter, 0) + 1
        self._by_id[submitter, live.subject.id] = live.key
        self._note_child(live.key, live.parent)

    def _note_child(self, key: int, parent: tuple[int, str] | None) -> None:
        if parent is not None and parent[0] in self.instances:
            self.rings.add_child(*parent, key)
            self._settling[parent[0]] = None

    def adopt_child(self, parent: int, step: str, key: int) -> None:
        """An unfinished child of an instance in memory, as a checkpoint holds it."""
        self._note_child(key, (parent, step))

    def _put_out(self, live: Live) -> None:
        """Out of the memory, whatever the tables hold of it."""
        submitter = live.subject.submitter
        del self.instances[live.key]
        self._of[submitter] -= 1
        if not self._of[submitter]:
            del self._of[submitter]
        self._by_id.pop((submitter, live.subject.id), None)
        self._unshown.pop(live.key, None)
        self._dirty.pop(live.key, None)
        self._idle.pop(live.key, None)
        self._settling.pop(live.key, None)
        self.rings.left(live.key)

    def _drop(self, live: Live) -> None:
        """It is no more."""
        self._put_out(live)
        self._remember(live.key)
        if live.parent is not None:
            self.rings.ended(*live.parent)

    def _remember(self, key: int) -> None:
        self._ended[key] = None
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _evict(self) -> None:
        """What only waits makes room, the longest idle first; half of the room may stay with it."""
        spare = len(self.instances) - self.admission // 2
        if spare > 0:
            self._settle()
        for key in list(islice(self._idle, max(0, spare))):
            live = self.instances[key]
            if key in self._unshown:
                self._unwritten.show_now[key] = None
            elif self.visibility.still_unproven(live.xids):
                self._unwritten.moved = True  # the next checkpoint looks whether they can be seen
            elif key not in self._dirty and key not in self.owed and live.held is None:
                self.on_evicted(live)
                self._send_to_sleep(live)

    @contextmanager
    def noting_who_leaves(self) -> Iterator[set[int]]:
        """The keys of instances that go to sleep meanwhile."""
        self._leaving = left = set[int]()
        try:
            yield left
        finally:
            self._leaving = set()

    def _send_to_sleep(self, live: Live) -> None:
        """Out of the memory; a checkpoint says that it sleeps."""
        self._leaving.add(live.key)
        self.complete = False
        self.asleep += 1
        self._put_out(live)

    def _settle(self) -> None:
        """What may have come to rest without an event of its own is written once more, and leaves after that."""
        settling, self._settling = self._settling, {}
        for key in settling:
            live = self.instances.get(key)
            if live is not None and live.asleep_us is None and not live.state.finished:
                self._dirty[key] = live

    def adopt(self, live: Live) -> None:
        """An instance as a checkpoint holds it, or as much of it as could be read."""
        self._keep(live)
        self._unshown[live.key] = 0
        if live.quarantined != live.stored_status[1]:
            self._dirty[live.key] = live
            self.on_quarantined(live)

    def command(self, row: CommandRow) -> None:
        """A signal, cancellation or release. What is for nobody unfinished has no effect, and is marked all the same."""
        self._mark(row)
        key = row.instance_key
        if key is None:
            named = row.owner, row.instance_id
            key = self._by_id.get(named) or self.backlog.newest.get(named)
            if key is None:
                self._unresolved.setdefault(named, []).append((self._ordinal, row))
                return
        live = self.instances.get(key)
        if live is None:
            self._command_away(key, row)
        # the row says whose instance it means, and the trigger has checked that the writer may
        elif live.subject.submitter == row.owner:
            self._apply_command(row, live)

    def pass_over(self, kind: CommandKind, commands: Iterable[tuple[str, int]]) -> None:
        """Commands that a scan found to be for nobody unfinished: marked, as those that the log brings."""
        self._unwritten.marks.of(kind).extend(commands)

    def _command_away(self, key: int, row: CommandRow) -> None:
        if not self._may_be_unfinished(key):
            return
        event = _command_of(row, self._at_us)
        if event is None:
            self._unwritten.marks.take_back([row])
            self._late.add(row.event_id)
            self._away(key).releases.append(row)
        else:
            self._hold(key, row.kind, json.dumps([row.owner, row.event_id]), row.owner, event)

    def _apply_command(self, row: CommandRow, live: Live) -> None:
        event = _command_of(row, self._at_us)
        if event is not None:
            self.fold(live, event, row.kind, json.dumps([row.owner, row.event_id]))
        elif live.quarantined is not None and live.held is None and not live.unread:
            # marked when it has been done: until then a new leader must find it again
            self._unwritten.marks.take_back([row])
            self._release(row, live)

    def _release(self, row: CommandRow, live: Live) -> None:
        if live.quarantined is None or live.held is not None or live.unread:
            self._mark(row)
            return
        live.held, live.releasing = [], (row.event_id, row.owner)
        self.on_release(live)

    def completion(self, row: CompletionRow) -> None:
        """An attempt of a step ended."""
        self.on_settled(row.instance_key, row.step, row)
        live = self.instances.get(row.instance_key)
        if live is None:
            if self._may_be_unfinished(row.instance_key):
                event, row_key = completed(row, self._at_us), json.dumps([row.run_as, row.step, row.attempt])
                self._hold(row.instance_key, "completion", row_key, row.run_as, event)
        # whatever a stranger inserts stands under the stranger's own key, and is none of the instance's events
        elif row.run_as in (machine.ENGINE, live.subject.submitter):
            if row.run_as == machine.ENGINE:
                self.rings.answered(row.instance_key, row.step)
            else:
                self._unwritten.counts.executions += 1
            row_key = json.dumps([row.run_as, row.step, row.attempt]) if live.quarantined else ""
            self.fold(live, completed(row, self._at_us), "completion", row_key)

    def fold(self, live: Live, event: Event, kind: str, row_key: str) -> None:
        """Folds one event into one instance and hands out its effects, or sets it aside."""
        if self._xid and (not live.xids or live.xids[-1] != self._xid):
            kept = live.xids if len(live.xids) < MANY_XIDS else self.visibility.still_unproven(live.xids)
            live.xids = (*kept, self._xid)
        if live.quarantined is not None:
            self._set_aside(live, event, kind, row_key)
            return
        before = live.state
        try:
            live.state, effects = machine.fold(live.subject, before, event)
        except Exception as error:  # nothing was assigned: the state is that of before
            if not row_key and isinstance(event, Completed):
                row_key = json.dumps([event.run_as, event.step, event.attempt])
            self.quarantine(live, _trouble(error))
            self._set_aside(live, event, kind, row_key)
            return
        if live.state is before:
            return
        self._dirty[live.key] = live
        self._unshown.setdefault(live.key, event.at_us)
        self._idle.pop(live.key, None)
        if live.status == "pending" and live.state.started_us is not None:
            live.status, live.started_us = "running", live.state.started_us
        if self.on_folded is not None:
            self.on_folded(live, event, effects)
        if effects:
            self._carry_out(live, effects)

    def _carry_out(self, live: Live, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if type(effect) is Finish:
                self._finish(live, effect)
            elif type(effect) is TakeSignal:
                self._unwritten.marks.taken[effect.event_id, live.subject.submitter] = effect.step
            else:
                self._ask(live, effect)
                if type(effect) is CancelChild:
                    self.rings.given_up(self.rings.child(live.key, effect.step))

    def _finish(self, live: Live, effect: Finish) -> None:
        live.status, live.result, live.error = effect.status, effect.result, effect.error
        self._unwritten.ended(live.subject.submitter, effect.status)
        self._unshown.pop(live.key, None)
        self._ask(live, effect)

    @contextmanager
    def asking_nothing(self) -> Iterator[None]:
        """Nothing is begun, and nothing stopped that may have been: whoever comes next hands out what is outstanding."""
        before, self._asks = self._asks, False
        try:
            yield
        finally:
            self._asks = before

    def _ask(self, live: Live, effect: Effect) -> None:
        if not self._asks and isinstance(effect, OUTSTANDING):
            return
        if self._in_transaction:
            self._asked.append((live, effect))
        else:
            self._dispatch(live, effect)

    # --- waits for instances --------------------------------------------------------------------------------------

    def wait(self, row: WaitRow) -> None:
        """An instance waits for another. The checkpoint that marks the row answers it if the other has ended already."""
        self._unwritten.marks.wait.append((row.waiter_key, row.waiter_step))
        self._unwritten.moved = self._unwritten.awaited = True
        live = self.instances.get(row.waiter_key)
        if live is not None:
            self.adopt_wait(row)
            try:
                self.rings.check(live, row.waiter_step)
            except Exception as error:
                self.quarantine(live, _trouble(error))

    def adopt_wait(self, row: WaitRow) -> None:
        """A wait of an unfinished instance, as a checkpoint holds it."""
        self.rings.add_wait(row.waiter_key, row.waiter_step, row.instance_key)
        self._settling[row.waiter_key] = None

    # --- quarantine -----------------------------------------------------------------------------------------------

    def quarantine(self, live: Live, why: str) -> None:
        """Nothing of the instance is folded from here on, until a release."""
        live.quarantined = clip(why, ERROR_MESSAGE_CHARACTERS)
        self._dirty[live.key] = live
        self.on_quarantined(live)

    def _set_aside(self, live: Live, event: Event, kind: str, row_key: str) -> None:
        owner = event.run_as if isinstance(event, Completed) else live.subject.submitter
        held = HeldEvent(self._final_lsn, self._ordinal, kind, row_key, self._xid, event, owner)
        self._unwritten.set_aside(live.key, held)
        self._dirty[live.key] = live
        if live.held is not None:
            live.held.append(held)

    def release(self, live: Live, inbox: Iterable[HeldEvent]) -> None:
        """Folds what was set aside: `inbox` as `df.inbox` holds it, then what arrived since. May quarantine again."""
        self.owed.forget(live)  # it is outstanding, and is dispatched as such
        since, live.held, live.quarantined = live.held or [], None, None
        if live.releasing is not None:
            self._unwritten.marks.release.append(live.releasing)
            live.releasing = None
        self._fold_held(live, [*inbox, *since])
        self._dirty[live.key] = live

    def _fold_held(self, live: Live, events: Iterable[HeldEvent]) -> None:
        """Each once, in the order of the log. What is none of the instance's is passed over.

        What one of them asks for another one may answer: what is outstanding in the end is for the caller to hand out.
        """
        by_place = {(held.lsn, held.ordinal): held for held in events}
        with self.elsewhere() as at, self.asking_nothing():
            for place in sorted(by_place):
                held = by_place[place]
                at(held.xid, held.event.at_us, held.lsn, held.ordinal)
                if live.quarantined is None:
                    self._unwritten.taken_up(live.key, held)
                if held.owner in (ENGINE, live.subject.submitter):
                    self.fold(live, held.event, held.kind, held.row_key)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        return self._in_transaction

    @property
    def at_us(self) -> int:
        """Commit time of the transaction that is being folded."""
        return self._at_us

    @property
    def dirty(self) -> bool:
        """Whether a checkpoint has something to write, be it only a position."""
        return self._unwritten.pending

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for what the next checkpoint says."""
        return self._unwritten.awaited

    @property
    def urgent(self) -> bool:
        """Whether somebody who does not flood waits for it."""
        return self._unwritten.urgent

    def progress_due_us(self) -> int | None:
        """When the progress of some instance is to be written."""
        return self._unwritten.progress_due_us()

    def _progress(self, now_us: int) -> list[tuple[int, int, str]]:
        """What has been out of date for long enough."""
        found: list[tuple[int, int, str]] = []
        for key in self._unwritten.late(now_us):
            live = self.instances.get(key)
            if live is not None and not live.unread:
                try:
                    text = _dumps(machine.progress(live.subject, live.state))
                except Exception as error:
                    self.quarantine(live, _trouble(error))
                    continue
                if hash(text) != live.shown:
                    found.append((key, live.subject.submitter, text))
        return found

    def collect(self, now_us: int = 0) -> Cut:
        """A consistent cut; only between transactions. What it holds is clean from here on.

        `now_us`, the database's clock as well as it is known, says whose progress is to be written.
        """
        assert not self._in_transaction
        return self._unwritten.collect(
            self.lsn,
            now_us=now_us,
            shown=self._progress(now_us),
            xids=self.visibility.unproven(),
            # who waits may sleep outside the memory, and an earlier leader have put it there
            awaited=lambda live: not self.complete or live.parent is not None or self.rings.is_awaited(live.key),
            is_there=self.rings.is_there,
            backlog=self.backlog,
        )

    def stored(self, cut: Cut, gone: Iterable[int] = ()) -> None:
        """The cut is committed. `gone` are instances whose rows somebody removed: they are no more."""
        self._note_stored(cut)
        finished = [live.key for live in cut.lives if live.stored_status[0] in FINAL]
        for key in [*finished, *gone]:
            live = self.instances.get(key)
            if live is not None:
                self._drop(live)
        for live in cut.lives:
            if live.asleep_us is not None and live.key in self.instances and live.key not in self._dirty:
                self._idle[live.key] = None
        self._evict()

    def is_late(self, event_id: str) -> bool:
        """Whether the log brought a command that no checkpoint has marked yet, because its instance is looked for."""
        return event_id in self._late

    def _note_stored(self, cut: Cut) -> None:
        if self._late:
            marks = cut.marks
            self._late.difference_update(id_ for id_, _ in [*marks.signal, *marks.cancellation, *marks.release])
        known = self.instances
        for change in cut.changes:
            if change.key in known:
                known[change.key].stored_status = (change.status, change.quarantined)
        for key, _, _ in cut.states:
            if key in known:
                known[key].in_states = True
        for key, _, text in cut.shown:
            if key in known:
                known[key].shown = hash(text)

    def restore(self, cut: Cut) -> None:
        """The cut was not committed: what it held is dirty again."""
        self._unwritten.restore(cut)

    def leave_unchanged(self, keys: Iterable[int]) -> None:
        """After a scan: what sleeps, and was not changed by it, need not stay in memory."""
        for key in keys:
            live = self.instances.get(key)
            if live is not None and live.wake_us is not None and live.key not in self._dirty:
                self._send_to_sleep(live)


def parent_of(row: InstanceRow) -> tuple[int, str] | None:
    """Key and step of the parent."""
    return None if row.parent_key is None else (row.parent_key, row.parent_step)


_dumps: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _attempt(live: Live, effect: Execute | StartChild | CancelStep | CancelChild) -> tuple[int, str, int]:
    """What is begun and stopped under one key."""
    return live.key, effect.step, effect.attempt if isinstance(effect, Execute | CancelStep) else 1


def event_of(row: CompletionRow | CommandRow, at_us: int) -> Completed | Signalled | CancelRequested | None:
    """What a row is to the machine. A release is no event of it."""
    return completed(row, at_us) if isinstance(row, CompletionRow) else _command_of(row, at_us)


def _command_of(row: CommandRow, at_us: int) -> Signalled | CancelRequested | None:
    match row.kind:
        case "signal":
            return Signalled(row.event_id, at_us, row.name, row.text)
        case "cancellation":
            return CancelRequested(row.event_id, at_us, row.text)
        case "release":
            return None


def completed(row: CompletionRow, at_us: int) -> Completed:
    """The event of a completion. A result that is not valid UTF-8 cannot be used: the attempt counts as failed."""
    outcome, result, error = row.outcome, row.result, row.error
    if isinstance(result, bytes) or isinstance(error, bytes):
        failure = Failure("the result is not valid UTF-8 (the database is in SQL_ASCII)", "22021", 0, row.step)
        outcome, result, error = "failed", None, failure.to_json()
    return Completed(row.event_id, at_us, row.run_as, row.step, row.attempt, outcome, result, error)


def _trouble(error: Exception) -> str:
    """What is said of the instance that an exception puts out of action. Want of memory is nobody's own: it is raised again,
    so the engine ends, and the next one goes on.
    """
    if isinstance(error, MemoryError):
        raise error
    return f"{type(error).__name__}: {error}"
