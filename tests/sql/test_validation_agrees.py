"""The INSERT and the engine read one language: what the one refuses the other refuses, with the same words.

`engine/graph.py` is the reference, written apart from df.validate_graph and by another method. Graphs are generated as
what they are to be (mostly valid, each mistake of LANGUAGE.md section 1 now and then) and spelled in any way JSON allows;
then some texts are damaged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from engine.graph import GraphError, parse_graph
from tests.servers import Database

EXAMPLES = 120

# A JSON object as its members, so that a key may be there twice; a spelling that json.loads has no name for.
Members = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Raw:
    """JSON text as it is to stand there."""

    text: str


NAMES = st.sampled_from(["a", "_x9", "A", "", "9a", "a b", "a-b", "é", "input", 'q"q', "x\n"])
SQL_TEXTS = st.sampled_from(
    ["select 1", " select $a ", "é😀", '"', "\\", "\n", "", " \t\n\r", "\x0b", "{v}", "\u2028", "'"]
)
DURATIONS = st.sampled_from(
    ["30", "0", "1.5", " 7 ", "1e3", "1E-2", "-1", "-0", "1e11", "10000000000", "10000000001", "1.", ".5", "00", "banana",
     "5 minutes", "$n", "{v} minutes", "$1", "", " ", "{", '{"', '{"until":"2025-01-01T00:00:00Z"}', '{"until":null}',
     ' { "until" : "$due" } ', '{"until":"2025-02-30"}', '{"until":"2025-01-01 24:00"}', '{"until":"tomorrow"}',
     '{"until":5}', '{"until":""}', '{"until":"2025-01-01T10:00:00 +01:30"}', '{"until":"x","until":"$y"}', '{"x":1}']
)  # fmt: skip
SIGNALS = st.sampled_from(
    ['{"signal_name":"go"}', '{"signal_name":"go","timeout_seconds":20,"fresh":true}', '{"signal_name":"$x.y"}',
     '{"signal_name":""}', '{"signal_name":5}', '{}', "[]", "go", "", '{"signal_name":"go","timeout_seconds":"20"}',
     '{"signal_name":"go","timeout_seconds":-1}', '{"signal_name":"go","timeout_seconds":null}',
     '{"signal_name":"go","fresh":1}', '{"signal_name":"go","fresh":null}', '{"signal_name":"go","signal_name":"went"}',
     '{"signal_name":"go","other":{"deep":[1]}}', '{"signal_name":"go"', '{"signal_name":"' + "g" * 201 + '"}',
     '{"signal_name":"go","timeout_seconds":1e400}', '{"signal_name":"go","timeout_seconds":0.5}']
)  # fmt: skip
LOOPS = st.sampled_from(
    ['{"every":5}', '{"every":0}', '{"every":-0.0}', '{"every":1.5e2}', '{"every":"5"}', '{"every":null}', "{}", "5", "", "[1]",
     '{"every":-3}', '{"every":5,"every":6}', '{"every":10000000000.1}']
)  # fmt: skip
IF_ROWS = st.sampled_from(
    ['{"condition_type":"result_has_rows","result_name":"a"}', '{"condition_type":"result_has_rows"}', "{}",
     '{"condition_type":"result_has_rows","result_name":"a b"}', '{"condition_type":"x","result_name":"a"}',
     '{"condition_type":"result_has_rows","result_name":7}', '{"condition_type":null,"result_name":"a"}', "a"]
)  # fmt: skip
BREAKS = st.sampled_from(
    ['{"break_value":5}', '{"break_value":{"a":[1,null]}}', '{"break_value":"$x"}', "{}", "x", "", '{"break_value":null}',
     '{"break_value":1,"break_value":2}', "[]"]
)  # fmt: skip
SCALARS = st.sampled_from(
    [
        None,
        True,
        5,
        "x",
        Raw("-0.5e+7"),
        Raw("[]"),
        Raw("{}"),
        Raw('[{"node_type":[{}]},"]"]'),
        Raw(r'"\u0000"'),
        Raw('"\\ud800"'),
    ]
)

TYPES = ("SQL", "THEN", "JOIN", "RACE", "IF", "LOOP", "BREAK", "SLEEP", "SIGNAL")
QUERIES = {"SQL": SQL_TEXTS, "SLEEP": DURATIONS, "SIGNAL": SIGNALS, "LOOP": LOOPS, "BREAK": BREAKS}


def mostly(usual: st.SearchStrategy[Any], now_and_then: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda roll: now_and_then if roll == 0 else usual)


def leaves(inside_a_loop: bool) -> st.SearchStrategy[Members]:
    kinds = ["SQL", "SLEEP", "SIGNAL", *(["BREAK"] if inside_a_loop else [])]

    def leaf(kind: str) -> st.SearchStrategy[Members]:
        valid = {"SQL": "select 1", "SLEEP": "30", "SIGNAL": '{"signal_name":"go"}', "BREAK": '{"break_value":1}'}
        query = st.one_of(st.just(valid[kind]), st.just(valid[kind]), QUERIES[kind])
        return query.map(lambda text: (("node_type", kind), ("query", text)))

    return st.sampled_from(kinds).flatmap(leaf)


@st.composite
def nodes(draw: st.DrawFn, depth: int = 4, inside_a_loop: bool = False) -> Members:
    """A node that may be wrong in any one of many ways, but is right in most."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        members = draw(leaves(inside_a_loop))
    else:
        members = draw(inner_nodes(depth, inside_a_loop))
    if draw(st.integers(0, 3)) == 0:
        members += (("result_name", draw(mostly(st.just("a"), NAMES))),)
    return draw(spoiled(members)) if draw(st.integers(0, 14)) == 0 else members


@st.composite
def inner_nodes(draw: st.DrawFn, depth: int, inside_a_loop: bool) -> Members:
    kind = draw(st.sampled_from(["THEN", "THEN", "JOIN", "RACE", "IF", "LOOP"]))
    child = nodes(depth - 1, inside_a_loop or kind == "LOOP")
    members: Members = (("node_type", kind), ("left_node", draw(child)))
    if kind != "LOOP":
        members += (("right_node", draw(child)),)
    if kind in ("JOIN", "RACE"):
        members += draw(
            st.one_of(st.just(()), st.lists(child, max_size=2).map(lambda extra: (("extra_nodes", extra),)))
        )
    elif kind in ("IF", "LOOP"):
        has_condition = draw(st.booleans())
        members += (("condition_node", draw(child)),) if has_condition else ()
        if kind == "IF" and not has_condition:
            members += (("query", draw(IF_ROWS)),)
        elif kind == "LOOP" and draw(st.integers(0, 4)) == 0:
            members += (("query", draw(LOOPS)),)
    return members


KEYS = ("node_type", "left_node", "right_node", "condition_node", "extra_nodes", "query", "result_name", "unknown")
A_NODE: Members = (("node_type", "SQL"), ("query", "select 2"))


@st.composite
def spoiled(draw: st.DrawFn, members: Members) -> Members:
    """The node with one key too few, too many, twice, of another type, or with another value."""
    key = draw(st.sampled_from(KEYS))
    others = tuple(pair for pair in members if pair[0] != key)
    types = st.sampled_from([*TYPES, "MAP", "UNDO", "NOPE", "", "sql", 'a"b'])
    value = draw(
        st.one_of(SCALARS, types, NAMES, st.just(A_NODE), st.just([A_NODE]), st.just([A_NODE, 5]), st.just([None]))
    )
    match draw(st.integers(0, 3)):
        case 0:
            return others
        case 1:
            return (*members, (key, value))
        case _:
            return (
                tuple((k, value if k == key else v) for k, v in members)
                if key in dict(members)
                else (*members, (key, value))
            )


# --- spelling ---


Space = Callable[[], str]


def spelled(value: Any, space: Space, escape: Callable[[str], str]) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, tuple):
        members = [
            f"{space()}{escape(key)}{space()}:{space()}{spelled(item, space, escape)}{space()}" for key, item in value
        ]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(space() + spelled(item, space, escape) + space() for item in value) + "]"
    return escape(value) if isinstance(value, str) else json.dumps(value)


def compact(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A graph's text: as builders write it, or as nobody would."""
    node = draw(nodes())
    if draw(st.booleans()):
        return spelled(node, str, compact)
    random = draw(st.randoms(use_true_random=False))

    def space() -> str:
        return "".join(random.choices(" \t\n\r", k=random.choice([0, 0, 0, 1, 2])))

    def escape(text: str) -> str:
        if random.random() < 0.7:
            return compact(text)
        if random.random() < 0.5:
            return json.dumps(text).replace("/", "\\/")
        return '"' + "".join(f"\\u{ord(c):04X}" if ord(c) < 0x10000 else json.dumps(c)[1:-1] for c in text) + '"'

    return space() + spelled(node, space, escape) + space()


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A graph's text with a few characters lost, doubled or changed."""
    text = draw(texts())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        piece = draw(
            st.sampled_from([*'{}[]",:\\ \n\x01x0-e\xa0', "null", '""', "\\u12", "tru", "1.5", '"node_type":"SQL",'])
        )
        keep = draw(st.integers(0, 4))
        text = text[:place] + (piece if keep else "") + text[place + draw(st.integers(0, 1)) :]
    return text


# --- asking both ---


def of_the_engine(text: str) -> str | None:
    try:
        parse_graph(text)
    except GraphError as error:
        return str(error)
    return None


VERDICT = """
create function pg_temp.verdict(p_graph text) returns text language plpgsql as $$
begin
  perform df.validate_graph(p_graph);
  return null;
exception
  when invalid_parameter_value then
    return sqlerrm;
end
$$
"""


@pytest.fixture(scope="module")
def of_the_insert(shared: Database) -> Iterator[Callable[[str], str | None]]:
    with shared.connect("alice") as connection:
        connection.execute(VERDICT)
        yield lambda text: verdict(connection, text)


def verdict(connection: psycopg.Connection[TupleRow], text: str) -> str | None:
    row = connection.execute("select pg_temp.verdict(%s)", [text]).fetchone()
    assert row is not None
    answer: str | None = row[0]
    return answer


def without_excerpt(message: str | None) -> str | None:
    """Where a text stops being JSON is shown by both, each from its own token."""
    return message if message is None else message.partition(" near '")[0]


fitting = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@fitting
@given(text=texts())
@example(text='{"node_type":"SQL"}')
@example(text='{"node_type":"SQL","query":"a","query":"b","extra_nodes":[]}')
@example(text='{"extra_nodes":[5],"extra_nodes":null,"node_type":"SQL","query":"a"}')
@example(text='{"node_type":"SQL","query":"a","unknown":{"node_type":"THEN","x":[[],{}]}}')
def test_the_insert_and_the_engine_agree_on_generated_graphs(
    of_the_insert: Callable[[str], str | None], text: str
) -> None:
    assert without_excerpt(of_the_insert(text)) == without_excerpt(of_the_engine(text))


@fitting
@given(text=damaged())
def test_the_insert_and_the_engine_agree_on_damaged_texts(
    of_the_insert: Callable[[str], str | None], text: str
) -> None:
    said, expected = of_the_insert(text), of_the_engine(text)
    assert (said is None) == (expected is None), (said, expected)
