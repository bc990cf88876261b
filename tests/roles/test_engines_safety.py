"""ROLES.md, The engine's own safety, as far as it needs no engine: names that are shadowed, triggers that are switched off."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql as pgsql

from sql.migrate import migrate
from tests.roles.attack import NOT_FOUND, Connection, named, refused, rows, run, scalar
from tests.roles.conftest import As, Ground
from tests.servers import Cluster, Database, drop_slots, wait_until

PINNED = "search_path=pg_catalog, pg_temp"
LITERALS = "standard_conforming_strings=on"

# --- rule 13: functions ---------------------------------------------------------------------------------------------------


def functions(connection: Connection, where: str) -> list[str]:
    query = (
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'df'::regnamespace and p.prokind = 'f' "
        f"and {where}"
    )
    return [name for (name,) in rows(connection, query)]


def test_every_function_has_its_search_path_pinned_with_pg_temp_last_or_its_body_bound(as_role: As) -> None:
    superuser = as_role("postgres")
    pinned = f"'{PINNED}' = any (coalesce(proconfig, array[]::text[]))"
    bound = "prosqlbody is not null"
    assert len(functions(superuser, pinned)) > 50
    free = functions(superuser, f"not ({pinned}) and not ({bound})")
    assert [name.split("(")[0] for name in free] == ["df.step"]


def test_every_trigger_function_reads_literals_in_one_way_only(as_role: As) -> None:
    superuser = as_role("postgres")
    trigger = "prorettype = 'trigger'::regtype"
    assert functions(superuser, trigger)
    assert functions(superuser, f"{trigger} and not (proconfig @> array['{PINNED}', '{LITERALS}'])") == []


def test_only_two_triggers_and_three_readers_run_with_the_rights_of_the_owner(as_role: As) -> None:
    assert sorted(functions(as_role("postgres"), "prosecdef")) == [
        "df.engines_completions(bigint,uuid)",
        "df.figures()",
        "df.instances_key()",
        "df.metrics()",
        "df.vars_removed()",
    ]


def test_no_function_guards_with_an_assertion(as_role: As) -> None:
    # plpgsql.check_asserts is a setting of everybody's
    assert functions(as_role("postgres"), r"prosrc ~* '\massert\M'") == []


def test_the_step_wrapper_qualifies_every_operator_and_every_function(as_role: As) -> None:
    body = scalar(
        as_role("postgres"), "select prosrc from pg_proc where proname = 'step' and pronamespace = 'df'::regnamespace"
    )
    code = re.sub(r"--[^\n]*|'(?:[^']|'')*'", " ", body)
    calls = set(re.findall(r"(?<![\w.])([a-z_]+)\s*\(", code))
    syntax = {"coalesce", "exists", "if", "k", "operator", "values"}
    assert calls <= syntax, calls
    bare = re.sub(r"operator\(pg_catalog\.\S+?\)|:=|::|(errcode|hint|v_count) =|unlisten \*", " ", code)
    assert re.findall(r"[-+*/<>=~!@#%^&|`?]+", bare) == []


# --- rule 13: temporary tables and schemas that come first ----------------------------------------------------------------

SHADOWS = """
create schema shadows;
create function shadows.quote_ident(text) returns text language sql as $$ select 'alice' $$;
create function shadows.pg_has_role(oid, text) returns boolean language sql as $$ select true $$;
create function shadows.pg_has_role(regrole, text) returns boolean language sql as $$ select true $$;
create function shadows.has_any_column_privilege(oid, text) returns boolean language sql as $$ select true $$;
create function shadows.current_database() returns name language sql as $$ select 'x'::name $$;
create function shadows.left(text, integer) returns text language sql as $$ select '' $$;
create function shadows.octet_length(text) returns integer language sql as $$ select 0 $$;
create function shadows.row_to_json(record) returns json language plpgsql as $$ begin return '"shadow"'::json; end $$;
create function shadows.pg_visible_in_snapshot(xid8, pg_snapshot) returns boolean language sql as $$ select false $$;
create function shadows.never(oid, oid) returns boolean language sql as $$ select true $$;
create function shadows.always(text, text) returns boolean language sql as $$ select true $$;
create function shadows.apart(bigint, bigint) returns boolean language sql as $$ select true $$;
create function shadows.sum(bigint, integer) returns bigint language sql as $$ select 1000000000::bigint $$;
create operator shadows.= (function = shadows.never, leftarg = oid, rightarg = oid);
create operator shadows.= (function = shadows.always, leftarg = text, rightarg = text);
create operator shadows.~ (function = shadows.always, leftarg = text, rightarg = text);
create operator shadows.<> (function = shadows.apart, leftarg = bigint, rightarg = bigint);
create operator shadows.+ (function = shadows.sum, leftarg = bigint, rightarg = integer);
create domain shadows.text as pg_catalog.text check (false);
create domain shadows.bigint as pg_catalog.int8 check (false);
"""
TEMPORARY = """
create temporary table settings (name text, value text, description text);
insert into settings values ('superuser_instances', 'on', ''), ('result_bytes', '0', '');
create temporary table instances (key bigint, submitted_by regrole, submitter oid, id text);
insert into instances values (1, 'alice', 'alice'::regrole, 'missing');
create temporary table vars (owner regrole, name text, value text);
insert into vars values (quote_ident(current_user)::regrole, 'shadow', 'x');
create temporary table epoch (only_row boolean, epoch bigint);
create temporary table completions (run_as oid, instance_key bigint, step text, attempt integer);
create temporary table pg_roles (oid oid, rolname name, rolsuper boolean, rolcanlogin boolean);
create temporary table pg_class (oid oid, relowner oid);
create temporary table new_rows (instance_id text, instance_key bigint, owner oid, graph text);
create temporary table text (x integer);
"""


@pytest.fixture
def shadowed(as_role: As) -> Connection:
    """Mallory, with everything that df uses by name shadowed in her session."""
    mallory = as_role("mallory")
    run(mallory, SHADOWS)
    run(mallory, TEMPORARY)
    mallory.execute("set local search_path = pg_temp, shadows, pg_catalog, public")
    return mallory


def test_nothing_that_shadows_a_name_changes_who_starts_or_what_is_allowed(shadowed: Connection) -> None:
    shadowed.execute("insert into df.instances (id, graph) values ('mine', 'select 1')")
    assert rows(shadowed, "select submitted_by::pg_catalog.text, vars from df.instances") == [("mallory", None)]
    invalid = psycopg.errors.InvalidParameterValue
    refused(shadowed, "insert into df.instances (id, graph) values ('~1/2', 'select 1')", error=invalid)
    bad_graph = 'insert into df.instances (graph) values (\'{"node_type":"EVIL"}\')'
    refused(shadowed, bad_graph, error=invalid)
    refused(shadowed, "insert into df.signals (instance_id, name) values ('order-42', 'go')", error=NOT_FOUND)
    refused(shadowed, "insert into df.signals (instance_id, name) values ('missing', 'go')", error=NOT_FOUND)
    insert = "insert into df.cancellations (owner, instance_id) values ('alice'::pg_catalog.regrole, 'order-42')"
    refused(shadowed, insert, error=NOT_FOUND)
    assert rows(shadowed, "select df.getvar('password'), df.getvar('shadow'), df.status('order-42')") == [
        (None, None, None)
    ]
    shadowed.execute("insert into df.signals (instance_id, name) values ('mine', 'go')")


def test_nothing_that_shadows_a_name_gets_into_the_step_wrapper(shadowed: Connection) -> None:
    step = "select df.step(%s, '1', %s, %s, 0, array[]::pg_catalog.xid8[], true, 'mine', null, null, 0, 1000)"
    assert scalar(shadowed, step, [1, "select 7 as seven", True]) == "ok"
    shadowed.execute("set local search_path = pg_temp, shadows, pg_catalog, public")
    query = "select result::pg_catalog.text, run_as::pg_catalog.regrole::pg_catalog.text from df.completions"
    assert rows(shadowed, query) == [('{"rows":[{"seven":7}],"row_count":1}', "mallory")]


def test_a_temporary_table_of_settings_does_not_let_a_superuser_start(ground: Ground, as_role: As) -> None:
    superuser = as_role("postgres")
    run(superuser, TEMPORARY)
    superuser.execute("set local search_path = pg_temp, pg_catalog")
    insert = "insert into df.instances (graph) values ('select 1')"
    refused(superuser, insert, match="superuser instances are disabled")


@pytest.mark.parametrize("setting", ["standard_conforming_strings = off", "quote_all_identifiers = on"])
def test_settings_of_the_session_change_nothing(as_role: As, setting: str) -> None:
    mallory = as_role("mallory")
    run(mallory, f"set local {setting}")
    graph = '{"node_type":"SQL","query":"select E\'\\\\\\\\\', 1"}'
    mallory.execute("insert into df.instances (id, graph) values ('mine', %s)", [graph])
    assert rows(mallory, "select submitter = 'mallory'::regrole, id from df.instances") == [(True, "mine")]
    bad = "insert into df.instances (graph) values (%s)"
    refused(mallory, bad, ['{"node_type":"SQL","query":"\\u00"}'], error=psycopg.errors.InvalidParameterValue)
    refused(mallory, "select df.signal('order-42', 'go')", error=NOT_FOUND)


# --- triggers cannot be switched off ----------------------------------------------------------------------------------------


def test_every_trigger_fires_always(as_role: As) -> None:
    query = (
        "select tgrelid::regclass::text, tgname::text, tgenabled::text from pg_trigger t join pg_class c on c.oid = tgrelid "
        "where c.relnamespace = 'df'::regnamespace"
    )
    assert {enabled for _, _, enabled in rows(as_role("postgres"), query)} == {"A"}


def test_who_may_set_session_replication_role_gets_past_no_guard(ground: Ground, as_role: As) -> None:
    superuser = as_role("postgres")
    superuser.execute("create role replicant login in role pg_write_all_data")
    superuser.execute("select df.grant_usage('replicant')")
    superuser.execute("grant set on parameter session_replication_role to replicant")
    superuser.execute("set local role replicant")
    superuser.execute("set local session_replication_role = replica")
    superuser.execute(
        "insert into df.instances (id, graph, submitter, status) values ('mine', 'select 1', 10, 'completed')"
    )
    assert rows(superuser, "select submitter::regrole::text, status from df.instances") == [("replicant", "pending")]
    refused(superuser, "insert into df.signals (instance_id, name) values ('missing', 'go')", error=NOT_FOUND)
    refused(
        superuser,
        'insert into df.instances (graph) values (\'{"node_type":"EVIL"}\')',
        error=psycopg.errors.InvalidParameterValue,
    )
    superuser.execute("select df.setvar('a', '1'), df.unsetvar('a')")
    assert rows(superuser, "select from df.vars") == []


# --- rule 12: whoever has CREATE on the database ------------------------------------------------------------------------------

EVIDENCE = "create table public.evidence (role text)"
SPRING = "language plpgsql as $$begin insert into public.evidence values (current_user);"
TRAPS = (
    "create schema {0}",
    # whoever fits the arguments better is called, although pg_catalog comes first
    f"create function {{0}}.quote_ident(name) returns text {SPRING} return pg_catalog.quote_ident($1); end$$",
    *(
        statement
        for kind in ("smallint", "integer", "bigint")
        for statement in (
            f"create function {{0}}.same(oid, {kind}) returns boolean {SPRING} return $1 operator(pg_catalog.=) $2::oid; end$$",
            f"create operator {{0}}.= (function = {{0}}.same, leftarg = oid, rightarg = {kind})",
        )
    ),
)
"""What catches a role that qualifies no names and has the default search_path."""


def set_traps(database: Database, schema: str, role: str) -> None:
    """A schema that comes first in the default search_path of the role that it is named after."""
    database.run(EVIDENCE)
    database.run("grant insert on public.evidence to public")
    with database.connect(role) as connection:
        for trap in TRAPS:
            run(connection, trap.replace("{0}", schema))
        run(connection, f"grant usage on schema {schema} to public")


def test_a_schema_named_like_the_engines_role_does_not_run_as_the_engine_in_migrate(server18: Cluster) -> None:
    empty = server18.database(migrated=False)
    try:
        with empty.connect() as superuser:
            superuser.execute(named("grant create on database {} to alice", empty.name))
            superuser.execute("grant usage on schema public to public")
        set_traps(empty, "engine", "alice")
        with psycopg.connect(empty.dsn("engine", options="")) as careless:
            careless.execute("select quote_ident(current_user) from pg_roles where oid = 10::smallint")
        assert set(empty.run("delete from public.evidence returning role")) == {("engine",)}
        for _ in range(2):  # the second time there is a schema to look at
            migrate(empty.dsn("engine", options=""))
        assert empty.run("select role from public.evidence") == []
    finally:
        empty.drop()


# --- rules 14 and 15 ------------------------------------------------------------------------------------------------------------


def test_nothing_waits_for_an_advisory_lock() -> None:
    root = Path(__file__).parents[2]
    texts = [path for package in ("sql", "engine", "cdc") for path in (root / package).rglob("*.[ps][yq]*")]
    assert len(texts) > 30
    taking = re.compile(r"advisory_(?:xact_)?lock")
    assert [path.name for path in texts if path.suffix in (".py", ".sql") and taking.search(path.read_text())] == []


def test_migrate_locks_what_users_cannot(as_role: As) -> None:
    refused(as_role("mallory"), "lock table df.migrations in access share mode")
    refused(as_role("mallory"), "select from df.migrations")


def test_the_role_that_only_reads_the_log_reads_no_table(as_role: As) -> None:
    reader = as_role("reader")
    refused(reader, "select from df.instances", match="permission denied for schema df")
    refused(reader, "set role engine")


@pytest.mark.parametrize("attributes", ["login", "login createdb", "login createrole"])
def test_an_ordinary_role_cannot_read_the_log(ground: Ground, role_named: Callable[..., str], attributes: str) -> None:
    role = role_named("curious", attributes)
    with pytest.raises(psycopg.OperationalError, match="REPLICATION"):
        psycopg.connect(ground.dsn(role, replication="database"))


# --- subscriptions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def subscribed(ground: Ground, database: Database) -> Iterator[Database]:
    """A database to which a superuser has subscribed the instances of the ground, as far as they get."""
    slot = f"{database.name}_subscription"
    ground.run("create publication leak for table df.instances")
    ground.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    with database.connect() as superuser:
        superuser.execute(
            pgsql.SQL(
                "create subscription leak connection {} publication leak "
                "with (create_slot = false, slot_name = {}, copy_data = false)"
            ).format(ground.dsn(), pgsql.Identifier(slot))
        )
    yield database
    with database.connect() as superuser:
        superuser.execute("alter subscription leak disable")
        superuser.execute("alter subscription leak set (slot_name = none)")
        superuser.execute("drop subscription leak")
    ground.run("drop publication leak")
    with ground.connect() as superuser:
        drop_slots(superuser, ground.name)


def test_a_subscription_starts_no_workflows(ground: Ground, subscribed: Database) -> None:
    ground.run("insert into df.instances (id, graph) values ('replicated', 'select 1')", role="bob")
    errors = "select 1 from pg_stat_subscription_stats where subname = 'leak' and apply_error_count > 0"
    wait_until(lambda: subscribed.run(errors))
    assert subscribed.run("select from df.instances") == []
    ground.run("delete from df.instances where id = 'replicated'")
