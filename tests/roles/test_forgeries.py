"""Rows that a stranger writes to do harm, on a running engine: they end, block, advance and delay nobody else's steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.errors import StatementTooComplex

from tests.roles.attack import named
from tests.servers import ORDINARY_ROLES, Cluster, wait_until
from tests.workflows import World, world

FORGE = (
    "insert into df.completions (instance_key, step, attempt, outcome, result, error) values (%s, %s, 1, %s, %s, %s)"
)

SIGNAL = (
    "insert into df.signals (instance_id, name, data) values (%s, 'go', (repeat('[', %s) || repeat(']', %s))::json)"
)


@pytest.fixture(scope="module")
def stage(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An engine; a member of alice; a member of pg_write_all_data."""
    database = server18.database()
    try:
        database.new_role("member", "login in role alice")
        database.new_role("writer", "login in role pg_write_all_data")
        engine = database.engine(tmp_path_factory.mktemp("engine"))
        with world(database, engine.start()) as made:
            yield made
    finally:
        database.drop()


def called(stage: World, role: str) -> str:
    """The real name of `member` or `writer`; alice and bob are everybody's."""
    return role if role in ORDINARY_ROLES else f"{stage.database.name}_{role}"


def forge(stage: World, key: int, step: str, outcome: str = "completed", *, role: str = "bob") -> None:
    error = '{"message": "forged", "code": "forged"}' if outcome != "completed" else None
    stage.run(
        FORGE, [key, step, outcome, '{"rows": [{"x": "forged"}], "row_count": 1}', error], role=called(stage, role)
    )


# --- completions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("role", ["bob", "member", "writer"])
def test_a_forged_completion_does_not_end_a_step_that_runs(stage: World, role: str, outcome: str) -> None:
    with stage.database.connect() as gate:
        gate.execute("select pg_advisory_lock(42)")
        id_ = stage.start("select pg_advisory_xact_lock(42)::text || 'real' as x")
        wait_until(lambda: stage.run("select 1 from pg_locks where locktype = 'advisory' and not granted"))
        forge(stage, stage.key(id_), "1", outcome, role=role)
        assert stage.outcome("select 1 as x", role="bob").rows == [{"x": 1}]  # so what was forged is folded
    assert stage.end(id_).rows == [{"x": "real"}]


@pytest.mark.parametrize("role", ["bob", "member"])
def test_a_forged_completion_does_not_hide_the_failure_of_a_step_that_runs(stage: World, role: str) -> None:
    with stage.database.connect() as gate:
        gate.execute("select pg_advisory_lock(42)")
        id_ = stage.start("select 1 / length(pg_advisory_xact_lock(42)::text)")
        wait_until(lambda: stage.run("select 1 from pg_locks where locktype = 'advisory' and not granted"))
        forge(stage, stage.key(id_), "1", role=role)
        assert stage.outcome("select 1 as x", role="bob").rows == [{"x": 1}]  # so what was forged is folded
    assert stage.end(id_).code == "22012"


def test_a_completion_forged_in_advance_is_not_kept_for_its_step(stage: World) -> None:
    graph = stage.build("select df.wait_for_signal('go') ~> 'select 0' ~> 'select 1 as x'")
    id_ = stage.start(graph)
    stage.wait_for(id_, "running")
    key = stage.key(id_)
    for step in ("1", "2", "3", "4", "5", "99", "1.1", "x", "", "9" * 500):
        forge(stage, key, step)
    stage.run("select df.signal(%s, 'go')", [id_], role="alice")
    assert stage.end(id_).rows == [{"x": 1}]


def test_a_forged_completion_does_not_fire_a_timer_not_even_ones_own(stage: World) -> None:
    id_ = stage.start(stage.build("select df.sleep(1)"))
    stage.wait_for(id_, "running")
    for role in ("bob", "member", "alice"):
        forge(stage, stage.key(id_), "1", role=role)
    assert stage.end(id_).status == "completed"
    slept = "select extract(epoch from finished_at - started_at) from df.instances where id = %s"
    assert float(stage.value(slept, [id_])) >= 1


def test_a_forged_completion_does_not_end_a_wait(stage: World) -> None:
    id_ = stage.start(stage.build("select df.wait_for_signal('go', 60)"))
    stage.wait_for(id_, "running")
    for role in ("bob", "member", "alice"):
        forge(stage, stage.key(id_), "1", "failed", role=role)
    stage.run("select df.signal(%s, 'go')", [id_], role=called(stage, "member"))
    assert stage.end(id_).status == "completed"


def test_a_key_that_a_stranger_holds_in_an_open_transaction_delays_nobody(stage: World) -> None:
    id_ = stage.start(stage.build("select df.wait_for_signal('go') ~> 'select 1' ~> 'select 1/0'"))
    stage.wait_for(id_, "running")
    with stage.database.connect("bob", autocommit=False) as bob:
        for step in ("1", "2", "3", "4", "5"):
            bob.execute(FORGE, [stage.key(id_), step, "completed", None, None])
        stage.run("select df.signal(%s, 'go')", [id_], role="alice")
        assert stage.end(id_, timeout=5).code == "22012"
        bob.rollback()


def test_completions_of_what_does_not_exist_are_passed_over(stage: World) -> None:
    insert = (
        "insert into df.completions (instance_key, step, attempt, outcome, result, cause, repetitions, started_at) "
        "select n, repeat('1.', 249) || '1', 2147483647, 'failed', to_json(repeat('x', 1000)), gen_random_uuid(), -1, "
        "'1970-01-01 00:00+00' from generate_series(-9223372036854775808, -9223372036854774808) n"
    )
    stage.run(insert, role="bob")
    assert stage.outcome("select 1 as x").rows == [{"x": 1}]


def test_the_largest_rows_that_a_role_may_write_delay_nobody_else_for_long(stage: World) -> None:
    with stage.database.connect("bob") as bob:
        bob.execute(
            "insert into df.completions (instance_key, step, attempt, outcome, result) "
            "values (-1, '1', 1, 'completed', to_json(repeat('x', 16777000)))"
        )
        bob.execute(
            "insert into df.instances (id, graph, input) values ('large', df.wait_for_signal('x'), "
            "to_jsonb(repeat('x', 16777000)))"
        )
        bob.execute(
            "insert into df.signals (instance_id, name, data) values ('large', 'y', to_json(repeat('x', 16777000)))"
        )
    assert stage.outcome("select 1 as x", timeout=10).rows == [{"x": 1}]
    stage.run("select df.cancel('large')", role="bob")
    assert stage.end("large").status == "cancelled"


def test_what_forges_a_completion_of_its_own_step_harms_itself_only(stage: World) -> None:
    id_ = stage.start(stage.build("select 'select 1' ~> 'select pg_sleep(0.2)' ~> 'select 3 as x'"))
    key = stage.key(id_)
    for step in ("2", "3", "4", "5"):
        stage.run(
            FORGE + " on conflict do nothing",
            [key, step, "completed", '{"deep": ' + "[" * 200 + "]" * 200 + "}", "7"],
            role="alice",
        )
    assert stage.end(id_).status == "completed"
    assert stage.outcome("select 1 as x", role="bob").rows == [{"x": 1}]


# --- commands ---------------------------------------------------------------------------------------------------------------


def test_an_error_that_no_database_can_hold_harms_nobody(stage: World) -> None:
    """json takes escapes of half a surrogate pair and of NUL, text does not: one such word must not spoil a checkpoint."""
    id_ = stage.start(stage.build("select df.seq(df.wait_for_signal('go'), 'select 1')"))
    stage.wait_for(id_, "running")
    odd = r"""{"message":"\ud800\u0000","code":"\udfff","hint":"x\ud8ff"}"""
    stage.run(FORGE, [stage.key(id_), "3", "failed", None, odd], role="alice")
    stage.run("select df.signal(%s, 'go')", [id_], role="alice")
    assert stage.end(id_).message == "\ufffd\ufffd"
    assert stage.outcome("select 1 as x", role="bob").rows == [{"x": 1}]


def test_a_result_that_is_deeper_than_the_server_reads_harms_nobody(stage: World) -> None:
    """A signal may be as deep as the server takes it; whatever is put around it is deeper."""
    id_ = stage.start(stage.build("select df.join_all(df.join_all(df.wait_for_signal('go')))"))
    deep = 1 << 14
    while True:
        try:
            stage.run(SIGNAL, [id_, deep, deep], role="alice")
            break
        except StatementTooComplex:
            deep -= 16
    assert stage.end(id_).message == "the result nests deeper than 2000 levels"
    assert stage.outcome("select 1 as x", role="bob").rows == [{"x": 1}]


def test_commands_for_an_id_reach_the_senders_instance_and_not_another_roles_of_that_id(stage: World) -> None:
    graph = stage.build("select df.wait_for_signal('go')")
    for role in ("alice", "bob"):
        stage.start(graph, role=role, id="shared")
    stage.run("select df.signal('shared', 'go', '\"from bob\"')", role="bob")
    ended = "select 1 from df.instances where id = 'shared' and submitted_by = 'bob'::regrole and status = 'completed'"
    wait_until(lambda: stage.run(ended))
    stage.run("select df.cancel('shared', 'by bob')", role="bob")
    others = "select status from df.instances where id = 'shared' and submitted_by = 'alice'::regrole"
    assert stage.run(others) != [("completed",)]
    stage.run("select df.cancel('shared')", role="alice")
    wait_until(lambda: stage.run(others) == [("cancelled",)])


def test_a_member_of_the_owner_commands_its_instances(stage: World) -> None:
    signalled = stage.start(stage.build("select df.wait_for_signal('go')"))
    cancelled = stage.start(stage.build("select df.wait_for_signal('go')"))
    stage.run("select df.signal(%s, 'go'), df.cancel(%s)", [signalled, cancelled], role=called(stage, "member"))
    assert stage.end(signalled).status == "completed"
    assert stage.end(cancelled).status == "cancelled"


def test_a_step_that_signals_a_foreign_instance_fails_and_the_other_goes_on_waiting(stage: World) -> None:
    waiting = stage.start(stage.build("select df.wait_for_signal('go')"))
    stage.wait_for(waiting, "running")
    outcome = stage.outcome(
        f"insert into df.signals (owner, instance_id, name) values ('alice'::regrole, '{waiting}', 'go')", role="bob"
    )
    assert outcome.message == f"Instance not found or access denied: {waiting}"
    assert stage.status(waiting) == "running"
    stage.run("select df.cancel(%s)", [waiting], role="alice")


# --- locks -------------------------------------------------------------------------------------------------------------------


def test_whatever_a_role_locks_workflows_of_others_start_and_end(stage: World) -> None:
    with stage.database.connect("bob", autocommit=False) as bob:
        for table in (
            "instances",
            "signals",
            "cancellations",
            "releases",
            "completions",
            "vars",
            "settings",
            "epoch",
            "progress",
        ):
            bob.execute(named("lock table df.{} in access share mode", table))
        bob.execute("select df.setvar('mine', 'x')")
        bob.execute("select from df.vars for update")
        bob.execute("select pg_advisory_lock(n) from generate_series(1, 500) n")
        bob.execute("insert into df.instances (id, graph) values ('held', 'select 1')")
        bob.execute("insert into df.signals (instance_id, name) values ('held', 'go')")
        stage.run("select df.setvar('theirs', 'y')", role="alice")
        assert stage.outcome(stage.build("select df.sleep(0.1::text) ~> 'select 1 as x'"), role="alice").rows == [
            {"x": 1}
        ]
        stage.run("select df.clearvars()", role="alice")
        bob.rollback()


# --- a table scan reads forged rows, too ----------------------------------------------------------------------------------------


def test_a_table_scan_believes_forged_rows_no_more_than_the_log(stage: World) -> None:
    graph = stage.build("select df.wait_for_signal('go') ~> 'select 1 as x'")
    first, second = stage.start(graph), stage.start(graph, role=called(stage, "writer"))
    for id_ in (first, second):
        stage.wait_for(id_, "running")
        for role in ("bob", "writer", "member"):
            stage.run(
                "insert into df.completions (instance_key, step, attempt, outcome, started_at) "
                "select %s, n::text, 1, 'failed', '2199-01-01' from generate_series(1, 3) n on conflict do nothing",
                [stage.key(id_)],
                role=called(stage, role) if id_ == first else "bob",
            )
    stage.run(
        "insert into df.completions (instance_key, step, attempt, outcome, recorded_at, cause) "
        "values (%s, '1', 7, 'failed', '2199-12-31', gen_random_uuid()), (%s, '2', 7, 'failed', '1970-01-02', null)",
        [stage.key(second)] * 2,
        role=called(stage, "writer"),
    )
    stage.engine.kill()
    wait_until(
        lambda: stage.run(
            "select 1 from pg_replication_slots where slot_name = %s and not active", [stage.database.slot]
        )
    )
    stage.run("select pg_drop_replication_slot(%s)", [stage.database.slot])
    stage.engine.start()
    assert stage.status(first) == stage.status(second) == "running"
    stage.run("select df.signal(%s, 'go')", [first], role="alice")
    stage.run("select df.signal(%s, 'go')", [second], role=called(stage, "writer"))
    assert stage.end(first).rows == stage.end(second).rows == [{"x": 1}]
