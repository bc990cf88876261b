"""A row may arrive before it can be seen: which transactions are not yet known to be visible to other sessions.

Theory of operation. Logical decoding can deliver a commit before other snapshots include it (DESIGN.md §3, Visibility). Every
transaction with an event is *unproven* until some snapshot was seen to include it; from then on every later snapshot
does. Snapshots are reported by checkpoints, and by steps, which wait for the transactions they are given. An effect of an
instance carries those of its instance's transactions that are unproven when it leaves; whoever carries it out waits.
"""

from __future__ import annotations

from collections.abc import Iterable

_EPOCH = 1 << 32


def full_xid(xid: int, near: int) -> int:
    """The 64-bit transaction id whose low half is `xid` and that is nearest to `near` (pgoutput sends 32 bits)."""
    candidate = (near & ~(_EPOCH - 1)) | xid
    if candidate - near > _EPOCH // 2:
        return candidate - _EPOCH
    return candidate + _EPOCH if near - candidate > _EPOCH // 2 else candidate


class Visibility:
    """The transactions, folded by this leader, that no snapshot is known to include."""

    __slots__ = ("_unproven", "latest")

    def __init__(self, next_xid: int) -> None:
        self.latest = next_xid
        self._unproven: set[int] = set()

    def folded(self, xid: int) -> int:
        """A transaction (32 bits) was folded; returns it in 64 bits."""
        full = full_xid(xid, self.latest)
        self.latest = max(self.latest, full)
        self._unproven.add(full)
        return full

    def proven(self, xids: Iterable[int]) -> None:
        """Some snapshot includes these."""
        self._unproven.difference_update(xids)

    def unproven(self) -> list[int]:
        """All that are unproven, for a checkpoint to look at."""
        return list(self._unproven)

    def still_unproven(self, xids: tuple[int, ...]) -> tuple[int, ...]:
        """Those of an instance's transactions that its next effect has to wait for."""
        unproven = self._unproven
        return tuple(xid for xid in xids if xid in unproven)
