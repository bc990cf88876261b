"""What the text and the errors of a statement say about how to run it. Pure.

The wrapper runs what returns rows one way and everything else another (`df.step`, p_rows). The first word is a guess that
saves a round trip when it is right and costs one when it is wrong; the server's SQLSTATE decides.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

_SPACE: Final = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/)*")
_WORD: Final = re.compile(r"[A-Za-z]+")
_RETURNING: Final = re.compile(r"\breturning\b", re.IGNORECASE)

_WITHOUT_ROWS: Final = frozenset(
    {
        "insert", "update", "delete", "merge", "create", "drop", "alter", "truncate", "grant", "revoke", "comment", "do",
        "set", "reset", "lock", "refresh", "analyze", "vacuum", "reindex", "cluster", "notify", "listen", "unlisten",
    }
)  # fmt: skip
_ON_ITS_OWN: Final = frozenset(
    {"vacuum", "create", "drop", "reindex", "alter", "cluster", "analyze", "call", "do", "checkpoint", "refresh"}
)

NOT_A_CURSOR: Final = "42P11"
"""The wrapper's way for rows refuses a statement that returns none, or several statements, before anything ran."""
SYNTAX_ERROR: Final = "42601"
ACTIVE_TRANSACTION: Final = "25001"
INVALID_TERMINATION: Final = "2D000"
UNIQUE_VIOLATION: Final = "23505"
NO_SUCH_STATEMENT: Final = "26000"
QUERY_CANCELED: Final = "57014"
PASSED_ITS_TIME: Final = ("25P03", "25P04")
"""A time-out of the role's ended the session, before the commit: it would do so each time."""

_TRANSIENT: Final = frozenset({"40001", "40P01", "53300", "57P01", "57P02", "57P03"})

Verdict = Literal["command", "alone", "transient", "failed"]


@lru_cache(maxsize=10_000)
def returns_rows(query: str) -> bool:
    """A guess."""
    return _first_word(query) not in _WITHOUT_ROWS or _RETURNING.search(query) is not None


def judge(query: str, rows: bool, sqlstate: str) -> Verdict:
    """What to do about a failure: call the wrapper the other way, run the statement on its own, repeat, or record it."""
    if sqlstate in _TRANSIENT:
        return "transient"
    if sqlstate == NOT_A_CURSOR and rows:
        return "command"
    word = _first_word(query)
    if sqlstate == ACTIVE_TRANSACTION and word in _ON_ITS_OWN:
        return "alone"
    if sqlstate == INVALID_TERMINATION and word in ("call", "do"):
        return "alone"
    return "failed"


def _first_word(query: str) -> str:
    space = _SPACE.match(query)
    word = _WORD.match(query, space.end() if space else 0)
    return word[0].lower() if word else ""
