"""Who in memory waits for the end of whom: parents for their children, steps for instances. And rings of it, which never end.

An instance is *held* by another when it cannot end before that one has: nothing in its own graph ends the wait (a timeout, a
race, a break), or it is over but for this. A ring is looked for when a wait begins, when an instance arrives that was not in
memory while somebody looked, and when a parent gives up on a child, which leaves it nothing to do but to wait.

Pure, as the book is, whose part this is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from engine import machine
from engine.frames import parse_step_key
from engine.graph import AwaitInstance, CallChild, Graph, Kind
from engine.instance import Live

Deadlock = Callable[[Live, str, str], None]


class Rings:
    """`is_unfinished`: whether an instance that is not in memory may be; `look_for` brings it, and then `arrived` is called."""

    def __init__(
        self,
        instances: Mapping[int, Live],
        *,
        is_unfinished: Callable[[int], bool],
        look_for: Callable[[int], object],
    ) -> None:
        self.on_deadlock: Deadlock = lambda _live, _step, _why: None
        self._instances = instances
        self._is_unfinished = is_unfinished
        self._look_for = look_for
        self._waits: dict[int, dict[str, int]] = {}
        self._children: dict[int, dict[str, int]] = {}
        self._awaited: set[int] = set()
        self._suspects: dict[int, list[tuple[int, str]]] = {}

    # --- what is known ----------------------------------------------------------------------------------------------

    def waits(self, key: int, step: str) -> bool:
        """Whether the wait of a step is known."""
        return step in self._waits.get(key, ())

    def is_there(self, key: int, step: str) -> bool:
        """Whether a child of the step is known, or its wait."""
        return self.waits(key, step) or step in self._children.get(key, ())

    def is_awaited(self, key: int) -> bool:
        """Whether somebody may wait for the instance."""
        return key in self._awaited

    def child(self, key: int, step: str) -> int | None:
        return self._children.get(key, {}).get(step)

    def add_wait(self, waiter: int, step: str, awaited: int) -> None:
        self._waits.setdefault(waiter, {})[step] = awaited
        if awaited in self._instances:
            self._awaited.add(awaited)

    def add_child(self, parent: int, step: str, child: int) -> None:
        self._children.setdefault(parent, {})[step] = child

    def answered(self, key: int, step: str) -> None:
        """A wait is over."""
        self._waits.get(key, {}).pop(step, None)

    def left(self, key: int) -> None:
        """The instance is not in memory any more."""
        self._waits.pop(key, None)
        self._children.pop(key, None)
        self._awaited.discard(key)

    def ended(self, parent: int, step: str) -> None:
        """A child is no more."""
        siblings = self._children.get(parent, {})
        siblings.pop(step, None)
        if not siblings:
            self._children.pop(parent, None)

    def nobody(self, key: int) -> None:
        """What was looked for is no unfinished instance."""
        self._suspects.pop(key, None)

    # --- rings ------------------------------------------------------------------------------------------------------

    def check(self, live: Live, step: str) -> None:
        """Reports a wait that would never end."""
        ring, unknown = self._ring(live, step)
        for key in unknown:
            self._suspect(key, live.key, step)
        if ring:
            ids = [self._instances[key].subject.id for key in ring]
            steps = ", ".join(f"{a} waits for {b}" for a, b in zip(ids, [*ids[1:], ids[0]], strict=True))
            self.on_deadlock(live, step, f"Waiting for {ids[0]} would never end: {steps}")

    def given_up(self, child: int | None) -> None:
        """A parent waits for the end of this child from here on, whatever it agreed on before: some wait may have no end now."""
        todo, seen = [child], {child}
        while todo:
            key = todo.pop()
            live = self._instances.get(key) if key is not None else None
            if live is None:
                continue  # its cancellation brings it
            self._check_all(live)
            for _, other in self._of(live.key):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)

    def arrived(self, live: Live) -> None:
        """An instance has come into memory that may close a ring of waits."""
        self._awaited.add(live.key)  # for all that is known here
        for waiter, step in self._suspects.pop(live.key, ()):
            known = self._instances.get(waiter)
            if known is None:
                self._suspect(waiter, waiter, step)
            elif self.waits(waiter, step):
                self.check(known, step)
        if live.state.ending is not None:  # its parent may have given it up meanwhile
            self._check_all(live)

    def _suspect(self, key: int, waiter: int, step: str) -> None:
        self._suspects.setdefault(key, []).append((waiter, step))
        self._look_for(key)

    def _check_all(self, live: Live) -> None:
        for step in list(self._waits.get(live.key, ())):
            self.check(live, step)

    def _of(self, key: int) -> Iterator[tuple[str, int]]:
        """Steps of an instance, and what they wait for."""
        yield from self._waits.get(key, {}).items()
        yield from self._children.get(key, {}).items()

    def _ring(self, waiter: Live, step: str) -> tuple[list[int], list[int]]:
        """The instances from the one that is waited for to the waiter, each of which waits for the next with no way out.

        Second, those that would have to be looked at and are not in memory.
        """
        awaited = self._waits[waiter.key][step]
        unknown: list[int] = []
        if not _endless(waiter, step):
            return [], unknown
        came: dict[int, int | None] = {awaited: None}
        todo = [awaited]
        while todo:
            key = todo.pop()
            live = self._instances.get(key)
            if live is None:
                if self._is_unfinished(key) and key != waiter.key:
                    unknown.append(key)
                continue
            for via, other in self._of(key):
                if other not in came and self._is_held_by(live, via, other):
                    came[other] = key
                    if other == waiter.key:
                        return _way(came, other), []
                    todo.append(other)
        return [], unknown

    def _is_held_by(self, live: Live, step: str, other: int) -> bool:
        """Whether the instance cannot end before the other one has."""
        if (step, 1) not in live.state.draining:
            return _endless(live, step)
        child = self._instances.get(other)  # one that has not heard yet that it is cancelled may do nothing but end
        return child is None or child.state.ending is not None


def _endless(live: Live, step: str) -> bool:
    """Whether the step waits for an instance, and nothing in its own graph ends that but the instance's end."""
    key = parse_step_key(step)
    if key is None or key[0] > len(live.subject.graph.nodes) or not machine.is_open(live.subject, live.state, step):
        return False
    graph = live.subject.graph
    match graph.node(key[0]).spec:
        case AwaitInstance(timeout_seconds=None) | CallChild(options=None):
            bounded = False
        case CallChild(options=str(options)):
            bounded = "timeout_seconds" in json.loads(options)
        case _:
            bounded = True
    return not bounded and not any(_way_out(graph, number) for number in graph.route(key[0])[:-1])


def _way_out(graph: Graph, number: int) -> bool:
    """Whether a node may end though something in it goes on for ever."""
    node = graph.node(number)
    if node.kind in (Kind.JOIN, Kind.MAP):
        return any(graph.node(inner).kind is Kind.BREAK for inner in range(number, node.last + 1))
    return node.kind in (Kind.RACE, Kind.TIMEOUT)


def _way(came: dict[int, int | None], end: int) -> list[int]:
    way: list[int] = []
    key: int | None = end
    while key is not None:
        way.append(key)
        key = came[key]
    return way[::-1]
