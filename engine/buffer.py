"""Signals that nobody waits for yet: a value, of which every change makes a new one that shares what it can.

A queue for each name, since one name may be sent a hundred thousand times; and the queues in a tree by the hash of their
names, since there may be as many names. A signal put in or taken out costs no more for the number of those that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import eq, itemgetter
from typing import Final

from engine.events import Signalled

WIDTH: Final = 16
"""Of the tree: parts of a part."""
NAMES_IN_A_LEAF: Final = 32
DEEPEST: Final = 12
"""Levels of the tree: beyond them a hash has no bits left to tell names apart."""
FEWEST_DROPPED: Final = 32
"""Taken signals that a queue holds on to before it is copied without them."""


@dataclass(frozen=True, slots=True)
class _Queue:
    """Entries `start` to `end` of a list to which queues that came of one another append: each sees its own part only."""

    entries: list[tuple[int, Signalled]]
    start: int
    end: int

    def put(self, entry: tuple[int, Signalled]) -> _Queue:
        # the list is longer where another queue has gone on from this one, or a fold that raised
        own = self if len(self.entries) == self.end else self._copied()
        own.entries.append(entry)
        return _Queue(own.entries, own.start, own.end + 1)

    def rest(self) -> _Queue:
        """Without the first."""
        after = _Queue(self.entries, self.start + 1, self.end)
        return after._copied() if after.start > max(FEWEST_DROPPED, after.end // 2) else after

    def _copied(self) -> _Queue:
        kept = self.entries[self.start : self.end]
        return _Queue(kept, 0, len(kept))


_Tree = dict[str, _Queue] | tuple["_Tree", ...]
"""Queues by name, none of them empty; or trees by four bits of the names' hashes."""


class Signals:
    """Signals in the order in which they came. Nobody changes one."""

    __slots__ = ("_came", "_count", "_tree")

    def __init__(self, tree: _Tree, count: int, came: int) -> None:
        self._tree, self._count, self._came = tree, count, came

    def put(self, signal: Signalled) -> Signals:
        """With one more, the youngest."""
        entry = (self._came, signal)
        queue = self._queue(signal.name)
        queue = _Queue([entry], 0, 1) if queue is None else queue.put(entry)
        return Signals(_with(self._tree, signal.name, hash(signal.name), queue, 0), self._count + 1, self._came + 1)

    def oldest(self, name: str) -> Signalled | None:
        """The oldest of that name."""
        queue = self._queue(name)
        return None if queue is None else queue.entries[queue.start][1]

    def without_oldest(self, name: str) -> Signals:
        """Without the oldest of that name, which must be there."""
        if self._count == 1:
            return NO_SIGNALS
        queue = self._queue(name)
        assert queue is not None
        rest = queue.rest() if queue.end - queue.start > 1 else None
        return Signals(_with(self._tree, name, hash(name), rest, 0), self._count - 1, self._came)

    def _queue(self, name: str) -> _Queue | None:
        tree, bits = self._tree, hash(name)
        while isinstance(tree, tuple):
            tree, bits = tree[bits % WIDTH], bits // WIDTH
        return tree.get(name)

    def __iter__(self) -> Iterator[Signalled]:
        """In the order in which they came. For thousands of names that is a sort."""
        entries = [entry for queue in _queues(self._tree) for entry in queue.entries[queue.start : queue.end]]
        entries.sort(key=itemgetter(0))
        return iter([signal for _, signal in entries])

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signals) and self._count == other._count and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(self._count)

    def __repr__(self) -> str:
        return f"Signals({list(self)!r})"


def _with(tree: _Tree, name: str, bits: int, queue: _Queue | None, depth: int) -> _Tree:
    """The tree with another queue under the name, or none."""
    if isinstance(tree, tuple):
        i = bits % WIDTH
        return (*tree[:i], _with(tree[i], name, bits // WIDTH, queue, depth + 1), *tree[i + 1 :])
    leaf = {**tree, name: queue} if queue is not None else {n: q for n, q in tree.items() if n != name}
    return leaf if len(leaf) <= NAMES_IN_A_LEAF or depth >= DEEPEST else _split(leaf, depth)


def _split(leaf: dict[str, _Queue], depth: int) -> _Tree:
    parts: list[dict[str, _Queue]] = [{} for _ in range(WIDTH)]
    for name, queue in leaf.items():
        parts[hash(name) // WIDTH**depth % WIDTH][name] = queue
    return tuple(parts)


def _queues(tree: _Tree) -> Iterator[_Queue]:
    if isinstance(tree, dict):
        yield from tree.values()
    else:
        for part in tree:
            yield from _queues(part)


NO_SIGNALS: Final = Signals({}, 0, 0)


def buffered(given: Iterable[Signalled]) -> Signals:
    """These, in this order."""
    made = NO_SIGNALS
    for signal in given:
        made = made.put(signal)
    return made
