"""What the publication must hold, and the statements that make it so. Migration 0009 is where it is first made.

Tables and columns: everything that the fold needs of what users and executors insert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_COMMAND: Final = ("owner", "instance_id", "instance_key", "reason", "sent_by", "event_id", "recorded_at")

PUBLISHED: Final[Mapping[str, Sequence[str]]] = {
    "df.instances": (
        *("key", "submitter", "id", "graph", "label", "input", "vars", "database"),
        *("parent_key", "parent_step", "status", "event_id", "recorded_at"),
    ),
    "df.signals": (
        *("owner", "instance_id", "instance_key", "name", "data", "sent_by"),
        *("event_id", "recorded_at"),
    ),
    "df.cancellations": _COMMAND,
    "df.releases": _COMMAND,
    "df.completions": (
        *("run_as", "instance_key", "step", "attempt", "written_by", "outcome", "cause"),
        *("event_id", "recorded_at", "result", "error"),
    ),
    "df.waits": ("instance_key", "owner", "waiter_key", "waiter_step", "event_id", "recorded_at"),
    "df.heartbeats": ("epoch", "event_id", "recorded_at"),
}


def create_statement(publication: str) -> str:
    """Return the statement that makes the publication."""
    return f"create publication {_quoted(publication)} for table {_tables()} with (publish = 'insert');"


def repair_statement(publication: str) -> str:
    """Return the statements that make an existing publication what it should be."""
    name = _quoted(publication)
    return f"alter publication {name} set table {_tables()}; alter publication {name} set (publish = 'insert');"


def _tables() -> str:
    return ", ".join(f"{table} ({', '.join(columns)})" for table, columns in PUBLISHED.items())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
