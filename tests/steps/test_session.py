"""A step finds the session as a fresh login of its role would, whatever the step before it did."""

from __future__ import annotations

import pytest

from tests.workflows import World

SNAPSHOT = """
select current_user::text as who, session_user::text as login,
       (select count(*) from pg_class where relnamespace = pg_my_temp_schema())::int as temp,
       (select count(*) from pg_prepared_statements where from_sql)::int as prepared,
       (select count(*) from pg_cursors where name like 'left%')::int as cursors,
       (select count(*) from pg_listening_channels())::int as listens,
       (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory')::int as locks,
       current_setting('work_mem') as work_mem, current_setting('search_path') as path,
       current_setting('transaction_read_only') as readonly, coalesce(current_setting('my.own', true), '') as own,
       current_setting('default_transaction_isolation') as isolation, current_setting('role') as role,
       current_setting('transaction_isolation') as level
"""
DIRT = {
    "settings": "select set_config('work_mem', '77MB', false), set_config('search_path', 'nowhere', false), "
    "set_config('my.own', 'x', false)",
    "read_only": "select set_config('default_transaction_read_only', 'on', false)",
    "isolation": "set session characteristics as transaction isolation level serializable",
    "role": "select set_config('role', '{group}', false)",
    "temp_table": "create temp table left_behind (i int)",
    "temp_shadow": "create temp table completions (run_as oid)",
    "prepared": "prepare left_behind as select 1",
    "prepared_wrapper": "do $$ begin execute 'deallocate walflow_step'; "
    "execute 'prepare walflow_step(int,int,int,int,int,int,int,int,int,int,int,int) as select ''ok''::text'; end $$",
    "deallocated": "deallocate all",
    "deallocated_wrapper": "deallocate walflow_step",
    "cursor": "declare left_open cursor with hold for select 1",
    "listen": "listen somewhere",
    "lock": "select pg_advisory_lock(4711)",
    "shared_lock": "select pg_advisory_lock_shared(4712), pg_advisory_lock_shared(4712)",
    "timeout": "select set_config('statement_timeout', '1', false)",
}


@pytest.fixture(scope="module")
def lone(each: World) -> str:
    """A role with a group of its own and settings; one connection at a time serves it, as its connection limit says."""
    group = each.database.new_role("group", "nologin", granted=False)
    role = each.database.new_role("lone", "login connection limit 2")
    each.run(f"grant {group} to {role}")
    each.run(f"alter role {role} set search_path = pg_catalog, public")
    each.run(f"alter role {role} set work_mem = '5MB'")
    return role


@pytest.mark.parametrize("dirt", DIRT)
def test_nothing_of_a_step_is_left_for_the_next(each: World, lone: str, dirt: str) -> None:
    fresh = each.outcome(SNAPSHOT, role=lone).rows
    assert fresh[0]["path"] == "pg_catalog, public"
    assert fresh[0]["work_mem"] == "5MB"
    statement = DIRT[dirt].format(group=f"{each.database.name}_group")
    first = each.outcome(statement, role=lone)
    assert first.status == "completed", first
    for _ in range(2):
        assert each.outcome(SNAPSHOT, role=lone).rows == fresh


@pytest.mark.parametrize("dirt", DIRT)
def test_nothing_of_a_failed_step_is_left_for_the_next(each: World, lone: str, dirt: str) -> None:
    fresh = each.outcome(SNAPSHOT, role=lone).rows
    statement = DIRT[dirt].format(group=f"{each.database.name}_group").replace("'", "''")
    first = each.outcome(f"do $body$ begin execute '{statement}'; perform 1/0; end $body$", role=lone)
    assert (first.status, first.code) == ("failed", "22012"), first
    for _ in range(2):
        assert each.outcome(SNAPSHOT, role=lone).rows == fresh


def test_a_step_after_a_deallocated_wrapper_really_runs(each: World, lone: str) -> None:
    each.run("create table if not exists public.ran (i int)", role=lone)
    for number in range(3):
        assert each.outcome(DIRT["prepared_wrapper"], role=lone).status == "completed"
        assert each.outcome(f"insert into public.ran values ({number})", role=lone).status == "completed"
    assert each.run("select i from public.ran order by i") == [(0,), (1,), (2,)]


def test_unqualified_names_are_looked_up_by_the_roles_own_search_path(each: World) -> None:
    role = each.database.new_role("pathed")
    each.run(f"create schema own authorization {role}")
    each.run("create table own.thing as select 'own' as whose", role=role)
    each.run(f"alter role {role} in database {each.database.name} set search_path = own")
    assert each.outcome("select whose from thing", role=role).rows == [{"whose": "own"}]


def test_startup_options_beat_a_roles_own_settings_where_the_engine_needs_them(each: World) -> None:
    role = each.database.new_role("strange")
    for setting in ("default_transaction_read_only = on", "standard_conforming_strings = off", "bytea_output = escape",
                    "row_security = off", "extra_float_digits = -10"):  # fmt: skip
        each.run(f"alter role {role} set {setting}")
    each.run("set row_security = on; set default_transaction_read_only = off", role=role)
    outcome = each.outcome(
        "select current_setting('transaction_read_only') as ro, '\\x01'::bytea as b, 0.1::float8 + 0.2 as f, 'a\\b' as s",
        role=role,
    )
    assert outcome.rows == [{"ro": "off", "b": "\\x01", "f": 0.30000000000000004, "s": "a\\b"}]


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_a_role_with_another_isolation_level_runs_its_steps_under_it(each: World, level: str) -> None:
    role = each.database.new_role(level.replace(" ", "_"))
    each.run(f"alter role {role} set default_transaction_isolation = '{level}'")
    graph = each.build("select df.seq('select 1', 'show transaction_isolation')")
    assert each.outcome(graph, role=role).rows == [{"transaction_isolation": level}]


def test_what_is_named_like_the_wrappers_own_names_does_not_disturb_it(each: World) -> None:
    role = each.database.new_role("shadow")
    each.run(f"create schema shadow authorization {role}")
    shout = "language plpgsql as 'begin raise exception $$shadowed$$; end'"
    for statement in (
        f"create function shadow.set_config(text, text, boolean) returns text {shout}",
        f"create function shadow.octet_length(text) returns int {shout}",
        f"create function shadow.boom(bigint, bigint) returns bigint {shout}",
        "create operator shadow.+ (leftarg = bigint, rightarg = bigint, function = shadow.boom)",
        f"create function shadow.booms(bigint, integer) returns boolean {shout}",
        "create operator shadow.= (leftarg = bigint, rightarg = integer, function = shadow.booms)",
        "create table shadow.completions (i int)",
    ):
        each.run(statement, role=role)
    each.run(f"alter role {role} set search_path = shadow, pg_catalog")
    assert each.outcome("select 'fine' as x", role=role).rows == [{"x": "fine"}]
    assert each.outcome("select 'fine' as x where false", role=role).status == "completed"
    assert each.outcome("delete from shadow.completions", role=role).status == "completed"
