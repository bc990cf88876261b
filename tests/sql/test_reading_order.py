"""In which order readers are told what has one time, and that nobody's rows are told as another's.

The looker is the owner of df: no policy hides a row from him, so it is the functions themselves that are seen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import ENGINE_ROLE, Cluster, Database
from tests.sql.asking import Asking
from tests.sql.story import Story, listed

MOMENT = "2026-01-01 00:00+00"


@pytest.fixture(scope="module")
def home(server18: Cluster) -> Iterator[Database]:
    """One database; every test has instances of its own."""
    made = server18.database()
    yield made
    made.drop()


@pytest.fixture
def looker(home: Database) -> Iterator[Asking]:
    """The owner of df."""
    with home.connect(ENGINE_ROLE, autocommit=False) as connection:
        connection.execute("select")
        yield Asking(connection)
        connection.rollback()


@pytest.fixture
def alice(home: Database) -> Iterator[Asking]:
    with home.connect("alice", autocommit=False) as connection:
        connection.execute("select")
        yield Asking(connection)
        connection.rollback()


def pages(asking: Asking, filters: str, size: int) -> list[str]:
    """The ids on all pages, one page after the other."""
    query = f"select instance_id, next_cursor from df.list_instances({filters}, limit_count => %s, after_cursor => %s)"
    found: list[str] = []
    cursor = None
    while True:
        rows = asking.rows(query, size, cursor)
        assert len(rows) <= size
        assert not {row[0] for row in rows} & set(found)
        found += [row[0] for row in rows]
        cursor = rows[-1][1] if rows else None
        if cursor is None:
            return found


# --- ties ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "running", "completed", "failed", "cancelled"])
@pytest.mark.parametrize("labelled", [False, True], ids=["", "with a label"])
def test_pages_of_instances_of_one_moment_are_in_the_order_of_ids_without_gaps_or_repeats(
    home: Database, alice: Asking, status: str, labelled: bool
) -> None:
    name = f"{status}-{labelled}"
    insert = "insert into df.instances (id, graph, label) select %s || '-' || n, 'x', %s from unnest(%s::int[]) as n"
    numbers = [5, 2, 8, 1, 9, 4, 7, 3, 6]
    with home.connect("alice") as connection:
        connection.execute(insert, [name, name, numbers])
    with home.connect(ENGINE_ROLE) as engine:
        for n in numbers:  # so that no index and no heap has them in the order of ids by chance
            engine.execute(
                "update df.instances set status = %s, created_at = %s where id = %s", [status, MOMENT, f"{name}-{n}"]
            )
    filters = f"status_filter => '{status}', label_filter => " + (f"'{name}'" if labelled else "null")
    expected = [f"{name}-{n}" for n in range(9, 0, -1)]
    for size in (1, 2, 4, 9):
        assert [id for id in pages(alice, filters, size) if id.startswith(f"{name}-")] == expected
    labels = f"label_filter => '{name}'"
    assert pages(alice, labels, 2) == expected
    every = [id for id in pages(alice, "status_filter => null", 4) if id.startswith(f"{name}-")]
    assert every == expected


def test_a_row_is_on_one_page_only_where_the_newest_end_and_the_older_begin(server18: Cluster) -> None:
    """Of thousands of one moment that have ended, those that run are found by their progress, wherever the cut goes."""
    home = server18.database()
    try:
        with home.connect("alice") as connection:
            connection.execute(
                "insert into df.instances (id, graph, label) select 'r' || to_char(n, 'FM0000'), 'x', 'l' || n % 2 "
                "from generate_series(1, 5010) n"
            )
        with home.connect(ENGINE_ROLE) as engine:
            engine.execute("update df.instances set status = 'completed' where id between 'r0021' and 'r5000'")
            engine.execute("update df.instances set status = 'running' where status = 'pending'")
            engine.execute(
                "insert into df.progress select submitted_by, key, '[]' from df.instances where status = 'running' "
                "order by md5(id)"
            )
            # one that is shown and has ended meanwhile
            engine.execute(
                "insert into df.progress select submitted_by, key, '[]' from df.instances where id = 'r0021'"
            )
            engine.execute("update df.instances set status = 'failed' where id = 'r0002'")
        expected = [f"r{n:04}" for n in (*range(5010, 5000, -1), *range(20, 2, -1), 1)]
        with home.connect("alice", autocommit=False) as connection:
            alice = Asking(connection)
            for size in (1, 3, 12, 22, 26, 1000):  # the older ones begin with the twenty-first
                assert pages(alice, "status_filter => 'running'", size) == expected
                odd = [id for id in expected if int(id[1:]) % 2]
                assert pages(alice, "status_filter => 'running', label_filter => 'l1'", size) == odd
                page = "select id from df.page_of_instances('running', null, 'infinity', '', %s)"
                assert [row[0] for row in alice.rows(page, size)] == expected[:size]
    finally:
        home.drop()


def test_a_cursor_goes_on_behind_its_row_though_that_row_has_another_status_by_now(
    home: Database, alice: Asking
) -> None:
    for n in range(4):
        Story(home, f"moves-{n}", "'x'", label="moves").is_("running")
    filters = "status_filter => 'running', label_filter => 'moves'"
    (row,) = alice.rows(f"select instance_id, next_cursor from df.list_instances({filters}, limit_count => 1)")
    with home.connect(ENGINE_ROLE) as engine:
        engine.execute("update df.instances set status = 'completed' where id = %s", [row[0]])
    assert listed(alice, f"{filters}, after_cursor => %s", row[1]) == ["moves-2", "moves-1", "moves-0"]


def test_what_happened_at_one_moment_is_told_by_kind_then_step_then_attempt(home: Database) -> None:
    graph = "df.seq_all(df.with_undo('a', 'u'), df.wait_for_signal('s'), 'b', 'c')"
    # 1 THEN, 2 THEN, 3 THEN, 4 UNDO, 5 a, 6 u, 7 SIGNAL, 8 b, 9 c
    story = Story(home, "ties", graph)
    story.did("9").did("6", attempt=3).did("8").did("6", "failed", attempt=1).did("5").did("6", "failed", attempt=2)
    home.run("select df.signal('ties', 's')", role="alice")
    story.engine("update df.completions set recorded_at = %s where instance_key = %s", MOMENT, story.key)
    story.engine("update df.signals set recorded_at = %s, taken_by = '7' where instance_id = 'ties'", MOMENT)
    story.is_("completed")
    # the end is the last whatever two clocks say
    story.engine(
        "update df.instances set created_at = %s, started_at = %s, finished_at = %s where key = %s",
        *[MOMENT, MOMENT, "2025-12-31", story.key],
    )
    told = [(e["event"], e["step"], e["attempt"]) for e in story.history()]
    assert told == [
        ("started", None, None),
        ("signal", "7", None),
        ("step", "5", 1),
        ("step", "6", 1),
        ("step", "6", 2),
        ("step", "6", 3),
        ("step", "8", 1),
        ("step", "9", 1),
        ("ended", None, None),
    ]
    assert [e["number"] for e in story.history()] == list(range(1, 10))


def test_what_happened_later_is_told_later_whatever_it_is(home: Database) -> None:
    story = Story(home, "times", "'a' ~> df.wait_for_signal('s') ~> 'b'").did("3").did("5")
    home.run("select df.signal('times', 's')", role="alice")
    story.engine("update df.instances set created_at = '2026-01-01' where key = %s", story.key)
    story.engine(
        "update df.completions set recorded_at = '2026-01-02' where instance_key = %s and step = '5'", story.key
    )
    story.engine(
        "update df.completions set recorded_at = '2026-01-03' where instance_key = %s and step = '3'", story.key
    )
    story.engine("update df.signals set recorded_at = '2026-01-04' where instance_id = 'times'")
    assert [(e["event"], e["step"]) for e in story.history()] == [
        ("started", None),
        ("step", "5"),
        ("step", "3"),
        ("signal", None),
    ]


def test_nodes_are_told_in_the_order_of_their_numbers(home: Database) -> None:
    story = Story(home, "in-order", "'a' ~> df.race('b', df.join('c', df.sleep(1))) ~> df.if('d', 'e', 'f')").did("5")
    with home.connect("alice") as connection:
        numbers = [row[0] for row in connection.execute("select node_id from df.instance_nodes('in-order')")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert story.nodes()[1]["node_type"] == "THEN"


def test_of_several_cancellations_the_first_says_why(home: Database) -> None:
    story = Story(home, "twice", "'a'")
    home.run("select df.release('twice', 'no cancellation')", role="alice")
    for reason in ("first", "second"):
        home.run("select df.cancel('twice', %s)", [reason], role="alice")
    assert story.is_("cancelled", error={"message": "?"}).history()[-1]["note"] == "first"


# --- whose rows ---------------------------------------------------------------------------------------------------------


def twins(home: Database, id: str, graph: str = "'a' ~> df.wait_for_signal('s')") -> tuple[Story, int]:
    """Alice's instance, and the key of bob's of the same id."""
    story = Story(home, id, graph)
    with home.connect("bob") as connection:
        connection.execute(f"select df.start({graph}, id => %s)".encode(), [id])
    query = "select key from df.instances where id = %s and submitted_by = 'bob'::regrole"
    return story, home.run(query, [id])[0][0]


@pytest.mark.parametrize("status", ["pending", "running", "completed", "failed", "cancelled"])
def test_whoever_sees_several_roles_is_told_each_instance_once(home: Database, looker: Asking, status: str) -> None:
    label = f"each {status}"
    for role in ("alice", "bob"):
        with home.connect(role) as connection:
            for n in (1, 2):
                connection.execute("select df.start('x', id => %s, label => %s)", [f"each-{role}-{status}-{n}", label])
    looker.rows("update df.instances set status = %s where label = %s", status, label)
    expected = [f"each-{role}-{status}-{n}" for role in ("bob", "alice") for n in (2, 1)]
    for filters in (f"'{status}'", f"'{status}', label_filter => '{label}'", f"label_filter => '{label}'"):
        told = [id for id in pages(looker, filters, 3) if f"-{status}-" in id]
        assert told == expected


def sent(looker: Asking, key: int) -> tuple[list[Any], list[Any]]:
    """Signals and commands of an instance."""
    signals = looker.rows("select name from df.signals_to(%s) order by 1", key)
    return [s[0] for s in signals], looker.rows("select kind, reason from df.commands_to(%s) order by 1, 2", key)


def test_what_was_sent_to_one_instance_is_told_of_no_other(home: Database, looker: Asking) -> None:
    story, of_bob = twins(home, "twin")
    other = Story(home, "another", "'a'")
    for role, id in (("alice", "twin"), ("bob", "twin"), ("alice", "another")):
        home.run("select df.signal(%s, %s)", [id, f"{role} {id}"], role=role)
        home.run("select df.cancel(%s, %s)", [id, f"{role} {id}"], role=role)
        home.run("select df.release(%s, %s)", [id, f"{role} {id}"], role=role)
    told = {story.key: "alice twin", of_bob: "bob twin", other.key: "alice another"}
    for key, name in told.items():
        assert sent(looker, key) == ([name], [("cancellation", name), ("release", name)])
    for table in ("signals", "cancellations", "releases"):
        looker.rows(f"update df.{table} set instance_key = null")  # as if they had come before their instances
    for key, name in told.items():
        assert sent(looker, key) == ([name], [("cancellation", name), ("release", name)])


def test_what_was_sent_to_an_earlier_instance_of_the_id_is_not_told(home: Database, looker: Asking) -> None:
    story = Story(home, "again", "'a'")
    for query in ("df.signal('again', 'early')", "df.cancel('again', 'early')", "df.release('again', 'early')"):
        home.run(f"select {query}".encode(), role="alice")  # type: ignore[arg-type]
    assert sent(looker, story.key) == (["early"], [("cancellation", "early"), ("release", "early")])
    for table in ("signals", "cancellations", "releases"):
        story.engine(f"update df.{table} set instance_key = 1 where instance_id = 'again'")
    assert sent(looker, story.key) == ([], [])
    for table in ("signals", "cancellations", "releases"):
        story.engine(f"update df.{table} set instance_key = null where instance_id = 'again'")
    assert sent(looker, story.key) == (["early"], [("cancellation", "early"), ("release", "early")])


def test_a_strangers_completion_is_told_of_no_instance_of_others(home: Database, looker: Asking) -> None:
    story = Story(home, "not-bobs", "'a' ~> 'b'").did("2")
    home.run(
        "insert into df.completions (instance_key, step, attempt, outcome, result) values (%s, '3', 1, 'completed', '{}')",
        [story.key],
        role="bob",
    )
    assert looker.rows("select step from df.all_completions(%s)", story.key) == [("2",)]
    assert [e["step"] for e in story.history()] == [None, "2"]


def test_children_and_progress_of_others_are_told_of_no_instance(home: Database, looker: Asking) -> None:
    story, of_bob = twins(home, "family", "df.call_child('b')")
    other = Story(home, "other-family", "df.call_child('b')")
    child = """
        insert into df.instances (submitted_by, submitter, id, graph, parent_key, parent_step, parent_id)
        values (%s::regrole, %s::regrole::oid, %s, 'b', %s, '1', 'family')
    """
    story.engine(child, "alice", "alice", f"~{story.key}/1", story.key)
    story.engine(child, "bob", "bob", f"~{story.key}/1", story.key)
    story.engine(child, "alice", "alice", f"~{other.key}/1", other.key)
    story.engine(child, "bob", "bob", f"~{other.key}/1", other.key)
    story.shows({"node": 1, "step": "1", "state": "waiting"})
    story.engine(
        "insert into df.progress (submitted_by, instance_key, nodes) values ('bob', %s, %s)",
        story.key,
        '[{"node":1,"step":"1","state":"forged"}]',
    )
    records = looker.rows("select source, details from df.step_records(%s) order by 1", story.key)
    assert records == [(1, {"state": "waiting"}), (2, {"child": f"~{story.key}/1"})]
    assert looker.rows("select * from df.step_records(%s)", of_bob) == []
    assert [(e["event"], e["query"]) for e in story.history()] == [
        ("started", None),
        ("child started", f"~{story.key}/1"),
    ]
    told = looker.rows("select event, query, who from df.history('other-family')")
    assert told == [("started", None, "alice"), ("child started", f"~{other.key}/1", None)]


# --- records that are none ----------------------------------------------------------------------------------------------


def test_records_under_keys_that_the_engine_never_gives_change_nothing(home: Database) -> None:
    story = Story(home, "no-keys", "df.seq_all('a', df.wait_for_signal('s'), df.join('b', 'c'))").is_("running")
    # 1 THEN, 2 THEN, 3 a, 4 SIGNAL, 5 JOIN, 6 b, 7 c
    home.run("select df.signal('no-keys', 's')", role="alice")
    before = story.inferred()
    for step in ("03", "3.", ".3", "3.0", "3.1", "-3", "3 ", "x", "", "8", "99999999", "1" * 30, "5", "1"):
        story.did(step)
    for step in ("5", "3.1", "8"):
        story.did(step, by="engine", result=[1])
        story.engine("update df.signals set taken_by = %s where instance_id = 'no-keys'", step)
        assert story.inferred() == before
    story.engine("update df.signals set taken_by = null where instance_id = 'no-keys'")
    events = [e["step"] for e in story.history() if e["event"] == "step"]
    assert events == ["3.1"], "a SQL node's, though of a depth that it never has"


def test_a_record_of_another_depth_hides_no_record(home: Database) -> None:
    story = Story(home, "depths", "'a' ~> df.call_child('b')").did("2").did("2.1", value=2)
    # the timer of a child has an index more than the child's answer
    answer = {"instance_id": "~1/3", "status": "completed", "result": 5, "error": None}
    story.did("3", by="engine", result=answer).did("3.1", by="engine").is_("completed")
    nodes = story.nodes()
    assert [nodes[n]["result"] for n in (2, 3)] == [{"rows": [{"v": 1}], "row_count": 1}, 5]
    assert [nodes[n]["status_details"]["step"] for n in (2, 3)] == ["2", "3"]


def test_a_frame_that_was_shown_last_is_none_of_one_that_has_ended(home: Database) -> None:
    story = Story(home, "ended", "df.race('a', df.sleep(60))").did("2")
    story.shows({"node": 1, "step": "1", "state": "running"}, {"node": 3, "step": "3", "state": "sleeping"})
    assert story.is_("completed").inferred() == ["completed", "completed", "skipped"]
    assert story.nodes()[3]["status_details"] is None


def test_what_was_shown_of_one_that_has_ended_is_not_told(home: Database) -> None:
    story = Story(home, "over", "'a' ~> 'b'").did("2").did("3").shows({"node": 3, "step": "3", "state": "running"})
    nodes = story.is_("completed").nodes()
    assert [row["status"] for row in nodes.values()] == ["completed"] * 3
    assert "state" not in nodes[3]["status_details"]


def test_as_many_executions_are_told_as_were_asked_for(home: Database, alice: Asking) -> None:
    story = Story(home, "some", "df.loop('b')").is_("running")
    for generation in range(1, 8):
        story.did(f"2.{generation}")
    for count in (1, 3, 7, 100):
        rows = alice.rows("select execution_id from df.instance_executions('some', %s)", count)
        assert [row[0] for row in rows] == list(range(7, max(0, 7 - count), -1))
