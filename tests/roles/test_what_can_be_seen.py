"""ROLES.md, What can be seen: of other people's rows nothing but how many there are in all.

The attacks go through the planner: conditions that run before the policy, and say so by their time or in EXPLAIN ANALYZE;
estimates; indexes. So the tests ask for plans, under every way to reach a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.roles.attack import Connection, named, refused, rows, run, scalar
from tests.roles.conftest import As, Ground

OWNER = {
    "instances": "submitted_by",
    "signals": "owner",
    "cancellations": "owner",
    "releases": "owner",
    "completions": "run_as",
    "vars": "owner",
    "progress": "submitted_by",
}
"""Tables with rows of several roles, and the column that says whose a row is."""
ENGINES_OWN = ("waits", "heartbeats", "checkpoint", "states", "inbox", "migrations")

# --- rows ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["ground", "old_ground"])
@pytest.mark.parametrize("table", OWNER)
@pytest.mark.parametrize("role", ["mallory", "dave", "reader_all", "writer"])
def test_a_role_sees_no_row_of_another(which: str, table: str, role: str, request: pytest.FixtureRequest) -> None:
    ground: Ground = request.getfixturevalue(which)
    with ground.connect() as superuser, ground.connect(role) as connection:
        assert rows(superuser, f"select from df.{table}") != []
        assert rows(connection, f"select from df.{table}") == []


@pytest.mark.parametrize("table", ENGINES_OWN)
def test_what_is_the_engines_is_seen_by_nobody_not_even_with_pg_read_all_data(
    ground: Ground, as_role: As, table: str
) -> None:
    refused(as_role("mallory"), f"select from df.{table}")
    with ground.connect() as superuser, superuser.transaction(force_rollback=True):
        superuser.execute("insert into df.states values (1, 1, '{}', null)")
        superuser.execute("insert into df.inbox values (1, '0/1', 1, 'signal', '[]', now(), '3')")
        superuser.execute("insert into df.waits values (1, 0, 1, '1')")
        superuser.execute("insert into df.heartbeats values (1)")
        assert rows(superuser, f"select from df.{table}") != []
        superuser.execute("set local role reader_all")
        assert rows(superuser, f"select from df.{table}") == []


def test_every_table_of_df_has_row_level_security(ground: Ground) -> None:
    query = "select relname from pg_class where relnamespace = 'df'::regnamespace and relkind = any('{r,p,v,m,f}') "
    with ground.connect() as superuser:
        assert len(rows(superuser, query + "and relrowsecurity")) == len(OWNER) + len(ENGINES_OWN) + 2
        views = "and not relrowsecurity and not (relkind = 'v' and reloptions @> '{security_invoker=true}')"
        assert rows(superuser, query + views) == []


@pytest.mark.parametrize("table", OWNER)
def test_copy_shows_only_ones_own(as_role: As, table: str) -> None:
    mallory = as_role("mallory")
    mallory.execute("select df.setvar('mine', 'x')")
    with mallory.cursor().copy(f"copy df.{table} to stdout".encode()) as copy:
        assert len(list(copy)) == (1 if table == "vars" else 0)


def test_switching_row_level_security_off_is_an_error_and_no_way_around(as_role: As) -> None:
    mallory = as_role("mallory")
    mallory.execute("set local row_security = off")
    refused(mallory, "select from df.instances", match="row-level security")


@pytest.mark.parametrize("options", ["", "with (security_barrier)", "with (security_invoker)"])
def test_a_view_shows_what_its_reader_may_see_and_not_what_its_maker_may(ground: Ground, options: str) -> None:
    with ground.connect("carol") as carol:
        run(carol, f"create view public.window {options} as select id from df.instances")
        carol.execute("grant select on public.window to mallory")
        assert rows(carol, "select id from public.window") == [("order-42",)]
    try:
        with ground.connect("mallory") as mallory:
            assert rows(mallory, "select id from public.window") == []
    finally:
        ground.run("drop view public.window")


def test_rows_of_a_role_that_was_dropped_are_seen_by_nobody_and_disturb_nobody(ground: Ground, as_role: As) -> None:
    superuser = as_role("postgres")
    superuser.execute("create role gone login")
    superuser.execute("select df.grant_usage('gone')")
    superuser.execute("set local role gone")
    superuser.execute("insert into df.instances (id, graph) values ('left-behind', 'select 1')")
    superuser.execute("reset role")
    superuser.execute("drop owned by gone")
    superuser.execute("drop role gone")
    assert rows(superuser, "select submitted_by::text ~ '^[0-9]+$' from df.instances where id = 'left-behind'") == [
        (True,)
    ]
    superuser.execute("set local role carol")
    assert rows(superuser, "select id from df.instances") == [("order-42",)]


def test_a_broken_constraint_does_not_show_the_row(as_role: As) -> None:
    alice = as_role("alice")
    insert = "insert into df.instances (id, graph) values ('order-42', 'select 1')"
    assert refused(alice, insert, error=psycopg.errors.UniqueViolation).diag.message_detail is None


# --- rule 9: what runs before the policy -------------------------------------------------------------------------------

SCANS = {
    "the planner's choice": [],
    "a sequential scan": ["enable_indexscan", "enable_bitmapscan", "enable_indexonlyscan"],
    "an index scan": ["enable_seqscan", "enable_bitmapscan"],
    "a bitmap scan": ["enable_seqscan", "enable_indexscan", "enable_indexonlyscan"],
}


@pytest.fixture(scope="module", params=["ground", "old_ground"])
def crowded(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """A ground in which alice has hundreds of everything, and mallory one."""
    ground: Ground = request.getfixturevalue(request.param)
    with ground.connect("alice") as alice:
        alice.execute(
            "insert into df.instances (id, graph, label) select 'crowd-' || n, 'select ' || n, 'label' || n "
            "from generate_series(1, 300) n"
        )
        alice.execute("select df.signal('order-42', 'signal' || n, to_json(n)::text) from generate_series(1, 300) n")
        alice.execute("select df.setvar('v' || n, repeat('x', 10 * n)) from generate_series(1, 300) n")
        run(
            alice,
            "insert into df.completions (instance_key, step, attempt, outcome, result) "
            f"select {ground.key}, (n + 1)::text, 1, 'completed', to_json(n) from generate_series(1, 300) n",
        )
    for table in OWNER:
        ground.run(named("vacuum analyze df.{}", table))
    yield ground
    ground.run("delete from df.instances where id like 'crowd-%'")
    ground.run("delete from df.completions where step <> '1'")
    ground.run("delete from df.signals where name <> 'go'")
    ground.run("delete from df.vars where name <> 'password'")


@pytest.fixture
def mallory(crowded: Ground) -> Iterator[Connection]:
    with crowded.connect("mallory", autocommit=False) as connection:
        connection.execute("set jit = off")  # which the price of a forbidden scan would start
        yield connection
        connection.rollback()


def scan_by(connection: Connection, scan: str) -> None:
    for setting in SCANS[scan]:
        run(connection, f"set local {setting} = off")


def plan(connection: Connection, query: str, options: str = "analyze, timing off, summary off, buffers off") -> Any:
    return scalar(connection, f"explain ({options}, format json) {query}")[0]["Plan"]


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for inner in tree.get("Plans", ()):
        yield from nodes(inner)


def conditions(table: str, columns: dict[str, str]) -> Iterator[str]:
    """Leakproof conditions on each column that the planner thinks cost nothing, or less than a call."""
    for column, kind in columns.items():
        yield f"{column} is null"
        yield f"{column} is not null"
        if kind == "boolean":
            yield column
            yield f"not {column}"
        if kind in ("text", "bigint", "oid", "uuid", "timestamp with time zone", "integer"):
            bound = {"text": "m", "uuid": "8" * 32, "timestamp with time zone": "2020-01-01"}.get(kind, "5")
            yield f"{column} < any ('{{{bound}}}'::{kind}[])"
            yield f"{column} >= any ('{{{bound}}}'::{kind}[])"
            yield f"case when {column} is null then false else {column} = any ('{{{bound}}}'::{kind}[]) end"


@pytest.mark.parametrize("scan", ["a sequential scan", "by place"])
@pytest.mark.parametrize("table", OWNER)
def test_no_condition_of_a_query_runs_on_a_row_of_another_role(mallory: Connection, table: str, scan: str) -> None:
    """The second operand of OR runs only when the first is not true, and tells so: by its time, or in EXPLAIN ANALYZE."""
    columns: dict[str, str] = dict(
        rows(
            mallory,
            "select attname::text, format_type(atttypid, null) from pg_attribute "
            "where attrelid = %s::regclass and attnum > 0 order by attnum",
            [f"df.{table}"],
        )
    )
    where = "true"
    scan_by(mallory, "a sequential scan")
    if scan == "by place":
        mallory.execute("set local enable_seqscan = off")
        where = "ctid = any (array(select format('(0,%s)', n)::tid from generate_series(1, 5) n))"
    for condition in conditions(table, columns):
        query = f"select from df.{table} where {where} and ({condition} or (select 4242) is null)"
        tree = plan(mallory, query, "analyze, verbose, timing off, summary off, buffers off")
        telltale = [node for node in nodes(tree) if node.get("Output") == ["4242"]]
        assert [node["Actual Loops"] for node in telltale] == [0], (condition, tree.get("Filter"))
        assert tree["Rows Removed by Filter"] > 0, condition


@pytest.mark.parametrize("table", OWNER)
def test_the_policy_comes_first_in_every_plan_on_every_version(mallory: Connection, table: str) -> None:
    scan_by(mallory, "a sequential scan")
    filters = plan(mallory, f"select from df.{table} where ctid is not null", "costs off")["Filter"]
    assert re.match(r"\(+(\$0|\(InitPlan 1\)\.col1)\)?\[\(*" + OWNER[table], filters), filters


QUERIES = {
    "instances": "select from df.instances where id {}",
    "signals": "select from df.signals where name {}",
    "completions": "select from df.completions where step {}",
    "vars": "select from df.vars where name {}",
}


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("table", QUERIES)
def test_explain_analyze_cannot_be_used_to_bisect_what_others_have(mallory: Connection, table: str, scan: str) -> None:
    scan_by(mallory, scan)
    query = QUERIES[table]
    for operator in ("<", ">=", "="):
        plans = [
            json.dumps(plan(mallory, query.format(f"{operator} '{bound}'"))).replace(bound, "X")
            for bound in ("crowd-150", "crowd-9", "signal150", "v150", "200", "password", "")
            if bound
        ]
        assert len(set(plans)) == 1


@pytest.mark.parametrize(
    "condition",
    [
        *("id = %s", "id < %s", "label = %s", "label like %s || '%%'", "graph = %s", "status = %s", "label is null"),
        *("submitter = 'alice'::regrole::oid", "submitter = 'bob'::regrole::oid", "(label, graph) = (%s, %s)"),
    ],
)
def test_estimates_of_a_plain_explain_tell_nothing(mallory: Connection, condition: str) -> None:
    estimates = set()
    for value in ("crowd-150", "label7", "select 7", "pending", "completed", "nothing like it"):
        literal = condition.replace("%s", f"'{value}'").replace("%%", "%")
        tree = plan(mallory, f"select from df.instances where {literal}", "verbose")
        estimates.add((tree["Plan Rows"], tree["Total Cost"]))
    assert len(estimates) == 1


def test_estimates_are_the_same_for_a_role_with_many_rows_and_one_with_none(mallory: Connection) -> None:
    estimates = {
        plan(mallory, f"select from df.instances where submitted_by = '{role}'::regrole", "verbose")["Plan Rows"]
        for role in ("alice", "bob")
    }
    assert len(estimates) == 1


def test_there_are_no_statistics_of_what_users_read_and_others_own(crowded: Ground) -> None:
    with crowded.connect() as superuser:
        superuser.execute("analyze")
        tables = list(OWNER)
        found = "select tablename, attname from pg_stats where schemaname = 'df' and tablename = any (%s)"
        assert rows(superuser, found, [tables]) == []
        collected = (
            "select a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid where relnamespace = 'df'::regnamespace "
            "and c.relname = any (%s) and a.attnum > 0 and not a.attisdropped and a.attstattarget is distinct from 0"
        )
        assert rows(superuser, collected, [tables]) == []
        assert rows(superuser, "select from pg_statistic_ext where stxnamespace = 'df'::regnamespace") == []


def test_every_index_on_what_users_read_begins_with_the_owner_but_for_that_on_the_bare_key(ground: Ground) -> None:
    with ground.connect() as superuser:
        found = rows(
            superuser,
            "select t.relname::text, i.indexrelid::regclass::text, a.attname::text from pg_index i "
            "join pg_class t on t.oid = i.indrelid join pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0] "
            "where t.relnamespace = 'df'::regnamespace and t.relname = any (%s)",
            [list(OWNER)],
        )
    assert [index for table, index, column in found if column != OWNER[table]] == ["df.instance_keys_are_unique"]


# --- what cannot be hidden ------------------------------------------------------------------------------------------------


def test_what_stays_visible_is_how_many_rows_there_are_in_all(ground: Ground, as_role: As) -> None:
    ground.run("analyze df.instances")
    mallory = as_role("mallory")
    assert scalar(mallory, "select reltuples from pg_class where oid = 'df.instances'::regclass") >= 1


def test_the_activity_of_other_roles_is_hidden(ground: Ground, as_role: As) -> None:
    alice, mallory = as_role("alice"), as_role("mallory")
    alice.execute("select 'top secret'")
    query = "select query from pg_stat_activity where usename = 'alice' and datname = current_database()"
    assert rows(mallory, query) == [("<insufficient privilege>",)]
