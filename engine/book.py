"""The leader's memory: which instances are unfinished, what the log said of them, and what a checkpoint has to write.

Theory of operation. Messages of the log go in (`begin`, `insert`, `commit`), effects come out through `dispatch`, at once
(The WAL is the redo log). Between two transactions `collect` takes a consistent cut: every state that transactions up to
`lsn` changed and nothing of a later one, with the marks on the commands that they held. A checkpoint that commits is told to
`stored`; one that does not is given back to `restore`, and the next cut includes it. Only a stored instance that is finished
leaves the memory.

An instance whose fold raises is *quarantined*: it keeps the state from before, and this event and all later ones are set
aside for `df.inbox`, in order, until a release folds them (One workflow's trouble stays its own).

No clock, no socket, no database in here: what is asked for leaves as effects and cuts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from cdc.lsn import NO_LSN, Lsn
from cdc.messages import Insert
from cdc.relations import Relation
from engine import machine
from engine.codec import encode
from engine.effects import Effect, Finish
from engine.errors import Failure, clip
from engine.events import CancelRequested, Completed, Event, Signalled, Started
from engine.frames import Subject
from engine.graph import GraphError, graph_of
from engine.limits import ERROR_MESSAGE_CHARACTERS
from engine.machine import NEW, State
from engine.rows import (
    BadText,
    CommandKind,
    CommandRow,
    CompletionRow,
    HeartbeatRow,
    InstanceRow,
    Reader,
    readable,
    reader,
    strict,
)
from engine.values import Names, Value
from engine.visibility import Visibility

Status = Literal["pending", "running", "completed", "failed", "cancelled"]
MANY_XIDS: Final = 16
"""An instance with more transactions on its list has those struck off that are visible by now."""
UNFIT_GRAPH: Final = graph_of("select 1")
"""Stands in for a graph that cannot be read; nothing of it ever runs."""


@dataclass(slots=True, eq=False)
class Live:
    """An unfinished instance in memory. `xids`: its transactions that its next effect may have to wait for."""

    subject: Subject
    state: State
    status: Status = "pending"
    started_us: int | None = None
    result: str | None = None
    error: str | None = None
    xids: tuple[int, ...] = ()
    in_states: bool = False
    stored_status: tuple[Status, str | None] = ("pending", None)
    quarantined: str | None = None
    held: list[HeldEvent] | None = None
    """While a release reads the inbox: events that arrived since, folded after it."""
    releasing: tuple[str, int] | None = None
    """The release that is being carried out: its row's id and owner."""
    unread: bool = False
    """Its stored state is of no version that this engine reads: nothing is folded over it, and it is not written over."""

    @property
    def key(self) -> int:
        return self.subject.key


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """An event set aside, with what `df.inbox` needs to find its row again."""

    lsn: Lsn
    ordinal: int
    kind: str
    row_key: str
    xid: int
    event: Event


@dataclass(slots=True)
class Marks:
    """Commands that were folded: `folded` is set on their rows with the checkpoint that passes them."""

    signal: list[tuple[str, int]] = field(default_factory=list)
    cancellation: list[tuple[str, int]] = field(default_factory=list)
    release: list[tuple[str, int]] = field(default_factory=list)

    def of(self, kind: CommandKind) -> list[tuple[str, int]]:
        match kind:
            case "signal":
                return self.signal
            case "cancellation":
                return self.cancellation
            case "release":
                return self.release

    def extend(self, other: Marks) -> None:
        self.signal += other.signal
        self.cancellation += other.cancellation
        self.release += other.release


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """What `df.instances` is to say of an instance; times in microseconds since 1970 UTC."""

    key: int
    status: Status
    quarantined: str | None
    result: str | None
    error: str | None
    started_us: int | None
    finished_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One checkpoint's worth: what the log up to `lsn` changed since the last one."""

    lsn: Lsn
    lives: tuple[Live, ...]
    changes: tuple[StatusChange, ...]
    states: tuple[tuple[int, str], ...]
    dropped: tuple[int, ...]
    marks: Marks
    xids: list[int]
    inbox: tuple[tuple[int, int, HeldEvent], ...]
    """Instance key, commit time in microseconds, event."""
    inbox_done: tuple[tuple[int, Lsn, int], ...]


Dispatch = Callable[[Live, Effect], None]


class Book:
    """See the module's docstring. `dispatch` may be exchanged; until a leader has caught up it drops what it is given."""

    def __init__(self, *, visibility: Visibility, dispatch: Dispatch, stored: Lsn = NO_LSN) -> None:
        self.visibility = visibility
        self.dispatch = dispatch
        self.on_settled: Callable[[int, str, CompletionRow], None] = lambda _key, _step, _row: None
        self.on_heartbeat: Callable[[HeartbeatRow, int], None] = lambda _row, _at: None
        self.on_release: Callable[[Live], None] = lambda _live: None
        self.on_event: Callable[[str], None] = lambda _kind: None
        self.on_quarantined: Callable[[Live], None] = lambda _live: None
        self.on_started: Callable[[Live], None] = lambda _live: None
        self.instances: dict[int, Live] = {}
        self.settings: dict[str, str] = {}
        self.lsn = stored
        self._skip_before = stored
        self._by_id: dict[tuple[int, str], int] = {}
        self._readers: dict[int, tuple[Relation, Reader]] = {}
        self._dirty: dict[int, Live] = {}
        self._marks = Marks()
        self._inbox: list[tuple[int, int, HeldEvent]] = []
        self._inbox_done: list[tuple[int, Lsn, int]] = []
        self._moved = False
        self._in_transaction = False
        self._skipping = False
        self._at_us = 0
        self._xid = 0
        self._final_lsn = NO_LSN
        self._ordinal = 0
        self._unresolved: list[tuple[int, CommandRow]] = []

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
        if type(row) is CompletionRow:
            self.on_event("completion")
            self.completion(row)
        elif type(row) is InstanceRow:
            self.on_event("start")
            self.start(row)
        elif type(row) is CommandRow:
            self.on_event(row.kind)
            self.command(row)
        elif type(row) is HeartbeatRow:
            self.on_event("heartbeat")
            self.on_heartbeat(row, self._at_us)

    def commit(self, end_lsn: Lsn) -> None:
        """The transaction is complete: commands whose instance did not come with it are for nobody."""
        self._in_transaction = False
        if self._skipping:
            return
        self._unresolved.clear()
        self.lsn = end_lsn
        self._moved = True

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
        """An instance begins, unless it is known."""
        if row.key in self.instances:
            return
        try:
            live = Live(self.subject(row), NEW)
        except (GraphError, BadText) as error:
            self.unfit(row, str(error))
            return
        except Exception as error:  # a bug of ours is the trouble of this one instance, too
            self.unfit(row, f"{type(error).__name__}: {error}")
            return
        self._add(live)
        self.on_started(live)
        self.fold(live, Started(row.event_id, self._at_us), "instance", str(row.key))
        if self._unresolved:
            self._resolve(live)

    def _resolve(self, live: Live) -> None:
        """Commands that stood before their instance's row in one transaction: now, so that later ones come after them."""
        here, waiting, self._unresolved = self._ordinal, self._unresolved, []
        for ordinal, row in waiting:
            if (row.owner, row.instance_id) == (live.subject.submitter, live.subject.id):
                self._ordinal = ordinal
                self._apply_command(row, live)
            else:
                self._unresolved.append((ordinal, row))
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
        live = Live(self.placeholder(row), ended, started_us=self._at_us)
        self._add(live)
        self._finish(live, Finish("failed", None, Failure(message, "22023", 1, "1").to_json()))

    def placeholder(self, row: InstanceRow) -> Subject:
        """Of an instance whose row cannot be read: enough to name it."""
        return Subject(
            key=row.key, id=row.id, submitter=row.submitter, graph=UNFIT_GRAPH, label="", variables={}, scope=Names({})
        )

    def _add(self, live: Live) -> None:
        self.instances[live.key] = live
        self._by_id[live.subject.submitter, live.subject.id] = live.key
        self._dirty[live.key] = live

    def adopt(self, live: Live) -> None:
        """An instance as a checkpoint holds it, or as much of it as could be read."""
        self.instances[live.key] = live
        self._by_id[live.subject.submitter, live.subject.id] = live.key
        if live.quarantined != live.stored_status[1]:
            self._dirty[live.key] = live
            self.on_quarantined(live)

    def command(self, row: CommandRow) -> None:
        """A signal, cancellation or release. What is for nobody unfinished has no effect, and is marked all the same."""
        self._marks.of(row.kind).append((row.event_id, row.owner))
        key = row.instance_key
        if key is None:
            key = self._by_id.get((row.owner, row.instance_id))
            if key is None:
                self._unresolved.append((self._ordinal, row))
                return
        live = self.instances.get(key)
        # the row says whose instance it means, and the trigger has checked that the writer may
        if live is not None and live.subject.submitter == row.owner:
            self._apply_command(row, live)

    def _apply_command(self, row: CommandRow, live: Live) -> None:
        row_key = json.dumps([row.owner, row.event_id])
        match row.kind:
            case "signal":
                self.fold(live, Signalled(row.event_id, self._at_us, row.name, row.text), row.kind, row_key)
            case "cancellation":
                self.fold(live, CancelRequested(row.event_id, self._at_us, row.text), row.kind, row_key)
            case "release":
                if live.quarantined is not None and live.held is None and not live.unread:
                    # marked when it has been done: until then a new leader must find it again
                    self._marks.release.remove((row.event_id, row.owner))
                    live.held, live.releasing = [], (row.event_id, row.owner)
                    self.on_release(live)

    def completion(self, row: CompletionRow) -> None:
        """An attempt of a step ended."""
        self.on_settled(row.instance_key, row.step, row)
        live = self.instances.get(row.instance_key)
        # whatever a stranger inserts stands under the stranger's own key, and is none of the instance's events
        if live is not None and row.run_as in (machine.ENGINE, live.subject.submitter):
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
        except Exception as error:
            live.state = before
            if not row_key and isinstance(event, Completed):
                row_key = json.dumps([event.run_as, event.step, event.attempt])
            self.quarantine(live, f"{type(error).__name__}: {error}")
            self._set_aside(live, event, kind, row_key)
            return
        if live.state is before:
            return
        self._dirty[live.key] = live
        if live.status == "pending" and live.state.started_us is not None:
            live.status, live.started_us = "running", live.state.started_us
        try:
            for effect in effects:
                if type(effect) is Finish:
                    self._finish(live, effect)
                else:
                    self.dispatch(live, effect)
        except Exception as error:  # what was not dispatched is outstanding when the instance is released
            self.quarantine(live, f"{type(error).__name__}: {error}")

    def _finish(self, live: Live, effect: Finish) -> None:
        live.status, live.result, live.error = effect.status, effect.result, effect.error
        self.dispatch(live, effect)

    # --- quarantine -----------------------------------------------------------------------------------------------

    def quarantine(self, live: Live, why: str) -> None:
        """Nothing of the instance is folded from here on, until a release."""
        live.quarantined = clip(why, ERROR_MESSAGE_CHARACTERS)
        self._dirty[live.key] = live
        self.on_quarantined(live)

    def _set_aside(self, live: Live, event: Event, kind: str, row_key: str) -> None:
        held = HeldEvent(self._final_lsn, self._ordinal, kind, row_key, self._xid, event)
        self._inbox.append((live.key, event.at_us, held))
        self._dirty[live.key] = live
        if live.held is not None:
            live.held.append(held)

    def release(self, live: Live, inbox: Iterable[HeldEvent]) -> None:
        """Folds what was set aside: `inbox` as `df.inbox` holds it, then what arrived since. May quarantine again."""
        since, live.held, live.quarantined = live.held or [], None, None
        if live.releasing is not None:
            self._marks.release.append(live.releasing)
            live.releasing = None
        events = {(held.lsn, held.ordinal): held for held in [*inbox, *since]}
        with self.elsewhere() as at:
            for place in sorted(events):
                held = events[place]
                at(held.xid, held.event.at_us, held.lsn, held.ordinal)
                if live.quarantined is None:
                    self._inbox = [
                        entry
                        for entry in self._inbox
                        if entry[0] != live.key or (entry[2].lsn, entry[2].ordinal) != place
                    ]
                    self._inbox_done.append((live.key, *place))
                self.fold(live, held.event, held.kind, held.row_key)
        self._dirty[live.key] = live

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
        return self._moved or bool(self._dirty)

    def collect(self) -> Cut:
        """A consistent cut; only between transactions. What it holds is clean from here on."""
        assert not self._in_transaction
        lives = tuple(self._dirty.values())
        changes: list[StatusChange] = []
        states: list[tuple[int, str]] = []
        dropped: list[int] = []
        for live in lives:
            change = _status_change(live)
            if change is not None:
                changes.append(change)
            if live.unread:
                continue
            if not live.state.finished:
                states.append((live.key, encode(live.state, live.subject.scope)))
            elif live.in_states:
                dropped.append(live.key)
        cut = Cut(
            lsn=self.lsn,
            lives=lives,
            changes=tuple(changes),
            states=tuple(states),
            dropped=tuple(dropped),
            marks=self._marks,
            xids=self.visibility.unproven(),
            inbox=tuple(self._inbox),
            inbox_done=tuple(self._inbox_done),
        )
        self._dirty, self._marks, self._inbox, self._inbox_done, self._moved = {}, Marks(), [], [], False
        return cut

    def stored(self, cut: Cut, gone: Iterable[int] = ()) -> None:
        """The cut is committed. `gone` are instances whose rows somebody removed: they are no more."""
        for change in cut.changes:
            live = self.instances.get(change.key)
            if live is not None:
                live.stored_status = (change.status, change.quarantined)
        for key, _ in cut.states:
            if key in self.instances:
                self.instances[key].in_states = True
        finished = [live.key for live in cut.lives if live.stored_status[0] in ("completed", "failed", "cancelled")]
        for key in [*finished, *gone]:
            live = self.instances.pop(key, None)
            self._dirty.pop(key, None)
            if live is not None:
                self._by_id.pop((live.subject.submitter, live.subject.id), None)

    def restore(self, cut: Cut) -> None:
        """The cut was not committed: what it held is dirty again."""
        marks, self._marks = self._marks, cut.marks
        self._marks.extend(marks)
        self._dirty = {**{live.key: live for live in cut.lives}, **self._dirty}
        released = {(key, lsn, ordinal) for key, lsn, ordinal in self._inbox_done}
        still = [entry for entry in cut.inbox if (entry[0], entry[2].lsn, entry[2].ordinal) not in released]
        self._inbox = [*still, *self._inbox]
        self._inbox_done = [*cut.inbox_done, *self._inbox_done]
        self._moved = True


def completed(row: CompletionRow, at_us: int) -> Completed:
    """The event of a completion. A result that is not valid UTF-8 cannot be used: the attempt counts as failed."""
    outcome, result, error = row.outcome, row.result, row.error
    if isinstance(result, bytes) or isinstance(error, bytes):
        failure = Failure("the result is not valid UTF-8 (the database is in SQL_ASCII)", "22021", 0, row.step)
        outcome, result, error = "failed", None, failure.to_json()
    return Completed(row.event_id, at_us, row.run_as, row.step, row.attempt, outcome, result, error)


def _status_change(live: Live) -> StatusChange | None:
    finished = live.state.finished
    if not finished and live.stored_status == (live.status, live.quarantined):
        return None
    return StatusChange(
        key=live.key,
        status=live.status,
        quarantined=live.quarantined,
        result=live.result,
        error=live.error,
        started_us=live.started_us,
        finished_us=live.state.at_us if finished else None,
    )
