"""A real terminal for commands to run in: a pty of 80 columns and 24 lines, and an emulator that knows what stands on it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import pyte

from tests.cli.commands import in_utf8
from tests.servers import PATIENCE_SECONDS

T = TypeVar("T")
COLUMNS: Final = 80
LINES: Final = 24
CTRL_C: Final = b"\x03"


class Terminal:
    """`walflow` with these arguments, or a shell's line, on a terminal of its own. Use it as a context manager."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        shell: str | None = None,
        columns: int = COLUMNS,
        lines: int = LINES,
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.raw = b""
        """All that was written to the terminal."""
        self._stream = pyte.ByteStream(self.screen)
        self.master, self._slave = pty.openpty()
        self._set_size(columns, lines)
        self.before: list[Any] = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine", *arguments] if shell is None else ["bash", "-c", shell],
            env=in_utf8({"TERM": "xterm-256color", **environment}),
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )

    def read(self, seconds: float = 0.05) -> None:
        """Take in what was written meanwhile."""
        while select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 65_536)
            except OSError:  # EIO: nobody has it open any more
                return
            if not data:
                return
            self.raw += data
            self._stream.feed(data)
            seconds = 0

    @property
    def text(self) -> str:
        """What stands on the screen, without blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait_for(self, condition: Callable[[str], T], what: str = "") -> T:
        """Read until the screen fulfils a condition, and return what that said."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.read()
            found = condition(self.text)
            if found:
                return found
            assert time.monotonic() < deadline, f"not on the screen: {what}\n{self.text}\n(exit {self.process.poll()})"

    def wait_for_text(self, wanted: str) -> None:
        """Read until a text stands on the screen."""
        self.wait_for(lambda text: wanted in text, wanted)

    def resize(self, columns: int, lines: int) -> None:
        """Pull at a corner of the window."""
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def send(self, keys: bytes) -> None:
        """Type."""
        os.write(self.master, keys)

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, f"it still runs:\n{self.text}"
        self.read()
        return self.process.returncode

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was: its modes, the usual screen, a cursor."""
        return (
            termios.tcgetattr(self._slave) == self.before
            and not self.screen.cursor.hidden
            and self.raw.count(b"\x1b[?1049h") == self.raw.count(b"\x1b[?1049l")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


def _take_terminal() -> None:
    """Make standard input the terminal that Ctrl-C on it reaches us through, as a shell in the foreground does: whoever runs the
    tests in the background ignores it, and what is ignored would be inherited.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
