"""The database takes exactly the graphs that the engine takes, and both say the same of what they refuse.

Two readers of one language, df.validate_graph and engine.graph.parse_graph, read the same made-up graphs: good ones,
and ones that were broken in the ways in which people and programs break JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from engine.graph import SHAPES, GraphError, Kind, parse_graph
from tests.servers import Cluster

VERDICTS = """
create function pg_temp.verdicts(p_graphs text[]) returns text[] language plpgsql as $$
declare
  v_found text[] := '{}';
begin
  for v_n in 1 .. cardinality(p_graphs) loop
    begin
      perform df.validate_graph(p_graphs[v_n]);
      v_found[v_n] := null;
    exception
      when invalid_parameter_value then v_found[v_n] := sqlerrm;
      when others then v_found[v_n] := sqlstate || ': ' || sqlerrm;
    end;
  end loop;
  return v_found;
end $$
"""
NEAR = re.compile(r"not valid JSON near '.*' \(\|\|", re.DOTALL)

# --- values ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """JSON text that stands in the graph as it is."""

    text: str


class Members(list[tuple[str | Raw, Any]]):
    """An object, as pairs: keys may come twice and in any order."""


NAMES = ("a", "_x9", "result_1", "B" * 63)
KEYS = ("node_type", "left_node", "right_node", "condition_node", "extra_nodes", "query", "result_name")
FOREIGN_KEYS = ("", "nodetype", "Query", "left_node ", "$schema", "näme", "_", "query.x", "left_nod")
TYPES = tuple(SHAPES)
OTHER_TYPES = ("sql", "NOPE", "", " SQL", "SQL ", '"SQL"', "S" * 70, "SQL\n", "Ünbekannt", "HTTPS", "MAP_", "THROW")

texts = st.sampled_from(
    ["select 1", " ", "", "\n", "\u00a0", "\x0b", "{v}", "$a.b?", "'\"\\'", "ä", "😀", "\\", "\\u0041", "}", "]", '{"a":1}',
     "select '{\"x\": [1, 2]}'::json", "x" * 70, "\x01", "\x7f", "\u2028", "null", "1"]
)  # fmt: skip
NUMBERS = (
    "0", "-0", "-0.0", "-0e5", "1", "-1", "1.5", "30", "1e2", "1E+2", "1e-300", "1e-500", "1e-99999", "1e10", "1e11",
    "1e999", "1e99999", "1e9999999", "10000000000", "10000000001", "10000000000.000001", "007", "1.", ".5", "+1",
    "1e", "1e+", "0x1", "NaN", "Infinity", "-", "--1", "1_000", "9" * 399, "0" + "." + "0" * 500, "0." + "3" * 300,
    "٣", "1 2", "0e0", "0.0e-9", "-1e-9"
)  # fmt: skip
STRINGS = (
    r'"\u0000"', r'"\ud800"', r'"\udc00x"', r'"\ud83d\ude00"', r'"\ud83dx"', r'"\u00e4"', r'"\u00E4\n\t\/\b\f\r"',
    r'"\x41"', r'"\u12"', r'"\u12g4"', r'"\U0041"', '"\t"', '"\n"', '"\x01"', '"', '"a', r'"\"', r'"\\"', r'"a\"', "'a'",
    r'"\u0073elect 1"', r'"\\u0041"', r'"\ud83d\u0041"', r'"\ud83d\ud83d\ude00"', '"\x7f"', r'"\u0001"'
)  # fmt: skip
NESTS = ("[" * 600 + "]" * 600, '{"a":' * 600 + "1" + "}" * 600, "[[[", "[{}]", "[]]", "[{]}", "[1,]", "{,}")

numbers = st.sampled_from(NUMBERS)
odd: st.SearchStrategy[Any] = st.one_of(
    st.builds(Raw, st.one_of(numbers, st.sampled_from(STRINGS), st.sampled_from(NESTS))),
    st.sampled_from([None, True, False, [], {}, [None], [[]], "", "x", Raw("nul"), Raw("True"), Raw(""), Raw("// x")]),
    texts,
)
times = st.one_of(
    st.sampled_from(
        ["2027-01-31", "2027-02-29", "2028-02-29", "1900-02-29", "0000-01-01", "0001-01-01", "9999-12-31", "2027-13-01",
         "2027-1-1", "10000-01-01", "-001-01-01", "tomorrow", "now", "infinity", "$t", "{t}", "20270131", "2027-01-31T",
         " 2027-01-31", "2027-01-31 ", "2027-01-31\n", "٢027-01-31"]
    ),
    st.builds(
        "{}{}{}:{}{}{}".format,
        st.sampled_from(["2027-01-31", "0001-01-01", "9999-12-31"]),
        st.sampled_from("T tx"),
        st.sampled_from(["00", "09", "23", "24", "25", "9"]),
        st.sampled_from(["00", "59", "60", "1"]),
        st.sampled_from(["", ":00", ":59", ":60", ":61", ":00.1", ":60.000001", ":00.1234567", ":00."]),
        st.sampled_from(
            ["", "Z", " Z", "z", "+01", "-15:59", "+16", "+15:60", "+0530", "+5", "+01:00:30", "  Z", "UTC", "-00"]
        ),
    ),
)  # fmt: skip


def options(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The query of a node whose query is JSON: mostly what it should be, as a text in a text."""
    given = st.fixed_dictionaries({}, optional=values).map(lambda found: Members(found.items()))
    more = st.lists(st.tuples(st.sampled_from(["else", *values]), odd), max_size=1)
    return st.builds(
        lambda members, extra, around: around.format(spell(Members([*members, *extra]), Layout())),
        given,
        more,
        st.sampled_from(["{}"] * 6 + [" {}\n", "{}x", "[{}]"]),
    )


seconds = st.one_of(st.just(Raw("5")), st.builds(Raw, numbers), odd)
objects = st.one_of(st.just(Members()), st.just(Members([("a", "$x"), ("b", Members([("c", 1)]))])), odd)
counts = st.one_of(
    st.sampled_from([1, 5, 10_000]), st.builds(Raw, st.sampled_from(["0", "10001", "1.0", "1e2", "-1", "0x1"])), odd
)
fields = st.one_of(
    st.sampled_from(["*", "*", "0", "1", "5", "9", "*/2"]),
    st.sampled_from(
        [
            "*/5",
            "*/0",
            "1-5",
            "5-1",
            "0-7",
            "7",
            "7-7",
            "sun-sat",
            "fri-mon",
            "jan",
            "MON,wed",
            "Dec/2",
            "jan-jun/3",
            "1,2,3",
            "60",
            "23",
            "24",
            "0",
            "31",
            "30,31",
            "29",
            "32",
            "13",
            "5/15",
            "*,1",
            "5-",
            "-5",
            "1,,2",
            "",
            "L",
            "?",
            "*/99999",
            "100",
            "1-2-3",
            "1/2/3",
            "**",
            "*-5",
            "a",
            "mo",
            "mond",
            "٣",
            "\u017fun",
            "9/9999",
        ]
    ),
)
crons = st.one_of(
    st.lists(fields, min_size=5, max_size=5).map(" ".join),
    st.sampled_from(
        [
            "* * * * *",
            "0 0 30 2 *",
            "0 0 31 2,4,6,9,11 *",
            "0 0 30 2 mon",
            "0 0 29 2 *",
            "0 0 31 4 0-6",
            "0 0 30 2 *,1",
            "* * * *",
            "* * * * * *",
            "@daily",
            "@Yearly",
            "@reboot",
            "@",
            " @hourly\n",
            "  *\t* * * *  ",
            "* * *\x0b* *",
            "* *\u00a0* * * *",
            "{c}",
            "* * $m * *",
            "0 0 31 11-2 *",
            "0 0 31 4/5 *",
            "0 0 31 2 7",
            "0 0 31 2 */1",
            "0 0 31 2 1,*/01",
            "0 0 31 2 */2",
            "@annually",
            "@midnight",
            "@weekly",
            "@monthly",
            "@daily x",
        ]
    ),
    texts,
)
zones = st.one_of(
    st.sampled_from(
        [
            "UTC",
            "utc",
            "Europe/Berlin",
            "EUROPE/berlin",
            "America/Argentina/Buenos_Aires",
            "America/Port-au-Prince",
            "Etc/GMT+12",
            "Etc/GMT+13",
            "etc/gmt-14",
            "Etc/GMT-15",
            "Etc/GMT0",
            "GMT0",
            "GMT+0",
            "GMT+1",
            "UTC+3",
            "PST",
            "CEST",
            "EST",
            "EST5EDT",
            "EST5",
            "FOO5",
            "<+03>-03",
            "Europe/Nowhere",
            "Europe/Berlin ",
            "Europe//Berlin",
            "Europe/../UTC",
            "/UTC",
            "Europe",
            "posix/UTC",
            "right/UTC",
            "Z",
            "Zulu",
            "+01",
            "01:00",
            "W-SU",
            "NZ-CHAT",
            "",
            "default",
            "local",
            "localtime",
            "posixrules",
            "Factory",
            "{tz}",
            "$t",
            "Europe/Berlin5",
            "Asia/Istanbul",
            "US/Pacific",
            "Etc/Unknown",
            "\u212aiev",
            "Asia/Calcutta",
        ]
    ),
    texts,
    odd,
)
ids = st.one_of(
    st.sampled_from(["a", "~1/2.3", "a.b_c:d/e-f", "x" * 300, "-a", " a", "a b", "ä", "$i", "{i}", "~", "a~", "a\n"]),
    texts,
    odd,
)
child_options = st.fixed_dictionaries(
    {},
    optional={
        "timeout_seconds": st.one_of(st.sampled_from(["$t", "{t}", "5"]), seconds),
        "on_failure": st.one_of(st.sampled_from(["raise", "return", "cancel", "$x", Raw('"r\\u0065turn"')]), odd),
        "inherit_vars": st.one_of(st.booleans(), odd),
        "vars": objects,
        "input": odd,
        "on_parent_cancel": st.one_of(st.sampled_from(["cancel", "abandon", "raise"]), odd),
        "detach": st.one_of(st.booleans(), odd),
    },
).map(lambda found: Members(found.items()))
other_options = st.lists(
    st.tuples(
        st.sampled_from(["else", "x" * 70, "detach", "Input", "timeout", Raw('"det\\u0061ch"'), Raw('"\\u0000"')]), odd
    ),
    max_size=1,
)
more_child_options = st.builds(lambda known, more: Members([*known, *more]), child_options, other_options)
QUERIES: dict[str, st.SearchStrategy[Any]] = {
    "SQL": texts,
    "SLEEP": st.one_of(
        numbers,
        texts,
        options(until=st.one_of(times, odd)),
        st.sampled_from(["30", " 30\n", "5 minutes", "$x", "$_", "$1", "{_}s", "{1}"]),
    ),
    "SIGNAL": options(
        signal_name=st.one_of(texts, st.sampled_from(["go", "ä" * 100, "ä" * 101, "{x}" * 100]), odd),
        timeout_seconds=seconds,
        fresh=st.one_of(st.booleans(), odd),
    ),
    "BREAK": st.one_of(st.none(), options(break_value=odd)),
    "LOOP": st.one_of(st.none(), st.none(), options(every=seconds)),
    "IF": options(
        condition_type=st.sampled_from(["result_has_rows"] * 4 + ["x", 1, None]),
        result_name=st.one_of(st.sampled_from([*NAMES, "1a", "", "a\n"]), odd),
    ),
    "WAIT_SCHEDULE": options(cron_expr=st.one_of(crons, crons, odd), timezone=zones),
    "HTTP": options(url=texts, method=st.one_of(texts, odd), body=odd, headers=objects, timeout_seconds=seconds),
    "HTTP_MULTIPART": options(url=texts, parts=st.one_of(st.just([]), odd), headers=objects, timeout_seconds=seconds),
    "CALL_CHILD": st.one_of(
        st.none(), options(label=st.one_of(texts, odd), options=st.one_of(more_child_options, odd))
    ),
    "AWAIT_INSTANCE": options(instance_id=ids, timeout_seconds=seconds),
    "MAP": st.one_of(
        st.none(), options(items=st.one_of(st.sampled_from([*NAMES, "1a", "", "select 1"]), odd), max_parallel=counts)
    ),
    "RETRY": options(max_attempts=counts, initial=seconds, backoff=seconds, max_interval=seconds),
    "TIMEOUT": st.one_of(st.none(), options(seconds=seconds)),
    "CATCH": st.one_of(st.none(), texts),
    "UNDO": st.one_of(st.none(), texts),
}

# --- graphs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How JSON is spelled."""

    comma: str = ","
    colon: str = ":"
    open: str = ""
    ascii_only: bool = False
    escaped_keys: bool = False


WHITE = st.sampled_from(["", "", " ", "\n", "\t \r\n"])
layouts = st.one_of(
    st.just(Layout()),
    st.builds(
        Layout, WHITE.map("{},".format), WHITE.map(":{}".format), WHITE, ascii_only=st.booleans(),
        escaped_keys=st.booleans(),
    ),
)  # fmt: skip


def spell(value: Any, layout: Layout) -> str:
    """The value as JSON text; a list of pairs is an object."""
    match value:
        case Raw(text):
            return text
        case Members():
            members = (f"{spell_key(key, layout)}{layout.colon}{spell(inner, layout)}" for key, inner in value)
            return "{" + layout.open + layout.comma.join(members) + layout.open + "}"
        case list():
            return "[" + layout.open + layout.comma.join(spell(inner, layout) for inner in value) + layout.open + "]"
        case _:
            return json.dumps(value, ensure_ascii=layout.ascii_only)


def spell_key(key: str | Raw, layout: Layout) -> str:
    if isinstance(key, Raw):
        return key.text
    text = json.dumps(key, ensure_ascii=layout.ascii_only)
    return text.replace("_", "\\u005f") if layout.escaped_keys else text


def node(kind: str, **parts: Any) -> Members:
    return Members([("node_type", kind), *((key, parts[key]) for key in KEYS if parts.get(key) is not None)])


SELECT = node("SQL", query="select 1")
leaves = st.one_of(
    st.builds(
        node, st.just("SQL"), query=st.just("select 1"), result_name=st.one_of(st.none(), st.sampled_from(NAMES))
    ),
    st.just(node("SLEEP", query="30")),
    st.just(node("SIGNAL", query='{"signal_name":"go"}')),
    st.just(node("BREAK")),
    st.just(node("WAIT_SCHEDULE", query='{"cron_expr":"0 9 * * mon-fri","timezone":"Europe/Berlin"}')),
    st.just(node("AWAIT_INSTANCE", query='{"instance_id":"$o.id","timeout_seconds":5}')),
    st.just(node("HTTP", query='{"url":"https://example.com/","headers":{"x":"y"}}')),
)


CALLS = (None, '{"label":"c","options":{"timeout_seconds":"{t}","on_failure":"return","vars":{"a":1}}}')


def inner_nodes(children: st.SearchStrategy[Members]) -> st.SearchStrategy[Members]:
    """Nodes around nodes: good ones, but for a BREAK that finds no loop."""
    few = st.one_of(st.none(), st.lists(children, max_size=3))
    has_rows = '{"condition_type":"result_has_rows","result_name":"a"}'
    return st.one_of(
        st.builds(node, st.just("THEN"), left_node=children, right_node=children),
        st.builds(node, st.sampled_from(["JOIN", "RACE"]), left_node=children, right_node=children, extra_nodes=few),
        st.builds(node, st.just("JOIN"), left_node=children),
        st.builds(node, st.just("IF"), left_node=children, right_node=children, condition_node=children),
        st.builds(node, st.just("IF"), left_node=children, right_node=children, query=st.just(has_rows)),
        st.builds(node, st.just("LOOP"), left_node=children, condition_node=st.one_of(st.none(), children)),
        st.builds(node, st.just("LOOP"), left_node=children, query=st.just('{"every":0.5}')),
        st.builds(node, st.sampled_from(["CATCH", "UNDO"]), left_node=children, right_node=children),
        st.builds(node, st.just("MAP"), left_node=children, right_node=children),
        st.builds(node, st.just("MAP"), right_node=children, query=st.just('{"items":"a","max_parallel":3}')),
        st.builds(node, st.just("RETRY"), left_node=children, query=st.just('{"max_attempts":3,"backoff":1.5}')),
        st.builds(node, st.just("TIMEOUT"), left_node=children, query=st.just('{"seconds":60}')),
        st.builds(node, st.just("CALL_CHILD"), left_node=children, query=st.sampled_from(CALLS)),
    )


trees = st.recursive(leaves, inner_nodes, max_leaves=6)


def nodes_of(tree: Any) -> list[Members]:
    """Every node of a graph that is whole, itself first."""
    found: list[Members] = []
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Members):
            found.append(value)
            waiting.extend(inner for _, inner in value)
        elif isinstance(value, list):
            waiting.extend(value)
    return found


def kind_of(members: Members) -> str:
    """Its type as it was before it was broken."""
    return next((value for key, value in members if key == "node_type" and value in TYPES), "SQL")


Draw = st.DrawFn


def break_node(draw: Draw, members: Members) -> None:
    """Change one thing in this node."""
    kind = kind_of(members)
    at = draw(st.integers(0, len(members) - 1)) if members else 0
    how = draw(st.sampled_from(["query", "query", "query", "drop", "twice", "rename", "value", "add", "type", "name"]))
    if how == "query":
        replace(members, "query", draw(QUERIES.get(kind, texts)))
    elif how == "type":
        replace(members, "node_type", draw(st.one_of(st.sampled_from(OTHER_TYPES), st.sampled_from(TYPES), odd)))
    elif how == "name":
        replace(members, "result_name", draw(st.one_of(st.sampled_from(["1a", "a b", "ä", "a\n", "x" * 70]), odd)))
    elif how == "add" or not members:
        key = draw(st.sampled_from([*KEYS, *FOREIGN_KEYS]))
        members.append((key, draw(st.one_of(odd, leaves, st.lists(leaves, max_size=2)))))
    elif how == "drop":
        del members[at]
    elif how == "twice":
        members.append((members[at][0], draw(st.one_of(st.just(members[at][1]), odd))))
    elif how == "rename":
        raw_key = st.sampled_from(['"a"b', "a", "1", "null", r'"\u0000"', r'"\q"', '"', r'"\ud800"', r'"quer\u0079"'])
        key_to = draw(st.one_of(st.sampled_from(KEYS + FOREIGN_KEYS), raw_key.map(Raw)))
        members[at] = (key_to, members[at][1])
    else:
        members[at] = (members[at][0], draw(odd))


def replace(members: Members, key: str, value: Any) -> None:
    for index, (found, _) in enumerate(members):
        if found == key:
            members[index] = (key, value)
            return
    members.append((key, value))


def break_text(draw: Draw, text: str) -> str:
    """Change one place of the text."""
    at: int = draw(st.integers(0, len(text)))
    how = draw(st.sampled_from(["cut", "delete", "insert", "append"]))
    if how == "cut":
        return text[:at]
    if how == "delete":
        return text[:at] + text[at + draw(st.integers(1, 3)) :]
    if how == "append":
        more: str = draw(st.sampled_from([" ", "\n", "x", "}", ",", " || 'x'", '{"', "\x0b", "\ufeff", text]))
        return text + more
    inserted: str = draw(
        st.sampled_from([*'{}[],:"\\ x1\n', "\x0b", "\u00a0", "\ufeff", "null", "/**/", '""', "\\u0000", "é"])
    )
    return text[:at] + inserted + text[at:]


Case = tuple[str, bool]
"""A graph's text, and whether its keys are in order: only then do both come across several faults in the same order."""


@st.composite
def single_nodes(draw: Draw) -> Case:
    """A node and its query, in a loop so that a BREAK may stand there."""
    kind = draw(st.sampled_from(sorted(QUERIES)))
    query = draw(QUERIES[kind])
    shape = SHAPES[Kind(kind)]
    places = [place for place in ("left_node", "right_node") if getattr(shape, place.removesuffix("_node")).value]
    if kind == "MAP" and draw(st.booleans()):
        places.remove("left_node")
    parts = dict.fromkeys(places, SELECT)
    tree = node("LOOP", left_node=node(kind, query=query, **parts))
    return spell(tree, draw(layouts)), True


@st.composite
def broken_graphs(draw: Draw) -> Case:
    """A whole graph, and up to two things wrong with it."""
    tree = json_copy(draw(trees))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        break_node(draw, draw(st.sampled_from(nodes_of(tree))))
        tree = json_copy(tree)
    ordered = draw(st.sampled_from([True, True, False]))
    for members in nodes_of(tree):
        if ordered:
            members.sort(key=lambda member: KEYS.index(member[0]) if member[0] in KEYS else len(KEYS))
        else:
            members[:] = draw(st.permutations(members))
    text = spell(tree, draw(layouts))
    if draw(st.sampled_from([False, False, False, True])):
        text, ordered = break_text(draw, text), False
    return text, ordered


def json_copy(value: Any) -> Any:
    """A copy that shares no list with the strategies."""
    match value:
        case Members():
            return Members((key, json_copy(inner)) for key, inner in value)
        case list():
            return [json_copy(inner) for inner in value]
        case _:
            return value


# --- the comparison -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def connection(server: Cluster) -> Iterator[psycopg.Connection[TupleRow]]:
    """alice's, with a function that asks for many graphs at once; on each version, whose parsers of JSON and time differ."""
    database = server.database()
    with database.connect("alice") as made:
        made.execute(VERDICTS)
        yield made
    database.drop()


def of_the_database(connection: psycopg.Connection[TupleRow], texts: list[str]) -> list[str | None]:
    found = connection.execute("select pg_temp.verdicts(%s)", [texts]).fetchall()[0][0]
    return [found[index] if index < len(found) else None for index in range(len(texts))]


def of_the_engine(text: str) -> str | None:
    try:
        parse_graph(text)
    except GraphError as error:
        return str(error)
    return None


def without_place(message: str | None) -> str | None:
    """The two may point at different characters of what is not JSON: a key begins at its brace for one of them."""
    return None if message is None else NEAR.sub("not valid JSON (||", message)


def in_a_loop(members: Members) -> str:
    return spell(node("LOOP", left_node=members), Layout())


# Where the two once differed, and what is too rare among the generated ones.
ONCE_DIFFERENT = [
    in_a_loop(node("BREAK", query='{"break_value":[1e9999999,-0,1.0]}')),
    in_a_loop(node("BREAK", query='{"break_value":"\\u0000"}')),
    in_a_loop(node("BREAK", query='{"break_value":["\\ud83d\\ude00","\\\\u0000"]}')),
    in_a_loop(node("BREAK", query='{"\\u0000":1}')),
    in_a_loop(node("SIGNAL", query='{"signal_name":"\\ud800"}')),
    in_a_loop(node("SIGNAL", query='{"signal_name":"go","timeout_seconds":1e-500}')),
    in_a_loop(node("SIGNAL", query='{"signal_name":"go","timeout_seconds":-0.0e5}')),
    in_a_loop(node("SIGNAL", query='{"signal_name":"go","timeout_seconds":1e9999999}')),
    in_a_loop(Members([("node_type", Raw('"\\udc00"'))])),
    in_a_loop(Members([("left_node", "x"), ("left_node", SELECT)])),
]
RARE = [
    spell(node("JOIN", left_node=SELECT, extra_nodes=[SELECT]), Layout()),
    *(in_a_loop(node("SLEEP", query=query)) for query in ("$_", "$1", "{_}", "{1}", '{"until":"$_"}')),
    *(in_a_loop(Members([*SELECT, ("x", Raw(text))])) for text in (*NUMBERS, *STRINGS, *NESTS)),
    *(in_a_loop(node("BREAK", query=f'{{"break_value":{text}}}')) for text in (*NUMBERS, *STRINGS, *NESTS)),
    *(in_a_loop(Members([*SELECT, (Raw(text), 1)])) for text in STRINGS),
    *(
        in_a_loop(node("CALL_CHILD", left_node=SELECT, query=f'{{"options":{text}}}'))
        for text in (
            '{"detach":true,"detach":true}',
            '{"detach":true,"det\\u0061ch":null}',
            '{"det\\u0061ch":true}',
            '{"nope":null,"else":1,"x":2}',
            '{"x":1,"x":1}',
            '{"timeout_seconds":"\\u0024t"}',
            '{"timeout_seconds":"t"}',
            '{"on_failure":null,"vars":{"a":1,"a":2}}',
            '{"vars":[]}',
            "null",
            "5",
            '"{}"',
            '{"input":"\\u0000"}',
            '{"vars":{"\\ud800":1}}',
            "{ }",
        )
    ),
    *(
        in_a_loop(node("RETRY", left_node=SELECT, query=f'{{"max_attempts":2,"backoff":{text}}}'))
        for text in (*NUMBERS, "0.99999999999999999999", "1000.00000000000000000001", "1000", "1e3", "1.0", "1001")
    ),
    *(in_a_loop(node("RETRY", left_node=SELECT, query=f'{{"max_attempts":{text}}}')) for text in (*NUMBERS, *STRINGS)),
]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(single_nodes(), broken_graphs()), min_size=10, max_size=16))
@example([(text, True) for text in ONCE_DIFFERENT + RARE])
def test_the_database_takes_what_the_engine_takes_and_says_the_same_of_the_rest(
    connection: psycopg.Connection[TupleRow], cases: list[Case]
) -> None:
    found = of_the_database(connection, [text for text, _ in cases])
    for (text, ordered), verdict in zip(cases, found, strict=True):
        expected = of_the_engine(text)
        event("taken" if expected is None else "refused")
        if ordered:
            assert without_place(verdict) == without_place(expected), text
        else:
            assert (verdict is None) == (expected is None), (text, verdict, expected)


# --- limits ---------------------------------------------------------------------------------------------------------

SQL_TEXT = spell(SELECT, Layout())


def nested(levels: int, before: str, after: str) -> str:
    """A text around itself, so many times; by hand, since json.dumps recurses."""
    return before * levels + SQL_TEXT + after * levels


LIMITS = {
    "a chain of 9,999 nodes": (nested(4_999, '{"node_type":"THEN","left_node":', f',"right_node":{SQL_TEXT}}}'), True),
    "a chain of 10,001 nodes": (
        nested(5_000, '{"node_type":"THEN","left_node":', f',"right_node":{SQL_TEXT}}}'),
        False,
    ),
    "256 levels": (nested(255, f'{{"node_type":"THEN","left_node":{SQL_TEXT},"right_node":', "}"), True),
    "257 levels": (nested(256, f'{{"node_type":"THEN","left_node":{SQL_TEXT},"right_node":', "}"), False),
    "32 loops": (nested(32, '{"node_type":"LOOP","left_node":', "}"), True),
    "33 loops": (nested(33, '{"node_type":"LOOP","left_node":', "}"), False),
    "depth in a key that is nobody's": ('{"x":' + "[" * 9_999 + "]" * 9_999 + "," + SQL_TEXT[1:], True),
    "a megabyte of text": (spell(node("SQL", query="\u00e4\\" * 500_000), Layout(ascii_only=True)), True),
    "a megabyte that breaks off": ('{"node_type":"SQL","query":"' + "x" * 1_000_000, False),
}


@pytest.mark.parametrize(("text", "taken"), LIMITS.values(), ids=list(LIMITS))
def test_the_two_draw_the_same_limits(connection: psycopg.Connection[TupleRow], text: str, taken: bool) -> None:
    expected = of_the_engine(text)
    assert (expected is None) == taken
    assert [without_place(found) for found in of_the_database(connection, [text])] == [without_place(expected)]


def test_only_the_depth_of_an_option_is_the_servers_to_limit(connection: psycopg.Connection[TupleRow]) -> None:
    """It would fail all the same once its value were stored as json; how deep is too deep depends on the server."""

    def a_break(depth: int) -> str:
        return in_a_loop(node("BREAK", query='{"break_value":' + "[" * depth + "]" * depth + "}"))

    found = of_the_database(connection, [a_break(1_000), a_break(200_000)])
    assert found == [None, "Invalid durable function graph: root.left_node: query of BREAK is nested too deeply"]
