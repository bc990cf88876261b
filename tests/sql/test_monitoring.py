"""Watching from SQL: what the figures say, who may see them, and that asking costs the same however much there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest

from sql.migrate import migrate
from tests.servers import ENGINE_ROLE, Cluster, Database

MANY: Final = 6_000
"""More than one look takes in."""
FOR_WATCHERS: Final = ("select * from df.health", "select * from df.samples()", "select * from df.metrics()")
FOR_THE_ENGINE: Final = ("select * from df.watch()", "select df.oldest_pending()", "select df.count_quarantined()")
READ: Final = """
select coalesce(sum(seq_tup_read), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint
  from pg_stat_xact_user_tables
 where schemaname = 'df' and relname not in ('epoch', 'checkpoint', 'settings')
"""


@pytest.fixture
def home(server18: Cluster) -> Iterator[Database]:
    made = server18.database()
    yield made
    made.drop()


def fill(home: Database, count: int = MANY, role: str = "alice") -> None:
    """So many starts, recorded a second apart, the last one now."""
    home.run("insert into df.instances (graph) select 'select 1' from generate_series(1, %s)", [count], role)
    home.run(
        "update df.instances set recorded_at = now() - (m.most - key) * interval '1 second' "
        "from (select max(key) as most from df.instances) as m"
    )


@pytest.fixture(scope="module")
def full(server18: Cluster) -> Iterator[Database]:
    """Many starts that wait. What a test does to them is rolled back."""
    made = server18.database()
    fill(made)
    yield made
    made.drop()


@pytest.fixture
def flood(full: Database) -> Iterator[psycopg.Connection[Any]]:
    with full.connect() as connection, connection.transaction(force_rollback=True):
        yield connection


def ended(connection: psycopg.Connection[Any], condition: str) -> None:
    connection.execute(f"update df.instances set status = 'completed', finished_at = now() where {condition}".encode())


def oldest(connection: psycopg.Connection[Any]) -> int | None:
    """The key of the start that is said to be the oldest that waits."""
    found = connection.execute(
        "select i.key from df.instances i where i.recorded_at = (select df.oldest_pending())"
    ).fetchone()
    return int(found[0]) if found else None


# --- the oldest start that waits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [0, 1, 2, 1000, MANY // 2, MANY - 2500, MANY - 2000, MANY - 1, MANY])
def test_the_oldest_that_nobody_has_read_is_found_wherever_it_is(flood: psycopg.Connection[Any], begun: int) -> None:
    ended(flood, f"key <= {begun}")
    assert oldest(flood) == (begun + 1 if begun < MANY else None)


def test_the_oldest_for_which_there_is_no_room_is_found_behind_all_that_came_later(
    flood: psycopg.Connection[Any],
) -> None:
    """Of a role that floods; others' later starts have been begun."""
    ended(flood, f"key <= 500 or key > {MANY - 2500}")
    flood.execute(
        "update df.checkpoint set backlog = json_build_array(json_build_array('alice'::regrole::oid::bigint, 500, %s, 7))",
        [MANY - 2500],
    )
    assert oldest(flood) == 501


def test_what_is_found_always_waits(flood: psycopg.Connection[Any]) -> None:
    """However the rows that wait lie: one of them is named, or nothing, never one that has been begun."""
    for modulus, begun in ((100, 0), (7, 1), (3, 1), (2, 0)):
        ended(flood, f"key % {modulus} <= {begun}")
        key = oldest(flood)
        found = flood.execute("select status from df.instances where key = %s", [key]).fetchone()
        assert found in (None, ("pending",))


def test_a_quarantined_one_does_not_wait(flood: psycopg.Connection[Any]) -> None:
    ended(flood, f"key < {MANY - 2}")
    flood.execute("update df.instances set quarantined = 'why' where key = %s", [MANY - 2])
    assert oldest(flood) == MANY - 1
    assert flood.execute("select quarantined from df.watch()").fetchone() == (1,)


# --- what it costs --------------------------------------------------------------------------------------------------------


def read_by(connection: psycopg.Connection[Any], statement: str) -> tuple[int, int]:
    """Rows read by scans of whole tables, and by keys and indexes."""
    with connection.transaction(force_rollback=True):
        before = connection.execute(READ).fetchone()
        connection.execute(statement.encode())
        after = connection.execute(READ).fetchone()
    assert before is not None
    assert after is not None
    return after[0] - before[0], after[1] - before[1]


def test_a_figure_reads_no_whole_table_and_no_more_rows_when_there_are_more(home: Database) -> None:
    """Also with a plan that was made while the tables were empty."""
    statements = [*FOR_WATCHERS, *FOR_THE_ENGINE]
    with home.connect(ENGINE_ROLE) as engine:
        for statement in statements * 12:
            read_by(engine, statement)
        rows = []
        for _ in range(2):
            fill(home, MANY // 2)
            home.run("update df.instances set status = 'completed' where key % 5 = 0")
            home.run("update df.instances set quarantined = 'why' where key = 10")
            home.run(
                "insert into df.states (instance_key, version, state, wake_at) "
                "select key, 1, '', now() from df.instances on conflict do nothing"
            )
            counts = {statement: read_by(engine, statement) for statement in statements}
            assert {whole for whole, _ in counts.values()} == {0}, counts
            rows.append({statement: by_index for statement, (_, by_index) in counts.items()})
    for statement in statements:
        assert rows[1][statement] <= rows[0][statement] + 10, statement


def test_failing_reads_the_failed_only(full: Database) -> None:
    with full.connect() as admin:
        admin.execute("update df.instances set status = 'failed', finished_at = now() where key % 1000 = 0")
        with full.connect("alice") as alice:
            whole, by_index = read_by(alice, "select * from df.failing()")
        admin.execute("update df.instances set status = 'pending', finished_at = null where key % 1000 = 0")
    assert whole == 0
    assert by_index < 100


# --- who may ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", [*FOR_WATCHERS, *FOR_THE_ENGINE, "select df.count_fenced()", "table df.states"])
def test_a_role_that_starts_workflows_may_not_see_figures_over_all_roles(home: Database, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        home.run(statement.encode(), role="alice")  # type: ignore[arg-type]


def test_a_watcher_sees_numbers_and_nothing_else(home: Database) -> None:
    watcher = home.new_role("watcher", granted=False)
    home.run("select df.grant_monitoring(%s::regrole)", [watcher], ENGINE_ROLE)
    home.run("select df.start('select 1', 'secret label', id => 'secret-id')", role="alice")
    for statement in FOR_WATCHERS:
        rows = home.run(statement.encode(), role=watcher)  # type: ignore[arg-type]
        assert rows
        assert "secret" not in str(rows)
    for statement in (
        "select 1 from df.instances",
        "select * from df.failing()",
        "select df.start('select 1')",
        "select * from df.watch()",
        "select df.count_fenced()",
        "select * from df.epoch",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            home.run(statement.encode(), role=watcher)  # type: ignore[arg-type]
    home.run("select df.revoke_usage(%s::regrole)", [watcher], ENGINE_ROLE)
    for statement in FOR_WATCHERS:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            home.run(statement.encode(), role=watcher)  # type: ignore[arg-type]


def test_migrating_again_makes_no_starter_of_a_watcher_and_no_watcher_of_a_starter(home: Database) -> None:
    watcher, both = home.new_role("watcher", granted=False), home.new_role("both")
    for role in (watcher, both):
        home.run("select df.grant_monitoring(%s::regrole)", [role], ENGINE_ROLE)
    migrate(home.engine_dsn)
    may = "select bool_or(has_function_privilege(%s, p.oid, 'execute')) from pg_proc p where p.proname = 'start'"
    starts = {role: home.run(may, [role])[0][0] for role in (watcher, both, "alice")}
    assert starts == {watcher: False, both: True, "alice": True}
    watches = "select has_table_privilege(%s, 'df.health', 'select')"
    assert [home.run(watches, [role])[0][0] for role in (watcher, both, "alice")] == [True, True, False]


def test_pg_monitor_can_be_given_it(home: Database) -> None:
    home.run("select df.grant_monitoring('pg_monitor')", role=ENGINE_ROLE)
    dba = home.new_role("dba", granted=False)
    try:
        home.cluster.connect().execute(f"grant pg_monitor to {dba}".encode()).connection.close()
        assert home.run("select unfinished from df.health", role=dba) == [(0,)]
    finally:
        home.run("select df.revoke_usage('pg_monitor')", role=ENGINE_ROLE)


def test_everybody_sees_which_of_his_own_workflows_fail(home: Database) -> None:
    for role, label in (("alice", "a"), ("alice", "a"), ("alice", "b"), ("bob", "c")):
        home.run("select df.start('select 1', %s)", [label], role)
    home.run(
        """
        update df.instances set status = 'failed', error = '{"message": "no"}',
               finished_at = case label when 'b' then now() - interval '2 hours' else now() end
        """
    )
    query = "select submitted_by::text, label, failed, last_error from df.failing()"
    assert home.run(query, role="alice") == [("alice", "a", 2, "no")]
    assert home.run(query, role="bob") == [("bob", "c", 1, "no")]
    for admin in ("postgres", ENGINE_ROLE):
        assert home.run(query, role=admin) == [("alice", "a", 2, "no"), ("bob", "c", 1, "no")]
    assert home.run("select label, failed from df.failing('1 day')", role="alice") == [("a", 2), ("b", 1)]


# --- shapes -------------------------------------------------------------------------------------------------------------------


def test_samples_are_named_as_prometheus_wants_them_and_unlike_those_of_engines(home: Database) -> None:
    rows = home.run("select name, labels, value, help from df.samples()")
    assert len({(name, json.dumps(labels)) for name, labels, _, _ in rows}) == len(rows)
    for name, labels, value, help_text in rows:
        assert name.startswith("walflow_db_")
        assert set(labels) <= {"status"}
        assert isinstance(value, float)
        assert help_text.endswith(".")


def test_every_object_and_every_column_of_the_view_says_what_it_is(home: Database) -> None:
    uncommented = """
    select p.oid::regprocedure::text
      from pg_proc p
     where p.pronamespace = 'df'::regnamespace and p.prorettype <> 'trigger'::regtype
       and obj_description(p.oid, 'pg_proc') is null
     union all
    select a.attname from pg_attribute a
     where a.attrelid = 'df.health'::regclass and a.attnum > 0 and col_description(a.attrelid, a.attnum) is null
    """
    assert home.run(uncommented.encode()) == []  # type: ignore[arg-type]


def test_a_takeover_keeps_the_count_of_the_fenced(home: Database) -> None:
    home.run("select df.count_fenced()", role=ENGINE_ROLE)
    home.run("select df.take_over()", role=ENGINE_ROLE)
    assert home.run("select epoch, fenced from df.health") == [(1, 1)]


def test_the_view_shows_a_slot_that_is_not_there_as_missing(home: Database) -> None:
    assert home.run("select slot_active, wal_status, retained_bytes, lag_bytes from df.health") == [
        (False, None, None, None)
    ]
    assert home.run("select labels from df.samples() where name = 'walflow_db_slot_wal_status'") == [
        ({"status": "missing"},)
    ]
