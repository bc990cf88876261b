"""Graphs: what LANGUAGE.md section 1 says, sentence by sentence. The database's side of it is in tests/sql."""

import copy
import json
import pickle
from typing import Any

import pytest

from engine.graph import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_REPEATING,
    SHAPES,
    AwaitInstance,
    Break,
    CallChild,
    ChainItem,
    GraphError,
    Http,
    If,
    Kind,
    Loop,
    Map,
    Retry,
    Schedule,
    Signal,
    Sleep,
    Timeout,
    UnknownNodeType,
    as_seconds,
    graph_of,
    parse_graph,
)

Raw = dict[str, Any]


def sql(query: str = "select 1", **more: object) -> Raw:
    return {"node_type": "SQL", "query": query, **more}


def then(left: Raw, right: Raw, **more: object) -> Raw:
    return {"node_type": "THEN", "left_node": left, "right_node": right, **more}


def loop(body: Raw, **more: object) -> Raw:
    return {"node_type": "LOOP", "left_node": body, **more}


OPTIONS = {"RETRY": '{"max_attempts":2}', "TIMEOUT": '{"seconds":1}'}


def around(kind: str, left: Raw, right: Raw | None = None) -> Raw:
    children = {"left_node": left} if right is None else {"left_node": left, "right_node": right}
    return {"node_type": kind, **children, **({"query": OPTIONS[kind]} if kind in OPTIONS else {})}


def chain(length: int) -> str:
    """The text of a chain of so many steps; built by hand, since json.dumps recurses."""
    steps = [f',"right_node":{json.dumps(sql(f"select {number}"))}}}' for number in range(1, length)]
    return '{"node_type":"THEN","left_node":' * len(steps) + json.dumps(sql("select 0")) + "".join(steps)


def refused(graph: Raw | str) -> str:
    with pytest.raises(GraphError) as caught:
        parse_graph(graph if isinstance(graph, str) else json.dumps(graph))
    return str(caught.value).removeprefix("Invalid durable function graph: ")


# --- reading --------------------------------------------------------------------------------------------------------


def test_text_that_is_no_node_is_one_sql_node_with_that_very_text() -> None:
    for text in ("select 1", " select 1\n", "{query}", '{ query: "x" }', "{}", "[1]", '\x0b{"node_type":"SQL"}'):
        graph = parse_graph(text)
        assert [(node.kind, node.query) for node in graph.nodes] == [(Kind.SQL, text)]


def test_text_that_begins_with_a_brace_and_a_quote_is_meant_as_a_node() -> None:
    assert parse_graph(' \n{\t"node_type" : "SQL", "query" : "select 1"} ').node(1).query == "select 1"
    assert refused('{"') == ("root: not valid JSON near '\"' (|| binds like ~>: put parentheses around concatenations)")


def test_what_follows_the_node_is_not_valid_json_and_hints_at_concatenation() -> None:
    assert refused(json.dumps(sql()) + " || 'x'") == (
        "root: not valid JSON near '|| 'x'' (|| binds like ~>: put parentheses around concatenations)"
    )


def test_nodes_are_numbered_itself_left_right_condition_extra() -> None:
    join = {
        "node_type": "JOIN",
        "extra_nodes": [sql("x0"), sql("x1")],
        "right_node": sql("r"),
        "left_node": {"node_type": "LOOP", "condition_node": sql("c"), "left_node": sql("b")},
    }
    graph = parse_graph(json.dumps(join))
    assert [(node.number, node.query or node.kind.value) for node in graph.nodes] == [
        (1, "JOIN"), (2, "LOOP"), (3, "b"), (4, "c"), (5, "r"), (6, "x0"), (7, "x1"),
    ]  # fmt: skip
    assert graph.node(1).branches == (2, 5, 6, 7)
    assert [node.parent for node in graph.nodes] == [None, 1, 2, 2, 1, 1, 1]
    assert (graph.node(2).left, graph.node(2).right, graph.node(2).condition) == (3, None, 4)


def test_unknown_keys_are_ignored_however_deep_their_values_are() -> None:
    deep = "[" * 20_000 + "]" * 20_000
    graph = parse_graph('{"$schema":[1,{"query":2}],"zzz":' + deep + ',"node_type":"SQL","query":"select 1"}')
    assert graph.node(1).query == "select 1"


def test_nulls_and_empty_extra_nodes_are_as_good_as_absent() -> None:
    graph = parse_graph(json.dumps(sql(left_node=None, right_node=None, extra_nodes=[], result_name=None)))
    assert graph.node(1).result_name is None
    assert parse_graph(json.dumps(sql(extra_nodes=None))).node(1).extra == ()


def test_escapes_in_keys_and_queries_are_decoded() -> None:
    graph = parse_graph(r'{"node\u005ftype":"SQL","query":"select \u00e4\n\"\ud83d\ude00\""}')
    assert graph.node(1).query == 'select ä\n"😀"'


def test_a_key_that_is_there_twice_is_refused() -> None:
    assert refused('{"node_type":"SQL","query":"a","query":"b"}') == "root: key 'query' is there twice"
    assert parse_graph('{"node_type":"SQL","query":"a","x":1,"x":2}').node(1).query == "a"


def test_a_character_that_text_cannot_hold_is_refused() -> None:
    assert refused(r'{"node_type":"SQL","query":"a\u0000"}') == "root: query has a character that text cannot hold"
    assert refused(r'{"node_type":"SQL","query":"a\ud800"}') == "root: query has a character that text cannot hold"


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,}', '{"a" 1}', '{"a":01}', '{"a":1.}', '{"a":.5}', '{"a":+1}', '{"a":NaN}', '{"a":Infinity}',
        '{"a":tru}', '{"a":"\t"}', '{"a":"\\x"}', '{"a":"\\u12g4"}', '{"a":[1 2]}', '{"a":[1,]}', '{"a":[}',
        '{"a":1]', '{"a":1', '{"a":"', '{"a":1}}', '{"a":1,,"b":2}', '{"a":\xa01}', "{\"a\":'b'}", '{"a":1}{"b":2}',
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: str) -> None:
    assert refused(text).startswith("root: not valid JSON near '")


# --- what must be there, and what must not --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"x": 1}, "root: node_type is missing"),
        ({"node_type": 5}, "root: node_type is not a string"),
        (then(sql(), {"node_type": "MAP"}), "root.right_node: MAP needs a left_node or items"),
        (sql(""), "root: SQL needs a query"),
        (sql(" \n"), "root: SQL needs a query"),
        ({"node_type": "SQL"}, "root: SQL needs a query"),
        ({"node_type": "SQL", "query": 5}, "root: query is not a string"),
        (sql(left_node=sql()), "root: SQL takes no left_node"),
        (sql(condition_node=sql()), "root: SQL takes no condition_node"),
        (sql(extra_nodes=[sql()]), "root: SQL takes no extra_nodes"),
        ({"node_type": "THEN", "left_node": sql()}, "root: THEN needs a right_node"),
        (then(sql(), sql(), condition_node=sql()), "root: THEN takes no condition_node"),
        (then(sql(), sql(), query="x"), "root: THEN takes no query"),
        ({"node_type": "JOIN"}, "root: JOIN needs a left_node"),
        ({"node_type": "JOIN", "left_node": sql(), "extra_nodes": [sql()]},
         "root: JOIN with extra_nodes needs a right_node"),
        ({"node_type": "RACE", "left_node": sql()}, "root: RACE needs a right_node"),
        ({"node_type": "RACE", "left_node": sql(), "right_node": sql(), "extra_nodes": 5},
         "root: extra_nodes is not an array"),
        ({"node_type": "RACE", "left_node": sql(), "right_node": sql(), "extra_nodes": [sql(), sql(""), sql()]},
         "root.extra_nodes[1]: SQL needs a query"),
        (then(then(sql(), sql("")), sql()), "root.left_node.right_node: SQL needs a query"),
        ({"node_type": "JOIN", "left_node": "select 1"}, "root.left_node: a node is a JSON object"),
        ({"node_type": "JOIN", "left_node": sql(), "right_node": sql(), "extra_nodes": [None]},
         "root.extra_nodes[0]: a node is a JSON object"),
        ({"node_type": "IF", "left_node": sql(), "right_node": sql()}, "root: IF needs a condition_node"),
        ({"node_type": "IF", "condition_node": sql(), "left_node": sql()}, "root: IF needs a right_node"),
        (loop(sql(), right_node=sql()), "root: LOOP takes no right_node"),
        ({"node_type": "BREAK"}, "root: BREAK outside a loop"),
        (then(loop(sql()), {"node_type": "BREAK"}), "root.right_node: BREAK outside a loop"),
    ],
)  # fmt: skip
def test_a_missing_or_superfluous_part_is_refused_with_its_path(graph: Raw, message: str) -> None:
    assert refused(graph) == message


def test_an_unknown_node_type_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownNodeType) as caught:
        parse_graph('{"node_type":"NOPE"}')
    valid = (
        "SQL, THEN, JOIN, RACE, IF, LOOP, BREAK, SLEEP, SIGNAL, WAIT_SCHEDULE, HTTP, HTTP_MULTIPART, CALL_CHILD, "
        "AWAIT_INSTANCE, MAP, RETRY, TIMEOUT, CATCH, UNDO"
    )
    assert str(caught.value) == f"Invalid durable function: Unknown node_type 'NOPE'. Valid types: {valid}"
    assert caught.value.path == "root"
    assert list(SHAPES) == valid.split(", ")


def test_a_join_of_one_is_valid() -> None:
    assert parse_graph('{"node_type":"JOIN","left_node":{"node_type":"SQL","query":"q"}}').node(1).branches == (2,)


@pytest.mark.parametrize("name", ["1a", "a-b", "ä", "a b", "a\n", "$a", "a.b", ""])
def test_a_result_name_that_is_no_identifier_is_refused(name: str) -> None:
    said = f"root: result name '{name}' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"
    assert refused(sql(result_name=name)) == said


@pytest.mark.parametrize("name", ["a", "_", "A9_z", "input"])
def test_a_result_name_is_an_identifier(name: str) -> None:
    assert parse_graph(json.dumps(sql(result_name=name))).node(1).result_name == name


# --- limits ---------------------------------------------------------------------------------------------------------


def nested(levels: int) -> Raw:
    graph = sql()
    for _ in range(levels - 1):
        graph = then(sql(), graph)
    return graph


def test_a_graph_has_at_most_256_levels() -> None:
    graph = parse_graph(json.dumps(nested(MAX_DEPTH)))
    assert max(node.depth for node in graph.nodes) == MAX_DEPTH
    assert "Graph exceeds maximum nesting depth of 256" in refused(nested(MAX_DEPTH + 1))


def test_the_path_of_a_deep_node_leaves_out_its_middle() -> None:
    path = refused(nested(MAX_DEPTH + 1)).split(":")[0]
    assert path.startswith("root.right_node.")
    assert ".…(217 more)…." in path
    assert len(path) < 600


def test_a_chain_of_any_length_is_one_level() -> None:
    graph = parse_graph(chain(3_000))
    assert {node.depth for node in graph.nodes if node.kind is Kind.THEN} == {1}
    assert {node.depth for node in graph.nodes if node.kind is Kind.SQL} == {2}


def test_a_graph_has_at_most_10000_nodes() -> None:
    graph = parse_graph(chain(MAX_NODES // 2))
    assert len(graph.nodes) == MAX_NODES - 1
    assert refused(chain(MAX_NODES // 2 + 1)) == "root: Graph exceeds maximum of 10000 nodes"


def test_the_longest_chain_can_be_hashed_printed_copied_and_pickled() -> None:
    graph = parse_graph(chain(MAX_NODES // 2))
    assert isinstance(hash(graph), int)
    assert repr(graph).startswith("Graph(nodes=(Node(number=1")
    assert len(copy.copy(graph).nodes) == len(pickle.loads(pickle.dumps(graph.nodes))) == MAX_NODES - 1


def test_at_most_32_repeating_nodes_stand_around_one_another() -> None:
    graph = sql()
    for _ in range(MAX_REPEATING):
        graph = loop(graph)
    assert parse_graph(json.dumps(graph)).nodes[-1].loops == tuple(range(1, MAX_REPEATING + 1))
    assert refused(loop(graph)).endswith(": more than 32 repeating nodes around one another")


def test_an_index_is_added_by_loops_and_retries_and_by_the_body_of_a_map_but_not_by_its_items() -> None:
    kinds = parse_graph(json.dumps(loop(around("RETRY", around("MAP", sql("i"), sql("b"))), condition_node=sql("c"))))
    loops = {node.query or node.kind.value: node.loops for node in kinds.nodes if node.kind is not Kind.RETRY}
    assert loops == {"LOOP": (), "MAP": (1, 2), "i": (1, 2), "b": (1, 2, 3), "c": (1,)}


def test_a_node_knows_where_its_subtree_ends_and_what_is_undone_in_it() -> None:
    graph = parse_graph(
        json.dumps(then(around("UNDO", sql("f"), then(sql("u"), sql("v"))), around("CATCH", sql(), sql())))
    )
    assert [node.kind.value for node in graph.nodes] == [
        "THEN", "UNDO", "SQL", "THEN", "SQL", "SQL", "CATCH", "SQL", "SQL",
    ]  # fmt: skip
    assert [node.last for node in graph.nodes] == [9, 6, 3, 6, 5, 6, 9, 8, 9]
    assert [node.undoing for node in graph.nodes] == [False] * 3 + [True] * 3 + [False] * 3
    assert [node.has_undo for node in graph.nodes] == [True, True] + [False] * 7


def test_the_text_of_a_subtree_is_what_the_builders_write() -> None:
    inner = (
        '{"node_type":"IF","left_node":{"node_type":"SQL","query":"a \\"\\\\ \\u0001 \\n é😀\x7f"},'
        '"right_node":{"node_type":"JOIN","left_node":{"node_type":"SQL","query":"x"},"right_node":'
        '{"node_type":"SQL","query":"y"},"extra_nodes":[{"node_type":"SQL","query":"z"},{"node_type":"SQL","query":"w"}]},'
        '"condition_node":{"node_type":"SQL","query":"c"},"result_name":"n"}'
    )
    graph = parse_graph('{ "result_name" : "r", "node_type":"CALL_CHILD","more":[1],"left_node":' + inner + "}")
    assert graph.text(2) == inner
    assert graph.text(1) == '{"node_type":"CALL_CHILD","left_node":' + inner + ',"result_name":"r"}'
    assert parse_graph("select 1").text(1) == '{"node_type":"SQL","query":"select 1"}'
    longest = chain(MAX_NODES // 2)
    assert json.dumps(parse_graph(longest).text(1)) == json.dumps(longest.replace(": ", ":").replace(", ", ","))


@pytest.mark.parametrize(
    ("inner", "taken"),
    [
        (lambda node: around("CATCH", node, sql()), True),
        (lambda node: around("RETRY", node), True),
        (lambda node: around("TIMEOUT", node), True),
        (lambda node: around("UNDO", node, sql()), True),
        (lambda node: around("UNDO", sql(), node), False),
        (lambda node: around("UNDO", sql(), loop(node)), True),
        (lambda node: around("MAP", node, sql()), True),
        (lambda node: around("MAP", sql(), around("RETRY", node)), False),
        (lambda node: around("MAP", sql(), loop(node)), True),
        (lambda node: around("CALL_CHILD", node), False),
    ],
)
def test_a_break_does_not_leave_a_map_an_undo_or_a_child(inner: Any, taken: bool) -> None:
    graph = loop(inner({"node_type": "BREAK"}))
    if taken:
        parse_graph(json.dumps(graph))
    else:
        assert refused(graph).endswith(": BREAK outside a loop")


# --- queries --------------------------------------------------------------------------------------------------------


def one(kind: str, query: object, **more: object) -> Any:
    text = query if isinstance(query, str) or query is None else json.dumps(query)
    graph = loop({"node_type": kind, "query": text, **more})
    return parse_graph(json.dumps(graph)).node(2).spec


@pytest.mark.parametrize(
    ("query", "spec"),
    [
        ("30", Sleep(seconds=30)),
        (" 0 ", Sleep(seconds=0)),
        ("1.5", Sleep(seconds=1.5)),
        ("1e2", Sleep(seconds=100.0)),
        ("10000000000", Sleep(seconds=10**10)),
        ("$wait", Sleep(text="$wait")),
        ("{pause} minutes", Sleep(text="{pause} minutes")),
        ('{"until":"2027-01-31T09:00:00+01:00"}', Sleep(until="2027-01-31T09:00:00+01:00")),
        ('{"until":"2027-01-31"}', Sleep(until="2027-01-31")),
        ('{"until":"2027-01-31 24:00:00"}', Sleep(until="2027-01-31 24:00:00")),
        ('{"until":"$t"}', Sleep(until="$t")),
    ],
)
def test_sleep_is_a_number_of_seconds_a_time_or_a_reference(query: str, spec: Sleep) -> None:
    assert one("SLEEP", query) == spec


@pytest.mark.parametrize(
    "query",
    [
        None, "", "  ", "-5", "10000000001", "10000000000.0000001", "1e999", "5 minutes", "soon", '{"until":""}',
        '{"until":5}', '{"until":"tomorrow"}', '{"until":"2027-02-29"}', '{"until":"0000-01-01"}', '{"x":1}',
        '{"until":"2027-01-31 24:00:01"}', '{"until":"2027-01-31 25:00"}', '{"until":"2027-01-31 12:00+16"}',
        '{"until":"2027-01-31 12:61"}',
    ],
)  # fmt: skip
def test_any_other_sleep_is_refused(query: str | None) -> None:
    with pytest.raises(GraphError):
        one("SLEEP", query)


def test_a_signal_has_a_name_and_may_have_a_timeout_and_be_fresh() -> None:
    assert one("SIGNAL", {"signal_name": "a"}) == Signal(name="a")
    given = {"signal_name": "a ä", "timeout_seconds": 60, "fresh": True, "else": 1}
    assert one("SIGNAL", given) == Signal(name="a ä", timeout_seconds=60, fresh=True)
    assert one("SIGNAL", '{"signal_name":"a","timeout_seconds":-0.0}').timeout_seconds == 0
    nulls = {"signal_name": "a", "timeout_seconds": None, "fresh": None}
    assert one("SIGNAL", nulls) == Signal(name="a")
    assert one("SIGNAL", {"signal_name": "$" + "x" * 300}).name == "$" + "x" * 300


@pytest.mark.parametrize(
    "query",
    [
        None, "a", "[]", '"a"', "{}", '{"signal_name":""}', '{"signal_name":5}',
        '{"signal_name":"a","timeout_seconds":"5"}', '{"signal_name":"a","timeout_seconds":-1}',
        '{"signal_name":"a","fresh":"true"}', '{"signal_name":"a\\u0000"}',
        '{"signal_name":"a","signal_name":"b"}', '{"signal_name":"' + "ä" * 101 + '"}',
    ],
)  # fmt: skip
def test_any_other_signal_is_refused(query: str | None) -> None:
    with pytest.raises(GraphError):
        one("SIGNAL", query)


def test_what_the_other_nodes_say() -> None:
    daily = {"cron_expr": "@daily", "timezone": "europe/berlin"}
    assert one("WAIT_SCHEDULE", {"cron_expr": "@daily"}) == Schedule(cron="@daily", timezone="UTC")
    assert one("WAIT_SCHEDULE", daily) == Schedule(cron="@daily", timezone="europe/berlin")
    assert one("WAIT_SCHEDULE", {"cron_expr": "$c", "timezone": "{z}"}) == Schedule(cron="$c", timezone="{z}")
    assert one("HTTP", {"url": "u"}) == one("HTTP_MULTIPART", {"url": "u", "parts": []}) == Http()
    assert one("AWAIT_INSTANCE", {"instance_id": "$i"}) == AwaitInstance(instance_id="$i", timeout_seconds=None)
    assert one("AWAIT_INSTANCE", {"instance_id": "a", "timeout_seconds": 0.5}).timeout_seconds == 0.5
    assert one("CALL_CHILD", None, left_node=sql()) == CallChild(label=None, options=None)
    child = '{"label":"l","options":{"input": [1.0, 1e400],"timeout_seconds":"$t"}}'
    wanted = CallChild(label="l", options='{"input": [1.0, 1e400],"timeout_seconds":"$t"}')
    assert one("CALL_CHILD", child, left_node=sql()) == wanted
    assert one("MAP", {"items": "r"}, right_node=sql()) == Map(items="r", max_parallel=10)
    assert one("MAP", {"max_parallel": 3}, left_node=sql(), right_node=sql()) == Map(items=None, max_parallel=3)
    assert one("RETRY", {"max_attempts": 3}, left_node=sql()) == Retry(
        max_attempts=3, initial_seconds=1, backoff=2, max_interval_seconds=300
    )
    retry = {"max_attempts": 1, "initial": 0, "backoff": 1.5, "max_interval": 60}
    assert one("RETRY", retry, left_node=sql()) == Retry(
        max_attempts=1, initial_seconds=0, backoff=1.5, max_interval_seconds=60
    )
    assert one("TIMEOUT", {"seconds": 0.25}, left_node=sql()) == Timeout(seconds=0.25)
    assert one("CATCH", None, left_node=sql(), right_node=sql()) is None
    assert one("UNDO", None, left_node=sql(), right_node=sql()) is None


def test_if_asks_a_condition_or_the_rows_of_a_result() -> None:
    branches = {"left_node": sql(), "right_node": sql()}
    assert one("IF", None, **branches, condition_node=sql()) == If()
    rows = {"condition_type": "result_has_rows", "result_name": "r"}
    assert one("IF", rows, **branches) == If(result_name="r")
    with pytest.raises(GraphError, match="IF with a query takes no condition_node"):
        one("IF", rows, **branches, condition_node=sql())
    for wrong in (
        {},
        {"condition_type": "x", "result_name": "r"},
        {**rows, "result_name": "1"},
        {**rows, "result_name": 1},
    ):
        with pytest.raises(GraphError):
            one("IF", wrong, **branches)


def test_a_loop_may_say_how_often_it_starts() -> None:
    assert one("LOOP", None, left_node=sql()) == Loop()
    assert one("LOOP", {"every": 0}, left_node=sql()) == Loop(every_seconds=0)
    assert one("LOOP", {"every": 0.25}, left_node=sql()) == Loop(every_seconds=0.25)
    for wrong in ("60", {"every": "60"}, {"every": -1}, {"every": 1e11}):
        with pytest.raises(GraphError):
            one("LOOP", wrong, left_node=sql())


@pytest.mark.parametrize(
    "value", ["5", "1.50", '"a"', '{"b": [1e400]}', "false", '"$x"', pytest.param("[" * 5_000 + "]" * 5_000, id="deep")]
)
def test_a_break_value_is_kept_as_its_json_text(value: str) -> None:
    assert one("BREAK", f'{{ "break_value" : {value} }}') == Break(value=value)


def test_a_break_without_a_value_has_none() -> None:
    assert one("BREAK", None) == one("BREAK", "{}") == one("BREAK", '{"break_value":null}') == Break()
    with pytest.raises(GraphError):
        one("BREAK", "5")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("007", 7),
        ("1.25", 1.25),
        ("0", 0),
        ("", None),
        ("-1", None),
        ("1.", None),
        ("٣", None),
        ("1" * 500, None),
        ("inf", None),
    ],
)
def test_seconds_are_read_from_a_number_of_a_sensible_size(text: str, seconds: float | None) -> None:
    assert as_seconds(text) == seconds


# --- getting about --------------------------------------------------------------------------------------------------


def test_loops_are_the_repeating_ancestors_outermost_first_and_hold_the_condition_too() -> None:
    graph = parse_graph(json.dumps(loop(then(sql(), loop(sql(), condition_node=sql())), condition_node=sql())))
    assert [(node.kind.value, node.loops) for node in graph.nodes] == [
        ("LOOP", ()), ("THEN", (1,)), ("SQL", (1,)), ("LOOP", (1,)), ("SQL", (1, 4)), ("SQL", (1, 4)), ("SQL", (1,)),
    ]  # fmt: skip


def test_a_chain_lists_its_steps_with_the_names_of_the_inner_thens_that_end_with_them() -> None:
    inner = then(then(sql("a"), sql("b"), result_name="ab"), sql("c", result_name="just_c"))
    graph = parse_graph(json.dumps(then(inner, sql("d"), result_name="all")))
    items = graph.chain(1)
    assert [graph.node(item.node).query for item in items] == ["a", "b", "c", "d"]
    assert [item.names for item in items] == [(), ("ab",), (), ()]
    assert items == (ChainItem(4, ()), ChainItem(5, ("ab",)), ChainItem(6, ()), ChainItem(7, ()))


def test_a_then_on_the_right_is_a_chain_of_its_own() -> None:
    graph = parse_graph(json.dumps(then(sql("a"), then(sql("b"), sql("c")))))
    assert [item.node for item in graph.chain(1)] == [2, 3]
    assert [item.node for item in graph.chain(3)] == [4, 5]
    assert graph.route(5) == (1, 3, 5)


def test_a_route_leaves_out_the_inner_thens_of_chains() -> None:
    graph = parse_graph(json.dumps(loop(then(then(sql("a"), loop(sql("b"))), sql("c")))))
    by_query = {node.query: node.number for node in graph.nodes}
    assert graph.route(by_query["a"]) == (1, 2, by_query["a"])
    assert graph.route(by_query["b"]) == (1, 2, 5, by_query["b"])
    assert graph.route(by_query["c"]) == (1, 2, by_query["c"])
    assert graph.route(1) == (1,)


def test_a_route_in_the_longest_chain_is_short() -> None:
    graph = parse_graph(chain(MAX_NODES // 2))
    assert all(len(graph.route(node.number)) <= 2 for node in graph.nodes)
    assert len(graph.chain(1)) == MAX_NODES // 2


def test_one_text_is_one_graph_object() -> None:
    text = json.dumps(then(sql("one text"), sql("one graph")))
    graph = graph_of(text)
    assert graph_of("".join(list(text))) is graph
    assert graph is not parse_graph(text)


def test_a_graph_in_use_is_shared_even_when_it_is_no_longer_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.graph.CACHED_NODES", 10)
    mine = graph_of(chain(4))
    others = [graph_of(chain(3)), graph_of(chain(2)), graph_of("select 'the last'")]
    assert graph_of(chain(4)) is mine
    assert [len(graph.nodes) for graph in others] == [5, 3, 1]
