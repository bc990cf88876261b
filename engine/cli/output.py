"""Where output goes: colour and the terminal's width on a terminal, plain lines of any length into a pipe, JSON for programs.

Colour is on a terminal only, and never where NO_COLOR is set (rich sees to both). A pipe that is closed early, as by `head`,
ends the command quietly. What an encoding cannot say is said in ASCII.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NoReturn, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from engine.cli.exits import Exit
from engine.cli.times import iso

UNBOUNDED: Final = 20_000
"""Columns of what is no terminal: nothing is cut or wrapped there."""
IN_ASCII: Final = str.maketrans(
    {
        **dict(zip("✓✗⏳○⊘…│║↻≡⏱▷↶⇉→·\u00d7\u2013", ("+", "x", ">", ".", "-", "...", *"||@=T>^>>.x-"), strict=True)),
        **dict(zip("▁▂▃▄▅▆▇█", "__--==##", strict=True)),
    }
)
ERRORS: Final = "walflow-ascii"


class Raw(str):
    """Text that is JSON already, and stays as it is: a result's numbers are exact, and its keys in order."""

    __slots__ = ()


class Out(Console):
    """Standard output (or error) as a rich console that is quiet about a closed pipe."""

    @property
    def live(self) -> bool:
        """Whether pictures can be drawn over one another."""
        return self.is_terminal and not self.is_dumb_terminal

    def on_broken_pipe(self) -> NoReturn:
        """Nobody reads any more."""
        self.quiet = True
        leave_pipe()

    def put(self, picture: RenderableType) -> None:
        """Print; off a terminal no line is wrapped, and none ends in white space."""
        if self.is_terminal:
            self.print(picture)
            return
        with self.capture() as captured:
            self.print(picture)
        for line in captured.get().splitlines():
            self.print(Text(line.rstrip()), soft_wrap=True)

    def json(self, value: object) -> None:
        """One document: on one line for programs, indented on a terminal."""
        self.out(as_json(value, indent=2 if self.is_terminal else None), highlight=False)


def stdout() -> Out:
    """Standard output."""
    return _out(sys.stdout)


def stderr() -> Out:
    """Standard error."""
    return _out(sys.stderr)


def _out(stream: TextIO) -> Out:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=ERRORS)
    out = Out(file=stream, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = UNBOUNDED
    return out


def leave_pipe() -> NoReturn:
    """End as asked: whoever read the output has seen enough."""
    let_go()
    raise SystemExit(Exit.OK)


def let_go() -> None:
    """What standard output still holds goes nowhere: else the interpreter complains when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_closed_pipe(error: BaseException | None) -> bool:
    """Whether writing failed for want of a reader."""
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unsaid = error.object[error.start : error.end]
    return unsaid.translate(IN_ASCII).encode("ascii", "replace").decode(), error.end


codecs.register_error(ERRORS, _in_ascii)


# -- JSON -------------------------------------------------------------------------------------------------------------


def as_json(value: object, indent: int | None = None, depth: int = 0) -> str:
    """JSON with times in ISO 8601, and `Raw` as it is."""
    match value:
        case Raw():
            return str(value)
        case Mapping():
            parts = [f"{json.dumps(str(key))}: {as_json(part, indent, depth + 1)}" for key, part in value.items()]
            return _braced("{", parts, "}", indent, depth)
        case datetime():
            return json.dumps(iso(value))
        case float() if not math.isfinite(value):
            return "null"
        case str() | int() | float() | None:
            return json.dumps(value, ensure_ascii=False)
        case Sequence():
            return _braced("[", [as_json(part, indent, depth + 1) for part in value], "]", indent, depth)
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def _braced(opening: str, parts: Sequence[str], closing: str, indent: int | None, depth: int) -> str:
    if indent is None or not parts:
        return f"{opening}{', '.join(parts)}{closing}"
    inner, outer = "\n" + " " * indent * (depth + 1), "\n" + " " * indent * depth
    return f"{opening}{inner}{f',{inner}'.join(parts)}{outer}{closing}"
