"""Good graphs, and what becomes of them when they are changed here and there: most are refused, many still run.

The statements in them are real ones, short and harmless in any order: they run on the tables `few` and `none`.

WALFLOW_FUZZ says how many (3,000 without it), WALFLOW_FUZZ_SEED with which one they begin.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow

from engine.graph import SHAPES, Kind

COUNT: Final = int(os.environ.get("WALFLOW_FUZZ", "3000"))
SEED: Final = int(os.environ.get("WALFLOW_FUZZ_SEED", "1"))
REFUSED: Final = re.compile(
    r"Invalid durable function graph: root[^:]*: .|Invalid durable function: Unknown node_type '", re.DOTALL
)
"""What the INSERT says: which node, or where the text stops being JSON; an unknown node type has no path."""
TABLES: Final = "create table few as select n, n || 'x' as t from generate_series(1, 3) as n; create table none (n int)"
GOOD: Final = [
    "df.seq_all('select 1', df.as('select 2', 'a'), 'select $a')",
    "df.join_all('select 1', 'table few', 'table none', 'select 1 / 0')",
    "df.race_all('table few', df.sleep(5), df.wait_for_signal('go', 60, true))",
    "df.if('table few', 'select true', df.if_rows('a', 'table none', 'select false'))",
    "df.loop(df.seq('table few', df.break('{\"x\": [1, null]}')), 'select 1', '5 s')",
    "df.loop(df.retry(df.timeout(df.catch('table few', df.break()), '1 s'), 3))",
    "df.loop(df.as('select coalesce($a?, 0) + 1', 'a'), 'select $a < 3')",
    "df.sleep_until('2027-01-31T09:00:00Z')",
    "df.seq(df.sleep('$a'), df.sleep_until('{t}'))",
    "df.seq(df.as('select 0.01 as n', 'a'), df.sleep('$a.n'))",
    "df.wait_for_schedule('*/15 9-17 1,15 jan-jun mon-fri', 'Europe/Berlin')",
    "df.loop(df.seq(df.wait_for_schedule('@daily'), 'select {t}'))",
    "df.as(df.wait_for_signal('go'), 'a') ~> 'select $a::json'",
    'df.call_child(df.loop(df.break(\'1\')), \'l\', \'{"timeout_seconds": 5, "on_failure": "return", "vars": {"a": 1}}\')',
    "df.call_child('table few', options => "
    '\'{"timeout_seconds": "$t", "detach": true, "on_parent_cancel": "abandon", "input": [1]}\')',
    "df.as(df.call_child('select $input', options => '{\"input\": \"$input?\"}'), 'a')",
    "df.await_instance('order-1', 60)",
    "df.map('table few', df.loop(df.break('$item')), 3)",
    "df.map('table few', df.map('table few', 'select $item.t'))",
    "df.as('table few', 'a') ~> df.as(df.map('a', 'select $item.n, $a.n'), 'b') ~> df.map('b', df.sleep(0))",
    "df.with_undo(df.with_undo('select 1', 'table few'), df.loop(df.break()))",
    "df.catch(df.with_undo('select 1', 'select $error') ~> 'select 1 / 0', 'select $error::json')",
    "df.race(df.with_undo('select 1', 'select 2') ~> df.sleep(1), df.sleep('0.02'::text))",
    "df.retry('select 1 / 0', 5, '0.1 s', 1.5, '1 min')",
    "df.retry(df.with_undo('select 1', 'select 2') ~> 'select 1 / 0', 2, '0')",
    "df.http('https://example.com/{a}', 'GET', 'b', '{\"h\": \"v\"}')",
    'df.http_multipart(\'u\', parts => \'[{"name": "n", "data_b64": "$x"}]\')',
    "'select ''text that is a step'''",
]
CHARACTERS: Final = [
    *'{}[],:"\\ \n0159-+.eE/$*x_',
    "null",
    "true",
    "\\u0000",
    "\\ud800",
    "\\n",
    "é",
    "😀",
    "\u2028",
    "\x7f",
    "\x01",
    "''",
]
SCALARS: Final = [
    None, True, False, 0, -1, 1, 0.5, 10_001, 1e10, 1e300, "", " ", "x", "a b", "$a", "{a}", "select 1", "5", "-1", "{}", "[]",
    "null", "@daily", "* * * * *", "0 0 30 2 *", "UTC", "raise", '{"until":"2027-01-01"}', '{"signal_name":"x"}',
    '{"max_attempts":2}', '{"seconds":1}', '{"items":"a"}', '{"cron_expr":"@hourly"}', '{"instance_id":"a"}', '{"url":"u"}',
    [], {}, [1], {"a": 1}, "ä" * 300, "a", "b", "item", "input", "$item", "$input", "$error", '{"every":0}', '{"seconds":0.01}',
    '{"max_attempts":3,"initial":0.01}', '{"break_value":"$a"}', '{"break_value":[1,[2],{"x":3}]}', '{"items":"input"}',
]  # fmt: skip
AROUND: Final = [
    '{"node_type":"THEN","right_node":{}}',
    '{"node_type":"JOIN","right_node":{},"result_name":"a"}',
    '{"node_type":"RACE","right_node":{},"result_name":"b"}',
    '{"node_type":"LOOP","query":"{\\"every\\":0.05}"}',
    '{"node_type":"MAP","right_node":{},"query":"{\\"max_parallel\\":2}"}',
    '{"node_type":"RETRY","query":"{\\"max_attempts\\":3,\\"initial\\":0.01}"}',
    '{"node_type":"TIMEOUT","query":"{\\"seconds\\":0.05}"}',
    '{"node_type":"CATCH","right_node":{}}',
    '{"node_type":"UNDO","right_node":{}}',
    '{"node_type":"CALL_CHILD","query":"{}","result_name":"a"}',
]
KEYS: Final = ["node_type", "left_node", "right_node", "condition_node", "extra_nodes", "query", "result_name", "note"]


def good_graphs(connection: psycopg.Connection[TupleRow]) -> list[str]:
    """The texts of the good graphs, as the builders write them."""
    return [str(connection.execute(f"select {good}".encode()).fetchall()[0][0]) for good in GOOD]


def mutants(graphs: list[str], first: int, count: int) -> Iterator[tuple[int, str]]:
    """Seeds from `first` on, each with the graph that comes of it."""
    return ((seed, mutated(random.Random(seed), graphs)) for seed in range(first, first + count))


def mutated(chance: random.Random, graphs: list[str]) -> str:
    """One of the graphs, perhaps grown by others, then changed in up to four ways: as a tree first, then as text."""
    text: str = chance.choice(graphs)
    if text.startswith("{") and chance.random() < 0.8:
        tree = json.loads(text)
        for _ in range(chance.choice((0, 0, 0, 3, 8))):
            change_child(chance, chance.choice(nodes(tree)), graphs)
        for _ in range(chance.randint(0, 3)):
            tree = change_tree(chance, tree, graphs)
        text = json.dumps(
            tree, ensure_ascii=chance.random() < 0.3, separators=chance.choice([(",", ":"), (", ", ": ")])
        )
    if chance.random() < 0.4:
        text = change_text(chance, text)
    return text.replace("\0", "")


def change_text(chance: random.Random, text: str) -> str:
    start = chance.randint(0, len(text))
    end = min(len(text), start + chance.choice([0, 1, 1, 2, 8, 40]))
    put: str = chance.choice(["", "", text[start:end] * 2, chance.choice(CHARACTERS), chance.choice(CHARACTERS)])
    return text[:start] + put + text[end:]


def objects(tree: Any) -> list[dict[str, Any]]:
    """The objects of a tree, itself first."""
    found: list[dict[str, Any]] = []
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found.append(item)
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return found


def nodes(tree: Any) -> list[dict[str, Any]]:
    return [found for found in objects(tree) if "node_type" in found]


def change_tree(chance: random.Random, tree: Any, graphs: list[str]) -> Any:
    found = objects(tree)
    if not found:
        return tree
    node = chance.choice(found)
    key = chance.choice([*node, chance.choice(KEYS)])
    match chance.randrange(11):
        case 0:
            node.pop(key, None)
        case 1:
            node[key] = chance.choice(SCALARS)
        case 2:
            node[chance.choice(KEYS)] = node.get(key)
        case 3:
            node["node_type"] = chance.choice(list(Kind)).value
        case 4:
            node[chance.choice(KEYS[1:5])] = grafted(chance, graphs)
        case 5:
            return {
                "node_type": chance.choice(list(SHAPES)).value,
                "left_node": tree,
                "right_node": grafted(chance, graphs),
            }
        case 6:
            node["extra_nodes"] = [grafted(chance, graphs) for _ in range(chance.randint(0, 3))]
        case 7 | 8:
            change_child(chance, node, graphs)
        case _:
            change_query(chance, node)
    return json.loads(json.dumps(tree))  # what was put in twice is two from here on


def change_child(chance: random.Random, node: dict[str, Any], graphs: list[str]) -> None:
    """Something else in the place of a child, or around it: what keeps a graph good most of the time."""
    places = [place for place in KEYS[1:4] if isinstance(node.get(place), dict)]
    if not places:
        return
    place = chance.choice(places)
    if chance.random() < 0.5:
        node[place] = grafted(chance, graphs)
        return
    around = json.loads(chance.choice(AROUND))
    if "right_node" in around:
        around["right_node"] = grafted(chance, graphs)
    node[place] = {**around, "left_node": node[place]}


def grafted(chance: random.Random, graphs: list[str]) -> Any:
    text = chance.choice(graphs)
    return json.loads(text) if text.startswith("{") else {"node_type": "SQL", "query": text}


def change_query(chance: random.Random, node: dict[str, Any]) -> None:
    query = node.get("query")
    if not isinstance(query, str):
        return
    try:
        options = json.loads(query)
    except ValueError:
        options = None
    if isinstance(options, dict) and options and chance.random() < 0.7:
        inner = chance.choice(objects(options))
        inner[chance.choice([*inner, "x"])] = chance.choice(SCALARS)
        node["query"] = json.dumps(options, ensure_ascii=False)
    else:
        node["query"] = change_text(chance, query)
