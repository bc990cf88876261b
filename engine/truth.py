"""Which results count as true, in IF and as a loop's condition (LANGUAGE.md section 5)."""

import re

from engine.jsontext import Nested, Number, skip_white, value_at
from engine.resulttext import Cell, first_column, first_row_at, has_rows, member_at, rows_at, whole

__all__ = ["has_rows", "is_true"]

_FALSE_WORDS = frozenset({"", "false", "f", "no", "n", "off"})
_NUMERIC = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def is_true(result: str) -> bool:
    """Whether a result is true. JsonError when it is not JSON.

    Rows ask their first column, a wait whether it did not time out, a response whether it is ok, and any other value
    itself.
    """
    rows = rows_at(result)
    if rows is not None:
        row = first_row_at(result, rows)
        return row is not None and _is_true_cell(first_column(result, row))
    start = skip_white(result, 0)
    timed_out = _flag(result, start, "timed_out")
    if timed_out is not None:
        return not timed_out
    ok = _flag(result, start, "ok")
    return _is_true_cell(whole(result)) if ok is None else ok


def _flag(result: str, start: int, name: str) -> bool | None:
    """The member of that name, if it is a boolean."""
    position = member_at(result, start, name)
    value = None if position is None else value_at(result, position)[0]
    return value if isinstance(value, bool) else None


def _is_true_cell(cell: Cell) -> bool:
    if cell is None or isinstance(cell, bool):
        return cell is True
    if type(cell) is Number:
        return _is_not_zero(cell)
    if type(cell) is Nested:
        return not cell.startswith(("]", "}"), skip_white(cell, 1))
    return _is_true_text(cell.strip())


def _is_true_text(text: str) -> bool:
    numeric = _NUMERIC.fullmatch(text)
    return _is_not_zero(text) if numeric else text.lower() not in _FALSE_WORDS


def _is_not_zero(number: str) -> bool:
    """Told from the digits before the exponent: 1e-400 is not zero, whatever a float makes of it."""
    return any("1" <= digit <= "9" for digit in re.split("[eE]", number, maxsplit=1)[0])
