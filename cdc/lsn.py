"""Positions in the write-ahead log."""

import re
from typing import NewType

from cdc.errors import ProtocolError

Lsn = NewType("Lsn", int)
"""A byte position in the WAL, comparable only within one system identifier and slot generation. 0 means none."""

NO_LSN = Lsn(0)

_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)


def parse_lsn(text: str) -> Lsn:
    """Read PostgreSQL's text form, `0/16B3748`; anything else is a ProtocolError."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ProtocolError(f"not a WAL position: {text!r}")
    high, low = match.groups()
    return Lsn(int(high, 16) << 32 | int(low, 16))


def format_lsn(lsn: Lsn) -> str:
    """Write PostgreSQL's text form, `0/16B3748`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFF_FFFF:X}"
