"""How steps fail: in the server's words, once, and what is transient is repeated by the engine itself."""

from __future__ import annotations

import pytest

from engine.limits import ERROR_MESSAGE_CHARACTERS
from tests.servers import wait_until
from tests.workflows import World


def ended(world: World, ids: str) -> None:
    """Wait until the instances whose ids match have all ended, and see that they completed."""
    wait_until(
        lambda: world.run("select 1 from df.instances where id ~ %s and status in ('pending', 'running')", [ids]) == []
    )
    assert world.run("select distinct status, error::text from df.instances where id ~ %s", [ids]) == [
        ("completed", None)
    ]


def repetitions(world: World, id: str) -> int:
    return int(world.value("select max(repetitions) from df.completions where instance_key = %s", [world.key(id)]))


@pytest.fixture(scope="module", autouse=True)
def hopeless(one: World) -> dict[str, str]:
    """Workflows that fail after ten repetitions with backoff: they are begun first, and looked at last."""
    one.run("create sequence public.transient; create sequence public.suicides", role="alice")
    graphs = {
        "transient": "do $$ begin perform nextval('public.transient'); raise exception 'never' using errcode = '40001'; end $$",
        "suicides": "select nextval('public.suicides'), pg_terminate_backend(pg_backend_pid())",
    }
    return {name: one.start(graph) for name, graph in graphs.items()}


# --- in the server's words ----------------------------------------------------------------------------------------------


def test_an_error_has_message_code_detail_hint_and_where(one: World) -> None:
    outcome = one.outcome(
        "do $$ begin raise exception 'no stock' using errcode = 'P0123', detail = 'of apples', hint = 'buy some'; end $$"
    )
    assert outcome.status == "failed"
    assert outcome.error == {
        "message": "no stock", "code": "P0123", "detail": "of apples", "hint": "buy some",
        "node": 1, "step": "1", "attempt": 1,
    }  # fmt: skip


def test_an_error_names_the_position_in_the_statement(one: World) -> None:
    outcome = one.outcome("select 1 + nothing")
    assert (outcome.code, outcome.error and outcome.error["position"]) == ("42703", 12)


def test_an_error_of_any_length_is_clipped(one: World) -> None:
    outcome = one.outcome("do $$ begin raise exception '%', repeat('x', 30000000); end $$")
    assert outcome.status == "failed"
    assert len(outcome.message) == ERROR_MESSAGE_CHARACTERS


def test_what_a_failed_step_wrote_is_rolled_back(one: World) -> None:
    one.run("create table public.written (i int)", role="alice")
    outcome = one.outcome("with w as (insert into public.written values (1) returning i) select 1 / (i - i) from w")
    assert (outcome.status, outcome.code) == ("failed", "22012")
    assert one.run("select 1 from public.written") == []


def test_a_result_over_the_limit_fails_its_step_and_undoes_it(one: World) -> None:
    one.run("create table public.large (i int)", role="alice")
    outcome = one.outcome(
        "with w as (insert into public.large values (1) returning i) "
        "select repeat('x', 100000000) as x from w union all select repeat('y', 100000000)"
    )
    assert (outcome.status, outcome.code) == ("failed", "54000")
    assert outcome.message == "result of 100000009 bytes exceeds the limit of 1048576"
    assert one.run("select 1 from public.large") == []


def test_a_result_of_many_rows_over_the_limit_fails_its_step(one: World) -> None:
    outcome = one.outcome("select repeat('x', 1000) as x from generate_series(1, 100000)")
    assert (outcome.status, outcome.code) == ("failed", "54000")
    assert "exceeds the limit of 1048576" in outcome.message


def test_a_result_just_within_the_limit_is_kept_whole(one: World) -> None:
    outcome = one.outcome("select repeat('x', 1048000) as x")
    assert len(outcome.rows[0]["x"]) == 1048000


def test_a_constraint_that_is_deferred_fails_the_step_that_broke_it(one: World) -> None:
    one.run("create table public.deferred (i int unique deferrable initially deferred)", role="alice")
    outcome = one.outcome("insert into public.deferred values (1), (1)")
    assert (outcome.status, outcome.code) == ("failed", "23505")
    assert one.run("select 1 from public.deferred") == []


def test_a_constraint_that_fails_only_at_the_commit_fails_its_step(one: World) -> None:
    """The rows and the command's completion have come by then; a trigger puts off again what was brought forward."""
    one.run("create table public.put_off (i int)", role="alice")
    one.run(
        """
        create function public.put_off() returns trigger language plpgsql as $$
        begin
          if new.i = 1 then
            set constraints all deferred;
            insert into public.put_off values (2);
          else
            raise exception 'at the commit';
          end if;
          return null;
        end $$
        """,
        role="alice",
    )
    one.run(
        "create constraint trigger late after insert on public.put_off deferrable initially deferred "
        "for each row execute function public.put_off()",
        role="alice",
    )
    id = one.start("insert into public.put_off values (1) returning i")
    outcome = one.end(id)
    assert (outcome.status, outcome.message) == ("failed", "at the commit")
    assert one.run("select 1 from public.put_off") == []
    assert one.history(id) == [("1", "failed")]


def test_a_step_that_inserts_its_own_completion_fails_its_node(one: World) -> None:
    one.run("create table public.forged (i int)", role="alice")
    graph = """
        with mine as (
          insert into df.completions (instance_key, step, attempt, outcome, result)
          select key, '1', 1, 'completed', '{"rows":[{"forged":true}],"row_count":1}' from df.instances
           where id = current_setting('df.instance_id')
        ) insert into public.forged values (1)
    """
    id = one.start(graph)
    outcome = one.end(id)
    assert (outcome.status, outcome.code) == ("failed", "23505")
    assert one.run("select 1 from public.forged") == []


def test_the_statement_timeout_of_the_role_is_a_failure_and_not_repeated(one: World) -> None:
    role = one.database.new_role("hasty")
    one.run(f"alter role {role} set statement_timeout = '100ms'")
    id = one.start("select pg_sleep(30)", role=role)
    outcome = one.end(id)
    assert (outcome.status, outcome.code) == ("failed", "57014")
    assert repetitions(one, id) == 0


def test_a_cancel_by_somebody_else_is_a_failure(one: World) -> None:
    id = one.start("select pg_advisory_xact_lock(hashtext('cancel me')), pg_sleep(60)")
    (pid,) = wait_until(lambda: one.running("cancel me"))
    one.run("select pg_cancel_backend(%s)", [pid])
    outcome = one.end(id)
    assert (outcome.status, outcome.code) == ("failed", "57014")


def test_a_notice_of_any_length_does_no_harm(one: World) -> None:
    outcome = one.outcome(
        "do $$ begin perform set_config('client_min_messages', 'notice', true); "
        "raise notice '%', repeat('x', 20000000); end $$"
    )
    assert outcome.status == "completed", outcome


# --- transient ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tries(one: World) -> World:
    """A sequence that counts tries: it does not roll back."""
    one.run("create sequence if not exists public.tries", role="alice")
    one.run("alter sequence public.tries restart", role="alice")
    return one


@pytest.mark.parametrize("code", ["40001", "40P01", "53300", "57P01", "57P02", "57P03"])
def test_a_transient_failure_is_repeated_by_the_engine_and_counts_no_attempt(tries: World, code: str) -> None:
    id = tries.start(
        f"do $$ begin if nextval('public.tries') < 4 then raise exception 'later' using errcode = '{code}'; end if; end $$"
    )
    assert tries.end(id).status == "completed"
    assert repetitions(tries, id) == 3
    assert tries.history(id) == [("1", "completed")]


def test_another_failure_is_not_repeated(tries: World) -> None:
    id = tries.start("do $$ begin perform nextval('public.tries'); raise exception 'no'; end $$")
    assert tries.end(id).code == "P0001"
    assert tries.value("select last_value from public.tries") == 1


def test_a_deadlock_of_two_steps_is_resolved_and_both_complete(one: World) -> None:
    one.run("create table public.locked as select i, 0 as n from generate_series(1, 2) i", role="alice")
    one.run(
        """
        create function public.both(first int, second int) returns void language plpgsql as $$
        begin
          update public.locked set n = n + 1 where i = first;
          perform pg_sleep(0.3);
          update public.locked set n = n + 1 where i = second;
        end $$
        """,
        role="alice",
    )
    graph = one.build("select df.join('select public.both(1, 2)', 'select public.both(2, 1)')")
    id = one.start(graph)
    assert one.end(id).status == "completed"
    assert one.run("select n from public.locked") == [(2,), (2,)]
    assert repetitions(one, id) == 1


def test_two_serializable_steps_that_conflict_both_happen_once(one: World) -> None:
    role = one.database.new_role("strict")
    one.run(f"alter role {role} set default_transaction_isolation = 'serializable'")
    one.run("create table public.counted (n int)", role=role)
    step = "insert into public.counted select count(*) + 0 * length(pg_sleep(0.1)::text) from public.counted"
    graph = one.run("select df.join_all(%s, %s, %s, %s)", [step] * 4)[0][0]
    assert one.outcome(graph, role=role).status == "completed"
    assert one.run("select n from public.counted order by n") == [(0,), (1,), (2,), (3,)]


# --- connections ------------------------------------------------------------------------------------------------------------


def test_a_role_with_few_connections_waits_for_them_and_loses_no_step(one: World) -> None:
    role = one.database.new_role("narrow", "login connection limit 2")
    one.run("create table public.narrow (i int)", role=role)
    one.run(
        """insert into df.instances (id, graph)
           select 'narrow' || i, 'insert into public.narrow select ' || i || ' from pg_sleep(0.1)'
             from generate_series(1, 40) i""",
        role=role,
    )
    one.connection(role).close()
    ended(one, "^narrow")
    assert one.value("select count(*) from public.narrow") == 40


def test_steps_wait_for_a_busy_role_whose_connections_are_limited(one: World) -> None:
    """Opening more fails again and again meanwhile."""
    role = one.database.new_role("slow", "login connection limit 2")
    for number in (1, 2):
        one.start("select pg_sleep(2)", role=role, id=f"slow{number}")
    one.connection(role).close()
    wait_until(lambda: len(one.backends(role)) == 2)
    one.run(f"set role {role}")
    one.run("insert into df.instances (id, graph) select 'quick' || i, 'select 1' from generate_series(1, 30) i")
    one.run("reset role")
    ended(one, "^(slow|quick)")


def test_a_refused_connection_while_many_steps_wait_is_tried_again(one: World) -> None:
    role = one.database.new_role("refused", "login connection limit 1")
    one.run(
        "insert into df.instances (id, graph) select 'refused' || i, 'select 1' from generate_series(1, 30) i",
        role=role,
    )
    one.connection(role).close()
    ended(one, "^refused")


# --- what was begun first ---------------------------------------------------------------------------------------------------


def test_a_failure_that_is_always_transient_is_a_failure_after_ten_repetitions(
    one: World, hopeless: dict[str, str]
) -> None:
    outcome = one.end(hopeless["transient"], timeout=40)
    assert (outcome.status, outcome.code, outcome.message) == ("failed", "40001", "never")
    assert one.value("select last_value from public.transient") == 11


def test_a_step_that_ends_its_own_backend_fails_after_ten_repetitions(one: World, hopeless: dict[str, str]) -> None:
    outcome = one.end(hopeless["suicides"], timeout=40)
    assert (outcome.status, outcome.code) == ("failed", "57P01")
    assert one.value("select last_value from public.suicides") == 11
