"""`walflow doctor --fix`: each statement is printed, asked for, run, and looked at again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from engine.config import load
from engine.doctor import diagnose
from engine.doctor.repairs import repair
from tests.cli.commands import walflow
from tests.cli.terminal import CTRL_C, Terminal
from tests.servers import Cluster, Database


def environment(database: Database) -> dict[str, str]:
    return {"WALFLOW_DSN": database.engine_dsn, "WALFLOW_SLOT": database.slot}


@pytest.fixture
def unpublished(database: Database) -> Database:
    """A database that lacks its publication and has a grant too much."""
    database.run("drop publication walflow")
    database.run("grant select on df.instances to public")
    return database


def fit(database: Database) -> bool:
    return walflow("doctor", **environment(database)).returncode == 0


def test_with_yes_all_is_repaired_and_each_statement_printed(unpublished: Database) -> None:
    done = walflow("doctor", "--fix", "--yes", **environment(unpublished))
    assert done.returncode == 0, done.stdout
    assert '\ncreate publication "walflow" for table ' in done.stdout
    assert "\nrevoke all on df.instances from public;\n" in done.stdout
    assert done.stdout.count("done as engine") == 2
    assert done.stdout.endswith("fit to run on\n")
    assert fit(unpublished)


def test_on_a_terminal_each_is_asked_for_and_no_is_no(unpublished: Database) -> None:
    with Terminal("doctor", "--fix", columns=500, lines=200, environment=environment(unpublished)) as terminal:
        terminal.wait_for_text("run this? [y/N]")
        terminal.send(b"n\n")
        terminal.wait_for(lambda text: text.count("run this?") == 2)
        terminal.send(b"y\n")
        assert terminal.end() == 3
    assert unpublished.run("select pubname from pg_publication") == []
    assert unpublished.run("select has_table_privilege('public', 'df.instances', 'select')") == [(False,)]


def test_ctrl_c_at_the_question_repairs_nothing(unpublished: Database) -> None:
    with Terminal("doctor", "--fix", columns=500, lines=200, environment=environment(unpublished)) as terminal:
        terminal.wait_for_text("run this? [y/N]")
        terminal.send(CTRL_C)
        assert terminal.end() != 0
        assert "Traceback" not in terminal.text
    assert unpublished.run("select pubname from pg_publication") == []


def test_where_nobody_can_be_asked_yes_has_to_be_said(unpublished: Database) -> None:
    for arguments in (["--fix"], ["--fix", "--json"]):
        done = walflow("doctor", *arguments, **environment(unpublished))
        assert (done.returncode, done.stdout) == (2, "")
        assert "Add --yes" in done.stderr
    assert unpublished.run("select pubname from pg_publication") == []
    done = walflow("doctor", "--yes", **environment(unpublished))
    assert done.returncode == 2
    assert "go with --fix" in done.stderr


def test_programs_get_what_was_run(unpublished: Database) -> None:
    done = walflow("doctor", "--fix", "--yes", "--json", **environment(unpublished))
    answer = json.loads(done.stdout)
    assert answer["fit"] is True
    assert [(made["condition"], made["role"], made["error"]) for made in answer["repairs"]] == [
        ("publication", "engine", ""),
        ("public", "engine", ""),
    ]


@pytest.fixture
def empty(server18: Cluster) -> Iterator[Database]:
    """A database without df."""
    database = server18.database(migrated=False)
    yield database
    database.drop()


def test_a_database_without_df_is_migrated(empty: Database) -> None:
    done = walflow("doctor", "--fix", "--yes", **environment(empty))
    assert done.returncode == 0, done.stdout
    assert "\nwalflow migrate;\n" not in done.stdout
    assert "\nwalflow migrate\n" in done.stdout
    assert "✓ schema: schema df is ours" in done.stdout


def test_what_the_engines_role_may_not_an_administrator_does(database: Database) -> None:
    role = database.new_role("plain", "login", granted=False)
    database.run("alter table df.vars owner to bob")
    settings = {**environment(database), "WALFLOW_REPLICATION_DSN": database.dsn(role)}
    alone = walflow("doctor", "--fix", "--yes", **settings)
    assert alone.returncode == 3
    assert "must be owner of table vars" in alone.stdout
    assert "run it as a superuser, or give --admin-dsn" in alone.stdout
    helped = walflow("doctor", "--fix", "--yes", "--admin-dsn", database.dsn("postgres"), **settings)
    assert helped.returncode == 0, helped.stdout
    assert "alter table df.vars owner to engine;" in helped.stdout
    assert f"alter role {role} replication;" in helped.stdout.replace('"', "")
    assert "done as postgres" in helped.stdout


def test_an_administrators_dsn_that_is_none_is_refused_without_repeating_it(database: Database) -> None:
    done = walflow("doctor", "--fix", "--yes", "--admin-dsn", "postgresql://a:hush@[x", **environment(database))
    assert done.returncode == 2
    assert "hush" not in done.stderr


def test_nothing_to_repair_is_nothing_to_ask(database: Database) -> None:
    done = walflow("doctor", "--fix", "--yes", **environment(database))
    assert done.returncode == 0
    assert done.stdout.count("fit to run on") == 1


def test_a_slot_that_may_be_somebodys_is_never_dropped(database: Database) -> None:
    database.run("select pg_create_physical_replication_slot(%s)", [database.slot])
    done = walflow("doctor", "--fix", "--yes", "--admin-dsn", database.dsn("postgres"), **environment(database))
    assert done.returncode == 3
    assert database.run("select slot_name from pg_replication_slots where slot_name = %s", [database.slot])


def test_wal_level_is_set_and_needs_the_restart_that_the_next_look_asks_for() -> None:
    cluster = Cluster(18, settings={"wal_level": "replica"})
    try:
        database = cluster.start().database()
        settings = load({"dsn": database.engine_dsn, "slot": database.slot}, {}).settings
        [finding] = [one for one in asyncio.run(diagnose(settings)) if one.failed]
        [statement] = finding.statements
        made = asyncio.run(repair(settings, finding.condition, statement, database.dsn("postgres")))
        assert (made.role, made.error) == ("postgres", "")
        assert database.run(
            "select setting, applied from pg_file_settings where name = 'wal_level' order by seqno desc"
        )
        assert [one.condition for one in asyncio.run(diagnose(settings)) if one.failed] == ["server"]
    finally:
        cluster.close()
