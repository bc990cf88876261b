"""LANGUAGE.md, section 9: what a SQL step runs in, and what of it is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.user import User
from tests.servers import wait_until
from tests.workflows import World


def test_a_step_is_one_statement(alice: User) -> None:
    """One statement."""
    assert alice.error("'select 1; select 2'")["code"] == "42601"
    assert alice.rows("'select 1 as n;'") == [{"n": 1}]


def test_a_step_runs_as_the_submitting_role(alice: User, bob: User) -> None:
    """Run as the submitting role."""
    for user in (alice, bob):
        assert user.rows("'select current_user as c, session_user as s'") == [{"c": user.name, "s": user.name}]


def test_a_step_runs_in_the_instances_database(alice: User) -> None:
    """In the instance's database."""
    assert alice.rows("'select current_database() as d'") == [{"d": alice.value("select current_database()")}]


def test_a_step_is_one_transaction_with_its_completion(alice: User) -> None:
    """In one transaction with its completion."""
    alice.run("create table public.doubles (n int unique deferrable initially deferred)")
    assert alice.error("'insert into public.doubles values (1), (1)' ~> 'select 1'")["code"] == "23505"
    assert alice.run("select 1 from public.doubles") == []


def test_a_step_knows_that_it_is_in_a_workflow_and_in_which_instance(alice: User) -> None:
    """`df.in_workflow` is set to `true` and `df.instance_id` to the instance."""
    id = alice.start("'select current_setting(''df.in_workflow'') as w, current_setting(''df.instance_id'') as i'")
    assert alice.end(id).result["rows"] == [{"w": "true", "i": id}]


def test_application_name_is_walflow(alice: User) -> None:
    """`application_name` is `walflow`: everyone can read it."""
    query = "select application_name as n from pg_stat_activity where pid = pg_backend_pid()"
    assert alice.rows(f"'{query}'") == [{"n": "walflow"}]


LEFT_BEHIND = {
    "settings": (
        "select set_config('work_mem', '77MB', false), set_config('my.own', 'x', false)",
        "select current_setting('work_mem') = '77MB' or coalesce(current_setting('my.own', true), '') = 'x'",
    ),
    "current role": ("select set_config('role', 'pg_monitor', false)", "select current_user <> session_user"),
    "temporary tables": ("create temp table left_behind ()", "select to_regclass('left_behind') is not null"),
    "prepared statements": (
        "prepare left_behind as select 1",
        "select exists (select from pg_prepared_statements where name = 'left_behind')",
    ),
    "cursors": (
        "declare left_behind cursor with hold for select 1",
        "select exists (select from pg_cursors where name = 'left_behind')",
    ),
    "advisory locks": (
        "select pg_advisory_lock(4711)",
        "select exists (select from pg_locks where pid = pg_backend_pid() and locktype = 'advisory')",
    ),
    "listens": ("listen left_behind", "select exists (select from pg_listening_channels())"),
}


@pytest.mark.parametrize("left", LEFT_BEHIND)
def test_what_an_earlier_step_left_is_gone(new_user: Callable[[str], User], admin: User, left: str) -> None:
    """A step finds the session as a fresh login of that role would: settings, current role, temporary tables, prepared
    statements, cursors, advisory locks and listens of an earlier step are gone.
    """
    user = new_user(f"left_{left.replace(' ', '_')}")
    admin.run(f"grant pg_monitor to {user.name}")
    makes, finds = LEFT_BEHIND[left]
    steps = f"$s${makes}$s$, $s${finds}$s$, $s${finds}$s$"
    assert [next(iter(row.values())) for row in user.rows(f"df.seq_all({steps})")] == [False]
    assert [next(iter(row.values())) for row in user.rows(f"$s${finds}$s$")] == [False]


def test_a_step_finds_the_settings_of_its_role(new_user: Callable[[str], User], admin: User) -> None:
    """A step finds the session as a fresh login of that role would."""
    user = new_user("set")
    admin.run(f"alter role {user.name} set work_mem = '5MB'")
    assert user.rows("'show work_mem'") == [{"work_mem": "5MB"}]


def test_a_timeout_sets_no_statement_timeout(alice: User) -> None:
    """A `timeout` is decided by its timer's row alone and sets no statement_timeout."""
    assert alice.rows("df.timeout('show statement_timeout', interval '1 h')") == [{"statement_timeout": "0"}]


def test_the_roles_own_statement_timeout_counts_as_the_role_says(new_user: Callable[[str], User], admin: User) -> None:
    """The role's own counts as the role says."""
    user = new_user("hurried")
    admin.run(f"alter role {user.name} set statement_timeout = '100ms'")
    assert user.error("'select pg_sleep(60)'")["code"] == "57014"
    assert user.outcome("'show statement_timeout'").status == "completed"


@pytest.fixture(scope="module")
def plain(alice: User) -> str:
    """A table, and a procedure that commits after each row that it inserts."""
    alice.run("create table public.plain (n int)")
    alice.run(
        "create procedure public.commits() language plpgsql as $$"
        " begin for n in 1..3 loop insert into public.plain values (n); commit; end loop; end $$"
    )
    return "public.plain"


@pytest.mark.parametrize(
    "graph",
    [
        "'vacuum public.plain'",
        "'create index concurrently plain_n on public.plain (n)' ~> 'drop index concurrently public.plain_n'",
        "'call public.commits()'",
    ],
)
def test_statements_that_cannot_run_in_a_transaction_block_run_on_their_own(
    alice: User, plain: str, graph: str
) -> None:
    """Statements that cannot run in a transaction block (VACUUM, CREATE INDEX CONCURRENTLY, CREATE DATABASE, a CALL that
    commits…) are recognised and run on their own.
    """
    assert alice.outcome(graph).status == "completed"


def test_databases_can_be_created(new_user: Callable[[str], User], admin: User) -> None:
    """Statements that cannot run in a transaction block (CREATE DATABASE) are recognised and run on their own."""
    user = new_user("founder")
    admin.run(f"alter role {user.name} createdb")
    graph = f"'create database {user.name}' ~> 'drop database {user.name}'"
    assert user.outcome(graph).status == "completed"


def test_steps_happen_exactly_once(alice: User, world: World) -> None:
    """SQL steps in the engine's own database that can run in a transaction happen exactly once."""
    alice.run("create table public.effects (n int)")
    step = "insert into public.effects select 1 from pg_sleep(0.3)"
    ids = [alice.start(f"'{step}' ~> '{step}'") for _ in range(5)]
    wait_until(
        lambda: alice.run("select 1 from pg_stat_activity where usename = current_user and wait_event = 'PgSleep'")
    )
    world.engine.kill()
    world.engine.start()
    assert {alice.end(id).status for id in ids} == {"completed"}
    assert alice.value("select count(*) from public.effects") == 10
