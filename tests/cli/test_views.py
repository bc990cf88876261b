"""Rows to pictures, without a server and without a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from engine.cli import views
from engine.cli.instances import Details, Event, Listed, Waiting
from engine.cli.output import Raw

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
PEOPLE = views.Style(me="alice")
PLAIN = views.Style(plain=True, me="alice")
LISTED = Listed(
    id="order-1001",
    owner="alice",
    label="order",
    status="running",
    quarantined=None,
    created_at=NOW - timedelta(minutes=3),
    started_at=NOW - timedelta(minutes=3),
    finished_at=None,
    message=None,
    now=NOW,
)
DETAILS = Details(
    id="order-1001",
    owner="alice",
    label="order",
    status="running",
    quarantined=None,
    created_at=NOW - timedelta(minutes=3),
    started_at=NOW - timedelta(minutes=3),
    finished_at=None,
    updated_at=NOW,
    executions=1,
    parent_id=None,
    logged_in_as=None,
    input=Raw('{"cents":1.10}'),
    result=None,
    error=None,
    message=None,
    tree="✓ SQL: select 1\n⏳ IF\n  ? condition:\n    ✓ SIGNAL 'paid' (60s)\n  ✗ else:\n    ⊘ SQL: select 2",
    now=NOW,
)
EVENT = Event(
    number=1,
    at=NOW,
    event="step",
    node_id=2,
    node_type="SQL",
    step="2",
    attempt=1,
    repetitions=0,
    query="select 1",
    outcome="completed",
    result=Raw('{"rows":[{"n":1.10}],"row_count":1}'),
    error=None,
    message=None,
    started_at=NOW,
    duration_ms=12.3,
    who=None,
    note=None,
    begun_at=NOW,
)
STARTED = replace(
    EVENT, event="started", step=None, query=None, outcome=None, result=None, duration_ms=None, who="alice"
)


def drawn(picture: RenderableType, width: int = 80, *, colour: bool = False) -> str:
    """The picture as text; on a terminal of this width."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=True, color_system="standard" if colour else None, highlight=False
    )
    console.print(picture)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def widest(text: str) -> int:
    return max(cell_len(line) for line in text.splitlines())


# -- list -------------------------------------------------------------------------------------------------------------


def test_a_list_fits_80_columns_whatever_the_names() -> None:
    rows = [
        replace(LISTED, id="x" * 200, label="label " * 30, owner="b" * 63),
        replace(LISTED, message="m" * 999, status="failed"),
    ]
    text = drawn(views.listing(rows, PEOPLE))
    assert widest(text) <= 80
    assert "x" * 200 in text.replace("\n", "").replace(" ", "")  # ids are whole: they are to be copied


def test_a_list_says_how_long_and_what_went_wrong_and_whose_it_is() -> None:
    failed = replace(LISTED, status="failed", finished_at=NOW, message="division\nby zero", owner="bob")
    text = drawn(views.listing([LISTED, failed], PEOPLE))
    assert "⏳ running  3m ago   3m 00s  order-1001  order\n" in text
    assert "order-1001  order  of bob\n" in text
    assert "division by zero" in text


def test_what_is_quarantined_says_so_instead_of_a_status() -> None:
    text = drawn(views.listing([replace(LISTED, quarantined="not readable")], PEOPLE))
    assert "✗ quarantined" in text
    assert "not readable" in text
    assert "running" not in text


def test_a_plain_list_has_iso_times_and_a_line_an_instance() -> None:
    failed = replace(LISTED, status="failed", message="m" * 500)
    text = drawn(views.listing([failed], PLAIN), width=2000)
    assert len(text.splitlines()) == 2
    assert "2026-11-21T11:57:00Z" in text
    assert "m" * 500 in text


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "a\rb", "bell\x07", "\x9b31mred"])
def test_what_users_wrote_does_not_steer_the_terminal(text: str) -> None:
    row = replace(LISTED, label=text, status="failed", message=text)
    details = replace(DETAILS, label=text, quarantined=text)
    event = replace(EVENT, query=text, note=text)
    for picture in (views.listing([row], PEOPLE), views.shown(details, [], PEOPLE), views.told([event], PEOPLE)):
        shown = drawn(picture)
        assert not set("\x1b\r\x07\x9b") & set(shown)


# -- show -------------------------------------------------------------------------------------------------------------


def test_an_instance_is_shown_with_what_it_waits_for() -> None:
    wait = Waiting(
        step="4", what="SIGNAL 'paid' (60s)", state="waiting", due_in_seconds=42.4, child=None, instance=None
    )
    text = drawn(views.shown(DETAILS, [wait], PEOPLE))
    assert "status     ⏳ running for 3m 00s" in text
    assert "waits for  SIGNAL 'paid' (60s)  due in 42s" in text
    assert 'input      {"cents":1.10}' in text
    assert "owner" not in text
    assert widest(text) <= 80


def test_an_error_is_told_in_words_to_people_and_whole_in_a_file() -> None:
    failed = replace(DETAILS, status="failed", error=Raw('{"message":"no\\nroom","code":"53100","step":"2.1"}'))
    assert "error     no room (53100), at step 2.1" in drawn(views.shown(failed, [], PEOPLE))
    assert '{"message":"no\\nroom"' in drawn(views.shown(failed, [], PLAIN), width=400)


def test_a_long_tree_is_cut_around_what_runs() -> None:
    lines = [f"✓ SQL: {n}" for n in range(500)] + ["⏳ SQL: here"] + [f"○ SQL: {n}" for n in range(500)]
    text = drawn(views.shown(replace(DETAILS, tree="\n".join(lines)), [], PEOPLE, height=23))
    assert "⏳ SQL: here" in text
    assert len(text.splitlines()) <= 23
    assert "lines above" in text
    assert "lines below" in text


def test_a_picture_for_a_terminal_never_has_more_lines_than_that() -> None:
    waits = [Waiting(step="1", what="x" * 300, state="waiting", due_in_seconds=None, child=None, instance=None)] * 10
    long = replace(DETAILS, input=Raw("1" * 5_000), label="l" * 900, tree="\n".join("○ SQL: x" for _ in range(100)))
    for height in (8, 12, 23):
        assert len(drawn(views.shown(long, waits, PEOPLE, height=height)).splitlines()) <= height


def test_a_tree_in_a_file_is_whole() -> None:
    long = replace(DETAILS, tree="\n".join(f"○ SQL: {n}" for n in range(500)))
    assert drawn(views.shown(long, [], PLAIN), width=400).count("○ SQL") == 500


def test_marks_of_nodes_are_coloured_and_headers_are_not_taken_for_them() -> None:
    coloured = drawn(views.whole_tree(DETAILS.tree), colour=True)
    assert "\x1b[32m✓\x1b[0m SQL: select 1" in coloured
    assert "\x1b[31m✗" not in coloured  # "✗ else:" is no failure


def test_no_colour_where_there_is_none() -> None:
    assert "\x1b" not in drawn(views.shown(DETAILS, [], PEOPLE))


# -- history ----------------------------------------------------------------------------------------------------------


def test_a_history_counts_from_the_start() -> None:
    step = replace(EVENT, at=NOW + timedelta(seconds=2.5), attempt=2)
    text = drawn(views.told([STARTED, step], PEOPLE))
    assert text.splitlines()[1].split() == ["+0ms", "started", "by", "alice"]
    assert text.splitlines()[2].split()[:5] == ["+2.5s", "✓", "step", "2", "#2"]
    assert "12ms" in text
    assert 'select 1 → {"n": 1.10}' in text


def test_a_plain_history_is_whole() -> None:
    text = drawn(views.told([replace(EVENT, query="select " + "1, " * 400)], PLAIN), width=5_000)
    assert len(text.splitlines()) == 2
    assert text.count("1,") == 400
    assert "2026-11-21T12:00:00Z" in text


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ('{"rows":[{"a":1}],"row_count":1}', '{"a": 1}'),
        ('{"rows":[{"a":1},{"a":2}],"row_count":2}', '[{"a": 1}, {"a": 2}]'),
        ('{"rows":[],"row_count":0}', "no rows"),
        ('{"rows":[],"row_count":0,"affected":3}', "3 rows affected"),
        ('{"slept":true}', '{"slept":true}'),
        ("[" * 3_000 + "]" * 3_000, "[" * 3_000 + "]" * 3_000),
        ("17", "17"),
    ],
)
def test_of_a_result_people_see_the_rows(result: str, said: str) -> None:
    assert views.rows_alone(result) == said


def test_texts_are_cut_by_the_width_of_what_is_seen() -> None:
    assert views.shortened("漢" * 50, 20) == "漢" * 9 + "…"
    assert views.shortened("a\n b", 20) == "a b"
    assert cell_len(views.shortened("x" * 99, 20)) == 20
