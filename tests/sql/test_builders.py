"""Builders: the same expression gives the same bytes, and what cannot be built says which argument is at fault."""

from __future__ import annotations

import json
import time

import pytest

from tests.sql.asking import Asking, query_of

A = '{"node_type":"SQL","query":"a"}'
B = '{"node_type":"SQL","query":"b"}'
C = '{"node_type":"SQL","query":"c"}'
D = '{"node_type":"SQL","query":"d"}'

GOLDEN = [
    ("df.sql('a')", A),
    ("df.sql('{\"x\"}')", '{"node_type":"SQL","query":"{\\"x\\"}"}'),
    ("df.seq('a', 'b')", f'{{"node_type":"THEN","left_node":{A},"right_node":{B}}}'),
    ("df.seq(a => 'a', b => 'b')", f'{{"node_type":"THEN","left_node":{A},"right_node":{B}}}'),
    ("df.seq_all('a')", A),
    ("df.seq_all('a', 'b')", f'{{"node_type":"THEN","left_node":{A},"right_node":{B}}}'),
    (
        "df.seq_all('a', 'b', 'c')",
        f'{{"node_type":"THEN","left_node":{{"node_type":"THEN","left_node":{A},"right_node":{B}}},"right_node":{C}}}',
    ),
    ("df.as('a', 'n')", '{"node_type":"SQL","query":"a","result_name":"n"}'),
    ("df.as(fut => 'a', name => 'n')", '{"node_type":"SQL","query":"a","result_name":"n"}'),
    ("df.join('a', 'b')", f'{{"node_type":"JOIN","left_node":{A},"right_node":{B}}}'),
    ("df.join3('a', 'b', 'c')", f'{{"node_type":"JOIN","left_node":{A},"right_node":{B},"extra_nodes":[{C}]}}'),
    ("df.join_all('a')", f'{{"node_type":"JOIN","left_node":{A}}}'),
    ("df.join_all('a', 'b')", f'{{"node_type":"JOIN","left_node":{A},"right_node":{B}}}'),
    (
        "df.join_all('a', 'b', 'c', 'd')",
        f'{{"node_type":"JOIN","left_node":{A},"right_node":{B},"extra_nodes":[{C},{D}]}}',
    ),
    ("df.race('a', 'b')", f'{{"node_type":"RACE","left_node":{A},"right_node":{B}}}'),
    ("df.race_all('a')", A),
    ("df.race_all('a', 'b', 'c')", f'{{"node_type":"RACE","left_node":{A},"right_node":{B},"extra_nodes":[{C}]}}'),
    ("df.if('c', 'a', 'b')", f'{{"node_type":"IF","left_node":{A},"right_node":{B},"condition_node":{C}}}'),
    (
        "df.if(condition => 'c', then_branch => 'a', else_branch => 'b')",
        f'{{"node_type":"IF","left_node":{A},"right_node":{B},"condition_node":{C}}}',
    ),
    (
        "df.if_rows('n', 'a', 'b')",
        f'{{"node_type":"IF","left_node":{A},"right_node":{B},'
        '"query":"{\\"condition_type\\":\\"result_has_rows\\",\\"result_name\\":\\"n\\"}"}',
    ),
    ("df.loop('a')", f'{{"node_type":"LOOP","left_node":{A}}}'),
    ("df.loop('a', 'c')", f'{{"node_type":"LOOP","left_node":{A},"condition_node":{C}}}'),
    ("df.loop('a', every => '1 hour')", f'{{"node_type":"LOOP","left_node":{A},"query":"{{\\"every\\":3600}}"}}'),
    (
        "df.loop(body => 'a', condition => 'c', every => '0')",
        f'{{"node_type":"LOOP","left_node":{A},"condition_node":{C},"query":"{{\\"every\\":0}}"}}',
    ),
    ("df.break()", '{"node_type":"BREAK"}'),
    ("df.break(null)", '{"node_type":"BREAK"}'),
    ("df.break('5')", '{"node_type":"BREAK","query":"{\\"break_value\\":5}"}'),
    ("df.break('done')", '{"node_type":"BREAK","query":"{\\"break_value\\":\\"done\\"}"}'),
    ("df.break('{\"a\":[1, null]}')", '{"node_type":"BREAK","query":"{\\"break_value\\":{\\"a\\":[1, null]}}"}'),
    ("df.break('$x')", '{"node_type":"BREAK","query":"{\\"break_value\\":\\"$x\\"}"}'),
    ("df.sleep(30)", '{"node_type":"SLEEP","query":"30"}'),
    ("df.sleep(seconds => 30)", '{"node_type":"SLEEP","query":"30"}'),
    ("df.sleep('90 seconds'::interval)", '{"node_type":"SLEEP","query":"90"}'),
    ("df.sleep('1.5 seconds'::interval)", '{"node_type":"SLEEP","query":"1.5"}'),
    ("df.sleep('30')", '{"node_type":"SLEEP","query":"30"}'),
    ("df.sleep('1 day 2 hours')", '{"node_type":"SLEEP","query":"93600"}'),
    ("df.sleep('$n minutes')", '{"node_type":"SLEEP","query":"$n minutes"}'),
    ("df.sleep('{pause}')", '{"node_type":"SLEEP","query":"{pause}"}'),
    (
        "df.sleep_until('2030-01-02 03:04:05.6+02'::timestamptz)",
        '{"node_type":"SLEEP","query":"{\\"until\\":\\"2030-01-02T01:04:05.600000Z\\"}"}',
    ),
    (
        "df.sleep_until('2030-01-02 03:04:05.6+02')",
        '{"node_type":"SLEEP","query":"{\\"until\\":\\"2030-01-02T01:04:05.600000Z\\"}"}',
    ),
    ("df.sleep_until('$o.due')", '{"node_type":"SLEEP","query":"{\\"until\\":\\"$o.due\\"}"}'),
    ("df.wait_for_signal('go')", '{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"go\\"}"}'),
    (
        "df.wait_for_signal('go', 20)",
        '{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"go\\",\\"timeout_seconds\\":20}"}',
    ),
    (
        "df.wait_for_signal('go', timeout_seconds => 0.50, fresh => true)",
        '{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"go\\",\\"timeout_seconds\\":0.5,\\"fresh\\":true}"}',
    ),
]


@pytest.mark.parametrize(("expression", "text"), GOLDEN)
def test_a_builder_gives_these_bytes_on_every_version(everywhere: Asking, expression: str, text: str) -> None:
    assert everywhere.text(expression) == text


@pytest.mark.parametrize("expression", [expression for expression, _ in GOLDEN if "break" not in expression])
def test_what_a_builder_gives_is_a_valid_graph(alice: Asking, expression: str) -> None:
    alice.rows(f"select df.validate_graph({expression})")


def test_a_break_is_valid_in_a_loop(alice: Asking) -> None:
    alice.rows("select df.validate_graph(df.loop(df.seq('a', df.break('{\"x\":\"$y\"}'))))")


# --- what a node is, and what is SQL ---


@pytest.mark.parametrize("text", ["{query}", "{}", '{ x "y" }', "[]", '"x"', "", " ", '\x0b{"node_type":"SQL"}'])
def test_text_that_does_not_begin_like_a_node_is_sql_untrimmed(alice: Asking, text: str) -> None:
    assert alice.text("df.loop(%s)", text) == f'{{"node_type":"LOOP","left_node":{alice.text("df.sql(%s)", text)}}}'
    assert query_of(alice.text("df.sql(%s)", text)) == text


@pytest.mark.parametrize("text", ['{"', ' \t\n\r{ \n"node_type":"SQL"}', '{"anything'])
def test_text_that_begins_like_a_node_goes_in_as_it_is(alice: Asking, text: str) -> None:
    assert alice.text("df.loop(%s)", text) == f'{{"node_type":"LOOP","left_node":{text}}}'


# --- NULL ---


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("df.sql(null)", "df.sql: argument query is NULL"),
        ("df.seq(null, 'b')", "df.seq: argument a is NULL"),
        ("df.seq('a', null)", "df.seq: argument b is NULL"),
        ("df.seq_all('a', null)", "df.seq_all: argument 2 is NULL"),
        ("df.as(null, 'n')", "df.as: argument fut is NULL"),
        ("df.as('a', null)", "df.as: argument name is NULL"),
        ("df.join('a', null)", "df.join: argument b is NULL"),
        ("df.join3('a', 'b', null)", "df.join3: argument c is NULL"),
        ("df.join_all(null, 'b')", "df.join_all: argument 1 is NULL"),
        ("df.race(null, 'b')", "df.race: argument a is NULL"),
        ("df.race_all(variadic array['a', 'b', null])", "df.race_all: argument 3 is NULL"),
        ("df.if(null, 'a', 'b')", "df.if: argument condition is NULL"),
        ("df.if('c', null, 'b')", "df.if: argument then_branch is NULL"),
        ("df.if('c', 'a', null)", "df.if: argument else_branch is NULL"),
        ("df.if_rows(null, 'a', 'b')", "df.if_rows: argument result_name is NULL"),
        ("df.if_rows('n', 'a', null)", "df.if_rows: argument else_branch is NULL"),
        ("df.loop(null)", "df.loop: argument body is NULL"),
        ("df.sleep(null::bigint)", "df.sleep: argument seconds is NULL"),
        ("df.sleep(null::interval)", "df.sleep: argument duration is NULL"),
        ("df.sleep(null::text)", "df.sleep: argument duration is NULL"),
        ("df.sleep_until(null::text)", "df.sleep_until: argument until is NULL"),
        ("df.sleep_until(null::timestamptz)", "df.sleep_until: argument until is NULL"),
        ("df.wait_for_signal(null)", "df.wait_for_signal: argument name is NULL"),
    ],
)
def test_null_where_something_is_expected_says_which_argument(alice: Asking, expression: str, message: str) -> None:
    assert alice.refused(f"select {expression}") == message


@pytest.mark.parametrize("builder", ["seq_all", "join_all", "race_all"])
@pytest.mark.parametrize("nothing", ["'{}'", "null"])
def test_a_list_of_nothing_is_an_error(alice: Asking, builder: str, nothing: str) -> None:
    said = alice.refused(f"select df.{builder}(variadic {nothing}::text[])")
    assert said == f"df.{builder}: needs at least one argument"


# --- names ---


@pytest.mark.parametrize("name", ["", "1a", "a-b", "ä", "a b", "a\n", "$a", "a.b", 'a"'])
def test_a_name_that_is_no_identifier_is_refused(alice: Asking, name: str) -> None:
    said = alice.refused("select df.as('a', %s)", name)
    assert said == f"df.as: result name '{name}' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"


@pytest.mark.parametrize(
    ("node", "named"),
    [
        ("df.as('a', 'old')", '{"node_type":"SQL","query":"a","result_name":"n"}'),
        ("df.as(df.break(), 'old')", '{"node_type":"BREAK","result_name":"n"}'),
        (
            "df.seq(df.as('a', 'inner'), df.as('b', 'other'))",
            f'{{"node_type":"THEN","left_node":{A[:-1]},"result_name":"inner"}},'
            f'"right_node":{B[:-1]},"result_name":"other"}},"result_name":"n"}}',
        ),
        (' \'{"node_type":"SQL","query":"a"}\t\n \' ', '{"node_type":"SQL","query":"a","result_name":"n"}'),
        (
            '\'{ "result_name" : "old", "node_type" : "SQL", "query" : "a" }\'',
            '{"node_type":"SQL","query":"a","result_name":"n"}',
        ),
        (
            '\'{"node_type":"SQL","result_name":"old","query":"\\"result_name\\":\\"x\\"}"}\'',
            '{"node_type":"SQL","query":"\\"result_name\\":\\"x\\"}","result_name":"n"}',
        ),
        (
            'df.sql(\',"result_name":"x"}\')',
            '{"node_type":"SQL","query":",\\"result_name\\":\\"x\\"}","result_name":"n"}',
        ),
    ],
)
def test_the_last_name_is_the_name_however_the_node_is_spelled(alice: Asking, node: str, named: str) -> None:
    text = alice.text(f"df.as({node}, 'n')")
    assert text == named
    assert json.loads(text)["result_name"] == "n"


def test_a_long_name_is_replaced_too(alice: Asking) -> None:
    assert alice.text("df.as(df.as('a', repeat('x', 1000)), 'n')") == f'{A[:-1]},"result_name":"n"}}'


def test_a_node_that_breaks_off_cannot_be_named(alice: Asking) -> None:
    said = alice.refused("select df.as('{\"node_type\":\"SQL\"', 'n')")
    assert said == 'df.as: argument fut begins like a node and does not end like one: …{"node_type":"SQL"'


def test_if_rows_takes_a_name(alice: Asking) -> None:
    said = alice.refused("select df.if_rows('a b', 'a', 'b')")
    assert said == "df.if_rows: result name 'a b' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"


# --- times ---


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("df.sleep(-1)", "df.sleep: argument seconds must be from 0 to 10000000000 seconds, not -1"),
        ("df.sleep('-3')", "df.sleep: argument duration must be from 0 to 10000000000 seconds, not -3"),
        (
            "df.sleep('-1 day'::interval)",
            "df.sleep: argument duration must be from 0 to 10000000000 seconds, not -86400.000000",
        ),
        ("df.sleep('10000 years'::text)", None),
        ("df.sleep('banana')", 'invalid input syntax for type interval: "banana"'),
        ("df.sleep('')", 'invalid input syntax for type interval: ""'),
        (
            "df.loop('a', every => '-1 second')",
            "df.loop: argument every must be from 0 to 10000000000 seconds, not -1.000000",
        ),
        (
            "df.wait_for_signal('go', 'NaN')",
            "df.wait_for_signal: argument timeout_seconds must be from 0 to 10000000000 seconds, not NaN",
        ),
        ("df.sleep_until('infinity')", "df.sleep_until: argument until must be in the years 1 to 9999, not infinity"),
        ("df.sleep_until('soon')", 'invalid input syntax for type timestamp with time zone: "soon"'),
    ],
)
def test_a_wait_that_cannot_be_is_refused(alice: Asking, expression: str, message: str | None) -> None:
    said = alice.refused(f"select {expression}")
    assert message is None or said == message


def test_a_time_does_not_depend_on_the_session(alice: Asking) -> None:
    expression = "df.sleep_until('2030-06-01 12:00+02'::timestamptz)"
    before = alice.text(expression)
    alice.set("timezone", "Pacific/Auckland")
    alice.set("datestyle", "German, DMY")
    alice.set("intervalstyle", "sql_standard")
    assert alice.text(expression) == before
    assert alice.text("df.sleep('1 day'::interval)") == '{"node_type":"SLEEP","query":"86400"}'


# --- break values ---


@pytest.mark.parametrize(
    "value",
    ["0", "-1.5e-3", "true", "null", '"x"', "[]", "{}", ' [1, {"a": [ ] } , "\\u00e4\\n" ] ', '{"":{"":""}}',
     "[" * 900 + "]" * 900],
)  # fmt: skip
def test_a_break_value_that_is_json_is_that_value(alice: Asking, value: str) -> None:
    query = query_of(alice.text("df.break(%s)", value))
    assert json.loads(query)["break_value"] == json.loads(value)


@pytest.mark.parametrize(
    "value",
    ["", " ", "01", "1.", "+1", "NaN", "tru", "truefalse", "1 2", "[1,]", "{,}", '{"a"}', '{"a":1,}', "[}", '"', '"a\nb"',
     '"\\x"', "\x01", "$x", '{"n": $n}', "done", "it's \\ \"it\"", "é😀", "[" * 2000 + "]" * 2000, "{1:2}", '["a":1]'],
)  # fmt: skip
def test_any_other_break_value_is_a_string(alice: Asking, value: str) -> None:
    query = query_of(alice.text("df.break(%s)", value))
    assert json.loads(query) == {"break_value": value}


# --- bad and odd text ---

ODD = [
    "it''s", 'say "x"', "back\\slash", "$$dollar$$ $tag$x$tag$", "é😀\u2028", "tab\tnewline\ncr\r", "\x01\x1f\x7f", "", " ",
    "'; drop table x; --", "\\u0041", "x" * 1_000_000, '"}],}',
]  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text[:20]))
@pytest.mark.parametrize("standard_conforming_strings", ["on", "off"])
def test_odd_text_survives_every_builder(alice: Asking, text: str, standard_conforming_strings: str) -> None:
    alice.set("standard_conforming_strings", standard_conforming_strings)
    alice.set("escape_string_warning", "off")
    built = alice.text(
        "df.if(%s, df.as(%s, 'n'), df.loop(df.seq(%s, df.wait_for_signal(%s)), df.join3(%s, %s, %s)))",
        *[text] * 7,
    )
    tree = json.loads(built)
    loop = tree["right_node"]
    assert tree["condition_node"]["query"] == text
    assert tree["left_node"] == {"node_type": "SQL", "query": text, "result_name": "n"}
    assert loop["left_node"]["left_node"]["query"] == text
    assert json.loads(loop["left_node"]["right_node"]["query"]) == {"signal_name": text}
    assert [loop["condition_node"]["extra_nodes"][0]["query"]] == [text]


def test_literals_written_by_a_user_with_backslashes_mean_what_that_user_set(alice: Asking) -> None:
    alice.set("escape_string_warning", "off")
    alice.set("standard_conforming_strings", "off")
    assert query_of(alice.text(r"df.sql('a\\b\'c')")) == "a\\b'c"
    alice.set("standard_conforming_strings", "on")
    assert query_of(alice.text(r"df.sql('a\\b')")) == r"a\\b"


# --- what they are to PostgreSQL ---


def test_builders_are_immutable_parallel_safe_and_not_strict(everywhere: Asking) -> None:
    names = ["sql", "seq", "seq_all", "as", "join", "join3", "join_all", "race", "race_all", "if", "if_rows", "if_then",
             "if_else", "loop", "loop_forever", "break", "sleep", "sleep_until", "wait_for_signal"]  # fmt: skip
    found = everywhere.rows(
        """
        select proname, concat_ws(' ', l.lanname, provolatile, proparallel, proisstrict)
          from pg_proc p join pg_language l on l.oid = p.prolang
         where pronamespace = 'df'::regnamespace and proname = any (%s)
        """,
        names,
    )
    assert {name for name, _ in found} == set(names)
    assert {what for _, what in found} == {"plpgsql i s f"}


def test_builders_run_in_parallel_workers(everywhere: Asking) -> None:
    for name, value in [("parallel_setup_cost", "0"), ("parallel_tuple_cost", "0"), ("debug_parallel_query", "on")]:
        everywhere.connection.execute(
            "select set_config(name, %s, true) from pg_settings where name in (%s, %s)",
            [value, name, name.replace("debug_parallel_query", "force_parallel_mode")],
        )
    query = (
        "select df.break('[' || g || ']') || df.sleep(g || ' minutes') || df.as('a', 'n') from generate_series(1, 3) g"
    )
    assert len(everywhere.rows(query)) == 3


# --- speed: a third of what is allowed here is what they take on an idle machine ---


def chain(pattern: str, length: int) -> str:
    return " ~> ".join(pattern.format(number) for number in range(length))


@pytest.mark.parametrize("pattern", ["'select {0}'", "'select {0}' |=> 'n{0}'", "('select {0}' |=> 'n{0}')"])
def test_a_chain_of_a_thousand_is_built_in_a_fraction_of_a_second(alice: Asking, pattern: str) -> None:
    best = 10.0
    for _ in range(3):
        started = time.perf_counter()
        alice.rows(f"select length({chain(pattern, 1000)})")
        best = min(best, time.perf_counter() - started)
    assert best < 0.6
