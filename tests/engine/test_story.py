"""One event for each thing that happens to an instance, under its id, and nothing of what roles wrote into it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from engine.effects import Effect
from engine.events import Event
from engine.instance import Live
from engine.log import set_up
from engine.story import Told, all_of, to_log
from tests.engine.logbook import ALICE, Log, cancel, done, signal, start
from tests.engine.machinery import child, race, seq, sleep, sql, wait

SECRET = "hunter2"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged, at level debug."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    set_up("json", "debug", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def told_to(told: Told) -> Log:
    log = Log()
    log.book.on_folded = told
    return log


def story(stream: io.StringIO, id_: str = "w1") -> list[dict[str, Any]]:
    """What one grep finds."""
    return [json.loads(line) for line in stream.getvalue().splitlines() if f'"instance": "{id_}"' in line]


def test_the_story_of_an_instance_is_found_under_its_id_from_start_to_end(written: io.StringIO) -> None:
    log = told_to(to_log)
    log.transaction(start(seq(sql("a"), wait("go"), sql("b"))), start("other", key=2, id_="w2"))
    log.transaction(done("3"))
    log.transaction(done("2"))
    log.transaction(signal("go"))
    log.transaction(done("5"))
    told = [(event["message"], event.get("step")) for event in story(written)]
    assert told == [
        ("instance started", None),
        ("step wanted", "3"),
        ("step completed", "3"),
        ("signal came", None),
        ("signal taken", "4"),
        ("step wanted", "5"),
        ("step completed", "5"),
        ("instance completed", None),
    ]
    ended = story(written)[-1]
    assert (ended["key"], ended["role"], ended["at"]) == (1, ALICE, "2023-11-14T22:13:25Z")
    assert ended["seconds"] == 4.0


def test_a_failure_is_told_by_its_code(written: io.StringIO) -> None:
    log = told_to(to_log)
    log.transaction(start())
    error = json.dumps({"message": f"Key (token)=({SECRET}) already exists", "code": "23505", "detail": SECRET})
    log.transaction(done(outcome="failed", result=None, error=error))
    assert [event.get("code") for event in story(written)] == [None, None, "23505", "23505"]


@pytest.mark.parametrize("error", ["no json", "[1]", '{"code": 7}', '{"code": "' + 30 * "x" + '"}', "{}"])
def test_a_code_that_a_role_made_up_is_unknown(written: io.StringIO, error: str) -> None:
    log = told_to(to_log)
    log.transaction(start())
    log.transaction(done(outcome="failed", result=None, error=error))
    assert story(written)[2]["code"] == "unknown"


def test_everything_that_can_be_asked_for_has_its_line(written: io.StringIO) -> None:
    log = told_to(to_log)
    graph = race(seq(sleep(60), sql()), seq(child(sql()), sql()), seq(wait("never", 5), sql()), sql("x"))
    log.transaction(start(graph))
    log.transaction(cancel(SECRET))
    told = {event["message"] for event in story(written)}
    assert {"timer set", "child wanted", "step wanted", "cancellation came", "step is to be cancelled"} <= told
    assert {"child is to be cancelled", "waits no longer"} <= told
    due = [event["due"] for event in story(written) if event["message"] == "timer set"]
    assert due == ["2023-11-14T22:14:21Z", "2023-11-14T22:13:26Z"]


def test_nothing_that_roles_write_is_told(written: io.StringIO) -> None:
    log = told_to(to_log)
    graph = seq(sql(f"select '{SECRET}'", name="a"), wait("go"), sql("select $a"))
    given = json.dumps({"token": SECRET})
    log.transaction(start(graph, input=given, vars=given))
    log.transaction(done("3", json.dumps({"rows": [{"x": SECRET}], "row_count": 1})), done("2"))
    log.transaction(signal("go", json.dumps(SECRET)), cancel(SECRET))
    assert len(story(written)) >= 5
    assert SECRET not in written.getvalue()


def test_what_changes_nothing_is_not_told(written: io.StringIO) -> None:
    log = told_to(to_log)
    log.transaction(start())
    before = len(story(written))
    log.transaction(done("99"), done(run_as=ALICE + 5))
    assert len(story(written)) == before


def test_a_story_is_told_to_all_or_to_nobody() -> None:
    heard: list[str] = []

    def first(live: Live, event: Event, effects: tuple[Effect, ...]) -> None:
        heard.append("first")

    def second(live: Live, event: Event, effects: tuple[Effect, ...]) -> None:
        heard.append("second")

    assert all_of([]) is None
    assert all_of([first]) is first
    both = all_of([first, second])
    assert both is not None
    told_to(both).transaction(start())
    assert heard == ["first", "second"]
