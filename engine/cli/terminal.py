"""What live screens do to a terminal, and that it is as before when they end, however they end."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@contextmanager
def stopped_quietly() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what only looks on, as asked: nothing is left undone, so the exit code is 0."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until this is done: a picture that is half drawn cannot be drawn over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class Keys:
    """Single keys of a terminal; none where standard input is no terminal."""

    file: int | None

    def wait(self, seconds: float) -> str:
        """The key that is pressed within this time, else nothing."""
        if self.file is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self.file], [], [], seconds)
        return os.read(self.file, 1).decode("ascii", "replace") if ready else ""


@contextmanager
def keys() -> Iterator[Keys]:
    """Standard input key by key, and line by line again afterwards."""
    if not sys.stdin.isatty():
        yield Keys(None)
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)  # Ctrl-C is a signal still
        yield Keys(file)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)
