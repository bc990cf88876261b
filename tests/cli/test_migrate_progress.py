"""What `walflow migrate` says while it works, and to programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from engine.cli.migrate import described
from sql.migrate import Stage, migrate, migrations, newest_version
from tests.cli.commands import walflow
from tests.cli.terminal import CTRL_C, Terminal
from tests.servers import Cluster, Database, wait_until


@pytest.fixture
def empty(server18: Cluster) -> Iterator[Database]:
    """A database without df."""
    database = server18.database(migrated=False)
    yield database
    database.drop()


def test_each_stage_is_told_in_order(empty: Database) -> None:
    stages: list[Stage] = []
    migrate(empty.engine_dsn, tell=stages.append)
    files = [stage.what for stage in stages if stage.number]
    assert files == [migration.file_name for migration in migrations()]
    assert described(stages[1]) == f"{files[0]} (1 of {newest_version()})"
    assert {stage.backend for stage in stages if stage.number} == {stages[0].backend}


def test_looking_alone_tells_nothing(empty: Database) -> None:
    stages: list[Stage] = []
    migrate(empty.engine_dsn, dry_run=True, tell=stages.append)
    assert stages == []


def test_a_log_has_a_line_a_migration_beside_the_output(empty: Database) -> None:
    done = walflow("migrate", WALFLOW_DSN=empty.engine_dsn)
    assert done.returncode == 0
    assert done.stdout == f"schema df is installed, version {newest_version()}\n"
    assert f"walflow: 0001_tables.sql (1 of {newest_version()})\n" in done.stderr
    assert walflow("migrate", WALFLOW_DSN=empty.engine_dsn).stderr == ""


def test_programs_get_what_was_applied(empty: Database) -> None:
    answer = json.loads(walflow("migrate", "--json", WALFLOW_DSN=empty.engine_dsn).stdout)
    assert (answer["before"], answer["after"], answer["dry_run"]) == (0, newest_version(), False)
    assert answer["applied"][0] == "0001_tables.sql"
    again = json.loads(walflow("migrate", "--json", "--dry-run", WALFLOW_DSN=empty.engine_dsn).stdout)
    assert again["applied"] == []
    assert again["sql"].startswith("begin;")


def test_who_is_waited_for_is_named_and_ctrl_c_leaves_all_as_it_was(database: Database) -> None:
    with database.connect("engine", autocommit=False) as holder:
        holder.execute("lock table df.migrations in access exclusive mode")
        with Terminal("migrate", environment={"WALFLOW_DSN": database.engine_dsn}) as terminal:
            terminal.wait_for(
                lambda text: f"waits for backend {holder.info.backend_pid}" in " ".join(text.split()), "the holder"
            )
            terminal.send(CTRL_C)
            assert terminal.end() == 130
            assert terminal.restored
            assert "Traceback" not in terminal.text
    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    wait_until(lambda: not database.run(waiting))
