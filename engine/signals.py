"""Signals before an event loop takes them for itself."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final, NoReturn

FIRST_PROCESS: Final = 1
"""A container's. The kernel takes no default action on it: a signal that it does not handle is not noticed."""


def heed_as_first_process() -> None:
    """Let SIGTERM end a container's first process, too, with the exit code by which shells tell that it did."""
    if os.getpid() == FIRST_PROCESS:
        signal.signal(signal.SIGTERM, _terminated)


def end_in_good_order() -> None:
    """From here on SIGTERM and SIGINT are a stop as asked: exit code 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _stopped(number: int, frame: FrameType | None) -> NoReturn:
    """Not a KeyboardInterrupt: where one has passed through an `exec`, as dataclasses do in an import, Python kills itself in
    the end, although it was caught.
    """
    raise SystemExit(0)
