"""`walflow start`, `signal`, `cancel` and `retry`."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.graphs import is_expression
from tests.cli.commands import Shell
from tests.cli.terminal import Terminal
from tests.servers import Database, wait_until
from tests.workflows import World, world

WAITS = "df.wait_for_signal('go', 600)"


# -- start ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("'select 1' ~> 'select 2'", True),
        ("  -- a comment, ''\n/* and ' another */ $$select 1$$ ~> $$select 2$$", True),
        ("$a$select 1$a$ & 'x'", True),
        ("E'select \\'1\\'' ~> 'x'", True),
        ("df.loop('select 1')", True),
        ('"df".loop(1)', True),
        ("@> 'select 1'", True),
        ("('select 1' ~> 'select 2') & 'select 3'", True),
        ("select 1", False),
        ("(select 'a')", False),
        ("-- 'x'\nselect 1", False),
        ('{"node_type":"SQL","query":"select 1"}', False),
        ("with df as (select 1) select 1", False),
        ("do $$ begin end $$", False),
        ("", False),
    ],
)
def test_an_expression_of_builders_is_told_from_sql_by_its_beginning(text: str, is_one: bool) -> None:
    assert is_expression(text) is is_one


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("'select 1 as n' |=> 'a' ~> 'select $a + 1 as n';", [{"n": 2}]),
        ("select 5 as n", [{"n": 5}]),
        ('{"node_type":"SQL","query":"select 6 as n"}', [{"n": 6}]),
        ("'select 100 % 7 as n' ~> 'select 100 % 8 as n, ''%s'' as s'", [{"n": 4, "s": "%s"}]),
    ],
)
def test_a_file_is_started_whatever_it_is_written_in(
    town: World, alice: Shell, tmp_path: Path, text: str, last: list[object]
) -> None:
    file = tmp_path / "workflow"
    file.write_text(text)
    id = alice.says("start", str(file)).strip()
    assert town.end(id).rows == last
    assert alice.json("show", id)["owner"] == "alice"


def test_standard_input_with_everything_that_a_start_can_say(town: World, alice: Shell) -> None:
    answer = alice.json(
        *("start", "-", "--id", "start-1", "--label", "by hand", "--input", '{"cents": 1.50}'),
        stdin="select ($input::json ->> 'cents') as cents",
    )
    assert answer == {"id": "start-1", "owner": "alice", "started": True}
    assert town.end("start-1").rows == [{"cents": "1.50"}]
    assert town.value("select label from df.instances where id = 'start-1'") == "by hand"


def test_an_id_is_started_once(town: World, alice: Shell) -> None:
    assert alice.says("start", "-", "--id", "start-2", stdin="select 1") == "start-2\n"
    town.end("start-2")
    again = alice("start", "-", "--id", "start-2", stdin="select 1/0")
    assert (again.returncode, again.stdout) == (0, "start-2\n")
    assert "start-2 was there already, and is completed" in again.stderr
    assert alice.json("start", "-", "--id", "start-2", stdin="select 1")["started"] is False


def test_a_start_can_be_followed_to_its_end(town: World, alice: Shell, tmp_path: Path) -> None:
    file = tmp_path / "workflow.sql"
    file.write_text("'select 1' ~> 'select 42 as answer'")
    with Terminal("start", str(file), "--watch", environment=alice.environment) as terminal:
        assert terminal.end() == 0
        assert '{"answer": 42}' in terminal.text
        assert terminal.restored


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"node_type":"SQL"}', "Invalid durable function graph: root"),
        ('{"node_type":"BREAK"}', "root"),
        ('{"node_type":', "not valid JSON near"),
        ("'select 1' ~>", "standard input: syntax error"),
        ("'select 1' ~~~> 'select 2'", "standard input: operator does not exist"),
        ("df.nothing('x')", "standard input: function df.nothing(unknown) does not exist"),
        ("'a' ~> null::text", "argument b is NULL"),
        ("'select 1'); drop table df.instances; select ('x'", "standard input: "),
        ("", "there is nothing in it"),
    ],
)
def test_what_is_no_workflow_is_refused_with_the_place(town: World, alice: Shell, text: str, said: str) -> None:
    assert said in alice.refused("start", "-", stdin=text)
    assert town.run("select to_regclass('df.instances') is not null") == [(True,)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "{bad"], "--input: invalid input syntax for type json"),
        (["--id", "no spaces"], "invalid instance id"),
        (["--id", "~engine"], "Ids that begin with ~ are the engine's"),
    ],
)
def test_what_no_start_can_say_is_refused(alice: Shell, arguments: list[str], said: str) -> None:
    assert said in alice.refused("start", "-", *arguments, stdin="select 1")


def test_a_file_that_is_not_there_or_is_no_text_is_named(alice: Shell, tmp_path: Path) -> None:
    assert "nowhere.sql: cannot be read: No such file or directory" in alice.refused(
        "start", str(tmp_path / "nowhere.sql")
    )
    assert "cannot be read: Is a directory" in alice.refused("start", str(tmp_path))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert "it is not UTF-8" in alice.refused("start", str(tmp_path / "bytes"))


def test_the_owner_of_df_is_told_that_it_cannot_start(town: World) -> None:
    said = Shell(town.database, "engine").refused("start", "-", stdin="select 1")
    assert "the owner of schema df cannot start workflows" in said
    assert "Insert as an ordinary role" in said


# -- signal and cancel ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        (["1.10"], "1.10"),
        (['{"b":1, "a":2}'], '{"b":1, "a":2}'),
        (["just words"], '"just words"'),
        (["NaN"], '"NaN"'),
        ([], "{}"),
        (["-"], "[1,\n2]"),
    ],
)
def test_a_signal_carries_json_or_a_string(town: World, alice: Shell, data: list[str], stored: str) -> None:
    id = f"signal-{abs(hash(tuple(data)))}"
    town.start(town.build(f"select {WAITS}"), id=id)
    assert alice.says("signal", id, "go", *data, stdin="[1,\n2]") == f"signal go sent to {id}\n"
    town.end(id)
    assert town.value("select data::text from df.signals where instance_id = %s", [id]) == stored


def test_a_workflow_is_cancelled_with_a_reason_and_that_again_changes_nothing(town: World, alice: Shell) -> None:
    town.start(town.build(f"select {WAITS}"), id="cancel-1")
    assert (
        alice.says("cancel", "cancel-1", "--reason", "ordered twice") == "Instance cancel-1 cancelled: ordered twice\n"
    )
    assert town.end("cancel-1").status == "cancelled"
    assert alice.says("cancel", "cancel-1") == "Instance cancel-1 is already cancelled\n"
    assert alice.json("cancel", "cancel-1")["cancelled"] is False
    assert "Instance cancel-1 is already cancelled" in alice.refused("signal", "cancel-1", "go")


def test_what_is_sent_goes_to_the_owner_that_is_meant(town: World, chief: Shell) -> None:
    for role in ("alice", "bob"):
        town.start(town.build(f"select {WAITS}"), id="shared", role=role)
    for arguments in (["signal", "shared", "go"], ["cancel", "shared"], ["retry", "shared"]):
        assert "ambiguous" in chief.refused(*arguments)
    chief.says("signal", "shared", "go", "--owner", "bob")
    chief.says("cancel", "shared", "--owner", "alice")
    ended = "select submitted_by::text, status from df.instances where id = 'shared' order by 1"
    wait_until(lambda: town.run(ended) == [("alice", "cancelled"), ("bob", "completed")])


def test_who_sees_all_but_may_not_act_is_refused(town: World) -> None:
    """A member of df's owner sees every role's instances; it is none of these roles."""
    town.start(town.build(f"select {WAITS}"), id="seen-only")
    watcher = town.database.new_role("watcher")
    town.run(f"grant engine to {watcher}")
    shell = Shell(town.database, watcher)
    assert shell.json("show", "seen-only")["owner"] == "alice"
    assert "Instance not found or access denied: seen-only" in shell.refused("cancel", "seen-only")


def test_the_engines_own_role_can_cancel_anybodys(town: World) -> None:
    town.start(town.build(f"select {WAITS}"), id="by-the-engine")
    Shell(town.database, "engine").says("cancel", "by-the-engine")
    assert town.end("by-the-engine").status == "cancelled"


# -- retry ------------------------------------------------------------------------------------------------------------


def test_only_what_is_quarantined_can_be_retried(town: World, alice: Shell) -> None:
    town.start(town.build(f"select {WAITS}"), id="retry-1")
    assert "Instance retry-1 is not quarantined" in alice.refused("retry", "retry-1")
    alice.says("cancel", "retry-1")
    town.end("retry-1")
    said = alice.refused("retry", "retry-1")
    assert "Instance retry-1 is already cancelled" in said
    assert "start it again" in said


def test_a_quarantined_workflow_goes_on_where_it_was(database: Database, tmp_path: Path) -> None:
    with world(database, database.engine(tmp_path).start()) as here:
        here.start(here.build(f"select df.seq({WAITS}, 'select 3 as last')"), id="bad")
        key = here.key("bad")
        wait_until(lambda: here.run("select 1 from df.states where instance_key = %s", [key]))
        here.kill()
        state = here.value("select state from df.states where instance_key = %s", [key])
        here.run("update df.states set state = left(state, -10) where instance_key = %s", [key])
        here.run("select df.signal('bad', 'go')", role="alice")
        here.engine.start()
        alice = Shell(database)
        wait_until(lambda: [row["id"] for row in alice.json("list", "--quarantined")] == ["bad"])
        assert "not readable" in alice.says("show", "bad")
        here.kill()
        here.run("update df.states set state = %s where instance_key = %s", [state, key])
        here.engine.start()
        assert alice.says("retry", "bad", "--reason", "mended") == "Instance bad released: mended\n"
        wait_until(lambda: here.value("select quarantined is null from df.instances where key = %s", [key]))
        assert here.end("bad").rows == [{"last": 3}]
        assert alice.json("list", "--quarantined") == []
