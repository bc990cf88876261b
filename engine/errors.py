"""Failures of nodes, and the engine's own exceptions.

WalflowError                the world: what happened, to what, and what to do
├── ConfigError             usage or configuration: exit 2
├── Unfit                   the database is not fit to run on: exit 3
├── Fenced                  another engine leads: exit 4
└── LeadershipLost          the stream or the connection ended: start again from the checkpoint
MachineError                a bug, or an event that fits no state: quarantines one instance
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from engine.limits import ERROR_DETAIL_CHARACTERS, ERROR_MESSAGE_CHARACTERS


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
    """`text`, with its end replaced by an ellipsis where it is longer than `limit` characters. Without NULs."""
    text = text.replace("\x00", "")
    return text if len(text) <= limit else text[: limit - 1] + "…"
