"""Operators: what they build, and the precedence that PostgreSQL gives them."""

from __future__ import annotations

import pytest

from tests.servers import Database
from tests.sql.asking import Asking

SAME = [
    ("'a' ~> 'b'", "df.seq('a', 'b')"),
    ("'a' ~> 'b' ~> 'c'", "df.seq_all('a', 'b', 'c')"),
    ("'a' |=> 'n'", "df.as('a', 'n')"),
    ("'a' & 'b'", "df.join('a', 'b')"),
    ("'a' | 'b'", "df.race('a', 'b')"),
    ("'c' ?> 'a' !> 'b'", "df.if('c', 'a', 'b')"),
    ("@> 'a'", "df.loop('a')"),
    ("'a' <~ 'u'", "df.with_undo('a', 'u')"),
    # one precedence, left to right
    ("'a' & 'b' & 'c'", "df.join(df.join('a', 'b'), 'c')"),
    ("'a' & 'b' | 'c'", "df.race(df.join('a', 'b'), 'c')"),
    ("'a' | 'b' & 'c'", "df.join(df.race('a', 'b'), 'c')"),
    ("'a' ~> 'b' |=> 'n'", "df.as(df.seq('a', 'b'), 'n')"),
    ("'a' ~> ('b' |=> 'n')", "df.seq('a', df.as('b', 'n'))"),
    ("'x' ~> 'c' ?> 't' !> 'e'", "df.if(df.seq('x', 'c'), 't', 'e')"),
    ("'x' ~> ('c' ?> 't' !> 'e')", "df.seq('x', df.if('c', 't', 'e'))"),
    ("'c' ?> 't' !> 'e' ~> 'x'", "df.seq(df.if('c', 't', 'e'), 'x')"),
    ("'c' ?> ('t' ~> 't2') !> ('e' ~> 'e2')", "df.if('c', df.seq('t', 't2'), df.seq('e', 'e2'))"),
    ("@> 'a' ~> 'b'", "df.seq(df.loop('a'), 'b')"),
    ("@> ('a' ~> 'b')", "df.loop(df.seq('a', 'b'))"),
    ("'a' ~> @> 'b'", "df.seq('a', df.loop('b'))"),
    ("'a' <~ 'u' ~> 'b' <~ 'v'", "df.with_undo(df.seq(df.with_undo('a', 'u'), 'b'), 'v')"),
    ("('a' <~ 'u') ~> ('b' <~ 'v')", "df.seq(df.with_undo('a', 'u'), df.with_undo('b', 'v'))"),
    ("'a' ~> ('SELECT ' || 'x')", "df.seq('a', 'SELECT x')"),
    # ?> and !> may be told apart in any nesting
    ("'c' ?> ('c2' ?> 't2' !> 'e2') !> 'e'", "df.if('c', df.if('c2', 't2', 'e2'), 'e')"),
    ("'c' ?> 't' !> ('c2' ?> 't2' !> 'e2')", "df.if('c', 't', df.if('c2', 't2', 'e2'))"),
    ("('c' ?> 't' !> 'e') ?> 't' !> 'e'", "df.if(df.if('c', 't', 'e'), 't', 'e')"),
    ("'c' ?> 'é😀' !> 'e'", "df.if('c', 'é😀', 'e')"),
    ("'c' ?> '\",\"condition_node\":' !> 'e'", "df.if('c', '\",\"condition_node\":', 'e')"),
    ("'c,\"then_length\":5}' ?> 't' !> 'e'", "df.if('c,\"then_length\":5}', 't', 'e')"),
    ("'c' ?> 't' |=> 'n' !> 'e'", "df.as(df.if('c', 't', 'e'), 'n')"),
    ("'c' ?> 't' |=> 'n' |=> 'm' !> 'e' |=> 'o'", "df.as(df.if('c', 't', 'e'), 'o')"),
]


@pytest.mark.parametrize(("operators", "functions"), SAME)
def test_operators_build_what_functions_build(everywhere: Asking, operators: str, functions: str) -> None:
    assert everywhere.text(operators) == everywhere.text(functions)


def test_concatenation_binds_like_a_sequence(alice: Asking) -> None:
    """LANGUAGE.md §1: hence the hint of the INSERT."""
    broken = alice.text("'a' ~> 'select ' || 'x'")
    assert broken.endswith("}x")
    assert alice.refused("select df.start(%s)", broken) == (
        "Invalid durable function graph: root: not valid JSON near 'x' "
        "(|| binds like ~>: put parentheses around concatenations)"
    )


@pytest.mark.parametrize(
    "left", ["'a'", "df.seq('a', 'b')", "df.if('c', 't', 'e')", "df.loop('a')", "'c' ?> 't' !> 'e'", "'{\"'", "''"]
)
def test_else_without_if_is_refused(alice: Asking, left: str) -> None:
    message = "Invalid if-then-else: left side of !> must be a ?> expression"
    if left == "'{\"'":
        alice.refused(f"select {left} !> 'e'")  # no JSON at all: said by the parser
    else:
        assert alice.refused(f"select ({left}) !> 'e'") == message


def test_else_completes_an_if_that_somebody_wrote(alice: Asking) -> None:
    half = ' { "left_node":%s, "node_type" : "IF", "condition_node":%s } '
    node = '{"node_type":"SQL","query":"x"}'
    alice.rows("select df.validate_graph(%s !> 'e')", half % (node, node))


def test_if_without_else_is_no_graph(alice: Asking) -> None:
    said = alice.refused("select df.validate_graph('c' ?> 't')")
    assert said == "Invalid durable function graph: root: IF needs a right_node"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("null ~> 'b'", "df.seq: argument a is NULL"),
        ("'a' ~> null", "df.seq: argument b is NULL"),
        ("null::text & 'b'", "df.join: argument a is NULL"),
        ("'a' | null::text", "df.race: argument b is NULL"),
        ("null::text ?> 't'", "df.if: argument condition is NULL"),
        ("'c' ?> null::text", "df.if: argument then_branch is NULL"),
        ("'c' ?> 't' !> null::text", "df.if: argument else_branch is NULL"),
        ("@> null::text", "df.loop: argument body is NULL"),
        ("null::text |=> 'n'", "df.as: argument fut is NULL"),
    ],
)
def test_null_names_the_builder_behind_the_operator(alice: Asking, expression: str, message: str) -> None:
    assert alice.refused(f"select {expression}") == message


def test_operators_work_on_text_columns_and_untyped_parameters(alice: Asking) -> None:
    same = "df.seq('a', 'b')"
    assert alice.rows("select x ~> y from (values ('a', 'b'::varchar)) as t(x, y)")[0][0] == alice.text(same)
    assert alice.one("select %s ~> %s", "a", "b") == alice.text(same)


def test_operators_are_reached_by_name_whatever_the_search_path(alice: Asking) -> None:
    alice.set("search_path", "")
    assert alice.text("'a' operator(public.~>) 'b'") == alice.text("df.seq('a', 'b')")
    assert "operator does not exist" in alice.refused("select 'a'::text ~> 'b'::text")


def test_operators_leave_the_operators_of_postgresql_alone(alice: Asking) -> None:
    assert alice.rows("select 5 & 3, 5 | 3, b'101' & b'011', '{1,2}'::int[] @> '{1}', 'abc'::text || 'd'") == [
        (1, 7, "001", True, "abcd")
    ]


def test_builders_and_operators_are_reached_by_everyone_with_df_and_nobody_else(database: Database) -> None:
    stranger = database.new_role("stranger", granted=False)
    with database.connect(stranger, autocommit=False) as connection:
        assert "permission denied" in Asking(connection).refused("select 'a' ~> 'b'")
