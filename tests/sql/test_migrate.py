"""Installing and upgrading: from nothing, again, at once, step by step, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql as pgsql

import sql.migrate
from engine.embedded import binaries
from sql.migrate import (
    OPTIONS,
    Migration,
    MigrationFailed,
    MigrationsDiffer,
    MissingPrivilege,
    NotConnected,
    Report,
    SchemaNotOurs,
    SchemaTooNew,
    ServerTooOld,
    connection_string,
    migrate,
    migrations,
    newest_version,
)
from tests.servers import ENGINE_ROLE, Cluster, Database, wait_until

NEWEST = newest_version()
ALL = tuple(range(1, NEWEST + 1))


@pytest.fixture
def empty(server18: Cluster) -> Iterator[Database]:
    """A database without df on the newest version."""
    made = server18.database(migrated=False)
    yield made
    made.drop()


@pytest.fixture
def each_empty(server: Cluster) -> Iterator[Database]:
    """A database without df on each version."""
    made = server.database(migrated=False)
    yield made
    made.drop()


def install(database: Database, **options: Any) -> Report:
    return migrate(database.engine_dsn, **options)


def numbers(report: Report) -> tuple[int, ...]:
    return tuple(migration.number for migration in report.applied)


def has_df(database: Database) -> bool:
    return bool(database.run("select to_regnamespace('df') is not null")[0][0])


def dump(database: Database) -> str:
    """The schema as pg_dump writes it, and the rows that migrations make."""
    directory = binaries(database.cluster.version)
    assert directory is not None
    program = str(directory / "pg_dump")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}

    def run(*arguments: str) -> str:
        return subprocess.run([program, *arguments], env=clean, check=True, capture_output=True, text=True).stdout

    # newer ones write a random key into each dump unless they are given one
    key = ["--restrict-key=key"] if "--restrict-key" in run("--help") else []
    rows = database.run("select number, name, checksum, applied_by from df.migrations order by number")
    settings = database.run("select * from df.settings order by name")
    return run("--schema-only", *key, "--dbname", database.dsn()) + f"{rows}\n{settings}"


def plus(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Let walflow have these migrations after its own."""
    following = [
        Migration(number=NEWEST + place, name=f"more{place}", text=text) for place, text in enumerate(texts, 1)
    ]
    extended = (*migrations(), *following)
    monkeypatch.setattr(sql.migrate, "migrations", lambda: extended)


# --- installing -----------------------------------------------------------------------------------------------------


def test_an_empty_database_gets_everything_in_order(each_empty: Database) -> None:
    report = install(each_empty)
    assert (report.before, report.after, numbers(report)) == (0, NEWEST, ALL)
    rows = each_empty.run("select number, name, checksum, applied_by from df.migrations order by number")
    assert rows == [(one.number, one.name, one.checksum, "engine") for one in migrations()]


def test_a_plain_login_role_with_create_on_the_database_is_enough(server: Cluster) -> None:
    """No superuser, no REPLICATION, no CREATEROLE; public may be closed to it."""
    made = server.database(migrated=False)
    try:
        owner = made.new_role("owner", granted=False)
        made.run(pgsql.SQL("grant create on database {} to {}").format(*map(pgsql.Identifier, (made.name, owner))))
        report = migrate(made.dsn(owner))
        assert numbers(report) == ALL
        assert report.operators_schema == "df"
        rows = made.run(
            """
            select nspowner::regrole::text from pg_namespace where nspname = 'df'
            union select relowner::regrole::text from pg_class where relnamespace = 'df'::regnamespace
            union select proowner::regrole::text from pg_proc where pronamespace = 'df'::regnamespace
            union select pubowner::regrole::text from pg_publication
            """
        )
        assert rows == [(owner,)]
        made.run("select df.grant_usage('alice')", role=owner)
        assert made.run("select df.start(df.seq('select 1', 'select 2'), id => 'i')", role="alice") == [("i",)]
        assert numbers(migrate(made.dsn(owner))) == ()
    finally:
        made.drop()


def test_a_schema_that_was_made_for_the_owner_is_used(empty: Database) -> None:
    empty.run(pgsql.SQL("revoke create on database {} from engine").format(pgsql.Identifier(empty.name)))
    with pytest.raises(MissingPrivilege) as caught:
        install(empty)
    assert caught.value.hint == f'Run as a superuser: grant create on database "{empty.name}" to "engine"'
    empty.run("create schema df authorization engine")
    with pytest.raises(MissingPrivilege):  # publications need it, too
        install(empty)
    empty.run(pgsql.SQL("grant create on database {} to engine").format(pgsql.Identifier(empty.name)))
    assert numbers(install(empty)) == ALL


def test_a_second_time_changes_nothing(each_database: Database) -> None:
    before = dump(each_database)
    report = install(each_database)
    assert (report.before, report.after, report.applied) == (NEWEST, NEWEST, ())
    assert dump(each_database) == before


def test_a_second_time_waits_for_no_user(database: Database) -> None:
    with database.connect("alice", autocommit=False) as alice:
        alice.execute("select df.setvar('a', 'b'), df.start('select 1', id => 'i'), df.signal('i', 'go')")
        impatient = database.dsn(ENGINE_ROLE, options="-c lock_timeout=3s")
        assert migrate(impatient).applied == ()
        alice.rollback()


# --- at once --------------------------------------------------------------------------------------------------------


def test_several_at_once_on_an_empty_database_make_one_schema(each_empty: Database) -> None:
    count = 4
    reports: list[Report] = []
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def one() -> None:
        barrier.wait()
        try:
            reports.append(install(each_empty))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(map(numbers, reports)) == [(), (), (), ALL]
    assert {report.after for report in reports} == {NEWEST}
    assert each_empty.run("select count(*) from df.migrations") == [(NEWEST,)]


def test_who_comes_second_waits_and_finds_nothing_to_do(empty: Database) -> None:
    install(empty, target=NEWEST - 1)
    reports: list[Report] = []
    with empty.connect(ENGINE_ROLE, autocommit=False) as first:
        first.execute("lock table df.migrations in access exclusive mode")
        second = threading.Thread(target=lambda: reports.append(install(empty)))
        second.start()
        wait_until(
            lambda: empty.run("select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like 'lock%'"),
            what="the second waits for the lock",
        )
        last = migrations()[-1]
        first.execute(last.text.encode())
        first.execute(
            "insert into df.migrations (number, name, checksum) values (%s, %s, %s)",
            [last.number, last.name, last.checksum],
        )
        first.commit()
    second.join()
    assert [numbers(report) for report in reports] == [()]


@pytest.mark.parametrize("mode", ["access share", "row exclusive", "access exclusive"])
def test_users_cannot_take_the_lock_that_migrations_take(database: Database, mode: str) -> None:
    with database.connect("alice") as alice, pytest.raises(psycopg.errors.InsufficientPrivilege), alice.transaction():
        alice.execute(f"lock table df.migrations in {mode} mode".encode())


def test_the_lock_that_migrations_take_stops_no_user(database: Database) -> None:
    with database.connect(ENGINE_ROLE, autocommit=False) as engine, database.connect("alice") as alice:
        engine.execute("lock table df.migrations in access exclusive mode")
        alice.execute("set lock_timeout to '3s'")
        assert alice.execute("select df.start('select 1', id => 'i')").fetchone() == ("i",)


# --- dry run --------------------------------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_its_script_does_the_same(server18: Cluster, empty: Database) -> None:
    report = install(empty, dry_run=True)
    assert report.dry_run
    assert (report.before, report.after, numbers(report)) == (0, NEWEST, ALL)
    assert not has_df(empty)
    with psycopg.connect(empty.dsn(ENGINE_ROLE, options=OPTIONS), autocommit=True) as connection:
        connection.execute(report.sql.encode())
    other = server18.database(migrated=False)
    try:
        done = install(other)
        assert done.sql == report.sql
        assert dump(empty) == dump(other)
    finally:
        other.drop()
    assert install(empty).applied == ()


def test_a_dry_run_of_an_upgrade_shows_only_what_is_new(empty: Database) -> None:
    install(empty, target=NEWEST - 1)
    before = dump(empty)
    report = install(empty, dry_run=True)
    assert numbers(report) == ALL[-1:]
    assert migrations()[-1].text.rstrip().removesuffix(";") in report.sql
    assert "create schema" not in report.sql
    assert migrations()[0].text not in report.sql
    assert dump(empty) == before


# --- upgrading ------------------------------------------------------------------------------------------------------


def test_a_fresh_install_and_one_upgraded_step_by_step_are_the_same(server: Cluster) -> None:
    fresh, upgraded = server.database(migrated=False), server.database(migrated=False)
    try:
        install(fresh)
        for number in ALL:
            assert numbers(install(upgraded, target=number)) == (number,)
        assert dump(fresh) == dump(upgraded)
    finally:
        fresh.drop()
        upgraded.drop()


def test_two_dumps_differ_when_a_schema_does(empty: Database) -> None:
    """What the comparison above is worth."""
    install(empty)
    before = dump(empty)
    for change in ("comment on table df.vars is 'x'", "grant select on df.inbox to alice", "drop publication walflow"):
        empty.run(change)
        after = dump(empty)
        assert after != before
        before = after


def test_who_has_df_gets_what_an_upgrade_brings_and_nobody_else_does(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    delegate = database.new_role("delegate", granted=False)
    stranger = database.new_role("stranger", granted=False)
    database.run("select df.grant_usage(quote_ident(%s)::regrole, with_grant => true)", [delegate], role=ENGINE_ROLE)
    plus(
        monkeypatch,
        """
        create function df.brand_new() returns integer language sql return 1;
        comment on function df.brand_new() is 'api: for users';
        create function df.internal() returns integer language sql return 1;
        comment on function df.internal() is 'for the engine';
        create type df.pair as (a integer, b integer);
        """,
    )
    report = install(database)
    assert numbers(report) == (NEWEST + 1,)
    may = "select has_function_privilege(%s, %s, %s)"
    assert database.run(may, ["alice", "df.brand_new()", "execute"]) == [(True,)]
    assert database.run(may, [delegate, "df.brand_new()", "execute with grant option"]) == [(True,)]
    assert database.run(may, ["alice", "df.brand_new()", "execute with grant option"]) == [(False,)]
    assert database.run(may, ["alice", "df.internal()", "execute"]) == [(False,)]
    assert database.run(may, [stranger, "df.brand_new()", "execute"]) == [(False,)]
    assert database.run("select has_type_privilege('alice', 'df.pair', 'usage')") == [(False,)]


def test_nothing_of_df_is_publics_afterwards(each_database: Database) -> None:
    for grant in (
        "grant usage on schema df to public",
        "grant execute on all functions in schema df to public",
        "grant select on all tables in schema df to public",
        "grant usage on all sequences in schema df to public",
    ):
        each_database.run(grant, role=ENGINE_ROLE)
    install(each_database)
    left = each_database.run(
        """
        select 'schema', nspname from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) as a
         where nspname = 'df' and a.grantee = 0
        union all
        select 'relation', relname
          from pg_class,
               aclexplode(coalesce(relacl, acldefault(case relkind when 'S' then 's'::"char" else 'r' end, relowner))) as a
         where relnamespace = 'df'::regnamespace and a.grantee = 0
        union all
        select 'function', proname from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) as a
         where pronamespace = 'df'::regnamespace and a.grantee = 0
        union all
        select 'type', typname from pg_type, aclexplode(coalesce(typacl, acldefault('T', typowner))) as a
         where typnamespace = 'df'::regnamespace and typtype <> 'b' and a.grantee = 0
        """
    )
    assert left == []


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_schema_newer_than_this_walflow_is_left_alone(database: Database) -> None:
    number = NEWEST + 1
    database.run("insert into df.migrations (number, name, checksum) values (%s, 'later', 'x')", [number], ENGINE_ROLE)
    with pytest.raises(SchemaTooNew) as caught:
        install(database)
    assert str(caught.value) == f"schema df is version {number}, this walflow knows versions up to {NEWEST}"
    assert caught.value.hint == "Install the walflow that upgraded it, or a newer one."
    with pytest.raises(SchemaTooNew):
        install(database, dry_run=True)


@pytest.mark.parametrize("change", ["checksum = 'x'", "name = 'other'"])
def test_a_migration_that_was_applied_with_another_text_is_refused(database: Database, change: str) -> None:
    second = migrations()[1]
    database.run(pgsql.SQL(f"update df.migrations set {change} where number = 2"), role=ENGINE_ROLE)
    with pytest.raises(MigrationsDiffer) as caught:
        install(database)
    name = "other" if "name" in change else second.name
    assert str(caught.value) == f"migration {second.file_name} was applied with another text ({name})"
    assert caught.value.hint.startswith("Migrations never change once released")


def test_a_gap_in_what_was_applied_is_refused(database: Database) -> None:
    database.run("delete from df.migrations where number = 3", role=ENGINE_ROLE)
    with pytest.raises(MigrationsDiffer, match=f"migration {migrations()[2].file_name} is missing"):
        install(database)


def test_a_migration_that_fails_says_where_and_leaves_everything_as_it_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(database)
    plus(monkeypatch, "create table df.fine (a integer);", "select 1;\n\nselect no_such_column;\n")
    with pytest.raises(MigrationFailed) as caught:
        install(database)
    number = NEWEST + 2
    assert (caught.value.number, caught.value.line) == (number, 3)
    assert str(caught.value) == f'{number:04}_more2.sql, line 3: column "no_such_column" does not exist (42703)'
    assert dump(database) == before


def test_a_migration_waits_for_a_table_only_so_long_and_says_what_to_do(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    plus(monkeypatch, "alter table df.instances add column later integer;")
    monkeypatch.setattr(sql.migrate, "LOCK_TIMEOUT_SECONDS", 1)
    with database.connect("alice", autocommit=False) as user:
        user.execute("select 1 from df.instances")
        with pytest.raises(MigrationFailed, match="lock timeout") as failed:
            install(database)
    assert "long transaction" in str(failed.value.hint)
    assert len(numbers(install(database))) == 1


def test_a_migration_that_divides_by_zero_has_no_line(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    plus(monkeypatch, "select 1 / 0;")
    with pytest.raises(MigrationFailed, match=r"_more1\.sql: division by zero \(22012\)") as caught:
        install(database)
    assert caught.value.line is None


def test_the_schema_of_another_role_is_refused(database: Database) -> None:
    other = database.new_role("other", granted=False)
    with pytest.raises(SchemaNotOurs) as caught:
        migrate(database.dsn(other))
    assert str(caught.value) == f"schema df belongs to engine, not to {other}"
    assert caught.value.hint == "Run walflow migrate as engine."


def test_a_superuser_does_not_migrate_the_schema_of_another_role(empty: Database) -> None:
    install(empty, target=NEWEST - 1)
    with pytest.raises(SchemaNotOurs, match="schema df belongs to another role, and there is something to migrate"):
        migrate(empty.dsn())


def test_a_schema_df_that_is_not_walflows_is_refused(empty: Database) -> None:
    empty.run("create schema df authorization engine")
    empty.run("create table df.frames (a integer)", role=ENGINE_ROLE)
    with pytest.raises(SchemaNotOurs, match="schema df has contents that are not walflow's"):
        install(empty)
    empty.run("drop table df.frames", role=ENGINE_ROLE)
    assert numbers(install(empty)) == ALL


def test_a_server_that_is_too_old_is_refused(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql.migrate, "MINIMUM_SERVER", 99)
    with pytest.raises(ServerTooOld) as caught:
        install(empty)
    assert str(caught.value) == "the server is PostgreSQL 18, walflow needs 99 or later"
    assert not has_df(empty)


def test_a_server_that_is_away_is_refused_with_the_setting_to_check() -> None:
    with pytest.raises(NotConnected) as caught:
        migrate("host=127.0.0.1 port=1 user=engine dbname=nowhere connect_timeout=2")
    assert caught.value.hint == "Check the connection string (WALFLOW_DSN)."


# --- the connection and the files -----------------------------------------------------------------------------------


def test_the_options_of_migrate_come_last(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    show = "select current_setting('search_path'), current_setting('work_mem'), current_setting('application_name')"
    for dsn, variable in (
        (database.dsn(ENGINE_ROLE, options="-c search_path=public -c work_mem=1MB"), "-c work_mem=2MB"),
        (database.cluster.server.dsn(user=ENGINE_ROLE, dbname=database.name), "-c search_path=public -c work_mem=1MB"),
    ):
        monkeypatch.setenv("PGOPTIONS", variable)
        with psycopg.connect(connection_string(dsn)) as connection:
            assert connection.execute(show).fetchone() == ("pg_catalog,pg_temp", "1MB", "walflow-cli")


def test_settings_of_the_role_and_the_database_do_not_reach_a_migration(empty: Database) -> None:
    for setting in ("search_path = public", "standard_conforming_strings = off", "check_function_bodies = off"):
        empty.run(pgsql.SQL("alter database {} set " + setting).format(pgsql.Identifier(empty.name)))
    assert numbers(install(empty)) == ALL


def test_migrations_are_numbered_without_gaps_and_each_has_a_name_of_its_own() -> None:
    assert tuple(migration.number for migration in migrations()) == ALL
    assert len({migration.name for migration in migrations()}) == len(ALL)
    assert len({migration.checksum for migration in migrations()}) == len(ALL)
