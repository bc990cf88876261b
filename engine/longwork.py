"""Long work says how far it is: after a second, and then now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 1.0
"""Between two words about the same work, and before the first: what is done by then is not worth one."""


class LongWork:
    """Work that may take long. `tell` is told how far it is, after so many seconds of the clock `monotonic`, and as often."""

    def __init__(
        self, tell: Callable[[str], None], monotonic: Callable[[], float], every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._every_seconds = every_seconds
        self._due = monotonic() + every_seconds

    def at(self, where: str) -> None:
        """The work is there, or waits for that."""
        now = self._monotonic()
        if now >= self._due:
            self._due = now + self._every_seconds
            self._tell(where)
