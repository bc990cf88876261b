"""Statements that cannot run in a transaction block are recognised and run on their own, and the history says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.workflows import World

NOTE = "at least once"


@pytest.fixture(scope="module")
def builder(each: World) -> Iterator[str]:
    """A role that may make databases, with a procedure that commits."""
    role = each.database.new_role("builder", "login createdb")
    each.run("create table public.plain (i int)", role=role)
    each.run(
        """
        create procedure public.commits(n int) language plpgsql as $$
        begin
          for i in 1..n loop
            insert into public.plain values (i);
            commit;
          end loop;
        end $$
        """,
        role=role,
    )
    each.run(
        """
        create procedure public.commits_and_answers(inout n int) language plpgsql as $$
        begin
          insert into public.plain values (n);
          commit;
          n := n + 1;
        end $$
        """,
        role=role,
    )
    yield role
    each.connection().execute(f"drop database if exists {each.database.name}_made")


def notes(world: World, id: str) -> list[tuple[str, str | None]]:
    return [
        (o, n)
        for o, n in world.run("select outcome, note from df.completions where instance_key = %s", [world.key(id)])
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "vacuum public.plain",
        "vacuum (analyze) public.plain",
        "create index concurrently plain_i on public.plain (i)",
        "reindex index concurrently public.plain_i",
        "drop index concurrently public.plain_i",
        "call public.commits(3)",
        "do $$ begin insert into public.plain values (9); commit; end $$",
        "create database {database}_made",
        "drop database {database}_made",
    ],
)
def test_it_runs_on_its_own_and_the_history_says_at_least_once(each: World, builder: str, statement: str) -> None:
    id = each.start(statement.format(database=each.database.name), role=builder)
    outcome = each.end(id)
    assert outcome.status == "completed", outcome
    ((ended, note),) = notes(each, id)
    assert ended == "completed"
    assert note is not None
    assert NOTE in note


def test_a_call_that_commits_gives_its_inout_values(each: World, builder: str) -> None:
    outcome = each.outcome("call public.commits_and_answers(41)", role=builder)
    assert outcome.rows == [{"n": 42}]


def test_what_runs_on_its_own_fails_with_the_servers_error(each: World, builder: str) -> None:
    id = each.start("vacuum public.does_not_exist", role=builder)
    outcome = each.end(id)
    assert (outcome.status, outcome.code) == ("failed", "42P01")


def test_what_runs_on_its_own_knows_that_it_is_a_step(each: World, builder: str) -> None:
    each.run("create table public.seen (i text, id text)", role=builder)
    id = each.start(
        "do $$ begin insert into public.seen values (current_setting('df.in_workflow'), current_setting('df.instance_id')); "
        "commit; end $$",
        role=builder,
    )
    assert each.end(id).status == "completed"
    assert each.run("select * from public.seen") == [("true", id)]


def test_a_step_after_one_that_ran_on_its_own_finds_a_fresh_session(each: World, builder: str) -> None:
    graph = each.build(
        """select df.seq('do $$ begin perform set_config(''work_mem'', ''77MB'', false); commit; end $$', 'show work_mem')"""
    )
    assert each.outcome(graph, role=builder).rows != [{"work_mem": "77MB"}]


def test_an_ordinary_step_has_no_note(each: World, builder: str) -> None:
    id = each.start("select 1", role=builder)
    each.end(id)
    assert notes(each, id) == [("completed", None)]
