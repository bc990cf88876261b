"""Where in a SQL text a reference stands: the lexical contexts of PostgreSQL's scanner (scan.l).

A statement is cut once into pieces: its own text, holes where a value stands for itself, and literals that have holes
inside. Everything else (dollar-quoted strings, quoted identifiers, comments, `$1`, `col$x`) is its own text.

The invariant is that no value becomes code, whatever it holds, so what stands beside a hole matters as well:

* `'a'` on one line and `'b'` on the next are one literal, and the second is read by the rules of the first. A value
  next to a literal or to another value goes into parentheses, which nothing continues into.
* `U&` before a quote makes an escape string of it, `5` before `6` makes 56, `NULL` before `x` a name: parentheses, or a
  space.
* `E'\\` before a hole would escape the value's first character: in such literals a backslash takes the next character
  along, and `$` after one is no reference.
* `'\\` before a quote ends a literal, or does not, as standard_conforming_strings says. Steps run with it on, but a
  literal in which the two readings could differ is written anew as `E'…'`, which has only one.

Where the scanner and PostgreSQL could disagree, the statement is one that PostgreSQL refuses as a whole (`$name` is not
a token of its grammar).
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

_START: Final = r"A-Za-z_\x80-\U0010ffff"
_REST: Final = r"A-Za-z0-9_\x80-\U0010ffff"
_WHITE: Final = r" \t\n\r\f\v"


@dataclass(frozen=True, slots=True)
class Reference:
    """`$name`, `$name.column`, either with `?`, or `$name.*`; `text` is how it was written."""

    name: str
    column: str | None
    optional: bool
    rows: bool
    text: str


@dataclass(frozen=True, slots=True)
class Hole:
    """A reference that stands for a value of its own. `wrap`: only in parentheses; `apart`: after a space."""

    reference: Reference
    wrap: bool
    apart: bool


class Style(Enum):
    """What a literal makes of what is inside."""

    PLAIN = "'"
    ESCAPE = "E'"
    NATIONAL = "N'"
    UNICODE = "U&'"
    UNICODE_OWN_ESCAPE = "U&' UESCAPE"
    BITS = "B'"


@dataclass(frozen=True, slots=True)
class Glue:
    """What stands between the parts of a literal that goes on on the next line: `'`, white space, `'`."""

    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal with references inside: the text that opens it, its parts, the quote that closes it (if one does).

    `ambiguous`: where it ends depends on standard_conforming_strings. `unfinished`: a reference stands where its first
    characters would complete an escape (`E'\\x4$n'`).
    """

    style: Style
    opening: str
    parts: tuple[str | Reference | Glue, ...]
    closing: str
    ambiguous: bool
    unfinished: bool


Piece = str | Hole | Literal


# --- the patterns ---------------------------------------------------------------------------------------------------

_IN_CODE: Final = (
    rf"\$(?P<name>[A-Za-z_][A-Za-z0-9_]*+)(?![{_REST}])"
    rf"(?:(?P<rows>\.\*)|(?:\.(?P<column>[{_START}][{_REST}]*+))?(?P<optional>\?)?)"
)
# In prose a name ends where a word ends: `$x—` and `«$x»` are references, though SQL takes — and « for letters.
IN_TEXT: Final = (
    r"\$(?P<name>[A-Za-z_][A-Za-z0-9_]*+)(?!\w)"
    r"(?:(?P<rows>\.\*)|(?:\.(?P<column>[^\W\d]\w*+))?(?P<optional>\?)?)"
)
TAG_IN_TEXT: Final = r"\$[^\W\d]\w*+\$"

# `run` is what has no part in any of this, in pieces as large as can be: words, white space and operators.
_CODE: Final = re.compile(
    rf"""
      (?P<run>(?:
          (?!(?:[eEbBxXnN]|[uU]&)')[{_START}][{_REST}$]*+
        | [{_WHITE},()=<>*+%|:;\[\]{{}}!@\#^~`?\\&]
        | -(?!-) | /(?!\*)
      )++)
    | (?P<literal>(?:[eEbBxXnN]|[uU]&)?')
    | (?P<identifier>"[^"]*+"?)
    | (?P<line>--[^\n\r]*+)
    | (?P<block>/\*)
    | (?P<dollar>\$(?:[{_START}][{_REST}]*+)?\$)
    | (?P<reference>{_IN_CODE})
    | (?P<operand>\$?[0-9]++|\.)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE: Final = re.compile(r"/\*|\*/")
# After a hole: what would become one token with the value, or continue it.
_TOUCHES: Final = re.compile(rf"[.${_REST}]|(?:[{_WHITE}]|--[^\n\r]*+)*+'")
# Between two parts of one literal.
_CONTINUES: Final = re.compile(r"'(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r])*+'")
_UESCAPE: Final = re.compile(rf"(?:[{_WHITE}]|--[^\n\r]*+|/\*(?:[^*]|\*(?!/))*+\*/)*+uescape", re.IGNORECASE)


def _inside(own: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<own>(?:{own})++)|(?P<tag>{TAG_IN_TEXT})|(?P<reference>{IN_TEXT})|(?P<dollar>\$)", re.DOTALL
    )


_INSIDE_PLAIN: Final = _inside(r"[^'$]|''")
_INSIDE_ESCAPE: Final = _inside(r"[^'$\\]|''|\\.|\\\Z")
_INSIDE_BITS: Final = _inside(r"[^'$]")
_INSIDE: Final = {Style.ESCAPE: _INSIDE_ESCAPE, Style.BITS: _INSIDE_BITS}
_STYLES: Final = {
    "": Style.PLAIN,
    "e": Style.ESCAPE,
    "n": Style.NATIONAL,
    "u": Style.UNICODE,
    "b": Style.BITS,
    "x": Style.BITS,
}


def reference_of(found: re.Match[str]) -> Reference:
    """The reference that a match of one of the patterns is."""
    return Reference(
        name=found["name"],
        column=found["column"],
        optional=found["optional"] is not None,
        rows=found["rows"] is not None,
        text=found["reference"],
    )


class Inserted:
    """The stretches of a text that variables put in, where no reference is looked for."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, stretches: Sequence[tuple[int, int]] = ()) -> None:
        self._starts = [start for start, _ in stretches]
        self._ends = [end for _, end in stretches]

    def __contains__(self, position: object) -> bool:
        assert isinstance(position, int)
        index = bisect_right(self._starts, position) - 1
        return index >= 0 and position < self._ends[index]


NOTHING_INSERTED: Final = Inserted()


# --- cutting --------------------------------------------------------------------------------------------------------


def cut_sql(text: str, inserted: Inserted = NOTHING_INSERTED) -> tuple[Piece, ...]:
    """The pieces of a SQL text, in order. Without a hole in it they are the text alone."""
    return _Cutter(text, inserted).cut()


class _Cutter:
    """Walks over a text once. `_kept` is where the text begins that no piece has yet."""

    def __init__(self, text: str, inserted: Inserted) -> None:
        self._text = text
        self._inserted = inserted
        self._pieces: list[Piece] = []
        self._kept = 0
        self._after_operand = False

    def cut(self) -> tuple[Piece, ...]:
        position = 0
        while position < len(self._text):
            token = _CODE.match(self._text, position)
            assert token is not None
            position = self._step(token)
        if self._kept < len(self._text):
            self._pieces.append(self._text[self._kept :])
        return tuple(self._pieces)

    def _step(self, token: re.Match[str]) -> int:
        """Takes in one token of code; returns where the next begins."""
        kind, end = token.lastgroup, token.end()
        match kind:
            case "run":
                if not token["run"].isspace():
                    self._after_operand = False
            case "line":
                pass
            case "block":
                end = self._end_of_block(end)
            case "literal":
                end = self._literal(token)
                self._after_operand = True
            case "dollar":
                end = self._end_of_dollar_quoted(token["dollar"], end)
                self._after_operand = True
            case "reference" if token.start() not in self._inserted:
                self._hole(token)
                self._after_operand = True
            case _:
                self._after_operand = kind == "operand"
        return end

    def _put(self, piece: Piece, start: int, end: int) -> None:
        if self._kept < start:
            self._pieces.append(self._text[self._kept : start])
        self._pieces.append(piece)
        self._kept = end

    def _hole(self, token: re.Match[str]) -> None:
        touches = _TOUCHES.match(self._text, token.end()) is not None
        apart = self._text.endswith("&", 0, token.start())
        hole = Hole(reference_of(token), wrap=self._after_operand or touches, apart=apart)
        self._put(hole, token.start(), token.end())

    def _end_of_block(self, position: int) -> int:
        """Past the end of a comment that began before this position; they nest."""
        depth = 1
        for edge in _BLOCK_EDGE.finditer(self._text, position):
            depth += 1 if edge.group() == "/*" else -1
            if depth == 0:
                return edge.end()
        return len(self._text)

    def _end_of_dollar_quoted(self, tag: str, position: int) -> int:
        end = self._text.find(tag, position)
        return len(self._text) if end < 0 else end + len(tag)

    def _literal(self, token: re.Match[str]) -> int:
        """Takes in the literal that begins with this token, to the end of its last line."""
        text, opening = self._text, token["literal"]
        style = _STYLES[opening[:-1].rstrip("&").lower()]
        parts, end = self._parts(_INSIDE.get(style, _INSIDE_PLAIN), token.end())
        closing = text[end : end + 1]
        has_holes = any(type(part) is Reference for part in parts)
        if has_holes and style is Style.UNICODE and _UESCAPE.match(text, end + 1):
            style = Style.UNICODE_OWN_ESCAPE
        ambiguous = _is_ambiguous(style, parts)
        if has_holes or ambiguous:
            literal = Literal(style, opening, tuple(parts), closing, ambiguous, _is_unfinished(style, parts))
            self._put(literal, token.start(), end + len(closing))
        return end + len(closing)

    def _parts(self, inside: re.Pattern[str], position: int) -> tuple[list[str | Reference | Glue], int]:
        """What is inside a literal, and the position of the quote that ends it (or of the end of the text)."""
        text, parts = self._text, list[str | Reference | Glue]()
        while True:
            found = inside.match(text, position)
            if found is not None:
                is_hole = found.lastgroup == "reference" and position not in self._inserted
                parts.append(reference_of(found) if is_hole else found.group())
            else:
                found = _CONTINUES.match(text, position)
                if found is None:
                    return parts, position
                parts.append(Glue(found.group()))
            position = found.end()


def _is_ambiguous(style: Style, parts: Sequence[str | Reference | Glue]) -> bool:
    """Whether a backslash stands before a quote or a hole in a literal in which it may or may not be an escape."""
    if style is not Style.PLAIN and style is not Style.NATIONAL:
        return False
    return any(type(part) is str and (part.endswith("\\") or "\\'" in part) for part in parts)


_HEX: Final = "[0-9A-Fa-f]"
_ODD_BACKSLASH: Final = r"(?<!\\)(?:\\\\)*\\"
_UNFINISHED: Final = {
    Style.ESCAPE: re.compile(rf"{_ODD_BACKSLASH}(?:[0-7]{{1,2}}|x{_HEX}?|u{_HEX}{{0,3}}|U{_HEX}{{0,7}})\Z"),
    Style.UNICODE: re.compile(rf"{_ODD_BACKSLASH}(?:\+{_HEX}{{0,5}}|{_HEX}{{0,3}})\Z"),
}


def _is_unfinished(style: Style, parts: Sequence[str | Reference | Glue]) -> bool:
    """Whether an escape ends where a reference begins, and could go on in its value."""
    pattern = _UNFINISHED.get(style)
    if pattern is None:
        return False
    return any(
        isinstance(before, str) and type(after) is Reference and pattern.search(before)
        for before, after in pairwise(parts)
    )
