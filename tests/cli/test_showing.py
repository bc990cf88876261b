"""`walflow show`, `explain` and `history`, and following a workflow to its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.cli.commands import Shell, in_utf8
from tests.cli.terminal import CTRL_C, Terminal
from tests.servers import wait_until
from tests.workflows import World

ONE_WAIT = "select 'select 1 as one' ~> df.wait_for_signal('go', 600) ~> 'select 2 as two'"
SEARCH_PATH = "set search_path = public, pg_catalog"


def waiting(town: World, id: str, *, role: str = "alice") -> str:
    """Start a workflow that waits for a signal, and return when that can be seen."""
    town.run(SEARCH_PATH)
    town.start(town.build(ONE_WAIT), id=id, role=role)
    wait_until(
        lambda: town.run(
            "select 1 from df.progress p join df.instances i on i.key = p.instance_key where i.id = %s", [id]
        )
    )
    return id


def go(town: World, id: str) -> None:
    town.run("select df.signal(%s, 'go')", [id], "alice")


def test_an_instance_is_shown_as_it_stands(town: World, alice: Shell) -> None:
    id = waiting(town, "show-1")
    text = alice.says("show", id)
    assert "status     ⏳ running for" in text
    assert re.search(r"waits for  SIGNAL 'go' \(600s\)  due in (9m|10m 00s)", text)
    assert text.splitlines()[-3:] == ["✓ SQL: select 1 as one", "⏳ SIGNAL 'go' (600s)", "○ SQL: select 2 as two"]
    go(town, id)
    town.end(id)
    shown = alice.json("show", id)
    assert shown["status"] == "completed"
    assert shown["result"] == {"rows": [{"two": 2}], "row_count": 1}
    assert shown["waiting"] == []


def test_numbers_of_a_result_are_exact_for_programs(town: World, alice: Shell) -> None:
    town.start("select 1.10 as n, 12345678901234567890.123456789 as big", id="show-exact")
    town.end("show-exact")
    assert '"n":1.10,"big":12345678901234567890.123456789' in alice.says("show", "show-exact", "--json")


def test_a_child_and_an_awaited_instance_are_named(town: World, alice: Shell) -> None:
    graph = town.build("select df.join(df.call_child(df.wait_for_signal('x')), df.await_instance('show-awaited', 600))")
    waiting(town, "show-awaited")
    town.start(graph, id="show-parent")
    child = wait_until(lambda: town.run("select id from df.instances where parent_id = 'show-parent'"))[0][0]
    wait_until(lambda: len(alice.json("show", "show-parent")["waiting"]) == 2)
    text = alice.says("show", "show-parent")
    assert child in text
    assert "show-awaited" in text
    assert "parent     show-parent" in alice.says("show", child)


def test_a_tree_is_explained_and_a_history_told(town: World, alice: Shell) -> None:
    id = waiting(town, "show-2")
    assert alice.json("explain", id)["tree"][0] == "✓ SQL: select 1 as one"
    assert alice.says("explain", id).splitlines()[2] == "○ SQL: select 2 as two"
    go(town, id)
    town.end(id)
    events = alice.json("history", id)
    assert [event["event"] for event in events] == ["started", "step", "signal", "step", "ended"]
    assert events[1]["query"] == "select 1 as one"
    assert [event["event"] for event in alice.json("history", id, "--last", "2")] == ["step", "ended"]
    lines = alice.says("history", id).splitlines()
    assert len(lines) == 6
    assert "by alice" in lines[1]
    assert 'select 2 as two  → {"two": 2}' in lines[4]


def test_a_graph_is_explained_before_it_is_started(alice: Shell, tmp_path: Path) -> None:
    file = tmp_path / "order.sql"
    file.write_text("-- of two steps\n'select 1' ~> 'select 2';\n")
    assert alice.says("explain", "--file", str(file)).splitlines() == ["SQL: select 1", "SQL: select 2"]
    assert alice.says("explain", "--file", "-", stdin="select 7").splitlines() == ["SQL: select 7"]
    assert alice.says("explain", "'select 1' & 'select 2'").splitlines()[0] == "JOIN (2)"


# -- --watch ----------------------------------------------------------------------------------------------------------


def test_on_a_terminal_one_is_followed_to_its_end(town: World, alice: Shell) -> None:
    id = waiting(town, "watch-1")
    with Terminal("show", id, "--watch", environment=alice.environment) as terminal:
        terminal.wait_for_text("⏳ SIGNAL 'go'")
        go(town, id)
        assert terminal.end() == 0
        assert "✓ completed" in terminal.text
        assert "✓ SQL: select 2 as two" in terminal.text
        assert "⏳" not in terminal.text
        assert terminal.restored


def test_what_runs_in_a_long_workflow_stays_on_the_screen(town: World, alice: Shell) -> None:
    steps = ", ".join(["'select 1'"] * 40)
    town.start(town.build(f"select df.seq_all({steps}, df.wait_for_signal('go', 600), {steps})"), id="watch-long")
    with Terminal("show", "watch-long", "--watch", environment=alice.environment) as terminal:
        terminal.wait_for_text("⏳ SIGNAL 'go'")
        assert "watch-long" in terminal.text
        assert "lines above" in terminal.text
        assert "lines below" in terminal.text
        terminal.send(CTRL_C)
        assert terminal.end() == 0


def test_ctrl_c_stops_looking_and_not_the_workflow(town: World, alice: Shell) -> None:
    id = waiting(town, "watch-2")
    with Terminal("show", id, "--watch", environment=alice.environment) as terminal:
        terminal.wait_for_text("⏳ SIGNAL 'go'")
        terminal.send(CTRL_C)
        assert terminal.end() == 0
        assert terminal.restored
        assert "Traceback" not in terminal.text
        assert terminal.text.count("⏳ SIGNAL 'go'") == 1  # the last picture stays
    assert town.status(id) == "running"


def test_a_termination_is_a_request_to_stop_looking(town: World, alice: Shell) -> None:
    id = waiting(town, "watch-3")
    with Terminal("show", id, "--watch", environment=alice.environment) as terminal:
        terminal.wait_for_text("⏳ SIGNAL 'go'")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 0
        assert terminal.restored


def test_whoever_watches_waits_for_a_lost_connection(town: World, alice: Shell) -> None:
    id = waiting(town, "watch-6")
    own = "usename = 'alice' and application_name = 'walflow-cli' and query ~ 'draw_instance|commit'"
    with Terminal("show", id, "--watch", environment=alice.environment) as terminal:
        terminal.wait_for_text("⏳ SIGNAL 'go'")
        wait_until(lambda: town.run(f"select pg_terminate_backend(pid) from pg_stat_activity where {own}"))
        terminal.wait_for_text("trying again")
        go(town, id)
        assert terminal.end() == 0
        assert "✓ completed" in terminal.text
        assert terminal.restored


def test_in_a_pipe_each_event_is_a_line_when_it_happens(town: World, alice: Shell) -> None:
    id = waiting(town, "watch-4")
    process = follow(alice, "show", id, "--watch")
    assert process.stdout is not None
    assert "started" in process.stdout.readline()
    assert "select 1 as one" in process.stdout.readline()
    go(town, id)
    rest = process.communicate()[0].splitlines()
    assert [line.split("  ")[1].strip() for line in rest] == ["signal", "✓ step", "✓ ended"]
    assert process.returncode == 0


def test_programs_get_an_object_a_change(town: World, alice: Shell) -> None:
    id = waiting(town, "watch-5")
    process = follow(alice, "show", id, "--watch", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "running"
    go(town, id)
    seen = [json.loads(line)["status"] for line in process.communicate()[0].splitlines()]
    assert seen[-1] == "completed"
    assert len(seen) < 10  # changes, not looks
    assert process.returncode == 0


def follow(shell: Shell, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engine", *arguments],
        env=in_utf8(shell.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


# -- two roles, one id ------------------------------------------------------------------------------------------------


def test_ones_own_is_meant_first_and_an_owner_says_whose_outright(town: World, alice: Shell, chief: Shell) -> None:
    for role, number in (("alice", 1), ("bob", 2)):
        town.run("insert into df.instances (id, graph) values ('both', %s)", [f"select {number} as n"], role)
    wait_until(lambda: not town.run("select 1 from df.instances where id = 'both' and status <> 'completed'"))
    assert alice.json("show", "both")["owner"] == "alice"
    for owner, number in (("alice", 1), ("bob", 2)):
        assert chief.json("show", "both", "--owner", owner)["result"]["rows"] == [{"n": number}]
        assert chief.json("history", "both", "--owner", owner)[1]["query"] == f"select {number} as n"
        assert chief.says("explain", "both", "--owner", owner) == f"✓ SQL: select {number} as n\n"
    for command in ("show", "history", "explain"):
        said = chief.refused(command, "both")
        assert "Instance both is ambiguous: alice and bob have one each" in said
        assert "--owner alice" in said
    name = chief.environment["PGUSER"]
    assert chief.says("start", "-", "--id", "both", stdin="select 3 as n") == "both\n"
    assert chief.json("show", "both")["owner"] == name
    assert "Instance not found or access denied: both of role bob" in alice.refused("show", "both", "--owner", "bob")


def test_the_key_of_anothers_instance_tells_nothing(town: World) -> None:
    """What is asked by key sees what the asking role sees, as everything does."""
    town.start("select 1", id="by-key")
    town.end("by-key")
    key = town.key("by-key")
    tree, events = "select df.draw_instance(%s)", "select event from df.history_of(%s)"
    assert town.value(tree, [key], "alice") == "✓ SQL: select 1"
    assert town.run(events, [key], "alice") == [("started",), ("step",), ("ended",)]
    assert town.value(tree, [key], "bob") is None
    assert town.run(events, [key], "bob") == []
