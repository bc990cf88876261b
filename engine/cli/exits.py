"""Exit codes: what a script may rely on."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """0 stopped as asked, 1 a bug, 2 usage or configuration, 3 the database is not fit to run on, 4 fenced by another engine."""

    OK = 0
    BUG = 1
    USAGE = 2
    UNFIT = 3
    FENCED = 4
    INTERRUPTED = 130
    """Ctrl-C before the work was done, as a shell says it: what follows with && must not run."""
