"""Rows of published tables as typed values. What a row says is not believed further than its columns' writers go.

Columns are found by name once for each description of a table, so a column that a later version adds is no matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Literal, cast

from cdc.messages import Value
from cdc.relations import Relation
from engine.events import Outcome

SCHEMA: Final = "df"


class BadText(ValueError):
    """A column that is not valid UTF-8 (a database in SQL_ASCII checks nothing)."""


@dataclass(frozen=True, slots=True)
class InstanceRow:
    key: int
    submitter: int
    id: str
    graph: Value
    label: Value
    input: Value
    vars: Value
    parent_key: int | None
    event_id: str
    parent_step: str = ""
    status: str = "pending"
    """As it was inserted; what the engine inserts cancelled never begins."""


CommandKind = Literal["signal", "cancellation", "release"]


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A signal, a cancellation or a release. `name` of a signal only; `text` is its data, or the reason."""

    kind: CommandKind
    owner: int
    instance_id: str
    instance_key: int | None
    name: str
    text: str
    event_id: str


@dataclass(slots=True)
class CompletionRow:
    """Not frozen: a frozen dataclass costs twice as much to make, and one is made for each step. Nobody changes it."""

    run_as: int
    instance_key: int
    step: str
    attempt: int
    outcome: Outcome
    cause: str | None
    event_id: str
    result: Value
    error: Value


@dataclass(frozen=True, slots=True)
class WaitRow:
    """A step of one instance waits for another."""

    instance_key: int
    waiter_key: int
    waiter_step: str


@dataclass(frozen=True, slots=True)
class HeartbeatRow:
    epoch: int
    event_id: str


@dataclass(frozen=True, slots=True)
class UnusedRow:
    """Of a table that nothing here waits for."""

    table: str


Row = InstanceRow | CommandRow | CompletionRow | WaitRow | HeartbeatRow | UnusedRow
Reader = Callable[[tuple[Value, ...]], Row]
Columns = Callable[[tuple[Value, ...]], tuple[Any, ...]]


def reader(relation: Relation) -> Reader:
    """How to read the rows of this table. Raises PublicationIncomplete when a column is missing."""
    if relation.schema != SCHEMA or relation.name not in _READERS:
        return lambda _: UnusedRow(relation.qualified_name)
    columns, make = _READERS[relation.name]
    pick: Columns = itemgetter(*relation.positions(columns))
    return lambda values: make(pick(values))


def _instance(values: tuple[Any, ...]) -> Row:
    key, submitter, id_, graph, label, given, variables, parent, event_id, step, status = values
    parent_key = None if parent is None else int(parent)
    return InstanceRow(
        int(key),
        int(submitter),
        readable(id_),
        graph,
        label,
        given,
        variables,
        parent_key,
        event_id,
        readable(step),
        status,
    )


def _signal(values: tuple[Any, ...]) -> Row:
    owner, instance_id, key, name, data, event_id = values
    return _command("signal", owner, instance_id, key, readable(name), data, event_id)


def _command(
    kind: CommandKind, owner: str, instance_id: Value, key: str | None, name: str, text: Value, event_id: str
) -> CommandRow:
    id_, body = readable(instance_id), readable(text)
    return CommandRow(kind, int(owner), id_, None if key is None else int(key), name, body, event_id)


def _completion(values: tuple[Any, ...]) -> Row:
    run_as, key, step, attempt, outcome, cause, event_id, result, error = values
    return CompletionRow(
        int(run_as), int(key), readable(step), int(attempt), cast(Outcome, outcome), cause, event_id, result, error
    )


def _wait(values: tuple[Any, ...]) -> Row:
    return WaitRow(int(values[0]), int(values[1]), readable(values[2]))


def _heartbeat(values: tuple[Any, ...]) -> Row:
    return HeartbeatRow(int(values[0]), values[1])


_COMMAND: Final = ("owner", "instance_id", "instance_key", "reason", "event_id")
_READERS: Final[dict[str, tuple[tuple[str, ...], Callable[[tuple[Any, ...]], Row]]]] = {
    "instances": (
        (
            *("key", "submitter", "id", "graph", "label", "input", "vars"),
            *("parent_key", "event_id", "parent_step", "status"),
        ),
        _instance,
    ),
    "signals": (("owner", "instance_id", "instance_key", "name", "data", "event_id"), _signal),
    "cancellations": (_COMMAND, lambda v: _command("cancellation", v[0], v[1], v[2], "", v[3], v[4])),
    "releases": (_COMMAND, lambda v: _command("release", v[0], v[1], v[2], "", v[3], v[4])),
    "completions": (
        ("run_as", "instance_key", "step", "attempt", "outcome", "cause", "event_id", "result", "error"),
        _completion,
    ),
    "waits": (("instance_key", "waiter_key", "waiter_step"), _wait),
    "heartbeats": (("epoch", "event_id"), _heartbeat),
}


def strict(value: Value, what: str) -> str | None:
    """The text of a column whose meaning would change if bytes were replaced. Raises BadText."""
    if isinstance(value, bytes):
        raise BadText(f"{what} is not valid UTF-8 (the database is in SQL_ASCII, which checks nothing)")
    return value


def readable(value: Value) -> str:
    """The text of a column, with replacement characters where it is not valid UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value or ""
