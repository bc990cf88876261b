"""Whatever value a step returned, a later statement that refers to it gets the same value, as PostgreSQL itself says.

A result is made as a step makes it, by `row_to_json` on a session with the options of step connections. The values are texts
that the server took for one of the type: written for it, or found by fuzzing its input function.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from engine.executors.login import OPTIONS
from engine.substitution import render_sql
from tests.servers import Cluster

Connection = psycopg.Connection[TupleRow]

VALUES: Final = 8
"""Of one type in one statement: most of the time goes into round trips."""


@pytest.fixture(scope="module", params=["plain", "strange"])
def connection(server18: Cluster, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A session of a step; the strange one is that of a role with settings of its own for how values are written."""
    with server18.connect(options=OPTIONS, client_encoding="UTF8") as made:
        made.execute("create type pg_temp.mood as enum ('', 'it''s \"so\" \\', 'null', 'true', '0', '$x', 'ü')")
        made.execute("create domain pg_temp.word as text check (value <> 'never')")
        if request.param == "strange":
            made.execute("set datestyle = 'German, DMY'")
            made.execute("set intervalstyle = 'iso_8601'")
            made.execute("set timezone = 'Asia/Kathmandu'")
            made.execute("set xmloption = 'content'")
        yield made


# --- values -----------------------------------------------------------------------------------------------------------

SOME_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NASTY = st.lists(
    st.sampled_from(
        ["'", "''", "\\", '"', "$x", "$$", "--", "/*", "{v}", "\n", "\t", " ", "%", "e'", "😀", "ü", "0", "null"]
    ),
    max_size=5,
).map("".join)
TEXTS = SOME_TEXT | NASTY
INTEGERS = st.integers(-(2**80), 2**80) | st.integers(-40_000, 40_000)
BITS = st.text("01", max_size=70)
WORDS = st.text("abcXYZ_ .'\\\"", max_size=8)
NUMBERS = (
    INTEGERS.map(str)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | st.floats().map(repr)
    | st.sampled_from(["1e400", "-0", "-0.000", "1.50", "NaN", "inf", "-inf", "1e-300", "4.9e-324", "3.4028235e38"])
)  # fmt: skip
TIMES = (
    st.datetimes().map(str)
    | st.dates().map(str)
    | st.tuples(st.datetimes(), st.sampled_from(["+05:45", "-12", "Europe/Berlin", "+15:59:59"])).map("{0[0]} {0[1]}".format)
    | st.sampled_from([
        "infinity", "-infinity", "epoch", "4713-01-01 BC", "0044-03-15 12:00 BC", "294276-12-31 23:59:59.999999", "24:00",
        "24:00:00-15:59", "23:59:60", "00:00:00.000001+13", "2020-06-01 02:30 Europe/Berlin", "5874897-12-31",
    ])
    | st.times().map(str)
)  # fmt: skip
INTERVALS = st.tuples(*[st.integers(-(10**6), 10**6)] * 4).map(
    "{0[0]} mons {0[1]} days {0[2]} secs {0[3]} us".format
) | st.sampled_from(
    ["infinity", "-infinity", "-1 mon +1 day -00:00:01", "178000000 years", "0", "1 day -24:00:00", "P1Y2M3DT4H5M6.7S"]
)
ADDRESSES = (
    st.ip_addresses().map(str)
    | st.ip_addresses(v=4).flatmap(lambda ip: st.integers(0, 32).map(lambda bits: f"{ip}/{bits}"))
    | st.binary(min_size=6, max_size=8).map(lambda octets: octets.hex(":"))
)
POINTS = st.lists(st.floats(allow_nan=False) | st.integers(-9, 9), min_size=2, max_size=8).map(
    lambda numbers: ",".join(map(repr, numbers[: len(numbers) // 2 * 2]))
)
SHAPES = POINTS | st.lists(NUMBERS, min_size=3, max_size=3).map(",".join).flatmap(
    lambda n: st.sampled_from([f"<({n})>", f"{{{n}}}", n])
)
BOUNDS = st.builds(
    "{}{},{}{}".format,
    st.sampled_from("[("),
    st.sampled_from(["", "-5", "2020-02-29", "0.1", "-infinity"]),
    st.sampled_from(["", "7", "2021-01-01 12:00", "1e300"]),
    st.sampled_from(")]"),
) | st.just("empty")
RANGES = BOUNDS | st.lists(BOUNDS, max_size=3).map(lambda bounds: "{" + ",".join(bounds) + "}")
SEARCHES = st.lists(
    st.sampled_from(["a", "'b''c'", "'\\\\'", "cat:1A,2", "&", "|", "!", "<->", "(", ")", ":*", "ü"]), max_size=6
).map(" ".join)
PATHS = st.sampled_from(
    ["$", "$.a", "strict $.*", '$.a[*] ? (@ like_regex "^\\\\d")', 'lax $."it\'s"', "$[0 to last]", "$.a + 1"]
)
UUIDS = st.uuids().map(str)
BYTES = st.binary(max_size=20).map(lambda octets: "\\x" + octets.hex())
BOOLEANS = st.sampled_from(["t", "f", "true", "off", "yes", "0"])
MONEY = st.integers(-(10**15), 10**15).map(lambda cents: f"{cents / 100:.2f}")

WRITTEN_FOR: Final[dict[str, st.SearchStrategy[str]]] = {
    "B": BOOLEANS, "D": TIMES, "E": st.sampled_from(["", "it's \"so\" \\", "null", "true", "0", "$x", "ü"]), "G": SHAPES,
    "I": ADDRESSES, "N": NUMBERS | MONEY, "R": RANGES, "S": TEXTS, "T": INTERVALS, "V": BITS, "Z": TEXTS | BYTES,
    "U": TEXTS | BYTES | UUIDS | ADDRESSES | SEARCHES | PATHS | INTEGERS.map(str),
}  # fmt: skip
"""By the type's category (pg_type.typcategory)."""

NAMED: Final[dict[str, list[str]]] = {
    "aclitem": ["alice=r/postgres", "=w*/engine", "bob=arwdDxtm/alice"],
    "pg_lsn": ["0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"],
    "pg_snapshot": ["10:20:10,14,15", "1:1:"],
    "regclass": ["pg_class", "information_schema.tables", "pg_proc_oid_index"],
    "regcollation": ['"C"', '"POSIX"', "pg_catalog.default"],
    "regconfig": ["english", "simple"],
    "regdictionary": ["simple", "english_stem"],
    "regnamespace": ["public", "pg_catalog", "information_schema"],
    "regoper": ["||/", "!~~*", "@@@"],
    "regoperator": ["+(integer,integer)", "||/(none,double precision)", "-(integer,integer)"],
    "regproc": ["now", "int4in", "12345"],
    "regprocedure": ["now()", "abs(integer)", "substring(text,integer,integer)"],
    "regrole": ["postgres", "alice", "12345"],
    "regtype": ["text", "integer[]", "character varying", "timestamp with time zone"],
    "tid": ["(0,1)", "(4294967295,65535)"],
    "txid_snapshot": ["10:20:10,14,15", "1:1:"],
}
"""Of types that have few values at all, or that fuzzing hardly ever hits."""

NO_INPUT: Final = (
    "gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies", "pg_mcv_list", "pg_ndistinct",
    "pg_node_tree", "xml",
)  # fmt: skip
"""Of these there is no value that a statement could make (xml: in a server without libxml)."""

SCALARS: Final = """
select format_type(t.oid, null), t.typcategory::text
  from pg_type t
 where t.typcategory <> 'A' and t.typname <> all (%s)
   and (t.typnamespace = 'pg_catalog'::regnamespace and t.typtype in ('b', 'r', 'm') and t.typname not in ('json', 'jsonb')
        or t.typnamespace = pg_my_temp_schema() and t.typtype in ('e', 'd'))
"""
WITH_MODIFIERS: Final = {
    "character(7)": "S", "character varying(7)": "S", "bit(5)": "V", "bit varying(9)": "V", "numeric(9,3)": "N", "time(2)": "D",
    "interval day to second(1)": "T",
}  # fmt: skip


def accepted(connection: Connection, type_name: str, literals: list[str]) -> list[str]:
    """Those that are values of the type whose own text the server reads back: an ambiguous regproc has none such."""
    return [literal for literal in literals if reads_back(connection, type_name, literal)]


def reads_back(connection: Connection, type_name: str, literal: str) -> bool:
    value = f"%s::{type_name}"
    try:
        return bool(run(connection, f"select {same(value, f'{value}::text::{type_name}')}", [literal] * 4)[0])
    except psycopg.Error:
        return False


def result_of(connection: Connection, query: str, parameters: list[Any]) -> str:
    """The result of a query, as a step's completion holds it."""
    rows = [
        row for (row,) in connection.execute(f"select row_to_json(q)::text from ({query}) as q".encode(), parameters)
    ]
    return f'{{"rows":[{",".join(rows)}],"row_count":{len(rows)}}}'


def run(connection: Connection, query: str, parameters: list[Any]) -> list[Any]:
    """The one row of a statement with these parameters, each with its type behind it; percent signs elsewhere are its own."""
    escaped = re.sub(r"%(?!s::)", "%%", query)
    row = connection.execute(escaped.encode(), parameters).fetchone()
    assert row is not None
    return list(row)


def same(one: str, other: str) -> str:
    """An expression: both are the same value. In binary where a type has no equality, or one that is no identity."""
    one, other = f"row({one})::record", f"row({other})::record"  # a bare row would be compared column by column
    return f"({one} *= {other} or {one} = {other})"


def types(connection: Connection) -> dict[str, st.SearchStrategy[str]]:
    """Every scalar type of the server, and some with modifiers, with what is written for it."""
    found: dict[str, str] = dict(connection.execute(SCALARS, [list(NO_INPUT)]).fetchall())
    assert len(found) > 60
    named = {name: st.sampled_from(values) for name, values in NAMED.items()}
    categories = sorted({**found, **WITH_MODIFIERS}.items())
    return {name: named.get(name, WRITTEN_FOR[category]) for name, category in categories}


# --- scalars ----------------------------------------------------------------------------------------------------------


def test_a_later_statement_gets_the_same_value_of_every_scalar_type(connection: Connection) -> None:
    """In an expression, inside a literal, and as a column of all rows."""
    tried = {name: comes_back(connection, name, written) for name, written in types(connection).items()}
    assert [name for name, number in tried.items() if not number] == []


def comes_back(connection: Connection, type_name: str, written: st.SearchStrategy[str]) -> int:
    """How many values of the type came back."""
    number = 0

    @settings(max_examples=8, deadline=None, database=None)
    @given(st.lists(written, min_size=VALUES, max_size=2 * VALUES))
    def each(literals: list[str]) -> None:
        nonlocal number
        values = accepted(connection, type_name, literals)
        number += len(values)
        if values:
            columns = [f"c{i}" for i in range(len(values))]
            made = ", ".join(f"%s::{type_name} as {column}" for column in columns)
            names = {"x": result_of(connection, f"select {made}", values)}
            checks = [
                same(f"%s::{type_name}", f"{there}::{type_name}")
                for column in columns
                for there in (f"$x.{column}", f"'$x.{column}'", f"(select {column} from $x.*)")
            ]
            rendered = render_sql(f"select {', '.join(checks)}", variables={}, names=names)
            parameters = [value for value in values for _ in range(6)]
            assert all(run(connection, rendered, parameters)), (type_name, values, names)

    each()
    return number


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.sampled_from(["$x", "$x.c", "$x?", "$x.c?", "'$x'", "e'$x'", "(select c from $x.*)"]))
def test_any_text_comes_back_from_every_form(connection: Connection, value: str, form: str) -> None:
    names = {"x": result_of(connection, "select %s::text as c", [value])}
    assert run(connection, f"select {render_sql(form, variables={}, names=names)}::text", []) == [value]


# --- what comes back as JSON ------------------------------------------------------------------------------------------

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
CONTAINERS = st.lists(DOCUMENTS, max_size=3) | st.dictionaries(TEXTS, DOCUMENTS, max_size=3)


@settings(max_examples=200, deadline=None)
@given(CONTAINERS, st.sampled_from(["json", "jsonb"]), st.sampled_from([None, 1, "\t"]))
def test_json_comes_back_as_its_own_text(connection: Connection, value: object, type_name: str, indent: Any) -> None:
    literal = json.dumps(value, indent=indent, ensure_ascii=indent is None)
    names = {"x": result_of(connection, f"select %s::{type_name} as c", [literal])}
    own = f"%s::{type_name}::text"
    check = f"select {own} = $x::text, {own} = '$x', {own} = $x::{type_name}::text"
    assert all(run(connection, render_sql(check, variables={}, names=names), [literal] * 3))


def test_arrays_and_composites_of_every_type_come_back_as_to_json_has_them(connection: Connection) -> None:
    for type_name, written in types(connection).items():
        come_back_as_json(connection, type_name, written)


def come_back_as_json(connection: Connection, type_name: str, written: st.SearchStrategy[str]) -> None:
    @settings(max_examples=4, deadline=None, database=None)
    @given(st.lists(written, min_size=VALUES, max_size=2 * VALUES))
    def each(literals: list[str]) -> None:
        values = [*accepted(connection, type_name, literals), None]
        listed = ", ".join([f"%s::{type_name}"] * len(values))
        forms = [f"array[{listed}]", f"array[array[{listed}]]", f"row({listed})", f"array[row({listed})]"]
        columns = ", ".join(f"{form} as c{i}" for i, form in enumerate(forms))
        names = {"x": result_of(connection, f"select {columns}", values * len(forms))}
        checks = ", ".join(f"to_json({form})::text = $x.c{i}::json::text" for i, form in enumerate(forms))
        found = run(connection, render_sql(f"select {checks}", variables={}, names=names), values * len(forms))
        assert all(found), (type_name, values, names)

    each()
