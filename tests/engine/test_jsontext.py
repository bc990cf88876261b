"""JSON as text: nothing is lost, nothing is too deep without a typed error."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.jsontext import (
    JsonError,
    JsonObject,
    JsonTooDeep,
    Nested,
    Number,
    TreeObject,
    dumps_string,
    elements_at,
    members,
    members_at,
    parse,
    read_tree,
    storable,
    unstorable,
    value_at,
)

DEEP = "[" * 100_000 + "]" * 100_000

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)


def test_numbers_keep_their_spelling() -> None:
    for text in ("1.50", "1e400", "-0", "0.10E-05", "123456789012345678901234567890"):
        for number in (parse(text), read_tree(text), value_at(text, 0)[0]):
            assert type(number) is Number
            assert str(number) == text


def test_objects_keep_the_order_of_their_keys_and_every_double() -> None:
    value = parse('{"b":1,"a":2,"b":3}')
    assert isinstance(value, JsonObject)
    assert [key for key, _ in value] == ["b", "a", "b"]
    assert value.first("b") == (Number("1"),)
    assert value.first("c") is None
    assert parse('{"n":null}') == JsonObject([("n", None)])


def test_depth_is_a_typed_error_and_no_recursion_error() -> None:
    for text in (DEEP, DEEP[:100_000], '{"a":' * 100_000):
        with pytest.raises(JsonTooDeep):
            parse(text)


def test_depth_is_a_typed_error_also_where_recursion_may_go_deep() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        with pytest.raises(JsonTooDeep):
            parse('{"a":[' * 50_000)
    finally:
        sys.setrecursionlimit(before)


def test_the_tree_reader_takes_any_depth() -> None:
    tree = read_tree(DEEP)
    depth = 0
    while tree:
        assert isinstance(tree, list)
        tree = tree[0]
        depth += 1
    assert depth == 99_999


NOT_JSON = [
    "", " ", "nul", "nulll", "truefalse", "01", "1.", ".5", "+1", "-", "1e", "NaN", "Infinity", "-Infinity", "'a'", '"',
    '"\\"', '"\\x"', '"\\u12"', '"\n"', "[", "]", "[1", "[1,]", "[,1]", "[1 2]", "[1]]", "{", "}", '{"a"}', '{"a":}',
    '{"a":1,}', '{a:1}', '{"a":1 "b":2}', '{"a":1}}', '{"a":[}]', '{"a"::1}', "1 2", "\ufeff1", "\x0c1", "/**/1",
    '["a":1]', '{"a","b"}',
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_JSON)
def test_both_readers_refuse_what_is_not_json(text: str) -> None:
    with pytest.raises(JsonError):
        parse(text)
    with pytest.raises(JsonError):
        read_tree(text)


def test_the_error_says_where_json_ends() -> None:
    with pytest.raises(JsonError) as caught:
        read_tree('{"a": 1} ~> x')
    assert caught.value.position == 9


def plain(value: object) -> object:
    """What json.loads gives for the same text."""
    if isinstance(value, JsonObject):
        return {key: plain(inner) for key, inner in value}
    if isinstance(value, TreeObject):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return json.loads(value) if type(value) is Number else value


@given(json_values, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_all_readers_read_the_same(value: object, ascii_only: bool, indent: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert plain(parse(text)) == plain(read_tree(text)) == value
    scalar, end = value_at(text, 0)
    assert end == len(text)
    assert scalar == text if type(scalar) is Nested else plain(scalar) == value


@given(st.lists(st.tuples(st.text(max_size=3), json_values), max_size=5), st.sampled_from(["", " ", "\n\t"]))
def test_the_members_of_an_object_are_its_keys_and_the_exact_texts_of_its_values(
    pairs: list[tuple[str, Any]], white: str
) -> None:
    expected = [(key, json.dumps(value)) for key, value in pairs]
    inside = f"{white},{white}".join(f"{json.dumps(key)}{white}:{white}{text}" for key, text in expected)
    text = f"{white}{{{white}{inside}{white}}}{white}"
    assert members(text) == expected
    found = [(key, *value_at(text, at)) for key, at in members_at(text, len(white))]
    assert [key for key, _, _ in found] == [key for key, _ in expected]
    assert [text[:end].endswith(body) for (_, _, end), (_, body) in zip(found, expected, strict=True)] == [True] * len(
        found
    )


@given(st.lists(json_values, max_size=5))
def test_the_elements_of_an_array_are_found_where_they_begin(values: list[object]) -> None:
    text = json.dumps(values)
    found = [value_at(text, at) for at in elements_at(text, 0)]
    assert [json.loads(text[:end][-len(json.dumps(v)) :]) for (_, end), v in zip(found, values, strict=True)] == values


def test_a_value_too_deep_to_be_parsed_is_text_like_any_other() -> None:
    text = f'{{"a":{DEEP},"b":5}}'
    found = {key: value_at(text, at)[0] for key, at in members_at(text, 0)}
    assert found == {"a": DEEP, "b": "5"}
    assert type(found["a"]) is Nested


def test_members_are_read_no_further_than_asked() -> None:
    assert next(members_at('{"a":1,nonsense', 0)) == ("a", 5)
    assert next(elements_at("[1,nonsense", 0)) == 1


@pytest.mark.parametrize("text", ["[]", "5", '"a"', "null", "", '{"a":1} x', '{"a":1,}'])
def test_only_an_object_has_members(text: str) -> None:
    with pytest.raises(JsonError):
        members(text)


@pytest.mark.parametrize("text", ["{", "{5:1}", '{"a"', '{"a" 1}', '{"a":1;', '{"a":[[}', '{"a":' + "[" * 100_000])
def test_looking_into_what_is_not_json_raises_a_typed_error(text: str) -> None:
    with pytest.raises(JsonError):
        list(members_at(text, 0))


def test_strings_are_written_with_all_that_json_needs_and_nothing_more() -> None:
    assert dumps_string('a"\\\n\x00\x1fä😀') == '"a\\"\\\\\\n\\u0000\\u001fä😀"'


def test_nul_and_half_surrogate_pairs_are_found() -> None:
    assert unstorable("a\0b") == "\0"
    assert unstorable("a\ud83d") == "\ud83d"
    assert unstorable("ä😀\x01\ufffe") is None
    assert storable("a\0\udfffb") == "a\ufffd\ufffdb"
