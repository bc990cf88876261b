"""Starts for which there is no room: they stay rows, and this keeps between which keys they lie.

Theory of operation. A submitter's starts are admitted in the order of their keys, which is not that of their commits: a key that
was given early may come late, and widens the range. A row may also be decoded before it can be seen. So whoever has looked
for rows may leave behind only the keys below every row that came after he looked, or that could not be seen yet when he did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

NEWEST: Final = 10_000
"""Starts of one transaction that are remembered by their ids. Whose id is forgotten is looked for in the tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Starts of one submitter that wait for admission: their keys are above `after` and at most `last`; others may be, too."""

    after: int
    last: int
    count: int

    def spans(self, key: int) -> bool:
        """Whether the key lies between theirs."""
        return self.after < key <= self.last


class Backlogs(dict[int, Backlog]):
    """By submitter. A submitter without waiting starts is not in it."""

    def __init__(self) -> None:
        super().__init__()
        self._unseen: dict[int, dict[int, int]] = defaultdict(dict)
        """By submitter and transaction, the lowest key of those that may not be visible to whoever looked last."""
        self.newest: dict[tuple[int, str], int] = {}
        """Keys of those that the present transaction brought, by submitter and id: its commands may know them by these only.
        Not of all, where it brought very many.
        """

    def postpone(self, submitter: int, id_: str, key: int, xid: int) -> None:
        """A start waits. `xid`: its transaction, 0 when it was read from a table."""
        if xid and len(self.newest) < NEWEST:
            self.newest[submitter, id_] = key
        known = self.get(submitter)
        if known is None:
            self[submitter] = Backlog(after=key - 1, last=key, count=1)
        else:
            self[submitter] = Backlog(after=min(known.after, key - 1), last=max(known.last, key), count=known.count + 1)
        unseen = self._unseen[submitter]
        unseen[xid] = min(unseen.get(xid, key), key)

    def look(self, submitter: int, is_visible: Callable[[int], bool]) -> Backlog:
        """Somebody is about to look for rows of this range. `is_visible`: whether new snapshots show a transaction."""
        unseen = self._unseen[submitter]
        for xid in [xid for xid in unseen if is_visible(xid)]:
            del unseen[xid]
        return self[submitter]

    def admitted(self, submitter: int, upto: int, count: int) -> bool:
        """`count` rows up to this key were found, and wait no more. Returns whether there are fewer to look through."""
        before = self[submitter]
        after = min([upto, *(key - 1 for key in self._unseen[submitter].values())])
        if after >= before.last:
            del self[submitter]
            del self._unseen[submitter]
            return True
        after = max(before.after, after)
        self[submitter] = Backlog(after=after, last=before.last, count=max(1, before.count - count))
        return after > before.after
