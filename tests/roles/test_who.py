"""ROLES.md, Who: an instance belongs to current_user as the database knows it, whatever the row, the caller or the name says."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.roles.attack import DENIED, NOT_FOUND, Connection, named, refused, rows, run, scalar
from tests.roles.conftest import As, Ground

START = (
    "insert into df.instances (graph) values ('select 1') returning submitted_by::oid, submitter, session_role::text"
)
ODD_NAMES = ("ALICE", "alice ", "we\"ird 'name\\ $1 %s {x}", "ünïcode-🙂", "-", "123", "current_user", "x" * 63)


def oid_of(connection: Connection, role: str) -> int:
    return int(scalar(connection, "select oid from pg_roles where rolname = %s", [role]))


# --- rule 1: names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_role_with_an_odd_name_starts_as_itself(
    ground: Ground, as_role: As, role_named: Callable[..., str], name: str
) -> None:
    connection = as_role(role_named(name))
    me = oid_of(connection, name)
    assert rows(connection, START) == [(me, me, name)]
    assert scalar(connection, "select df.status('order-42')") is None


def test_a_role_whose_name_is_the_oid_of_alice_is_not_alice(
    ground: Ground, as_role: As, role_named: Callable[..., str]
) -> None:
    alice = ground.scalar("select 'alice'::regrole::oid")
    connection = as_role(role_named(str(alice)))
    me = oid_of(connection, str(alice))
    assert me != alice
    assert rows(connection, START) == [(me, me, str(alice))]
    assert rows(connection, "select id from df.instances where id = 'order-42'") == []
    refused(connection, "select df.signal('order-42', 'go')", error=NOT_FOUND)


def test_grants_reach_the_role_with_the_odd_name_and_no_other(
    ground: Ground, as_role: As, role_named: Callable[..., str]
) -> None:
    ground_less = role_named("Stranger", granted=False)
    connection = as_role(ground_less)
    refused(connection, "select from df.instances", match="schema df")
    ground.run("select df.grant_usage('\"Stranger\"')")
    connection.execute("select from df.instances")
    refused(as_role("stranger"), "select from df.instances", match="schema df")
    connection.rollback()
    ground.run("select df.revoke_usage('\"Stranger\"')")
    refused(connection, "select from df.instances", match="schema df")


# --- rule 1: current_user, not session_user -----------------------------------------------------------------------------


def test_a_security_definer_function_starts_as_its_owner_and_not_as_its_caller(ground: Ground, as_role: As) -> None:
    ground.run(
        "create function public.trap() returns text language sql security definer "
        "return (select df.start('select 1', id => 'trapped'))",
        role="mallory",
    )
    try:
        alice = as_role("alice")
        alice.execute("select public.trap()")
        assert scalar(alice, "select df.status('trapped')") is None
        alice.commit()
        query = "select submitted_by::text, session_role::text from df.instances where id = 'trapped'"
        assert ground.run(query) == [("mallory", "alice")]
    finally:
        ground.run("drop function public.trap()")
        ground.run("delete from df.instances where id = 'trapped'")


def test_an_index_function_that_a_superuser_runs_starts_as_the_tables_owner(ground: Ground) -> None:
    with ground.connect("mallory") as mallory:
        mallory.execute(
            "create function public.start() returns text language sql return df.start('select 1', 'sneaked')"
        )
        mallory.execute(
            "create function public.sneak(x integer) returns integer language plpgsql immutable as "
            "$$begin perform public.start(); return x; end$$"
        )
        mallory.execute("create table public.bait (x integer)")
        mallory.execute("create index bait_x on public.bait (public.sneak(x))")
        mallory.execute("insert into public.bait values (1)")
        mallory.execute("create materialized view public.view_bait as select public.sneak(x) from public.bait")
    try:
        for statement in ("reindex table public.bait", "refresh materialized view public.view_bait"):
            before = ground.scalar("select count(*) from df.instances where label = 'sneaked'")
            with ground.connect() as superuser:
                run(superuser, statement)
            assert ground.scalar("select count(*) from df.instances where label = 'sneaked'") != before
        assert ground.run("select distinct submitted_by::text from df.instances where label = 'sneaked'") == [
            ("mallory",)
        ]
        assert ("postgres",) in ground.run("select session_role::text from df.instances where label = 'sneaked'")
    finally:
        ground.run("drop table public.bait cascade")
        ground.run("drop function public.sneak(integer), public.start()")
        ground.run("delete from df.instances where label = 'sneaked'")


def test_set_role_starts_as_the_role_that_was_set_and_says_who_was_logged_in(as_role: As) -> None:
    carol = as_role("carol")
    carol.execute("set role alice")
    alice = oid_of(carol, "alice")
    assert rows(carol, START) == [(alice, alice, "carol")]


def test_a_role_that_may_not_be_set_cannot_be(as_role: As) -> None:
    refused(as_role("mallory"), "set role alice")
    refused(as_role("mallory"), "set session authorization alice")


# --- rule 3: USAGE, not MEMBER ------------------------------------------------------------------------------------------


def test_a_member_of_the_owner_sees_signals_cancels_and_releases(ground: Ground, as_role: As) -> None:
    carol = as_role("carol")
    assert scalar(carol, "select df.status('order-42')") == "pending"
    alice = oid_of(carol, "alice")
    carol.execute("select df.signal('order-42', 'go')")
    for table in ("cancellations", "releases"):
        insert = (
            f"insert into df.{table} (instance_id) values ('order-42') returning owner, instance_key, sent_by <> owner"
        )
        assert rows(carol, insert) == [(alice, ground.key, True)]


@pytest.mark.parametrize("which", ["ground", "old_ground"])
def test_a_member_without_the_rights_of_the_owner_reaches_nothing(which: str, request: pytest.FixtureRequest) -> None:
    ground: Ground = request.getfixturevalue(which)
    with ground.connect("dave") as dave:
        assert rows(dave, "select from df.instances") == []
        refused(dave, "select df.signal('order-42', 'go')", error=NOT_FOUND)
        query = "insert into df.cancellations (owner, instance_id) values ('alice'::regrole, 'order-42')"
        refused(dave, query, error=NOT_FOUND)


def test_a_role_that_created_another_has_not_its_rights(
    ground: Ground, as_role: As, role_named: Callable[..., str]
) -> None:
    boss = as_role(role_named("boss", "login createrole"))
    boss.execute("create role made login")
    boss.commit()
    try:
        ground.run("select df.grant_usage('made')")
        ground.run("insert into df.instances (id, graph) values ('of-made', 'select 1')", role="made")
        assert scalar(boss, "select pg_has_role('made', 'MEMBER')") is True
        assert rows(boss, "select from df.instances") == []
        refused(boss, "select df.cancel('of-made')", error=NOT_FOUND)
    finally:
        boss.rollback()
        ground.run("drop owned by made")
        ground.run("drop role made")


def test_who_may_create_roles_may_not_become_the_owner_of_df(as_role: As, role_named: Callable[..., str]) -> None:
    # PostgreSQL 16 and later; before, CREATEROLE grants any role but a superuser's
    boss = as_role(role_named("boss", "login createrole"))
    refused(boss, "grant engine to boss")
    refused(boss, "alter role engine password 'x'")


# --- rule 4: who may not --------------------------------------------------------------------------------------------------


def test_superusers_are_refused_unless_the_setting_says_on(as_role: As) -> None:
    superuser = as_role("postgres")
    refused(superuser, START, match="superuser instances are disabled")
    superuser.execute("update df.settings set value = 'yes' where name = 'superuser_instances'")
    refused(superuser, START, match="superuser instances are disabled")
    superuser.execute("delete from df.settings where name = 'superuser_instances'")
    refused(superuser, START, match="superuser instances are disabled")
    superuser.execute("insert into df.settings values ('superuser_instances', 'on', '')")
    superuser.execute(START)


def test_a_function_of_a_superuser_does_not_lend_its_rights_to_a_start(ground: Ground, as_role: As) -> None:
    superuser = as_role("postgres")
    superuser.execute(
        "create function public.mighty() returns void language sql security definer "
        "begin atomic insert into df.instances (graph) values ('select 1'); end"
    )
    superuser.execute("grant execute on function public.mighty() to alice")
    superuser.execute("set local role alice")
    refused(superuser, "select public.mighty()", match="superuser instances are disabled")


def test_the_owner_of_df_cannot_start(as_role: As) -> None:
    refused(as_role("engine"), START, match="the owner of schema df cannot start workflows")


def test_a_role_that_cannot_log_in_is_refused_although_its_members_can(as_role: As) -> None:
    mallory = as_role("mallory")
    mallory.execute("set role team")
    refused(mallory, START, match="role team cannot log in")


# --- rule 4: columns ------------------------------------------------------------------------------------------------------

WRITABLE = {
    "instances": {"id", "graph", "label", "input", "database"},
    "signals": {"owner", "instance_id", "name", "data"},
    "cancellations": {"owner", "instance_id", "reason"},
    "releases": {"owner", "instance_id", "reason"},
    "completions": {
        *(
            "instance_key",
            "step",
            "attempt",
            "outcome",
            "result",
            "error",
            "cause",
            "repetitions",
            "started_at",
            "query",
        ),
    },
    "vars": {"name", "value"},
}
REQUIRED = {
    "instances": {"id": "'forged'", "graph": "'select 1'"},
    "signals": {"instance_id": "'mine'", "name": "'go'"},
    "cancellations": {"instance_id": "'mine'"},
    "releases": {"instance_id": "'mine'"},
    "completions": {"instance_key": "1", "step": "'1'", "attempt": "1", "outcome": "'completed'"},
    "vars": {"name": "'forged'", "value": "'x'"},
}
FORGED = {
    "oid": "'alice'::regrole::oid",
    "regrole": "'alice'::regrole",
    "bigint": "424242",
    "integer": "424242",
    "text": "'completed'",
    "name": "'forged'",
    "jsonb": '\'{"forged": "x"}\'',
    "json": "'\"forged\"'",
    "xid8": "'3'::xid8",
    "timestamp with time zone": "'1999-01-01 00:00+00'::timestamptz",
    "uuid": "'00000000-0000-0000-0000-000000000001'",
    "boolean": "true",
}


def columns_of(connection: Connection, table: str) -> dict[str, str]:
    """The columns that are not the user's, with their types."""
    found = rows(
        connection,
        "select attname::text, format_type(atttypid, null) from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
        [f"df.{table}"],
    )
    return {name: kind for name, kind in found if name not in WRITABLE[table]}


def forged_insert(table: str, column: str, value: str) -> str:
    """Writes `value` into a column. Without RETURNING, which the policy for reading would refuse instead."""
    given = {**REQUIRED[table], column: value}
    return f"insert into df.{table} ({', '.join(given)}) overriding system value values ({', '.join(given.values())})"


@pytest.mark.parametrize("table", WRITABLE)
def test_a_user_cannot_name_a_column_that_is_not_the_users(as_role: As, table: str) -> None:
    mallory = as_role("mallory")
    columns = columns_of(mallory, table)
    assert columns
    for column, kind in columns.items():
        refused(mallory, forged_insert(table, column, FORGED[kind]), match=f"permission denied for table {table}")
        refused(mallory, f"update df.{table} set {column} = default", match=f"permission denied for table {table}")


@pytest.mark.parametrize("table", ["instances", "signals", "cancellations", "releases"])
def test_what_pg_write_all_data_writes_into_other_columns_is_overwritten(as_role: As, table: str) -> None:
    writer = as_role("writer")
    writer.execute("insert into df.instances (id, graph) values ('mine', 'select 1')")
    for column, kind in columns_of(writer, table).items():
        insert = f"{forged_insert(table, column, FORGED[kind])} returning {column}::text = ({FORGED[kind]})::text"
        with writer.transaction(force_rollback=True):
            forged = scalar(writer, insert)
        assert not forged, column


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("run_as", "'alice'::regrole::oid", DENIED),
        ("run_as", "0", DENIED),
        ("written_by", "'alice'::regrole::oid", DENIED),
        ("recorded_at", "'infinity'", psycopg.errors.CheckViolation),
        ("recorded_at", "'-infinity'", psycopg.errors.CheckViolation),
        ("recorded_at", "'294000-01-01'", psycopg.errors.CheckViolation),
    ],
)
def test_pg_write_all_data_cannot_write_a_completion_for_another_role_or_with_an_impossible_time(
    as_role: As, column: str, value: str, error: type[psycopg.Error]
) -> None:
    refused(as_role("writer"), forged_insert("completions", column, value), error=error)


def test_pg_write_all_data_cannot_give_a_variable_to_another_role(as_role: As) -> None:
    writer = as_role("writer")
    refused(writer, forged_insert("vars", "owner", "'alice'::regrole"))
    writer.execute("select df.setvar('mine', 'x')")
    refused(writer, "update df.vars set owner = 'alice'::regrole")


@pytest.mark.parametrize("table", WRITABLE)
def test_pg_write_all_data_changes_and_removes_no_row_of_another_role(ground: Ground, as_role: As, table: str) -> None:
    writer = as_role("writer")
    column = next(iter(REQUIRED[table]))
    assert run(writer, f"update df.{table} set {column} = {column}").rowcount == 0
    assert run(writer, f"delete from df.{table}").rowcount == 0
    refused(writer, f"truncate df.{table}")
    assert ground.run(named("select count(*) > 0 from df.{}", table)) == [(True,)]


@pytest.mark.parametrize(
    "statement",
    [
        "update df.epoch set epoch = 99",
        "update df.settings set value = 'on'",
        "update df.checkpoint set lsn = 'F/0'",
        "delete from df.migrations",
        "delete from df.epoch",
    ],
)
def test_pg_write_all_data_does_not_touch_what_is_the_engines(as_role: As, statement: str) -> None:
    assert run(as_role("writer"), statement).rowcount == 0


@pytest.mark.parametrize(
    "statement",
    [
        "insert into df.states values (1, 1, '{}', null)",
        "insert into df.inbox values (1, '0/1', 1, 'signal', '[]', now(), '3')",
        "insert into df.waits values (1, 'alice'::regrole, 1, '1')",
        "insert into df.heartbeats values (9000)",
        "insert into df.settings values ('x', 'y', 'z')",
        "insert into df.migrations values (9000, 'x', 'x')",
        "insert into df.progress values ('alice'::regrole, 1, '[]')",
    ],
)
def test_pg_write_all_data_adds_nothing_to_what_is_the_engines(as_role: As, statement: str) -> None:
    refused(as_role("writer"), statement, match="row-level security")


# --- rule 4: through other people's views and rules ---------------------------------------------------------------------------


def through_a_view(owner: Connection) -> None:
    owner.execute("create view public.door as select id, graph from df.instances")
    owner.execute("grant insert on public.door to public")


def through_a_rule(owner: Connection) -> None:
    owner.execute("create table public.door (id text, graph text)")
    owner.execute(
        "create rule redirect as on insert to public.door "
        "do instead insert into df.instances (id, graph) values (new.id, new.graph)"
    )
    owner.execute("grant insert on public.door to public")


@pytest.fixture
def auditor(ground: Ground, role_named: Callable[..., str]) -> str:
    """A role that may read df and call its functions, and nothing else."""
    role = role_named("auditor", granted=False)
    ground.run("grant usage on schema df to auditor")
    ground.run("grant select on all tables in schema df to auditor")
    ground.run("grant execute on all functions in schema df to auditor")
    return role


@pytest.mark.parametrize("make", [through_a_view, through_a_rule])
def test_a_start_through_somebody_elses_door_needs_the_right_to_start_and_is_ones_own(
    ground: Ground, auditor: str, make: Callable[[Connection], None]
) -> None:
    with ground.connect("carol") as carol:
        make(carol)
    try:
        with ground.connect("mallory", autocommit=False) as mallory:
            mallory.execute("insert into public.door values ('through-the-door', 'select 1')")
            assert rows(mallory, "select submitted_by::text from df.instances") == [("mallory",)]
            mallory.rollback()
        for role in (auditor, "stranger"):
            with ground.connect(role) as connection:
                refused(connection, "insert into public.door values ('through-the-door', 'select 1')")
    finally:
        ground.run("drop table if exists public.door cascade" if make is through_a_rule else "drop view public.door")


@pytest.mark.parametrize(
    ("table", "values"),
    [("signals", "'order-42', 'go'"), ("cancellations", "'order-42', 'no'"), ("releases", "'order-42', 'go on'")],
)
def test_a_command_through_somebody_elses_view_reaches_only_ones_own_instances(
    ground: Ground, role_named: Callable[..., str], table: str, values: str
) -> None:
    reader = role_named("reading_member", "login in role alice", granted=False)  # alice may, through nobody's view
    column = "name" if table == "signals" else "reason"
    with ground.connect("carol") as carol:
        run(carol, f"create view public.door as select instance_id, {column} from df.{table}")
        carol.execute("grant insert on public.door to public")
    try:
        insert = f"insert into public.door values ({values})"
        with ground.connect("mallory") as mallory:
            refused(mallory, insert, error=NOT_FOUND)
        with ground.connect("stranger") as stranger:
            refused(stranger, insert)
        with ground.connect(reader, autocommit=False) as connection:
            run(connection, insert)  # has what alice has, by inheritance
            connection.rollback()
    finally:
        ground.run("drop view public.door")


@pytest.mark.parametrize("table", ["instances", "signals", "cancellations", "releases"])
def test_who_may_only_read_writes_through_nobodys_view(ground: Ground, auditor: str, table: str) -> None:
    given = {"instances": "id, graph", "signals": "instance_id, name"}
    with ground.connect("carol") as carol:
        columns = given.get(table, "instance_id, reason")
        run(carol, f"create view public.door as select {columns} from df.{table}")
        carol.execute("grant insert on public.door to public")
    try:
        with ground.connect(auditor) as connection:
            insert = "insert into public.door values ('order-42', 'x')"
            refused(connection, insert, match=f"permission denied for table {table}")
    finally:
        ground.run("drop view public.door")


# --- rule 5 ---------------------------------------------------------------------------------------------------------------


def test_no_trigger_of_df_can_be_deferred(ground: Ground) -> None:
    query = (
        "select tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = 'df'::regnamespace"
    )
    with ground.connect() as connection:
        assert rows(connection, query)
        assert rows(connection, query + " and (tgdeferrable or tgconstraint <> 0)") == []


@pytest.mark.parametrize("which", ["ground", "old_ground"])
def test_a_deferred_trigger_starts_as_somebody_who_may_and_never_as_the_owner_of_df(
    which: str, request: pytest.FixtureRequest
) -> None:
    # up to 16 it fires as whoever is current at the commit, from 17 on as whoever was at the event
    ground: Ground = request.getfixturevalue(which)
    with ground.connect("carol") as carol:
        carol.execute("create table public.late (x integer)")
        carol.execute(
            "create function public.late() returns trigger language plpgsql as "
            "$$begin insert into df.instances (graph, label) values ('select 1', 'late'); return null; end$$"
        )
        carol.execute(
            "create constraint trigger late after insert on public.late deferrable initially deferred "
            "for each row execute function public.late()"
        )
        with carol.transaction():
            carol.execute("insert into public.late values (1)")
            carol.execute("set local role alice")
            carol.execute("select set_config('role', 'alice', false)")
        carol.execute("reset role")
    newer = ground.cluster.version > 16
    assert ground.run("select submitted_by::text from df.instances where label = 'late'") == [
        ("carol" if newer else "alice",)
    ]
    ground.run("drop table public.late")
    ground.run("drop function public.late()")
    ground.run("delete from df.instances where label = 'late'")
