"""What PostgreSQL's own parser makes of builders and operators: keywords, plpgsql, spaces, other schemas."""

from __future__ import annotations

import pytest

from tests.servers import Database
from tests.sql.asking import Asking

FOR = """
    do $do$
    declare r record;
    begin
      for r in select df.loop('a') as graph loop
        perform set_config('t.graph', r.graph, true);
      end loop;
    end $do$
"""
KEYWORDS = {"as": "'a', 'n'", "join": "'a', 'b'", "if": "'a', 'b', 'c'", "loop": "'a'", "break": "'1'"}


def test_in_plpgsql_a_loop_in_the_head_of_a_for_needs_quotes(alice: Asking) -> None:
    alice.set("t.graph", "")
    assert "syntax error" in alice.refused(FOR)
    alice.rows(FOR.replace("df.loop", 'df."loop"'))
    assert alice.text("current_setting('t.graph')") == alice.text("df.loop('a')")


@pytest.mark.parametrize("builder", list(KEYWORDS))
def test_a_builder_that_is_a_keyword_works_with_and_without_quotes_in_plpgsql_too(
    everywhere: Asking, builder: str
) -> None:
    plain, quoted = (f"df.{name}({KEYWORDS[builder]})" for name in (builder, f'"{builder}"'))
    assert everywhere.text(plain) == everywhere.text(quoted)
    for call in (plain, quoted):
        everywhere.rows(f"do $do$ declare graph text; begin graph := {call}; perform {call}; end $do$")


def test_a_loop_after_an_arrow_needs_its_space(alice: Asking) -> None:
    assert alice.refused("select 'a' ~>@> 'b'") == "operator does not exist: unknown ~>@> unknown"
    assert alice.text("'a' ~> @> 'b'") == alice.text("df.seq('a', df.loop('b'))")


def test_an_accessor_after_an_arrow_needs_its_parentheses(alice: Asking) -> None:
    assert alice.refused("""select 'a' ~> '{"x":"b"}'::json ->> 'x'""") == "operator does not exist: unknown ~> json"
    assert alice.text("""'a' ~> ('{"x":"b"}'::json ->> 'x')""") == alice.text("'a' ~> 'b'")


@pytest.mark.parametrize("path", ["", "pg_catalog", "pg_temp", "df", "nowhere, pg_catalog"])
def test_every_operator_works_under_any_search_path_when_it_is_qualified(alice: Asking, path: str) -> None:
    wanted = alice.text("'a' ~> 'b' & 'c' | 'd' |=> 'n'"), alice.text("@> ('c' ?> 't' !> 'e')")
    alice.set("search_path", path)
    if path != "":
        assert "operator does not exist" in alice.refused("select 'a' ~> 'b'")
    assert wanted == (
        alice.text(
            "'a' operator(public.~>) 'b' operator(public.&) 'c' operator(public.|) 'd' operator(public.|=>) 'n'"
        ),
        alice.text("operator(public.@>) ('c' operator(public.?>) 't' operator(public.!>) 'e')"),
    )


def test_every_operator_says_what_it_is(database: Database) -> None:
    rows = database.run(
        "select obj_description(oid, 'pg_operator') from pg_operator where oprnamespace = 'public'::regnamespace"
    )
    assert len(rows) == 8
    assert all(comment.startswith("walflow: ") for (comment,) in rows)
