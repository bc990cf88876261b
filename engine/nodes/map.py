"""MAP: a body for each row of a result, some at a time.

=========  ====================================  =======================================================
state      event                                 becomes
=========  ====================================  =======================================================
begins     with a step for the items             left entered, *asking*
begins     with a name                           the first rows entered, *running*
asking     Done                                  the first rows entered, *running*
asking     Failed, Broke                         the same
running    a row ends, others are left           the next one entered
running    a row fails                           what it owes is undone; no further row begins
running    the last row ends                     Done with all results, or Failed as the first failing row in order
=========  ====================================  =======================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from engine.errors import Failure
from engine.frames import (
    STOPPED,
    Done,
    Failed,
    Fold,
    Frame,
    Result,
    Stopped,
    Where,
    composite,
    entered_by,
    framed,
    step_key,
)
from engine.frames import finish as ended
from engine.graph import Kind, Map, Node
from engine.jsontext import JsonError, elements_at, skip_white, value_at
from engine.limits import MAP_ITEMS
from engine.resulttext import rows_at
from engine.values import Names, Value

ITEM = "item"
KNOWN_ITEMS = 32
"""Lists of items whose positions are kept: with each row that ends another one is looked up."""

Row = Frame | Value | Failed | Stopped | None
"""What a row is at: open, its result, how it failed, not begun any more, not begun yet."""


class _NoItems(Exception):
    """A result that is no list."""


@framed
@dataclass(frozen=True, slots=True)
class Mapping(Frame):
    """`items` is what the rows are of, while running; `begun` counts those that began, `waiting` those that are open.

    `failing`: some row failed, and no other begins.
    """

    tag: ClassVar[str] = "map"
    node: int
    indices: tuple[int, ...]
    names: Names
    inner: Frame | None
    items: Value | None = None
    rows: tuple[Row, ...] = ()
    begun: int = 0
    waiting: int = 0
    failing: bool = False

    def child(self, target: int, indices: tuple[int, ...]) -> Frame | Where:
        if self.inner is not None:
            return self.inner if target == self.inner.node else Where.FUTURE
        i = indices[len(self.indices)] if len(indices) > len(self.indices) else 0
        if not 0 < i <= len(self.rows):
            return Where.PAST
        row = self.rows[i - 1]
        if row is not None and not isinstance(row, Frame):
            return Where.PAST
        # what brought the items may have keys with as many indices, and is over; some row is open
        begun = row or next(other for other in self.rows if isinstance(other, Frame))
        if target != begun.node:
            return Where.PAST
        return row or Where.FUTURE

    def resumed(self, fold: Fold, child: Frame, result: Result) -> Result:
        if self.inner is not None:
            return _asked(fold, self, result)
        i = child.indices[len(self.indices)]
        rows = list(self.rows)
        rows[i - 1] = row = _row(fold, self, i, result)
        waiting = self.waiting - (not isinstance(row, Frame))
        if waiting == self.waiting:
            return replace(self, rows=tuple(rows))
        failing = self.failing or isinstance(row, Failed)
        return _go_on(fold, replace(self, waiting=waiting, failing=failing), rows)

    def children(self) -> Iterable[Frame]:
        if self.inner is not None:
            return (self.inner,)
        return (row for row in self.rows if isinstance(row, Frame))

    def shown(self, fold: Fold) -> dict[str, int | str]:
        return {"items": len(self.rows), "begun": self.begun} if self.inner is None else {}


@entered_by(Kind.MAP)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    assert isinstance(node.spec, Map)
    mapping = Mapping(node.number, indices, names, None)
    if node.left is not None:
        return _asked(fold, mapping, fold.enter(node.left, indices, names))
    value = names.value(node.spec.items or "")
    if value is None:
        return _failed(mapping, f"df.map: no result is named '{node.spec.items}' here", "substitution")
    return _begin(fold, mapping, value)


def _asked(fold: Fold, mapping: Mapping, result: Result) -> Result:
    if isinstance(result, Frame):
        return replace(mapping, inner=result)
    if not isinstance(result, Done):
        return result
    return _begin(fold, replace(mapping, inner=None, names=result.names), result.value)


def _failed(mapping: Mapping, message: str, code: str) -> Failed:
    return Failed(Failure(message, code, mapping.node, step_key(mapping.node, mapping.indices)))


def _begin(fold: Fold, mapping: Mapping, items: Value) -> Result:
    fold.read(fold.graph.node(mapping.node), len(items.text))
    try:
        count = len(_positions(items.text)[1])
    except (_NoItems, JsonError) as error:
        return _failed(mapping, f"df.map: the items are neither rows nor a JSON array{error}", "22023")
    if count > MAP_ITEMS:
        return _failed(mapping, f"df.map: {count} items exceed the limit of {MAP_ITEMS}", "54000")
    return _go_on(fold, replace(mapping, items=items), [None] * count)


@lru_cache(maxsize=KNOWN_ITEMS)
def _positions(text: str) -> tuple[bool, list[int]]:
    """Whether the items are rows, and where each begins. Nobody changes the list."""
    rows = rows_at(text)
    if rows is not None:
        return True, list(elements_at(text, rows))
    start = skip_white(text, 0)
    if not text.startswith("[", start):
        raise _NoItems
    return False, list(elements_at(text, start))


def _go_on(fold: Fold, mapping: Mapping, rows: list[Row]) -> Result:
    """Begins as many rows as may be open; ends when none is and none will be."""
    node = fold.graph.node(mapping.node)
    assert isinstance(node.spec, Map)
    assert mapping.items is not None
    begun, waiting, failing = mapping.begun, mapping.waiting, mapping.failing
    are_rows, positions = _positions(mapping.items.text)
    while begun < len(rows) and waiting < node.spec.max_parallel and not failing and not fold.closed:
        begun += 1
        result = _enter(fold, mapping, begun, _item(mapping.items.text, are_rows, positions[begun - 1]))
        rows[begun - 1] = row = _row(fold, mapping, begun, result)
        waiting += isinstance(row, Frame)
        failing = isinstance(row, Failed)
    if waiting:
        return replace(mapping, rows=tuple(rows), begun=begun, waiting=waiting, failing=failing)
    return _settle(fold, node, mapping, rows)


def _settle(fold: Fold, node: Node, mapping: Mapping, rows: list[Row]) -> Result:
    for i, row in enumerate(rows, 1):
        if isinstance(row, Failed):
            return Failed(row.failure.within(f"MAP item {i} failed: "))
    values = [row for row in rows if isinstance(row, Value)]
    if len(values) < len(rows):
        return STOPPED
    value = composite(fold, node, mapping.indices, values)
    return value if isinstance(value, Failed) else ended(node, value, mapping.names)


def _item(text: str, is_row: bool, position: int) -> Value:
    """A row as the result of a query that returned just it; an element of an array as itself."""
    end = value_at(text, position)[1]
    element = text[position:end]
    return Value(f'{{"rows":[{element}],"row_count":1}}' if is_row else element)


def _enter(fold: Fold, mapping: Mapping, i: int, item: Value) -> Result:
    body = fold.graph.node(mapping.node).right
    assert body is not None
    return fold.enter(body, (*mapping.indices, i), mapping.names.nested().bind(ITEM, item))


def _row(fold: Fold, mapping: Mapping, i: int, result: Result) -> Row:
    match result:
        case Done(value=value):
            return value
        case Failed(failure=failure):
            body = fold.graph.node(mapping.node).right
            assert body is not None
            if not fold.closed:
                fold.unwind(fold.scope(body, (*mapping.indices, i)), failure, None)
            return result
        case Frame() | Stopped():
            return result
        case _:
            raise AssertionError("a BREAK out of a MAP's body")
