"""LANGUAGE.md section 2, sentence by sentence: the builders and operators, and the result of what each makes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.user import User
from tests.servers import Cluster, Database, backend_seconds, wait_until
from tests.workflows import ENDS
from tests.workflows import world as open_world


def values(results: Any) -> list[Any]:
    """The first column of the first row of each result of an array."""
    return [next(iter(result["rows"][0].values())) for result in results]


@pytest.fixture
def table(alice: User, request: pytest.FixtureRequest) -> Iterator[str]:
    """A table of the test's own with a column `word`."""
    name = f"public.t_{abs(hash(request.node.name))}"
    alice.run(f"create table {name} (word text)")
    yield name
    alice.run(f"drop table {name}")


@pytest.fixture
def tries(alice: User) -> Iterator[str]:
    """A sequence: what counts on although a step is rolled back."""
    alice.run("create sequence public.tries")
    yield "public.tries"
    alice.run("drop sequence public.tries")


def test_a_thousand_nodes_are_built_at_once(alice: User) -> None:
    """plpgsql, not inlinable SQL (1,000 nodes: 0.05-0.15 s against 13 s, tried)"""
    chain = " ~> ".join(["'select 1'"] * 1000)
    before = backend_seconds(alice.connection)
    assert len(alice.build(chain)) > 50_000
    assert backend_seconds(alice.connection) - before < 3


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("df.seq('a', null)", "df.seq: argument b is NULL"),
        ("df.seq(null, 'b')", "df.seq: argument a is NULL"),
        ("'a' ~> null::text", "df.seq: argument b is NULL"),
        ("df.loop(null)", "df.loop: argument body is NULL"),
        ("df.if('a', null, 'c')", "df.if: argument then_branch is NULL"),
        ("df.catch('a', null)", "df.catch: argument handler is NULL"),
        ("df.with_undo('a', null)", "df.with_undo: argument undo is NULL"),
        ("df.timeout(null, '1s')", "df.timeout: argument fut is NULL"),
        ("df.retry(null, 3)", "df.retry: argument fut is NULL"),
        ("df.map('a', null)", "df.map: argument body is NULL"),
        ("df.call_child(null)", "df.call_child: argument graph is NULL"),
    ],
)
def test_null_where_a_node_is_expected_is_an_error_that_names_the_argument(
    alice: User, expression: str, message: str
) -> None:
    """not STRICT: NULL where a node is expected is `df.seq: argument b is NULL`."""
    assert alice.refused(f"select {expression}") == message


def test_sql_gives_rows_and_their_number(alice: User) -> None:
    """`sql(query)` | SQL | `{"rows":[{…}],"row_count":N}`; N = rows returned"""
    result = alice.result("df.sql('select n, n * 2 as d from generate_series(1, 3) as n')")
    assert result == {"rows": [{"n": 1, "d": 2}, {"n": 2, "d": 4}, {"n": 3, "d": 6}], "row_count": 3}


def test_sql_without_rows_also_gives_columns(alice: User) -> None:
    """without rows also `"columns":[…]`"""
    result = alice.result("df.sql('select 1 as b, 2 as a where false')")
    assert result == {"rows": [], "row_count": 0, "columns": ["b", "a"]}


def test_dml_without_returning_and_ddl_give_no_rows_and_affected(alice: User, table: str) -> None:
    """DML without RETURNING and DDL: no rows, and `"affected":N`"""
    insert = alice.result(f"df.sql($$insert into {table} values ('x'), ('y')$$)")
    assert insert == {"rows": [], "row_count": 0, "affected": 2}
    ddl = alice.result(f"df.sql('alter table {table} add n int')")
    assert ddl == {"rows": [], "row_count": 0, "affected": 0}
    returning = alice.result(f"df.sql('update {table} set n = 1 returning word')")
    assert returning == {"rows": [{"word": "x"}, {"word": "y"}], "row_count": 2}


def test_seq_is_the_operator_and_seq_all(alice: User) -> None:
    """`seq(a, b)` · `a ~> b` · `seq_all(variadic)` | THEN"""
    assert alice.build("df.seq('a', 'b')") == alice.build("'a' ~> 'b'") == alice.build("df.seq_all('a', 'b')")
    assert alice.build("df.seq_all('a', 'b', 'c')") == alice.build("'a' ~> 'b' ~> 'c'")
    assert json.loads(alice.build("'a' ~> 'b'"))["node_type"] == "THEN"


def test_seq_has_the_last_ones_result(alice: User) -> None:
    """THEN | the last one's"""
    assert alice.rows("'select 1 as a' ~> 'select 2 as a' ~> 'select 3 as a'") == [{"a": 3}]


def test_as_is_the_operator_and_names_any_nodes_result(alice: User) -> None:
    """`as(fut, name)` · `fut |=> 'name'` | names any node's result"""
    assert alice.build("df.as('a', 'x')") == alice.build("'a' |=> 'x'")
    of_sql = alice.start("('select 1 as a' |=> 'x') ~> 'select $x as a'")
    of_seq = alice.start("(('select 1' ~> 'select 2 as a') |=> 'x') ~> 'select $x as a'")
    of_loop = alice.start("(df.loop(df.break('3')) |=> 'x') ~> 'select $x as a'")
    of_signal = alice.start("(df.wait_for_signal('s', 0) |=> 'x') ~> 'select $x.timed_out as a'")
    ends = [alice.end(id).result["rows"][0]["a"] for id in (of_sql, of_seq, of_signal)]
    assert ends == [1, 2, True]
    assert str(alice.end(of_loop).result["rows"][0]["a"]) == "3"


@pytest.mark.parametrize("name", ["1x", "a-b", "", "é"])
def test_a_name_is_an_identifier(alice: User, name: str) -> None:
    """name `[A-Za-z_][A-Za-z0-9_]*`, error `df.as: result name 'x' is not a valid identifier — must match
    [a-zA-Z_][a-zA-Z0-9_]*`"""
    assert alice.refused("select df.as('select 1', %s)", [name]) == (
        f"df.as: result name '{name}' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"
    )


def test_join_is_the_operator_join3_and_join_all(alice: User) -> None:
    """`join(a, b)` · `a & b`, `join3(a,b,c)`, `join_all(variadic)` | JOIN"""
    assert alice.build("df.join('a', 'b')") == alice.build("'a' & 'b'") == alice.build("df.join_all('a', 'b')")
    assert alice.build("df.join3('a', 'b', 'c')") == alice.build("df.join_all('a', 'b', 'c')")
    assert json.loads(alice.build("'a' & 'b'"))["node_type"] == "JOIN"


def test_join_has_an_array_in_branch_order(alice: User) -> None:
    """JOIN | JSON array in branch order"""
    slow_first = "df.join_all('select 1 as a from pg_sleep(0.2)', 'select 2 as a', 'select 3 as a')"
    assert values(alice.result(slow_first)) == [1, 2, 3]


def test_race_is_the_operator_and_race_all(alice: User) -> None:
    """`race(a, b)` · `a | b`, `race_all(variadic)` | RACE"""
    assert alice.build("df.race('a', 'b')") == alice.build("'a' | 'b'") == alice.build("df.race_all('a', 'b')")
    assert json.loads(alice.build("df.race_all('a', 'b', 'c')"))["node_type"] == "RACE"


def test_race_has_the_winners_result(alice: User) -> None:
    """RACE | the winner's"""
    assert alice.rows("df.race_all('select 1 as a from pg_sleep(30)', df.sleep(30), 'select 3 as a')") == [{"a": 3}]


def test_if_is_the_two_operators(alice: User) -> None:
    """`if(condition, then_branch, else_branch)` · `c ?> t !> e` | IF"""
    assert alice.build("df.if('c', 't', 'e')") == alice.build("'c' ?> 't' !> 'e'")


def test_if_has_the_taken_branchs_result(alice: User) -> None:
    """IF | the taken branch's"""
    yes = alice.start("'select true' ?> 'select 1 as a' !> 'select 2 as a'")
    no = alice.start("'select false' ?> 'select 1 as a' !> 'select 2 as a'")
    assert values(alice.end(id).result for id in (yes, no)) == [1, 2]


def test_if_rows_asks_the_row_count_of_a_named_result(alice: User) -> None:
    """`if_rows(result_name, then_branch, else_branch)` | IF on a named result's `row_count`"""
    branches = "df.if_rows('x', 'select 1 as a', 'select 2 as a')"
    some = alice.start(f"('select false' |=> 'x') ~> {branches}")
    none = alice.start(f"('select true where false' |=> 'x') ~> {branches}")
    assert values(alice.end(id).result for id in (some, none)) == [1, 2]


def test_loop_runs_its_body_and_then_asks_its_condition(alice: User, table: str) -> None:
    """`loop(body, condition, every interval)` · `@> body` | LOOP, do-while"""
    body = f"$$insert into {table} values ('x')$$"
    alice.result(f"df.loop({body}, 'select false')")
    assert alice.value(f"select count(*) from {table}") == 1
    alice.result(f"df.loop({body}, 'select count(*) < 3 from {table}')")
    assert alice.value(f"select count(*) from {table}") == 3
    assert alice.build("@> 'a'") == alice.build("df.loop('a')")


def test_a_loop_without_condition_goes_on_until_break_failure_or_cancellation(alice: User, table: str) -> None:
    """no condition: until break, failure or cancellation"""
    count = f"($$insert into {table} values ('x')$$ ~> 'select count(*) from {table}' |=> 'n')"
    broken = alice.start("@> df.break()")
    failed = alice.start("@> 'select 1 / 0'")
    endless = alice.start(f"df.loop({count}, every => '0')")
    assert alice.end(broken).status == "completed"
    assert alice.end(failed).status == "failed"
    wait_until(lambda: alice.value(f"select count(*) from {table}") > 3, what="the loop goes round")
    alice.run("select df.cancel(%s)", [endless])
    assert alice.end(endless).status == "cancelled"


def test_loop_has_the_last_bodys_result_or_the_break_value(alice: User) -> None:
    """LOOP | last body result, or the break value"""
    last = alice.start("df.loop('select 1 as a', 'select false')")
    value = alice.start("""df.loop('select 1' ~> df.break('{"b":2}'), 'select true')""")
    assert alice.end(last).result["rows"] == [{"a": 1}]
    assert alice.end(value).result == {"b": 2}


def test_break_takes_json_or_a_string_or_nothing(alice: User) -> None:
    """`break(value)` | BREAK | value if JSON, else a JSON string; none: null"""
    breaks = {"'[1,\"x\"]'": [1, "x"], "'7'": 7, "'true'": True, "'some text'": "some text", "''": "", "": None}
    started = {alice.start(f"df.loop(df.break({value}))"): result for value, result in breaks.items()}
    assert [alice.end(id).result for id in started] == list(started.values())


@pytest.mark.parametrize(
    "expression",
    [
        "df.sleep(0)",
        "df.sleep(interval '0.05 seconds')",
        "df.sleep('0')",
        "df.sleep('50 milliseconds')",
        "('select 0 as s' |=> 'x') ~> df.sleep('$x.s')",
        "df.sleep_until(now() + interval '0.05 seconds')",
        "df.sleep_until('2020-01-01 00:00+00')",
        "('select now() as t' |=> 'x') ~> df.sleep_until('$x.t')",
    ],
)
def test_sleep_takes_seconds_an_interval_a_time_or_a_reference(alice: User, expression: str) -> None:
    """`sleep(seconds bigint)`, `sleep(interval)`, `sleep(text)` (seconds, an interval or a reference),
    `sleep_until(timestamptz)`, `sleep_until(text)` | SLEEP"""
    assert alice.result(expression)["slept"] is True


def test_sleep_tells_how_long(alice: User) -> None:
    """SLEEP | `{"slept":true,"seconds":N}`"""
    whole, part = alice.start("df.sleep(1)"), alice.start("df.sleep(interval '0.25 seconds')")
    assert alice.end(part).result == {"slept": True, "seconds": 0.25}
    assert alice.end(whole).result == {"slept": True, "seconds": 1}
    query = "select finished_at - started_at >= interval '1 second' from df.instances where id = %s"
    assert alice.value(query, [whole])


def test_wait_for_schedule_is_in_utc_by_default(alice: User) -> None:
    """`wait_for_schedule(cron_expr, timezone default 'UTC')` | WAIT_SCHEDULE"""
    graph = json.loads(alice.build("df.wait_for_schedule('*/5 * * * *')"))
    assert graph["node_type"] == "WAIT_SCHEDULE"
    assert json.loads(graph["query"]) == {"cron_expr": "*/5 * * * *", "timezone": "UTC"}


def test_wait_for_signal_gives_name_timed_out_and_data(alice: User) -> None:
    """`wait_for_signal(name, timeout_seconds, fresh boolean default false)` | SIGNAL |
    `{"signal_name":…,"timed_out":bool,"data":…}`"""
    late, met = alice.start("df.wait_for_signal('s', 0)"), alice.start("df.wait_for_signal('s')")
    alice.run("""select df.signal(%s, 's', '{"a":1}')""", [met])
    assert alice.end(late).result == {"signal_name": "s", "timed_out": True, "data": None}
    assert alice.end(met).result == {"signal_name": "s", "timed_out": False, "data": {"a": 1}}
    assert "fresh" not in json.loads(alice.build("df.wait_for_signal('s', 1)"))["query"]
    assert json.loads(json.loads(alice.build("df.wait_for_signal('s', 1, fresh => true)"))["query"])["fresh"] is True


def test_http_is_built_and_refused_at_the_insert(alice: User) -> None:
    """`http(url, method default 'POST', body, headers jsonb, timeout_seconds default 30)` | HTTP"""
    query = json.loads(json.loads(alice.build("df.http('https://example.com/x')"))["query"])
    assert query["url"] == "https://example.com/x"
    assert query["method"] == "POST"
    assert query["timeout_seconds"] == 30
    message = alice.refused("select df.start(df.http('https://example.com/x'))")
    assert "HTTP" in message
    assert "not available" in message


def test_http_multipart_is_built_and_refused_at_the_insert(alice: User) -> None:
    """`http_multipart(url, method, parts jsonb, headers jsonb, timeout_seconds)` | HTTP_MULTIPART"""
    parts = """[{"name":"a","data_b64":"eA=="}]"""
    graph = f"df.http_multipart('https://example.com/x', 'POST', '{parts}', '{{}}', 5)"
    assert json.loads(alice.build(graph))["node_type"] == "HTTP_MULTIPART"
    assert "not available" in alice.refused(f"select df.start({graph})")


def test_call_child_runs_a_graph_as_a_child(alice: User) -> None:
    """`call_child(graph, label, options jsonb)` | CALL_CHILD | section 8"""
    graph = """df.call_child('select $input.n as i', 'a label', '{"input":{"n":5}}')"""
    assert json.loads(alice.build(graph))["node_type"] == "CALL_CHILD"
    id = alice.start(graph)
    assert alice.end(id).result["rows"] == [{"i": 5}]
    assert alice.run("select label from df.instances where parent_id = %s", [id]) == [("a label",)]


def test_await_instance_waits_for_another_instance(alice: User) -> None:
    """`await_instance(instance_id, timeout_seconds)` | AWAIT_INSTANCE | section 8"""
    other = alice.start("df.sleep('0.2 seconds') ~> 'select 1 as a'")
    result = alice.result(f"df.await_instance('{other}', 10)")
    assert (result["instance_id"], result["status"], result["result"]["rows"]) == (other, "completed", [{"a": 1}])


def test_map_takes_a_step_or_the_name_of_a_result(alice: User) -> None:
    """`map(items, body, max_parallel default 10)` | MAP: items is a step, or the name of a result (text that is a valid
    name is a name)"""
    step = alice.start("df.map('select n from generate_series(1, 3) n', 'select $item * 10 as d')")
    name = alice.start("('select n from generate_series(1, 3) n' |=> 'x') ~> df.map('x', 'select $item * 10 as d')")
    assert values(alice.end(step).result) == values(alice.end(name).result) == [10, 20, 30]
    assert json.loads(json.loads(alice.build("df.map('x', 'select 1')"))["query"])["items"] == "x"


def test_the_body_of_a_map_runs_once_per_row_bound_as_item(alice: User, table: str) -> None:
    """body runs once per row, the row bound as `$item`"""
    rows = "values (1, ''a''), (2, ''b'')"
    result = alice.result(
        f"df.map('select * from ({rows}) as v(n, word)', $$insert into {table} values ($item.word)$$)"
    )
    assert [item["affected"] for item in result] == [1, 1]
    assert alice.run(f"select word from {table} order by word") == [("a",), ("b",)]


def test_map_has_an_array_in_row_order(alice: User) -> None:
    """MAP | JSON array in row order"""
    slow_first = "'select $item as n from pg_sleep(case when $item = 1 then 0.3 else 0 end)'"
    assert values(alice.result(f"df.map('select generate_series(1, 4)', {slow_first})")) == [1, 2, 3, 4]
    assert alice.result("df.map('select 1 where false', 'select $item')") == []


def test_map_runs_at_most_max_parallel_bodies_at_once(alice: User) -> None:
    """max_parallel default 10"""
    assert json.loads(json.loads(alice.build("df.map('x', 'select 1')"))["query"])["max_parallel"] == 10
    started = time.monotonic()
    id = alice.start("df.map('select generate_series(1, 4)', df.sleep('0.4 seconds'), max_parallel => 2)")
    assert len(alice.end(id).result) == 4
    assert time.monotonic() - started > 0.8


def test_retry_has_futs_result(alice: User, tries: str) -> None:
    """`retry(fut, max_attempts, initial interval '1s', backoff 2, max_interval '5m')` | RETRY | fut's"""
    second_works = f"$$select nextval('{tries}') as n, 1 / (currval('{tries}') - 1) as x$$"
    assert alice.rows(f"df.retry({second_works}, 3, initial => '0.05s')") == [{"n": 2, "x": 1}]


def test_retry_waits_a_second_then_twice_as_long_up_to_five_minutes(alice: User) -> None:
    """`retry(fut, max_attempts, initial interval '1s', backoff 2, max_interval '5m')`"""
    query = json.loads(json.loads(alice.build("df.retry('select 1', 4)"))["query"])
    assert query == {"max_attempts": 4, "initial": 1, "backoff": 2, "max_interval": 300}


def test_timeout_fails_with_code_timeout_and_cancels_what_is_in_flight(alice: User) -> None:
    """`timeout(fut, after interval)` | TIMEOUT: fut fails with code `timeout`, work in flight is cancelled"""
    id = alice.start("df.timeout('select pg_advisory_xact_lock(454545), pg_sleep(60)', '0.5s')")
    inside = "select 1 from pg_locks where locktype = 'advisory' and objid = 454545"
    wait_until(lambda: alice.run(inside), what="the step runs")
    assert alice.end(id).error["code"] == "timeout"
    wait_until(lambda: not alice.run(inside), what="the step has been stopped")


def test_timeout_has_futs_result(alice: User) -> None:
    """TIMEOUT | fut's"""
    assert alice.rows("df.timeout('select 1 as a', '1m')") == [{"a": 1}]


def test_catch_runs_the_handler_with_the_error(alice: User) -> None:
    """`catch(fut, handler)` | CATCH: if fut fails, handler runs with `$error` (section 6)"""
    assert alice.rows("df.catch('select 1 / 0', 'select $error.code as code')") == [{"code": "22012"}]


def test_catch_has_futs_result_or_the_handlers(alice: User) -> None:
    """CATCH | fut's, or the handler's"""
    assert alice.rows("df.catch('select 1 as a', 'select 2 as a')") == [{"a": 1}]
    assert alice.error("df.catch('select 1 / 0', 'select 1 / 0')")["code"] == "22012"


def test_an_undo_is_owed_once_fut_completed(alice: User, table: str) -> None:
    """`with_undo(fut, undo)` · `fut <~ undo` | UNDO: once fut completed, undo is owed (section 6)"""
    assert alice.build("df.with_undo('a', 'b')") == alice.build("'a' <~ 'b'")
    undo = f"$$insert into {table} values ('undone')$$"
    assert alice.outcome(f"('select 1 / 0' <~ {undo}) ~> 'select 1'").status == "failed"
    assert alice.value(f"select count(*) from {table}") == 0
    assert alice.outcome(f"('select 1' <~ {undo}) ~> 'select 1 / 0'").status == "failed"
    assert alice.value(f"select count(*) from {table}") == 1


def test_with_undo_has_futs_result(alice: User, table: str) -> None:
    """UNDO | fut's"""
    assert alice.rows(f"'select 1 as a' <~ $$insert into {table} values ('undone')$$") == [{"a": 1}]
    assert alice.value(f"select count(*) from {table}") == 0


def test_the_nesting_says_which_bounds_which(alice: User) -> None:
    """retry, timeout, catch and undo are nodes around nodes, so the nesting says which bounds which"""
    each = alice.start("df.retry(df.timeout('select pg_sleep(60)', '0.2s'), 2, initial => '0.05s')")
    all = alice.start("df.timeout(df.retry('select 1 / 0', 100, initial => '0.2s', backoff => 1), '0.5s')")
    caught = alice.start("df.catch(df.timeout(df.sleep(60), '0.1s'), 'select $error.code as code')")
    assert alice.end(each).error["attempt"] == 2
    assert [alice.end(id).error["code"] for id in (each, all)] == ["timeout", "timeout"]
    assert alice.end(caught).result["rows"] == [{"code": "timeout"}]


def test_names_set_inside_are_visible_outside(alice: User) -> None:
    """names set inside are visible outside."""
    named = "'select 1 as a' |=> 'x'"
    inside = [
        f"df.retry({named}, 2)",
        f"df.timeout({named}, '1m')",
        f"df.catch({named}, 'select 1')",
        f"({named}) <~ 'select 1'",
        f"df.catch('select 1 / 0', {named})",
    ]
    started = [alice.start(f"{node} ~> 'select $x as a'") for node in inside]
    assert values(alice.end(id).result for id in started) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("builder", ["join_all", "race_all", "seq_all"])
def test_all_of_nothing_is_an_error_and_of_one_that_one(alice: User, builder: str) -> None:
    """`join_all`, `race_all`, `seq_all` of nothing are errors; of one, that one (join_all: an array of one)."""
    assert builder in alice.refused(f"select df.{builder}(variadic '{{}}'::text[])")
    if builder == "join_all":
        assert values(alice.result("df.join_all('select 1 as a')")) == [1]
    else:
        assert alice.build(f"df.{builder}('select 1')") == alice.build("df.sql('select 1')")


def test_operators_take_text_and_text_and_one_is_a_prefix(alice: User) -> None:
    """Operators take (text, text), and one prefix `@>`."""
    operators = alice.run("""
        select o.oprname, o.oprkind::text
          from pg_operator o join pg_proc p on p.oid = o.oprcode
         where p.pronamespace = 'df'::regnamespace
    """)
    assert set(operators) == {(name, "b") for name in ("~>", "|=>", "&", "|", "?>", "!>", "<~")} | {("@>", "l")}


@pytest.fixture
def no_public(server18: Cluster) -> Iterator[Database]:
    """A database in which the installing role may not create in public."""
    database = server18.database(migrated=False)
    database.run("revoke create on schema public from public")
    database.run("revoke create on schema public from engine")
    database.migrate()
    yield database
    database.drop()


def test_operators_go_to_public_or_else_to_df(alice: User, no_public: Database) -> None:
    """They go to schema `public` when the installing role may create there (`doctor` prints the GRANT otherwise), else to
    `df`, and the docs say which `search_path` that needs"""
    schemas = """
        select distinct o.oprnamespace::regnamespace::text
          from pg_operator o join pg_proc p on p.oid = o.oprcode
         where p.pronamespace = 'df'::regnamespace
    """
    assert alice.run(schemas) == [("public",)]
    assert no_public.run(schemas) == [("df",)]
    with no_public.connect() as connection:
        connection.execute("set search_path = public, df")
        assert connection.execute("select 'a' ~> 'b'").fetchone() is not None


def test_operators_go_to_pg_catalog_on_request_with_a_warning(no_public: Database) -> None:
    """`walflow migrate --operators pg_catalog` puts them there on request and warns that pg_dump and pg_upgrade leave them
    out (tried)."""
    command = [sys.executable, "-m", "engine", "migrate", "--operators", "pg_catalog", "--dsn", no_public.dsn()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pg_dump" in done.stderr
    assert "pg_upgrade" in done.stderr
    assert no_public.run("select 'a'::text operator(pg_catalog.~>) 'b'::text") == no_public.run(
        "select df.seq('a', 'b')"
    )


def test_qualified_operators_and_functions_work_under_any_path(alice: User) -> None:
    """`OPERATOR(public.~>)` and the functions work under any path."""
    graph = alice.build("'select 1' ~> 'select 2'")
    with alice.transaction():
        alice.run("set local search_path = ''")
        assert alice.build("'select 1' operator(public.~>) 'select 2'") == graph
        assert alice.build("df.seq('select 1', 'select 2')") == graph
        assert alice.build("operator(public.@>) 'select 1'") == alice.build("df.loop('select 1')")


def test_none_of_the_operators_exists_in_core(alice: User) -> None:
    """None of these operators exists for (text, text) in core or in the usual contrib modules (`<->` does, in pg_trgm, so it
    is not used)."""
    assert not alice.run("""
        select 1 from pg_operator
         where oprnamespace = 'pg_catalog'::regnamespace
           and oprleft in ('text'::regtype, 0) and oprright = 'text'::regtype
           and oprname in ('~>', '|=>', '&', '|', '?>', '!>', '<~', '@>', '<->')
    """)


def test_a_join_b_join_c_is_a_join_in_a_join(alice: User) -> None:
    """PostgreSQL gives all of them, and `||` and `->>`, one precedence, left to right: `A & B & C` is a join in a join"""
    assert alice.build("'a' & 'b' & 'c'") == alice.build("df.join(df.join('a', 'b'), 'c')")


def test_a_condition_is_the_whole_chain_on_its_left(alice: User) -> None:
    """`x ~> c ?> t !> e` takes the whole chain as the condition"""
    assert alice.build("'x' ~> 'c' ?> 't' !> 'e'") == alice.build("df.if(df.seq('x', 'c'), 't', 'e')")


def test_the_prefix_loops_only_the_next(alice: User) -> None:
    """`@> a ~> b` loops only a"""
    assert alice.build("@> 'a' ~> 'b'") == alice.build("df.seq(df.loop('a'), 'b')")


def test_a_concatenation_needs_its_parentheses(alice: User) -> None:
    """`'a' ~> ('SELECT ' || x)` needs its parentheses"""
    assert alice.build("'a' ~> ('SELECT ' || '1')") == alice.build("df.seq('a', 'SELECT 1')")
    assert alice.build("'a' ~> 'SELECT ' || '1'") == alice.build("df.seq('a', 'SELECT ') || '1'")


def test_a_loop_behind_an_operator_needs_its_space(alice: User) -> None:
    """`a ~> @> b` its space."""
    assert alice.build("'a' ~> @> 'b'") == alice.build("df.seq('a', df.loop('b'))")
    assert "~>@>" in alice.refused("select 'a' ~>@> 'b'")


def test_else_without_then_is_refused(alice: User) -> None:
    """`!>` without `?>` is `Invalid if-then-else: left side of !> must be a ?> expression`."""
    assert alice.refused("select 'a' !> 'b'") == "Invalid if-then-else: left side of !> must be a ?> expression"


def test_in_plpgsql_loop_needs_quotes(alice: User) -> None:
    """In plpgsql, `for r in select df.loop(…) loop` is a syntax error; `df."loop"` works there."""
    block = "do $$ declare r record; begin for r in select df.{}('select 1') loop null; end loop; end $$"
    assert "syntax error" in alice.refused(block.format("loop"))
    alice.run(block.format('"loop"'))


def test_wait_for_schedule_gives_scheduled_and_at(database: Database, tmp_path: Path) -> None:
    """WAIT_SCHEDULE | `{"scheduled":true,"at":…}`

    The minute began before the engine came: a schedule counts from the instance's own time.
    """
    engine = database.engine(tmp_path)
    with open_world(database, engine) as here:
        user, admin = User(here, "alice"), User(here, "postgres")
        tick = admin.value("select date_trunc('minute', now())").astimezone(UTC)
        began = tick - timedelta(seconds=1)
        passed = user.start(f"df.wait_for_schedule('* * * * {tick.isoweekday() % 7}')")
        to_come = user.start("df.wait_for_schedule('@yearly')")
        admin.run("update df.instances set recorded_at = %s", [began])
        engine.start()
        result = user.end(passed).result
        assert result["scheduled"] is True
        assert datetime.fromisoformat(result["at"]) == tick
        due = "select (status_details ->> 'due')::timestamptz from df.instance_nodes(%s)"
        assert wait_until(lambda: user.value(due, [to_come])) == datetime(began.year + 1, 1, 1, tzinfo=UTC)
        assert user.value("select df.status(%s)", [to_come]) not in ENDS
