"""LANGUAGE.md section 11, sentence by sentence: whose an instance is, and who sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.user import User
from tests.servers import ENGINE_OPTIONS, Cluster, wait_until
from tests.workflows import World
from tests.workflows import world as open_world

NewUser = Callable[[str], User]


def test_submitted_by_is_current_user_at_the_insert(new_user: NewUser, admin: User) -> None:
    """`submitted_by` is `current_user` at the INSERT"""
    login, worker = new_user("login"), new_user("worker")
    admin.run(f"grant {worker.name} to {login.name}")
    login.run(f"set role {worker.name}")
    id = login.start("'select session_user::text as s, current_user::text as c'")
    login.run("reset role")
    assert worker.end(id).result["rows"] == [{"s": worker.name, "c": worker.name}]
    assert worker.run("select submitted_by::text from df.instances where id = %s", [id]) == [(worker.name,)]


def test_a_submitter_must_be_able_to_log_in(new_user: NewUser, world: World, admin: User) -> None:
    """and must be able to log in"""
    login, group = new_user("member"), world.database.new_role("group", "nologin")
    admin.run(f"grant {group} to {login.name}")
    login.run(f"set role {group}")
    assert login.refused("select df.start('select 1')") == f"role {group} cannot log in, so its steps could not run"
    login.run("reset role")


def test_superusers_are_refused_unless_the_settings_allow(admin: User) -> None:
    """superusers are refused unless `df.settings` allows (`superuser instances are disabled…`)."""
    assert admin.refused("select df.start('select 1')").startswith("superuser instances are disabled")
    allow = "update df.settings set value = %s where name = 'superuser_instances'"
    admin.run(allow, ["on"])
    try:
        assert admin.rows("'select current_user::text as who'") == [{"who": "postgres"}]
    finally:
        admin.run(allow, ["off"])
    assert admin.refused("select df.start('select 1')").startswith("superuser instances are disabled")


def test_everyone_sees_and_touches_only_their_own(alice: User, bob: User) -> None:
    """Row-level security: everyone sees and touches only their own"""
    alice.run("select df.setvar('mine', '1')")
    id = alice.start("'select 1' ~> df.wait_for_signal('s') ~> df.wait_for_signal('t')")
    alice.run("select df.signal(%s, 's')", [id])
    done = "select 1 from df.completions where instance_key = (select key from df.instances where id = %s)"
    wait_until(lambda: alice.run(done, [id]))
    for table in ("instances", "signals", "completions", "progress", "vars"):
        owner = {"instances": "submitted_by", "progress": "submitted_by", "completions": "run_as"}.get(table, "owner")
        strangers = f"select 1 from df.{table} where {owner}::oid = 'alice'::regrole"
        assert bob.run(strangers) == []
        assert table == "progress" or alice.run(strangers)
    assert bob.value("select df.status(%s)", [id]) is None
    assert bob.refused("select df.cancel(%s)", [id]) == f"Instance not found or access denied: {id}"
    for statement in ("update df.instances set label = 'x'", "delete from df.instances", "truncate df.instances"):
        assert bob.refused(statement) == "permission denied for table instances"
    alice.run("select df.signal(%s, 't'), df.unsetvar('mine')", [id])
    assert alice.end(id).status == "completed"


def test_members_of_the_owner_role_count(new_user: NewUser, admin: User) -> None:
    """(`pg_has_role(submitted_by, 'USAGE')`, so members of the owner role count"""
    owner, member, not_inheriting = new_user("team"), new_user("in_team"), new_user("not_inheriting")
    admin.run(f"grant {owner.name} to {member.name} with inherit true")
    admin.run(f"grant {owner.name} to {not_inheriting.name} with inherit false")
    id = owner.start("df.wait_for_signal('s')")
    assert not_inheriting.value("select df.status(%s)", [id]) is None
    assert member.run("select submitted_by::text from df.instances where id = %s", [id]) == [(owner.name,)]
    assert member.value("select df.signal(%s, 's')", [id]) == "OK"
    assert owner.end(id).status == "completed"


def test_a_role_dropped_meanwhile_fails_its_instances(new_user: NewUser, admin: User) -> None:
    """A role dropped meanwhile fails its instances."""
    user = new_user("dropped")
    waits, sleeps = user.start("df.wait_for_signal('s')"), user.start("df.sleep('1.5 seconds') ~> 'select 1'")
    status = "select status from df.instances where id = %s"
    wait_until(lambda: {user.value(status, [id]) for id in (waits, sleeps)} == {"running"})
    user.connection.close()
    admin.run(f"drop owned by {user.name}")
    admin.run(f"drop role {user.name}")
    assert admin.end(sleeps).status == "failed"


def test_the_engines_role_owns_schema_df(admin: User) -> None:
    """The engine's role owns schema df"""
    owner = "select nspowner::regrole::text from pg_namespace where nspname = 'df'"
    assert admin.value(owner) == "engine"
    not_its = """
        select 1 from pg_class where relnamespace = 'df'::regnamespace and relowner <> 'engine'::regrole
        union all select 1 from pg_proc where pronamespace = 'df'::regnamespace and proowner <> 'engine'::regrole
    """
    assert admin.run(not_its) == []


def test_replication_may_sit_on_a_second_role(server18: Cluster, tmp_path: Path) -> None:
    """REPLICATION may sit on a second role of its own (ROLES.md); neither is a superuser."""
    database = server18.database(migrated=False)
    try:
        owner = database.new_role("df", granted=False)
        reader = database.new_role("reader", "login replication", granted=False)
        database.run(f"grant create on database {database.name} to {owner}")
        database.migrate(owner)
        database.run("select df.grant_usage('alice')")
        dsn = database.dsn(owner, options=ENGINE_OPTIONS)
        engine = database.engine(tmp_path, dsn=dsn, replication_dsn=database.dsn(reader)).start()
        with open_world(database, engine) as world:
            assert User(world, "alice").rows("'select 1 as a'") == [{"a": 1}]
            query = "select rolname, rolreplication from pg_roles where rolname in (%s, %s) and not rolsuper order by 1"
            assert world.run(query, [owner, reader]) == [(owner, False), (reader, True)]
    finally:
        database.drop()


def test_grant_usage_is_all_that_a_role_needs(world: World, admin: User) -> None:
    """`df.grant_usage(role)` is all that a role needs"""
    user = User(world, world.database.new_role("bare", granted=False))
    admin.run(f"select df.grant_usage('{user.name}')")
    id = user.start("('select 1 as a' |=> 'x') ~> df.wait_for_signal('s', 60) ~> 'select $x as b'")
    user.run("select df.signal(%s, 's')", [id])
    assert user.end(id).result["rows"] == [{"b": 1}]
    assert user.value("select df.cancel(%s)", [id]) == f"Instance {id} is already completed"
    user.run("select df.setvar('v', '1'), df.getvar('v'), df.clearvars()")


@pytest.mark.parametrize(
    "query",
    [
        "select df.sql('select 1')",
        "select df.start('select 1')",
        "insert into df.instances (graph) values ('select 1')",
        "select * from df.instances",
        "select df.version()",
        "select 'a' ~> 'b'",
    ],
)
def test_without_usage_on_schema_df_nothing_in_it_can_be_reached(world: World, query: str) -> None:
    """without USAGE on schema df nothing in it can be reached."""
    user = User(world, world.database.new_role(f"nobody_{abs(hash(query))}", granted=False))
    assert user.refused(query).startswith("permission denied for ")
