"""What cannot be a step is refused, and nothing of it ran."""

from __future__ import annotations

import pytest

from tests.workflows import World


@pytest.fixture
def marks(each: World) -> World:
    """An empty table public.marks of alice's."""
    each.run("create table if not exists public.marks (word text)", role="alice")
    each.run("truncate public.marks", role="alice")
    each.run("create or replace procedure public.nothing() language sql as 'select 1'", role="alice")
    return each


def count(world: World) -> int:
    return int(world.value("select count(*) from public.marks"))


@pytest.mark.parametrize(
    "text",
    [
        "select 1; insert into public.marks values ('second') returning word",
        "insert into public.marks values ('first') returning word; select 1",
        "insert into public.marks values ('first'); insert into public.marks values ('second')",
        "insert into public.marks values ('first'); select 1",
        "create table public.never (i int); drop table public.marks",
        "vacuum; insert into public.marks values ('after vacuum')",
        "call public.nothing(); insert into public.marks values ('after call')",
        "do $$ begin insert into public.marks values ('do'); end $$; select 1",
        "insert into public.marks values ('first'); commit; select 1",
        "select 1;; insert into public.marks values ('second')",
        "create rule r as on insert to public.marks do also (insert into public.marks values ('r')); select 1",
    ],
)
def test_several_statements_are_refused_and_none_of_them_runs(marks: World, text: str) -> None:
    outcome = marks.outcome(text)
    assert (outcome.status, outcome.code) == ("failed", "42601"), outcome
    assert count(marks) == 0
    assert marks.value("select to_regclass('public.never')") is None


def test_a_value_cannot_make_a_second_statement(marks: World) -> None:
    value = "'); insert into public.marks values ('injected'); --"
    graph = marks.run(
        "select df.seq(df.as('select ' || quote_literal(%s) || '::text as v', 'x'), 'insert into public.marks values ($x)')",
        [value],
    )[0][0]
    assert marks.outcome(graph).status == "completed"
    assert marks.run("select word from public.marks") == [(value,)]


def test_a_variable_is_raw_text_and_still_cannot_make_a_second_statement(marks: World) -> None:
    marks.run("select df.setvar('more', '1; insert into public.marks values (''injected'')')", role="alice")
    try:
        for text in ("select {more}", "insert into public.marks select 'x' where 1 = {more}"):
            outcome = marks.outcome(text)
            assert (outcome.status, outcome.code) == ("failed", "42601"), outcome
            assert count(marks) == 0
    finally:
        marks.run("select df.clearvars()", role="alice")


@pytest.mark.parametrize("text", ["-- only words", "/* nothing */", ";"])
def test_a_text_without_a_statement_does_nothing(marks: World, text: str) -> None:
    assert marks.outcome(text).result == '{"rows":[],"row_count":0,"affected":0}'


@pytest.mark.parametrize(
    "text",
    [
        "begin", "commit", "rollback", "savepoint a", "rollback to a", "release a", "prepare transaction 'a'",
        "commit prepared 'a'", "start transaction", "copy public.marks to stdout", "copy public.marks from stdin",
        "set transaction isolation level serializable", "discard all",
    ],
)  # fmt: skip
def test_what_would_end_the_transaction_or_take_the_connection_is_refused(marks: World, text: str) -> None:
    outcome = marks.outcome(text)
    assert (outcome.status, outcome.code) in (("failed", "0A000"), ("failed", "25001")), outcome
    assert marks.run("select 1 from pg_prepared_xacts") == []


@pytest.mark.parametrize(
    "text",
    [
        "do $$ begin insert into public.marks values ('x'); execute 'commit'; end $$",
        "do $$ begin insert into public.marks values ('x'); execute 'prepare transaction ''a'''; end $$",
        "do $$ begin insert into public.marks values ('x'); rollback; execute 'rollback'; end $$",
    ],
)
def test_a_block_cannot_end_its_transaction_by_execute(marks: World, text: str) -> None:
    outcome = marks.outcome(text)
    assert outcome.status == "failed", outcome
    assert count(marks) == 0


def test_a_syntax_error_fails_the_step_with_its_position(marks: World) -> None:
    outcome = marks.outcome("select 1 form nothing here")
    assert outcome.error == {
        "message": 'syntax error at or near "nothing"',
        "code": "42601",
        "position": 15,
        "node": 1,
        "step": "1",
        "attempt": 1,
    }
