"""LANGUAGE.md, section 5: what counts as true, for IF and for a loop's condition."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.user import User


def sql(query: str) -> str:
    """A condition that is a query."""
    return f"df.sql($q${query}$q$)"


def value(of: object) -> str:
    """A condition whose result is this JSON value."""
    return f"df.loop(df.break($b${json.dumps(of)}$b$))"


def truths(alice: User, conditions: list[str]) -> list[bool]:
    """What each of these conditions counts as."""
    branches = (f"df.if({condition}, 'select true', 'select false')" for condition in conditions)
    results = alice.result(f"df.join_all({', '.join(branches)})")
    return [next(iter(result["rows"][0].values())) for result in results]


def test_no_rows_are_false(alice: User) -> None:
    """Rows: no rows false."""
    assert truths(alice, [sql("select true where false"), sql("select 1 where false")]) == [False, False]


def test_else_the_first_column_of_the_first_row(alice: User) -> None:
    """Else the first column of the first row."""
    queries = ["values (true, false), (false, false)", "values (false, true), (true, true)"]
    assert truths(alice, [sql(query) for query in queries]) == [True, False]


def test_an_object_with_a_boolean_timed_out_is_its_negation(alice: User) -> None:
    """An object with boolean `timed_out`: its negation."""
    with alice.transaction():
        id = alice.start("df.if(df.wait_for_signal('go', 60), 'select true', 'select false')")
        alice.run("select df.signal(%s, 'go')", [id])
    assert truths(alice, ["df.wait_for_signal('never', 0.01)"]) == [False]
    assert alice.end(id).result["rows"] == [{"?column?": True}]
    assert truths(alice, [value({"timed_out": False}), value({"timed_out": "no", "a": 1})]) == [True, True]


def test_an_object_with_a_boolean_ok_is_that(alice: User) -> None:
    """An object with boolean `ok`: that."""
    assert truths(alice, [value({"ok": True}), value({"ok": False}), value({"ok": "no"})]) == [True, False, True]


def test_otherwise_the_whole_json_value(alice: User) -> None:
    """Otherwise the whole JSON value."""
    join = "df.join('select false', 'select false')"
    assert truths(alice, [join, "df.sleep(0)", value(0), value([0]), value(False)]) == [True, True, False, True, False]


def both(alice: User, expected: list[tuple[Any, bool]]) -> None:
    """Checks values, as JSON and as columns of a query, whose type is text for strings and jsonb for all others."""
    values = [given for given, _ in expected]
    queries = (
        f"select $v${given}$v$::text" if isinstance(given, str) else f"select $v${json.dumps(given)}$v$::jsonb"
        for given in values
    )
    assert truths(alice, [value(given) for given in values]) == [truth for _, truth in expected]
    assert truths(alice, [sql(query) for query in queries]) == [truth for _, truth in expected]


def test_a_boolean_is_itself(alice: User) -> None:
    """Boolean."""
    both(alice, [(True, True), (False, False)])
    assert truths(alice, [sql("select true"), sql("select false")]) == [True, False]


def test_a_number_is_true_unless_it_is_0(alice: User) -> None:
    """Number ≠ 0."""
    both(alice, [(1, True), (-0.5, True), (1e-300, True), (0, False), (0.0, False), (-0.0, False)])
    assert truths(alice, [sql("select 0.00"), sql("select 0::real"), sql("select count(*)")]) == [False, False, True]


def test_some_strings_are_false_trimmed_and_whatever_their_case(alice: User) -> None:
    """String (trimmed, case-insensitive) `''`, `false`, `f`, `no`, `n`, `off` false."""
    both(alice, [(word, False) for word in ("", " ", "false", "f", "no", "n", "off", "FALSE", " No\n", "oFF")])


def test_numeric_strings_are_true_unless_they_are_0(alice: User) -> None:
    """Numeric strings ≠ 0."""
    both(alice, [("1", True), ("-0.5", True), (" 1e3 ", True), ("0", False), ("0.00", False), ("-0", False)])


def test_other_strings_are_true(alice: User) -> None:
    """Else true."""
    both(alice, [(word, True) for word in ("true", "yes", "nope", "0x0", "null", "none", "-", "[]")])


def test_arrays_and_objects_are_true_unless_they_are_empty(alice: User) -> None:
    """Arrays and objects non-empty."""
    both(alice, [([0], True), ({"a": 0}, True), ([], False), ({}, False)])


def test_null_is_false(alice: User) -> None:
    """Null false."""
    assert truths(alice, [sql("select null"), sql("select 'null'::json"), value(None)]) == [False, False, False]
