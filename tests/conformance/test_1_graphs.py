"""LANGUAGE.md section 1, sentence by sentence: what a graph is, and what is refused at the INSERT."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from tests.conformance.user import User

EACH_BUILDER: Final = """
    df.seq_all(
      df.as(df.sql('select 1 as n'), 'one'),
      df.join_all('select 1', 'select 2', df.race('select 3', 'select 4')),
      df.if('select true', 'select 5', df.if_rows('one', 'select 6', 'select 7')),
      df.loop('select 8' ~> df.break('{"a":1}'), 'select false', every => '1s'),
      df.sleep(0) ~> df.sleep_until('2020-01-01Z'),
      df.wait_for_signal('s', 0)
    )
"""
KEYS: Final = ("node_type", "left_node", "right_node", "condition_node", "extra_nodes", "query", "result_name")


def sql(query: str, name: str | None = None) -> dict[str, Any]:
    """A SQL node."""
    return {"node_type": "SQL", "query": query} | ({} if name is None else {"result_name": name})


def node(node_type: str, options: Any = None, **children: Any) -> dict[str, Any]:
    """A node whose query is a JSON object, as text."""
    return {"node_type": node_type, **children} | ({} if options is None else {"query": json.dumps(options)})


def nodes_of(graph: Any) -> list[dict[str, Any]]:
    """The node and all below it."""
    if isinstance(graph, list):
        return [found for child in graph for found in nodes_of(child)]
    if isinstance(graph, dict):
        return [graph, *(found for child in graph.values() for found in nodes_of(child))]
    return []


def refused(alice: User, graph: Any) -> str:
    """The message with which the INSERT refuses a graph."""
    text = graph if isinstance(graph, str) else json.dumps(graph)
    return alice.refused("insert into df.instances (graph) values (%s)", [text])


def nested(levels: int) -> str:
    """A graph of so many levels: each node is the left child of the one above."""
    return '{"node_type":"JOIN","left_node":' * (levels - 1) + json.dumps(sql("select 1")) + "}" * (levels - 1)


def chain(links: int, first: str = "select 1") -> str:
    """A sequence of so many steps: each THEN is the left child of the one above."""
    last = ',"right_node":' + json.dumps(sql("select 1")) + "}"
    return '{"node_type":"THEN","left_node":' * (links - 1) + json.dumps(sql(first)) + last * (links - 1)


def test_a_graph_is_text_a_json_object_describing_a_node(alice: User) -> None:
    """A graph is text: a JSON object describing a node."""
    graph, type = alice.run("select g, pg_typeof(g)::text from df.sql('select 1') as g")[0]
    assert type == "text"
    assert json.loads(graph)["node_type"] == "SQL"
    id = alice.insert(graph)
    assert alice.value("select pg_typeof(graph)::text || graph from df.instances where id = %s", [id]) == "text" + graph


def test_builders_are_text_to_text_and_touch_no_table(alice: User) -> None:
    """Builders and operators are text → text and touch no table."""
    with alice.transaction():
        assert alice.value(f"select pg_typeof({EACH_BUILDER})::text") == "text"
        assert not alice.run("""
            select l.relation::regclass
              from pg_locks l join pg_class c on c.oid = l.relation
             where l.pid = pg_backend_pid() and c.relnamespace = 'df'::regnamespace
        """)
    assert set(
        alice.run("""
        select o.oprresult::regtype::text, o.oprright::regtype::text
          from pg_operator o join pg_proc p on p.oid = o.oprcode
         where p.pronamespace = 'df'::regnamespace
    """)
    ) == {("text", "text")}


def test_keys_stand_in_this_order_compact_and_absent_when_null_or_empty(alice: User) -> None:
    """Keys, in this order, compact, absent when null or empty: `node_type, left_node, right_node, condition_node,
    extra_nodes, query, result_name`."""
    text = alice.build(EACH_BUILDER)
    graph = json.loads(text)
    assert text == json.dumps(graph, separators=(",", ":"), ensure_ascii=False)
    for found in nodes_of(graph):
        assert list(found) == [key for key in KEYS if key in found]
        assert None not in found.values()
        assert found.get("extra_nodes") != []


def test_children_are_nested_objects(alice: User) -> None:
    """Children are nested objects."""
    assert json.loads(alice.build("'select 1' ~> 'select 2'")) == {
        "node_type": "THEN",
        "left_node": sql("select 1"),
        "right_node": sql("select 2"),
    }


def test_unknown_keys_are_ignored(alice: User) -> None:
    """Unknown keys are ignored."""
    graph = {"comment": "x", **sql("select 1 as a"), "node": {"node_type": "none"}, "x": [None]}
    assert alice.end(alice.insert(graph)).result["rows"] == [{"a": 1}]


def test_the_same_expression_gives_byte_identical_text(alice: User) -> None:
    """The same expression gives byte-identical text."""
    texts = {alice.build(EACH_BUILDER)}
    with alice.transaction():
        alice.run("set local search_path = public, df; set local standard_conforming_strings = off")
        alice.run(
            "set local datestyle = 'German, DMY'; set local intervalstyle = 'sql_standard'; set local timezone = 'Asia/Kolkata'"
        )
        texts.add(alice.build(EACH_BUILDER))
    assert len(texts) == 1


def test_sql_has_the_text_as_its_query(alice: User) -> None:
    """SQL | | the SQL text"""
    assert alice.end(alice.insert(sql("select 'a' as a"))).result["rows"] == [{"a": "a"}]


def test_then_has_left_and_right(alice: User) -> None:
    """THEN | left, right"""
    graph = node("THEN", left_node=sql("select 1 as a", "x"), right_node=sql("select $x + 1 as b"))
    assert alice.end(alice.insert(graph)).result["rows"] == [{"b": 2}]


def test_join_and_race_have_left_right_and_extra_nodes(alice: User) -> None:
    """JOIN, RACE | left, right, extra_nodes"""
    three = {
        "left_node": sql("select 1 as a"),
        "right_node": sql("select 2 as a"),
        "extra_nodes": [sql("select 3 as a")],
    }
    join, race = alice.insert(node("JOIN", **three)), alice.insert(node("RACE", **three))
    assert [branch["rows"][0]["a"] for branch in alice.end(join).result] == [1, 2, 3]
    assert alice.end(race).result["rows"][0]["a"] in (1, 2, 3)


def test_if_has_a_condition_then_on_the_left_and_else_on_the_right(alice: User) -> None:
    """IF | condition (none for if_rows), left (then), right (else)"""
    branches = {"left_node": sql("select 'then' as b"), "right_node": sql("select 'else' as b")}
    yes = alice.insert(node("IF", condition_node=sql("select true"), **branches))
    no = alice.insert(node("IF", condition_node=sql("select false"), **branches))
    assert [alice.end(id).result["rows"][0]["b"] for id in (yes, no)] == ["then", "else"]


def test_if_rows_has_the_name_in_its_query(alice: User) -> None:
    """IF | if_rows: `{"condition_type":"result_has_rows","result_name":…}`"""
    branches = {"left_node": sql("select 'then' as b"), "right_node": sql("select 'else' as b")}
    graph = node(
        "THEN",
        left_node=sql("select where false", "x"),
        right_node=node("IF", {"condition_type": "result_has_rows", "result_name": "x"}, **branches),
    )
    assert alice.end(alice.insert(graph)).result["rows"] == [{"b": "else"}]


def test_loop_has_a_body_on_the_left_a_condition_and_every_when_given(alice: User) -> None:
    """LOOP | left (body), condition | `{"every":seconds}` when given"""
    plain = alice.insert(node("LOOP", left_node=sql("select 1 as n"), condition_node=sql("select false")))
    timed = alice.insert(
        node("LOOP", {"every": 0.2}, left_node=sql("select 1 as n", "i"), condition_node=sql("select $i = 0"))
    )
    assert alice.end(plain).result["rows"] == [{"n": 1}]
    assert alice.end(timed).result["rows"] == [{"n": 1}]
    assert "query" not in json.loads(alice.build("df.loop('select 1')"))
    assert json.loads(alice.build("df.loop('select 1', every => '1m')"))["query"] == '{"every":60}'


def test_break_has_its_value_in_its_query(alice: User) -> None:
    """BREAK | | `{"break_value":…}`"""
    id = alice.insert(node("LOOP", left_node=node("BREAK", {"break_value": {"a": [1, "x"]}})))
    assert alice.end(id).result == {"a": [1, "x"]}


def test_sleep_has_seconds_until_or_a_text_with_references(alice: User) -> None:
    """SLEEP | | `30`, or `{"until":…}`, or a text with references"""
    seconds = alice.insert({"node_type": "SLEEP", "query": "0"})
    until = alice.insert(node("SLEEP", {"until": "2020-01-01T00:00:00Z"}))
    reference = alice.insert(
        node("THEN", left_node=sql("select 0 as s", "x"), right_node={"node_type": "SLEEP", "query": "$x.s"})
    )
    assert [alice.end(id).result["slept"] for id in (seconds, until, reference)] == [True, True, True]


def test_wait_schedule_has_an_expression_and_a_zone(alice: User) -> None:
    """WAIT_SCHEDULE | | `{"cron_expr","timezone"}`"""
    schedule = node("WAIT_SCHEDULE", {"cron_expr": "0 3 29 2 *", "timezone": "Europe/Berlin"})
    id = alice.insert(node("RACE", left_node=schedule, right_node={"node_type": "SLEEP", "query": "0"}))
    assert alice.end(id).result["slept"] is True


def test_signal_has_a_name_a_timeout_and_fresh(alice: User) -> None:
    """SIGNAL | | `{"signal_name","timeout_seconds","fresh"}`"""
    id = alice.insert(node("SIGNAL", {"signal_name": "s", "timeout_seconds": 0, "fresh": True}))
    assert alice.end(id).result == {"signal_name": "s", "timed_out": True, "data": None}


@pytest.mark.parametrize("node_type", ["HTTP", "HTTP_MULTIPART"])
def test_http_is_known_and_refused_as_not_available(alice: User, node_type: str) -> None:
    """HTTP, HTTP_MULTIPART | | `{"url","method","body","headers","timeout_seconds"}`, with `parts`"""
    message = refused(alice, node(node_type, {"url": "https://example.com/", "method": "GET"}))
    assert message.startswith("Invalid durable function graph: root: ")
    assert "HTTP" in message
    assert "not available" in message


def test_call_child_has_the_childs_graph_on_the_left_and_label_and_options(alice: User) -> None:
    """CALL_CHILD | left (the child's graph) | `{"label","options"}`"""
    graph = node(
        "CALL_CHILD", {"label": "a child", "options": {"input": {"n": 7}}}, left_node=sql("select $input.n as i")
    )
    assert alice.end(alice.insert(graph)).result["rows"] == [{"i": 7}]


def test_await_instance_has_an_id_and_a_timeout(alice: User) -> None:
    """AWAIT_INSTANCE | | `{"instance_id","timeout_seconds"}`"""
    other = alice.insert("select 1 as a")
    end = alice.end(alice.insert(node("AWAIT_INSTANCE", {"instance_id": other, "timeout_seconds": 10})))
    assert end.result["instance_id"] == other
    assert end.result["status"] == "completed"


def test_map_has_items_on_the_left_or_by_name_and_the_body_on_the_right(alice: User) -> None:
    """MAP | left (items; none when a name), right (body) | `{"items","max_parallel"}`"""
    items, body = sql("select generate_series(1, 3) as i", "x"), sql("select $item * 2 as d")
    step = alice.insert(node("MAP", {"max_parallel": 2}, left_node=items, right_node=body))
    name = alice.insert(
        node("THEN", left_node=items, right_node=node("MAP", {"items": "x", "max_parallel": 2}, right_node=body))
    )
    for id in (step, name):
        assert [item["rows"][0]["d"] for item in alice.end(id).result] == [2, 4, 6]


def test_retry_and_timeout_have_a_left_child_and_their_numbers(alice: User) -> None:
    """RETRY, TIMEOUT | left | `{"max_attempts","initial","backoff","max_interval"}`, `{"seconds"}`"""
    numbers = {"max_attempts": 2, "initial": 0.01, "backoff": 2, "max_interval": 1}
    retry = alice.insert(node("RETRY", numbers, left_node=sql("select 1 as a")))
    timeout = alice.insert(node("TIMEOUT", {"seconds": 0.1}, left_node={"node_type": "SLEEP", "query": "60"}))
    assert alice.end(retry).result["rows"] == [{"a": 1}]
    assert alice.end(timeout).error["code"] == "timeout"


def test_catch_and_undo_have_the_handler_or_the_undo_on_the_right(alice: User) -> None:
    """CATCH, UNDO | left, right (handler, undo)"""
    catch = alice.insert(node("CATCH", left_node=sql("select 1 / 0"), right_node=sql("select $error.code as code")))
    undo = alice.insert(node("UNDO", left_node=sql("select 1 as a"), right_node=sql("select 2 as b")))
    assert alice.end(catch).result["rows"] == [{"code": "22012"}]
    assert alice.end(undo).result["rows"] == [{"a": 1}]


@pytest.mark.parametrize("space", ["", " ", "\n\t \r"])
def test_text_that_begins_with_brace_and_quote_is_meant_as_a_node(alice: User, space: str) -> None:
    """Every builder argument that is a node, and `df.instances.graph` itself: text whose first characters are `{` and `"`
    (white space ignored) is meant as a node"""
    graph = space + "{" + space + '"node_type":"SQL","query":"select 1 as a"}'
    assert alice.end(alice.insert(graph)).result["rows"] == [{"a": 1}]
    built = alice.value("select df.seq(%s, 'select 2')", [graph])
    assert json.loads(built)["left_node"] == sql("select 1 as a")


@pytest.mark.parametrize("text", ["{query}", "  select 1 as a \n", "[1]", "select '{\"'", "{ query }", "'{\"a\":1}'"])
def test_any_other_text_is_a_sql_node_with_that_text_as_its_query(alice: User, text: str) -> None:
    """any other text, `{query}` included, is a SQL node with that text as its query (no trimming)."""
    built = json.loads(alice.value("select df.seq(%s, 'select 2')", [text]))
    assert built["left_node"] == sql(text)


def test_a_graph_that_is_sql_text_runs_as_it_stands(alice: User) -> None:
    """any other text, `{query}` included, is a SQL node with that text as its query (no trimming)."""
    alice.run("select df.setvar('conformance_query', 'select 7 as seven')")
    assert alice.end(alice.insert("{conformance_query}")).result["rows"] == [{"seven": 7}]
    alice.run("select df.unsetvar('conformance_query')")
    assert alice.end(alice.insert("  select 1 as a \n")).result["rows"] == [{"a": 1}]


def test_builders_look_only_at_that_prefix(alice: User) -> None:
    """Builders look only at that prefix; the INSERT and `explain` parse everything and refuse what is not one valid node."""
    broken = alice.value("""select df.seq('{"node_type":', 'select 1')""")
    assert (
        broken == '{"node_type":"THEN","left_node":{"node_type":,"right_node":{"node_type":"SQL","query":"select 1"}}'
    )
    assert refused(alice, broken).startswith("Invalid durable function graph: root: not valid JSON near ")


def test_the_insert_refuses_what_is_not_one_valid_node(alice: User) -> None:
    """Builders look only at that prefix; the INSERT and `explain` parse everything and refuse what is not one valid node."""
    two = alice.build("df.sql('select 1') || df.sql('select 2')")
    assert refused(alice, two).startswith("Invalid durable function graph: root: not valid JSON near ")


def test_explain_refuses_what_is_not_one_valid_node(alice: User) -> None:
    """Builders look only at that prefix; the INSERT and `explain` parse everything and refuse what is not one valid node."""
    two = alice.build("df.sql('select 1') || df.sql('select 2')")
    for graph in (two, '{"node_type":', json.dumps(node("THEN", left_node=sql("select 1")))):
        assert alice.refused("select df.explain(%s)", [graph]) == refused(alice, graph)


def test_concatenation_binds_like_the_operators(alice: User) -> None:
    """(`||` binds like `~>`: `'a' ~> 'SELECT ' || x` is `('a' ~> 'SELECT ') || x`, hence the hint below.)"""
    assert alice.build("'a' ~> 'SELECT ' || '1'") == alice.build("('a' ~> 'SELECT ') || '1'")


def test_broken_json_is_refused_with_the_place_and_the_hint(alice: User) -> None:
    """for broken JSON `Invalid durable function graph: root: not valid JSON near '…' (|| binds like ~>: put parentheses
    around concatenations)`."""
    assert refused(alice, alice.build("'a' ~> 'SELECT ' || 'bcd'")) == (
        "Invalid durable function graph: root: not valid JSON near 'bcd' "
        "(|| binds like ~>: put parentheses around concatenations)"
    )


def test_the_error_has_the_path_of_the_node_and_what_is_wrong_with_it(alice: User) -> None:
    """Error `Invalid durable function graph: <path>: <what>`, path like `root.left_node.extra_nodes[0]`"""
    join = {"left_node": sql("select 1"), "right_node": sql("select 1"), "extra_nodes": [node("SLEEP")]}
    message = refused(alice, node("THEN", left_node=node("JOIN", **join), right_node=sql("select 1")))
    assert re.fullmatch(r"Invalid durable function graph: root\.left_node\.extra_nodes\[0\]: \S.*", message)


@pytest.mark.parametrize("links", [300, 4000])
def test_a_chain_of_any_length_is_one_level(alice: User, links: int) -> None:
    """Depth counts nesting, not length: a THEN whose left child is a THEN adds no level, so a chain of any length is one
    level."""
    end = alice.end(alice.insert(chain(links, first="select 1 / 0")))
    assert end.error["code"] == "22012"


def test_over_256_levels_are_refused(alice: User) -> None:
    """Over 256 levels (`Graph exceeds maximum nesting depth of 256…`)"""
    assert alice.end(alice.insert(nested(256))).status == "completed"
    assert "Graph exceeds maximum nesting depth of 256" in refused(alice, nested(257))


def test_over_10000_nodes_are_refused(alice: User) -> None:
    """over 10,000 nodes"""
    right = '{"node_type":"RACE","left_node":' + chain(5000, "select 1 / 0") + ',"right_node":'
    assert "10000 nodes" in refused(alice, right + json.dumps(sql("select 1")) + "}")
    assert alice.end(alice.insert(chain(5000, "select 1 / 0"))).status == "failed"


@pytest.mark.parametrize(
    "graph",
    [
        node("THEN", left_node=sql("select 1")),
        node("IF", left_node=sql("select 1"), condition_node=sql("select true")),
        node("LOOP"),
        node("RACE", left_node=sql("select 1")),
        node("MAP", {"items": "x"}),
        node("RETRY", {"max_attempts": 2}),
        node("TIMEOUT", {"seconds": 1}),
        node("CATCH", left_node=sql("select 1")),
        node("UNDO", left_node=sql("select 1")),
        node("CALL_CHILD"),
    ],
    ids=lambda graph: graph["node_type"],
)
def test_a_missing_child_is_refused(alice: User, graph: Any) -> None:
    """a missing or a superfluous child"""
    assert re.fullmatch(
        rf"Invalid durable function graph: root: {graph['node_type']} needs .*_node", refused(alice, graph)
    )


@pytest.mark.parametrize(
    "graph",
    [
        {**sql("select 1"), "left_node": sql("select 1")},
        {**node("BREAK"), "right_node": sql("select 1")},
        {"node_type": "SLEEP", "query": "1", "left_node": sql("select 1")},
        node("LOOP", left_node=sql("select 1"), right_node=sql("select 1")),
        node("TIMEOUT", {"seconds": 1}, left_node=sql("select 1"), right_node=sql("select 1")),
    ],
    ids=lambda graph: graph["node_type"],
)
def test_a_superfluous_child_is_refused(alice: User, graph: Any) -> None:
    """a missing or a superfluous child"""
    inner = node("LOOP", left_node=graph, condition_node=sql("select false"))
    place = "root.left_node"
    assert re.fullmatch(
        rf"Invalid durable function graph: {place}: {graph['node_type']} takes no (left|right)_node",
        refused(alice, inner),
    )


def test_a_condition_node_where_none_belongs_is_refused(alice: User) -> None:
    """a `condition_node` where none belongs"""
    graph = node("THEN", left_node=sql("select 1"), right_node=sql("select 1"), condition_node=sql("select 1"))
    assert refused(alice, graph) == "Invalid durable function graph: root: THEN takes no condition_node"
    both = {"left_node": sql("select 1"), "right_node": sql("select 1"), "condition_node": sql("select 1")}
    rows = node("IF", {"condition_type": "result_has_rows", "result_name": "x"}, **both)
    assert refused(alice, rows).startswith("Invalid durable function graph: root: ")


@pytest.mark.parametrize("name", ["1a", "", "a-b", "ä", "a b"])
def test_a_bad_result_name_is_refused(alice: User, name: str) -> None:
    """a bad result name"""
    assert refused(alice, sql("select 1", name)).startswith(
        f"Invalid durable function graph: root: result name '{name}' is not a valid identifier"
    )


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "60 * * * *", "* * * *", "* * * * * *", "nonsense", "@never", ""])
def test_a_bad_cron_expression_is_refused(alice: User, expression: str) -> None:
    """a bad … cron expression"""
    message = refused(alice, node("WAIT_SCHEDULE", {"cron_expr": expression, "timezone": "UTC"}))
    assert message.startswith("Invalid durable function graph: root: ")
    assert "not available" not in message


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "", "UTC+25"])
def test_a_bad_time_zone_is_refused(alice: User, zone: str) -> None:
    """a bad … time zone"""
    message = refused(alice, node("WAIT_SCHEDULE", {"cron_expr": "* * * * *", "timezone": zone}))
    assert message.startswith("Invalid durable function graph: root: ")
    assert "not available" not in message


@pytest.mark.parametrize("seconds", [-1, "x", 1e300, True, []])
def test_a_bad_interval_is_refused(alice: User, seconds: Any) -> None:
    """a bad … interval"""
    loop = node("LOOP", {"every": seconds}, left_node=sql("select 1"))
    timeout = node("TIMEOUT", {"seconds": seconds}, left_node=sql("select 1"))
    sleep = {"node_type": "SLEEP", "query": json.dumps(seconds)}
    for graph in (loop, timeout, sleep):
        message = refused(alice, graph)
        assert message.startswith("Invalid durable function graph: root: ")
        assert "not available" not in message


@pytest.mark.parametrize(
    ("node_type", "options"),
    [
        ("SIGNAL", {"signal_name": ""}),
        ("SIGNAL", {"signal_name": "s", "timeout_seconds": "soon"}),
        ("SIGNAL", {"signal_name": "s", "fresh": 1}),
        ("IF", {"condition_type": "result_has_columns", "result_name": "x"}),
        ("MAP", {"items": "no name"}),
        ("MAP", {"items": "x", "max_parallel": 0}),
        ("RETRY", {"max_attempts": 0}),
        ("RETRY", {"max_attempts": 2, "backoff": "x"}),
        ("CALL_CHILD", {"options": {"on_failure": "shrug"}}),
        ("CALL_CHILD", {"options": {"on_parent_cancel": "shrug"}}),
        ("AWAIT_INSTANCE", {"instance_id": 7}),
    ],
)
def test_a_bad_option_is_refused(alice: User, node_type: str, options: Any) -> None:
    """a bad … option"""
    one, both = {"left_node": sql("select 1")}, {"left_node": sql("select 1"), "right_node": sql("select 1")}
    children = {"IF": both, "MAP": {"right_node": sql("select 1")}, "RETRY": one, "CALL_CHILD": one}
    message = refused(alice, node(node_type, options, **children.get(node_type, {})))
    assert message.startswith("Invalid durable function graph: root: ")
    assert "not available" not in message


def test_a_break_outside_any_loop_is_refused(alice: User) -> None:
    """a BREAK outside any loop"""
    message = refused(alice, node("THEN", left_node=sql("select 1"), right_node=node("BREAK")))
    assert message.startswith("Invalid durable function graph: root.right_node: BREAK")
    loop = node("LOOP", left_node=sql("select 1"), condition_node=sql("select false"))
    assert refused(alice, node("THEN", left_node=loop, right_node=node("BREAK"))) == message


@pytest.mark.parametrize("node_type", ["LOOP", "MAP", "RETRY"])
def test_more_than_32_repeating_nodes_around_one_another_are_refused(alice: User, node_type: str) -> None:
    """more than 32 repeating nodes (LOOP, MAP, RETRY) around one another: all are refused there."""
    repeating = {
        "LOOP": lambda inner: node("LOOP", left_node=inner, condition_node=sql("select false")),
        "MAP": lambda inner: node("MAP", left_node=sql("select 1"), right_node=inner),
        "RETRY": lambda inner: node("RETRY", {"max_attempts": 2}, left_node=inner),
    }
    graph = sql("select 1")
    for _ in range(32):
        graph = repeating[node_type](graph)
    assert alice.end(alice.insert(graph)).status == "completed"
    assert "32" in refused(alice, node("LOOP", left_node=graph))


def test_an_unknown_node_type_is_refused_with_the_valid_ones(alice: User) -> None:
    """`Invalid durable function: Unknown node_type 'X'. Valid types: …`."""
    message = refused(alice, {"node_type": "X"})
    start = "Invalid durable function: Unknown node_type 'X'. Valid types: "
    assert message.startswith(start)
    assert {"SQL", "THEN", "JOIN", "RACE", "IF", "LOOP", "BREAK", "SLEEP", "SIGNAL"} <= set(
        re.findall(r"[A-Z_]+", message.removeprefix(start))
    )


def test_chains_are_walked_iteratively(alice: User) -> None:
    """Validator and engine walk chains iteratively; no recursive JSON parser meets a graph (Python's own gives up at about
    1,000 levels: tried)."""
    id = alice.insert(chain(1200))
    assert alice.end(id, 60).result["rows"] == [{"?column?": 1}]
