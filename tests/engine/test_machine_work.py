"""What one row may make begin is bounded: whatever its graph, an instance does not keep the engine from all others."""

from __future__ import annotations

import json

import pytest

from engine import machine
from engine.limits import CHARACTERS_A_NODE, MAP_ITEMS, RESULT_LEVELS, WORK_AT_ONCE
from tests.engine.machinery import (
    Json,
    Run,
    brk,
    catch,
    cell,
    child,
    join,
    loop,
    map_,
    named,
    retry,
    rows,
    run,
    seq,
    sql,
    undo,
)

LITTLE = 100
TEN = "[0,1,2,3,4,5,6,7,8,9]"
AT_ONCE = loop(brk(1))
"""What ends without taking in a row."""


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little may begin at once, so that the tests are quick."""
    monkeypatch.setattr("engine.frames.WORK_AT_ONCE", LITTLE)


def maps(depth: int, inmost: Json = AT_ONCE) -> Json:
    """Maps in maps, over the input."""
    return inmost if depth == 0 else map_("input", maps(depth - 1, inmost))


def too_much(found: Run) -> bool:
    return (
        found.status == "failed" and found.error["code"] == "54000" and "too much would begin" in found.error["message"]
    )


@pytest.mark.usefixtures("little")
def test_maps_in_maps_of_what_ends_at_once_fail_instead_of_going_on_for_ever() -> None:
    assert too_much(run(maps(20), input_=TEN))


def test_a_map_of_as_many_items_as_there_may_be_is_not_too_much() -> None:
    assert 2 * MAP_ITEMS + 1 < WORK_AT_ONCE
    found = run(maps(3), input_=TEN)
    assert found.status == "completed"


@pytest.mark.usefixtures("little")
def test_each_row_may_begin_as_much_as_the_one_before() -> None:
    almost = maps(1, seq(AT_ONCE, AT_ONCE))
    assert too_much(run(seq(*[almost] * 2), input_=TEN))
    found = run(seq(almost, sql(), almost, sql(), almost), input_=TEN)
    while found.open:
        found.done(next(iter(found.open)))
    assert found.status == "completed"


@pytest.mark.usefixtures("little")
def test_completions_that_are_kept_count_as_rows_of_their_own() -> None:
    almost = maps(1, seq(AT_ONCE, AT_ONCE))
    found = Run(seq(almost, sql(), almost, sql(), almost), input_=TEN)
    steps = [str(n.number) for n in found.subject.graph.nodes if n.kind == "SQL"]
    for step in steps:
        found.done(step)
    assert found.start().status == "completed"


@pytest.mark.usefixtures("little")
def test_what_is_owed_is_undone_all_the_same() -> None:
    found = run(seq(undo(sql("do"), seq(AT_ONCE, sql("undo"))), maps(3)), input_=TEN)
    found.done(next(iter(found.open)))
    assert list(found.queries.values()) == ["undo"]
    found.done(next(iter(found.open)))
    assert too_much(found)
    assert "undo" not in found.error


@pytest.mark.usefixtures("little")
def test_an_undo_that_is_too_much_fails() -> None:
    found = run(seq(undo(sql("do"), maps(3)), sql("fails")), input_=TEN)
    found.done(next(iter(found.open)))
    found.fail(next(iter(found.open)))
    assert found.status == "failed"
    assert [failure["code"] for failure in found.error["undo"]] == ["54000"]


@pytest.mark.usefixtures("little")
def test_a_handler_of_too_much_has_no_more_and_another_try_has() -> None:
    assert too_much(run(catch(maps(3), sql("handler")), input_=TEN))
    found = run(retry(maps(3), 2), input_=TEN)
    assert found.status == "running"
    found.fire(next(iter(found.timers)))
    assert too_much(found)


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize(
    "long",
    [
        named(loop(brk("$a + $a")), "b"),
        loop(brk("x" * CHARACTERS_A_NODE * LITTLE)),
        sql("select $a, $a"),
        child(sql(), input="$a"),
        child(sql(), vars={"v": "$a"}),
        child(seq(*[sql()] * (LITTLE // 2))),
        map_("a", sql()),
    ],
)
def test_long_texts_count_as_several_nodes(long: Json) -> None:
    items = [{"n": "y" * (CHARACTERS_A_NODE * LITTLE - 200)}]
    found = run(seq(sql("first", "a"), join(long, seq(*[AT_ONCE] * 4))), input_=TEN)
    found.done(next(iter(found.open)), rows(*items))
    while found.open or found.children:
        step = next(iter({**found.open, **found.children}))
        _ = found.ended(step) if step in found.children else found.done(step, cell(1))
    assert too_much(found)


@pytest.mark.usefixtures("little")
def test_a_shorter_text_does_not() -> None:
    found = run(seq(sql("first", "a"), join(sql("select $a"), seq(*[AT_ONCE] * 4))), input_=TEN)
    found.done(next(iter(found.open)), cell("y"))
    found.done(next(iter(found.open)))
    assert found.status == "completed"
    assert machine.outstanding(found.subject, found.state) == ()


@pytest.mark.usefixtures("little")
def test_what_is_owed_already_counts_when_it_is_looked_through() -> None:
    items = json.dumps([0] * 30)
    found = run(map_("input", undo(AT_ONCE, sql()), parallel=30), input_=items)
    while found.open:
        found.done(next(iter(found.open)))
    assert too_much(found)
    assert run(map_("input", AT_ONCE, parallel=30), input_=items).status == "completed"


@pytest.mark.parametrize("over", [0, 1])
def test_a_result_that_no_server_could_read_fails_the_instance_and_what_it_owes_is_undone(over: int) -> None:
    found = run(seq(undo(sql("do"), sql("undo")), join(sql("deep"))))
    found.done(next(iter(found.open)))
    levels = RESULT_LEVELS - 4 + over  # within an array, an object, its rows, a row
    found.done(next(iter(found.open)), f'{{"rows":[{{"x":{"[" * levels + "]" * levels},"y":"[[{{"}}],"row_count":1}}')
    assert list(found.queries.values()) == ["undo"] * over
    while found.open:
        found.done(next(iter(found.open)))
    assert found.status == ("failed" if over else "completed")
    assert not over or found.error["message"] == f"the result nests deeper than {RESULT_LEVELS} levels"


def test_a_result_may_be_as_wide_as_it_likes() -> None:
    found = run(join(sql("wide")))
    found.done("2", json.dumps({"rows": [{"x": [{}], "y": '"[\\'} for _ in range(RESULT_LEVELS)], "row_count": 1}))
    assert found.status == "completed"
