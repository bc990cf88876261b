"""What an open node is (a frame), how it ends (an outcome), and what a fold works with.

An instance is a tree of frames over its graph. Frames are values: an event makes new ones along one path and shares the
rest. Each kind of node is a module of `engine.nodes` with one frame class; `engine.machine` finds the frame that an event
is for and walks back up, and knows no kind by name.

How a frame answers:

============  ==========================================================================================
`enter`       (a function of the module) the node begins: a frame that waits, or an outcome at once
`child`       which open frame lies towards a node: the frame, PAST (decided, never again) or FUTURE
`resumed`     the child towards a node changed, or ended with an outcome
`delivered`   a completion under a key of the frame itself
`signalled`   a signal that the frame waits for
`abandon`     the branch lost, or the instance is cancelled: what is in flight is stopped, nothing more begins
`outstanding` the effects that the frame has asked for and no row has answered, for whoever takes over
============  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import ClassVar, TypeVar

from engine.effects import CancelStep, DropTimer, Effect, Execute, StartTimer
from engine.errors import Failure, MachineError
from engine.events import Completed, Signalled
from engine.graph import Graph, Kind, Node
from engine.values import Names, Value


class Where(Enum):
    """Where a node lies that has no open frame."""

    PAST = "past"
    FUTURE = "future"


@dataclass(frozen=True, slots=True)
class Done:
    """The node completed; `names` is the scope that whatever comes next sees."""

    value: Value
    names: Names


@dataclass(frozen=True, slots=True)
class Failed:
    """The node failed."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Broke:
    """A BREAK on its way to the innermost loop."""

    value: Value
    names: Names


Outcome = Done | Failed | Broke


class Frame:
    """An open node. Subclasses are frozen dataclasses with slots; see the module's docstring for what each method is."""

    __slots__ = ()
    tag: ClassVar[str]
    node: int
    indices: tuple[int, ...]

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        raise MachineError(f"{type(self).__name__} has no children")

    def resumed(self, fold: Fold, target: int, result: Result) -> Result:
        raise MachineError(f"{type(self).__name__} has no children")

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        raise MachineError(f"{type(self).__name__} has no key of its own")

    def signalled(self, fold: Fold, signal: Signalled) -> Result:
        raise MachineError(f"{type(self).__name__} waits for no signal")

    def abandon(self, fold: Fold) -> None:
        for frame in self.children():
            frame.abandon(fold)

    def pause(self, index: int) -> Where | None:
        """Where a key of the frame itself with one index more lies; None when the frame waits for it."""
        return Where.PAST

    def children(self) -> Iterable[Frame]:
        return ()

    def outstanding(self, fold: Fold) -> None:
        for frame in self.children():
            frame.outstanding(fold)


Result = Frame | Outcome


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for a signal that no buffered signal satisfied."""

    node: int
    indices: tuple[int, ...]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What stays the same about an instance: whose it is, what it runs and what it was given."""

    key: int
    id: str
    submitter: int
    graph: Graph
    label: str
    variables: Mapping[str, str]
    scope: Names
    loop_iterations: int = 0
    composite_bytes: int = 16_777_216


class Fold:
    """One event being folded into one instance: the parts of the state that change, and the effects asked for.

    The dicts are this fold's own: a graph of ten thousand branches changes them ten thousand times in one fold.
    `number` counts the rows that the instance has taken in, `reached` are steps that began and whose completions are here
    already, kept since before: they are asked of nobody, and delivered next.
    """

    __slots__ = (
        "at_us", "cause", "draining", "effects", "graph", "number", "reached", "signals", "stash", "subject", "waited", "waits",
    )  # fmt: skip

    def __init__(self, subject: Subject, number: int, at_us: int, cause: str) -> None:
        self.subject = subject
        self.graph = subject.graph
        self.number = number
        self.at_us = at_us
        self.cause = cause
        self.effects: dict[tuple[type[Effect], str], Effect] = {}
        self.waited = False
        self.signals: tuple[Signalled, ...] = ()
        self.waits: dict[str, Wait] = {}
        self.draining: dict[str, str] = {}
        self.stash: dict[str, Completed] = {}
        self.reached: set[str] = set()

    def enter(self, number: int, indices: tuple[int, ...], names: Names) -> Result:
        """A node begins."""
        node = self.graph.nodes[number - 1]
        return ENTER[node.kind](self, node, indices, names)

    # --- steps and timers: every key is asked for once, and answered once ---------------------------------------

    def execute(self, step: str, node: int, query: str, shown: bool) -> None:
        self._ask(Execute(step, node, query, shown, self.cause))

    def start_timer(self, step: str, due_us: int) -> None:
        self._ask(StartTimer(step, due_us, self.cause))

    def cancel_step(self, step: str) -> None:
        """Stops a step. What was asked for in this very fold has not run; for the rest its key is waited for."""
        if not self._take_back(Execute, step):
            self.emit(CancelStep(step, self.cause))
            self.draining[step] = self.cause

    def drop_timer(self, step: str) -> None:
        if not self._take_back(StartTimer, step):
            self.emit(DropTimer(step))

    def emit(self, effect: Execute | StartTimer | CancelStep | DropTimer) -> None:
        self.effects[type(effect), effect.step] = effect

    def _ask(self, effect: Execute | StartTimer) -> None:
        if effect.step in self.stash:
            self.reached.add(effect.step)
        else:
            self.emit(effect)

    def _take_back(self, kind: type[Effect], step: str) -> bool:
        """Whether nobody has been asked for this step yet; then nobody is."""
        if step in self.reached:
            self.reached.remove(step)
            return True
        return self.effects.pop((kind, step), None) is not None

    # --- signals: one satisfies one wait; the oldest goes to the wait that began first --------------------------

    def take_signal(self, name: str, until: Completed | None) -> Signalled | None:
        """The oldest buffered signal of that name, taken out, unless it is younger than `until`.

        That is a row taken in, as if it had come just now.
        """
        for i, signal in enumerate(self.signals):
            if signal.name == name:
                if until is not None and signal.at_us > until.at_us:
                    return None
                self.signals = self.signals[:i] + self.signals[i + 1 :]
                self.number += 1
                return signal
        return None

    def add_wait(self, step: str, wait: Wait) -> None:
        self.waits[step] = wait

    def drop_wait(self, step: str) -> None:
        self.waits.pop(step, None)


Enter = Callable[[Fold, Node, tuple[int, ...], Names], Result]
ENTER: dict[Kind, Enter] = {}
FRAMES: dict[str, type[Frame]] = {}

F = TypeVar("F", bound=type[Frame])


def entered_by(kind: Kind) -> Callable[[Enter], Enter]:
    """Registers how nodes of this kind begin."""

    def register(enter: Enter) -> Enter:
        assert kind not in ENTER
        ENTER[kind] = enter
        return enter

    return register


def framed(frame: F) -> F:
    """Registers a frame class under its tag, by which states name it."""
    assert frame.tag not in FRAMES
    FRAMES[frame.tag] = frame
    return frame


def step_key(node: int, indices: tuple[int, ...]) -> str:
    """DESIGN.md §3, Keys: the node, then an index for each ancestor that repeats, outermost first."""
    return f"{node}.{'.'.join(map(str, indices))}" if indices else str(node)


@lru_cache(maxsize=100_000)
def parse_step_key(step: str) -> tuple[int, tuple[int, ...]] | None:
    """The node and indices of a step key; None for anything that `step_key` did not make."""
    parts = step.split(".")
    if not all(p.isascii() and p.isdigit() and p[0] != "0" and len(p) < 19 for p in parts):
        return None
    return int(parts[0]), tuple(map(int, parts[1:]))


def finish(node: Node, value: Value, names: Names) -> Done:
    """The node completed: its result takes its name."""
    return Done(value, names.bind(node.result_name, value) if node.result_name else names)


def composite(fold: Fold, node: Node, indices: tuple[int, ...], values: list[Value]) -> Value | Failed:
    """The array of results of a JOIN, within the limit."""
    text = f"[{','.join(value.text for value in values)}]"
    limit = fold.subject.composite_bytes
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        message = f"result of {size} bytes exceeds the limit of {limit}"
        return Failed(Failure(message, "54000", node.number, step_key(node.number, indices)))
    return Value(text)
