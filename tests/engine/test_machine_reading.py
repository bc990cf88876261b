"""What the texts of one row read is counted, and read once: no role's results keep the engine from all others."""

from __future__ import annotations

import json

import pytest

from engine import jsontext, machine, substitution
from engine.errors import Failure, beside
from engine.events import Started
from engine.frames import Scope
from engine.limits import CHARACTERS_A_NODE, INSTANCE_ID_BYTES, SIGNAL_NAME_BYTES, UNDO_FAILURES
from tests.engine.machinery import (
    Json,
    Run,
    await_,
    brk,
    catch,
    if_,
    if_rows,
    join,
    loop,
    race,
    run,
    sql,
    undo,
    wait,
)
from tests.engine.test_machine_work import LITTLE, too_much

WIDE = json.dumps({f"k{n}": n for n in range(1_000)})
"""A wide object without rows."""
AT_ONCE = loop(brk(1))


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.frames.WORK_AT_ONCE", LITTLE)


def values_read(monkeypatch: pytest.MonkeyPatch, begun: Run) -> int:
    """How many values of JSON are gone over while the instance starts."""
    read = 0
    value_at = jsontext.value_at

    def counting(text: str, position: int) -> object:
        nonlocal read
        read += 1
        return value_at(text, position)

    monkeypatch.setattr(jsontext, "value_at", counting)
    monkeypatch.setattr(substitution, "value_at", counting)
    machine.fold(begun.subject, begun.state, Started("start", 1))
    return read


@pytest.mark.parametrize("text", ["select $input.missing?", "select $input.k999", "select '$input.missing?'"])
def test_many_statements_look_through_a_wide_object_once(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    once = values_read(monkeypatch, Run(join(sql(text)), input_=WIDE))
    often = values_read(monkeypatch, Run(join(*[sql(text)] * 200), input_=WIDE))
    assert once >= 2_000
    assert often <= once + 200


def test_questions_about_rows_look_through_a_wide_object_once(monkeypatch: pytest.MonkeyPatch) -> None:
    once = values_read(monkeypatch, Run(if_rows("input", sql("a"), sql("b")), input_=WIDE))
    often = values_read(monkeypatch, Run(join(*[if_rows("input", sql("a"), sql("b"))] * 200), input_=WIDE))
    assert once >= 2_000
    assert often <= once + 200


BIG = CHARACTERS_A_NODE * LITTLE
TEXT = json.dumps({"text": "x" * BIG, "bad": "\0" * BIG})


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize(
    "reads",
    [
        sql("select $input.missing?"),
        if_rows("input", sql(), sql()),
        catch(sql("select $input.bad"), AT_ONCE),
        catch(wait("$input.text"), AT_ONCE),
        catch(await_("$input.text"), AT_ONCE),
        if_(loop(brk("$input")), sql(), sql()),
    ],
)
def test_what_is_read_counts_also_where_nothing_comes_of_it(reads: Json) -> None:
    found = run(join(reads, AT_ONCE), input_=TEXT)
    for step in list(found.open):
        found.done(step)
    assert too_much(found)


@pytest.mark.usefixtures("little")
def test_what_was_read_before_does_not_count_again() -> None:
    found = run(join(*[sql("select $input.missing?")] * 20), input_=json.dumps({"text": "x" * (BIG // 4)}))
    assert found.status == "running"
    assert len(found.open) == 20


# --- names and ids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits", "message"),
    [
        (wait("$input"), f"df.wait_for_signal: the signal's name is longer than {SIGNAL_NAME_BYTES} bytes"),
        (await_("$input"), f"df.await_instance: the instance's id is longer than {INSTANCE_ID_BYTES} bytes"),
    ],
)
def test_a_name_that_nothing_can_have_is_refused(waits: Json, message: str) -> None:
    longest = SIGNAL_NAME_BYTES if waits["node_type"] == "SIGNAL" else INSTANCE_ID_BYTES
    found = run(waits, input_=json.dumps("é" * (longest // 2) + "x"))
    assert (found.status, found.error["code"], found.error["message"]) == ("failed", "22023", message)
    assert run(waits, input_=json.dumps("é" * (longest // 2))).status == "running"


# --- undo steps that failed -------------------------------------------------------------------------------------------


def failed(number: int, **more: object) -> Failure:
    return Failure(f"undo {number}", "P0001", number, str(number), more=more)


def test_an_error_tells_of_some_undo_steps_that_failed_and_counts_the_others() -> None:
    error = beside(failed(0), [failed(n) for n in range(1, 1_000)])
    assert [told["message"] for told in error.more["undo"]] == [f"undo {n}" for n in range(1, UNDO_FAILURES + 1)]
    assert error.more["undo_left_out"] == 999 - UNDO_FAILURES
    again = beside(error, [failed(n) for n in range(5)])
    assert again.more["undo"] == error.more["undo"]
    assert again.more["undo_left_out"] == 1_004 - UNDO_FAILURES


def test_what_failed_within_an_undo_is_told_beside_it() -> None:
    within = beside(failed(1), [failed(n) for n in range(2, 2 + UNDO_FAILURES + 3)])
    error = beside(failed(0), [within, within])
    assert [told["message"] for told in error.more["undo"][:3]] == ["undo 1", "undo 2", "undo 3"]
    assert not any("undo" in told for told in error.more["undo"])
    assert len(error.more["undo"]) + error.more["undo_left_out"] == 2 * (1 + UNDO_FAILURES + 3)


def test_an_error_without_undo_has_neither() -> None:
    assert beside(failed(0), []) == failed(0)


# --- thousands of branches --------------------------------------------------------------------------------------------


def test_each_of_many_losers_that_owe_an_undo_is_looked_at_when_its_own_step_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0
    is_quiet = machine._is_quiet

    def counting(work: machine._Work, scope: Scope) -> bool:
        nonlocal asked
        asked += 1
        return is_quiet(work, scope)

    begun = run(race(*[undo(sql("do"), sql("undo"))] * 50))
    first, *losers = list(begun.open)
    begun.done(first)
    monkeypatch.setattr(machine, "_is_quiet", counting)
    for loser in losers:
        asked = 0
        begun.stopped(loser)
        assert asked <= 4, (
            "the state that crashed each time and the one that never did, the branch and what is around it"
        )
    assert begun.status == "completed"
