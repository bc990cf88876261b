"""What a checkpoint has to write: gathered while the log is folded, cut between two transactions, given back when it fails.

Theory of operation. The book touches instances and notes marks as it folds. `collect` takes all of that out as one `Cut`
(The WAL is the redo log; engine state is a checkpoint): every state that transactions up to `lsn` changed and nothing of a
later one. A cut that was not committed is given back to `restore`, and the next one includes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Final, TypeVar

from cdc.lsn import Lsn
from engine import machine
from engine.backlog import Backlog
from engine.codec import encode
from engine.instance import HeldEvent, Live, Status
from engine.machine import FOREVER
from engine.rows import CommandKind, CommandRow

T = TypeVar("T")
Place = tuple[int, Lsn, int]
"""Instance key, position and ordinal of an event."""
PROGRESS_US: Final = 250_000
"""What live views show is written when it has been out of date for so long: what ends sooner costs nothing."""
MANY_UNSHOWN: Final = 100
BUSY_PROGRESS_US: Final = 2_000_000
"""The same where more than `MANY_UNSHOWN` instances are out of date: most of them are about to end."""
SHOWN_AT_ONCE: Final = 100
"""Instances whose progress one checkpoint writes at most."""
SHOWN_IN_A_HURRY: Final = 10
"""And one that somebody waits for who does not flood."""
QUIET: Final = 4
"""Who ended no more instances with the last checkpoint is no flood: the next one waits for nothing when another of his ends."""
HORIZON_US: Final = 10_000_000
"""A timer that is due sooner stays in memory, even where its instance does not."""


@dataclass(slots=True)
class Marks:
    """Commands that were folded: `folded` is set on their rows with the checkpoint that passes them."""

    signal: list[tuple[str, int]] = field(default_factory=list)
    cancellation: list[tuple[str, int]] = field(default_factory=list)
    release: list[tuple[str, int]] = field(default_factory=list)
    wait: list[tuple[int, str]] = field(default_factory=list)
    """Waits for instances: key and step of who waits."""
    taken: dict[tuple[str, int], str] = field(default_factory=dict)
    """Signals, and the steps that took them."""

    def of(self, kind: CommandKind) -> list[tuple[str, int]]:
        match kind:
            case "signal":
                return self.signal
            case "cancellation":
                return self.cancellation
            case "release":
                return self.release

    def take_back(self, rows: Iterable[CommandRow]) -> None:
        """These were not folded after all: they are among the latest. All of a kind at once, as there may be many."""
        by_kind: dict[CommandKind, set[tuple[str, int]]] = {}
        for row in rows:
            by_kind.setdefault(row.kind, set()).add((row.event_id, row.owner))
        for kind, unmarked in by_kind.items():
            marks = self.of(kind)
            if len(unmarked) == 1 and marks[-1] in unmarked:
                marks.pop()
            else:
                marks[:] = [mark for mark in marks if mark not in unmarked]

    def extend(self, other: Marks) -> None:
        self.signal += other.signal
        self.cancellation += other.cancellation
        self.release += other.release
        self.wait += other.wait
        self.taken |= other.taken


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


@dataclass(slots=True, kw_only=True)
class Counts:
    """What happened since the last checkpoint; df.checkpoint keeps the totals."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    executions: int = 0
    events: int = 0

    def ended(self, status: Status) -> None:
        match status:
            case "completed":
                self.completed += 1
            case "failed":
                self.failed += 1
            case "cancelled":
                self.cancelled += 1
            case _:
                raise AssertionError(status)

    def extend(self, other: Counts) -> None:
        self.started += other.started
        self.completed += other.completed
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.executions += other.executions
        self.events += other.events


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One checkpoint's worth: what the log up to `lsn` changed since the last one."""

    lsn: Lsn
    lives: tuple[Live, ...]
    changes: tuple[StatusChange, ...]
    ended: tuple[int, ...]
    """Those of `changes` that have ended and that somebody waits for."""
    states: tuple[tuple[int, str, int | None], ...]
    """Instance key, state, when to load it at a takeover: microseconds, `FOREVER`, or None for at once."""
    dropped: tuple[int, ...]
    marks: Marks
    xids: list[int]
    inbox: tuple[tuple[int, int, HeldEvent], ...]
    """Instance key, commit time in microseconds, event."""
    inbox_done: tuple[Place, ...]
    """Of each instance the last event that was taken up: all before it were as well."""
    shown: tuple[tuple[int, int, str], ...]
    """Progress to write: instance key, submitter, JSON text."""
    hidden: tuple[tuple[int, int], ...]
    """Finished instances whose progress is to be removed: key and submitter."""
    counts: Counts
    backlog: Mapping[int, Backlog] | None
    """Starts that were not admitted, by submitter, if that changed."""


class Unwritten:
    """See the module's docstring. Times are the database's, in microseconds."""

    def __init__(self) -> None:
        self.dirty: dict[int, Live] = {}
        self.unshown: dict[int, int] = {}
        """Instances whose df.progress is out of date, and since when."""
        self.show_now: dict[int, None] = {}
        """Those of them whose memory is wanted."""
        self.marks = Marks()
        self.counts = Counts()
        self.moved = False
        self.awaited = False
        """Whether somebody waits for what the next checkpoint says: an instance ended, or a wait is to be answered."""
        self.urgent = False
        """Whether that is somebody who does not flood."""
        self._ended: dict[int, int] = {}
        self._ended_before: dict[int, int] = {}
        """How many instances of each submitter ended, since the last checkpoint and with it."""
        self.backlog_changed = False
        self._inbox: dict[Place, HeldEvent] = {}
        self._inbox_done: list[Place] = []

    @property
    def pending(self) -> bool:
        """Whether a checkpoint has something to write, be it only a position."""
        return self.moved or bool(self.dirty)

    def ended(self, submitter: int, status: Status) -> None:
        """An instance ended: somebody may wait for what the next checkpoint says."""
        self.awaited = True
        self._ended[submitter] = self._ended.get(submitter, 0) + 1
        if self._ended_before.get(submitter, 0) <= QUIET:
            self.urgent = True
        self.counts.ended(status)

    # --- events that wait -----------------------------------------------------------------------------------------

    def set_aside(self, key: int, held: HeldEvent) -> None:
        """An event goes to df.inbox, unless it is folded before the next checkpoint."""
        self._inbox[key, held.lsn, held.ordinal] = held
        self.moved = True

    def taken_up(self, key: int, held: HeldEvent) -> None:
        """An event that was set aside is folded, or is nobody's."""
        place = key, held.lsn, held.ordinal
        self._inbox.pop(place, None)
        self._inbox_done.append(place)
        self.moved = True

    # --- what live views show ---------------------------------------------------------------------------------------

    def progress_due_us(self) -> int | None:
        """When the progress of some instance is to be written."""
        if self.show_now:
            return 0
        return next((since + self._patience_us() for since in self.unshown.values()), None)

    def _patience_us(self) -> int:
        return PROGRESS_US if len(self.unshown) <= MANY_UNSHOWN else BUSY_PROGRESS_US

    def late(self, now_us: int) -> list[int]:
        """Takes out the instances whose progress has been out of date for long enough."""
        due_us = now_us - self._patience_us()
        late = takewhile(
            lambda entry: entry[1] <= due_us,
            islice(self.unshown.items(), SHOWN_IN_A_HURRY if self.urgent else SHOWN_AT_ONCE),
        )
        keys = list(dict.fromkeys([*self.show_now, *(key for key, _ in late)]))
        self.show_now = {}
        for key in keys:
            self.unshown.pop(key, None)
        return keys

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def collect(
        self,
        lsn: Lsn,
        *,
        now_us: int,
        xids: list[int],
        awaited: Callable[[Live], bool],
        is_there: Callable[[int, str], bool],
        shown: list[tuple[int, int, str]],
        backlog: Mapping[int, Backlog],
    ) -> Cut:
        """Everything, as one cut; it is clean from here on. `is_there`: see `machine.asleep_until`."""
        lives = tuple(self.dirty.values())
        changes: list[StatusChange] = []
        states: list[tuple[int, str, int | None]] = []
        finished: list[Live] = []
        for live in lives:
            change = _status_change(live)
            if change is not None:
                changes.append(change)
            if live.state.finished:
                finished.append(live)
                continue
            _lay_down(live, now_us, is_there)
            if not live.unread:
                states.append((live.key, encode(live.state, live.subject.scope), live.wake_us))
        cut = Cut(
            lsn=lsn,
            lives=lives,
            changes=tuple(changes),
            ended=tuple(live.key for live in finished if awaited(live)),
            states=tuple(states),
            dropped=tuple(live.key for live in finished if live.in_states and not live.unread),
            marks=self.marks,
            xids=xids,
            inbox=tuple((key, held.event.at_us, held) for (key, _, _), held in self._inbox.items()),
            inbox_done=_furthest(self._inbox_done),
            shown=tuple(shown),
            hidden=tuple((live.key, live.subject.submitter) for live in finished if live.shown is not None),
            counts=self.counts,
            backlog=dict(backlog) if self.backlog_changed else None,
        )
        self.dirty.clear()
        self.marks, self.counts = Marks(), Counts()
        self._inbox, self._inbox_done = {}, []
        self._ended_before, self._ended = self._ended, {}
        self.moved = self.awaited = self.urgent = self.backlog_changed = False
        return cut

    def restore(self, cut: Cut) -> None:
        """The cut was not committed: what it held is unwritten again."""
        marks, self.marks = self.marks, Marks()
        self.marks.extend(cut.marks)  # a copy: the server may still be busy with the cut
        self.marks.extend(marks)
        _put_before(self.dirty, {live.key: live for live in cut.lives})
        done = set(self._inbox_done)
        before = {(key, held.lsn, held.ordinal): held for key, _, held in cut.inbox}
        self._inbox = {**{place: held for place, held in before.items() if place not in done}, **self._inbox}
        self._inbox_done = [*cut.inbox_done, *self._inbox_done]
        _put_before(self.unshown, {key: 0 for key, _, _ in cut.shown})
        self.counts.extend(cut.counts)
        self.backlog_changed |= cut.backlog is not None
        self.moved = self.awaited = self.urgent = True


def _furthest(places: Iterable[Place]) -> tuple[Place, ...]:
    """Of each instance the last: told of ten thousand, the server would look at all that is before each of them."""
    last: dict[int, Place] = {}
    for place in places:
        last[place[0]] = max(place, last.get(place[0], place))
    return tuple(last.values())


def _put_before(into: dict[int, T], earlier: dict[int, T]) -> None:
    """What is in the dict already counts, and comes last. The dict stays the same one: the book holds it, too."""
    later = dict(into)
    into.clear()
    into.update(earlier)
    into.update(later)


def _lay_down(live: Live, now_us: int, is_there: Callable[[int, str], bool]) -> None:
    """Notes whether the instance sleeps, and whether it may be left where it is at a takeover."""
    if live.quarantined is not None:
        live.asleep_us = live.wake_us = FOREVER
        return
    live.asleep_us = machine.asleep_until(live.subject, live.state, lambda step: is_there(live.key, step))
    live.wake_us = live.asleep_us if live.asleep_us is not None and live.asleep_us > now_us + HORIZON_US else None


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
