"""Log lines: one an event, in either format."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from engine.config import LogFormat, LogLevel
from engine.log import VALUE_CHARACTERS, fields, set_up


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(log_format: LogFormat, level: LogLevel = "info") -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    set_up(log_format, level, stream)
    return logging.getLogger("walflow.test"), stream


def only_event(stream: io.StringIO) -> dict[str, Any]:
    [line] = stream.getvalue().splitlines()
    event: dict[str, Any] = json.loads(line)
    return event


def test_json_has_the_fields_beside_time_level_logger_and_message() -> None:
    log, stream = lines("json")
    log.info("instance finished", extra=fields(instance=12, status="completed"))
    event = only_event(stream)
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "info",
        "logger": "walflow.test",
        "message": "instance finished",
        "instance": 12,
        "status": "completed",
    }


def test_text_has_the_fields_after_the_message() -> None:
    log, stream = lines("text")
    log.warning("step failed", extra=fields(instance="order-42", error='no "such" table', nothing=None))
    assert stream.getvalue().endswith(
        'warning walflow.test: step failed instance=order-42 error="no \\"such\\" table" nothing=None\n'
    )


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_event_is_one_line_whatever_is_in_it(log_format: LogFormat) -> None:
    log, stream = lines(log_format)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("first\nsecond \x1b[31m", extra=fields(error="a\nb\u2028c", instance=1))
    assert len(stream.getvalue().splitlines()) == 1
    assert "Traceback" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_long_value_is_cut(log_format: LogFormat) -> None:
    log, stream = lines(log_format)
    log.error("x" * 1_000_000, extra=fields(error="y" * 1_000_000))
    assert len(stream.getvalue()) < 3 * VALUE_CHARACTERS


def test_the_level_is_kept_and_drivers_are_quiet_below_warning() -> None:
    log, stream = lines("text", "debug")
    log.debug("shown")
    logging.getLogger("psycopg").debug("not shown")
    logging.getLogger("psycopg").warning("shown too")
    assert "not shown" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2
    log, stream = lines("text", "error")
    log.warning("not shown")
    assert stream.getvalue() == ""


def test_fields_may_be_named_like_attributes_of_a_record() -> None:
    log, stream = lines("json")
    log.info("hello", extra=fields(name="n", args="a", message="not the message"))
    assert only_event(stream)["message"] == "hello"
