"""Logging: one line an event, for people or as JSON. Standard `logging` with named fields beside the message.

    log.info("instance finished", extra=fields(instance=key, status="completed"))

The instance's id always stands under `instance`. A query's parameters, variables and secrets are never passed in;
error texts, which users choose, are cut at `VALUE_CHARACTERS`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

from engine.config import LogFormat, LogLevel

VALUE_CHARACTERS: Final = 4_000  # of one field; an error text may be megabytes
TRACEBACK_CHARACTERS: Final = 20_000
LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999, after which Python has no dates."""
FIELDS_ATTRIBUTE: Final = "walflow_fields"
QUIET: Final = {"asyncio": logging.WARNING, "psycopg": logging.WARNING}  # theirs, below warning, are not our events

_PLAIN: Final = re.compile(r"[\w.:/@~+-]+")


def fields(**values: object) -> dict[str, object]:
    """Return the `extra` of a log call that adds these fields to the event."""
    return {FIELDS_ATTRIBUTE: values}


def time_text(at_us: int) -> str:
    """A time in microseconds since 1970 UTC, as it stands in events."""
    whole, us = divmod(at_us, 1_000_000)
    if whole > LAST_SECOND:
        return f"{whole} s"
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=us).isoformat().replace("+00:00", "Z")


def set_up(log_format: LogFormat, log_level: LogLevel, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (default stderr), replacing whatever was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    level = logging.getLevelNamesMapping()[log_level.upper()]
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(level, least))


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", …fields, "exception"}` on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event's line."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage(), VALUE_CHARACTERS),
        }
        # ours stand first and last: in front, and never replaced by a field; ASCII, so that nothing can end the line
        return json.dumps({**event, **_fields_of(self, record), **event})


class TextFormatter(logging.Formatter):
    """`time level logger: message name=value …` on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event's line."""
        message = _cut(record.getMessage(), VALUE_CHARACTERS)
        pairs = [f"{name}={_quoted(value)}" for name, value in _fields_of(self, record).items()]
        return _printable(
            " ".join([_time(record), f"{record.levelname.lower():7}", f"{record.name}:", message, *pairs])
        )


def _fields_of(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    given: Mapping[str, object] = getattr(record, FIELDS_ATTRIBUTE, {})
    found = {name: _plain_value(value) for name, value in given.items()}
    if record.exc_info:
        found["exception"] = _cut(formatter.formatException(record.exc_info), TRACEBACK_CHARACTERS)
    return found


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain_value(value: object) -> object:
    """Keep what JSON has; anything else becomes text, and text is cut."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return _cut(str(value), VALUE_CHARACTERS)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}… ({len(text)} characters)"


def _quoted(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _printable(text: str) -> str:
    """Escape what would end the line or reach the terminal as a command."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
