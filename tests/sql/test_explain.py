"""df.explain: the tree of every kind of node, line for line, and what it refuses. Golden texts are in tests/golden_explain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.servers import backend_seconds
from tests.sql.asking import Asking

GOLDEN: Final = Path(__file__).parents[1] / "golden_explain"

GRAPHS: Final = {
    "sql": "'select 1'",
    "chain": "'a' ~> 'b' ~> ('c' ~> 'd') ~> 'e'",
    "names": "(('a' |=> 'one') ~> ('b' |=> 'two')) |=> 'both' ~> df.as(df.as('c', 'x'), 'y')",
    "join": "df.join_all('a', 'b' ~> 'c', df.join('d', 'e') |=> 'pair')",
    "race": "df.race_all('a', df.sleep(5), df.wait_for_signal('go'))",
    "if": "'c' ?> 'then' !> ('else' ~> 'more')",
    "if_rows": "'select 1' |=> 'x' ~> df.if_rows('x', 'there', 'not')",
    "if_chain_condition": "df.if('a' ~> 'b', df.if('c', 't', 'f'), 'e') |=> 'r'",
    "loop": "df.loop('a' ~> df.sleep(1))",
    "loop_while": "df.loop('a', 'c') |=> 'last'",
    "loop_every": "df.loop('a', every => '1 minute')",
    "break": "df.loop(df.if('c', df.break(), df.break('{\"x\": $a}')))",
    "sleep": """
        df.sleep(30) ~> df.sleep(interval '90 s') ~> df.sleep('$a') ~>
        df.sleep_until('2030-01-01 00:00+00'::timestamptz) ~> df.sleep_until('$t')
    """,
    "signal": "df.wait_for_signal('go') ~> df.wait_for_signal('go', 60) ~> df.wait_for_signal('go', 1.5, true)",
    "schedule": "df.wait_for_schedule('*/5 * * * *') ~> df.wait_for_schedule('0 9 * * 1', 'Europe/Berlin')",
    "http": "df.http('https://example.com/x', 'GET') ~> df.http('https://example.com/y', body => '{\"a\":1}')",
    "http_multipart": "df.http_multipart('https://example.com/z', parts => '[{\"name\":\"a\",\"data_b64\":\"\"}]')",
    "call_child": "df.call_child('a' ~> 'b') ~> df.call_child('c', 'kid', '{\"on_failure\":\"return\",\"detach\":false}')",
    "await": "df.await_instance('order-1') ~> df.await_instance('$a.id', 60)",
    "map": "df.map('select 1', 'a $item') ~> ('select 2' |=> 'rows') ~> df.map('rows', 'b', 3)",
    "retry": "df.retry('a', 5) ~> df.retry('b', 2, '100 ms', 1.5, '1 s')",
    "timeout": "df.timeout('a' ~> 'b', '30 s')",
    "catch": "df.catch('a', 'b')",
    "undo": "df.with_undo('a', 'b') <~ 'c'",
    "everything_nested": """
        df.loop(df.join(df.catch(df.retry(df.timeout('a' <~ 'b', '1 s'), 2), df.race('c', df.sleep(1))),
                        df.map('d', df.if('e', df.call_child('f'), 'g'))))
    """,
    "white_space": "E'select   1,\\n\\t2\\n'",
    "long": "'select ' || repeat('x', 300)",
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_drawn_as_it_always_was(alice: Asking, name: str) -> None:
    seen = alice.text(f"df.explain({GRAPHS[name]})") + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("WALFLOW_WRITE_GOLDEN"):
        path.write_text(seen)
    assert seen == path.read_text()


def test_every_kind_of_node_has_a_golden_text(alice: Asking) -> None:
    kinds = {row[0] for row in alice.rows("select key from jsonb_each(df.node_rules())")}
    drawn: set[str] = set()
    for graph in GRAPHS.values():
        drawn |= {row[0] for row in alice.rows(f"select unnest((df.number_nodes({graph})).kinds)")}
    assert drawn == kinds
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(GRAPHS)


@pytest.mark.parametrize(
    "bad",
    [
        '{"node_type":"X"}',
        '{"node_type":"THEN"}',
        '{"node_type":"SQL","query":"a"',
        '{"node_type":"BREAK"}',
        '{"node_type":"SLEEP","query":"soon"}',
        '{"node_type":"WAIT_SCHEDULE","query":"{\\"cron_expr\\":\\"0 0 30 2 *\\",\\"timezone\\":\\"UTC\\"}"}',
        " ",
        "",
        '{"node_type":"SQL","query":"a"} || ',
        '{"node_type":"JOIN","left_node":{"node_type":"SQL","query":"a","result_name":"1"}}',
    ],
)
def test_what_the_insert_refuses_is_refused_in_the_same_words(alice: Asking, bad: str) -> None:
    inserted = alice.refused("insert into df.instances (graph) values (%s)", bad)
    assert inserted.startswith("Invalid durable function")
    assert alice.refused("select df.explain(%s)", bad) == inserted


def test_an_http_node_is_explained_though_the_insert_may_refuse_it(alice: Asking) -> None:
    assert alice.text("df.explain(df.http('https://example.com', 'GET'))") == "HTTP GET https://example.com"


def test_nothing_is_explained_of_null(alice: Asking) -> None:
    assert alice.refused("select df.explain(null)") == "df.explain: argument input is NULL"


@pytest.mark.parametrize("id", ["order-42", "~1/3", "2b", "a.b", "019a0c1d2e3f"])
def test_a_word_that_is_no_sql_is_an_id_and_has_to_be_there(alice: Asking, bob: Asking, id: str) -> None:
    assert alice.refused("select df.explain(%s)", id) == f"Instance not found or access denied: {id}"


@pytest.mark.parametrize("word", ["vacuum", "CHECKPOINT", "commit;"])
def test_a_word_that_may_be_sql_is_sql(alice: Asking, word: str) -> None:
    assert alice.text("df.explain(%s)", word) == f"SQL: {word}"


def test_the_argument_is_never_run(alice: Asking) -> None:
    alice.rows("create temp table witness (n int)")
    for text in (
        "insert into witness values (1)",
        "select set_config('df.ran', 'yes', false)",
        "drop table witness; select 1",
    ):
        alice.text("df.explain(%s)", text)
    assert alice.one("select count(*) from witness") == 0
    assert alice.one("select current_setting('df.ran', true)") is None


STEP: Final = '{"node_type":"SQL","query":"select 1"}'
LARGE: Final = {
    "a chain": '{"node_type":"THEN","left_node":' * 4999 + STEP + f',"right_node":{STEP}}}' * 4999,
    "a join": f'{{"node_type":"JOIN","left_node":{STEP},"right_node":{STEP},"extra_nodes":[{",".join([STEP] * 9997)}]}}',
}


@pytest.mark.parametrize("name", LARGE)
def test_ten_thousand_nodes_take_less_than_two_seconds(alice: Asking, name: str) -> None:
    id = alice.one("select df.start(%s)", LARGE[name])
    for asked in (LARGE[name], id):
        before = backend_seconds(alice.connection)
        lines = alice.text("df.explain(%s)", asked).splitlines()
        assert backend_seconds(alice.connection) - before < 2
        assert len(lines) >= 5000


def test_the_deepest_graph_is_drawn(alice: Asking) -> None:
    timeout = '{"node_type":"TIMEOUT","query":"{\\"seconds\\":1}","left_node":'
    lines = alice.text("df.explain(%s)", timeout * 255 + STEP + "}" * 255).splitlines()
    assert lines[-1] == " " * 4 * 255 + "SQL: select 1"


def test_every_reading_function_answers_on_every_version(everywhere: Asking) -> None:
    id = everywhere.one("select df.start(df.loop('a' ~> df.sleep(1)))")
    for function in ("instance_info", "instance_executions", "instance_nodes", "history"):
        assert everywhere.rows(f"select * from df.{function}(%s)", id) != []
    for arguments in ("", "'failed'", "'running'", "'pending'", "'completed'", "label_filter => 'x'"):
        everywhere.rows(f"select * from df.list_instances({arguments})")
    assert len(everywhere.rows("select * from df.nodes where instance_id = %s", id)) == 4
    assert everywhere.text("df.explain(%s)", id) == "○ LOOP (infinite)\n  ↻ body:\n    ○ SQL: a\n    ○ SLEEP 1s"


@pytest.mark.parametrize("order", ["left_node,right_node,condition_node", "condition_node,right_node,left_node"])
def test_the_order_of_the_keys_does_not_change_the_tree(alice: Asking, order: str) -> None:
    members = ",".join(f'"{key}":{{"node_type":"SQL","query":"{key}"}}' for key in order.split(","))
    assert alice.text("df.explain(%s)", f'{{"node_type":"IF",{members}}}') == (
        "IF\n  ? condition:\n    SQL: condition_node\n  ✓ then:\n    SQL: left_node\n  ✗ else:\n    SQL: right_node"
    )
