"""States as text: whatever a machine can be in comes back the same, and what cannot be read is said to be so."""

from __future__ import annotations

import json

import pytest

from engine.codec import VERSION, CodecError, Stored, encode
from engine.limits import INLINE_VALUE_CHARACTERS
from engine.machine import NEW, State
from tests.engine.machinery import Run, brk, cell, join, loop, named, node, race, run, seq, sleep, sql, wait

LONG = cell("x" * INLINE_VALUE_CHARACTERS)


def written(begun: Run) -> str:
    return encode(begun.uninterrupted, begun.subject.scope)


def read(text: str, begun: Run, **results: str) -> State:
    return Stored(VERSION, text).state(begun.subject.scope, results)


def everything() -> Run:
    """An instance with a frame of every kind, a failed and a broken branch, draining, stash, signals and waits."""
    broken = seq(sql("b"), brk({"k": 1}))
    inner = loop(join(sql("f"), broken, join(sql("d"), wait("s", 5)), race(sleep(9), wait("t"))), every=3)
    begun = run(join(seq(sql("x", "x"), sql("y")), inner, race(sql("l"), seq(sql("w"), sleep(8))), sql("fails")))
    begun.done("3", LONG).fail("7.1", "boom").done("9.1").done("18").fail("22").signal("u", '{"ü":1}')
    return begun.completed("7.2", "completed", "[1]", None)


def test_a_new_instance_comes_back() -> None:
    begun = Run("select 1")
    assert read(encode(NEW, begun.subject.scope), begun) == NEW


def test_everything_that_a_state_can_hold_comes_back() -> None:
    begun = everything()
    again = read(written(begun), begun, **{"3": LONG})
    assert again == begun.uninterrupted
    assert encode(again, begun.subject.scope) == written(begun)
    assert again.waits == begun.uninterrupted.waits
    assert list(again.draining) == [("20", 1)]
    assert list(again.stash) == [("7.2", 1)]
    assert next(iter(again.signals)).data == '{"ü":1}'


def test_an_ending_instance_comes_back_with_how_it_will_end() -> None:
    begun = run(sql("a")).cancel('ünicode "reason" \\ \x07')
    again = read(written(begun), begun)
    assert again.ending == begun.uninterrupted.ending
    assert not again.finished


def test_a_cancellation_before_the_start_comes_back() -> None:
    begun = Run("select 1").cancel("why")
    assert read(written(begun), begun).cancelled == "why"


def test_a_finished_state_comes_back_finished() -> None:
    begun = run("select 1").done("1", "1")
    assert read(written(begun), begun).finished


def test_a_long_result_is_written_as_the_step_that_has_it() -> None:
    begun = run(seq(sql("a", "x"), sql("b"))).done("2", LONG)
    stored = Stored(VERSION, written(begun))
    assert stored.references == {"2"}
    assert "xxxx" not in written(begun)
    assert stored.state(begun.subject.scope, {"2": LONG}) == begun.uninterrupted


def test_a_long_result_is_written_that_way_again_after_it_was_read() -> None:
    begun = run(seq(sql("a", "x"), seq(sql("b"), sql("c")))).done("2", LONG)
    again = read(written(begun), begun, **{"2": LONG})
    assert Stored(VERSION, encode(again, begun.subject.scope)).references == {"2"}


def test_a_short_result_is_written_out() -> None:
    begun = run(seq(sql("a", "x"), sql("b"))).done("2", cell("short"))
    assert Stored(VERSION, written(begun)).references == frozenset()


def test_a_result_that_no_completion_holds_is_written_out_however_long() -> None:
    begun = run(seq(wait("s", name="x"), sql("b"))).signal("s", LONG)
    assert Stored(VERSION, written(begun)).references == frozenset()


def test_of_a_signal_whose_data_is_long_only_the_row_is_named() -> None:
    begun = run(seq(sql("a"), wait("s"))).signal("s", LONG).signal("s", '"short"')
    long, short = begun.uninterrupted.signals
    stored = Stored(VERSION, written(begun))
    assert stored.signals == {long.event_id}
    assert "xxxx" not in written(begun)
    assert "short" in written(begun)
    again = stored.state(begun.subject.scope, {long.event_id: LONG})
    assert list(again.signals) == [long, short]
    assert encode(again, begun.subject.scope) == written(begun)
    with pytest.raises(CodecError, match=f"signals are missing that the state refers to: {long.event_id}"):
        stored.state(begun.subject.scope, {})


def test_long_data_of_signals_that_is_written_out_is_read_all_the_same() -> None:
    begun = run(seq(sql("a"), wait("s"))).signal("s", LONG)
    (long,) = begun.uninterrupted.signals
    body = json.loads(written(begun))
    body["state"][5] = [[long.event_id, long.at_us, long.name, LONG]]
    stored = Stored(VERSION, json.dumps(body))
    assert stored.signals == frozenset()
    assert stored.state(begun.subject.scope, {}) == begun.uninterrupted


def test_a_long_result_that_is_kept_for_later_is_written_as_its_step() -> None:
    begun = run(seq(sql("a"), sql("b", "x"))).done("3", LONG)
    assert list(begun.uninterrupted.stash) == [("3", 1)]
    assert Stored(VERSION, written(begun)).references == {"3"}
    assert "xxxx" not in written(begun)
    assert read(written(begun), begun, **{"3": LONG}) == begun.uninterrupted
    body = json.loads(written(begun))
    body["state"][8][0][6] = LONG
    assert read(json.dumps(body), begun) == begun.uninterrupted


def test_a_long_result_of_the_engine_itself_is_written_out() -> None:
    """Results that a state refers to are the submitter's."""
    begun = run(seq(sql("a"), sleep(5))).completed("3", "completed", LONG, None, run_as=0)
    assert list(begun.uninterrupted.stash) == [("3", 1)]
    assert Stored(VERSION, written(begun)).references == frozenset()


def test_a_result_named_twice_is_one_reference() -> None:
    begun = run(seq(named(seq(sql("a", "x"), sql("b", "y")), "z"), sql("c"))).done("3", LONG).done("4", LONG)
    assert Stored(VERSION, written(begun)).references == {"3", "4"}


def test_a_result_named_r_is_no_reference() -> None:
    begun = run(seq(sql("a", "r"), sql("b"))).done("2", cell("short"))
    assert Stored(VERSION, written(begun)).references == frozenset()
    begun = run(seq(sql("a", "r"), sql("b"))).done("2", LONG)
    assert Stored(VERSION, written(begun)).references == {"2"}


def test_the_base_scope_is_not_written() -> None:
    begun = run(sql("a"), input_=json.dumps("the input"))
    assert "the input" not in written(begun)
    assert read(written(begun), begun).root == begun.uninterrupted.root


def test_a_scope_that_many_frames_share_is_written_once_and_shared_again() -> None:
    begun = run(seq(sql("a", "x"), join(*(sql("b") for _ in range(50))))).done("2", cell("only once"))
    text = written(begun)
    assert text.count("only once") == 1
    again = read(text, begun)
    branches = again.root.inner.branches  # type: ignore[union-attr]
    assert len({id(branch.names.parent) for branch in branches}) == 1


def test_a_state_with_thousands_of_branches_is_written_and_read() -> None:
    begun = Run(join(*(node("SLEEP", query="5") for _ in range(3_000))))
    begun.start()
    assert len(begun.timers) == 3_000


def test_missing_completions_are_named() -> None:
    begun = run(seq(sql("a", "x"), sql("b"))).done("2", LONG)
    with pytest.raises(CodecError, match="completions are missing that the state refers to: 2"):
        read(written(begun), begun)


@pytest.mark.parametrize("version", [0, VERSION + 1, -1])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(CodecError, match=f"state of version {version}; this engine reads {VERSION}"):
        Stored(version, "{}")


STATE = "[1,2,3,null,null,[],[],[],[],null]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        '"text"',
        "{}",
        '{"scopes":[]}',
        f'{{"state":{STATE}}}',
        f'{{"scopes":null,"state":{STATE}}}',
        f'{{"scopes":[1],"state":{STATE}}}',
        f'{{"scopes":[[7,{{}}]],"state":{STATE}}}',
        f'{{"scopes":[[0,[]]],"state":{STATE}}}',
        f'{{"scopes":[[0,{{"x":5}}]],"state":{STATE}}}',
        '{"scopes":[],"state":[]}',
        '{"scopes":[],"state":{}}',
        '{"scopes":[],"state":[1,2,3,"root",null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,[],null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,{},null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,{"f":["nothing",1]},null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,{"f":["sql",1]},null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,{"f":7},null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,{"q":7},null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,{"n":0},null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,{"f":["sql",1,[],{"n":4},"e"]},null,[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,null,["completed"],[],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,null,null,[5],[],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,null,null,[],[["s"]],[],[],null]}',
        '{"scopes":[],"state":[1,2,3,null,null,[],[],7,[],null]}',
        '{"scopes":[],"state":[1,2,3,null,null,[],[],[],["c"],null]}',
        "[" * 200_000,
        '{"scopes":[],"state":[1,2,3,'
        + '{"f":["then",1,[],2,' * 30_000
        + "null"
        + "]}" * 30_000
        + ",null,[],[],[],[],null]}",
    ],
)
def test_garbage_is_refused_and_nothing_else_is_raised(text: str) -> None:
    begun = Run("select 1")
    with pytest.raises(CodecError):
        Stored(VERSION, text).state(begun.subject.scope, {})


def test_the_order_of_waits_survives() -> None:
    begun = run(join(seq(sql("a"), wait("s")), wait("s"))).done("3").signal("s", "1")
    assert begun.signal("s", "2").result == [
        {"signal_name": "s", "timed_out": False, "data": 2},
        {"signal_name": "s", "timed_out": False, "data": 1},
    ]


def test_the_order_of_kept_completions_survives() -> None:
    begun = run(seq(sql("a"), race(sql("b"), sql("c")))).done("5", "2").done("4", "1").done("2")
    assert begun.result == 2
