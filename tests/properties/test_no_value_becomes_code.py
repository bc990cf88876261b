"""No value becomes code, in whatever text and whatever context, told by a second lexer and by PostgreSQL itself."""

import json
import re
from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from engine.substitution import SubstitutionError, render_sql, render_text
from tests.properties.sql_lexer import BadEscape, Token, tokens_of
from tests.servers import Cluster

MARK = "QZQ"  # a harmless value, found again in the tokens

FRAGMENTS = [
    "$x", "$x.c", "$x?", "$x.c?", "$y", "$unknown", "{v}", "{w}", "'", "''", "E'", "e'", "N'", "B'", "U&'", "U&", '"',
    "\\", "\\\\", "\\'", "\\x4", "\\1", "--", "-", "/*", "*/", "/", "*", "$$", "$t$", "$", "\n", " ", "\t", "a", "E",
    "1", ".", ",", "(", ")", "::", "&", "|", ";", "é", "uescape '!'",
]  # fmt: skip
templates = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=14).map("".join)
nasty = st.lists(
    st.sampled_from(
        ["'", "\\", '"', "$", "$x", "$$", "$t$", "--", "/*", "*/", "\n", ";", "E'", "a", "1", " ", "é", "{v}", "😀"]
    ),
    max_size=6,
).map("".join)
variables = st.fixed_dictionaries({"v": nasty, "w": st.sampled_from(["'", "$$", "--", "/*", "*/", "\\", "$x", "E'"])})


def of(value: object) -> str:
    return json.dumps({"rows": [{"c": value}], "row_count": 1})


def rendered(template: str, values: dict[str, str], mine: object, other: object) -> str:
    try:
        return render_sql(template, variables=values, names={"x": of(mine), "y": of(other)})
    except SubstitutionError:
        assume(False)
        raise


def lexed(text: str, conforming: bool) -> list[Token]:
    """The tokens; none for what PostgreSQL refuses before it runs anything."""
    try:
        found = tokens_of(text, conforming)
    except BadEscape:
        assume(False)
        raise
    assume(all(token.kind != "error" for token in found))
    return found


def shape(found: list[Token]) -> list[tuple[str, str]]:
    """What a statement does, but for the texts of its literals."""
    return [(token.kind, "" if token.kind in ("string", "bits") else token.text) for token in found]


@settings(max_examples=2_000, deadline=None)
@given(templates, variables, nasty, nasty, st.booleans())
@example("'\\' || $x || '", {"v": "", "w": ""}, "; drop table t; --", "", False)
@example("E'\\$x", {"v": "", "w": ""}, "'; drop table t; --", "", True)
@example("E'a'\n$x", {"v": "", "w": ""}, "\\'; drop table t; --", "", True)
@example("B'1'\n$x", {"v": "", "w": ""}, "'; drop table t; --", "", True)
@example("$x?$y", {"v": "", "w": ""}, "\\", "'; drop table t; --", True)
@example("U&$x", {"v": "", "w": ""}, "\\", "", True)
def test_a_statement_is_the_same_whatever_its_values_are(
    template: str, values: dict[str, str], mine: str, other: str, conforming: bool
) -> None:
    harmless = lexed(rendered(template, values, MARK, MARK), conforming)
    given = lexed(rendered(template, values, mine, other), conforming)
    assert shape(given) == shape(harmless)


@settings(max_examples=2_000, deadline=None)
@given(templates, variables, nasty)
@example("'a\\d$x'", {"v": "", "w": ""}, "\\")
@example("$x\n'\\d'", {"v": "", "w": ""}, "\\")
@example("E'\\1$x'", {"v": "", "w": ""}, "1")
@example("/* /* */ ' */ $x '*/'", {"v": "", "w": ""}, "'")
def test_every_literal_holds_exactly_the_value(template: str, values: dict[str, str], value: str) -> None:
    assume(MARK not in template and MARK not in values["v"])
    harmless = lexed(rendered(template, values, MARK, MARK), True)
    given = lexed(rendered(template, values, value, value), True)
    expected = [
        Token(token.kind, token.text.replace(MARK, value)) if token.kind in ("string", "name") else token
        for token in harmless
    ]
    assert given == expected


@settings(max_examples=500, deadline=None)
@given(templates, variables, st.sampled_from([7, -7, 1.5, True, False, [1, "'\\"], {"'": "\\'"}]))
def test_every_kind_of_value_stays_one_value(template: str, values: dict[str, str], value: object) -> None:
    """A number, boolean, array or object: no more strings, names and comments than with another."""
    kinds = {bool: "word", int: "number", float: "number"}
    kind = kinds.get(type(value), "string")
    alike = {"word": True, "number": 5, "string": {"a": 1}}[kind]
    harmless = [kind for kind, _ in shape(lexed(rendered(template, values, alike, alike), True))]
    given = [kind for kind, _ in shape(lexed(rendered(template, values, value, value), True))]
    unsigned = re.sub(r"\(,-,number,\)", "number", ",".join(given))  # a negative number has parentheses
    assert re.sub(r"\(,number,\)", "number", unsigned) == re.sub(r"\(,number,\)", "number", ",".join(harmless))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(["$x", "$x.c?", "a", '\\"', "\\\\", "$y", "-"]), max_size=5).map(" ".join), nasty)
def test_json_stays_json_whatever_its_values_are(inside: str, value: str) -> None:
    given = f'{{"a":"{inside}","b":$x,"$x":[$y]}}'
    filled = render_text(given, variables={}, names={"x": of(value), "y": of([value, 1.5])})
    whole = json.dumps([value, 1.5])
    plain = json.loads(f'"{inside}"')
    for reference, text in (("$x.c?", value), ("$y", whole), ("$x", value)):
        plain = plain.replace(reference, text.replace("$", "\0"))
    assert json.loads(filled) == {"a": plain.replace("\0", "$"), "b": value, value: [[value, 1.5]]}


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=20), variables, nasty)
def test_rendering_any_text_ends_in_a_text_or_a_typed_error(template: str, values: dict[str, str], value: str) -> None:
    for render in (render_sql, render_text):
        try:
            assert isinstance(render(template + "$x" + template, variables=values, names={"x": of(value)}), str)
        except SubstitutionError as error:
            error.message.encode()


# --- PostgreSQL's own opinion ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def connection(server18: Cluster) -> Iterator[psycopg.Connection[TupleRow]]:
    with server18.connect() as made:
        made.execute("set client_min_messages = error")
        made.execute("set timezone = 'Asia/Kathmandu'")
        yield made


def asked(connection: psycopg.Connection[TupleRow], text: str) -> tuple[object, ...]:
    """The one row of a statement; sent as it is, without parameters."""
    row = connection.execute(text).fetchone()
    assert row is not None
    return row


NASTY_TEXTS = [
    "'", "''", "\\", "\\'", "'; drop table t; --", "\\'; drop table t; --", "$$", "$t$", "/*", "*/", "--", '"', "\n",
    "\\\\'",
    "%", "😀é", "a\\", "\\x41", "\\u0041", "!", "$x", "{v}", "' 'b", "e'", "\\0041", "",
]  # fmt: skip


@pytest.mark.parametrize("conforming", ["on", "off"])
@pytest.mark.parametrize("value", NASTY_TEXTS)
def test_postgres_reads_back_the_value_from_every_context(
    connection: psycopg.Connection[TupleRow], value: str, conforming: str
) -> None:
    template = (
        "select $x, $x.c, 'a$x', 'it''s $x.c', E'\\t$x', N'<$x>', text $x, 'a'\n  '$x', $$ $x $$, \"?column?\", "
        ""
        "/* $x ' */ $x?"
        ' from (select 1) as q("?column?") -- $x'
    )
    connection.execute(f"set standard_conforming_strings = {conforming}")
    row = asked(connection, render_sql(template, variables={}, names={"x": of(value)}))
    expected = (
        value,
        value,
        f"a{value}",
        f"it's {value}",
        f"\t{value}",
        f"<{value}>",
        value,
        f"a{value}",
        " $x ",
        1,
        value,
    )
    assert tuple(str(item).rstrip(" ") if index == 5 else item for index, item in enumerate(row)) == expected


@pytest.mark.parametrize("value", NASTY_TEXTS)
def test_postgres_reads_back_the_value_from_a_unicode_literal(
    connection: psycopg.Connection[TupleRow], value: str
) -> None:
    connection.execute("set standard_conforming_strings = on")
    assert asked(connection, render_sql("select U&'\\0041$x'", variables={}, names={"x": of(value)})) == (f"A{value}",)


expressions = st.builds(
    lambda around, inside: around[0] + "".join(inside) + around[1],
    st.sampled_from(
        [("'", "'"), ("E'", "'"), ("N'", "'"), ("U&'", "'"), ("$$", "$$"), ("$t$", "$t$"), ("/*", "*/ 1"),
         ("--", "\n1"), ('1 as "', '"'), ("", ""), ("'a' '", "'"), ("'a'\n'", "'"), ("E'a' --\n'", "'"), ("text ", ""),
         ("f$", " as g")]
    ),
    st.lists(
        st.sampled_from(["$x", "$x.c", "$x?", "''", "\\\\", "\\", "a", '"', "--", "/*", "*/", "\n", "$$", "'", " ",
                         "{v}", "1"]),
        min_size=1,
        max_size=4,
    ),
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(template=st.lists(expressions, min_size=1, max_size=3).map(", ".join), values=variables, value=nasty)
def test_postgres_agrees_with_the_second_lexer(
    connection: psycopg.Connection[TupleRow], template: str, values: dict[str, str], value: str
) -> None:
    """Where PostgreSQL accepts a statement with a harmless value, it accepts it with any, and means the same."""
    statements = ["select " + render_or_skip(template, values, given).replace("\0", "") for given in (f"{MARK}", value)]
    connection.execute("set standard_conforming_strings = on")
    harmless, given = (outcome(connection, statement) for statement in statements)
    event("accepted" if isinstance(harmless, tuple) else "refused")
    if isinstance(harmless, tuple):
        assert isinstance(given, tuple), statements
        if MARK not in template + values["v"]:
            assert tuple(str(item).replace(MARK, value) for item in harmless) == tuple(str(item) for item in given)
    else:
        assert not isinstance(given, tuple), statements


def render_or_skip(template: str, values: dict[str, str], value: str) -> str:
    return rendered(template, values, value, value)


def outcome(connection: psycopg.Connection[TupleRow], statement: str) -> tuple[object, ...] | str:
    """The row, or the SQLSTATE; a statement that is several, or none, is an error as it is in a step."""
    try:
        with connection.transaction(force_rollback=True):
            cursor = connection.execute((statement), prepare=True)
            return tuple(cursor.fetchone() or ())
    except psycopg.Error as error:
        return error.sqlstate or "?"


# --- every type -----------------------------------------------------------------------------------------------------

SIMPLE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | SIMPLE,
    lambda inner: st.lists(inner) | st.dictionaries(SIMPLE, inner),
    max_leaves=5,
)
LITERALS: dict[str, st.SearchStrategy[str]] = {
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | st.sampled_from(["1e400", "-0.000", "1.50", "NaN", "Infinity", "-Infinity"]),
    "real": st.floats(width=32).map(repr),
    "double precision": st.floats().map(repr) | st.sampled_from(["NaN", "Infinity", "-Infinity", "-0", "1e-300"]),
    "boolean": st.booleans().map(str),
    "text": SIMPLE,
    "varchar(30)": SIMPLE,
    "char(30)": SIMPLE,
    "date": st.dates().map(str) | st.sampled_from(["infinity", "0044-03-15 BC"]),
    "time": st.times().map(str),
    "timestamp": st.datetimes().map(str) | st.sampled_from(["-infinity", "294276-12-31 23:59:59.999999"]),
    "timestamptz": st.datetimes().map(str),
    "interval": st.timedeltas().map(lambda d: f"{d.days} days {d.seconds} seconds {d.microseconds} microseconds"),
    "bytea": st.binary(max_size=20).map(lambda b: "\\x" + b.hex()),
    "uuid": st.uuids().map(str),
    "inet": st.ip_addresses().map(str),
    "jsonb": st.lists(documents, max_size=3).map(json.dumps)
    | st.dictionaries(SIMPLE, documents, max_size=3).map(json.dumps),
    "int4range": st.tuples(st.integers(-9, 9), st.integers(0, 9)).map(lambda p: f"[{p[0]},{p[0] + p[1]}]"),
    "bit(4)": st.integers(0, 15).map(lambda n: f"{n:04b}"),
}  # fmt: skip


def result_of(connection: psycopg.Connection[TupleRow], type_name: str, literal: str) -> str:
    """The result of a query that returns this value, as a step's completion holds it."""
    query = f"select row_to_json(q)::text from (select %s::{type_name} as c) as q"
    row = connection.execute((query), [literal]).fetchone()
    assert row is not None
    return f'{{"rows":[{row[0]}],"row_count":1}}'


@pytest.mark.parametrize("type_name", LITERALS)
def test_a_value_of_every_type_comes_back_as_it_was(connection: psycopg.Connection[TupleRow], type_name: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(LITERALS[type_name])
    def comes_back(literal: str) -> None:
        names = {"x": result_of(connection, type_name, literal)}
        query = (
            f"select %s::{type_name} is not distinct from {render_sql('$x.c', variables={}, names=names)}::{type_name}"
        )
        query = query.replace("%", "%%").replace("%%s", "%s", 1)
        assert connection.execute((query), [literal]).fetchone() == (True,), names

    comes_back()


@pytest.mark.parametrize(
    ("type_name", "literal"),
    [
        ("integer[]", "{1,NULL,-3}"),
        ("text[]", '{"it\'s",NULL,"a\\\\b"}'),
        ("point", "(1,2)"),
        ("json", '{"a":  1.50, "a": 2}'),
    ],
)
def test_arrays_and_json_come_back_as_json(
    connection: psycopg.Connection[TupleRow], type_name: str, literal: str
) -> None:
    names = {"x": result_of(connection, type_name, literal)}
    cast_back = "json" if type_name in ("json", "integer[]", "text[]") else type_name
    query = f"select to_json(%s::{type_name})::text, {render_sql('$x', variables={}, names=names)}::{cast_back}::text"
    row = connection.execute((query.replace("%", "%%").replace("%%s", "%s", 1)), [literal]).fetchone()
    assert row is not None
    assert json.loads(row[0]) == (json.loads(row[1]) if cast_back == "json" else row[1])


def test_a_null_of_any_type_comes_back_as_null(connection: psycopg.Connection[TupleRow]) -> None:
    for type_name in LITERALS:
        names = {"x": '{"rows":[{"c":null}],"row_count":1}'}
        filled = render_sql("$x.c?", variables={}, names=names)
        assert asked(connection, f"select {filled}::{type_name} is null") == (True,)


# --- $n.* -----------------------------------------------------------------------------------------------------------

cells: dict[str, Callable[[], st.SearchStrategy[object]]] = {
    "text": lambda: st.none() | nasty,
    "numeric": lambda: st.none() | st.integers(-5, 5) | st.sampled_from([1.5, -2.25]),
    "boolean": lambda: st.none() | st.booleans(),
}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kinds=st.lists(st.sampled_from(list(cells)), min_size=1, max_size=4), count=st.integers(0, 4))
def test_rows_come_back_as_they_were(
    connection: psycopg.Connection[TupleRow], data: st.DataObject, kinds: list[str], count: int
) -> None:
    columns = [f'c"{number}' for number in range(len(kinds))]
    rows = [[data.draw(cells[kind]()) for kind in kinds] for _ in range(count)]
    result = json.dumps(
        {"rows": [dict(zip(columns, row, strict=True)) for row in rows], "row_count": count, "columns": columns}
    )
    filled = render_sql("select * from $r.*", variables={}, names={"r": result})
    cursor = connection.execute(filled)
    assert cursor.description is not None
    assert [column.name for column in cursor.description] == columns
    assert [list(row) for row in cursor.fetchall()] == rows
