"""The commands of whoever runs the engine: exit codes, streams, and output for people and for programs."""

from __future__ import annotations

import io
import json

import pytest

from engine.cli.doctor import mark
from engine.cli.output import Out
from engine.config import SETTINGS
from engine.doctor import Severity
from metrics.collect import walflow_version
from tests.cli.commands import walflow
from tests.servers import Cluster, Database

COMMANDS = (
    *("list", "show", "explain", "history", "start", "signal", "cancel", "retry"),
    *("top", "run", "migrate", "doctor", "dev"),
)


def test_the_version_is_printed() -> None:
    done = walflow("--version")
    assert (done.returncode, done.stdout) == (0, f"walflow {walflow_version()}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = walflow(command, "--help")
    assert done.returncode == 0
    assert f"Example: walflow {command}" in done.stdout


def test_run_has_a_flag_for_every_setting() -> None:
    text = walflow("run", "--help").stdout
    assert all(setting.flag in text and setting.variable in text for setting in SETTINGS)


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--nonsense"], ["run", "--grace", "soon"]])
def test_wrong_usage_is_exit_2_on_stderr(arguments: list[str]) -> None:
    done = walflow(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr != ""


def test_an_unknown_variable_is_exit_2_with_the_list_of_settings() -> None:
    done = walflow("run", "--show-settings", WALFLOW_NONSENSE="1")
    assert done.returncode == 2
    assert "WALFLOW_NONSENSE" in done.stderr
    assert "step_connections_per_role" in done.stderr


def test_settings_are_shown_with_their_sources_and_without_secrets() -> None:
    done = walflow("run", "--show-settings", "--slot", "mine", WALFLOW_DSN="postgresql://engine:hush@db/app")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines["slot"].endswith("(--slot)")
    assert lines["dsn"].endswith("(WALFLOW_DSN)")
    assert lines["grace"].endswith("(default)")
    assert "hush" not in done.stdout


def test_settings_are_shown_to_programs() -> None:
    done = walflow("run", "--show-settings", "--json", WALFLOW_DSN="postgresql://engine:hush@db/app")
    answer = json.loads(done.stdout)
    assert answer["grace"] == {"value": "10s", "source": "default"}
    assert answer["dsn"]["source"] == "WALFLOW_DSN"
    assert "hush" not in done.stdout
    assert walflow("run", "--json").returncode == 2


def test_doctor_is_exit_0_on_a_fit_database(database: Database) -> None:
    done = walflow("doctor", WALFLOW_DSN=database.engine_dsn, WALFLOW_SLOT=database.slot)
    assert done.returncode == 0, done.stdout
    assert "✓ publication" in done.stdout
    assert "\x1b" not in done.stdout


def test_doctor_is_exit_3_with_the_statement_on_an_unfit_one(database: Database) -> None:
    database.run("drop publication walflow")
    done = walflow("doctor", WALFLOW_DSN=database.engine_dsn, WALFLOW_SLOT=database.slot)
    assert done.returncode == 3
    assert "✗ publication" in done.stdout
    assert "create publication" in done.stdout


def test_doctor_speaks_json_to_programs(database: Database) -> None:
    done = walflow("doctor", "--json", WALFLOW_DSN=database.engine_dsn, WALFLOW_SLOT=database.slot)
    answer = json.loads(done.stdout)
    assert answer["fit"] is True
    assert {"condition": "public", "severity": "ok"}.items() <= next(
        finding.items() for finding in answer["findings"] if finding["condition"] == "public"
    )


def test_doctor_of_a_server_that_is_away_is_exit_3_and_names_it(database: Database) -> None:
    done = walflow("doctor", WALFLOW_DSN=database.dsn("engine", port=1))
    assert done.returncode == 3
    assert "✗ connection" in done.stdout


def test_marks_are_words_where_the_encoding_has_no_signs() -> None:
    def out(encoding: str) -> Out:
        return Out(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))

    assert str(mark(Severity.OK, out("utf-8"))) == "✓"
    assert str(mark(Severity.ERROR, out("ascii"))) == "FAILED"


def test_migrate_installs_and_says_so_and_may_be_repeated(server18: Cluster) -> None:
    database = server18.database(migrated=False)
    try:
        dry = walflow("migrate", "--dry-run", WALFLOW_DSN=database.engine_dsn)
        assert "create table df.instances" in dry.stdout
        assert database.run("select to_regnamespace('df') is null") == [(True,)]
        first = walflow("migrate", WALFLOW_DSN=database.engine_dsn)
        assert (first.returncode, first.stdout.split(",")[0]) == (0, "schema df is installed")
        again = walflow("migrate", WALFLOW_DSN=database.engine_dsn)
        assert (again.returncode, "already" in again.stdout) == (0, True)
    finally:
        database.drop()


def test_migrate_without_the_privilege_is_exit_3_with_the_statement(server18: Cluster) -> None:
    database = server18.database(migrated=False)
    try:
        done = walflow("migrate", WALFLOW_DSN=database.dsn("alice"))
        assert done.returncode == 3
        assert "grant create on database" in done.stderr
    finally:
        database.drop()
