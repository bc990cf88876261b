"""ROLES.md, Keys and names: nobody meets, blocks, shadows or finds out about what is under another role's key."""

from __future__ import annotations

import psycopg
import pytest

from tests.roles.attack import NOT_FOUND, Connection, refused, rows, run, scalar
from tests.roles.conftest import As, Ground

UNPATIENT = "set local lock_timeout = '500ms'"

# --- rule 6: instances ------------------------------------------------------------------------------------------------


def test_an_id_that_another_role_has_is_free(as_role: As) -> None:
    bob = as_role("bob")
    bob.execute("insert into df.instances (id, graph) values ('order-42', 'select 1')")
    assert rows(bob, "select submitted_by::text, id from df.instances") == [("bob", "order-42")]


def test_an_id_squatted_in_an_open_transaction_holds_up_nobody_else(as_role: As) -> None:
    mallory, bob = as_role("mallory"), as_role("bob")
    mallory.execute("insert into df.instances (id, graph) values ('order-43', 'select 1')")
    bob.execute(UNPATIENT)
    assert scalar(bob, "select df.start('select 1', id => 'order-43')") == "order-43"
    assert scalar(bob, "select df.status('order-43')") == "pending"


def test_a_repeated_start_of_ones_own_id_changes_nothing(ground: Ground, as_role: As) -> None:
    alice = as_role("alice")
    refused(
        alice,
        "insert into df.instances (id, graph) values ('order-42', 'select 43')",
        error=psycopg.errors.UniqueViolation,
    )
    alice.execute("select df.start('select 43', id => 'order-42')")
    query = "select key, graph from df.instances where id = 'order-42'"
    assert rows(alice, query) == [(ground.key, "select 42")]


@pytest.mark.parametrize("id_", ["~1/2", "", " x", "-x", "x y", "x" * 201, "ä"])
def test_ids_of_the_engine_and_ids_that_are_none_are_refused(as_role: As, id_: str) -> None:
    query = "insert into df.instances (id, graph) values (%s, 'select 1')"
    refused(as_role("mallory"), query, [id_], error=psycopg.errors.InvalidParameterValue, match="invalid instance id")


def test_a_null_id_is_refused(as_role: As) -> None:
    query = "insert into df.instances (id, graph) values (null, 'select 1')"
    refused(as_role("mallory"), query, error=psycopg.errors.InvalidParameterValue)


@pytest.mark.parametrize(
    "statement",
    [
        "select nextval('df.instance_keys')",
        "select setval('df.instance_keys', 1)",
        "select currval('df.instance_keys')",
        "select lastval()",
        "select last_value from df.instance_keys",
    ],
)
def test_the_sequence_of_keys_is_nobodys(as_role: As, statement: str) -> None:
    mallory = as_role("mallory")
    mallory.execute("insert into df.instances (graph) values ('select 1')")
    refused(mallory, statement)


def test_the_view_of_sequences_does_not_tell_the_last_key(as_role: As) -> None:
    assert rows(as_role("mallory"), "select last_value from pg_sequences where schemaname = 'df'") == [(None,)]


# --- rule 7: completions ------------------------------------------------------------------------------------------------


def forged(ground: Ground, outcome: str = "completed", step: str = "1") -> str:
    return (
        "insert into df.completions (instance_key, step, attempt, outcome, result) "
        f"values ({ground.key}, '{step}', 1, '{outcome}', '\"forged\"')"
    )


def test_a_forged_completion_stands_under_the_forgers_own_key(ground: Ground, as_role: As) -> None:
    mallory = as_role("mallory")
    run(mallory, forged(ground))
    query = "select run_as::regrole::text, written_by::regrole::text from df.completions where instance_key = %s"
    assert rows(mallory, query, [ground.key]) == [("mallory", "mallory")]


def test_a_forged_completion_neither_blocks_nor_takes_the_key_of_the_real_one(ground: Ground, as_role: As) -> None:
    mallory, alice, engine = as_role("mallory"), as_role("alice"), as_role("engine")
    run(mallory, forged(ground, step="2"))
    run(mallory, forged(ground, step="3"))
    alice.execute(UNPATIENT)
    run(alice, forged(ground, step="2"))
    engine.execute(UNPATIENT)
    row = f'[{{"ordinal": 0, "run_as": 0, "key": {ground.key}, "step": "3", "attempt": 1, "outcome": "completed"}}]'
    engine.execute("select df.record_completions(0, %s)", [row])
    assert rows(engine, "select run_as::int8 from df.completions where step = '3'") == [(0,)]


@pytest.mark.parametrize(
    "row",
    [
        "1, repeat('1.', 251), 1, 'completed', null, null, now()",
        "1, '1', 0, 'completed', null, null, now()",
        "1, '1', -1, 'completed', null, null, now()",
        "1, '1', 1, 'pending', null, null, now()",
        "1, '1', 1, 'completed', to_json(repeat('x', 16777216)), null, now()",
        "1, '1', 1, 'completed', null, to_json(repeat('x', 1048577)), now()",
        "1, '1', 1, 'completed', null, null, 'infinity'",
        "1, '1', 1, 'completed', null, null, '294000-01-01'",
    ],
)
def test_a_completion_that_no_engine_would_write_is_refused(as_role: As, row: str) -> None:
    insert = "insert into df.completions (instance_key, step, attempt, outcome, result, error, started_at)"
    refused(as_role("mallory"), f"{insert} values ({row})", error=psycopg.errors.CheckViolation)


# --- rule 8: commands -----------------------------------------------------------------------------------------------------

COMMANDS = {
    "insert into df.signals (instance_id, name) values (%s, 'go')",
    "insert into df.cancellations (instance_id) values (%s)",
    "insert into df.releases (instance_id) values (%s)",
    "insert into df.signals (owner, instance_id, name) values ('alice'::regrole, %s, 'go')",
    "insert into df.cancellations (owner, instance_id) values ('alice'::regrole, %s)",
    "insert into df.releases (owner, instance_id) values ('alice'::regrole, %s)",
    "insert into df.signals (owner, instance_id, name) values (0, %s, 'go')",
    "insert into df.signals (owner, instance_id, name) values (4000000000, %s, 'go')",
    "insert into df.signals (owner, instance_id, name) values (df.me(), %s, 'go')",
    "select df.signal(%s, 'go')",
    "select df.signal(%s, 'go', '{}'::jsonb)",
    "select df.cancel(%s)",
    "select df.release(%s)",
    "select df.wait_for_completion(%s, 0.1)",
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_says_the_same_of_a_foreign_instance_as_of_a_missing_one(as_role: As, command: str) -> None:
    mallory = as_role("mallory")
    said = []
    for id_ in ("order-42", "order-0"):
        error = refused(mallory, command, [id_], error=NOT_FOUND)
        diagnostics = error.diag
        said.append(
            (
                (diagnostics.message_primary or "").replace(id_, "ID"),
                diagnostics.message_detail,
                diagnostics.message_hint,
                (diagnostics.context or "").replace(id_, "ID"),
            )
        )
    assert said[0] == said[1]
    assert said[0][0] == "Instance not found or access denied: ID"


@pytest.mark.parametrize("function", ["status", "result"])
def test_a_question_says_the_same_of_a_foreign_instance_as_of_a_missing_one(as_role: As, function: str) -> None:
    mallory = as_role("mallory")
    assert rows(mallory, f"select df.{function}('order-42'), df.{function}('order-0')") == [(None, None)]


@pytest.mark.parametrize("first", ["instances", "signals"])
def test_a_start_and_its_signal_may_stand_in_one_statement_in_either_order(as_role: As, first: str) -> None:
    bob = as_role("bob")
    inserts = {
        "instances": "insert into df.instances (id, graph) values ('both', 'select 1') returning 1",
        "signals": "insert into df.signals (instance_id, name) values ('both', 'go') returning 1",
    }
    second = "signals" if first == "instances" else "instances"
    run(bob, f"with a as ({inserts[first]}), b as ({inserts[second]}) select from a, b")
    assert rows(bob, "select owner::regrole::text, instance_id from df.signals") == [("bob", "both")]


def test_ones_own_instance_comes_before_others_and_the_only_other_one_is_meant(ground: Ground, as_role: As) -> None:
    carol = as_role("carol")
    insert = (
        "insert into df.cancellations (instance_id) values ('order-42') returning owner::regrole::text, instance_key"
    )
    assert rows(carol, insert) == [("alice", ground.key)]
    carol.execute("insert into df.instances (id, graph) values ('order-42', 'select 1')")
    ((owner, key),) = rows(carol, insert)
    assert owner == "carol"
    assert key not in (None, ground.key)


def test_an_id_that_several_roles_have_is_ambiguous_until_the_owner_is_named(ground: Ground, as_role: As) -> None:
    superuser = as_role("postgres")
    superuser.execute("create role erin login in role alice, bob")
    superuser.execute("select df.grant_usage('erin')")
    superuser.execute("set local role bob")
    superuser.execute("insert into df.instances (id, graph) values ('order-42', 'select 1')")
    superuser.execute("set local role erin")
    ambiguous = psycopg.errors.AmbiguousAlias
    refused(superuser, "select df.signal('order-42', 'go')", error=ambiguous, match="2 roles")
    refused(superuser, "insert into df.releases (instance_id) values ('order-42')", error=ambiguous, match="2 roles")
    insert = "insert into df.releases (owner, instance_id) values ('alice'::regrole, 'order-42') returning instance_key"
    assert scalar(superuser, insert) == ground.key


def test_what_a_command_means_is_decided_at_its_insert(ground: Ground, as_role: As) -> None:
    carol = as_role("carol")
    insert = "insert into df.signals (instance_id, name) values ('order-42', 'go') returning owner::regrole::text, instance_key"
    assert rows(carol, insert) == [("alice", ground.key)]
    carol.execute("insert into df.instances (id, graph) values ('order-42', 'select 1')")
    assert rows(carol, "select distinct owner::regrole::text, instance_key from df.signals where name = 'go'") == [
        ("alice", ground.key)
    ]


def test_commands_have_random_keys_and_no_sequence(ground: Ground, as_role: As) -> None:
    assert ground.run("select count(*) from pg_class where relnamespace = 'df'::regnamespace and relkind = 'S'") == [
        (1,)
    ]
    carol = as_role("carol")
    carol.execute("insert into df.signals (instance_id, name) select 'order-42', 'go' from generate_series(1, 50)")
    assert scalar(carol, "select count(distinct left(event_id::text, 8)) > 45 from df.signals") is True


@pytest.mark.parametrize("table", ["signals", "cancellations", "releases"])
def test_the_superuser_may_command_and_is_recorded(ground: Ground, as_role: As, table: str) -> None:
    superuser: Connection = as_role("postgres")
    columns, values = ("instance_id, name", "'order-42', 'x'") if table == "signals" else ("instance_id", "'order-42'")
    insert = f"insert into df.{table} ({columns}) values ({values}) returning instance_key, sent_by::regrole::text"
    assert rows(superuser, insert) == [(ground.key, "postgres")]


# --- variables ------------------------------------------------------------------------------------------------------------


def test_variables_are_the_callers_own_whoever_the_caller_is_a_member_of(as_role: As) -> None:
    carol = as_role("carol")
    assert rows(carol, "select from df.vars") == []
    assert scalar(carol, "select df.getvar('password')") is None
    carol.execute("select df.setvar('password', 'mine')")
    carol.execute("select df.clearvars()")
    carol.execute("select df.unsetvar('password')")
    assert rows(as_role("alice"), "select name, value from df.vars") == [("password", "hunter2")]


def test_an_instance_takes_only_the_variables_of_its_submitter(as_role: As) -> None:
    carol = as_role("carol")
    carol.execute("select df.setvar('mine', 'x')")
    assert scalar(carol, "insert into df.instances (graph) values ('select 1') returning vars") == {"mine": "x"}


def test_a_variable_that_is_set_to_null_is_gone_and_no_instance_ever_sees_it(as_role: As) -> None:
    bob = as_role("bob")
    bob.execute("select df.setvar('a', '1'), df.setvar('b', '2'), df.setvar('c', '3')")
    bob.execute("update df.vars set value = null where name = 'a'")
    bob.execute("select df.unsetvar('b')")
    bob.execute("insert into df.vars (name, value) values ('d', null)")
    assert rows(bob, "select name from df.vars") == [("c",)]
    bob.execute(
        "insert into df.vars (name, value) values ('c', null) on conflict (owner, name) do update set value = null"
    )
    assert scalar(bob, "insert into df.instances (graph) values ('select 1') returning vars") is None


def test_a_start_in_the_midst_of_a_removal_sees_no_null(ground: Ground, as_role: As) -> None:
    bob = as_role("bob")
    bob.execute("select df.setvar('a', '1'), df.setvar('b', '2')")
    bob.execute(
        "create function pg_temp.start() returns text language plpgsql as "
        "$$begin insert into df.instances (id, graph) values (df.new_id(), 'select 1'); return null; end$$"
    )
    bob.execute("update df.vars set value = pg_temp.start()")
    assert rows(bob, "select count(*) from df.instances where vars @? '$.* ? (@ == null)'") == [(0,)]


def test_variables_that_together_are_too_large_are_refused_at_the_start(as_role: As) -> None:
    bob = as_role("bob")
    bob.execute("insert into df.vars (name, value) select 'v' || n, repeat('x', 1000000) from generate_series(1, 17) n")
    refused(bob, "insert into df.instances (graph) values ('select 1')", error=psycopg.errors.CheckViolation)


def test_a_user_cannot_move_a_variable_to_another_owner_or_name_or_delete_it(as_role: As) -> None:
    bob = as_role("bob")
    bob.execute("select df.setvar('a', '1')")
    for change in (
        "update df.vars set owner = 'alice'::regrole",
        "update df.vars set name = 'b'",
        "delete from df.vars",
    ):
        refused(bob, change)
