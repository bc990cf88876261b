"""Results of nodes, read as text: rows, the first row, one of its columns.

The result of a SQL step is `{"rows":[{…}],"row_count":N}`; one without rows has `"columns":[…]` as well, or
`"affected":N` when the statement returns none. Anything else is a result without rows: a signal, an array of branches,
a break value. What `$name` and a condition make of either is in LANGUAGE.md sections 4 and 5.

Nothing is read beyond what is asked for: a result may be megabytes, and a reference wants one column of it.
"""

import re
from typing import Final

from engine.jsontext import (
    WHITE,
    JsonError,
    Nested,
    Scalar,
    dumps_string,
    elements_at,
    members_at,
    skip_white,
    value_at,
)

_BRACKET: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]')
Cell = Scalar | Nested
"""A value in a result: text, Number, bool or None, or an array or object as its JSON text."""

NULL: Final = "null"
_ROWS_FIRST: Final = '{"rows":['


def rows_at(result: str) -> int | None:
    """The position of the array of rows; None when the result has none.

    Rows are an array that is empty or begins with an object, under `rows`: what a user calls `rows` elsewhere may be
    anything.
    """
    if result.startswith(_ROWS_FIRST):
        return _if_rows(result, len(_ROWS_FIRST) - 1)
    position = member_at(result, skip_white(result, 0), "rows")
    return None if position is None else _if_rows(result, position)


def _if_rows(result: str, position: int) -> int | None:
    if not result.startswith("[", position):
        return None
    return position if result.startswith(("{", "]"), skip_white(result, position + 1)) else None


def member_at(text: str, position: int, name: str) -> int | None:
    """The position of the value of the first member of that name, when there is an object here that has one."""
    if not text.startswith("{", position):
        return None
    for key, at in members_at(text, position):
        if key == name:
            return at
    return None


def first_row_at(result: str, rows: int) -> int | None:
    """The position of the first row, None when there is none."""
    return next(elements_at(result, rows), None)


def first_column(result: str, row: int) -> Cell:
    """The first column of a row; None for a row without columns."""
    for _, position in members_at(result, row):
        return value_at(result, position)[0]
    return None


def has_rows(result: str) -> bool:
    """What if_rows asks: whether the result has rows, and at least one. JsonError when it is not JSON."""
    rows = rows_at(result)
    return rows is not None and first_row_at(result, rows) is not None


def nests_deeper(result: str, levels: int) -> bool:
    """Whether a result has more levels of arrays and objects than these."""
    if result.count("[") + result.count("{") <= levels:
        return False
    depth = 0
    for found in _BRACKET.finditer(result):
        if found[0] in ("[", "{"):
            depth += 1
        elif found[0] in ("]", "}"):
            depth -= 1
        if depth > levels:
            return True
    return False


def whole(result: str) -> Cell:
    """The result as one value. An array or object is not looked into; JsonError when it is not JSON."""
    text = result.strip(WHITE)
    if text.startswith(("{", "[")):
        return Nested(text)
    value, end = value_at(text, 0)
    if end != len(text):
        raise JsonError(end)
    return value


def as_text(cell: Cell) -> str:
    """The value as plain text: as a text column would print it, but for booleans and null, which are as in JSON."""
    if cell is None:
        return NULL
    if cell is True:
        return "true"
    return "false" if cell is False else cell


def as_json(cell: Cell) -> str:
    """The value as JSON, numbers and nested values as they were spelled."""
    return dumps_string(cell) if type(cell) is str else as_text(cell)
