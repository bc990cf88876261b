"""Builders and operators: the text that they make, byte for byte, and what they say to wrong arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.servers import Cluster, Database

Connection = psycopg.Connection[TupleRow]

A: Final = '{"node_type":"SQL","query":"a"}'
B: Final = '{"node_type":"SQL","query":"b"}'
C: Final = '{"node_type":"SQL","query":"c"}'
D: Final = '{"node_type":"SQL","query":"d"}'
IF_CTE: Final = (
    '{"node_type":"IF","left_node":{"node_type":"SQL","query":"t"},"right_node":{"node_type":"SQL","query":"e"},'
    '"condition_node":{"node_type":"SQL","query":"c"}}'
)


def options(kind: str, query: str, **children: str) -> str:
    """The text of a node whose query is that text."""
    inner = "".join(f',"{place}":{child}' for place, child in children.items())
    return f'{{"node_type":"{kind}"{inner},"query":{json.dumps(query, ensure_ascii=False)}}}'


GOLDEN: Final = {
    # SQL
    "df.sql('select 1')": '{"node_type":"SQL","query":"select 1"}',
    "df.sql('')": '{"node_type":"SQL","query":""}',
    "df.sql(' {a} ')": '{"node_type":"SQL","query":" {a} "}',
    # THEN
    "df.seq('a', 'b')": f'{{"node_type":"THEN","left_node":{A},"right_node":{B}}}',
    "'a' ~> 'b'": f'{{"node_type":"THEN","left_node":{A},"right_node":{B}}}',
    "df.seq_all('a')": A,
    "df.seq_all('a', 'b')": f'{{"node_type":"THEN","left_node":{A},"right_node":{B}}}',
    "df.seq_all('a', 'b', 'c')": (
        f'{{"node_type":"THEN","left_node":{{"node_type":"THEN","left_node":{A},"right_node":{B}}},"right_node":{C}}}'
    ),
    # names
    "df.as('a', 'n')": '{"node_type":"SQL","query":"a","result_name":"n"}',
    "'a' |=> '_N9'": '{"node_type":"SQL","query":"a","result_name":"_N9"}',
    # JOIN
    "df.join('a', 'b')": f'{{"node_type":"JOIN","left_node":{A},"right_node":{B}}}',
    "'a' & 'b'": f'{{"node_type":"JOIN","left_node":{A},"right_node":{B}}}',
    "df.join3('a', 'b', 'c')": f'{{"node_type":"JOIN","left_node":{A},"right_node":{B},"extra_nodes":[{C}]}}',
    "df.join_all('a')": f'{{"node_type":"JOIN","left_node":{A}}}',
    "df.join_all('a', 'b')": f'{{"node_type":"JOIN","left_node":{A},"right_node":{B}}}',
    "df.join_all('a', 'b', 'c', 'd')": (
        f'{{"node_type":"JOIN","left_node":{A},"right_node":{B},"extra_nodes":[{C},{D}]}}'
    ),
    # RACE
    "df.race('a', 'b')": f'{{"node_type":"RACE","left_node":{A},"right_node":{B}}}',
    "'a' | 'b'": f'{{"node_type":"RACE","left_node":{A},"right_node":{B}}}',
    "df.race_all('a')": A,
    "df.race_all('a', 'b', 'c', 'd')": (
        f'{{"node_type":"RACE","left_node":{A},"right_node":{B},"extra_nodes":[{C},{D}]}}'
    ),
    # IF
    "df.if('c', 't', 'e')": IF_CTE,
    "'c' ?> 't' !> 'e'": IF_CTE,
    "df.if_rows('n', 'a', 'b')": (
        f'{{"node_type":"IF","left_node":{A},"right_node":{B},'
        r'"query":"{\"condition_type\":\"result_has_rows\",\"result_name\":\"n\"}"}'
    ),
    # LOOP
    "df.loop('a')": f'{{"node_type":"LOOP","left_node":{A}}}',
    "@> 'a'": f'{{"node_type":"LOOP","left_node":{A}}}',
    "df.loop('a', 'c')": f'{{"node_type":"LOOP","left_node":{A},"condition_node":{C}}}',
    "df.loop('a', every => '1 minute')": f'{{"node_type":"LOOP","left_node":{A},"query":"{{\\"every\\":60}}"}}',
    "df.loop('a', every => '0')": f'{{"node_type":"LOOP","left_node":{A},"query":"{{\\"every\\":0}}"}}',
    "df.loop('a', 'c', '1.50 seconds')": (
        f'{{"node_type":"LOOP","left_node":{A},"condition_node":{C},"query":"{{\\"every\\":1.5}}"}}'
    ),
    # BREAK
    "df.break()": '{"node_type":"BREAK"}',
    "df.break('42')": r'{"node_type":"BREAK","query":"{\"break_value\":42}"}',
    "df.break('null')": r'{"node_type":"BREAK","query":"{\"break_value\":null}"}',
    "df.break(' [1, {\"a\": -2.5e3}] ')": r'{"node_type":"BREAK","query":"{\"break_value\":[1, {\"a\": -2.5e3}]}"}',
    "df.break('done')": r'{"node_type":"BREAK","query":"{\"break_value\":\"done\"}"}',
    "df.break('')": r'{"node_type":"BREAK","query":"{\"break_value\":\"\"}"}',
    "df.break('$n')": r'{"node_type":"BREAK","query":"{\"break_value\":\"$n\"}"}',
    "df.break('{v}')": r'{"node_type":"BREAK","query":"{\"break_value\":\"{v}\"}"}',
    'df.break(\'{"a":"{v}"}\')': r'{"node_type":"BREAK","query":"{\"break_value\":{\"a\":\"{v}\"}}"}',
    "df.break('{\"a\":$n}')": r'{"node_type":"BREAK","query":"{\"break_value\":\"{\\\"a\\\":$n}\"}"}',
    # SLEEP
    "df.sleep(30)": '{"node_type":"SLEEP","query":"30"}',
    "df.sleep(0)": '{"node_type":"SLEEP","query":"0"}',
    "df.sleep(10000000000)": '{"node_type":"SLEEP","query":"10000000000"}',
    "df.sleep(interval '1 hour 30 minutes')": '{"node_type":"SLEEP","query":"5400"}',
    "df.sleep(interval '1 month 2.25 seconds')": '{"node_type":"SLEEP","query":"2592002.25"}',
    "df.sleep('5 minutes')": '{"node_type":"SLEEP","query":"300"}',
    "df.sleep('5')": '{"node_type":"SLEEP","query":"5"}',
    "df.sleep(' 1.50 '::text)": '{"node_type":"SLEEP","query":"1.5"}',
    "df.sleep('2 days'::text)": '{"node_type":"SLEEP","query":"172800"}',
    "df.sleep('$x.wait'::text)": '{"node_type":"SLEEP","query":"$x.wait"}',
    "df.sleep('{wait}'::text)": '{"node_type":"SLEEP","query":"{wait}"}',
    "df.sleep_until(timestamptz '2030-01-02 03:04:05.5+02')": (
        r'{"node_type":"SLEEP","query":"{\"until\":\"2030-01-02T01:04:05.500000Z\"}"}'
    ),
    "df.sleep_until('2030-01-02 03:04:05+02'::text)": (
        r'{"node_type":"SLEEP","query":"{\"until\":\"2030-01-02T01:04:05.000000Z\"}"}'
    ),
    "df.sleep_until('$x.at'::text)": r'{"node_type":"SLEEP","query":"{\"until\":\"$x.at\"}"}',
    # SIGNAL
    "df.wait_for_signal('go')": r'{"node_type":"SIGNAL","query":"{\"signal_name\":\"go\"}"}',
    "df.wait_for_signal('go', 0.50)": (
        r'{"node_type":"SIGNAL","query":"{\"signal_name\":\"go\",\"timeout_seconds\":0.5}"}'
    ),
    "df.wait_for_signal('go', 60, true)": (
        r'{"node_type":"SIGNAL","query":"{\"signal_name\":\"go\",\"timeout_seconds\":60,\"fresh\":true}"}'
    ),
    "df.wait_for_signal('go', fresh => true)": (
        r'{"node_type":"SIGNAL","query":"{\"signal_name\":\"go\",\"fresh\":true}"}'
    ),
    "df.wait_for_signal('go', 60, false)": (
        r'{"node_type":"SIGNAL","query":"{\"signal_name\":\"go\",\"timeout_seconds\":60}"}'
    ),
    # WAIT_SCHEDULE
    "df.wait_for_schedule('0 9 * * mon-fri')": options(
        "WAIT_SCHEDULE", '{"cron_expr":"0 9 * * mon-fri","timezone":"UTC"}'
    ),
    "df.wait_for_schedule('@daily', 'europe/Berlin')": options(
        "WAIT_SCHEDULE", '{"cron_expr":"@daily","timezone":"Europe/Berlin"}'
    ),
    "df.wait_for_schedule(timezone => '{tz}', cron_expr => '$c')": options(
        "WAIT_SCHEDULE", '{"cron_expr":"$c","timezone":"{tz}"}'
    ),
    # HTTP
    "df.http('https://x/{a}')": options("HTTP", '{"url":"https://x/{a}","method":"POST","timeout_seconds":30}'),
    """df.http('u', 'GET', 'b"', '{"A": "1", "b:, ": "{secret:K}", "c": ": , "}', 1.50)""": options(
        "HTTP",
        '{"url":"u","method":"GET","body":"b\\"","headers":{"A":"1","c":": , ","b:, ":"{secret:K}"},'
        '"timeout_seconds":1.5}',
    ),
    "df.http('u', headers => '{}')": options("HTTP", '{"url":"u","method":"POST","timeout_seconds":30}'),
    """df.http_multipart('u', parts => '[{"name": "f", "data_b64": "$f"}]')""": options(
        "HTTP_MULTIPART",
        '{"url":"u","method":"POST","parts":[{"name":"f","data_b64":"$f"}],"timeout_seconds":30}',
    ),
    # CALL_CHILD
    "df.call_child('a')": f'{{"node_type":"CALL_CHILD","left_node":{A}}}',
    """df.call_child('a', '', '{}')""": f'{{"node_type":"CALL_CHILD","left_node":{A}}}',
    "df.call_child('a', 'l {x}')": options("CALL_CHILD", '{"label":"l {x}"}', left_node=A),
    """df.call_child('a', options => '{"vars": {"v": [1, "a b"]}, "detach": true, "timeout_seconds": "$t"}')""": options(
        "CALL_CHILD", '{"options":{"vars":{"v":[1,"a b"]},"detach":true,"timeout_seconds":"$t"}}', left_node=A
    ),
    # AWAIT_INSTANCE
    "df.await_instance('$o.id')": options("AWAIT_INSTANCE", '{"instance_id":"$o.id"}'),
    "df.await_instance('order-1', 60)": options("AWAIT_INSTANCE", '{"instance_id":"order-1","timeout_seconds":60}'),
    # MAP
    "df.map('rows', 'b')": options("MAP", '{"items":"rows","max_parallel":10}', right_node=B),
    "df.map('a ', 'b', 3)": options(
        "MAP", '{"max_parallel":3}', left_node='{"node_type":"SQL","query":"a "}', right_node=B
    ),
    "df.map(df.sql('a'), 'b', max_parallel => 10000)": options(
        "MAP", '{"max_parallel":10000}', left_node=A, right_node=B
    ),
    # RETRY, TIMEOUT, CATCH, UNDO
    "df.retry('a', 3)": options("RETRY", '{"max_attempts":3,"initial":1,"backoff":2,"max_interval":300}', left_node=A),
    "df.retry('a', 1, '0', 1.50, '1 hour')": options(
        "RETRY", '{"max_attempts":1,"initial":0,"backoff":1.5,"max_interval":3600}', left_node=A
    ),
    "df.timeout('a', '90 s')": options("TIMEOUT", '{"seconds":90}', left_node=A),
    "df.timeout('a', after => '0.0000001 s')": options("TIMEOUT", '{"seconds":0}', left_node=A),
    "df.catch('a', 'b')": f'{{"node_type":"CATCH","left_node":{A},"right_node":{B}}}',
    "df.with_undo('a', 'b')": f'{{"node_type":"UNDO","left_node":{A},"right_node":{B}}}',
    "'a' <~ 'b'": f'{{"node_type":"UNDO","left_node":{A},"right_node":{B}}}',
}

KEYS: Final = ["node_type", "left_node", "right_node", "condition_node", "extra_nodes", "query", "result_name"]


@pytest.fixture(scope="module")
def home(server18: Cluster) -> Iterator[Database]:
    """One database for all: builders touch no table."""
    made = server18.database()
    yield made
    made.drop()


@pytest.fixture
def alice(home: Database) -> Iterator[Connection]:
    with home.connect("alice") as connection:
        yield connection


def value(connection: Connection, expression: str, *parameters: object) -> Any:
    """What an expression is."""
    row = connection.execute(f"select {expression}".encode(), parameters or None).fetchone()
    assert row is not None
    return row[0]


def refusal(connection: Connection, expression: str, *parameters: object) -> psycopg.Error:
    """The error of an expression."""
    with pytest.raises(psycopg.Error) as caught:
        value(connection, expression, *parameters)
    return caught.value


def message(connection: Connection, expression: str, *parameters: object) -> str | None:
    """The error text of an expression."""
    return refusal(connection, expression, *parameters).diag.message_primary


# --- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", list(GOLDEN))
def test_a_builder_makes_this_text_and_no_other(alice: Connection, expression: str) -> None:
    assert value(alice, expression) == GOLDEN[expression]


def test_the_texts_are_the_same_on_every_version(each_database: Database) -> None:
    with each_database.connect("alice") as alice:
        assert {expression: value(alice, expression) for expression in GOLDEN} == GOLDEN


def test_every_builder_and_every_operator_has_a_golden_text(alice: Connection) -> None:
    """Builders are what is parallel safe and has arguments with names for users; helpers call theirs p_something."""
    operators = alice.execute("select oprname, oprcode::regproc::text from pg_operator").fetchall()
    names = {name: function for name, function in operators if function.startswith("df.")}
    assert set(names) == {"~>", "|=>", "&", "|", "?>", "!>", "@>", "<~"}
    for name in names:
        assert any(f"{name} '" in expression for expression in GOLDEN), name
    builders = alice.execute(
        """
        select distinct 'df.' || quote_ident(proname)
          from pg_proc
         where pronamespace = 'df'::regnamespace and prorettype = 'text'::regtype
           and (proparallel = 's' or proname in ('wait_for_schedule', 'call_child'))
           and prolang = (select oid from pg_language where lanname = 'plpgsql')
           and proargnames[1] !~ '^p_'
        """
    ).fetchall()
    assert len(builders) == 29
    for (name,) in builders:
        plain = name.replace('"', "")
        assert name in names.values() or any(expression.startswith(f"{plain}(") for expression in GOLDEN), name


@pytest.mark.parametrize("expression", list(GOLDEN))
def test_keys_stand_in_their_order_without_white_space_and_are_absent_when_empty(
    alice: Connection, expression: str
) -> None:
    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        assert keys == [key for key in KEYS if key in keys]
        assert all(content is not None and content != [] for _, content in pairs)
        return dict(pairs)

    text = value(alice, expression)
    node = json.loads(text, object_pairs_hook=check)
    assert json.dumps(node, separators=(",", ":"), ensure_ascii=False) == text


def test_what_builders_make_is_a_valid_graph(alice: Connection) -> None:
    for expression in GOLDEN:
        graph = value(alice, expression)
        if expression == "df.sql('')":
            continue  # an empty query is refused at the INSERT
        alice.execute("select df.validate_graph(%s)", [f'{{"node_type":"LOOP","left_node":{graph}}}'])


def test_the_same_expression_gives_the_same_bytes_in_every_session(home: Database) -> None:
    expression = """
        select df.sleep('1 day 2 hours'::text) ~> (df.loop('a', every => '90 seconds') |=> 'n')
            & df.sleep_until(timestamptz '2030-01-02 03:04:05+00') & df.wait_for_signal('ü', 0.5)
    """
    texts = set()
    for setting in [
        "datestyle to 'SQL, DMY'",
        "intervalstyle to sql_standard",
        "timezone to 'Asia/Kathmandu'",
        "standard_conforming_strings to off",
        "extra_float_digits to 0",
        "search_path to public",
        "lc_numeric to 'C'",
    ]:
        with home.connect("alice") as connection:
            connection.execute(f"set {setting}".encode())
            texts.add(connection.execute(expression.encode()).fetchone())
    assert len(texts) == 1


# --- what is a node -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node", ['{"', '{"x":1}', ' \t\r\n{ \t\r\n"node_type":"BREAK"}', '{"node_type":"SQL"} and more']
)
def test_a_text_that_begins_with_a_brace_and_a_quote_is_a_node(alice: Connection, node: str) -> None:
    assert value(alice, "df.seq(%s, 'b')", node) == f'{{"node_type":"THEN","left_node":{node},"right_node":{B}}}'


@pytest.mark.parametrize("text", ["{query}", "{}", "{ }", "{'a'}", "", " ", '"', "[]", '\u00a0{"a":1}', "--{\n", '({"'])
def test_any_other_text_is_sql_as_it_stands(alice: Connection, text: str) -> None:
    for expression in ("df.seq(%s, 'b')", "%s ~> 'b'"):
        node = json.loads(value(alice, expression, text))["left_node"]
        assert node == {"node_type": "SQL", "query": text}


@pytest.mark.parametrize(
    "builder",
    [
        "df.seq({}, {})",
        "df.seq_all({}, {})",
        "df.as({}, 'n')",
        "df.join({}, {})",
        "df.join3({}, {}, {})",
        "df.join_all({}, {})",
        "df.race({}, {})",
        "df.race_all({}, {})",
        "df.if({}, {}, {})",
        "df.if_rows('n', {}, {})",
        "df.loop({}, {})",
        "{} ~> {}",
        "{} & {}",
        "{} | {}",
        "{} ?> {} !> {}",
        "{} |=> 'n'",
        "@> {}",
    ],
)
def test_every_argument_that_is_a_node_may_be_sql_or_a_node(alice: Connection, builder: str) -> None:
    slots = builder.count("{}")
    wrapped = value(alice, builder.replace("{}", "df.sql(%s)"), *["select 1"] * slots)
    assert wrapped.count('{"node_type":"SQL","query":"select 1"') == slots
    assert value(alice, builder.replace("{}", "%s"), *["select 1"] * slots) == wrapped


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [name for name in GOLDEN if "as(" not in name and "|=>" not in name and "'c' ?>" not in name],
)
def test_any_node_can_be_named_and_named_anew(alice: Connection, expression: str) -> None:
    named = GOLDEN[expression][:-1] + ',"result_name":"{}"}}'.replace("{}", "n").replace("}}", "}")
    assert value(alice, f"df.as({expression}, 'n')") == named
    assert value(alice, f"({expression}) |=> 'n'") == named
    assert value(alice, f"({expression}) |=> 'first' |=> 'n'") == named


def test_a_name_says_nothing_about_the_children(alice: Connection) -> None:
    assert value(alice, "@> ('a' |=> 'x') |=> 'y'") == (
        '{"node_type":"LOOP","left_node":{"node_type":"SQL","query":"a","result_name":"x"},"result_name":"y"}'
    )


def test_naming_half_an_if_names_the_whole(alice: Connection) -> None:
    named = IF_CTE[:-1] + ',"result_name":"n"}'
    for expression in ("'c' ?> 't' |=> 'n' !> 'e'", "'c' ?> 't' |=> 'm' !> 'e' |=> 'n'", "'c' ?> 't' !> 'e' |=> 'n'"):
        assert value(alice, expression) == named


@pytest.mark.parametrize(
    ("node", "named"),
    [
        ('{ "node_type" : "BREAK" }', '{ "node_type" : "BREAK" ,"result_name":"n"}'),
        ('\n{"node_type":"BREAK"}\n', '\n{"node_type":"BREAK","result_name":"n"}'),
        ('{"result_name":"x","node_type":"BREAK"}', '{"node_type":"BREAK","result_name":"n"}'),
        ('{"node_type":"BREAK", "result_name" : "x" }', '{"node_type":"BREAK","result_name":"n"}'),
        ('{"node_type":"BREAK","result_name":null}', '{"node_type":"BREAK","result_name":"n"}'),
        ('{"node_type":"BREAK","result_name":"no name"}', '{"node_type":"BREAK","result_name":"n"}'),
        (f'{{"node_type":"BREAK","result_name":"{"x" * 400}"}}', '{"node_type":"BREAK","result_name":"n"}'),
        ('{"resul\\u0074_name":"x","result_name":"y","node_type":"BREAK"}', '{"node_type":"BREAK","result_name":"n"}'),
        (
            '{"node_type":"SQL","query":"select \',\\"result_name\\":\\"x\\"}\'"}',
            '{"node_type":"SQL","query":"select \',\\"result_name\\":\\"x\\"}\'","result_name":"n"}',
        ),
    ],
)
def test_a_name_replaces_that_of_a_node_that_people_wrote(alice: Connection, node: str, named: str) -> None:
    assert value(alice, "df.as(%s, 'n')", node) == named
    assert json.loads(named)["result_name"] == "n"


@pytest.mark.parametrize("name", ["", "1a", "a b", "a-b", "é", "a\n", "$a", 'a"', "a'", "\uff41"])
def test_a_name_that_is_no_identifier_is_refused(alice: Connection, name: str) -> None:
    flaw = f"result name '{name}' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"
    assert message(alice, "df.as('a', %s)", name) == f"df.as: {flaw}"
    assert message(alice, "'a' |=> %s", name) == f"df.as: {flaw}"
    assert message(alice, "df.if_rows(%s, 'a', 'b')", name) == f"df.if_rows: {flaw}"


def test_what_begins_like_a_node_and_is_none_is_not_named(alice: Connection) -> None:
    error = refusal(alice, "'a' ~> 'b' || ' where x' |=> 'n'")
    assert error.diag.message_primary is not None
    assert error.diag.message_primary.startswith("df.as: argument fut begins like a node and does not end like one: …")
    assert error.diag.message_primary.endswith(" where x")
    assert error.diag.message_hint == "|| binds like ~>: put parentheses around concatenations."


def test_naming_what_is_no_json_leaves_the_complaint_to_the_insert_unless_it_may_have_a_name(alice: Connection) -> None:
    assert value(alice, "df.as(%s, 'n')", '{"a" b}') == '{"a" b,"result_name":"n"}'
    assert message(alice, "df.as(%s, 'n')", '{"a" b "result_name"}') == "invalid input syntax for type json"


# --- wrong arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("df.sql(null)", "df.sql: argument query is NULL"),
        ("df.seq(null, 'b')", "df.seq: argument a is NULL"),
        ("df.seq('a', null)", "df.seq: argument b is NULL"),
        ("'a' ~> null", "df.seq: argument b is NULL"),
        ("'a' ~> ('select ' || null)", "df.seq: argument b is NULL"),
        ("df.seq_all('a', null)", "df.seq_all: argument 2 is NULL"),
        ("df.as(null, 'n')", "df.as: argument fut is NULL"),
        ("df.as('a', null)", "df.as: argument name is NULL"),
        ("null & 'b'", "df.join: argument a is NULL"),
        ("df.join3('a', 'b', null)", "df.join3: argument c is NULL"),
        ("df.join_all('a', 'b', null)", "df.join_all: argument 3 is NULL"),
        ("'a' | null", "df.race: argument b is NULL"),
        ("df.race_all(null, 'b')", "df.race_all: argument 1 is NULL"),
        ("df.if(null, 't', 'e')", "df.if: argument condition is NULL"),
        ("df.if('c', null, 'e')", "df.if: argument then_branch is NULL"),
        ("df.if('c', 't', null)", "df.if: argument else_branch is NULL"),
        ("null ?> 't'", "df.if: argument condition is NULL"),
        ("'c' ?> null", "df.if: argument then_branch is NULL"),
        ("'c' ?> 't' !> null", "df.if: argument else_branch is NULL"),
        ("df.if_rows(null, 't', 'e')", "df.if_rows: argument result_name is NULL"),
        ("df.if_rows('n', 't', null)", "df.if_rows: argument else_branch is NULL"),
        ("df.loop(null)", "df.loop: argument body is NULL"),
        ("@> null", "df.loop: argument body is NULL"),
        ("df.sleep(null::bigint)", "df.sleep: argument seconds is NULL"),
        ("df.sleep(null::interval)", "df.sleep: argument duration is NULL"),
        ("df.sleep(null::text)", "df.sleep: argument duration is NULL"),
        ("df.sleep_until(null::timestamptz)", "df.sleep_until: argument until is NULL"),
        ("df.sleep_until(null::text)", "df.sleep_until: argument until is NULL"),
        ("df.wait_for_signal(null)", "df.wait_for_signal: argument name is NULL"),
    ],
)
def test_a_null_is_refused_with_the_builder_and_the_argument(alice: Connection, expression: str, text: str) -> None:
    error = refusal(alice, expression)
    assert (error.diag.message_primary, error.sqlstate) == (text, "22004")


@pytest.mark.parametrize("builder", ["seq_all", "join_all", "race_all"])
def test_all_of_nothing_is_an_error(alice: Connection, builder: str) -> None:
    for nothing in ("'{}'", "null"):
        assert message(alice, f"df.{builder}(variadic {nothing}::text[])") == (
            f"df.{builder}: needs at least one argument"
        )


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("df.sleep(-1)", "df.sleep: argument seconds must be from 0 to 10000000000 seconds, not -1"),
        ("df.sleep(10000000001)", "df.sleep: argument seconds must be from 0 to 10000000000 seconds, not 10000000001"),
        ("df.sleep('-2'::text)", "df.sleep: argument duration must be from 0 to 10000000000 seconds, not -2"),
        ("df.sleep('soon'::text)", 'invalid input syntax for type interval: "soon"'),
        (
            "df.loop('a', every => '-1 s')",
            "df.loop: argument every must be from 0 to 10000000000 seconds, not -1.000000",
        ),
        (
            "df.wait_for_signal('go', 'NaN')",
            "df.wait_for_signal: argument timeout_seconds must be from 0 to 10000000000 seconds, not NaN",
        ),
        (
            "df.sleep_until(timestamptz 'infinity')",
            "df.sleep_until: argument until must be in the years 1 to 9999, not infinity",
        ),
        ("df.sleep_until('soon'::text)", 'invalid input syntax for type timestamp with time zone: "soon"'),
    ],
)
def test_what_no_wait_can_be_is_refused(alice: Connection, expression: str, text: str) -> None:
    assert message(alice, expression) == text


@pytest.mark.parametrize(
    "left",
    [
        "'a'",
        "df.sql('a')",
        "null",
        "df.if('c', 't', 'e')",
        "('c' ?> 't' !> 'd')",
        "('c' ?> 't' ~> 'x')",
        "'{\"broken'",
        '\'{"node_type":"IF"\'',
        "'{\"node_type\":[]}'",
        "df.sql(',\"then_length\":5}')",
    ],
)
def test_else_without_then_is_refused(alice: Connection, left: str) -> None:
    error = refusal(alice, f"{left} !> 'b'")
    assert error.diag.message_primary == "Invalid if-then-else: left side of !> must be a ?> expression"
    assert error.sqlstate == "22023"


def test_else_completes_an_if_that_somebody_wrote(alice: Connection) -> None:
    half = '{"node_type":"IF","condition_node":{"node_type":"SQL","query":"c"},"left_node":{"node_type":"BREAK"}}'
    assert value(alice, "%s::text !> 'b'", half) == f'{half[:-1]},"right_node":{B}}}'


def test_times_are_read_in_the_session_and_not_when_a_plan_is_made(alice: Connection) -> None:
    """'tomorrow' in a function that runs for weeks is another day each day."""
    alice.execute("prepare graph as select df.sleep_until('2030-01-01 00:00'::text)")
    made = []
    for zone in ("UTC", "Asia/Tokyo"):
        alice.execute(f"set timezone to '{zone}'".encode())
        made.append(alice.execute("execute graph").fetchone())
    assert made[0] != made[1]
    assert value(alice, "provolatile::text from pg_proc where oid = 'df.sleep_until(text)'::regprocedure") == "s"


def test_a_zone_is_spelled_as_the_server_lists_it_and_the_session_keeps_its_own(alice: Connection) -> None:
    alice.execute("set timezone to 'Asia/Tokyo'")
    with alice.transaction():
        alice.execute("set local timezone to 'Asia/Kolkata'")
        wrong = alice.execute("""
            select name from pg_timezone_names where df.is_zone(name) and exists (
              select from unnest(array[lower(name), upper(name), name]) as z
               where (df.wait_for_schedule('@daily', z)::json ->> 'query')::json ->> 'timezone' <> name)
        """).fetchall()
        assert wrong == []
        assert value(alice, "current_setting('timezone')") == "Asia/Kolkata"
    assert message(alice, "df.wait_for_schedule('@daily', 'tokyo')") is not None
    assert value(alice, "current_setting('timezone')") == "Asia/Tokyo"


# --- odd texts ------------------------------------------------------------------------------------------------------

ODD: Final = {
    "quotes": """select 'it''s', "Column", $$it's$$, $tag$ "x" $tag$""",
    "backslashes": r"select E'\\ \' \n', '\d+\"'",
    "controls": "select\t1,\r\n2,\x01\x1f\x7f3",
    "beyond ASCII": "select 'žluťoučký 漢字 🐘👩\u200d👩\u200d👧 \u2028 \ue000'",
    "like JSON": 'select \'{"node_type":"BREAK","result_name":"x"}\'',
    "like the end of a node": ',"result_name":"x"}',
    "like half an if": ',"then_length":5}',
    "a megabyte": "select '" + "ß" * 500_000 + "'",
}


@pytest.mark.parametrize("query", ODD.values(), ids=ODD)
@pytest.mark.parametrize("strings", ["on", "off"])
def test_an_odd_text_comes_back_as_it_was(home: Database, query: str, strings: str) -> None:
    with home.connect("alice") as alice:
        alice.execute("select set_config('standard_conforming_strings', %s, false)", [strings])
        sql = {"node_type": "SQL", "query": query}
        plain = value(alice, "df.sql(%s)", query)
        assert json.loads(plain) == sql
        assert value(alice, "df.as(df.sql(%s) |=> 'm', 'n')", query) == plain[:-1] + ',"result_name":"n"}'
        assert json.loads(value(alice, "%s ?> %s !> %s |=> 'n'", query, query, query)) == {
            "node_type": "IF",
            "left_node": sql,
            "right_node": sql,
            "condition_node": sql,
            "result_name": "n",
        }
        assert json.loads(value(alice, "df.join_all(%s, %s, %s)", query, query, query))["extra_nodes"] == [sql]
        assert json.loads(value(alice, "df.seq_all(%s, %s, %s)", query, query, query))["right_node"] == sql
        assert json.loads(json.loads(value(alice, "df.break(%s)", query))["query"])["break_value"] == query
        assert json.loads(json.loads(value(alice, "df.wait_for_signal(%s)", query))["query"])["signal_name"] == query


@pytest.mark.parametrize("strings", ["on", "off"])
def test_builders_do_not_depend_on_how_the_session_reads_backslashes(home: Database, strings: str) -> None:
    with home.connect("alice") as alice:
        alice.execute("set escape_string_warning to off")
        alice.execute("select set_config('standard_conforming_strings', %s, false)", [strings])
        assert {expression: value(alice, expression) for expression in GOLDEN} == GOLDEN
        assert value(alice, "df.as(%s, 'n')", ' {"node_type":"BREAK"}\n') == ' {"node_type":"BREAK","result_name":"n"}'


# --- break values ---------------------------------------------------------------------------------------------------

JSON: Final = ["0", "-0.5e-7", "true", '"a\\u00e9\\n"', "[]", "{}", '{"a":[1,{"b":null}]}', "[" * 500 + "]" * 500]
NO_JSON: Final = [
    "01",
    "1 2",
    "+1",
    ".5",
    "1.",
    "nullnull",
    "NaN",
    "'a'",
    '"',
    '"\t"',
    "[1,]",
    "[,1]",
    "{1:2}",
    '{"a"}',
]


@pytest.mark.parametrize("text", JSON)
def test_a_break_value_that_is_json_is_that_value(alice: Connection, text: str) -> None:
    assert value(alice, "df.is_json(%s)", text) is True
    options = json.loads(value(alice, "df.break(%s)", f" {text}\n"))["query"]
    assert options == f'{{"break_value":{text}}}'


@pytest.mark.parametrize("text", [*NO_JSON, '{"a":1', "[1]]", '{"a":1}{"b":2}', "[\x01]", "\x02", '"\\x"', "tru e"])
def test_a_break_value_that_is_no_json_is_a_string(alice: Connection, text: str) -> None:
    assert value(alice, "df.is_json(%s)", text) is False
    assert json.loads(json.loads(value(alice, "df.break(%s)", text))["query"]) == {"break_value": text}


def test_whether_a_text_is_json_is_decided_as_the_server_decides_it(alice: Connection) -> None:
    for text in [*JSON, *NO_JSON, "\t1\r\n", "\x0b1", "\xa01", "1e5", "1E+5", "-", "- 1", "\\u0041", '"\\ud800"']:
        try:
            alice.execute("select %s::json", [text])
            is_json = True
        except psycopg.errors.InvalidTextRepresentation:
            is_json = False
        assert value(alice, "df.is_json(%s)", text) is is_json, text


# --- size -----------------------------------------------------------------------------------------------------------


def depth_and_nodes(text: str) -> tuple[int, int]:
    """How deep braces nest outside strings, and how many nodes there are."""
    outside = "".join(text.split('"')[::2])  # there are no escaped quotes in these texts
    depth = deepest = 0
    for sign in outside:
        depth += (sign == "{") - (sign == "}")
        deepest = max(deepest, depth)
    assert depth == 0
    return deepest, text.count('"node_type"')


def test_a_thousand_steps_in_a_row_are_built_and_valid(alice: Connection) -> None:
    chain = value(alice, " ~> ".join(["'select 1'"] * 1001))
    assert depth_and_nodes(chain) == (1001, 2001)
    assert value(alice, "df.seq_all(variadic array_fill('select 1'::text, '{1001}'))") == chain
    alice.execute("select df.validate_graph(%s)", [chain])


def test_a_chain_whose_every_prefix_is_named_is_built(alice: Connection) -> None:
    chain = value(alice, "'select 1'" + " |=> 'n' ~> 'select 1'" * 300)
    assert depth_and_nodes(chain) == (301, 601)
    assert chain.count('"result_name":"n"') == 300


def test_wide_joins_and_races_have_all_their_branches(alice: Connection) -> None:
    for builder in ("join_all", "race_all"):
        node = json.loads(value(alice, f"df.{builder}(variadic array_fill('select 1'::text, '{{1000}}'))"))
        assert len(node["extra_nodes"]) == 998


def test_builders_can_run_in_parallel_workers(alice: Connection) -> None:
    with alice.transaction():
        for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
            alice.execute(f"set local {setting} to 0".encode())
        alice.execute("create table texts as select 'select ' || n as query from generate_series(1, 20000) n")
        query = "select count(distinct df.break(query) || df.sleep(30) || (query ~> query |=> 'n')) from texts"
        plan = "\n".join(line for (line,) in alice.execute(f"explain (costs off) {query}".encode()))
        assert "Parallel Seq Scan" in plan
        count = alice.execute(query.encode()).fetchone()
        alice.execute("drop table texts")
    assert count == (20000,)


def test_builders_touch_no_table(alice: Connection) -> None:
    with alice.transaction():
        alice.execute("set transaction read only")
        for expression in GOLDEN:
            value(alice, expression)
        locked = alice.execute("select relation::regclass::text from pg_locks where pid = pg_backend_pid()").fetchall()
    assert not [name for (name,) in locked if name and name.startswith("df.")]
