"""The INSERT refuses what cannot run, with a path to the bad node, and stores nothing (LANGUAGE.md section 1)."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from engine.schedule import ScheduleError, zone_of
from tests.servers import Database, backend_seconds
from tests.sql.asking import Asking

Raw = dict[str, Any]

TAIL = "(|| binds like ~>: put parentheses around concatenations)"
TYPES = (
    "SQL, THEN, JOIN, RACE, IF, LOOP, BREAK, SLEEP, SIGNAL, WAIT_SCHEDULE, HTTP, HTTP_MULTIPART, CALL_CHILD, AWAIT_INSTANCE, "
    "MAP, RETRY, TIMEOUT, CATCH, UNDO"
)
NAME_RULE = "is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"


def sql(query: str = "select 1", **more: object) -> Raw:
    return {"node_type": "SQL", "query": query, **more}


def node(kind: str, left: object = None, right: object = None, **more: object) -> Raw:
    members = {"node_type": kind, "left_node": left, "right_node": right}
    return {**{key: value for key, value in members.items() if value is not None}, **more}


def loop(body: Raw, **more: object) -> Raw:
    return node("LOOP", body, **more)


def sleep(query: str) -> Raw:
    return node("SLEEP", query=query)


def signal(**options: object) -> Raw:
    return node("SIGNAL", query=json.dumps(options))


def until(text: object) -> Raw:
    return sleep(json.dumps({"until": text}))


BREAK = node("BREAK")
IF_ROWS = json.dumps({"condition_type": "result_has_rows", "result_name": "n"})


def refusal(alice: Asking, graph: Raw | str) -> str:
    """What the INSERT says, without its constant beginning."""
    text = graph if isinstance(graph, str) else json.dumps(graph, ensure_ascii=False)
    said = alice.refused("insert into df.instances (graph) values (%s)", text)
    return said.removeprefix("Invalid durable function graph: ")


def accept(alice: Asking, graph: Raw | str) -> None:
    text = graph if isinstance(graph, str) else json.dumps(graph, ensure_ascii=False)
    alice.rows("insert into df.instances (graph) values (%s)", text)


# --- JSON ---


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ('{"', '"'),
        ('{"node_type":"SQL","query":"a"}x', "x"),
        ('{"node_type":"SQL","query":"a"} || \'b\'', "|| 'b'"),
        ('{"node_type":"SQL","query":"a"}}', "}"),
        ('{"node_type":"SQL","query":"a"', '{"node_type":"SQL","query":"a"'),
        ('{"node_type":"SQL" "query":"a"}', '"query":"a"}'),
        ('{"node_type":"SQL","query":"a",}', ",}"),
        ('{"node_type":"SQL","query":tru}', "tru}"),
        ('{"node_type":"SQL","query":"a","x":01}', "01}"),
        ('{"node_type":"SQL","query":"a","x":[1,]}', "]}"),
        ('{"node_type":"SQL","query":"a","x":[1}', "}"),
        ('{"node_type":"SQL","query":"a\nb"}', '"a\nb"}'),
        ('{"node_type":"SQL","query":"a\\x"}', '"a\\x"}'),
        ('{"node_type":"SQL","query":"\\u12g4"}', '"\\u12g4"}'),
        ('{"node_type":"SQL","que\\ry":"a","\\q":1}', ',"\\q":1}'),
        ("{\"node_type\":'SQL'}", "'SQL'}"),
        ('{"node_type":"SQL","query":"a","x":NaN}', "NaN}"),
        ('{"node_type":"SQL","query":"' + "y" * 100 + "}", '"' + "y" * 29),
    ],
)
def test_text_that_is_not_json_is_shown_where_it_stops_being_so(everywhere: Asking, text: str, near: str) -> None:
    assert refusal(everywhere, text) == f"root: not valid JSON near '{near}' {TAIL}"


@pytest.mark.parametrize(
    "text",
    [
        ' \t\r\n{ "node_type" : "SQL" , "query" : "a" } \n',
        '{"query":"a","node_type":"SQL"}',
        '{"node\\u005ftype":"\\u0053QL","\\u0071uery":"\\u00e9\\ud83d\\ude00\\n\\/"}',
        '{"node_type":"SQL","query":"a","result_name":null,"left_node":null,"extra_nodes":null}',
        '{"node_type":"SQL","query":"a","extra_nodes":[]}',
        '{"node_type":"SQL","query":"a","x":{"left_node":[{}, [], 1e5, -0.1E-7, true, "\\u0000\\ud800", null]},"y":{},"":0}',
        '{"node_type":"SQL","query":"a","\\u0000":1,"\\ud800x":2,"x":1,"x":2}',
        '{"node_type":"SQL","query":"a","deep":' + "[" * 20_000 + "]" * 20_000 + "}",
    ],
)
def test_any_spelling_of_json_is_taken_and_unknown_keys_are_ignored(everywhere: Asking, text: str) -> None:
    accept(everywhere, text)


def test_the_query_that_runs_is_the_decoded_one(alice: Asking) -> None:
    """What the engine decodes, the INSERT has looked at: blank is blank however it is spelled."""
    assert refusal(alice, '{"node_type":"SQL","query":"\\u0020\\n\\t"}') == "root: SQL needs a query"


@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800", "\\udc00x", "\\ud800\\ud800"])
@pytest.mark.parametrize("key", ["query", "result_name"])
def test_a_character_that_text_cannot_hold_is_refused(alice: Asking, key: str, escape: str) -> None:
    text = '{"node_type":"SQL","query":"a"}' if key == "result_name" else '{"node_type":"SQL"}'
    said = refusal(alice, f'{text[:-1]},"{key}":"a{escape}"}}')
    assert said == f"root: {key} has a character that text cannot hold"


# --- nodes ---


@pytest.mark.parametrize("text", ["", " ", "\t\r\n "])
def test_a_blank_graph_is_refused(alice: Asking, text: str) -> None:
    assert refusal(alice, text) == "root: SQL needs a query"


@pytest.mark.parametrize("text", ["select 1", "{query}", "{}", "[]", '{ x: "y" }', "-- nothing"])
def test_text_that_is_no_node_is_sql(alice: Asking, text: str) -> None:
    accept(alice, text)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ('{"x":1}', "root: node_type is missing"),
        ('{"node_type":null}', "root: node_type is missing"),
        ('{"node_type":5}', "root: node_type is not a string"),
        ('{"node_type":{"a":1}}', "root: node_type is not a string"),
        (node("SQL"), "root: SQL needs a query"),
        (node("SQL", query=5), "root: query is not a string"),
        (node("SQL", query={"a": "b"}), "root: query is not a string"),
        (node("SQL", query=["a"]), "root: query is not a string"),
        (sql(" \n"), "root: SQL needs a query"),
        (sql(left_node=sql()), "root: SQL takes no left_node"),
        (sql(right_node=sql()), "root: SQL takes no right_node"),
        (sql(condition_node=sql()), "root: SQL takes no condition_node"),
        (sql(extra_nodes=[sql()]), "root: SQL takes no extra_nodes"),
        (node("THEN"), "root: THEN needs a left_node"),
        (node("THEN", sql()), "root: THEN needs a right_node"),
        (node("THEN", sql(), sql(), condition_node=sql()), "root: THEN takes no condition_node"),
        (node("THEN", sql(), sql(), query="x"), "root: THEN takes no query"),
        (node("JOIN"), "root: JOIN needs a left_node"),
        (node("JOIN", sql(), extra_nodes=[sql()]), "root: JOIN with extra_nodes needs a right_node"),
        (node("JOIN", sql(), sql(), extra_nodes={"a": 1}), "root: extra_nodes is not an array"),
        (node("RACE", sql()), "root: RACE needs a right_node"),
        (node("RACE", sql(), sql(), extra_nodes=5), "root: extra_nodes is not an array"),
        (node("IF", sql(), sql()), "root: IF needs a condition_node"),
        (node("IF", sql(), condition_node=sql()), "root: IF needs a right_node"),
        (node("IF", sql(), sql(), extra_nodes=[sql()], condition_node=sql()), "root: IF takes no extra_nodes"),
        (
            node("IF", sql(), sql(), query=IF_ROWS, condition_node=sql()),
            "root: IF with a query takes no condition_node",
        ),
        (node("LOOP"), "root: LOOP needs a left_node"),
        (loop(sql(), right_node=sql()), "root: LOOP takes no right_node"),
        (loop(node("BREAK", sql())), "root.left_node: BREAK takes no left_node"),
        (node("SLEEP", sql(), query="1"), "root: SLEEP takes no left_node"),
        ({**signal(signal_name="go"), "condition_node": sql()}, "root: SIGNAL takes no condition_node"),
        (node("JOIN", "select 1"), "root.left_node: a node is a JSON object"),
        (node("JOIN", sql(), [sql()]), "root.right_node: a node is a JSON object"),
        (node("JOIN", sql(), sql(), extra_nodes=[None]), "root.extra_nodes[0]: a node is a JSON object"),
        (loop({}), "root.left_node: node_type is missing"),
        (
            node("RACE", sql(), sql(), extra_nodes=[sql(), sql(), sql("")]),
            "root.extra_nodes[2]: SQL needs a query",
        ),
        (
            node("IF", node("THEN", sql(), loop(sql(), condition_node=sql(""))), sql(), condition_node=sql()),
            "root.left_node.right_node.condition_node: SQL needs a query",
        ),
        ('{"node_type":"SQL","query":"a","query":"b"}', "root: key 'query' is there twice"),
        ('{"node_type":"SQL","query":"a","qu\\u0065ry":null}', "root: key 'query' is there twice"),
        ('{"extra_nodes":[],"node_type":"SQL","query":"a","extra_nodes":[]}', "root: key 'extra_nodes' is there twice"),
    ],
)
def test_a_bad_node_is_named_by_its_path(alice: Asking, graph: Raw | str, message: str) -> None:
    assert refusal(alice, graph) == message


@pytest.mark.parametrize("name", ["NOPE", "sql", "", " SQL", 'a"b'])
def test_an_unknown_type_lists_those_that_are_known(alice: Asking, name: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
        alice.rows("select df.validate_graph(%s)", json.dumps(loop({"node_type": name})))
    diagnosis = caught.value.diag
    assert diagnosis.message_primary == f"Invalid durable function: Unknown node_type '{name}'. Valid types: {TYPES}"
    assert diagnosis.message_detail == "The node is root.left_node."


@pytest.mark.parametrize(
    "builder", ["df.http('https://x/')", """df.http_multipart('u', parts => '[{"name":"a","data_b64":""}]')"""]
)
def test_http_is_valid_and_refused_at_the_insert_of_this_version(alice: Asking, builder: str) -> None:
    for around, path in (
        ("{}", "root"),
        ("'a' ~> df.call_child(df.retry({}, 3))", "root.right_node.left_node.left_node"),
    ):
        graph = alice.text(around.format(builder))
        alice.rows("select df.validate_graph(%s)", graph)
        assert refusal(alice, graph) == f"{path}: HTTP steps are not available in this version of walflow"
    spelled = graph.replace("HTTP", "\\u0048TTP")
    assert refusal(alice, spelled).endswith(": HTTP steps are not available in this version of walflow")


@pytest.mark.parametrize("name", ["1a", "a-b", "ä", "a b", "a\n", "$a", "a.b", ""])
def test_a_result_name_is_an_identifier(alice: Asking, name: str) -> None:
    assert (
        refusal(alice, node("THEN", sql(result_name=name), sql()))
        == f"root.left_node: result name '{name}' {NAME_RULE}"
    )


def test_a_result_name_is_a_string(alice: Asking) -> None:
    assert refusal(alice, sql(result_name=5)) == "root: result_name is not a string"


# --- queries ---

TO_SECONDS = "is not a number of seconds from 0 to 10000000000"
NO_TIME = "until is neither an ISO 8601 time nor a reference"


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (node("SLEEP"), "SLEEP needs a query"),
        (sleep(" "), "SLEEP needs a query"),
        (sleep("-1"), "SLEEP is not for a number of seconds from 0 to 10000000000"),
        (sleep("10000000001"), "SLEEP is not for a number of seconds from 0 to 10000000000"),
        (sleep("banana"), "SLEEP needs a number of seconds or a reference, not 'banana'"),
        (sleep("5 minutes"), "SLEEP needs a number of seconds or a reference, not '5 minutes'"),
        (sleep('{"until"'), "query of SLEEP is not a JSON object"),
        (sleep('{"x":1}'), "SLEEP needs a number of seconds, a text or an until"),
        (until(5), "until is not a string"),
        (until(""), "SLEEP needs a number of seconds, a text or an until"),
        (until("tomorrow"), f"{NO_TIME}: 'tomorrow'"),
        (until("2030-02-30"), f"{NO_TIME}: '2030-02-30'"),
        (until("2030-01-01 25:00"), f"{NO_TIME}: '2030-01-01 25:00'"),
        (node("SIGNAL"), "SIGNAL needs a signal_name"),
        (node("SIGNAL", query="go"), "query of SIGNAL is not a JSON object"),
        (node("SIGNAL", query="[1]"), "query of SIGNAL is not a JSON object"),
        (node("SIGNAL", query='{"signal_name":"a","signal_name":"b"}'), "query of SIGNAL has a key twice"),
        (signal(signal_name=""), "SIGNAL needs a signal_name"),
        (signal(signal_name=5), "signal_name is not a string"),
        (signal(signal_name="g" * 201), "signal_name is longer than 200 bytes"),
        (signal(signal_name="go", timeout_seconds="5"), f"timeout_seconds {TO_SECONDS}"),
        (signal(signal_name="go", timeout_seconds=-1), f"timeout_seconds {TO_SECONDS}"),
        (signal(signal_name="go", fresh="yes"), "fresh is not true or false"),
        (loop(sql(), query='{"every":"5"}'), f"every {TO_SECONDS}"),
        (loop(sql(), query='{"every":-5}'), f"every {TO_SECONDS}"),
        (loop(sql(), query="5"), "query of LOOP is not a JSON object"),
        (node("IF", sql(), sql(), query="{}"), "condition_type is not 'result_has_rows'"),
        (node("IF", sql(), sql(), query=IF_ROWS.replace('"n"', '"a b"')), f"result name 'a b' {NAME_RULE}"),
        (node("IF", sql(), sql(), query=IF_ROWS.replace('"n"', "7")), "result_name is not a string"),
        (node("IF", sql(), sql(), query='{"condition_type":"result_has_rows"}'), f"result name '' {NAME_RULE}"),
    ],
)
def test_a_bad_query_is_refused(alice: Asking, graph: Raw, message: str) -> None:
    assert refusal(alice, graph).startswith(f"root: {message}")


@pytest.mark.parametrize(
    "graph",
    [
        sleep("0"), sleep(" 1.5 "), sleep("1e3"), sleep("10000000000"), sleep("$n"), sleep("{pause} minutes"),
        until("2030-01-01"), until("2030-01-01T10:00:00.123456+01:30"), until("2030-01-01 10:00Z"), until("$o.due"),
        signal(signal_name="go", timeout_seconds=None, fresh=None, other=[1]), signal(signal_name="$x" + "g" * 300),
        signal(signal_name="go", timeout_seconds=0.5, fresh=False),
        loop(sql(), query='{"every":0}'), loop(sql(), query='{"every":null}'), loop(sql(), query="{}"),
        loop(BREAK), loop({**BREAK, "query": "{}"}), loop({**BREAK, "query": '{"break_value":[{"a":"$x"}]}'}),
        loop({**BREAK, "result_name": "n"}), node("IF", sql(), sql(), query=IF_ROWS), node("JOIN", sql()),
    ],
)  # fmt: skip
def test_a_good_query_is_taken(everywhere: Asking, graph: Raw) -> None:
    accept(everywhere, graph)


# --- where a BREAK may stand ---

AROUND: dict[str, Any] = {
    "THEN": lambda inner: node("THEN", sql(), inner),
    "JOIN": lambda inner: node("JOIN", inner, sql()),
    "RACE": lambda inner: node("RACE", sql(), sql(), extra_nodes=[inner]),
    "IF": lambda inner: node("IF", sql(), inner, condition_node=sql()),
    "IF's condition": lambda inner: node("IF", sql(), sql(), condition_node=inner),
    "all": lambda inner: node("THEN", node("JOIN", sql(), node("RACE", node("IF", inner, sql(), query=IF_ROWS), sql())), sql()),
}  # fmt: skip


@pytest.mark.parametrize("around", AROUND.values(), ids=list(AROUND))
def test_a_break_needs_a_loop_around_it_at_any_distance(alice: Asking, around: Any) -> None:
    accept(alice, loop(around(BREAK)))
    accept(alice, loop(sql(), condition_node=around(BREAK)))
    assert refusal(alice, around(BREAK)).endswith(": BREAK outside a loop")
    assert refusal(alice, node("THEN", loop(sql()), around(BREAK))).endswith(": BREAK outside a loop")


# --- limits ---


def then_right(depth: int, end: Raw) -> str:
    """A chain that leans to the right: every THEN is a level."""
    text = json.dumps(end)
    for _ in range(depth):
        text = f'{{"node_type":"THEN","left_node":{json.dumps(sql())},"right_node":{text}}}'
    return text


def chain(steps: int) -> str:
    """A chain as ~> builds it: one level."""
    rest = "".join(f',"right_node":{json.dumps(sql(f"select {number}"))}}}' for number in range(1, steps))
    return '{"node_type":"THEN","left_node":' * (steps - 1) + json.dumps(sql("select 0")) + rest


def test_depth_counts_nesting(alice: Asking) -> None:
    accept(alice, then_right(255, sql()))
    said = refusal(alice, then_right(256, sql()))
    assert said.startswith("root." + "right_node." * 19 + "…(217 more)….right_node")
    assert said.endswith(".right_node.left_node: Graph exceeds maximum nesting depth of 256 levels")


def test_a_chain_is_one_level_whatever_its_length(everywhere: Asking) -> None:
    accept(everywhere, chain(5_000))
    nested = then_right(253, json.loads(loop_text := json.dumps(loop(sql()))))
    accept(everywhere, nested.replace(loop_text, chain(300)))


def test_ten_thousand_nodes_and_no_more(alice: Asking) -> None:
    branch = json.dumps(sql())
    join = '{"node_type":"JOIN","left_node":%s,"right_node":%s,"extra_nodes":[%s]}'
    accept(alice, join % (branch, branch, ",".join([branch] * 9_997)))
    said = refusal(alice, join % (branch, branch, ",".join([branch] * 9_998)))
    assert said == "root: Graph exceeds maximum of 10000 nodes"


def test_repeating_nodes_stand_at_most_32_around_one_another(alice: Asking) -> None:
    def loops(count: int) -> Raw:
        inner = node("THEN", sql(), BREAK)
        for number in range(count):
            inner = loop(node("JOIN", sql(), inner)) if number % 2 else loop(sql(), condition_node=inner)
        return inner

    accept(alice, loops(32))
    said = refusal(alice, loops(33))
    assert said.endswith(": more than 32 repeating nodes around one another")


def test_loops_beside_one_another_are_not_around_one_another(alice: Asking) -> None:
    accept(alice, node("JOIN", loop(sql()), loop(sql()), extra_nodes=[loop(sql())] * 100))


# --- the INSERT ---


def test_a_bad_graph_stores_nothing_and_one_bad_row_refuses_the_statement(database: Database) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        database.run("insert into df.instances (graph) values ('select 1'), ('{\"node_type\":\"SQL\"}')", role="alice")
    assert database.run("select count(*) from df.instances") == [(0,)]


def test_every_way_to_insert_is_checked(alice: Asking) -> None:
    bad = '\'{"node_type":"BREAK"}\''
    for statement in [
        f"insert into df.instances (graph) values ({bad})",
        f"insert into df.instances (graph) select {bad} from generate_series(1, 2)",
        f"with x as (insert into df.instances (graph) values ({bad}) returning 1) select * from x",
        f"insert into df.instances (id, graph) values ('x', {bad}) on conflict (submitted_by, id) do nothing",
        f"merge into df.instances using (values (1)) as v(x) on false when not matched then insert (graph) values ({bad})",
        f"select df.start({bad})",
    ]:
        assert alice.refused(statement) == "Invalid durable function graph: root: BREAK outside a loop"


def test_a_start_that_was_there_already_is_not_checked_again(alice: Asking) -> None:
    assert alice.text("df.start('select 1', id => 'once')") == "once"
    assert alice.text("df.start('{\"node_type\":\"BREAK\"}', id => 'once')") == "once"


def test_the_setting_of_string_literals_does_not_reach_the_validator(alice: Asking) -> None:
    alice.set("standard_conforming_strings", "off")
    alice.set("escape_string_warning", "off")
    accept(alice, '{"node_type":"SQL","query":"a\\n\\u0041"}')
    assert refusal(alice, '{"node_type":"SQL","query":"\\u0000"}').startswith("root: query has a character")


def test_the_users_own_functions_and_operators_do_not_reach_the_validator(database: Database) -> None:
    with database.connect("alice", autocommit=False) as connection:
        alice = Asking(connection)
        for function in ["left(text, integer)", "strpos(text, text)", "btrim(text, text)"]:
            result = "integer" if function.startswith("strpos") else "text"
            alice.rows(f"create function public.{function} returns {result} language sql as 'select null::{result}'")
        alice.rows("create function public.never(text, text) returns boolean language sql as 'select true'")
        alice.rows("create operator public.<> (function = public.never, leftarg = text, rightarg = text)")
        alice.set("search_path", "public, pg_catalog")
        accept(alice, loop(node("THEN", sql(), BREAK)))
        assert refusal(alice, BREAK) == "root: BREAK outside a loop"


# --- the other nodes ---


def options(kind: str, **values: object) -> Raw:
    return node(kind, sql(), query=json.dumps(values))


def schedule(cron: object = "* * * * *", **more: object) -> Raw:
    return node("WAIT_SCHEDULE", query=json.dumps({"cron_expr": cron, **more}))


def child(**values: object) -> Raw:
    return options("CALL_CHILD", options=values)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (node("WAIT_SCHEDULE"), "WAIT_SCHEDULE needs a cron_expr"),
        (schedule(5), "cron_expr is not a string"),
        (schedule("* * * *"), "cron_expr is neither five fields nor a macro such as @daily: '* * * *'"),
        (schedule("60 * * * *"), "cron_expr has no valid minute: '60 * * * *'"),
        (schedule("* * * * mom"), "cron_expr has no valid day of the week: '* * * * mom'"),
        (schedule("0 0 30 2 *"), "cron_expr never comes: '0 0 30 2 *'"),
        (schedule("0 0 31 feb,apr-jun/2,9,nov *"), "cron_expr never comes: '0 0 31 feb,apr-jun/2,9,nov *'"),
        (schedule(timezone="Mars/Olympus"), "timezone 'Mars/Olympus' is not known"),
        (schedule(timezone="PST"), "timezone 'PST' is not known"),
        (schedule(timezone="UTC+3"), "timezone 'UTC+3' is not known"),
        (schedule(timezone=5), "timezone is not a string"),
        (node("AWAIT_INSTANCE"), "AWAIT_INSTANCE needs an instance_id"),
        (node("AWAIT_INSTANCE", query='{"instance_id":"a b"}'), "instance_id 'a b' is not the id of an instance"),
        (node("MAP", right=sql()), "MAP needs a left_node or items"),
        (node("MAP", sql(), sql(), query='{"items":"x"}'), "MAP with items takes no left_node"),
        (node("MAP", right=sql(), query='{"items":"a b"}'), f"result name 'a b' {NAME_RULE}"),
        (node("MAP", sql()), "MAP needs a right_node"),
        (
            node("MAP", sql(), sql(), query='{"max_parallel":0}'),
            "max_parallel is not a whole number from 1 to 10000",
        ),
        (options("RETRY"), "RETRY needs a max_attempts"),
        (options("RETRY", max_attempts=1.5), "max_attempts is not a whole number from 1 to 10000"),
        (options("RETRY", max_attempts=2, backoff=0.5), "backoff is not a number from 1 to 1000"),
        (options("RETRY", max_attempts=2, initial="1s"), "initial is not a number of seconds from 0 to 10000000000"),
        (options("TIMEOUT"), "TIMEOUT needs seconds"),
        (options("TIMEOUT", seconds=-1), "seconds is not a number of seconds from 0 to 10000000000"),
        (node("CATCH", sql()), "CATCH needs a right_node"),
        (node("UNDO", sql(), sql(), query="x"), "UNDO takes no query"),
        (node("CALL_CHILD"), "CALL_CHILD needs a left_node"),
        (options("CALL_CHILD", label=5), "label is not a string"),
        (options("CALL_CHILD", options=[]), "options is not a JSON object"),
        (child(timeout=5), "options has an unknown key 'timeout'"),
        (child(timeout_seconds="soon"), "timeout_seconds is not a number of seconds from 0 to 10000000000"),
        (child(on_failure="ignore"), "on_failure is not 'raise' or 'return'"),
        (child(on_parent_cancel="kill"), "on_parent_cancel is not 'cancel' or 'abandon'"),
        (child(inherit_vars=1), "inherit_vars is not true or false"),
        (child(detach="yes"), "detach is not true or false"),
        (child(vars="x"), "vars is not a JSON object"),
    ],
)  # fmt: skip
def test_the_options_of_the_other_nodes_are_looked_at(alice: Asking, graph: Raw, message: str) -> None:
    assert refusal(alice, graph) == f"root: {message}"


@pytest.mark.parametrize(
    "graph",
    [
        schedule("$c", timezone="{tz}"),
        schedule("@Daily", timezone="america/ARGENTINA/buenos_aires"),
        schedule("0 0 30 2 mon"),
        schedule("*/15 9-17 * jan-jun/2 Mon-Fri"),
        node("AWAIT_INSTANCE", query='{"instance_id":"{who}","timeout_seconds":0.5}'),
        child(timeout_seconds="$t", on_failure="return", inherit_vars=True, vars={"a": "$x"}, input=[1], detach=False),
        child(),
        options("CALL_CHILD", label="{l}", options=None),
        options("RETRY", max_attempts=10_000, backoff=1, initial=0, max_interval=0),
        node("MAP", sql(), sql()),
    ],
)
def test_what_is_right_or_has_references_is_taken(alice: Asking, graph: Raw) -> None:
    accept(alice, graph)


@pytest.mark.parametrize(
    ("around", "taken"),
    [
        (lambda inner: node("CATCH", sql(), inner), True),
        (lambda inner: options("RETRY", max_attempts=2) | {"left_node": inner}, True),
        (lambda inner: options("TIMEOUT", seconds=2) | {"left_node": inner}, True),
        (lambda inner: node("UNDO", inner, sql()), True),
        (lambda inner: node("MAP", inner, sql()), True),
        (lambda inner: node("UNDO", sql(), inner), False),
        (lambda inner: node("UNDO", sql(), node("IF", inner, sql(), condition_node=sql())), False),
        (lambda inner: node("UNDO", sql(), loop(inner)), True),
        (lambda inner: node("MAP", sql(), inner), False),
        (lambda inner: node("MAP", sql(), options("RETRY", max_attempts=2) | {"left_node": inner}), False),
        (lambda inner: node("MAP", sql(), loop(inner)), True),
        (lambda inner: node("CALL_CHILD", inner), False),
        (lambda inner: node("CALL_CHILD", loop(inner)), True),
    ],
)
def test_a_break_does_not_leave_a_map_an_undo_or_a_child(alice: Asking, around: Any, taken: bool) -> None:
    graph = loop(node("THEN", sql(), around(BREAK)))
    if taken:
        accept(alice, graph)
    else:
        assert refusal(alice, graph).endswith(": BREAK outside a loop")


def test_retries_and_maps_repeat_as_loops_do_and_the_items_of_a_map_do_not(alice: Asking) -> None:
    graph = sql()
    for number in range(32):
        kinds = loop(graph), options("RETRY", max_attempts=2) | {"left_node": graph}, node("MAP", sql(), graph)
        graph = kinds[number % 3]
    accept(alice, node("MAP", graph, sql()))
    assert refusal(alice, node("MAP", sql(), graph)).endswith(": more than 32 repeating nodes around one another")


def test_every_zone_that_the_server_lists_is_known_to_both_readers(everywhere: Asking) -> None:
    listed = [name for (name,) in everywhere.rows("select name from pg_timezone_names")]
    known = {
        name: taken for name, taken in everywhere.rows("select z, df.is_zone(z) from unnest(%s::text[]) as z", listed)
    }
    odd = {"Factory", "localtime", "posixrules"}
    assert {name for name in listed if not known[name]} <= odd | {
        name for name in listed if name.startswith(("posix/", "right/"))
    }
    for name in listed:
        if known[name]:
            assert zone_of(name.upper()) is zone_of(name.upper())
        else:
            with pytest.raises(ScheduleError):
                zone_of(name)


def test_no_abbreviation_is_a_zone_unless_the_server_lists_it_as_one(everywhere: Asking) -> None:
    """`at time zone` takes them, so the server's word is not enough."""
    query = """
        select a.abbrev, exists (select from pg_timezone_names n where lower(n.name) = lower(a.abbrev)), df.is_zone(a.abbrev)
          from pg_timezone_abbrevs a
    """
    for abbreviation, listed, taken in everywhere.rows(query):
        assert taken == listed, abbreviation


# --- speed: several times what an idle machine takes ---


def seconds(alice: Asking, query: str, *values: Any) -> float:
    best = 100.0
    for _ in range(3):
        before = backend_seconds(alice.connection)
        alice.rows(query, *values)
        best = min(best, backend_seconds(alice.connection) - before)
    return best


def test_long_chains_are_checked_in_time_that_grows_with_their_length(alice: Asking) -> None:
    assert seconds(alice, "select df.validate_graph(%s)", chain(1_000)) < 0.3
    assert seconds(alice, "select df.validate_graph(%s)", chain(5_000)) < 3


@pytest.mark.parametrize("builder", ["seq_all", "join_all"])
def test_ten_thousand_nodes_are_built_and_checked_in_three_seconds(alice: Asking, builder: str) -> None:
    nodes = 5_000 if builder == "seq_all" else 9_999
    graph = alice.text(f"df.{builder}(variadic array(select 'select ' || n from generate_series(1, {nodes}) as n))")
    assert seconds(alice, "select df.validate_graph(%s)", graph) < 3


@pytest.mark.parametrize(
    "text",
    ['{"' + '\\"' * 200_000, '{"a":' + "[" * 200_000, '{"a":["' + '","' * 60_000, '{"a":"' + "x" * 2_000_000,
     '{"a' + '{"' * 100_000],
    ids=["escapes", "brackets", "strings", "one string", "braces"],
)  # fmt: skip
def test_no_text_takes_quadratic_time(alice: Asking, text: str) -> None:
    before = backend_seconds(alice.connection)
    assert "not valid JSON" in refusal(alice, text)
    assert backend_seconds(alice.connection) - before < 5


def test_one_graph_for_many_rows_is_checked_once(alice: Asking) -> None:
    """A graph that takes 50 ms to check, 200 times: ten seconds if each row were checked."""
    before = backend_seconds(alice.connection)
    alice.rows("insert into df.instances (graph) select %s from generate_series(1, 200)", chain(1_000))
    assert backend_seconds(alice.connection) - before < 3
