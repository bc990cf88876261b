"""Whose rights a step has, on a running engine (ROLES.md rules 2, 10, 12, 15, 16): those of the role that inserted, or none.

The owner of df reads no log here and the role that reads the log sees no table, as rule 15 recommends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import psycopg
import pytest

from engine.connect import connect
from engine.executors.login import Login, LoginRefused
from engine.store.postgres import PostgresStore
from tests.roles.attack import named, run, scalar
from tests.roles.test_engines_safety import set_traps
from tests.roles.test_who import ODD_NAMES
from tests.servers import Cluster, Database
from tests.workflows import Outcome, World, world

WHO = "select current_user::text as who, session_user::text as login, current_setting('df.instance_id') as id"
AFTER_A_SECOND = "select df.sleep(1) ~> 'select current_user::text as who'"


@pytest.fixture(scope="module")
def stage(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An engine with two roles of its own, in a database where somebody has set traps before it came."""
    database = server18.database()
    try:
        trapper = database.new_role("trapper")
        with database.connect() as superuser:
            superuser.execute(named("grant create on database {} to {}", database.name, trapper))
        set_traps(database, "engine", trapper)
        leave_instance_of_nobody(database)
        engine = database.engine(
            tmp_path_factory.mktemp("engine"),
            dsn=database.dsn("engine", options=""),
            replication_dsn=database.dsn("reader"),
            step_connections_per_role=1,
        )
        with world(database, engine.start()) as made:
            yield made
    finally:
        database.drop()


def leave_instance_of_nobody(database: Database) -> None:
    """As a restore leaves it on a server that lacks the role: the submitter is a bare number."""
    database.run("insert into df.instances (id, graph) values ('of-nobody', 'select 1')", role="alice")
    database.run(
        "update df.instances set submitter = 4000000000, submitted_by = 4000000000::oid::regrole where id = 'of-nobody'"
    )


@pytest.fixture
def new_role(stage: World) -> Iterator[Callable[..., str]]:
    """Makes a role with df, of any name; it is dropped if it is still there."""
    names: list[str] = []

    def make(name: str, attributes: str = "login") -> str:
        with stage.database.connect() as superuser:
            superuser.execute(named(f"create role {{}} {attributes}", name))
            superuser.execute("select df.grant_usage(quote_ident(%s)::regrole)", [name])
        names.append(name)
        return name

    yield make
    with stage.database.connect() as superuser:
        for name in names:
            if scalar(superuser, "select count(*) from pg_roles where rolname = %s", [name]):
                superuser.execute(named("drop owned by {}", name))
                superuser.execute(named("drop role {}", name))


def start_later(stage: World, role: str) -> str:
    """A workflow whose only step runs after a second, so that something can happen to its role before."""
    return stage.start(stage.build(AFTER_A_SECOND), role=role)


def why(outcome: Outcome) -> str:
    assert outcome.status == "failed", outcome
    return outcome.message


# --- rule 2 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_step_runs_as_the_role_with_the_odd_name(stage: World, new_role: Callable[..., str], name: str) -> None:
    role = new_role(name)
    id_ = stage.start(WHO, role=role)
    assert stage.end(id_).rows == [{"who": name, "login": name, "id": id_}]


def test_a_step_of_the_role_whose_name_is_the_oid_of_alice_does_not_run_as_alice(
    stage: World, new_role: Callable[..., str]
) -> None:
    role = new_role(str(stage.value("select 'alice'::regrole::oid")))
    assert stage.outcome(WHO, role=role).rows[0]["who"] == role


def test_a_role_that_took_the_name_of_a_renamed_one_gets_none_of_its_steps(
    stage: World, new_role: Callable[..., str]
) -> None:
    renamed = new_role("renamed")
    known = stage.outcome(WHO, role=renamed)  # a connection that was made under the old name is there, too
    assert known.rows[0]["who"] == "renamed"
    waiting = start_later(stage, renamed)
    stage.connection(renamed).close()
    stage.run("alter role renamed rename to renamed_away")
    new_role("renamed")
    try:
        assert stage.end(waiting).rows == [{"who": "renamed_away"}]
        assert stage.outcome(WHO, role="renamed").rows[0]["who"] == "renamed"
    finally:
        stage.run("drop owned by renamed_away")
        stage.run("drop role renamed_away")


def test_a_login_that_is_not_the_role_with_the_oid_is_given_up(stage: World) -> None:
    """Between the look-up of the name and the login the role may be renamed and its name taken."""

    class Late(Login):
        async def _name(self, role: int) -> str:
            return "bob"

    async def attempt(role: int) -> None:
        lookup = PostgresStore(await connect(stage.database.engine_dsn, "walflow-cli"))
        try:
            login = Late(stage.database.dsn(), None, lookup)
            await login.connect(role, end_all=False, end=frozenset(), on_idle_loss=lambda _: None)
        finally:
            await lookup.close()

    with pytest.raises(LoginRefused, match="logged in as bob, which is not the role with OID"):
        asyncio.run(attempt(stage.value("select 'alice'::regrole::oid::int8")))


def test_steps_of_a_role_that_is_gone_fail_at_once(stage: World, new_role: Callable[..., str]) -> None:
    gone = new_role("gone")
    waiting = start_later(stage, gone)
    stage.connection(gone).close()
    stage.run("drop owned by gone")
    stage.run("drop role gone")
    assert "does not exist any more" in why(stage.end(waiting, timeout=5))


def test_steps_of_a_role_that_may_not_log_in_any_more_fail_at_once(stage: World, new_role: Callable[..., str]) -> None:
    barred = new_role("barred")
    waiting = start_later(stage, barred)
    stage.run("alter role barred nologin")
    assert "not permitted to log in" in why(stage.end(waiting, timeout=5))


def test_steps_of_a_role_that_lost_df_fail_at_once_and_say_what_to_grant(
    stage: World, new_role: Callable[..., str]
) -> None:
    revoked = new_role("revoked")
    waiting = start_later(stage, revoked)
    stage.run("select df.revoke_usage('revoked')")
    outcome = stage.end(waiting, timeout=5)
    assert "permission denied for schema df" in why(outcome)
    assert outcome.error is not None
    assert "df.grant_usage" in outcome.error["hint"]


def test_an_instance_that_a_restore_left_with_a_number_for_its_role_is_failed_and_not_run(stage: World) -> None:
    assert "does not exist on this system" in why(stage.end("of-nobody"))
    assert stage.history("of-nobody") == []


# --- rule 10 ------------------------------------------------------------------------------------------------------------


def test_what_everybody_sees_of_a_step_is_a_constant(stage: World) -> None:
    id_ = stage.start("select pg_sleep(1) as secret_statement", role="alice")
    stage.wait_for(id_, "running")
    names = "select distinct application_name from pg_stat_activity where usename = 'alice' and application_name <> ''"
    assert stage.run(names, role="bob") == [("walflow",)]
    activity = stage.run("select a::text from pg_stat_activity a", role="bob")
    assert not any(id_ in text or "secret_statement" in text for (text,) in activity)
    stage.end(id_)


# --- rule 12 ------------------------------------------------------------------------------------------------------------


def test_a_schema_named_like_the_engines_role_never_runs_as_the_engine(stage: World) -> None:
    """Its traps were there when the engine came; by now it has led, run steps, fired timers and written checkpoints."""
    stage.outcome(stage.build("select df.sleep(0.1::text) ~> 'select 1'"))
    assert stage.run("select role from public.evidence") == []
    with psycopg.connect(stage.database.dsn("engine", options="")) as careless:
        careless.execute("select quote_ident(current_user) from pg_roles where oid = 10::smallint")
    assert set(stage.run("delete from public.evidence returning role")) == {("engine",)}


# --- rule 15 ------------------------------------------------------------------------------------------------------------


def test_the_log_is_read_by_the_role_that_was_made_for_it(stage: World) -> None:
    query = """
        select r.usename::text from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
         where s.database = current_database()
    """
    assert stage.run(query) == [("reader",)]


# --- rule 16 ------------------------------------------------------------------------------------------------------------


def test_a_role_that_logs_in_as_another_fails_its_own_steps_only(stage: World, new_role: Callable[..., str]) -> None:
    masked = new_role("masked", "login in role bob")
    waiting = start_later(stage, masked)
    stage.run("alter role masked set role = bob")
    assert "which is not the role with OID" in why(stage.end(waiting, timeout=5))


def test_a_role_without_room_for_connections_holds_up_nobody_else(stage: World, new_role: Callable[..., str]) -> None:
    crowded = new_role("crowded", "login connection limit 1")
    with stage.database.connect("crowded"):
        with stage.database.connect() as superuser:
            run(
                superuser,
                "set session authorization crowded; select df.start('select 1', id => 'squeezed')",
            )
        assert stage.outcome("select 1 as one").rows == [{"one": 1}]
        assert stage.status("squeezed") in ("pending", "running")
    assert crowded
    assert stage.end("squeezed").status == "completed"


# --- rule 17 ------------------------------------------------------------------------------------------------------------


def test_a_deferred_trigger_of_a_step_leaves_nothing_in_the_session_of_the_next(
    stage: World, new_role: Callable[..., str]
) -> None:
    """It runs as part of its step, before the session is cleaned, and not at the commit."""
    role = new_role("putting_off")
    stage.run("grant create on schema public to putting_off")
    stage.run("create table public.put_off (x integer)", role=role)
    stage.run(
        "create function public.dirty() returns trigger language plpgsql as "
        "$$begin perform set_config('work_mem', '77MB', false); return null; end$$",
        role=role,
    )
    stage.run(
        "create constraint trigger late after insert on public.put_off deferrable initially deferred "
        "for each row execute function public.dirty()",
        role=role,
    )
    setting = "select current_setting('work_mem') as work_mem, pg_backend_pid() as pid"
    before = stage.outcome(setting, role=role).rows
    assert stage.outcome("insert into public.put_off values (1)", role=role).status == "completed"
    assert stage.outcome(setting, role=role).rows == before
