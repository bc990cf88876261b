"""A role's trouble is its own: dropped, not permitted to log in, without rights. Its instances fail, with a clear error."""

from __future__ import annotations

import pytest

from tests.servers import wait_until
from tests.workflows import World


@pytest.fixture(scope="module", autouse=True)
def kept_out(one: World) -> str:
    """An instance of a role that is allowed no connection: it is tried ten times with backoff, so it is begun first."""
    role = one.database.new_role("kept_out", "login connection limit 0")
    one.run(f"set role {role}")
    id = one.value("insert into df.instances (graph) values ('select 1') returning id")
    one.run("reset role")
    return str(id)


WAITING = "df.seq(df.wait_for_signal('go'), 'select 1')"


def waiting(world: World, role: str) -> str:
    """An instance of the role that waits for a signal, after a step that made a connection."""
    id = world.start(world.build(f"select df.seq('select 1', {WAITING})"), role=role)
    wait_until(lambda: len(world.history(id)) == 1)
    return id


def others_go_on(world: World) -> None:
    assert world.outcome("select 1", role="bob").status == "completed"


def test_a_dropped_role_fails_its_instances_with_a_clear_error(one: World) -> None:
    role = one.database.new_role("dropped")
    id = waiting(one, role)
    owner = one.value("select submitter from df.instances where id = %s", [id])
    one.run("insert into df.signals (owner, instance_id, name) values (%s, %s, 'other')", [owner, id])
    one.connection(role).close()
    # what is sent before the role goes is taken by a step after it is gone
    idle = one.backends(role)
    one.run("begin")
    one.run("insert into df.signals (owner, instance_id, name) values (%s, %s, 'go')", [owner, id])
    one.run(f"drop owned by {role}")
    one.run(f"drop role {role}")
    one.run("commit")
    outcome = one.end(id)
    assert outcome.status == "failed", outcome
    assert "does not exist" in outcome.message or "permission denied" in outcome.message, outcome
    assert idle
    others_go_on(one)


def test_a_dropped_role_without_a_connection_fails_its_instances_with_a_clear_error(one: World) -> None:
    role = one.database.new_role("dropped2")
    id = waiting(one, role)
    owner = one.value("select submitter from df.instances where id = %s", [id])
    one.connection(role).close()
    one.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [role])
    wait_until(lambda: not one.backends(role))
    one.run("begin")
    one.run("insert into df.signals (owner, instance_id, name) values (%s, %s, 'go')", [owner, id])
    one.run(f"drop owned by {role}")
    one.run(f"drop role {role}")
    one.run("commit")
    outcome = one.end(id)
    assert (outcome.status, outcome.code) == ("failed", "28000"), outcome
    assert outcome.message == f"the submitter, role with OID {owner}, does not exist any more"
    others_go_on(one)


def test_a_role_that_may_not_log_in_any_more_fails_its_instances_with_a_clear_error(one: World) -> None:
    role = one.database.new_role("locked_out")
    id = waiting(one, role)
    one.run(f"alter role {role} nologin")
    one.run(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s and application_name = 'walflow'",
        [role],
    )
    wait_until(lambda: not one.backends(role))
    one.run("select df.signal(%s, 'go')", [id], role=role)
    outcome = one.end(id)
    assert (outcome.status, outcome.code) == ("failed", "28000"), outcome
    assert outcome.message == f"the submitter, role {role}, is not permitted to log in"
    others_go_on(one)


def test_a_role_that_df_was_taken_from_fails_its_instances_with_a_clear_error(one: World) -> None:
    role = one.database.new_role("revoked")
    id = waiting(one, role)
    owner = one.value("select submitter from df.instances where id = %s", [id])
    one.run("begin")
    one.run("insert into df.signals (owner, instance_id, name) values (%s, %s, 'go')", [owner, id])
    one.run(f"select df.revoke_usage('{role}')")
    one.run("commit")
    outcome = one.end(id)
    assert (outcome.status, outcome.code) == ("failed", "42501"), outcome
    others_go_on(one)


def test_a_role_that_df_was_taken_from_before_its_first_step_is_told_what_it_needs(one: World) -> None:
    role = one.database.new_role("revoked2")
    one.run("begin")
    one.run(f"set local role {role}")
    id = one.value("insert into df.instances (graph) values ('select 1') returning id")
    one.run("reset role")
    one.run(f"select df.revoke_usage('{role}')")
    one.run("commit")
    outcome = one.end(id)
    assert (outcome.status, outcome.code) == ("failed", "42501"), outcome
    assert "the submitter cannot run steps" in outcome.message
    assert outcome.error is not None
    assert "df.grant_usage" in outcome.error["hint"]
    others_go_on(one)


def test_a_role_renamed_and_its_name_given_to_another_runs_as_itself(one: World) -> None:
    role = one.database.new_role("before")
    id = waiting(one, role)
    one.connection(role).close()
    one.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [role])
    owner = one.value("select submitter from df.instances where id = %s", [id])
    one.run(f"alter role {role} rename to {role}_renamed")
    one.run(f"create role {role} login")
    try:
        one.run("insert into df.signals (owner, instance_id, name) values (%s, %s, 'go')", [owner, id])
        assert one.end(id).status == "completed"
        assert one.outcome("select current_user::text as who", role=f"{role}_renamed").rows == [
            {"who": f"{role}_renamed"}
        ]
    finally:
        one.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [f"{role}_renamed"])
        one.connection(f"{role}_renamed").close()
        one.run(f"drop role {role}")
        one.run(f"alter role {role}_renamed rename to {role}")


def test_a_role_that_cannot_connect_fails_its_instances_after_ten_tries(one: World, kept_out: str) -> None:
    outcome = one.end(kept_out, timeout=40)
    assert outcome.status == "failed", outcome
    assert "too many connections for role" in outcome.message
    others_go_on(one)
