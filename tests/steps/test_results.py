"""What a SQL step gives: rows as the server prints them, in select-list order, or the number of rows affected."""

from __future__ import annotations

import json

import pytest

from tests.workflows import World


def test_rows_keep_the_order_of_the_select_list_and_double_names(each: World) -> None:
    outcome = each.outcome("select 1 as z, 'x' as a, 2 as z")
    assert outcome.result == '{"rows":[{"z":1,"a":"x","z":2}],"row_count":1}'


def test_numbers_keep_their_digits_and_what_json_has_no_number_for_is_a_string(each: World) -> None:
    outcome = each.outcome(
        "select 1.50::numeric(10,2) as n, 12345678901234567890123::numeric as big, 'NaN'::float8 as f"
    )
    assert outcome.result == '{"rows":[{"n":1.50,"big":12345678901234567890123,"f":"NaN"}],"row_count":1}'


def test_no_type_fails_a_step(each: World) -> None:
    outcome = each.outcome("""
        select '\\x00ff'::bytea as b, 'infinity'::float8 as inf, 'infinity'::timestamptz as t, '{"a":1}'::jsonb as j,
               row(1, 'x') as composite, '{1,2}'::int[] as list, '1 day'::interval as i, '(1,2)'::point as p, null as n
    """)
    row = outcome.rows[0]
    assert row["b"] == "\\x00ff"
    assert row["inf"] == "Infinity"
    assert row["j"] == {"a": 1}
    assert row["list"] == [1, 2]
    assert row["composite"] == {"f1": 1, "f2": "x"}
    assert row["n"] is None


def test_an_empty_result_has_its_columns(each: World) -> None:
    outcome = each.outcome("select 1 as b, 2 as a, 3 as b where false")
    assert outcome.result == '{"rows":[],"row_count":0,"columns":["b", "a", "b"]}'


def test_a_select_without_columns_has_rows_without_columns(each: World) -> None:
    assert each.outcome("select").rows == [{}]
    assert json.loads(each.outcome("select where false").result or "") == {"rows": [], "row_count": 0, "columns": []}


@pytest.mark.parametrize(
    ("statement", "affected"),
    [
        ("insert into {t} select generate_series(1, 3)", 3),
        ("update {t} set i = i", 3),
        ("delete from {t} where i = 1", 1),
        ("do $$ begin perform 1; end $$", 0),
        ("comment on table {t} is 'x'", 0),
    ],
)
def test_a_statement_without_rows_tells_how_many_were_affected(each: World, statement: str, affected: int) -> None:
    table = "affected_rows"
    each.run("create table if not exists public.affected_rows (i int)", role="alice")
    if affected != 3 or statement.startswith("update"):
        each.run("truncate public.affected_rows", role="alice")
        each.run("insert into public.affected_rows values (1), (2), (3)", role="alice")
    outcome = each.outcome(statement.format(t=table))
    assert outcome.result == f'{{"rows":[],"row_count":0,"affected":{affected}}}'


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("values (1, 'a'), (2, 'b')", [{"column1": 1, "column2": "a"}, {"column1": 2, "column2": "b"}]),
        ("table public.two", [{"i": 1}, {"i": 2}]),
        ("show row_security", [{"row_security": "on"}]),
        ("explain (costs off) select 1", [{"QUERY PLAN": "Result"}]),
        ("insert into public.sink values (7) returning i", [{"i": 7}]),
        ("with moved as (insert into public.sink values (8) returning i) select i + 1 as n from moved", [{"n": 9}]),
        ("with one as (select 9 as i) insert into public.sink select i from one returning i", [{"i": 9}]),
        ("update public.sink set i = 10 where i = 10 returning i", []),
        ("call public.answer(null)", [{"a": 42}]),
        ("(select 1 as x) union all (select 2) order by 1", [{"x": 1}, {"x": 2}]),
        ("/* words /* nested */ before */ -- and a line\n select 3 as x", [{"x": 3}]),
        ("select 4 as x;", [{"x": 4}]),
        ("select 5 as x; -- the end", [{"x": 5}]),
    ],
)
def test_whatever_returns_rows_gives_them(each: World, statement: str, rows: list[dict[str, object]]) -> None:
    each.run("create table if not exists public.two as values (1), (2)", role="alice")
    each.run(
        "drop table if exists public.two; create table public.two (i int); insert into public.two values (1), (2)",
        role="alice",
    )
    each.run("create table if not exists public.sink (i int)", role="alice")
    each.run(
        "create or replace procedure public.answer(inout a int) language plpgsql as 'begin a := 42; end'", role="alice"
    )
    assert each.outcome(statement).rows == rows


def test_merge_tells_how_many_rows_it_changed(each: World) -> None:
    each.run("create table public.merged (i int)", role="alice")
    outcome = each.outcome(
        "merge into public.merged m using (values (1), (2)) as v(i) on m.i = v.i when not matched then insert values (v.i)"
    )
    assert outcome.result == '{"rows":[],"row_count":0,"affected":2}'


def test_the_text_that_ran_is_in_the_history_where_substitution_changed_it(one: World) -> None:
    graph = one.build("select df.seq(df.as('select 5 as n', 'x'), 'select $x + 1 as m')")
    id = one.start(graph)
    assert one.end(id).rows == [{"m": 6}]
    queries = one.run("select step, query from df.completions where instance_key = %s order by step", [one.key(id)])
    assert queries == [("2", None), ("3", "select 5 + 1 as m")]


def test_a_step_knows_that_it_is_one_and_of_which_instance(one: World) -> None:
    id = one.start("select current_setting('df.in_workflow') as i, current_setting('df.instance_id') as id")
    assert one.end(id).rows == [{"i": "true", "id": id}]
