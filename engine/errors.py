"""Failures of nodes, and the engine's own exceptions.

WalflowError                the world: what happened, to what, and what to do
├── ConfigError             usage or configuration: exit 2
├── Unfit                   the database is not fit to run on: exit 3
├── Fenced                  another engine leads: exit 4
├── Refused                 the database does not take a statement, now or later
└── LeadershipLost          the stream or the connection ended: start again from the checkpoint
    ├── ServerAway          the server does not answer, or lets nobody in: wait for it
    ├── LogIncomplete       rows are missing in the log: whoever leads next scans the tables
    ├── Lost                a connection is gone, and with it the answer to what was asked
    └── Transient           the database did not do something, for a reason that passes
        ├── KeyHeld         somebody's open transaction holds a key
        └── NotVisible      rows of the log that a snapshot does not show yet
MachineError                a bug, or an event that fits no state: quarantines one instance
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from engine.jsontext import storable
from engine.limits import ERROR_DETAIL_CHARACTERS, ERROR_MESSAGE_CHARACTERS, UNDO_FAILURES


class WalflowError(Exception):
    """What went wrong in the world, with `hint`: what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(WalflowError):
    """Settings or arguments that cannot be."""


class Unfit(WalflowError):
    """The database lacks something that walflow needs."""


class Fenced(WalflowError):
    """A newer engine leads; this one must stop."""


class LeadershipLost(WalflowError):
    """The stream or a connection of the leader ended."""


class ServerAway(LeadershipLost):
    """The server does not answer, or lets nobody in for now."""


class LogIncomplete(LeadershipLost):
    """Rows that were committed do not come by the log: what leads next must scan the tables."""


class Refused(WalflowError):
    """The database does not take a statement; `code` is the SQLSTATE."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Lost(LeadershipLost):
    """A connection is gone, and with it the answer: what was asked may have been done. `sqlstate`, if there was one."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Transient(LeadershipLost):
    """The database did not do something, for a reason that passes. Whoever cannot wait for that loses the leadership."""

    def __init__(self, message: str, *, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class KeyHeld(Transient):
    """Somebody's open transaction holds a key."""


class NotVisible(Transient):
    """Rows that the log has brought, and that a snapshot does not show yet."""


class MachineError(Exception):
    """An event that fits no state of its instance, or a bug. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node failed: what `error` and `$error` hold (LANGUAGE.md §6)."""

    message: str
    code: str
    node: int
    step: str
    attempt: int = 1
    more: dict[str, Any] = field(default_factory=dict)

    def within(self, prefix: str) -> Failure:
        """The same failure as seen from a node around it."""
        return replace(self, message=clip(f"{prefix}{self.message}", ERROR_MESSAGE_CHARACTERS))

    def to_json(self) -> str:
        parts = {
            "message": self.message,
            "code": self.code,
            "node": self.node,
            "step": self.step,
            "attempt": self.attempt,
        }
        return json.dumps({**parts, **self.more}, ensure_ascii=False)


def beside(failure: Failure, undo: Iterable[Failure]) -> Failure:
    """The failure, with the undo steps that failed for good beside it: the first of them, and how many others there were."""
    more = {**failure.more}
    reported, left_out = [*more.pop("undo", [])], more.pop("undo_left_out", 0)
    for failed in undo:
        alone = {key: part for key, part in failed.more.items() if key not in ("undo", "undo_left_out")}
        reported.append(json.loads(replace(failed, more=alone).to_json()))
        # what failed within an undo stands beside it: below it, errors would grow with each level
        reported += failed.more.get("undo", [])
        left_out += failed.more.get("undo_left_out", 0) + len(reported[UNDO_FAILURES:])
        del reported[UNDO_FAILURES:]
    if reported:
        more["undo"] = reported
    if left_out:
        more["undo_left_out"] = left_out
    return replace(failure, more=more)


def failure_from_json(text: str | None, *, node: int, step: str) -> Failure:
    """Reads the `error` of a completion. Whatever a role forged there, a failure comes of it."""
    try:
        given = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        given = {}
    if not isinstance(given, dict):
        given = {"message": str(given)}
    more = {k: v for k, v in given.items() if k in ("detail", "hint", "position") and isinstance(v, str | int)}
    message = given.get("message")
    code = given.get("code")
    return Failure(
        clip(message if isinstance(message, str) else "the step failed", ERROR_MESSAGE_CHARACTERS),
        clip(code if isinstance(code, str) else "XX000", 100),
        node,
        step,
        more={k: clip(v, ERROR_DETAIL_CHARACTERS) if isinstance(v, str) else v for k, v in more.items()},
    )


def clip(text: str, limit: int) -> str:
    """`text`, with its end replaced by an ellipsis where it is longer than `limit` characters, as a database can hold it."""
    text = storable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
