"""What the reading functions tell, to whom, and how they refuse. Rows of the engine's are written by its role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from psycopg.rows import dict_row

from tests.servers import ENGINE_ROLE, Cluster, Database
from tests.sql.asking import Asking
from tests.sql.story import Story, listed

FINAL: Final = ("completed", "failed", "cancelled")
COLUMNS: Final = {
    "list_instances()": (
        "instance_id label function_name status execution_count output created_at completed_at next_cursor"
    ),
    "instance_info('{id}')": "instance_id label function_name function_version current_execution_id status output",
    "instance_executions('{id}')": "execution_id status event_count duration_ms output",
    "instance_nodes('{id}')": (
        "node_id node_type query result_name left_node right_node status result status_details inferred_status "
        "inferred_status_from_ancestor_id updated_at"
    ),
}
OF_ONE: Final = ("instance_info", "instance_executions", "instance_nodes", "history")


@pytest.fixture(scope="module")
def home(server18: Cluster) -> Iterator[Database]:
    """One database; every test has instances of its own."""
    made = server18.database()
    yield made
    made.drop()


@pytest.fixture
def alice(home: Database) -> Iterator[Asking]:
    with home.connect("alice", autocommit=False) as connection:
        connection.execute("select")  # so that every question is a savepoint, and none of them the transaction
        yield Asking(connection)
        connection.rollback()


@pytest.fixture
def bob(home: Database) -> Iterator[Asking]:
    with home.connect("bob", autocommit=False) as connection:
        connection.execute("select")  # so that every question is a savepoint, and none of them the transaction
        yield Asking(connection)
        connection.rollback()


# --- shapes and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", COLUMNS)
def test_a_function_has_exactly_the_columns_of_the_language(home: Database, alice: Asking, call: str) -> None:
    id = alice.one("select df.start('select 1')")
    cursor = alice.connection.execute(f"select * from df.{call.format(id=id)}".encode())
    assert cursor.description is not None
    assert [column.name for column in cursor.description] == COLUMNS[call].split()


def test_the_view_of_nodes_has_the_columns_of_instance_nodes_after_id_and_instance_id(alice: Asking) -> None:
    id = alice.one("select df.start('a' ~> 'b')")
    cursor = alice.connection.execute("select * from df.nodes where instance_id = %s order by id", [id])
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    assert names == ["id", "instance_id", *COLUMNS["instance_nodes('{id}')"].split()]
    assert [row[2:] for row in cursor] == alice.rows("select * from df.instance_nodes(%s)", id)


@pytest.mark.parametrize("function", OF_ONE)
def test_an_instance_that_is_missing_and_one_that_is_foreign_are_refused_alike(
    home: Database, bob: Asking, function: str
) -> None:
    Story(home, f"alices-{function}", "'select 1'")
    for id in ("nowhere", f"alices-{function}"):
        assert bob.refused(f"select * from df.{function}(%s)", id) == f"Instance not found or access denied: {id}"
    assert bob.refused(f"select * from df.{function}(null)") == f"df.{function}: argument id is NULL"


def test_bob_sees_nothing_of_alices(home: Database, bob: Asking) -> None:
    story = Story(home, "private", "'a' ~> df.sleep(1)", label="secret").did("2").did("3", by="engine").is_("running")
    story.shows({"node": 3, "step": "3", "state": "sleeping"})
    assert listed(bob) == []
    assert listed(bob, "label_filter => 'secret'") == []
    assert listed(bob, "'running'") == []
    assert bob.rows("select * from df.nodes") == []
    assert bob.rows("select * from df.completions") == []


def test_the_engines_completions_are_told_to_whom_the_instance_is_shown_and_to_nobody_else(
    home: Database, alice: Asking, bob: Asking
) -> None:
    story = Story(home, "timed", "df.sleep(1)").did("1", by="engine")
    event = home.run("select event_id from df.instances where id = 'timed'")[0][0]
    query = "select step from df.engines_completions(%s, %s)"
    assert alice.rows(query, story.key, event) == [("1",)]
    assert bob.rows("select event_id from df.instances") == []
    for guess in (None, "00000000-0000-0000-0000-000000000000"):
        assert bob.rows(query, story.key, guess) == []
    assert bob.rows("select * from df.all_completions(%s)", story.key) == []
    assert bob.rows("select * from df.node_states(%s)", story.key) == []
    assert bob.rows("select * from df.step_records(%s)", story.key) == []


def test_the_owner_of_df_and_its_members_read_all_roles_instances(home: Database) -> None:
    story = Story(home, "watched", "'a' ~> 'b'").did("2").is_("running")
    member = home.new_role("operator")
    home.run(f"grant {ENGINE_ROLE} to {member}")
    for role in (ENGINE_ROLE, member):
        with home.connect(role, autocommit=False) as connection:
            asking = Asking(connection)
            assert "watched" in listed(asking, "limit_count => 1000")
            assert "watched" in listed(asking, "'running', limit_count => 1000")
            assert asking.rows("select instance_id from df.instance_info('watched')") == [("watched",)]
            assert len(asking.rows("select * from df.instance_nodes('watched')")) == 3
            assert len(asking.rows("select * from df.nodes where instance_id = 'watched'")) == 3
            assert len(asking.rows("select * from df.history('watched')")) == 2
            assert asking.one("select df.explain('watched')") == story.explained()


def test_all_is_security_invoker_with_a_pinned_path_but_for_the_totals(home: Database) -> None:
    functions = ("list_instances", "history", "explain", "node_states", "step_records", "page_of_instances", *OF_ONE)
    query = "select proname, prosecdef, proconfig::text from pg_proc where pronamespace = 'df'::regnamespace"
    found = {name: (definer, config) for name, definer, config in home.run(query)}
    for name in functions:
        assert not found[name][0], name
        assert "search_path=pg_catalog, pg_temp" in (found[name][1] or ""), name
    assert [name for name in found if found[name][0]] != []
    assert home.run("select reloptions::text from pg_class where oid = 'df.nodes'::regclass") == [
        ("{security_invoker=true}",)
    ]


# --- list_instances -------------------------------------------------------------------------------------------------


def test_the_newest_come_first_and_among_those_of_one_transaction_the_greatest_id(alice: Asking) -> None:
    for id in ("tie-b", "tie-c", "tie-a"):
        alice.one("select df.start('select 1', id => %s)", id)
    assert listed(alice, "limit_count => 3") == ["tie-c", "tie-b", "tie-a"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("filters", ["", "label_filter => 'page'", "status_filter => 'pending'"])
def test_pages_are_the_whole_list_without_gaps_or_repeats(alice: Asking, size: int, filters: str) -> None:
    alice.rows(
        "insert into df.instances (id, graph, label) select 'page-' || n, 'x', 'page' from generate_series(1, 7) n"
    )
    comma = ", " if filters else ""
    whole = listed(alice, f"{filters}{comma}limit_count => 1000")
    assert len(whole) >= 7
    pages: list[str] = []
    cursor = None
    while True:
        rows = alice.rows(
            f"select instance_id, next_cursor from df.list_instances({filters}{comma}limit_count => %s, after_cursor => %s)",
            size,
            cursor,
        )
        assert not {row[0] for row in rows} & set(pages)
        pages += [row[0] for row in rows]
        assert len({row[1] for row in rows}) == 1
        cursor = rows[-1][1]
        if cursor is None:
            break
    assert pages == whole


def test_filters_by_status_and_label_are_exact(home: Database, alice: Asking) -> None:
    for n, status in enumerate(("completed", "failed", "cancelled", "running", "pending")):
        for label in ("odd", "even"):
            Story(home, f"filter-{label}-{n}", "'select 1'", label=f"filter {label}").is_(status)
    for n, status in enumerate(("completed", "failed", "cancelled", "running", "pending")):
        assert listed(alice, "%s, label_filter => 'filter odd'", status) == [f"filter-odd-{n}"]
        assert f"filter-even-{n}" in listed(alice, "%s, limit_count => 1000", status)
        others = [id for id in listed(alice, "%s, limit_count => 1000", status) if id.startswith("filter-")]
        assert set(others) == {f"filter-odd-{n}", f"filter-even-{n}"}
    assert listed(alice, "label_filter => 'filter even'") == [f"filter-even-{n}" for n in (4, 3, 2, 1, 0)]
    assert listed(alice, "label_filter => 'filter'") == []


def test_a_row_of_the_list_tells_how_it_ended(home: Database, alice: Asking) -> None:
    Story(home, "told-1", "'a' ~> 'b'", label="told").is_("completed", result={"rows": [], "row_count": 0})
    Story(home, "told-2", "'a'", label="told").is_("failed", error={"message": "no"})
    rows = alice.rows(
        "select function_name, execution_count, output, completed_at is not null from df.list_instances(label_filter => 'told')"
    )
    assert rows == [("SQL", 1, {"message": "no"}, True), ("THEN", 1, {"rows": [], "row_count": 0}, True)]


def test_a_graph_that_was_written_past_the_validation_spoils_no_list(home: Database, alice: Asking) -> None:
    story = Story(home, "spoilt", "'x'").is_("failed", error={"message": "no"})
    for graph in ('{"LOOP', '{"x":1,"LOOP":', '{"node_type":"LOOP"', '{"query":1,"node_type":"SLEEP"}'):
        story.engine("update df.instances set graph = %s where id = 'spoilt'", graph)
        assert "spoilt" in listed(alice, "limit_count => 1000")
        assert alice.one("select status from df.instance_info('spoilt')") == "failed"
    story.engine("delete from df.instances where id = 'spoilt'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("limit_count => 0", "df.list_instances: limit_count must be from 1 to 1000, not 0"),
        ("limit_count => -1", "df.list_instances: limit_count must be from 1 to 1000, not -1"),
        ("limit_count => 1001", "df.list_instances: limit_count must be from 1 to 1000, not 1001"),
        ("limit_count => null", "df.list_instances: limit_count must be from 1 to 1000, not NULL"),
        (
            "'done'",
            "df.list_instances: unknown status 'done'. Valid statuses: pending, running, completed, failed, cancelled",
        ),
        *(
            (f"after_cursor => '{cursor}'", "df.list_instances: invalid after_cursor")
            for cursor in (
                "",
                "x",
                "1",
                ":",
                "1:",
                ":a",
                "-1:a",
                "1:a b",
                "99999999999999999999:a",
                "1.5:a",
                "1:a''; --",
            )
        ),
    ],
)
def test_what_cannot_be_listed_is_refused_with_the_reason(alice: Asking, arguments: str, message: str) -> None:
    assert alice.refused(f"select * from df.list_instances({arguments})") == message


def test_the_cap_of_a_page_is_a_setting(home: Database, alice: Asking) -> None:
    home.run("update df.settings set value = '5' where name = 'list_limit'", role=ENGINE_ROLE)
    try:
        assert "from 1 to 5" in alice.refused("select * from df.list_instances(limit_count => 6)")
    finally:
        home.run("update df.settings set value = '1000' where name = 'list_limit'", role=ENGINE_ROLE)


def test_one_that_has_run_for_long_is_found_behind_thousands_of_newer_ones(server18: Cluster) -> None:
    home = server18.database()
    try:
        old = Story(home, "sleeper", "df.sleep(86400)", label="z").is_("running").shows({"node": 1, "step": "1"})
        Story(home, "stuck", "'select 1'").engine("update df.instances set quarantined = 'why' where id = 'stuck'")
        with home.connect("alice") as connection:
            connection.execute(
                "insert into df.instances (id, graph) select 'new-' || n, 'x' from generate_series(1, 5500) n"
            )
        home.run(
            "update df.instances set status = 'completed', finished_at = now() where id like 'new-%'", role=ENGINE_ROLE
        )
        home.run("update df.instances set status = 'running' where id in ('new-1', 'new-5500')", role=ENGINE_ROLE)
        old.engine("insert into df.progress select submitted_by, key, '[]' from df.instances where id = 'new-5500'")
        with home.connect("alice", autocommit=False) as connection:
            alice = Asking(connection)
            assert listed(alice, "'running'")[-1] == "sleeper"
            assert "new-5500" in listed(alice, "'running'")
            assert listed(alice, "'pending'") == ["stuck"]
            assert listed(alice, "'running', label_filter => 'z'") == ["sleeper"]
            first, cursor = alice.rows("select instance_id, next_cursor from df.list_instances('running', 1)")[0]
            assert "sleeper" in listed(alice, "'running', after_cursor => %s", cursor)
            assert first != "sleeper"
    finally:
        home.drop()


def test_every_index_leads_with_the_owner_but_for_the_bare_key(home: Database) -> None:
    query = """
        select indexdef from pg_indexes
         where schemaname = 'df' and tablename in ('instances', 'signals', 'cancellations', 'releases', 'completions')
    """
    for (definition,) in home.run(query):
        columns = definition.split("USING btree ")[1]
        assert columns.startswith(("(submitted_by", "(submitter", "(owner", "(run_as")) or columns == "(key)", (
            definition
        )


def test_the_updates_of_an_instance_that_goes_well_stay_hot(server18: Cluster) -> None:
    home = server18.database()
    try:
        with home.connect("alice") as connection:
            connection.execute("insert into df.instances (id, graph, label) values ('one', 'select 1', 'x')")
        with home.connect(ENGINE_ROLE) as engine:
            engine.execute("update df.instances set status = 'running', started_at = now(), updated_at = now()")
            engine.execute("update df.instances set status = 'completed', finished_at = now(), result = '{}'")
            engine.execute("select pg_stat_force_next_flush()")
            seen = engine.execute(
                "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = 'df.instances'::regclass"
            ).fetchone()
        assert seen == (2, 2)
    finally:
        home.drop()


# --- instance_nodes -------------------------------------------------------------------------------------------------


def test_nodes_are_numbered_as_step_keys_are_whatever_the_order_of_the_text(home: Database) -> None:
    graph = """
        '{"right_node":{"query":"c","node_type":"SQL"},"node_type":"IF","condition_node":{"node_type":"SQL","query":"a"},
          "left_node":{"right_node":{"node_type":"SQL","query":"b2"},"left_node":{"node_type":"SQL","query":"b1","result_name":"n"},
          "node_type":"THEN"}}'
    """
    nodes = Story(home, "order-of-text", graph).nodes()
    assert [(n, row["node_type"], row["query"]) for n, row in nodes.items()] == [
        (1, "IF", None),
        (2, "THEN", None),
        (3, "SQL", "b1"),
        (4, "SQL", "b2"),
        (5, "SQL", "c"),
        (6, "SQL", "a"),
    ]
    assert (nodes[1]["left_node"], nodes[1]["right_node"], nodes[3]["result_name"]) == (2, 5, "n")


def test_a_new_instance_is_pending_all_over(home: Database) -> None:
    assert Story(home, "fresh", "'a' ~> df.sleep(3)").inferred() == ["pending"] * 3


def test_the_branch_that_was_not_taken_is_skipped_and_says_which_node_decided(home: Database) -> None:
    story = Story(home, "decided", "df.if('c', 'a' ~> 'b', 'd')").did("5", value=False).did("6", value=True)
    # 1 IF, 2 THEN, 3 a, 4 b, 5 d, 6 c
    nodes = story.is_("completed", result={"rows": []}).nodes()
    assert [row["inferred_status"] for row in nodes.values()] == [
        "completed", "skipped", "skipped", "skipped", "completed", "completed",
    ]  # fmt: skip
    assert [row["inferred_status_from_ancestor_id"] for row in nodes.values()] == [None, 1, 1, 1, None, None]
    assert nodes[3]["status"] == "pending"
    assert nodes[5]["result"] == {"rows": [{"v": False}], "row_count": 1}


def test_a_loop_shows_its_current_iteration(home: Database) -> None:
    story = Story(home, "looping", "df.loop('a' ~> 'b', 'c')").is_("running")
    # 1 LOOP, 2 THEN, 3 a, 4 b, 5 c
    for step in ("3.9", "4.9", "5.9", "3.10"):
        story.did(step, value=step)
    story.shows(
        {"node": 1, "step": "1", "state": "running", "iteration": 10}, {"node": 4, "step": "4.10", "state": "running"}
    )
    nodes = story.nodes()
    assert story.inferred() == ["running", "running", "completed", "running", "pending"]
    assert nodes[3]["result"]["rows"] == [{"v": "3.10"}]
    assert nodes[4]["status_details"]["step"] == "4.10"
    story.shows({"node": 1, "step": "1", "state": "sleeping", "iteration": 11, "due_us": 1_700_000_000_000_000})
    assert story.inferred() == ["running", "pending", "pending", "pending", "pending"]
    assert story.nodes()[1]["status_details"]["due"].startswith("2023-11-14T22:13:20")


def test_a_break_ends_the_loop_and_what_follows_it_is_skipped(home: Database) -> None:
    story = Story(home, "broken", "df.loop(df.if('c', df.break(), 'd') ~> 'e')")
    # 1 LOOP, 2 THEN, 3 IF, 4 BREAK, 5 d, 6 c, 7 e
    story.did("6.1", value=False).did("5.1").did("7.1").did("6.2", value=True).is_("completed")
    assert story.inferred() == ["completed", "completed", "completed", "completed", "skipped", "completed", "skipped"]


def test_a_failure_is_shown_where_it_was_and_what_came_after_is_skipped(home: Database) -> None:
    story = Story(home, "failing", "'a' ~> 'b' ~> 'c'").did("3").did("4", "failed")
    story.is_("failed", error={"message": "no", "code": "XX000", "node": 4, "step": "4", "attempt": 1})
    nodes = story.nodes()
    assert story.inferred() == ["failed", "failed", "completed", "failed", "skipped"]
    assert nodes[4]["status_details"]["error"]["message"] == "no"


def test_a_node_that_failed_without_a_completion_is_shown_by_the_error(home: Database) -> None:
    story = Story(home, "unsubstituted", "'a' ~> df.sleep('$x')").did("2")
    story.is_("failed", error={"message": "no x", "node": 3, "step": "3"})
    assert story.inferred() == ["failed", "completed", "failed"]


def test_a_wait_says_what_it_waits_for_and_what_it_got(home: Database, alice: Asking) -> None:
    story = Story(home, "waiting", "df.wait_for_signal('go', 60) ~> 'b'").is_("running")
    story.shows({"node": 2, "step": "2", "state": "waiting", "signal": "go", "due_us": 1_700_000_000_000_000})
    details = story.nodes()[2]["status_details"]
    assert (details["state"], details["signal"], story.inferred()) == (
        "waiting",
        "go",
        ["running", "running", "pending"],
    )
    home.run("select df.signal('waiting', 'go', '7')", role="alice")
    story.engine("update df.signals set folded = true, taken_by = '2' where instance_id = 'waiting'")
    assert story.nodes()[2]["result"] == {"signal_name": "go", "timed_out": False, "data": 7}
    assert story.inferred() == ["running", "completed", "pending"]


def test_a_childs_id_is_shown_as_soon_as_it_is_there(home: Database) -> None:
    story = Story(home, "parent", "'a' ~> df.call_child('b', 'kid')").did("2").is_("running")
    child = f"~{story.key}/3"
    story.engine(
        """
        insert into df.instances (submitted_by, submitter, id, graph, label, parent_key, parent_step, parent_id)
        values ('alice'::regrole, 'alice'::regrole, %s, 'b', 'kid', %s, '3', 'parent')
        """,
        child,
        story.key,
    )
    assert story.nodes()[3]["status_details"]["child"] == child
    assert story.inferred()[:3] == ["running", "completed", "running"]
    story.did("3", by="engine", result={"instance_id": child, "status": "completed", "result": {"x": 1}, "error": None})
    assert (story.nodes()[3]["result"], story.nodes()[3]["status_details"]["child"]) == ({"x": 1}, child)
    assert story.inferred()[2] == "completed"


def test_losers_of_a_race_are_cancelled(home: Database) -> None:
    story = Story(home, "raced", "df.race_all('a', df.sleep(60), 'c')").did("2").did("4", "cancelled").is_("completed")
    assert story.inferred() == ["completed", "completed", "skipped", "cancelled"]


def test_a_step_that_somebody_else_completed_does_not_count(home: Database) -> None:
    story = (
        Story(home, "forged", "'a' ~> df.sleep(1)").is_("running").did("3").did("2", by="engine").did("9").did("2.1")
    )
    assert story.inferred() == ["running", "pending", "pending"]


# --- explain of an instance -----------------------------------------------------------------------------------------


def test_an_instance_is_explained_with_markers(home: Database) -> None:
    story = Story(home, "explained", "df.if('c', 'a', 'd') ~> df.join('x', 'y') ~> 'z'").is_("running")
    # 1 THEN, 2 THEN, 3 IF, 4 a, 5 d, 6 c, 7 JOIN, 8 x, 9 y, 10 z
    story.did("6", value=True).did("4").did("8").shows({"node": 9, "step": "9", "state": "running"})
    assert (
        story.explained()
        == """\
✓ IF
  ? condition:
    ✓ SQL: c
  ✓ then:
    ✓ SQL: a
  ✗ else:
    ⊘ SQL: d
⏳ JOIN (2)
  ║ branch 1:
    ✓ SQL: x
  ║ branch 2:
    ⏳ SQL: y
○ SQL: z"""
    )


# --- history and executions -----------------------------------------------------------------------------------------


def test_a_history_tells_what_ran_when_who_and_why_it_ended(home: Database) -> None:
    story = Story(home, "told", "'a {x}' ~> df.wait_for_signal('go') ~> df.sleep(1) ~> 'd'", label="why")
    # 1 THEN, 2 THEN, 3 THEN, 4 a, 5 SIGNAL, 6 SLEEP, 7 d
    story.did("4", query="a 5", repetitions=2, note="may have run before")
    home.run("select df.signal('told', 'go', '[1]')", role="alice")
    story.engine("update df.signals set folded = true, taken_by = '5' where instance_id = 'told'")
    story.did("6", by="engine").did("7", "cancelled")
    home.run("select df.cancel('told', 'enough')", role="alice")
    story.engine("update df.cancellations set folded = true where instance_id = 'told'")
    story.is_("cancelled", error={"message": "enough"})
    events = story.history()
    assert [(e["event"], e["step"], e["node_type"], e["outcome"]) for e in events] == [
        ("started", None, None, None),
        ("step", "4", "SQL", "completed"),
        ("signal", "5", "SIGNAL", "taken"),
        ("timer", "6", "SLEEP", "completed"),
        ("step", "7", "SQL", "cancelled"),
        ("cancellation", None, None, "taken"),
        ("ended", None, None, "cancelled"),
    ]
    started, step, signal, _, last, cancellation, ended = events
    assert [e["number"] for e in events] == list(range(1, 8))
    assert (started["who"], started["note"]) == ("alice", "label 'why'")
    assert (step["query"], step["repetitions"], step["note"]) == ("a 5", 2, "may have run before")
    assert step["result"] == {"rows": [{"v": 1}], "row_count": 1}
    assert step["duration_ms"] >= 0
    assert last["query"] == "d"
    assert (signal["who"], signal["query"], signal["result"]) == ("alice", "go", [1])
    assert (cancellation["who"], cancellation["note"]) == ("alice", "enough")
    assert (ended["who"], ended["note"]) == ("alice", "enough")


def test_each_attempt_of_a_step_is_in_the_history(home: Database) -> None:
    story = (
        Story(home, "attempts", "df.with_undo('a', 'u')").did("2").did("3", "failed").did("3", attempt=2).is_("failed")
    )
    steps = [(e["step"], e["attempt"], e["outcome"]) for e in story.history() if e["event"] == "step"]
    assert steps == [("2", 1, "completed"), ("3", 1, "failed"), ("3", 2, "completed")]


def test_forged_completions_are_not_in_the_history(home: Database) -> None:
    story = Story(home, "forged-history", "df.sleep(1)").did("1").did("nonsense").did("99999")
    assert [e["event"] for e in story.history()] == ["started"]


def test_a_quarantined_instance_says_so(home: Database) -> None:
    story = Story(home, "set-aside", "'a'")
    story.engine("update df.instances set quarantined = 'a bug' where id = 'set-aside'")
    assert [(e["event"], e["note"]) for e in story.history()][1:] == [("quarantined", "a bug")]


def test_an_instance_without_a_loop_has_one_execution(home: Database, alice: Asking) -> None:
    Story(home, "once", "'a' ~> 'b'").did("2").did("3").is_("completed", result=[1])
    rows = alice.rows("select execution_id, status, event_count, output from df.instance_executions('once')")
    assert rows == [(1, "completed", 2, [1])]


def test_a_loop_has_one_execution_a_generation_newest_first(home: Database, alice: Asking) -> None:
    story = Story(home, "generations", "'a' ~> df.loop('b' ~> df.loop('c', 'd'))").did("2").is_("running")
    # 1 THEN, 2 a, 3 LOOP, 4 THEN, 5 b, 6 LOOP, 7 c, 8 d
    for generation in range(1, 13):
        story.did(f"5.{generation}").did(f"7.{generation}.1", value=generation)
    rows = alice.rows(
        "select execution_id, status, event_count, output->'rows'->0->>'v' from df.instance_executions('generations')"
    )
    assert rows == [
        (12, "running", 2, None),
        (11, "completed", 2, "11"),
        (10, "completed", 2, "10"),
        (9, "completed", 2, "9"),
        (8, "completed", 2, "8"),
    ]
    assert len(alice.rows("select * from df.instance_executions('generations', 100)")) == 12
    assert alice.one("select current_execution_id from df.instance_info('generations')") == 12
    assert alice.one("select execution_count from df.list_instances() where instance_id = 'generations'") == 12
    assert "limit_count must be from 1 to 1000" in alice.refused(
        "select * from df.instance_executions('generations', 0)"
    )


# --- metrics and version --------------------------------------------------------------------------------------------


def test_metrics_are_granted_by_themselves_and_tell_only_numbers(home: Database, alice: Asking) -> None:
    assert "permission denied" in alice.refused("select * from df.metrics()")
    home.run(
        "update df.checkpoint set started_total = 9, completed_total = 4, failed_total = 2, cancelled_total = 1, "
        "executions_total = 11, events_total = 50"
    )
    watcher = home.new_role("watcher", granted=False)
    home.run(f"grant usage on schema df to {watcher}")
    home.run(f"grant execute on function df.metrics() to {watcher}")
    with home.connect(watcher) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        assert cursor.execute("select * from df.metrics()").fetchone() == {
            "total_instances": 9,
            "running_instances": 2,
            "completed_instances": 4,
            "failed_instances": 2,
            "total_executions": 11,
            "total_events": 50,
        }


def test_the_version_is_a_text(alice: Asking) -> None:
    assert alice.one("select df.version()").count(".") == 2
