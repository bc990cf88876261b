"""Every condition, broken on a real server, is named by the doctor and repaired by the statement that it gives."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql as pgsql

from engine.config import Settings, load
from engine.doctor import Finding, Severity, diagnose, failed
from engine.doctor.findings import no_login
from tests.servers import Cluster, Database, wait_until


def settings_for(database: Database, **given: str) -> Settings:
    flags: dict[str, str | None] = {"dsn": database.engine_dsn, "slot": database.slot, **given}
    return load(flags, {}, terminal=False).settings


def findings_of(database: Database, **given: str) -> list[Finding]:
    return asyncio.run(diagnose(settings_for(database, **given)))


def bad(findings: list[Finding]) -> list[tuple[str, Severity]]:
    return [(finding.condition, finding.severity) for finding in findings if finding.severity is not Severity.OK]


def only_bad(database: Database, **given: str) -> Finding:
    [finding] = [finding for finding in findings_of(database, **given) if finding.severity is not Severity.OK]
    return finding


def repair(database: Database, finding: Finding, role: str = "engine") -> None:
    """Do what the doctor said, to the letter."""
    with database.connect(role) as connection:
        connection.execute(finding.repair.encode())


# -- healthy ----------------------------------------------------------------------------------------------------------


def test_a_migrated_database_is_fit_on_every_version(each_database: Database) -> None:
    findings = findings_of(each_database)
    assert bad(findings) == []
    assert {finding.condition for finding in findings} == {
        *("connection", "role", "encoding", "schema", "server", "replication", "slot", "owner", "publication"),
        *("public", "steps"),
    }


def test_an_owner_without_replication_and_a_second_role_with_it_are_fit(server18: Cluster) -> None:
    database = server18.database(migrated=False)
    try:
        owner = database.new_role("owner", "login", granted=False)
        database.run(pgsql.SQL("grant create on database {} to {}").format(*names(database.name, owner)))
        database.migrate(owner)
        findings = findings_of(database, dsn=database.dsn(owner), replication_dsn=database.dsn("reader"))
        assert bad(findings) == [("steps", Severity.WARNING)]  # nobody was granted df yet
    finally:
        database.drop()


def test_looking_changes_nothing(database: Database) -> None:
    findings_of(database)
    assert database.run("select * from pg_replication_slots where database = current_database()") == []
    assert database.run("select epoch, slot_name from df.checkpoint") == [(0, None)]


# -- server and roles -------------------------------------------------------------------------------------------------


def test_a_server_that_is_away_is_one_finding_and_no_exception(database: Database) -> None:
    finding = only_bad(database, dsn=database.dsn("engine", port=1))
    assert finding.condition == "connection"
    assert finding.failed
    assert finding.away


def test_a_role_that_is_refused_is_not_mistaken_for_a_server_that_is_away(database: Database) -> None:
    finding = only_bad(database, dsn=database.dsn("nobody_of_that_name"))
    assert finding.condition == "connection"
    assert not finding.away


def test_a_login_that_had_no_answer_in_time_found_the_server_away_though_it_answers_by_now(database: Database) -> None:
    late = psycopg.errors.ConnectionTimeout("connection timeout expired")
    assert asyncio.run(no_login("connection", "dsn", database.engine_dsn, late)).away


@pytest.mark.parametrize(
    "message", ["remaining connection slots are reserved", 'too many connections for role "engine"']
)
def test_a_server_that_is_full_is_away(database: Database, message: str) -> None:
    full = psycopg.OperationalError(f"FATAL:  {message}")
    assert asyncio.run(no_login("connection", "dsn", database.engine_dsn, full)).away


def test_a_reader_that_is_refused_may_be_let_in_later(database: Database) -> None:
    """By a server that had let it in before: the engine waits for that."""
    finding = only_bad(database, replication_dsn=database.dsn("nobody_of_that_name"))
    assert (finding.condition, finding.away, finding.refused) == ("replication", False, True)


def test_wal_level_is_named() -> None:
    cluster = Cluster(18, settings={"wal_level": "replica"})
    try:
        cluster.start()
        finding = only_bad(cluster.database())
        assert finding.condition == "server"
        assert finding.failed
        assert "wal_level is replica" in finding.what
        assert "wal_level = " in finding.repair
    finally:
        cluster.close()


def test_a_role_without_replication_is_named_with_the_statement(database: Database) -> None:
    finding = only_bad(database, replication_dsn=database.dsn("alice"))
    assert finding.condition == "replication"
    assert finding.failed
    assert "alter role" in finding.repair


def test_replication_from_another_database_is_named(database: Database, server18: Cluster) -> None:
    other = server18.database()
    try:
        finding = only_bad(database, replication_dsn=other.dsn("reader"))
        assert finding.condition == "replication"
        assert finding.failed
    finally:
        other.drop()


def test_a_superuser_is_a_warning(database: Database) -> None:
    findings = findings_of(database, dsn=database.dsn("postgres"))
    assert ("role", Severity.WARNING) in bad(findings)


def test_sql_ascii_is_a_warning(server18: Cluster) -> None:
    database = server18.database(migrated=False, encoding="SQL_ASCII")
    try:
        database.migrate()
        assert ("encoding", Severity.WARNING) in bad(findings_of(database))
        assert failed(findings_of(database)) == []
    finally:
        database.drop()


# -- schema -----------------------------------------------------------------------------------------------------------


def test_a_database_without_df_is_told_to_migrate(server18: Cluster) -> None:
    database = server18.database(migrated=False)
    try:
        finding = only_bad(database)
        assert (finding.condition, finding.repair) == ("schema", "walflow migrate")
    finally:
        database.drop()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("delete from df.migrations where number = (select max(number) from df.migrations)", "walflow migrate"),
        ("insert into df.migrations (number, name, checksum) values (9999, 'future', 'x')", "upgrade walflow"),
    ],
)
def test_another_version_of_the_schema_is_named(database: Database, change: LiteralString, said: str) -> None:
    database.run(change)
    finding = only_bad(database)
    assert finding.condition == "schema"
    assert finding.failed
    assert finding.repair == said


def test_a_schema_of_another_role_is_named(database: Database) -> None:
    [finding] = failed(findings_of(database, dsn=database.dsn("alice"), replication_dsn=database.dsn("reader")))
    assert finding.condition == "schema"
    assert "belongs to engine" in finding.what


def test_a_table_of_another_role_is_named_and_repaired(database: Database) -> None:
    database.run("alter table df.vars owner to bob")
    database.run("alter function df.new_id() owner to bob")
    finding = only_bad(database)
    assert finding.condition == "owner"
    assert finding.failed
    repair(database, finding, role="postgres")
    assert bad(findings_of(database)) == []


@pytest.mark.parametrize(
    "grant",
    [
        "grant usage on schema df to public",
        "grant select on df.instances to public",
        "grant execute on function df.me() to public",
        "grant usage on type df.instances to public",
    ],
)
def test_what_is_granted_to_public_is_named_and_repaired(database: Database, grant: LiteralString) -> None:
    database.run(grant)
    finding = only_bad(database)
    assert finding.condition == "public"
    assert finding.failed
    repair(database, finding)
    assert bad(findings_of(database)) == []


# -- publication ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "drop publication walflow",
        "alter publication walflow drop table df.heartbeats",
        "alter publication walflow set table df.instances",
        "alter publication walflow set (publish = 'update')",
        "alter publication walflow drop table df.signals; alter publication walflow add table df.signals (owner, name)",
        "alter publication walflow drop table df.waits; "
        "alter publication walflow add table df.waits where (instance_key > 5)",
    ],
)
def test_an_incomplete_publication_is_named_and_repaired(database: Database, change: LiteralString) -> None:
    database.run(change)
    finding = only_bad(database)
    assert finding.condition == "publication"
    assert finding.failed
    repair(database, finding)
    assert bad(findings_of(database)) == []


def test_the_publication_that_a_migration_makes_is_exactly_the_one_that_is_checked(each_database: Database) -> None:
    tables: LiteralString = "select tablename, attnames, rowfilter from pg_publication_tables order by 1"
    kinds: LiteralString = "select pubinsert, pubupdate, pubdelete, pubtruncate from pg_publication"
    made = each_database.run(tables)
    assert each_database.run(kinds) == [(True, False, False, False)]
    each_database.run("drop publication walflow")
    repair(each_database, only_bad(each_database))
    assert each_database.run(tables) == made
    assert each_database.run(kinds) == [(True, False, False, False)]


# -- slot -------------------------------------------------------------------------------------------------------------


def test_a_slot_of_another_kind_is_named_and_can_be_dropped(database: Database) -> None:
    database.run("select pg_create_physical_replication_slot(%s)", [database.slot])
    finding = only_bad(database)
    assert finding.condition == "slot"
    assert finding.failed
    database.run("select pg_drop_replication_slot(%s)", [database.slot])
    assert bad(findings_of(database)) == []


def test_a_slot_of_another_database_is_named(database: Database, server18: Cluster) -> None:
    other = server18.database()
    try:
        other.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [database.slot])
        finding = only_bad(database)
        assert finding.condition == "slot"
        assert finding.failed
    finally:
        other.drop()


def test_an_invalidated_slot_is_a_warning_since_the_next_leader_makes_another(database: Database) -> None:
    database.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [database.slot])
    with max_slot_wal_keep_size(database, "1MB"):
        for _ in range(3):
            database.run("select pg_logical_emit_message(true, 'x', 'x')")
            database.run("select pg_switch_wal()")
        database.run("checkpoint")
        finding = only_bad(database)
    assert (finding.condition, finding.severity) == ("slot", Severity.WARNING)


@contextmanager
def max_slot_wal_keep_size(database: Database, size: LiteralString) -> Iterator[None]:
    def reload(expected: str) -> None:
        database.run("select pg_reload_conf()")
        wait_until(lambda: database.run("show max_slot_wal_keep_size") == [(expected,)])

    database.run(pgsql.SQL("alter system set max_slot_wal_keep_size = {}").format(size))
    reload(size)
    try:
        yield
    finally:
        database.run("alter system reset max_slot_wal_keep_size")
        reload("-1")


def test_no_room_for_the_slot_is_named(database: Database) -> None:
    fill = """
        select pg_create_physical_replication_slot('filler_' || replace(gen_random_uuid()::text, '-', '_'))
          from generate_series(1, 1 + current_setting('max_replication_slots')::int)
    """

    def found() -> list[Finding]:
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            database.run(fill)  # again: a slot of another database may have gone meanwhile
        return [finding for finding in findings_of(database) if finding.severity is not Severity.OK]

    try:
        [finding] = wait_until(found)
    finally:
        database.run("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name ~ '^filler'")
    assert finding.condition == "slot"
    assert finding.failed
    assert "max_replication_slots" in finding.repair


@pytest.mark.parametrize(
    ("application_name", "expected"),
    [("pg_recvlogical", [("slot", Severity.ERROR)]), ("walflow-leader", [])],
)
def test_a_slot_that_something_else_reads_is_occupied_but_a_leader_may_read_it(
    database: Database, application_name: str, expected: list[tuple[str, Severity]]
) -> None:
    database.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [database.slot])
    with psycopg.connect(
        database.dsn("reader", application_name=application_name), replication="database", autocommit=True
    ) as reader:
        command = f"START_REPLICATION SLOT {database.slot} LOGICAL 0/0 (proto_version '1', publication_names 'walflow')"
        reader.pgconn.exec_(command.encode())
        findings = findings_of(database)
        reader.pgconn.finish()
    assert bad(findings) == expected


@pytest.mark.parametrize(
    "change",
    [
        "update df.checkpoint set system_identifier = '1', slot_name = %(slot)s",
        "update df.checkpoint set system_identifier = %(system)s, slot_name = 'another'",
        "update df.checkpoint set system_identifier = %(system)s, slot_name = %(slot)s, lsn = '0/1'",
        "update df.checkpoint set system_identifier = %(system)s, slot_name = %(slot)s, lsn = 'FFFF/1'",
    ],
)
def test_a_stored_position_that_does_not_fit_the_slot_is_a_warning(database: Database, change: LiteralString) -> None:
    database.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [database.slot])
    [(system,)] = database.run("select system_identifier::text from pg_control_system()")
    database.run(change, {"system": system, "slot": database.slot})
    finding = only_bad(database)
    assert (finding.condition, finding.severity) == ("position", Severity.WARNING)


def test_a_stored_position_that_fits_is_said_to(database: Database) -> None:
    database.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [database.slot])
    [(system,)] = database.run("select system_identifier::text from pg_control_system()")
    database.run(
        "update df.checkpoint set system_identifier = %s, slot_name = %s, lsn = pg_current_wal_flush_lsn()",
        [system, database.slot],
    )
    findings = findings_of(database)
    assert bad(findings) == []
    assert "position" in {finding.condition for finding in findings}


# -- steps ------------------------------------------------------------------------------------------------------------


def test_a_role_that_pg_hba_refuses_is_a_warning(database: Database) -> None:
    role = database.new_role("refused")
    file = database.cluster.server.data_dir / "pg_hba.conf"
    before = file.read_text()
    file.write_text(f"host all {role} 127.0.0.1/32 reject\n{before}")
    try:
        database.cluster.server.reload()
        wait_until(lambda: bad(findings_of(database)) == [("steps", Severity.WARNING)])
        assert role in only_bad(database).repair
    finally:
        file.write_text(before)
        database.cluster.server.reload()


def test_steps_in_another_database_are_a_warning(database: Database) -> None:
    findings = findings_of(database, step_dsn=database.cluster.server.dsn(user="", dbname="postgres"))
    assert {finding for finding in bad(findings)} == {("steps", Severity.WARNING)}


def test_names_with_quotes_break_no_statement(server18: Cluster) -> None:
    database = server18.database()
    try:
        database.run('alter publication walflow rename to "wal""flow"')
        assert bad(findings_of(database, publication='wal"flow')) == []
        finding = only_bad(database, publication='other"one')
        repair(database, finding)
        assert bad(findings_of(database, publication='other"one')) == []
    finally:
        database.drop()


def names(*values: str) -> list[Any]:
    return [pgsql.Identifier(value) for value in values]
