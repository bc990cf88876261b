"""Who may use df, and what `df.grant_usage` gives: that and nothing more (ROLES.md rule 11)."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.roles.attack import NOT_FOUND, Connection, named, refused, rows, run, scalar
from tests.roles.conftest import As, Ground
from tests.servers import Database

INVALID = psycopg.errors.InvalidParameterValue

TABLES = (
    *("instances", "signals", "cancellations", "releases", "completions", "vars", "progress", "settings", "epoch"),
    *("waits", "heartbeats", "checkpoint", "states", "inbox", "migrations"),
)
READABLE = TABLES[:9]

PRIVILEGES = {
    "schema df": "USAGE",
    **{f"table {table}": "SELECT" for table in (*READABLE, "nodes")},
    **{f"column instances.{column}": "INSERT" for column in ("id", "graph", "label", "input", "database")},
    **{f"column signals.{column}": "INSERT" for column in ("owner", "instance_id", "name", "data")},
    **{
        f"column {table}.{c}": "INSERT"
        for table in ("cancellations", "releases")
        for c in ("owner", "instance_id", "reason")
    },
    **{
        f"column completions.{column}": "INSERT"
        for column in (
            *("instance_key", "step", "attempt", "outcome", "result", "error", "cause", "repetitions"),
            *("started_at", "query"),
        )
    },
    "column vars.name": "INSERT",
    "column vars.value": "INSERT, UPDATE",
}
"""Everything that a role with df has besides the functions. Whoever adds to it has thought about ROLES.md."""

_HELD = """
select object, string_agg(privilege_type, ', ' order by privilege_type), bool_or(is_grantable) from (
  select 'schema df' as object, a.* from pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'df'
  union all
  select 'table ' || c.relname, a.* from pg_class c, aclexplode(c.relacl) a where c.relnamespace = 'df'::regnamespace
  union all
  select 'column ' || c.relname || '.' || t.attname, a.*
    from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
   where c.relnamespace = 'df'::regnamespace
  union all
  select 'function ' || p.proname || '/' || p.oid::text, a.* from pg_proc p, aclexplode(p.proacl) a
   where p.pronamespace = 'df'::regnamespace
  union all
  select 'type ' || t.typname, a.* from pg_type t, aclexplode(t.typacl) a where t.typnamespace = 'df'::regnamespace
) held where grantee = %s group by object
"""
PUBLIC = 0


def held(connection: Connection, role: str | int, *, functions: bool = False) -> dict[str, str]:
    """What was granted to a role itself, by object."""
    oid = role if isinstance(role, int) else scalar(connection, "select quote_ident(%s)::regrole::oid", [role])
    found = rows(connection, _HELD, [oid])
    return {name: privileges for name, privileges, _ in found if functions or not name.startswith("function ")}


# --- what a grant is --------------------------------------------------------------------------------------------------


def test_a_role_with_df_has_these_privileges_and_no_other(ground: Ground, as_role: As) -> None:
    assert held(as_role("postgres"), "alice") == PRIVILEGES


def test_no_role_has_a_privilege_on_a_whole_table_that_lets_it_lock_it(ground: Ground, as_role: As) -> None:
    whole = {name: kinds for name, kinds in held(as_role("postgres"), "alice").items() if name.startswith("table ")}
    assert set(whole.values()) == {"SELECT"}


def test_a_role_with_df_executes_what_is_api_and_nothing_else(ground: Ground, as_role: As) -> None:
    query = (
        "select p.oid::regprocedure::text, coalesce(obj_description(p.oid, 'pg_proc') like 'api: %', false), "
        "has_function_privilege('alice', p.oid, 'execute') from pg_proc p where pronamespace = 'df'::regnamespace"
    )
    found = rows(as_role("postgres"), query)
    assert len(found) > 50
    assert [name for name, is_api, may in found if is_api != may] == []


@pytest.mark.parametrize(
    "call",
    [
        "df.grant_usage('stranger')",
        "df.revoke_usage('bob')",
        "df.seal()",
        "df.take_over()",
        "df.heartbeat(0, 'x')",
        "df.record_completions(0, '[]')",
        f"df.write_checkpoint(0, '0/0', {', '.join(['null'] * 34)})",
        "df.start_children(0, '[]')",
        "df.cancel_children(0, '[]')",
        "df.begin_waits(0, '[]')",
    ],
)
def test_what_is_the_engines_or_the_admins_to_call_is_refused(as_role: As, call: str) -> None:
    refused(as_role("mallory"), f"select {call}", match="permission denied for function")


@pytest.mark.parametrize("function", ["instances_key", "instances_guard", "commands_guard", "vars_removed"])
def test_the_triggers_functions_cannot_be_put_on_a_table_of_ones_own(as_role: As, function: str) -> None:
    mallory = as_role("mallory")
    mallory.execute("create table public.mine (key bigint, owner regrole, name text, value text)")
    trigger = f"create trigger t before insert on public.mine for each row execute function df.{function}()"
    refused(mallory, trigger, match="permission denied for function")


# --- nobody without it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_role_without_df_reaches_no_table(as_role: As, table: str) -> None:
    stranger = as_role("stranger")
    for statement in (f"table df.{table}", f"insert into df.{table} default values", f"lock table df.{table}"):
        refused(stranger, statement, match="permission denied for schema df")


def test_a_role_without_df_reaches_no_function(ground: Ground, as_role: As) -> None:
    query = "select proname, pronargs from pg_proc where pronamespace = 'df'::regnamespace and prokind = 'f'"
    stranger = as_role("stranger")
    functions = {name for name, _ in rows(as_role("postgres"), query)}
    assert len(functions) > 50
    for name in sorted(functions):
        refused(stranger, named("select df.{}()", name), match="permission denied for schema df")


@pytest.mark.parametrize("operator", ["~>", "|=>", "&", "|", "?>", "!>"])
def test_a_role_without_df_cannot_use_the_operators_either(as_role: As, operator: str) -> None:
    stranger = as_role("stranger")
    refused(stranger, f"select 'select 1'::text {operator} 'select 2'::text", match="permission denied for function")
    refused(stranger, "select @> 'select 1'::text", match="permission denied for function")


def test_public_has_nothing_of_df(ground: Ground, as_role: As) -> None:
    superuser = as_role("postgres")
    assert held(superuser, PUBLIC, functions=True) == {}
    # without an ACL there is the built-in one, which has PUBLIC in it
    builtin = "select proname from pg_proc where pronamespace = 'df'::regnamespace and proacl is null"
    assert rows(superuser, builtin) == []
    builtin = (
        "select typname from pg_type where typnamespace = 'df'::regnamespace and typacl is null and typtype <> 'b'"
    )
    assert rows(superuser, builtin) == []


def test_public_has_nothing_even_where_the_owners_default_privileges_would_give_it(database: Database) -> None:
    with database.connect("engine") as engine:
        engine.execute("alter default privileges grant select on tables to public")
        engine.execute("alter default privileges grant usage on sequences to public")
        engine.execute("create table df.added (x integer)")
        engine.execute("create sequence df.numbers")
        engine.execute("create type df.mood as enum ('sad')")
        engine.execute("create domain df.positive as integer check (value > 0)")
        engine.execute("create function df.added() returns integer language sql return 1")
        engine.execute("create procedure df.added_too() language sql begin atomic select 1; end")
        engine.execute("grant usage on schema df to public")
        engine.execute("select df.seal()")
        assert held(engine, PUBLIC, functions=True) == {}
        assert rows(engine, "select from pg_proc where proname like 'added%%' and proacl is null", []) == []
    with database.connect("alice") as alice:
        refused(alice, "select df.added()")
        refused(alice, "create table public.t (c df.positive)")
        refused(alice, "create table public.t (c df.mood)")


# --- rule 11: types, and everything else that would tie df down ---------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "create table public.mine (c df.instances)",
        "create table public.mine (c df.instances[])",
        "create table public.mine as select i from df.instances i",
        "create materialized view public.mine as select i from df.instances i",
        "create view public.mine as select i from df.instances i",
        "create type public.mine as (c df.completions)",
        "create domain public.mine as df.signals",
        "create function public.mine(df.instances) returns integer language sql return 1",
        "create function public.mine() returns setof df.instances language sql as 'select * from df.instances'",
        "create function public.mine(out df.vars) language sql as 'select v from df.vars v'",
        "create cast (df.instances as text) with inout",
        "create table public.mine () inherits (df.instances)",
        "create table public.mine (key bigint references df.instances (key))",
    ],
)
def test_nothing_of_a_users_can_depend_on_a_row_type_or_a_key_of_df(as_role: As, statement: str) -> None:
    refused(as_role("mallory"), statement)


@pytest.mark.parametrize(
    "statement",
    [
        "create table df.mine (x integer)",
        "create function df.step(text) returns text language sql return 'ok'",
        "create operator df.= (function = df.seq, leftarg = text, rightarg = text)",
        "alter table df.instances disable trigger all",
        "alter table df.instances disable row level security",
        "alter table df.instances add column mine integer",
        "alter table df.instances owner to mallory",
        "alter table df.instances set (fillfactor = 10)",
        "alter table df.instances alter column label set statistics 100",
        "alter function df.me() owner to mallory",
        "create or replace function df.me() returns oid language sql as 'select 10::oid'",
        "drop table df.instances",
        "drop function df.step",
        "drop schema df cascade",
        "drop owned by engine",
        "reassign owned by engine to mallory",
        "alter schema df rename to mine",
        "create trigger mine before insert on df.instances for each row execute function suppress_redundant_updates_trigger()",
        "create rule mine as on insert to df.instances do instead nothing",
        "create index mine on df.instances (label)",
        "create statistics public.mine on id, label from df.instances",
        "create policy mine on df.instances using (true)",
        "comment on function df.take_over() is 'api: mine'",
        "comment on table df.instances is 'mine'",
        "truncate df.instances",
        "truncate df.epoch",
        "grant select on df.states to mallory",
        "grant engine to mallory",
        "create publication mine for table df.instances",
        "create publication mine for all tables",
        "alter publication walflow drop table df.instances",
        "drop publication walflow",
        "create event trigger mine on ddl_command_end execute function suppress_redundant_updates_trigger()",
        "create subscription mine connection 'dbname=x' publication y with (connect = false)",
        "select pg_create_logical_replication_slot('mine', 'pgoutput')",
        "select pg_drop_replication_slot('walflow')",
        "select * from pg_logical_slot_peek_binary_changes('walflow', null, null)",
        "set session_replication_role = replica",
        "alter role engine set search_path = mine",
        "alter database postgres set search_path = mine",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres'",
        "merge into df.instances i using (values ('order-42')) v(id) on i.id = v.id when matched then update set label = 'x'",
        "merge into df.instances i using (values ('order-42')) v(id) on i.id = v.id when matched then delete",
        "merge into df.instances i using (values ('order-43')) v(id) on i.id = v.id "
        "when not matched then insert (id, graph, status) values (v.id, 'select 1', 'completed')",
        "insert into df.instances (id, graph) values ('mine', 'select 1') "
        "on conflict (submitted_by, id) do update set label = 'x'",
        "insert into df.signals (instance_id, name) values ('mine', 'x') "
        "on conflict (owner, event_id) do update set name = 'y'",
        "update df.instances set status = 'completed', result = '1'",
        "update df.instances set label = 'x'",
        "update df.completions set outcome = 'failed'",
        "update df.signals set folded = true",
        "update df.epoch set epoch = 9",
        "delete from df.instances",
        "delete from df.completions",
        "delete from df.signals",
    ],
)
def test_a_user_cannot(as_role: As, statement: str) -> None:
    refused(as_role("mallory"), statement, error=psycopg.errors.InsufficientPrivilege)


def test_a_grant_of_what_one_may_not_grant_grants_nothing(as_role: As) -> None:
    mallory = as_role("mallory")
    before = held(mallory, "stranger")
    mallory.execute(
        "grant all on df.instances to stranger"
    )  # a warning, no error: SELECT is there, to be granted it is not
    assert held(mallory, "stranger") == before == {}


def test_merge_may_start_what_an_insert_may(as_role: As) -> None:
    mallory = as_role("mallory")
    merge = (
        "merge into df.instances i using (values ('merged')) v(id) on i.id = v.id "
        "when not matched then insert (id, graph) values (v.id, 'select 1')"
    )
    run(mallory, merge)
    assert rows(mallory, "select submitted_by::text, id from df.instances") == [("mallory", "merged")]


@pytest.mark.parametrize("table", ["instances", "signals", "completions"])
def test_copy_into_a_table_of_df_is_refused_by_row_level_security(as_role: As, table: str) -> None:
    columns = {
        "instances": "id, graph",
        "signals": "instance_id, name",
        "completions": "instance_key, step, attempt, outcome",
    }
    copy = f"copy df.{table} ({columns[table]}) from stdin"
    mallory = as_role("mallory")
    with (
        pytest.raises(psycopg.errors.FeatureNotSupported, match="row-level security"),
        mallory.cursor().copy(copy.encode()),
    ):
        pass
    mallory.rollback()


# --- locks ----------------------------------------------------------------------------------------------------------------

MODES = (
    *("row share", "row exclusive", "share update exclusive", "share", "share row exclusive"),
    *("exclusive", "access exclusive"),
)


@pytest.mark.parametrize("which", ["ground", "old_ground"])
@pytest.mark.parametrize("table", TABLES)
def test_a_user_can_take_no_lock_that_stops_another(which: str, table: str, request: pytest.FixtureRequest) -> None:
    ground: Ground = request.getfixturevalue(which)
    modes = ("access share", *MODES) if table not in READABLE else MODES[1:]
    with ground.connect("mallory", autocommit=False) as mallory:
        for mode in modes:
            refused(mallory, f"lock table df.{table} in {mode} mode", match=f"permission denied for table {table}")


@pytest.mark.parametrize("table", [table for table in READABLE if table != "vars"])
@pytest.mark.parametrize("strength", ["update", "no key update", "share", "key share"])
def test_a_user_can_lock_no_row(as_role: As, table: str, strength: str) -> None:
    refused(as_role("alice"), f"select from df.{table} for {strength}", match=f"permission denied for table {table}")


def test_a_user_can_lock_no_variable_of_another(ground: Ground, as_role: As) -> None:
    assert rows(as_role("mallory"), "select from df.vars for update") == []


# --- granting, revoking, sealing --------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(role_named: Callable[..., str]) -> str:
    """A role that has nothing yet."""
    return role_named('fresh "one"', granted=False)


def test_a_grant_is_all_that_a_role_needs_and_a_revocation_takes_all_of_it(
    ground: Ground, as_role: As, fresh: str
) -> None:
    engine, connection = as_role("engine"), as_role(fresh)
    engine.execute("select df.grant_usage(quote_ident(%s)::regrole)", [fresh])
    engine.commit()
    assert held(engine, fresh) == PRIVILEGES
    connection.execute("select df.setvar('a', '1')")
    connection.execute("select df.start('select {a}' ~> 'select 2', id => 'first')")
    connection.execute("select df.signal('first', 'go'), df.release('first'), df.cancel('first')")
    connection.execute(
        "insert into df.completions (instance_key, step, attempt, outcome) values (1, '1', 1, 'completed')"
    )
    connection.rollback()
    engine.execute(
        named("grant select (instance_key) on df.states to {}", fresh)
    )  # what an admin added is revoked, too
    engine.execute("select df.revoke_usage(quote_ident(%s)::regrole)", [fresh])
    engine.commit()
    assert held(engine, fresh, functions=True) == {}
    refused(connection, "select from df.instances", match="schema df")


def test_a_delegate_grants_and_revokes_and_what_it_gave_goes_with_it(ground: Ground, as_role: As, fresh: str) -> None:
    engine = as_role("engine")
    refused(as_role("bob"), "select df.grant_usage('stranger')", match="permission denied for function grant_usage")
    engine.execute("select df.grant_usage(quote_ident(%s)::regrole, with_grant => true)", [fresh])
    engine.commit()
    delegate = as_role(fresh)
    delegate.execute("select df.grant_usage('stranger')")
    assert held(delegate, "stranger") == PRIVILEGES
    delegate.execute("select df.revoke_usage('stranger')")
    assert held(delegate, "stranger", functions=True) == {}
    refused(delegate, "select df.revoke_usage('bob')")
    delegate.execute("select df.grant_usage('stranger')")
    delegate.commit()
    refused(engine, "select df.revoke_usage('stranger')", match="role stranger still has schema df, from role")
    engine.execute("select df.revoke_usage(quote_ident(%s)::regrole)", [fresh])
    assert held(engine, "stranger", functions=True) == {}
    engine.commit()


def test_the_owner_is_neither_granted_nor_revoked_anything(as_role: As) -> None:
    engine = as_role("engine")
    refused(engine, "select df.grant_usage('engine')", error=INVALID, match="role engine owns schema df")
    refused(engine, "select df.revoke_usage('engine')", error=INVALID, match="role engine owns schema df")


def test_http_is_refused_as_long_as_there_is_none(as_role: As) -> None:
    engine = as_role("engine")
    refused(engine, "select df.grant_usage('bob', include_http => true)", error=psycopg.errors.FeatureNotSupported)


def test_sealing_gives_what_is_new_to_whoever_has_df_and_to_nobody_else(database: Database) -> None:
    delegate = database.new_role("delegate", granted=False)
    with database.connect("engine") as engine:
        engine.execute("select df.grant_usage(quote_ident(%s)::regrole, with_grant => true)", [delegate])
        engine.execute("create function df.brand_new() returns integer language sql return 1")
        engine.execute("create function df.not_for_users() returns integer language sql return 1")
        engine.execute("comment on function df.brand_new() is 'api: new'")
        engine.execute("create procedure df.brand_new_too() language sql begin atomic select 1; end")
        engine.execute("comment on procedure df.brand_new_too() is 'api: new'")
        engine.execute("comment on function df.not_for_users() is 'for the engine'")
        engine.execute("select df.seal()")
        may = "select has_function_privilege(%s, %s, %s)"
        new, internal, grant_option = "df.brand_new()", "df.not_for_users()", "execute with grant option"
        assert scalar(engine, may, ["alice", new, "execute"])
        assert scalar(engine, may, ["alice", "df.brand_new_too()", "execute"])
        assert not scalar(engine, may, ["alice", new, grant_option])
        assert not scalar(engine, may, ["alice", internal, "execute"])
        assert scalar(engine, may, [delegate, new, grant_option])
        assert not scalar(engine, may, [delegate, internal, "execute"])


def test_members_of_a_group_with_df_start_as_themselves(
    ground: Ground, as_role: As, role_named: Callable[..., str]
) -> None:
    superuser = as_role("postgres")
    superuser.execute("create role frank login in role team")
    superuser.execute("set local role frank")
    superuser.execute("insert into df.instances (id, graph) values ('franks', 'select 1')")
    assert rows(superuser, "select submitted_by::text from df.instances") == [("frank",)]
    refused(superuser, "select df.cancel('order-42')", error=NOT_FOUND)
