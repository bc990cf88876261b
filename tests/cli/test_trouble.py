"""What goes wrong in the world: said as what, where and what to do, with the exit code that scripts know, and no traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator

import pytest

from engine.cli import app as app_module
from tests.cli.commands import Shell, environment_of, in_utf8, walflow
from tests.cli.terminal import CTRL_C, Terminal
from tests.servers import Cluster, wait_until
from tests.workflows import World

OF_AN_ID = (["show"], ["explain"], ["history"], ["cancel"], ["retry"])
ASKING = (["list"], *([*command, "x-1"] for command in OF_AN_ID), ["signal", "x-1", "go"], ["top", "--once"])


# -- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [*OF_AN_ID, ["show", "--watch"]], ids=" ".join)
def test_an_unknown_id_is_exit_2_and_says_where_to_look(alice: Shell, command: list[str]) -> None:
    said = alice.refused(*command, "nobody-has-this-1")
    assert said.startswith("walflow: Instance not found or access denied: nobody-has-this-1\n")
    assert "walflow list shows what role alice sees" in said


def test_an_unknown_id_is_exit_2_for_a_signal_too(alice: Shell) -> None:
    assert "Instance not found or access denied: nobody-1" in alice.refused("signal", "nobody-1", "go")


def test_anothers_instance_is_as_unknown_as_none(town: World, alice: Shell) -> None:
    town.start("select 1", id="bobs-alone", role="bob")
    assert "Instance not found or access denied: bobs-alone" in alice.refused("cancel", "bobs-alone")


def test_explain_wants_one_thing_to_explain(alice: Shell) -> None:
    assert "needs either an instance's ID or --file" in alice.refused("explain")
    assert "needs either" in alice.refused("explain", "x-1", "--file", "-", stdin="select 1")


@pytest.mark.parametrize("arguments", [["list", "--label", "\udcff"], ["show", "\udcff"], ["signal", "x\udcff", "go"]])
def test_an_argument_that_is_no_text_is_exit_2(alice: Shell, arguments: list[str]) -> None:
    assert "not text in UTF-8" in alice.refused(*arguments)


def test_a_nul_in_a_file_is_exit_2(alice: Shell) -> None:
    assert "NUL" in alice.refused("start", "-", stdin="select 1 \0")


# -- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_a_server_that_is_away_is_exit_3(town: World, command: list[str]) -> None:
    away = ["--url", "http://127.0.0.1:1"] if command[0] == "top" else []
    done = walflow(*command, *away, "--dsn", "host=127.0.0.1 port=1 user=alice dbname=x")
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    assert "port 1 failed" in done.stderr
    assert "--dsn" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dsn_that_is_none_is_exit_2_and_not_repeated() -> None:
    done = walflow("list", "--dsn", "postgresql://alice:hush@[nowhere")
    assert done.returncode == 2
    assert "--dsn: it must be a libpq connection string" in done.stderr
    assert "hush" not in done.stderr


def test_a_database_that_is_not_there_is_exit_3(town: World) -> None:
    done = walflow("list", **{**environment_of(town.database), "PGDATABASE": "nowhere"})
    assert done.returncode == 3
    assert 'database "nowhere" does not exist' in done.stderr


def test_a_wrong_password_is_exit_3_and_is_not_repeated(town: World) -> None:
    database, server = town.database, town.database.cluster.server
    role = database.new_role("guarded", "login password 'right'")
    file = server.data_dir / "pg_hba.conf"
    before = file.read_text()
    file.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{before}")
    try:
        server.reload()
        shell = Shell(database, role)
        wait_until(lambda: shell("list").returncode == 3)
        shell.environment["PGPASSWORD"] = "hush-hush"
        said = shell.refused("list", code=3)
        assert "password authentication failed" in said
        assert "~/.pgpass" in said
        assert "hush-hush" not in said
        shell.environment["PGPASSWORD"] = "right"
        assert shell("list").returncode == 0
    finally:
        file.write_text(before)
        server.reload()


def test_an_unknown_setting_is_exit_2_with_the_list(alice: Shell) -> None:
    alice.environment["WALFLOW_NONSENSE"] = "1"
    try:
        assert "there is no setting 'nonsense'" in alice.refused("list")
    finally:
        del alice.environment["WALFLOW_NONSENSE"]


def test_the_dsn_of_the_settings_is_used_and_the_flag_beats_it(town: World) -> None:
    good, bad = town.database.dsn("alice"), "host=127.0.0.1 port=1"
    assert walflow("list", WALFLOW_DSN=good).returncode == 0
    assert walflow("list", WALFLOW_DSN=bad).returncode == 3
    assert walflow("list", "--dsn", good, WALFLOW_DSN=bad).returncode == 0


# -- schema and rights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ASKING[:-1], ids=" ".join)
def test_a_database_without_df_is_exit_3_and_told_to_migrate(empty: Shell, command: list[str]) -> None:
    said = empty.refused(*command, code=3)
    assert f"there is no schema df in database {empty.environment['PGDATABASE']}" in said
    assert "walflow migrate" in said


def test_a_start_in_a_database_without_df_is_exit_3(empty: Shell) -> None:
    assert "there is no schema df" in empty.refused("start", "-", code=3, stdin="select 1")


@pytest.fixture(scope="module")
def empty(server18: Cluster) -> Iterator[Shell]:
    """A shell in a database that nobody migrated."""
    database = server18.database(migrated=False)
    yield Shell(database)
    database.drop()


def test_a_role_without_df_is_exit_3_with_the_grant(town: World) -> None:
    role = town.database.new_role("Stranger", granted=False)
    said = Shell(town.database, role).refused("list", code=3)
    assert "permission denied for schema df" in said
    assert f"""select df.grant_usage('"{role}"')""" in said


def test_a_role_with_a_name_that_needs_quotes_works_once_granted(town: World) -> None:
    role = town.database.new_role('Ro"le')
    shell = Shell(town.database, role)
    id = shell.says("start", "-", stdin="select 1").strip()
    town.end(id)
    assert shell.json("show", id)["owner"] == role
    assert shell.json("show", id, "--owner", role)["id"] == id


# -- pipes and Ctrl-C -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["list --limit 100000", "list --json --limit 100000", "run --show-settings", "--help"]
)
def test_a_pipe_that_is_closed_early_makes_no_noise(town: World, alice: Shell, command: str) -> None:
    fill = """
        insert into df.instances (id, label, graph)
        select 'pipe-' || g, repeat('x', 900), 'select 1' from generate_series(1, 200) g
        on conflict do nothing
    """
    town.run(fill, role="alice")
    line = f"{sys.executable} -m engine {command} | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        env=in_utf8(alice.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout == "0\n"


@pytest.mark.parametrize("command", ["list", "list --json", "run --show-settings"])
def test_a_full_disk_is_said_to_be_one(alice: Shell, command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m engine {command} >/dev/full"],
        env=in_utf8(alice.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "walflow: the output cannot be written: No space left on device\n"


def test_ctrl_c_before_the_work_is_done_is_not_success(town: World, alice: Shell) -> None:
    """A shell must not go on with what follows &&."""
    role = town.database.new_role("blocked")
    with town.database.connect() as connection, connection.transaction():
        connection.execute("lock table df.cancellations in access exclusive mode")
        town.start(town.build("select df.wait_for_signal('x', 60)"), id="ctrl-c", role=role)
        with Terminal("cancel", "ctrl-c", environment=environment_of(town.database, role)) as terminal:
            waiting = "select 1 from pg_stat_activity where usename = %s and wait_event_type = 'Lock'"
            wait_until(lambda: town.run(waiting, [role]))
            terminal.send(CTRL_C)
            assert terminal.end() == 130
            assert "Traceback" not in terminal.text
    assert town.run("select 1 from df.cancellations where instance_id = 'ctrl-c'") == []


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (BrokenPipeError(errno.EPIPE, "nobody reads"), 0),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOENT, "something else"), 1),
        (None, 1),
    ],
)
def test_what_the_library_of_commands_ends_with_is_told_apart(cause: BaseException | None, code: int) -> None:
    """It makes 1 of a closed pipe, and some versions of it do so of Ctrl-C: our 1 is a bug."""
    end = SystemExit(1)
    end.__context__ = cause
    assert app_module._code(end) == code
