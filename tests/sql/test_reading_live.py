"""What the reading functions tell of workflows that a real engine runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.rows import dict_row

from tests.servers import Cluster, wait_until
from tests.workflows import World, world


@pytest.fixture(scope="module")
def stage(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A database with a running engine."""
    made = server18.database()
    engine = made.engine(tmp_path_factory.mktemp("engine")).start()
    with world(made, engine) as stage:
        yield stage
    made.drop()


def told(stage: World, function: str, id: str, role: str = "alice") -> list[dict[str, Any]]:
    """The rows of a reading function, by column."""
    cursor = stage.connection(role).cursor(row_factory=dict_row)
    return cursor.execute(f"select * from df.{function}(%s)".encode(), [id]).fetchall()


def inferred(stage: World, id: str) -> list[str]:
    return [row["inferred_status"] for row in told(stage, "instance_nodes", id)]


def events(stage: World, id: str) -> list[tuple[str, str | None, str | None]]:
    return [(row["event"], row["step"], row["outcome"]) for row in told(stage, "history", id)]


def becomes(stage: World, id: str, *states: str) -> None:
    """Wait until the nodes are as given; says what they are instead."""
    seen: list[str] = []

    def is_so() -> bool:
        seen[:] = inferred(stage, id)
        return tuple(seen) == states

    try:
        wait_until(is_so)
    except AssertionError:
        raise AssertionError(f"{id} is {seen}: {told(stage, 'instance_nodes', id)}") from None


def test_a_wait_is_shown_then_its_signal_and_the_history_says_who_sent_it(stage: World) -> None:
    id = stage.start(
        stage.build("""select 'select 5 as n' |=> 'a' ~> df.wait_for_signal('go', 600) ~> 'select $a + 1 as m'""")
    )
    # 1 THEN, 2 THEN, 3 SQL, 4 SIGNAL, 5 SQL
    becomes(stage, id, "running", "running", "completed", "running", "pending")
    wait = next(row for row in told(stage, "instance_nodes", id) if row["node_id"] == 4)
    wait_until(lambda: (told(stage, "instance_nodes", id)[3]["status_details"] or {}).get("due"))
    wait = told(stage, "instance_nodes", id)[3]
    assert wait["status_details"]["signal"] == "go"
    assert stage.value("select df.explain(%s)", [id], "alice") == (
        "✓ SQL: select 5 as n |=> 'a'\n⏳ SIGNAL 'go' (600s)\n○ SQL: select $a + 1 as m"
    )
    assert id in [row[0] for row in stage.run("select instance_id from df.list_instances('running')", role="alice")]
    stage.run("select df.signal(%s, 'go', '{\"x\": 1}')", [id], "alice")
    stage.end(id)
    wait_until(lambda: inferred(stage, id) == ["completed"] * 5)
    history = told(stage, "history", id)
    assert [(row["event"], row["step"]) for row in history] == [
        ("started", None),
        ("step", "3"),
        ("signal", "4"),
        ("step", "5"),
        ("ended", None),
    ]
    assert (history[2]["who"], history[2]["result"]) == ("alice", {"x": 1})
    assert history[3]["query"] == "select 5 + 1 as m"
    assert history[3]["result"]["rows"] == [{"m": 6}]
    assert history[4]["outcome"] == "completed"


def test_a_timeout_of_a_wait_is_a_timer(stage: World) -> None:
    id = stage.start(stage.build("select df.wait_for_signal('never', 1) ?> 'select 1' !> 'select 2'"))
    stage.end(id)
    # 1 IF, 2 then, 3 else, 4 condition
    becomes(stage, id, "completed", "skipped", "completed", "completed")
    assert events(stage, id) == [
        ("started", None, None),
        ("timer", "4", "completed"),
        ("step", "3", "completed"),
        ("ended", None, "completed"),
    ]


def test_a_failure_is_told_with_its_error_and_its_place(stage: World) -> None:
    id = stage.start(stage.build("select 'select 1' ~> 'select 1/0' ~> 'select 3'"))
    assert stage.end(id).code == "22012"
    becomes(stage, id, "failed", "failed", "completed", "failed", "skipped")
    history = told(stage, "history", id)
    assert history[2]["error"]["code"] == "22012"
    assert (history[-1]["note"], history[-1]["node_id"]) == ("division by zero", 4)
    assert id in [row[0] for row in stage.run("select instance_id from df.list_instances('failed')", role="alice")]


def test_a_cancelled_loop_has_its_generations_and_says_who_cancelled_it(stage: World) -> None:
    id = stage.start(stage.build("select df.loop('select 1' ~> df.wait_for_signal('next'))"))
    # 1 LOOP, 2 THEN, 3 SQL, 4 SIGNAL
    becomes(stage, id, "running", "running", "completed", "running")
    for _ in range(2):
        stage.run("select df.signal(%s, 'next')", [id], "alice")
    wait_until(
        lambda: stage.run("select 1 from df.completions where step = '3.3' and instance_key = %s", [stage.key(id)])
    )
    wait_until(lambda: len(told(stage, "instance_executions", id)) == 3)
    stage.run("select df.cancel(%s, 'enough')", [id], "alice")
    stage.end(id)
    becomes(stage, id, "cancelled", "cancelled", "completed", "cancelled")
    rows = told(stage, "instance_executions", id)
    assert [(row["execution_id"], row["status"]) for row in rows] == [
        (3, "cancelled"),
        (2, "completed"),
        (1, "completed"),
    ]
    ended = told(stage, "history", id)[-1]
    assert (ended["event"], ended["outcome"], ended["who"], ended["note"]) == ("ended", "cancelled", "alice", "enough")


def test_a_child_is_known_while_its_parent_waits_and_its_end_afterwards(stage: World) -> None:
    id = stage.start(stage.build("select df.call_child(df.wait_for_signal('go') ~> 'select 7 as x', 'kid')"))
    # 1 CALL_CHILD, 2 THEN, 3 SIGNAL, 4 SQL
    child = wait_until(lambda: (told(stage, "instance_nodes", id)[0]["status_details"] or {}).get("child"))
    assert child == f"~{stage.key(id)}/1"
    assert inferred(stage, id)[0] == "running"
    stage.run("select df.signal(%s, 'go')", [child], "alice")
    stage.end(id)
    node = told(stage, "instance_nodes", id)[0]
    assert (node["inferred_status"], node["status_details"]["child"]) == ("completed", child)
    assert events(stage, id) == [
        ("started", None, None),
        ("child started", "1", "completed"),
        ("child ended", "1", "completed"),
        ("ended", None, "completed"),
    ]


def test_retries_and_handlers_are_shown(stage: World) -> None:
    id = stage.start(stage.build("select df.catch(df.retry('select 1/0', 2, '0.1 s'), 'select 2')"))
    # 1 CATCH, 2 RETRY, 3 SQL, 4 SQL
    stage.end(id)
    becomes(stage, id, "completed", "failed", "failed", "completed")
    steps = [event for event in events(stage, id) if event[0] == "step"]
    assert steps == [("step", "3.1", "failed"), ("step", "3.2", "failed"), ("step", "4", "completed")]


def test_a_race_shows_its_loser(stage: World) -> None:
    id = stage.start(stage.build("select df.race('select 1', df.wait_for_signal('never'))"))
    stage.end(id)
    becomes(stage, id, "completed", "completed", "skipped")


def test_metrics_count_what_has_happened(stage: World) -> None:
    rows = stage.run("select total_instances, completed_instances, total_events from df.metrics()")
    assert all(number > 0 for number in rows[0])
