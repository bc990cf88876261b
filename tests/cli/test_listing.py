"""`walflow list`: who sees what, filters, and the three kinds of output."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from engine.cli.instances import Filter, listed
from engine.cli.session import Session
from tests.cli.commands import Shell
from tests.cli.terminal import Terminal
from tests.workflows import World

LABEL = "listing"


@pytest.fixture(scope="module")
def listed_town(town: World) -> World:
    """Instances of both roles in different states."""
    for role, id, graph in (
        ("alice", "list-done", "select 1"),
        ("alice", "list-failed", "select 1/0"),
        ("alice", "list-waits", town.build("select df.wait_for_signal('never')")),
        ("bob", "list-bobs", "select 2"),
    ):
        town.run("insert into df.instances (id, graph, label) values (%s, %s, %s)", [id, graph, LABEL], role)
    for id in ("list-done", "list-failed", "list-bobs"):
        town.end(id)
    town.wait_for("list-waits", "running")
    return town


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_one_sees_ones_own_the_newest_first(listed_town: World, alice: Shell) -> None:
    assert ids(alice.json("list", "--label", LABEL)) == ["list-waits", "list-failed", "list-done"]


def test_a_role_with_the_rights_of_others_sees_theirs(listed_town: World, chief: Shell) -> None:
    rows = chief.json("list", "--label", LABEL)
    assert {(row["id"], row["owner"]) for row in rows} == {
        ("list-waits", "alice"),
        ("list-failed", "alice"),
        ("list-done", "alice"),
        ("list-bobs", "bob"),
    }


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--status", "failed"], ["list-failed"]),
        (["--status", "failed,completed"], ["list-failed", "list-done"]),
        (["-s", "failed", "-s", "running"], ["list-waits", "list-failed"]),
        (["--limit", "1"], ["list-waits"]),
        (["--older-than", "1d"], []),
        (["--newer-than", "1d"], ["list-waits", "list-failed", "list-done"]),
        (["--newer-than", "0"], []),
        (["--quarantined"], []),
        (["--owner", "alice", "--status", "failed"], ["list-failed"]),
        (["--owner", "bob"], []),
        (["--owner", "nobody_at_all"], []),
    ],
)
def test_filters_let_through_what_they_say(
    listed_town: World, alice: Shell, filters: list[str], expected: list[str]
) -> None:
    assert ids(alice.json("list", "--label", LABEL, *filters)) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ["list-bobs"]),
        (["--status", "completed"], ["list-bobs"]),
        (["--status", "failed"], []),
        (["--status", "completed,failed"], ["list-bobs"]),
    ],
)
def test_the_owner_is_a_filter_too(listed_town: World, chief: Shell, filters: list[str], expected: list[str]) -> None:
    assert ids(chief.json("list", "--label", LABEL, "--owner", "bob", *filters)) == expected


def test_pages_are_gone_through_until_enough_of_one_owner_are_found(
    listed_town: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that failed are looked for among all roles': here one at a time."""
    monkeypatch.setattr("engine.cli.instances.PAGE", 1)
    database = listed_town.database
    with Session(database.dsn(f"{database.name}_chief")) as session, session.reading() as asked:
        found = listed(asked, Filter(owner="alice", label=LABEL, statuses=("failed", "running")))
    assert [one.id for one in found] == ["list-waits", "list-failed"]


def test_a_quarantined_one_is_found_by_that(listed_town: World, alice: Shell, chief: Shell) -> None:
    listed_town.run("update df.instances set quarantined = 'not readable' where id = 'list-waits'")
    try:
        assert ids(alice.json("list", "--quarantined")) == ["list-waits"]
        assert ids(chief.json("list", "--quarantined", "--owner", "alice")) == ["list-waits"]
        assert chief.json("list", "--quarantined", "--owner", "bob") == []
        assert "✗ quarantined" in alice.says("list", "--label", LABEL)
    finally:
        listed_town.run("update df.instances set quarantined = null where id = 'list-waits'")


def test_programs_get_iso_times(listed_town: World, alice: Shell) -> None:
    [row] = alice.json("list", "--label", LABEL, "--status", "failed")
    assert row["message"] == "division by zero"
    begun, ended = (datetime.fromisoformat(row[name]) for name in ("created_at", "finished_at"))
    assert begun < ended
    assert begun.utcoffset() is not None


def test_in_a_pipe_there_is_no_colour_and_a_line_an_instance(listed_town: World, alice: Shell) -> None:
    text = alice.says("list", "--label", LABEL)
    assert "\x1b" not in text
    assert [line.split()[1] for line in text.splitlines()[1:]] == ["running", "failed", "completed"]
    assert "  division by zero\n" in text


def test_nothing_to_list_is_said_beside_the_output(listed_town: World, alice: Shell) -> None:
    done = alice("list", "--label", "nothing has this label")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no instances" in done.stderr


def test_on_a_terminal_it_is_coloured_and_times_are_relative(listed_town: World, alice: Shell) -> None:
    with Terminal("list", "--label", LABEL, environment=alice.environment) as terminal:
        assert terminal.end() == 0
        assert "✗ failed" in terminal.text
        assert " ago" in terminal.text or "just now" in terminal.text
        assert b"\x1b[31m" in terminal.raw


def test_on_a_terminal_with_no_color_there_is_none(listed_town: World, alice: Shell) -> None:
    with Terminal("list", "--label", LABEL, environment={**alice.environment, "NO_COLOR": "1"}) as terminal:
        assert terminal.end() == 0
        assert "✗ failed" in terminal.text
        assert b"\x1b[3" not in terminal.raw


def test_a_full_page_says_that_there_may_be_more(listed_town: World, alice: Shell) -> None:
    with Terminal("list", "--limit", "1", environment=alice.environment) as terminal:
        assert terminal.end() == 0
        assert "the newest 1: --limit shows more" in terminal.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--status", "weird"], "there is no status 'weird'"),
        (["--older-than", "soon"], "--older-than: 'soon' is no good: it must be a duration"),
        (["--newer-than", "-3h"], "--newer-than"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_filter_that_is_none_is_refused(alice: Shell, arguments: list[str], said: str) -> None:
    assert said in alice.refused("list", *arguments)
