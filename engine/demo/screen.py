"""What the demo prints: colour and live pictures on a terminal, plain lines elsewhere and under NO_COLOR."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table as Grid
from rich.text import Text

from engine.demo.stage import NotAsItMust, Table

WIDEST: Final = 110
FRAMES_A_SECOND: Final = 12
INDENT: Final = (0, 0, 0, 2)


@dataclass
class Screen:
    """Prints, and remembers what was not as it must be."""

    console: Console = field(default_factory=lambda: _console())
    failures: list[str] = field(default_factory=list)
    checks: int = 0
    apart: bool = True
    """Whether nothing stands on the line above."""

    def line(self, text: str = "", style: str = "") -> None:
        """One line, not interpreted."""
        self.console.print(Text(text, style=style))
        self.apart = False

    def gap(self) -> None:
        """A blank line, unless there is one."""
        if not self.apart:
            self.console.print()
            self.apart = True

    def scene(self, title: str, sentence: str) -> None:
        """The head of a scene."""
        self.gap()
        self.console.print(Rule(Text(title, style="bold"), align="left", style="dim"))
        self.apart = True
        self.aside(sentence)

    def aside(self, text: str) -> None:
        """A sentence that says what is going on."""
        self.gap()
        self.line(text, "italic")
        self.gap()

    def sql(self, text: str) -> None:
        """What somebody types."""
        shown = text.strip("\n")
        self.gap()
        if self._colourful:
            self._put(Syntax(shown, "postgresql", theme="ansi_dark", background_color="default", word_wrap=True))
        else:
            self._put(Text(shown))
        self.gap()

    def table(self, table: Table) -> None:
        """What came back."""
        grid = Grid(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
        for column in table.columns:
            grid.add_column(column, overflow="fold")
        for row in table.rows:
            grid.add_row(*(Text(_shown(value)) for value in row))
        self._put(grid)
        self.gap()

    def busy(self, text: str) -> AbstractContextManager[object]:
        """Says on a terminal what is waited for."""
        return self.console.status(text) if self.console.is_terminal else nullcontext()

    def watch(self, draw: Callable[[], tuple[RenderableType, bool]], timeout_seconds: float, what: str) -> None:
        """Draws again and again until `draw` says that it is over; off a terminal, only the last picture.

        Raises NotAsItMust after the timeout, with the last picture shown.
        """
        deadline = time.monotonic() + timeout_seconds
        pause_seconds = 1 / FRAMES_A_SECOND
        with self._live() as live:
            while True:
                picture, over = draw()
                if live is not None:
                    live.update(_indented(picture), refresh=True)
                if over or time.monotonic() > deadline:
                    break
                time.sleep(pause_seconds)
        if live is None:
            self._put(picture)
        self.apart = False
        self.gap()
        if not over:
            raise NotAsItMust(f"not within {timeout_seconds:g} s: {what}")

    def check(self, what: str, holds: bool, seen: object = "") -> None:
        """A claim, and whether it holds; `seen` is what was there instead."""
        self.checks += 1
        self.apart = False
        if holds:
            self.console.print(Text.assemble(("✓ ", "bold green"), what))
            return
        told = f"{what} (seen: {seen})" if seen != "" else what
        self.failures.append(told)
        self.console.print(Text.assemble(("✗ ", "bold red"), told))

    @property
    def _colourful(self) -> bool:
        return self.console.is_terminal and not self.console.no_color

    def _live(self) -> AbstractContextManager[Live | None]:
        return Live(console=self.console, auto_refresh=False) if self.console.is_terminal else nullcontext()

    def _put(self, picture: RenderableType) -> None:
        """Prints something of several lines; in a file, no line ends in white space."""
        self.apart = False
        if self.console.is_terminal:
            self.console.print(_indented(picture))
            return
        with self.console.capture() as capture:
            self.console.print(_indented(picture))
        for line in capture.get().splitlines():
            self.console.print(Text(line.rstrip()), soft_wrap=True)


def _indented(picture: RenderableType) -> Padding:
    return Padding(picture, INDENT)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _console() -> Console:
    """Standard output, line by line also into a pipe, with what its encoding cannot say replaced."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST) if console.is_terminal else WIDEST
    return console
