"""Starting, steering and asking: what each function does and says, in its own words."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.servers import ENGINE_ROLE, Cluster, Database, wait_until
from tests.workflows import World, world

Connection = psycopg.Connection[TupleRow]

FINAL: Final = ("completed", "failed", "cancelled")
COMMANDS: Final = {
    "df.signal({}, 'go')": "df.signals",
    "df.cancel({})": "df.cancellations",
    "df.release({})": "df.releases",
}


@pytest.fixture(scope="module")
def home(server18: Cluster) -> Iterator[Database]:
    """One database for all that no engine is needed for; what a test does is rolled back, or has an id of its own."""
    made = server18.database()
    yield made
    made.drop()


@pytest.fixture
def alice(home: Database) -> Iterator[Connection]:
    """Alice, in a transaction that is rolled back."""
    with home.connect("alice", autocommit=False) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="module")
def stage(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A database with a running engine."""
    made = server18.database()
    engine = made.engine(tmp_path_factory.mktemp("engine")).start()
    with world(made, engine) as stage:
        yield stage
    made.drop()


def rows(connection: Connection, query: str, *parameters: object) -> list[TupleRow]:
    return connection.execute(query.encode(), parameters or None).fetchall()


def value(connection: Connection, expression: str, *parameters: object) -> Any:
    return rows(connection, f"select {expression}", *parameters)[0][0]


def refusal(connection: Connection, expression: str, *parameters: object) -> tuple[str | None, str | None]:
    """Error text and SQLSTATE; what came before in the transaction stays."""
    with pytest.raises(psycopg.Error) as caught, connection.transaction():
        value(connection, expression, *parameters)
    return caught.value.diag.message_primary, caught.value.sqlstate


@contextmanager
def started(home: Database, id: str, status: str = "running", result: str | None = None) -> Iterator[str]:
    """An instance of alice's that is committed, with a status that the engine might have given it."""
    with home.connect("alice") as connection:
        value(connection, "df.start('select 1', id => %s)", id)
    home.run("update df.instances set status = %s, result = %s where id = %s", [status, result, id], role=ENGINE_ROLE)
    yield id
    home.run("delete from df.instances where id = %s", [id], role=ENGINE_ROLE)


# --- start ----------------------------------------------------------------------------------------------------------


def test_start_inserts_what_it_was_given_and_returns_the_id(alice: Connection) -> None:
    id = value(alice, """df.start('a' ~> 'b', 'nightly', input => '{"n": 1}')""")
    assert rows(
        alice, "select graph, label, input, status, submitted_by::text from df.instances where id = %s", id
    ) == [(value(alice, "'a' ~> 'b'"), "nightly", {"n": 1}, "pending", "alice")]


def test_the_ids_that_start_makes_are_new_and_in_order_of_time(alice: Connection) -> None:
    ids = [value(alice, "df.start('select 1')") for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(id) == 36 for id in ids)
    assert [id[:12] for id in ids] == sorted(id[:12] for id in ids)


def test_a_start_with_an_id_happens_once(home: Database, alice: Connection) -> None:
    with started(home, "order-1"):
        for _ in range(2):
            assert value(alice, "df.start('select 2', 'again', id => 'order-1')") == "order-1"
        assert rows(alice, "select graph, label, status from df.instances where id = 'order-1'") == [
            ("select 1", None, "running")
        ]


def test_two_starts_with_one_id_at_the_same_time_are_one(home: Database, alice: Connection) -> None:
    answers: list[str] = []

    def start_too() -> None:
        with home.connect("alice") as connection:
            answers.append(value(connection, "df.start('select 2', id => 'both')"))

    assert value(alice, "df.start('select 1', id => 'both')") == "both"
    other = threading.Thread(target=start_too)
    other.start()
    wait_until(
        lambda: home.run("select 1 from pg_stat_activity where usename = 'alice' and wait_event_type = 'Lock'"),
        what="the second start waits for the first",
    )
    assert answers == []
    alice.commit()
    other.join()
    assert answers == ["both"]
    assert home.run("delete from df.instances where id = 'both' returning graph", role=ENGINE_ROLE) == [("select 1",)]


def test_a_start_that_is_rolled_back_never_was(home: Database, alice: Connection) -> None:
    value(alice, "df.start('select 1', id => 'never')")
    alice.rollback()
    assert value(alice, "df.status('never')") is None


def test_start_takes_the_database_by_name_only_when_it_is_this_one(home: Database, alice: Connection) -> None:
    id = value(alice, "df.start('select 1', database => current_database())")
    assert value(alice, "(select database from df.instances where id = %s)", id) == home.name
    message, _ = refusal(alice, "df.start('select 1', database => 'elsewhere')")
    assert (
        message == 'database "elsewhere" is not this one: steps run in the database of their instance in this version'
    )


@pytest.mark.parametrize(
    ("arguments", "text", "sqlstate"),
    [
        ("'a', transaction_mode => 'new'", "walflow starts join the caller's transaction", "0A000"),
        ("'a', transaction_mode => 'old'", "df.start: transaction_mode must be 'caller', not 'old'", "22023"),
        ("'a', transaction_mode => null", "df.start: transaction_mode must be 'caller', not NULL", "22023"),
        ("null", "df.start: argument fut is NULL", "22004"),
        ("''", "Invalid durable function graph: root: SQL needs a query", "22023"),
        ("'a', id => '~child'", "invalid instance id '~child'", "22023"),
        ("'a', id => ''", "invalid instance id ''", "22023"),
        ("'a', id => E'a\\n'", "invalid instance id 'a\n'", "22023"),
    ],
)
def test_what_start_refuses(alice: Connection, arguments: str, text: str, sqlstate: str) -> None:
    assert refusal(alice, f"df.start({arguments})") == (text, sqlstate)
    assert rows(alice, "select 1 from df.instances") == []


def test_start_in_the_callers_mode_is_a_start(alice: Connection) -> None:
    assert value(alice, "df.start('select 1', null, null, 'caller', 'x')") == "x"


# --- signal, cancel, release ----------------------------------------------------------------------------------------


def test_each_command_says_what_it_did(home: Database, alice: Connection) -> None:
    with started(home, "i"):
        assert value(alice, "df.signal('i', 'go')") == "OK"
        assert value(alice, "df.cancel('i')") == "Instance i cancelled: Cancelled by user"
        assert value(alice, "df.cancel('i', 'too late, 100%')") == "Instance i cancelled: too late, 100%"
        assert value(alice, "df.cancel('i', null)") == "Instance i cancelled: Cancelled by user"
        assert value(alice, "df.release('i')") == "Instance i released: Released by user"
        assert value(alice, "df.release('i', 'mended')") == "Instance i released: mended"
        assert rows(alice, "select reason from df.cancellations order by recorded_at") == [
            ("Cancelled by user",),
            ("too late, 100%",),
            ("Cancelled by user",),
        ]
        assert rows(alice, "select reason from df.releases order by recorded_at") == [
            ("Released by user",),
            ("mended",),
        ]
        alice.rollback()


def test_a_command_may_follow_the_start_in_its_transaction(alice: Connection) -> None:
    value(alice, "df.start('select 1', id => 'i')")
    assert value(alice, "df.signal('i', 'go')") == "OK"
    assert rows(alice, "select s.name from df.signals s join df.instances i on i.key = s.instance_key") == [("go",)]


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        ("'{\"a\": 1}'", '{"a": 1}'),
        ("'[1,2]'::jsonb", "[1, 2]"),
        ("' 42 '", " 42 "),
        ("'approved'", '"approved"'),
        ("''", '""'),
        ("'{\"a\":'", '"{\\"a\\":"'),
        ("'01'", '"01"'),
        ("'it''s \"so\"'", '"it\'s \\"so\\""'),
        ("'\\u0000'", '"\\\\u0000"'),
        ("null::text", "null"),
        ("null::jsonb", "null"),
        ("repeat('[', 100000)", '"' + "[" * 100000 + '"'),
    ],
)
def test_data_of_a_signal_that_is_not_json_becomes_a_string(alice: Connection, data: str, stored: str) -> None:
    value(alice, "df.start('select 1', id => 'i')")
    assert value(alice, f"df.signal('i', 'go', {data})") == "OK"
    assert rows(alice, "select data::text from df.signals") == [(stored,)]


def test_a_signal_without_data_carries_an_empty_object(alice: Connection) -> None:
    value(alice, "df.start('select 1', id => 'i')")
    value(alice, "df.signal('i', 'go')")
    assert rows(alice, "select data::text from df.signals") == [("{}",)]


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_command_for_an_unknown_or_a_foreign_instance_says_the_same(
    home: Database, alice: Connection, command: str
) -> None:
    with started(home, "hers"), home.connect("bob", autocommit=False) as bob:
        for connection, id in ((alice, "nobodys"), (bob, "hers")):
            assert refusal(connection, command.format(f"'{id}'")) == (
                f"Instance not found or access denied: {id}",
                "P0002",
            )


@pytest.mark.parametrize("status", FINAL)
def test_a_finished_instance_takes_no_signal_and_its_cancellation_says_so(
    home: Database, alice: Connection, status: str
) -> None:
    with started(home, "done", status):
        assert refusal(alice, "df.signal('done', 'go')") == (f"Instance done is already {status}", "55000")
        for command in ("cancel", "release"):
            assert value(alice, f"df.{command}('done')") == f"Instance done is already {status}"
        for table in COMMANDS.values():
            assert rows(alice, f"select 1 from {table}") == []


def test_a_plain_row_for_a_finished_instance_is_taken(home: Database, alice: Connection) -> None:
    """And passed over by the engine."""
    with started(home, "done", "completed"):
        alice.execute("insert into df.signals (instance_id, name) values ('done', 'go')")
        alice.execute("insert into df.cancellations (instance_id) values ('done')")
        alice.rollback()


# --- status and result ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "running", *FINAL])
def test_status_is_that_of_the_instance_and_the_result_only_of_a_completed_one(
    home: Database, alice: Connection, status: str
) -> None:
    with started(home, "i", status, '{"rows" : [{"b":1,"a":2}]}'):
        assert value(alice, "df.status('i')") == status
        expected = '{"rows" : [{"b":1,"a":2}]}' if status == "completed" else None
        assert value(alice, "df.result('i')::text") == expected


@pytest.mark.parametrize("id", ["'nobodys'", "null", "'hers'"])
def test_of_an_unknown_or_a_foreign_instance_status_and_result_are_null(home: Database, id: str) -> None:
    with started(home, "hers", "completed", "1"), home.connect("bob") as bob:
        assert rows(bob, f"select df.status({id}), df.result({id})") == [(None, None)]


def test_the_owner_of_df_reads_the_status_of_every_instance(home: Database) -> None:
    with started(home, "i", "completed", "1"), home.connect(ENGINE_ROLE) as engine:
        assert rows(engine, "select df.status('i'), df.result('i')") == [("completed", 1)]


def test_an_id_that_two_roles_have_is_ambiguous_to_the_owner_of_df(home: Database) -> None:
    with started(home, "i"), home.connect("bob") as bob, home.connect(ENGINE_ROLE) as engine:
        value(bob, "df.start('select 1', id => 'i')")
        assert value(bob, "df.status('i')") == "pending"
        assert refusal(engine, "df.status('i')") == (
            "Instance i is ambiguous: 2 roles that you may act for have one",
            "42P09",
        )


# --- wait_for_completion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", FINAL)
def test_waiting_for_a_finished_instance_returns_its_status_at_once(home: Database, status: str) -> None:
    with started(home, "i", status), home.connect("alice") as alice:
        assert value(alice, "df.wait_for_completion('i', 0)") == status


@pytest.mark.parametrize(("seconds", "said"), [("0", "0s"), ("0.050", "0.05s")])
def test_a_wait_that_takes_too_long_says_how_long_and_what_the_status_is(
    home: Database, seconds: str, said: str
) -> None:
    with started(home, "i", "running"), home.connect("alice") as alice:
        assert refusal(alice, f"df.wait_for_completion('i', {seconds})") == (
            f"Timeout after {said} waiting for instance i (status: running)",
            "P0001",
        )


def test_a_timeout_says_when_the_instance_is_quarantined(home: Database) -> None:
    with started(home, "i", "running"), home.connect("alice") as alice:
        home.run("update df.instances set quarantined = 'a bug' where id = 'i'", role=ENGINE_ROLE)
        assert refusal(alice, "df.wait_for_completion('i', 0)")[0] == (
            "Timeout after 0s waiting for instance i (status: running), quarantined: a bug"
        )


def test_waiting_for_an_unknown_instance_is_an_error(home: Database) -> None:
    with home.connect("bob") as bob, started(home, "hers"):
        for id in ("nobodys", "hers"):
            assert refusal(bob, "df.wait_for_completion(%s)", id) == (
                f"Instance not found or access denied: {id}",
                "P0002",
            )


def test_an_instance_of_the_open_transaction_is_not_waited_for(alice: Connection) -> None:
    value(alice, "df.start('select 1', id => 'i')")
    expected = "Instance i was started by this transaction: it cannot begin before the commit"
    assert refusal(alice, "df.wait_for_completion('i')") == (expected, "55000")
    with alice.transaction():
        assert refusal(alice, "df.wait_for_completion('i')") == (expected, "55000")


def test_an_instance_of_a_subtransaction_is_not_waited_for_either(alice: Connection) -> None:
    alice.execute("savepoint s")
    value(alice, "df.start('select 1', id => 'i')")
    alice.execute("release savepoint s")
    assert refusal(alice, "df.wait_for_completion('i')")[0] == (
        "Instance i was started by this transaction: it cannot begin before the commit"
    )


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_with_one_snapshot_does_not_wait(alice: Connection, level: str) -> None:
    alice.execute(f"set transaction isolation level {level}".encode())
    assert refusal(alice, "df.wait_for_completion('i')") == (
        f"df.wait_for_completion cannot be called in a {level} transaction: its snapshot would never show the end",
        "55000",
    )


@pytest.mark.parametrize("seconds", ["-1", "NULL", "NaN", "10000000001", "Infinity"])
def test_a_time_that_no_wait_can_take_is_refused(alice: Connection, seconds: str) -> None:
    given = "null" if seconds == "NULL" else f"'{seconds}'"
    assert refusal(alice, f"df.wait_for_completion('i', {given})") == (
        f"df.wait_for_completion: timeout_seconds must be from 0 to 10000000000, not {seconds}",
        "22023",
    )


def test_waiting_ends_when_the_instance_does(stage: World) -> None:
    with stage.database.connect("alice", autocommit=False) as alice:
        id = value(alice, "df.start('select 1 as n' ~> df.sleep('0.2') |=> 'x' ~> 'select 7 as seven')")
        alice.commit()
        alice.execute("begin")  # READ COMMITTED: each look is a new one
        assert value(alice, "df.wait_for_completion(%s)", id) == "completed"
        assert value(alice, "df.result(%s)", id) == {"rows": [{"seven": 7}], "row_count": 1}


# --- inside a step --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            f"select df.{call}",
            f"df.{call.split('(')[0]}() cannot be called inside a workflow - set variables before starting the workflow",
        )
        for call in ("setvar('a', 'b')", "unsetvar('a')", "clearvars()")
    ]
    + [
        (
            "select df.wait_for_completion('i')",
            "df.wait_for_completion cannot be called inside a workflow: the step would hold its transaction open",
        )
    ],
)
def test_a_step_neither_writes_variables_nor_waits_for_instances(stage: World, statement: str, message: str) -> None:
    outcome = stage.outcome(statement)
    assert outcome.status == "failed"
    assert message in outcome.message
    assert outcome.code == "55000"


def test_a_step_reads_variables_starts_and_signals(stage: World) -> None:
    stage.run("select df.setvar('where', 'here')", role="alice")
    waiting = stage.start(stage.build("select df.wait_for_signal('go', 60)"))
    outcome = stage.outcome(
        f"select df.getvar('where') as v, df.signal('{waiting}', 'go', 'x') as s, df.start('select 1', id => 'inner') as i"
    )
    assert outcome.rows == [{"v": "here", "s": "OK", "i": "inner"}]
    assert stage.end(waiting).status == "completed"
    assert stage.end("inner").status == "completed"


# --- variables ------------------------------------------------------------------------------------------------------


def test_variables_are_set_changed_read_and_removed(alice: Connection) -> None:
    assert value(alice, "df.getvar('a')") is None
    value(alice, "df.setvar('a', '1')")
    value(alice, "df.setvar('_B2', '')")
    value(alice, "df.setvar('a', '2')")
    assert rows(alice, "select df.getvar('a'), df.getvar('_B2'), df.getvar(null)") == [("2", "", None)]
    value(alice, "df.unsetvar('a')")
    value(alice, "df.unsetvar('unknown')")
    assert rows(alice, "select df.getvar('a'), df.getvar('_B2')") == [(None, "")]
    value(alice, "df.setvar('a', '3')")
    value(alice, "df.clearvars()")
    assert rows(alice, "select name from df.vars") == []


def test_variables_are_the_callers_own(home: Database, alice: Connection) -> None:
    value(alice, "df.setvar('a', 'hers')")
    alice.commit()
    with home.connect("bob") as bob:
        assert value(bob, "df.getvar('a')") is None
        value(bob, "df.setvar('a', 'his')")
        value(bob, "df.clearvars()")
    assert value(alice, "df.getvar('a')") == "hers"
    value(alice, "df.clearvars()")
    alice.commit()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("null, 'x'", "df.setvar: argument name is NULL"),
        ("'a', null", "df.setvar: argument value is NULL"),
        ("'a b', 'x'", "df.setvar: name 'a b' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"),
        ("'1', 'x'", "df.setvar: name '1' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"),
        ("E'a\\n', 'x'", "df.setvar: name 'a\n' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"),
    ],
)
def test_what_no_variable_can_be_is_refused(alice: Connection, arguments: str, text: str) -> None:
    assert refusal(alice, f"df.setvar({arguments})")[0] == text


def test_an_instance_takes_the_variables_of_its_moment_uncommitted_ones_included(
    home: Database, alice: Connection
) -> None:
    value(alice, "df.setvar('a', 'committed')")
    value(alice, "df.setvar('b', 'committed')")
    alice.commit()
    value(alice, "df.setvar('a', 'not committed')")
    value(alice, "df.unsetvar('b')")
    first = value(alice, "df.start('select 1')")
    value(alice, "df.setvar('a', 'later')")
    second = value(alice, "df.start('select 1')")
    value(alice, "df.clearvars()")
    third = value(alice, "df.start('select 1')")
    snapshots = [value(alice, "(select vars from df.instances where id = %s)", id) for id in (first, second, third)]
    assert snapshots == [{"a": "not committed"}, {"a": "later"}, None]
    alice.rollback()
    value(alice, "df.clearvars()")
    alice.commit()


def test_what_a_step_finds_is_the_snapshot_and_not_what_was_set_since(stage: World) -> None:
    with stage.database.connect("alice", autocommit=False) as alice:
        value(alice, "df.setvar('v', 'then')")
        id = value(alice, "df.start(df.wait_for_signal('go', 60) ~> ('select ''{v}'' as v'))")
        alice.commit()
        value(alice, "df.setvar('v', 'now')")
        value(alice, "df.signal(%s, 'go')", id)
        alice.commit()
    assert stage.end(id).rows == [{"v": "then"}]


# --- version --------------------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_package(alice: Connection) -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{value(alice, "df.version()")}"' in project
