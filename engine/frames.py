"""What an open node is (a frame), how it ends (an outcome), and what a fold works with.

An instance is a tree of frames over its graph. Frames are values: an event makes new ones along one path and shares the
rest. Each kind of node is a module of `engine.nodes` with one frame class; `engine.machine` finds the frame that an event
is for and walks back up, and knows no kind by name.

How a frame answers:

============  ==========================================================================================
`enter`       (a function of the module) the node begins: a frame that waits, or an outcome at once
`child`       which open frame lies towards a node: the frame, PAST (decided, never again) or FUTURE
`resumed`     a child changed, or ended with an outcome
`delivered`   a completion under a key of the frame itself
`signalled`   a signal that the frame waits for
`unwound`     what the failure of its child owed has been undone, and nothing of the child can commit any more
`abandon`     the branch lost, or the instance is cancelled: what is in flight is stopped, nothing more begins
`outstanding` the effects that the frame has asked for and no row has answered, for whoever takes over
============  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import ClassVar, Protocol, TypeVar

from engine.buffer import Signals
from engine.effects import (
    AwaitInstance,
    CancelChild,
    CancelStep,
    DropTimer,
    DropWait,
    Effect,
    Execute,
    StartChild,
    StartTimer,
    TakeSignal,
)
from engine.errors import Failure, MachineError
from engine.events import Completed, Signalled
from engine.graph import Graph, Kind, Node
from engine.limits import CHARACTERS_A_NODE, WORK_AT_ONCE
from engine.substitution import Reading
from engine.truth import is_true
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


@dataclass(frozen=True, slots=True)
class Stopped:
    """The node had been abandoned, and something would have had to begin that does not begin any more."""


STOPPED = Stopped()

Outcome = Done | Failed | Broke | Stopped


class Frame:
    """An open node. Subclasses are frozen dataclasses with slots; see the module's docstring for what each method is."""

    __slots__ = ()
    tag: ClassVar[str]
    node: int
    indices: tuple[int, ...]

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        raise MachineError(f"{type(self).__name__} has no children")

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        """`child` as it was; what became of it is `result`."""
        raise MachineError(f"{type(self).__name__} has no children")

    def delivered(self, fold: Fold, completed: Completed) -> Result:
        raise MachineError(f"{type(self).__name__} has no key of its own")

    def signalled(self, fold: Fold, signal: Signalled) -> Result:
        raise MachineError(f"{type(self).__name__} waits for no signal")

    def unwound(self, fold: Fold, failures: tuple[Failed, ...]) -> Result:
        """`failures` are those of undo steps that failed for good."""
        raise MachineError(f"{type(self).__name__} has nothing undone")

    def abandon(self, fold: Fold) -> None:
        for frame in self.children():
            frame.abandon(fold)

    def expects(self, attempt: int) -> Where | None:
        """Where an attempt under the frame's own key lies; None when the frame waits for it."""
        return None if attempt == 1 else Where.PAST

    def pause(self, index: int) -> Where | None:
        """Where a key of the frame itself with one index more lies; None when the frame waits for it."""
        return Where.PAST

    def children(self) -> Iterable[Frame]:
        return ()

    @property
    def busy(self) -> bool:
        """Whether something that the frame itself asked for may be under way, outside the instance."""
        return False

    def shown(self, fold: Fold) -> dict[str, int | str]:
        """What a reader of the progress wants to know of the open node, besides that it is open."""
        return {}

    def outstanding(self, fold: Fold) -> None:
        for frame in self.children():
            frame.outstanding(fold)


Result = Frame | Outcome

Key = tuple[str, int]
"""Step and attempt of a completion."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The nodes from `first` to `last`, under indices that begin with `indices`."""

    first: int
    last: int
    indices: tuple[int, ...]

    def holds(self, node: int, indices: tuple[int, ...]) -> bool:
        return self.first <= node <= self.last and indices[: len(self.indices)] == self.indices

    def within(self, other: Scope) -> bool:
        return other.holds(self.first, self.indices) and self.last <= other.last


@dataclass(frozen=True, slots=True)
class Owed:
    """An undo that will run should what is around it fail. `names` are those of the moment in which its node completed."""

    node: int
    indices: tuple[int, ...]
    names: Names


@dataclass(frozen=True, slots=True)
class Unwinding:
    """What became of a scope that failed, lost or was cancelled: its keys are waited for, then its undos run, the last first.

    `waiter` is the node and indices of the frame that goes on afterwards, `inner` the undo that runs now, for `running`.
    """

    scope: Scope
    error: Failed
    waiter: tuple[int, tuple[int, ...]] | None
    entries: tuple[Owed, ...]
    running: Owed | None = None
    inner: Frame | None = None
    failures: tuple[Failed, ...] = ()


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
    `number` counts the rows that the instance has taken in, `reached` are keys that began and whose completions are here
    already, kept since before: they are asked of nobody, and delivered next. While `closed`, an abandoned frame is told how
    its last steps ended: it may complete, but asks for nothing, and stops nothing: that has been done. `work` counts the nodes
    that the row made begin, those outside undos and those inside. `stirred` are scopes whose unwinding may be able to go on.
    """

    __slots__ = (
        "at_us", "cause", "closed", "draining", "effects", "ghosts", "graph", "number", "owed", "reached", "reading", "signals",
        "stash", "stirred", "subject", "undo_failures", "unwinding", "waited", "waits", "work",
    )  # fmt: skip

    subject: Subject
    graph: Graph
    number: int
    at_us: int
    cause: str
    closed: bool
    effects: dict[tuple[type[Effect], str, int], Effect]
    waited: bool
    signals: Signals
    waits: dict[str, Wait]
    draining: dict[Key, str]
    stash: dict[Key, Completed]
    reached: set[Key]
    owed: tuple[Owed, ...]
    ghosts: tuple[Frame, ...]
    unwinding: dict[Scope, Unwinding]
    undo_failures: tuple[Failed, ...]
    stirred: dict[Scope, None]
    work: list[int]
    reading: Reading | None

    def enter(self, number: int, indices: tuple[int, ...], names: Names) -> Result:
        """A node begins; it fails where the row has made too many begin."""
        if self.closed:
            return STOPPED
        node = self.graph.nodes[number - 1]
        self.work[node.undoing] += 1
        if self.work[node.undoing] > WORK_AT_ONCE:
            message = f"too much would begin at once: over {WORK_AT_ONCE} nodes (a long text counts as several)"
            return Failed(Failure(message, "54000", number, step_key(number, indices)))
        return ENTER[node.kind](self, node, indices, names)

    def read(self, node: Node, characters: int) -> None:
        """Notes that a node made a text or read through one: what begins after it may be too much."""
        self.work[node.undoing] += characters // CHARACTERS_A_NODE

    def render(self, render: Render, node: Node, text: str, names: Names) -> str:
        """A text of the node with its references filled in; what was read counts, also where something cannot be filled in."""
        if "$" not in text and "{" not in text:
            self.read(node, len(text))
            return text
        reading = self.reading
        if reading is None:
            reading = self.reading = Reading()
        try:
            return render(text, variables=self.subject.variables, names=names, reading=reading)
        finally:
            self.read(node, reading.take())

    def is_true(self, node: Node, value: Value) -> bool:
        """Whether a condition holds."""
        self.read(node, len(value.text))
        return is_true(value.text)

    def has_rows(self, node: Node, name: str, value: Value) -> bool:
        """Whether the result of that name has rows."""
        reading = self.reading
        if reading is None:
            reading = self.reading = Reading()
        try:
            return reading.open(name, value.text).has_any_row
        finally:
            self.read(node, reading.take())

    # --- what is asked for: every key is asked for once, and answered once --------------------------------------

    def execute(self, step: str, node: int, query: str, shown: bool, attempt: int = 1) -> None:
        self._ask(Execute(step, node, query, shown, self.cause, attempt), attempt)

    def start_timer(self, step: str, due_us: int, schedule: tuple[str, str] | None = None) -> None:
        self._ask(StartTimer(step, due_us, self.cause, schedule))

    def ask(self, effect: StartChild | AwaitInstance) -> None:
        self._ask(effect)

    def cancel_step(self, step: str, attempt: int = 1) -> None:
        """Stops a step. What was asked for in this very fold has not run; for the rest its key is waited for."""
        if not self.closed and not self._take_back(Execute, step, attempt):
            self.drain(step, self.cause, attempt)
            self.draining[step, attempt] = self.cause

    def cancel_child(self, step: str) -> None:
        """Stops a child; its end is waited for."""
        if not self.closed and not self._take_back(StartChild, step):
            self.drain(step, self.cause, 1)
            self.draining[step, 1] = self.cause

    def forget_child(self, step: str) -> None:
        """The child goes on, and nobody waits for it."""
        if not self.closed and not self._take_back(StartChild, step):
            self.emit(DropWait(step))

    def drain(self, step: str, cause: str, attempt: int) -> None:
        """Asks for the end of an abandoned step or child."""
        key = parse_step_key(step)
        if key is not None and self.graph.node(key[0]).kind is Kind.CALL_CHILD:
            self.emit(CancelChild(step, cause))
        else:
            self.emit(CancelStep(step, cause, attempt), attempt)

    def drop_timer(self, step: str) -> None:
        if not self.closed and not self._take_back(StartTimer, step):
            self.emit(DropTimer(step))

    def drop_await(self, step: str) -> None:
        if not self.closed and not self._take_back(AwaitInstance, step):
            self.emit(DropWait(step))

    def emit(
        self, effect: Asked | CancelStep | CancelChild | DropTimer | DropWait | TakeSignal, attempt: int = 1
    ) -> None:
        self.effects[type(effect), effect.step, attempt] = effect

    def _ask(self, effect: Asked, attempt: int = 1) -> None:
        if self.closed:
            return
        if (effect.step, attempt) in self.stash:
            self.reached.add((effect.step, attempt))
        else:
            self.emit(effect, attempt)

    def _take_back(self, kind: type[Effect], step: str, attempt: int = 1) -> bool:
        """Whether nobody has been asked for this step yet; then nobody is."""
        if (step, attempt) in self.reached:
            self.reached.remove((step, attempt))
            return True
        return self.effects.pop((kind, step, attempt), None) is not None

    # --- signals: one satisfies one wait; the oldest goes to the wait that began first --------------------------

    def take_signal(self, name: str, until: Completed | None) -> Signalled | None:
        """The oldest buffered signal of that name, taken out, unless it is younger than `until`.

        That is a row taken in, as if it had come just now.
        """
        signal = self.signals.oldest(name)
        if signal is None or (until is not None and signal.at_us > until.at_us):
            return None
        self.signals = self.signals.without_oldest(name)
        self.number += 1
        return signal

    def add_wait(self, step: str, wait: Wait) -> None:
        self.waits[step] = wait

    def drop_wait(self, step: str) -> None:
        self.waits.pop(step, None)

    # --- undo -----------------------------------------------------------------------------------------------------

    def owe(self, owed: Owed) -> None:
        """A node with an undo completed. Where its scope is being unwound already, the undo is part of that."""
        around = self.around(owed.node, owed.indices)
        if around:
            inmost = around[-1]
            self.unwinding[inmost.scope] = replace(inmost, entries=(*inmost.entries, owed))
        else:
            self.owed = (*self.owed, owed)

    def haunt(self, ghost: Frame) -> None:
        """A node with an undo is abandoned while steps of it are in flight: should they complete it, its undo is owed."""
        scope = self.scope(ghost.node, ghost.indices)
        # those of the ghost itself were given up last
        if not any(self.holds(scope, key) for key in reversed(self.draining)):
            return
        left = self.graph.node(ghost.node).left
        if left is not None and self.graph.node(left).has_undo:
            self.ghosts = tuple(g for g in self.ghosts if not scope.holds(g.node, g.indices))
        self.ghosts = (*self.ghosts, ghost)

    def unwind(self, scope: Scope, failure: Failure, waiter: tuple[int, tuple[int, ...]] | None) -> None:
        """A scope failed, lost or was cancelled: what it owes runs once none of its keys is open."""
        assert scope not in self.unwinding
        entries = [o for o in self.owed if scope.holds(o.node, o.indices)]
        if entries:
            self.owed = tuple(o for o in self.owed if not scope.holds(o.node, o.indices))
        for around in self.around(scope.first, scope.indices):
            inside = [o for o in around.entries if scope.holds(o.node, o.indices)]
            if inside:
                rest = tuple(o for o in around.entries if not scope.holds(o.node, o.indices))
                self.unwinding[around.scope] = replace(around, entries=rest)
                entries += inside
        self.stirred[scope] = None
        self.unwinding[scope] = Unwinding(scope, Failed(failure), waiter, tuple(entries))

    def lost(self, number: int, indices: tuple[int, ...], race: Node) -> None:
        """A branch of a race lost: what it owes is undone, beside whatever goes on."""
        branch = self.graph.node(number)
        if branch.has_undo:
            step = step_key(race.number, indices)
            self.unwind(
                self.scope(number, indices), Failure("the branch lost the race", "lost", race.number, step), None
            )

    def release(self, scope: Scope) -> None:
        """Nothing that the scope owes will be undone any more."""
        if self.owed:
            self.read(self.graph.node(scope.first), 8 * len(self.owed))
            self.owed = tuple(o for o in self.owed if not scope.holds(o.node, o.indices))
        if self.ghosts:
            self.ghosts = tuple(
                g
                for g in self.ghosts
                if not scope.holds(g.node, g.indices) or any(u.holds(g.node, g.indices) for u in self.unwinding)
            )

    def scope(self, number: int, indices: tuple[int, ...]) -> Scope:
        """The subtree of a node under these indices."""
        return Scope(number, self.graph.node(number).last, indices)

    def scopes(self, number: int, indices: tuple[int, ...]) -> list[Scope]:
        """The subtrees that a key lies in, the outermost first."""
        nodes = [self.graph.node(above) for above in self.graph.route(number)]
        return [Scope(node.number, node.last, indices[: len(node.loops)]) for node in nodes]

    def around(self, number: int, indices: tuple[int, ...]) -> list[Unwinding]:
        """What is being unwound that a key lies in, the outermost first."""
        if not self.unwinding:
            return []
        found = (self.unwinding.get(scope) for scope in self.scopes(number, indices))
        return [unwinding for unwinding in found if unwinding is not None]

    def holds(self, scope: Scope, key: Key) -> bool:
        parsed = parse_step_key(key[0])
        return parsed is not None and scope.holds(*parsed)


class Render(Protocol):
    """`render_sql` and its kin."""

    def __call__(
        self, text: str, *, variables: Mapping[str, str], names: Mapping[str, str], reading: Reading
    ) -> str: ...


Asked = Execute | StartTimer | StartChild | AwaitInstance
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
    """The array of results of a JOIN or MAP, within the limit."""
    text = f"[{','.join(value.text for value in values)}]"
    limit = fold.subject.composite_bytes
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        message = f"result of {size} bytes exceeds the limit of {limit}"
        return Failed(Failure(message, "54000", node.number, step_key(node.number, indices)))
    return Value(text)
