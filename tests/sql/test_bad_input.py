"""Every builder with everything that people pass by mistake: taken as it is, or refused at once with words that help."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final

import psycopg
import pytest

from tests.sql.asking import Asking

TEXTS: Final = {
    "empty": "",
    "blank": " \n\t ",
    "a quote": "it's",
    "quotes": "'\"'\"''\"\"",
    "a backslash": "\\",
    "backslashes": "\\' \\\\ \\n \\u0041 \\x41 E'\\''",
    "dollar quotes": "$$ $a$ $$ select $1 $a$",
    "half a node": '{"node_type":"SQL"',
    "a node that is none": '{"a": 1}',
    "braces": "}{][,:",
    "emoji": "😀 👩‍👩‍👧‍👦 🏴‍☠️",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0633\u0644\u0627\u0645\u202c",
    "combining": "e\u0301 \u00e9 \u212b",
    "control characters": "\x01\x02\x1f\x7f\u0085\u2028",
    "a number": "-1e400",
    "not a number": "NaN",
    "a comment": "-- x\n/* y",
    "a placeholder": "%s %(x)s %",
    "references": "{v} $x.y? ${ $",
    "json": '["a", {"b": null}]',
    "a megabyte": "ä" * 500_000,
    "a megabyte of backslashes": "\\\"'" * 333_333,
}
TEXT_ARGUMENTS: Final = [
    "df.sql(%s)", "df.seq(%s, 'b')", "df.seq('a', %s)", "df.seq_all('a', %s, 'c')", "df.as(%s, 'n')", "df.as('a', %s)",
    "df.join(%s, 'b')", "df.join3('a', 'b', %s)", "df.join_all('a', %s)", "df.race('a', %s)", "df.race_all(%s, 'b')",
    "df.if(%s, 't', 'e')", "df.if('c', %s, 'e')", "df.if('c', 't', %s)", "df.if_rows(%s, 't', 'e')",
    "df.if_rows('n', %s, 'e')", "df.loop(%s)", "df.loop('a', %s)", "df.loop(df.break(%s))", "df.sleep(%s::text)",
    "df.sleep_until(%s::text)", "df.wait_for_schedule(%s)", "df.wait_for_schedule('@daily', %s)", "df.wait_for_signal(%s)",
    "df.http(%s)", "df.http('u', %s)", "df.http('u', body => %s)", "df.http('u', headers => jsonb_build_object('h', %s::text))",
    "df.http_multipart('u', parts => jsonb_build_array(jsonb_build_object('name', 'a', 'data_b64', %s::text)))",
    "df.call_child(%s)", "df.call_child('a', %s)", "df.call_child('a', options => jsonb_build_object('input', %s::text))",
    "df.call_child('a', options => jsonb_build_object('timeout_seconds', %s::text))",
    "df.call_child('a', options => jsonb_build_object('on_failure', %s::text))",
    "df.call_child('a', options => jsonb_build_object(%s::text, 1))", "df.await_instance(%s)", "df.map(%s, 'b')",
    "df.map('a', %s)", "df.retry(%s, 3)", "df.timeout(%s, '1 s')", "df.catch(%s, 'b')", "df.catch('a', %s)",
    "df.with_undo(%s, 'b')", "df.with_undo('a', %s)", "%s ~> 'b'", "'a' <~ %s", "@> %s", "'c' ?> %s !> 'e'", "'a' |=> %s",
]  # fmt: skip
NUMBER_ARGUMENTS: Final = [
    "df.wait_for_signal('n', %s::numeric)", "df.http('u', timeout_seconds => %s::numeric)", "df.await_instance('i', %s::numeric)",
    "df.http_multipart('u', parts => '[{\"name\":\"a\",\"data_b64\":\"\"}]', timeout_seconds => %s::numeric)",
    "df.retry('a', 3, backoff => %s::numeric)", "df.retry('a', %s::integer)", "df.map('a', 'b', %s::integer)",
    "df.sleep(%s::bigint)", "df.sleep(%s::text)",
    "df.call_child('a', options => jsonb_build_object('timeout_seconds', %s::numeric))",
]  # fmt: skip
NUMBERS: Final = [
    "0", "-0", "1", "-1", "0.5", "1e-30", "1e-500", "1e10", "10000000001", "2147483648", "9223372036854775808", "1e131000",
    "NaN", "Infinity", "-Infinity", "0x10", "1_000", "", "five", "10000", "10001",
]  # fmt: skip
INTERVAL_ARGUMENTS: Final = [
    "df.sleep(%s::interval)", "df.sleep(%s::text)", "df.loop('a', every => %s::interval)", "df.timeout('a', %s::interval)",
    "df.retry('a', 3, %s::interval)", "df.retry('a', 3, max_interval => %s::interval)",
]  # fmt: skip
INTERVALS: Final = [
    "0", "-1 second", "1 year -400 days", "178000000 years", "1 microsecond", "infinity", "-infinity", "soon", "",
    "P1Y2M3DT4H5M6.7S", "1 mon", "300 years", "400 years",
]  # fmt: skip
OUR_PATH: Final = "Invalid durable function graph: root"


def outcome(alice: Asking, expression: str, value: str | None) -> tuple[str | None, str]:
    """The graph, if one was built and can be started; and what was said if not."""
    try:
        graph = alice.text(expression, value)
    except psycopg.DataError as error:
        return None, str(error.diag.message_primary)
    try:
        alice.rows("insert into df.instances (graph) values (%s)", graph)
    except psycopg.errors.InvalidParameterValue as error:
        said = str(error.diag.message_primary)
        if not said.endswith("HTTP steps are not available in this version of walflow"):
            return None, said
    return graph, ""


def strings(value: Any) -> list[str]:
    """Every string in a graph, decoded as deep as it says it is JSON."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
            if item[:1] in ("{", "["):
                with suppress(ValueError):
                    waiting.append(json.loads(item))
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item
    return found


def helps(said: str) -> bool:
    """Does a message say where: the builder and its argument, the path, or what PostgreSQL says of a bad literal?"""
    known = (
        "df.",
        OUR_PATH,
        "invalid input syntax for type",
        "Invalid if-then-else",
        "Unknown node_type",
        "Invalid durable function: ",
    )
    return said.startswith(known) or " out of range" in said


@pytest.mark.parametrize("conforming", ["on", "off"])
@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if len(text) < 1_000])
def test_a_text_is_kept_to_the_letter_or_refused_with_words_that_help(
    everywhere: Asking, name: str, conforming: str
) -> None:
    everywhere.set("standard_conforming_strings", conforming)
    everywhere.set("escape_string_warning", "off")
    check_everywhere(everywhere, TEXTS[name])


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if len(text) >= 1_000])
def test_a_megabyte_is_a_text_like_others(alice: Asking, name: str) -> None:
    check_everywhere(alice, TEXTS[name])


def check_everywhere(asking: Asking, text: str) -> None:
    for expression in TEXT_ARGUMENTS:
        graph, said = outcome(asking, expression, text)
        if graph is None:
            assert helps(said), (expression, said)
            assert len(said) < 1_000, expression
            continue
        changes = expression.startswith(("df.sleep", "df.loop(df.break"))
        if text and not text.startswith(("[", "{")) and not changes:
            kept = strings(json.loads(graph))
            assert text in kept or text.strip() in kept, expression


@pytest.mark.parametrize("text", ["it's \\ 'x' \\n", "\\'; select 1 --", "$a$\\$a$"])
def test_literals_mean_the_same_whatever_the_session_thinks_of_backslashes(everywhere: Asking, text: str) -> None:
    found = []
    for conforming in ("on", "off"):
        everywhere.set("standard_conforming_strings", conforming)
        everywhere.set("escape_string_warning", "off")
        literal = "'" + text.replace("'", "''").replace("\\", "\\\\" if conforming == "off" else "\\") + "'"
        found.append(
            everywhere.connection.execute(f"select df.seq({literal}, df.break({literal}))".encode()).fetchall()
        )
    assert found[0] == found[1]
    assert text in strings(json.loads(found[0][0][0]))


@pytest.mark.parametrize("expression", TEXT_ARGUMENTS + NUMBER_ARGUMENTS + INTERVAL_ARGUMENTS)
def test_null_is_nothing_where_it_may_be_and_else_an_error_that_names_the_argument(
    alice: Asking, expression: str
) -> None:
    graph, said = outcome(alice, expression, None)
    optional = (
        "df.loop('a', %s)", "df.loop(df.break(%s))", "df.loop('a', every", "df.http('u', body", "df.call_child('a', %s)",
        "df.wait_for_signal('n', ", "df.await_instance('i', ", "df.http('u', headers", "df.call_child('a', options",
    )  # fmt: skip
    if expression.startswith(optional) and "jsonb_build_object(%s" not in expression:
        assert graph is not None, said
    else:
        assert "NULL" in said or "null" in said or "part 1 is not" in said, said


@pytest.mark.parametrize("expression", NUMBER_ARGUMENTS)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_in_its_range_or_refused(alice: Asking, expression: str, number: str) -> None:
    graph, said = outcome(alice, expression, number)
    if number in ("-1", "NaN", "Infinity", "-Infinity", "five", "", "1e131000"):
        assert graph is None, expression
    assert graph is not None or helps(said), said
    assert len(said) < 400


@pytest.mark.parametrize("expression", INTERVAL_ARGUMENTS)
@pytest.mark.parametrize("interval", INTERVALS)
def test_an_interval_is_neither_negative_nor_endless(everywhere: Asking, expression: str, interval: str) -> None:
    graph, said = outcome(everywhere, expression, interval)
    if interval in ("-1 second", "1 year -400 days", "178000000 years", "infinity", "-infinity", "soon", ""):
        assert graph is None, expression
    assert graph is not None or helps(said), said


def test_the_wrong_kind_of_json_is_refused_by_name(alice: Asking) -> None:
    for expression in (
        "df.http('u', headers => '[]')", "df.http('u', headers => '\"x\"')", "df.call_child('a', options => '[]')",
        "df.call_child('a', options => '5')", "df.http_multipart('u')", "df.http_multipart('u', parts => '{}')",
        "df.http_multipart('u', parts => '[]')", "df.http_multipart('u', parts => '[5]')",
        "df.http_multipart('u', parts => '[{\"name\":\"a\"}]')",
        "df.http_multipart('u', parts => '[{\"name\":\"a\",\"data_b64\":\"\",\"filename\":5}]')",
    ):  # fmt: skip
        graph, said = (
            outcome(alice, expression, None) if "%s" in expression else outcome(alice, expression + " || %s", "")
        )
        assert graph is None
        assert said.startswith(("df.http: ", "df.call_child: ", "df.http_multipart: ")), said
