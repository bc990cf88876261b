"""Truth: what LANGUAGE.md section 5 says, clause by clause."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.jsontext import JsonError
from engine.truth import has_rows, is_true

DEEP = "[" * 20_000 + "]" * 20_000


def rows(*values: str) -> str:
    """A query's result with one column, of JSON texts."""
    return '{"rows":[' + ",".join(f'{{"c":{value}}}' for value in values) + f'],"row_count":{len(values)}}}'


@pytest.mark.parametrize(
    "result",
    [
        '{"rows":[],"row_count":0}',
        '{"rows":[],"row_count":0,"columns":["a"]}',
        '{"rows":[],"row_count":0,"affected":5}',
    ],
)
def test_no_rows_are_false(result: str) -> None:
    assert not is_true(result)


def test_rows_ask_the_first_column_of_the_first_row() -> None:
    assert is_true('{"rows":[{"a":true,"b":false},{"a":false}],"row_count":2}')
    assert not is_true('{"rows":[{"a":false,"b":true},{"a":true}],"row_count":2}')
    assert not is_true('{"rows":[{"a":false,"a":true}],"row_count":1}')


def test_a_row_without_columns_is_false() -> None:
    assert not is_true('{"rows":[{}],"row_count":1}')


def test_members_before_the_rows_and_white_space_change_nothing() -> None:
    assert is_true(' { "row_count" : 1 , "rows" : [ { "a" : 1 } ] } ')
    assert not is_true(' { "row_count" : 0 , "rows" : [ ] } ')


def test_a_wait_that_timed_out_is_false_and_one_that_did_not_is_true() -> None:
    assert is_true('{"signal_name":"a","timed_out":false,"data":null}')
    assert not is_true('{"signal_name":"a","timed_out":true,"data":{"x":1}}')


def test_a_response_is_as_true_as_it_is_ok() -> None:
    assert is_true('{"status":200,"ok":true}')
    assert not is_true('{"status":404,"ok":false}')


def test_timed_out_is_asked_before_ok() -> None:
    assert is_true('{"ok":false,"timed_out":false}')
    assert not is_true('{"ok":true,"timed_out":true}')


@pytest.mark.parametrize(
    "result", ['{"timed_out":"true"}', '{"ok":0}', '{"ok":null}', '{"rows":0}', '{"rows":[false]}']
)
def test_such_members_of_another_type_are_like_any_other_object(result: str) -> None:
    assert is_true(result)


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        ("true", True), ("false", False), ("null", False),
        ("1", True), ("-1", True), ("0.001", True), ("1e-400", True), ("1e400", True),
        ("0", False), ("-0", False), ("0.0", False), ("0e5", False), ("-0.00E-3", False),
        ("[]", False), ("{}", False), (" [ ] ", False), ("[0]", True), ("[[]]", True), ('{"a":null}', True),
        pytest.param(DEEP, True, id="deep"),
        ('""', False), ('"  "', False), ('"false"', False), ('"FALSE"', False), ('" f "', False), ('"no"', False),
        ('"N"', False), ('"Off"', False), ('"0"', False), ('"0.0"', False), ('"-0"', False), ('".0"', False),
        ('"0e9"', False),
        ('"\\n\\t"', False), ('"\\u0046"', False),
        ('"true"', True), ('"t"', True), ('"yes"', True), ('"on"', True), ('"1"', True), ('"0.1"', True),
        ('"1e-999"', True),
        ('"NaN"', True), ('"-Infinity"', True), ('"nope"', True), ('"0x0"', True), ('"null"', True), ('"[]"', True),
    ],
)  # fmt: skip
def test_values_are_true_as_the_language_says(value: str, truth: bool) -> None:
    assert is_true(value) is truth
    assert is_true(rows(value)) is truth


def test_an_object_in_a_column_is_only_asked_whether_it_is_empty() -> None:
    assert is_true(rows('{"timed_out":true}'))
    assert is_true(rows('{"rows":[]}'))


def test_if_rows_asks_whether_there_is_a_row() -> None:
    assert has_rows(rows("false"))
    assert has_rows('{"rows":[{}],"row_count":1}')
    for other in ('{"rows":[],"row_count":0}', '{"rows":[1]}', '{"rows":{}}', "[]", "null", "5", '"rows"', "[[]]"):
        assert not has_rows(other)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["rows", "ok", "timed_out", "c"]), inner),
    )
)
def test_every_json_value_is_true_or_false(value: object) -> None:  # fmt: skip
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert is_true(text) in (True, False)
        assert has_rows(text) in (True, False)


@pytest.mark.parametrize("text", ["", " ", "nope", "{", '{"rows":[', '{"rows":[{', '{"a" 1}', '"', "1 2", '{"ok":}'])
def test_what_is_not_json_raises_a_typed_error(text: str) -> None:
    with pytest.raises(JsonError):
        is_true(text)
