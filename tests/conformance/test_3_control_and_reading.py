"""LANGUAGE.md section 3, sentence by sentence: starting, steering, waiting, variables, and what can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import pytest

from tests.conformance.user import User
from tests.servers import wait_until

NODE_COLUMNS: Final = [
    *("node_id", "node_type", "query", "result_name", "left_node", "right_node", "status", "result", "status_details"),
    *("inferred_status", "inferred_status_from_ancestor_id", "updated_at"),
]
NewUser = Callable[[str], User]


@pytest.fixture
def label(request: pytest.FixtureRequest) -> str:
    """A label that no other test has."""
    return str(request.node.name)


@pytest.fixture
def variables(alice: User) -> Iterator[None]:
    """Alice has no variables, before and after."""
    alice.run("select df.clearvars()")
    yield
    alice.run("select df.clearvars()")


@contextmanager
def isolation(alice: User, level: str) -> Iterator[None]:
    """A transaction of this isolation level."""
    with alice.transaction():
        alice.run(f"set transaction isolation level {level}")
        yield


def waiting(alice: User) -> str:
    """Start an instance that waits for the signal s."""
    return alice.start("df.wait_for_signal('s')")


def finished(alice: User) -> str:
    """Start an instance that completes, and wait for that."""
    id = alice.start("'select 1 as a'")
    assert alice.end(id).status == "completed"
    return id


def columns(alice: User, query: str) -> list[str]:
    """The names of the columns of a query."""
    return [column.name for column in alice.connection.execute(query.encode()).description or []]


def test_start_takes_these_arguments_and_returns_the_id(alice: User, label: str) -> None:
    """`start(fut, label default null, database default null, transaction_mode default 'caller', id default null, input jsonb
    default null) → id`"""
    id = alice.value(
        """
        select df.start('select $input.n as n', label => %s, database => current_database(), transaction_mode => 'caller',
                        id => %s, input => '{"n":1}')
        """,
        [label, label],
    )
    assert id == label
    assert alice.end(id).result["rows"] == [{"n": 1}]
    assert alice.run("select label from df.instances where id = %s", [id]) == [(label,)]


def test_signal_and_cancel_return_these_texts(alice: User) -> None:
    """`signal(instance_id, signal_name, signal_data default '{}') → 'OK'`, `cancel(instance_id, reason default 'Cancelled by
    user')` → `Instance <id> cancelled: <reason>`"""
    signalled, cancelled, for_a_reason = waiting(alice), waiting(alice), waiting(alice)
    assert alice.value("select df.signal(%s, 's')", [signalled]) == "OK"
    assert alice.value("select df.cancel(%s)", [cancelled]) == f"Instance {cancelled} cancelled: Cancelled by user"
    assert (
        alice.value("select df.cancel(%s, 'too late')", [for_a_reason])
        == f"Instance {for_a_reason} cancelled: too late"
    )
    assert alice.end(signalled).result["data"] == {}
    assert alice.end(cancelled).status == "cancelled"
    assert "too late" in json.dumps(alice.end(for_a_reason).error)


def test_the_functions_are_sugar_for_three_inserts(alice: User) -> None:
    """the sugar for the three INSERTs."""
    signalled, cancelled = (alice.insert(alice.build("df.wait_for_signal('s')")) for _ in range(2))
    alice.run("""insert into df.signals (instance_id, name, data) values (%s, 's', '{"a":1}')""", [signalled])
    alice.run("insert into df.cancellations (instance_id, reason) values (%s, 'no need')", [cancelled])
    assert alice.end(signalled).result["data"] == {"a": 1}
    assert alice.end(cancelled).status == "cancelled"


def test_start_with_an_id_is_idempotent(alice: User, label: str) -> None:
    """With `id`, start is idempotent: an existing instance of one's own is returned."""
    start = "select df.start(%s, id => %s)"
    assert alice.value(start, ["select 1 as a", label]) == alice.value(start, ["select 2 as a", label]) == label
    assert alice.end(label).result["rows"] == [{"a": 1}]
    assert alice.value(start, ["select 3 as a", label]) == label
    assert alice.value("select count(*) from df.instances where id = %s", [label]) == 1


def test_transaction_mode_new_is_refused(alice: User) -> None:
    """`transaction_mode => 'new'` raises `walflow starts join the caller's transaction`."""
    message = alice.refused("select df.start('select 1', transaction_mode => 'new')")
    assert message == "walflow starts join the caller's transaction"


def test_an_unknown_and_a_foreign_instance_are_refused_alike(alice: User, bob: User) -> None:
    """Unknown or foreign instance: `Instance not found or access denied: <id>`"""
    foreign = waiting(bob)
    for id in ("no-such-instance", foreign):
        message = f"Instance not found or access denied: {id}"
        assert alice.refused("select df.signal(%s, 's')", [id]) == message
        assert alice.refused("select df.cancel(%s)", [id]) == message
        assert alice.refused("insert into df.signals (instance_id, name) values (%s, 's')", [id]) == message
        assert alice.refused("insert into df.cancellations (instance_id) values (%s)", [id]) == message
    bob.run("select df.signal(%s, 's')", [foreign])


def test_a_finished_instance_cannot_be_signalled_and_cancel_says_so(alice: User) -> None:
    """a finished one: `Instance <id> is already <status>` (cancel returns that text instead of raising"""
    completed, failed = finished(alice), alice.start("'select 1 / 0'")
    assert alice.end(failed).status == "failed"
    for id, status in ((completed, "completed"), (failed, "failed")):
        assert alice.refused("select df.signal(%s, 's')", [id]) == f"Instance {id} is already {status}"
        assert alice.value("select df.cancel(%s)", [id]) == f"Instance {id} is already {status}"


def test_a_plain_row_for_a_finished_instance_is_ignored(alice: User) -> None:
    """a plain row for a finished instance is ignored)."""
    id = finished(alice)
    alice.run("insert into df.signals (instance_id, name) values (%s, 's')", [id])
    alice.run("insert into df.cancellations (instance_id) values (%s)", [id])
    finished(alice)
    assert alice.end(id).status == "completed"


def test_signal_data_that_is_not_json_becomes_a_json_string(alice: User) -> None:
    """Signal data that is not JSON becomes a JSON string."""
    data = {"yes please": "yes please", "[1,": "[1,", "[1]": [1], '"x"': "x", "": "", "7": 7}
    ids = [waiting(alice) for _ in data]
    for id, text in zip(ids, data, strict=True):
        alice.run("select df.signal(%s, 's', %s::text)", [id, text])
    assert [alice.end(id).result["data"] for id in ids] == list(data.values())


@pytest.mark.parametrize("command", ["signal('late', 's')", "cancel('late-too')"])
def test_inside_a_step_an_instance_that_does_not_show_yet_is_waited_for(alice: User, command: str) -> None:
    """Inside a step, signal and cancel wait up to 5 s for the instance's row to show."""
    id, lock = command.split("'")[1], hash(command) % 1_000_000
    inside = f"select 1 from pg_locks where locktype = 'advisory' and objid = {lock}"
    with alice.connect() as connection:
        connection.execute("select df.start(df.wait_for_signal('s'), id => %s)", [id])
        step = alice.start(f"$$select pg_advisory_xact_lock({lock}), df.{command}$$")
        wait_until(lambda: alice.run(inside), what="the step runs")
        connection.commit()
    assert alice.end(step).status == "completed"
    assert alice.end(id).status in ("completed", "cancelled")


@pytest.mark.parametrize("id", ["order-42", "A", "0", "a.b_c:d/e-f", "x" * 200])
def test_ids_that_callers_choose(alice: User, id: str) -> None:
    """Ids that callers choose: `[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}`"""
    assert alice.value("select df.start('select 1', id => %s)", [id]) == id


@pytest.mark.parametrize("id", ["", "-a", "~a", "a b", "ä", "a\n", "x" * 201, "a~"])
def test_other_ids_are_refused(alice: User, id: str) -> None:
    """Ids that callers choose: `[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}`"""
    assert alice.refused("select df.start('select 1', id => %s)", [id]).startswith("invalid instance id ")


def test_ids_are_unique_within_the_submitting_role(alice: User, bob: User, label: str) -> None:
    """unique within the submitting role."""
    alice.run("insert into df.instances (id, graph) values (%s, 'select ''alice'' as a')", [label])
    bob.run("insert into df.instances (id, graph) values (%s, 'select ''bob'' as a')", [label])
    assert "duplicate key" in alice.refused("insert into df.instances (id, graph) values (%s, 'select 1')", [label])
    assert alice.end(label).result["rows"] == [{"a": "alice"}]
    assert bob.end(label).result["rows"] == [{"a": "bob"}]


def test_an_idempotent_plain_insert_says_on_conflict(alice: User, label: str) -> None:
    """An idempotent plain INSERT says `ON CONFLICT (submitted_by, id) DO NOTHING`, or no target."""
    for target in ("", "(submitted_by, id)", ""):
        alice.run(
            f"insert into df.instances (id, graph) values (%s, 'select 1 as a') on conflict {target} do nothing",
            [label],
        )
    assert alice.value("select count(*) from df.instances where id = %s", [label]) == 1


def test_an_id_means_ones_own_instance_first_else_the_only_one_that_can_be_seen(
    new_user: NewUser, admin: User, label: str
) -> None:
    """Where a function or a row takes an instance id, one's own instance is meant first, else the only one of that id that
    can be seen"""
    member, other = new_user("member"), new_user("other")
    admin.run(f"grant {other.name} to {member.name}")
    wait = "select df.start(df.wait_for_signal('s'), id => %s)"
    other.run(wait, [f"{label}-only"])
    assert member.value("select df.status(%s)", [f"{label}-only"]) is not None
    member.run("select df.signal(%s, 's')", [f"{label}-only"])
    assert other.end(f"{label}-only").status == "completed"
    for user in (other, member):
        user.run(wait, [f"{label}-both"])
    member.run("select df.cancel(%s)", [f"{label}-both"])
    query = "select status from df.instances where id = %s and submitted_by = current_user::regrole"
    wait_until(lambda: member.value(query, [f"{label}-both"]) == "cancelled")
    assert other.value(query, [f"{label}-both"]) in ("pending", "running")


def test_the_owner_column_says_it_outright(new_user: NewUser, admin: User, label: str) -> None:
    """the `owner` column of `df.signals` and `df.cancellations` says it outright."""
    member, other = new_user("mate"), new_user("owner")
    admin.run(f"grant {other.name} to {member.name}")
    for user in (member, other):
        user.run("select df.start(df.wait_for_signal('s'), id => %s)", [label])
    owner = f"'{other.name}'::regrole"
    member.run(f"insert into df.signals (owner, instance_id, name, data) values ({owner}, %s, 's', '1')", [label])
    assert other.end(label).result["data"] == 1
    query = "select status from df.instances where id = %s and submitted_by = current_user::regrole"
    assert member.value(query, [label]) in ("pending", "running")


def test_bulk_starts_are_insert_select(alice: User, label: str) -> None:
    """Bulk starts are `INSERT … SELECT`, since COPY does not work under row-level security (tried)."""
    query = "insert into df.instances (graph, label) select 'select ' || n, %s from generate_series(1, 20) n"
    alice.run(query, [label])
    done = "select count(*) from df.instances where label = %s and status = 'completed'"
    wait_until(lambda: alice.value(done, [label]) == 20)
    copied = alice.connection.cursor().copy("copy df.instances (graph) from stdin")
    with pytest.raises(psycopg.errors.FeatureNotSupported), copied as copy:
        copy.write("select 1\n")


def test_status_and_result_are_null_for_an_unknown_id(alice: User, bob: User) -> None:
    """`status(id)`, `result(id)` (completed only; SELECT the `error` column for a failure): NULL for an unknown id."""
    foreign = finished(bob)
    for id in ("no-such-instance", foreign):
        assert alice.run("select df.status(%s), df.result(%s)", [id, id]) == [(None, None)]


def test_result_is_for_completed_instances_only(alice: User) -> None:
    """`status(id)`, `result(id)` (completed only; SELECT the `error` column for a failure)"""
    completed, failed = finished(alice), alice.start("'select 1 / 0'")
    assert alice.end(failed).error["code"] == "22012"
    read = "select df.status(%s), df.result(%s)"
    assert alice.run(read, [completed, completed]) == [("completed", {"rows": [{"a": 1}], "row_count": 1})]
    assert alice.run(read, [failed, failed]) == [("failed", None)]


def test_wait_for_completion_returns_the_status(alice: User) -> None:
    """`wait_for_completion(id, timeout_seconds default 30) → status`"""
    slept, failed = alice.start("df.sleep('0.3 seconds')"), alice.start("'select 1 / 0'")
    assert alice.value("select df.wait_for_completion(%s)", [slept]) == "completed"
    assert alice.value("select df.wait_for_completion(%s, 10)", [failed]) == "failed"


def test_wait_for_completion_raises_after_its_time(alice: User) -> None:
    """polls; error on timeout `Timeout after Ns waiting for instance X (status: S)…`"""
    id = waiting(alice)
    message = alice.refused("select df.wait_for_completion(%s, 1)", [id])
    assert re.match(rf"Timeout after 1s waiting for instance {id} \(status: (pending|running)\)", message)
    alice.run("select df.signal(%s, 's')", [id])


def test_wait_for_completion_refuses_an_instance_of_its_own_open_transaction(alice: User) -> None:
    """refuses, naming the reason, when the instance was started by the caller's own open transaction (it cannot begin before
    the commit; `df.instances.created_xid xid8` tells)"""
    with alice.connect() as connection:
        id = connection.execute("select df.start('select 1')").fetchone()
        assert id is not None
        query = (
            "select created_xid = pg_current_xact_id(), pg_typeof(created_xid)::text from df.instances where id = %s"
        )
        assert connection.execute(query, id).fetchone() == (True, "xid8")
        with pytest.raises(psycopg.Error, match="it cannot begin before the commit"):
            connection.execute("select df.wait_for_completion(%s)", id)
        connection.rollback()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_wait_for_completion_refuses_where_it_could_never_see_the_end(alice: User, level: str) -> None:
    """in REPEATABLE READ and SERIALIZABLE (it could never see the end)"""
    id = alice.start("'select 1'")
    with isolation(alice, level):
        message = alice.refused("select df.wait_for_completion(%s, 5)", [id])
    assert level.upper() in message.upper()


def test_wait_for_completion_refuses_inside_a_step(alice: User) -> None:
    """and inside a step."""
    id = finished(alice)
    assert "inside a workflow" in alice.error(f"$$select df.wait_for_completion('{id}')$$")["message"]


def test_variables_are_the_callers_own(alice: User, bob: User, variables: None) -> None:
    """`setvar(name, value)`, `getvar(name)`, `unsetvar(name)`, `clearvars()`: the caller's own"""
    alice.run("select df.setvar('a', '1'), df.setvar('b', '2')")
    alice.run("select df.setvar('a', '3')")
    assert alice.run("select df.getvar('a'), df.getvar('b'), df.getvar('c')") == [("3", "2", None)]
    assert bob.value("select df.getvar('a')") is None
    alice.run("select df.unsetvar('a')")
    assert alice.run("select df.getvar('a'), df.getvar('b')") == [(None, "2")]
    bob.run("select df.clearvars()")
    assert alice.value("select df.getvar('b')") == "2"
    alice.run("select df.clearvars()")
    assert alice.value("select df.getvar('b')") is None


def test_an_instance_takes_a_snapshot_at_its_insert(alice: User, variables: None) -> None:
    """an instance takes a snapshot at its INSERT, including uncommitted changes of that transaction"""
    alice.run("select df.setvar('v', 'old')")
    with alice.transaction():
        alice.run("select df.setvar('v', 'new')")
        id = alice.start("df.sleep('0.1 seconds') ~> $$select '{v}' as v$$")
        alice.run("select df.setvar('v', 'newest')")
    assert alice.end(id).result["rows"] == [{"v": "new"}]


@pytest.mark.parametrize("call", ["setvar('v', 'x')", "unsetvar('v')", "clearvars()"])
def test_inside_a_step_variables_cannot_be_written(alice: User, variables: None, call: str) -> None:
    """inside a step the writers fail with `df.setvar() cannot be called inside a workflow - set variables before starting
    the workflow`."""
    name = call.split("(")[0]
    assert alice.error(f"$$select df.{call}$$")["message"].startswith(
        f"df.{name}() cannot be called inside a workflow - set variables before starting the workflow"
    )


def test_list_instances_takes_every_argument_by_name_and_has_these_columns(alice: User) -> None:
    """`list_instances(status_filter, limit_count default 100, label_filter, after_cursor)`, every argument optional and by
    name"""
    assert columns(alice, "select * from df.list_instances()") == [
        *("instance_id", "label", "function_name", "status", "execution_count", "output"),
        *("created_at", "completed_at", "next_cursor"),
    ]
    by_name = "status_filter => 'completed', limit_count => 1, label_filter => 'none', after_cursor => null"
    assert alice.run(f"select * from df.list_instances({by_name})") == []


def test_list_instances_is_newest_first_with_a_cursor(alice: User, label: str) -> None:
    """newest first, id as tie-break, keyset cursor"""
    alice.run(
        """
        insert into df.instances (id, graph, label)
        select %s || n, case when n > 6 then 'select 1 / 0' else 'select 1' end, %s from generate_series(1, 7) n
        """,
        [label, label],
    )
    order = "select array_agg(id order by created_at desc, id desc) from df.instances where label = %s"
    expected = alice.value(order, [label])
    seen: list[str] = []
    cursor = None
    for _ in range(10):
        page = alice.run(
            "select instance_id, next_cursor from df.list_instances(limit_count => 3, label_filter => %s, after_cursor => %s)",
            [label, cursor],
        )
        seen += [id for id, _ in page]
        if not page or page[-1][1] is None:
            break
        cursor = page[-1][1]
    assert seen in (expected, expected[::-1])
    assert alice.end(f"{label}7").status == "failed"
    failed = "select instance_id from df.list_instances('failed', label_filter => %s)"
    assert alice.run(failed, [label]) == [(f"{label}7",)]


def test_list_instances_refuses_a_limit_under_1_or_over_the_cap(alice: User) -> None:
    """a limit under 1 or over the cap (1,000, in `df.settings`) is an error"""
    assert alice.run("select value from df.settings where name = 'list_limit'") == [("1000",)]
    alice.run("select 1 from df.list_instances(limit_count => 1000)")
    for limit in (0, -1, 1001):
        assert alice.refused("select 1 from df.list_instances(limit_count => %s)", [limit]).startswith(
            "df.list_instances: "
        )


def test_list_instances_refuses_a_malformed_cursor(alice: User) -> None:
    """a malformed cursor `df.list_instances: invalid after_cursor`."""
    message = alice.refused("select 1 from df.list_instances(after_cursor => 'nonsense')")
    assert message == "df.list_instances: invalid after_cursor"


def test_instance_info_is_one_row(alice: User) -> None:
    """`instance_info(id)` → `instance_id, label, function_name, function_version, current_execution_id, status, output`."""
    id = finished(alice)
    query = f"select * from df.instance_info('{id}')"
    assert columns(alice, query) == [
        *("instance_id", "label", "function_name", "function_version", "current_execution_id", "status", "output")
    ]
    row = alice.run("select instance_id, status, output::text::jsonb -> 'rows' from df.instance_info(%s)", [id])
    assert row == [(id, "completed", [{"a": 1}])]


def test_instance_executions_is_one_row_per_loop_generation(alice: User) -> None:
    """`instance_executions(id, limit_count default 5)` → one row per loop generation: `execution_id, status, event_count,
    duration_ms, output`."""
    id = alice.start("('select 0 as n' |=> 'n') ~> df.loop('select $n + 1 as n' |=> 'n', 'select $n < 7')")
    assert alice.end(id).status == "completed"
    query = f"select * from df.instance_executions('{id}')"
    assert columns(alice, query) == ["execution_id", "status", "event_count", "duration_ms", "output"]
    assert len(alice.run(query)) == 5
    assert len(alice.run(f"select * from df.instance_executions('{id}', limit_count => 10)")) == 7


def nodes_of(alice: User, id: str) -> list[tuple[Any, ...]]:
    """Type, status and inferred status of each node."""
    return alice.run("select node_type, query, status, inferred_status from df.instance_nodes(%s)", [id])


def test_instance_nodes_is_one_row_a_node(alice: User) -> None:
    """`instance_nodes(id)` → `node_id, node_type, query, result_name, left_node, right_node, status, result, status_details,
    inferred_status, inferred_status_from_ancestor_id, updated_at`: one row a node"""
    id = alice.start("('select 1 as a' |=> 'x') ~> 'select 2' & df.sleep(0)")
    assert alice.end(id).status == "completed"
    query = f"select * from df.instance_nodes('{id}')"
    assert columns(alice, query) == NODE_COLUMNS
    assert sorted(row[0] for row in nodes_of(alice, id)) == ["JOIN", "SLEEP", "SQL", "SQL", "THEN"]
    named = "select query, result_name, status, result::text::jsonb -> 'rows' from df.instance_nodes(%s) where result_name = 'x'"
    assert alice.run(named, [id]) == [("select 1 as a", "x", "completed", [{"a": 1}])]


def test_inferred_status_adds_skipped(alice: User) -> None:
    """inferred_status adds `skipped` (a branch decided against)"""
    id = alice.start("'select true' ?> 'select 1' !> 'select 2'")
    assert alice.end(id).status == "completed"
    inferred = {query: inferred for type, query, _, inferred in nodes_of(alice, id) if type == "SQL"}
    assert inferred == {"select true": "completed", "select 1": "completed", "select 2": "skipped"}


def test_inferred_status_shows_the_current_iteration(alice: User) -> None:
    """and shows the current iteration."""
    id = alice.start("""
        ('select 0 as n' |=> 'n')
        ~> df.loop(('select $n + 1 as n' |=> 'n') ~> ('select $n > 1' ?> df.wait_for_signal('s') !> 'select 7'))
    """)

    def inferred() -> dict[str, str]:
        return {type if type == "SIGNAL" else query: inferred for type, query, _, inferred in nodes_of(alice, id)}

    wait_until(lambda: inferred().get("SIGNAL") == "running", what="the second iteration waits")
    assert inferred()["select 7"] == "skipped"
    alice.run("select df.cancel(%s)", [id])


def test_nodes_is_a_view_of_the_same_for_all_of_the_callers_instances(alice: User, bob: User) -> None:
    """`df.nodes` is a view of the same for all of the caller's instances, with `id` and `instance_id` first."""
    mine, theirs = finished(alice), finished(bob)
    found = columns(alice, "select * from df.nodes limit 0")
    assert found[:2] == ["id", "instance_id"]
    assert set(NODE_COLUMNS) - {"node_id"} <= set(found)
    assert alice.run("select node_type, query, status from df.nodes where instance_id = %s", [mine]) == [
        ("SQL", "select 1 as a", "completed")
    ]
    assert alice.run("select 1 from df.nodes where instance_id = %s", [theirs]) == []


def test_live_views_show_an_instance_while_it_runs(alice: User) -> None:
    """Live views read `df.progress` and lag by one checkpoint."""
    id = alice.start("('select 1 as a' |=> 'x') ~> df.wait_for_signal('s')")
    wait_until(lambda: ("SQL", "completed") in [(type, status) for type, _, status, _ in nodes_of(alice, id)])
    assert "SIGNAL" in [type for type, _, status, _ in nodes_of(alice, id) if status != "completed"]
    alice.run("select df.signal(%s, 's')", [id])


def test_for_dfs_owner_and_its_members_the_reading_functions_cover_all_roles(
    alice: User, new_user: NewUser, admin: User, label: str
) -> None:
    """For df's owner and its members the reading functions cover all roles."""
    id = alice.value("select df.start('select 1 as a', label => %s)", [label])
    assert alice.end(id).status == "completed"
    operator = new_user("operator")
    listed = "select instance_id from df.list_instances(label_filter => %s)"
    assert operator.run(listed, [label]) == []
    admin.run(f"grant engine to {operator.name}")
    operator.connection.close()
    assert operator.run(listed, [label]) == [(id,)]
    assert operator.value("select df.status(%s)", [id]) == "completed"
    assert operator.value("select count(*) from df.instance_nodes(%s)", [id]) == 1


def test_history_is_what_happened_in_order(alice: User) -> None:
    """`history(id)` → what happened, in order: started, each attempt of each step with the SQL that really ran (after
    substitution), signals, timers, children, cancellation, end."""
    id = alice.start(
        "('select 41 as a' |=> 'x') ~> 'select $x + 1 as b' ~> df.sleep('0.05 seconds') ~> df.wait_for_signal('go', 60)"
    )
    alice.run("select df.signal(%s, 'go')", [id])
    assert alice.end(id).status == "completed"
    happened = [row for (row,) in alice.run("select to_jsonb(h)::text from df.history(%s) as h", [id])]
    assert "started" in happened[0]
    ran = [n for n, row in enumerate(happened) if "select 41 as a" in row or "select 41 + 1 as b" in row]
    assert len(ran) == 2
    assert ran == sorted(ran)
    assert any('"go"' in row or "go" in row for row in happened)
    assert "completed" in happened[-1]


def test_history_has_each_attempt_and_each_child(alice: User) -> None:
    """each attempt of each step with the SQL that really ran (after substitution), signals, timers, children"""
    id = alice.start(
        "df.catch(df.retry('select 1 / 0 as try', 3, initial => '0.02s'), df.call_child('select 1', 'the child'))"
    )
    assert alice.end(id).status == "completed"
    happened = [row for (row,) in alice.run("select to_jsonb(h)::text from df.history(%s) as h", [id])]
    tries = [row for row in happened if "select 1 / 0 as try" in row and "22012" in row]
    child = alice.value("select id from df.instances where parent_id = %s", [id])
    assert len(tries) == 3
    assert any(child in row for row in happened)


def test_history_ends_with_a_cancellation(alice: User) -> None:
    """signals, timers, children, cancellation, end."""
    id = waiting(alice)
    alice.run("select df.cancel(%s, 'not any more')", [id])
    assert alice.end(id).status == "cancelled"
    happened = alice.value("select string_agg(to_jsonb(h)::text, ' ') from df.history(%s) as h", [id])
    assert "not any more" in happened


def explain(alice: User, text: str) -> str:
    """What df.explain says."""
    return str(alice.value("select df.explain(%s)", [text]))


def test_explain_takes_a_graph_or_sql_text(alice: User) -> None:
    """`explain(input)` → text tree. Input: … a graph, or SQL text."""
    assert "SQL: select 1" in explain(alice, "select 1")
    assert "SQL: select 1" in explain(alice, alice.build("df.sql('select 1')"))


def test_explain_takes_an_instance_id_and_marks_what_has_happened(alice: User) -> None:
    """Input: an instance id (live, with markers `✓ ✗ ⏳ ○ ⊘`)"""
    id = alice.start("'select 1' ~> ('select true' ?> df.wait_for_signal('s') !> 'select 2') ~> 'select 3'")

    def marked(marker: str, text: str) -> bool:
        return any(marker in line and text in line for line in explain(alice, id).splitlines())

    wait_until(lambda: marked("⏳", "SIGNAL 's'"), what="the wait is shown")
    assert marked("✓", "SQL: select 1")
    assert marked("⊘", "SQL: select 2")
    assert marked("○", "SQL: select 3")
    alice.run("select df.signal(%s, 's')", [id])
    failed = alice.start("'select 1 / 0'")
    assert alice.end(failed).status == "failed"
    assert "✗" in explain(alice, failed)


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        ("df.sql('select 1')", ["SQL: select 1"]),
        ("df.sleep(30)", ["SLEEP 30s"]),
        ("df.wait_for_schedule('*/5 * * * *')", ["WAIT '*/5 * * * *'"]),
        ("df.http('https://example.com/', 'GET')", ["HTTP GET https://example.com/"]),
        ("df.wait_for_signal('n', 60)", ["SIGNAL 'n' (60s)"]),
        ("df.wait_for_signal('n')", ["SIGNAL 'n'"]),
        ("@> 'select 1'", ["LOOP (infinite)", "↻ body:"]),
        ("df.loop('select 1', 'select false')", ["LOOP (while)", "↻ body:", "? while:"]),
        ("@> df.break()", ["BREAK"]),
        ("'c' ?> 't' !> 'e'", ["IF", "? condition:", "✓ then:", "✗ else:"]),
        ("'a' & 'b'", ["JOIN (2)", "║ branch 1:", "║ branch 2:"]),
        ("df.join3('a', 'b', 'c')", ["JOIN (3)", "║ branch 3:"]),
        ("'a' | 'b'", ["RACE", "║ branch 1:"]),
        ("'a' |=> 'name'", ["SQL: a", "|=> 'name'"]),
    ],
)
def test_explain_has_these_texts(alice: User, expression: str, texts: list[str]) -> None:
    """Node texts `SQL: …`, `SLEEP 30s`, `WAIT '…'`, `HTTP GET …`, `SIGNAL 'n' (60s)`, `LOOP (infinite)`, `LOOP (while)`,
    `BREAK`, `IF`, `JOIN (2)`, `RACE`, with `|=> 'name'`; sub-headers `? condition:`, `✓ then:`, `✗ else:`, `↻ body:`,
    `? while:`, `║ branch 1:`."""
    tree = explain(alice, alice.build(expression))
    for text in texts:
        assert text in tree


def test_explain_never_evaluates_its_argument(alice: User) -> None:
    """It never evaluates its argument."""
    alice.run("create table public.explained (n int)")
    for text in ("insert into public.explained values (1)", "df.start('insert into public.explained values (1)')"):
        assert "SQL: " in explain(alice, text)
    assert alice.value("select count(*) from public.explained") == 0
    alice.run("drop table public.explained")


def test_metrics_is_granted_separately(new_user: NewUser, admin: User) -> None:
    """`metrics()` (granted separately) → `total_instances, running_instances, completed_instances, failed_instances,
    total_executions, total_events`"""
    user = new_user("metrics")
    assert "permission denied" in user.refused("select * from df.metrics()")
    admin.run(f"grant execute on function df.metrics() to {user.name}")
    assert columns(user, "select * from df.metrics()") == [
        *("total_instances", "running_instances", "completed_instances", "failed_instances"),
        *("total_executions", "total_events"),
    ]
    assert len(user.run("select * from df.metrics()")) == 1


def test_version_is_a_version(alice: User) -> None:
    """`version()`"""
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", alice.value("select df.version()"))


def test_grant_usage_and_revoke_usage_give_and_take(new_user: NewUser, admin: User) -> None:
    """`grant_usage(p_role, include_http default false, with_grant default false)`, `revoke_usage(p_role)`."""
    user = new_user("granted")
    assert user.result("'select 1'")["row_count"] == 1
    admin.run(f"select df.revoke_usage('{user.name}')")
    assert user.refused("select df.start('select 1')") == "permission denied for schema df"
    admin.run(f"select df.grant_usage(p_role => '{user.name}', include_http => false, with_grant => true)")
    assert user.result("'select 1'")["row_count"] == 1


def test_with_grant_the_role_may_grant_in_turn(new_user: NewUser, admin: User) -> None:
    """`grant_usage(p_role, include_http default false, with_grant default false)`"""
    giver, taker = new_user("giver"), new_user("taker")
    admin.run(f"select df.revoke_usage('{taker.name}')")
    assert "permission denied" in giver.refused(f"select df.grant_usage('{taker.name}')")
    admin.run(f"select df.grant_usage('{giver.name}', with_grant => true)")
    giver.run(f"select df.grant_usage('{taker.name}')")
    assert taker.result("'select 1'")["row_count"] == 1
