"""An unfinished instance in memory, events that could not be folded into it yet, and effects that were not handed out yet."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from cdc.lsn import Lsn
from engine.effects import Effect
from engine.events import Event
from engine.frames import Subject
from engine.machine import State

Status = Literal["pending", "running", "completed", "failed", "cancelled"]
FINAL: Final = ("completed", "failed", "cancelled")


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
    parent: tuple[int, str] | None = None
    """Of a child: its parent's key, and the step that started it."""
    shown: int | None = None
    """Hash of what df.progress says; None when there is no row."""
    asleep_us: int | None = None
    """As of its last checkpoint: when its next timer is due; None while it is busy."""
    wake_us: int | None = None
    """As of its last checkpoint: when a new leader has to load it; None: at once."""
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
    owner: int
    """Whose the row is: the instance's own submitter's, the engine's, or nothing to the instance."""


class Owed:
    """Effects that were asked for in one transaction and are too many to be handed out in one go, in order.

    As many as that transaction asked for: they are in the states of their instances as well.
    """

    def __init__(self) -> None:
        self.on_first: Callable[[], None] = lambda: None
        """Called when there is something again."""
        self._effects: deque[tuple[Live, Effect]] = deque()
        self._of: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._effects)

    def __contains__(self, key: int) -> bool:
        """Whether something of the instance is among them: what it asks for now comes after that."""
        return key in self._of

    def add(self, live: Live, effect: Effect) -> None:
        if not self._effects:
            self.on_first()
        self._effects.append((live, effect))
        self._of[live.key] += 1

    def take(self, count: int) -> Iterator[tuple[Live, Effect]]:
        """The first so many, one after another."""
        for _ in range(min(count, len(self._effects))):
            live, effect = self._effects.popleft()
            self._of[live.key] -= 1
            if not self._of[live.key]:
                del self._of[live.key]
            yield live, effect

    def forget(self, live: Live | None = None) -> None:
        """All, or those of one instance."""
        self._effects = deque(owed for owed in self._effects if live is not None and owed[0] is not live)
        self._of = Counter(owed.key for owed, _ in self._effects)
