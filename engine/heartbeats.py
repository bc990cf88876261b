"""Which heartbeats the log should have brought and did not: a sign that rows are not published.

One that is late is none: a huge transaction before it in the log may take minutes to be decoded. So a heartbeat counts as missing
when the stream has passed a position that the log had reached after the heartbeat was committed.
"""

from __future__ import annotations

from cdc.lsn import Lsn


class Heartbeats:
    """Told of each heartbeat before it is sent, after, and when its row comes by the log."""

    def __init__(self) -> None:
        self._waiting = False
        self._waited = False
        self._after: list[Lsn] = []

    def sending(self) -> None:
        """The next one is sent now."""
        self._waited, self._waiting = self._waiting, True

    def sent(self, wal_end: Lsn) -> None:
        """It was; `wal_end` is where the log ended meanwhile, that is, after the one before."""
        if self._waited:
            self._after.append(wal_end)

    def came(self) -> None:
        """The log brought one: what was before it is of no interest any more."""
        self._waiting = self._waited = False
        self._after.clear()

    def missing(self, position: Lsn) -> int:
        """How many the log left out, of those that lie before `position`."""
        return sum(after <= position for after in self._after)
