"""LANGUAGE.md section 12, sentence by sentence: what users of pg_durable find different, on purpose."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.user import User
from tests.servers import wait_until


@pytest.fixture
def table(alice: User) -> Iterator[str]:
    """A table with a column `n`."""
    alice.run("create table public.differences (n int)")
    yield "public.differences"
    alice.run("drop table public.differences")


@pytest.fixture
def variable(alice: User) -> Iterator[str]:
    """The variable `v`, whose value is `value`."""
    alice.run("select df.setvar('v', 'value')")
    yield "value"
    alice.run("select df.clearvars()")


def test_signals_and_cancellations_take_effect_at_commit(alice: User) -> None:
    """Signals and cancellations take effect at commit, not before (a signal and a wait for its effect cannot share a
    transaction; the status is not `cancelled` until then)."""
    signalled, cancelled = alice.start("df.wait_for_signal('s')"), alice.start("df.wait_for_signal('s')")
    status = "select status from df.instances where id = %s"
    wait_until(lambda: {alice.value(status, [id]) for id in (signalled, cancelled)} == {"running"})
    with alice.connect() as connection:
        connection.execute("select df.signal(%s, 's'), df.cancel(%s)", [signalled, cancelled])
        assert alice.result("'select 1'") is not None
        for id in (signalled, cancelled):
            assert connection.execute(status, [id]).fetchone() == ("running",)
        connection.commit()
    assert [alice.end(id).status for id in (signalled, cancelled)] == ["completed", "cancelled"]


def test_early_signals_are_buffered(alice: User) -> None:
    """Early signals are buffered"""
    with alice.transaction():
        id = alice.start("df.sleep('0.2 seconds') ~> df.wait_for_signal('s', 0)")
        alice.run("select df.signal(%s, 's', '1')", [id])
    assert alice.end(id).result["data"] == 1


def test_one_signal_satisfies_one_wait(alice: User) -> None:
    """one signal satisfies one wait."""
    id = alice.start("df.wait_for_signal('s') & df.wait_for_signal('s')")
    alice.run("select df.signal(%s, 's', '1')", [id])
    assert alice.result("'select 1'") is not None
    assert alice.value("select status from df.instances where id = %s", [id]) in ("pending", "running")
    alice.run("select df.signal(%s, 's', '2')", [id])
    assert [wait["data"] for wait in alice.end(id).result] == [1, 2]


def test_await_instance_is_a_node(alice: User) -> None:
    """`df.await_instance` is a node, as its own users asked"""
    other = alice.start("df.wait_for_signal('s')")
    graph = alice.build(f"df.await_instance('{other}')")
    assert json.loads(graph)["node_type"] == "AWAIT_INSTANCE"
    id = alice.insert(graph)
    alice.run("select df.signal(%s, 's')", [other])
    assert alice.end(id).result["status"] == "completed"


def test_scripts_that_block_use_wait_for_completion(alice: User) -> None:
    """scripts that block use `df.wait_for_completion`."""
    id = alice.start("df.sleep('0.2 seconds')")
    assert alice.value("select df.wait_for_completion(%s)", [id]) == "completed"


def test_ids_are_longer_than_8_characters_and_callers_may_choose_them(alice: User) -> None:
    """Ids are longer than 8 characters, and callers may choose them."""
    assert len(alice.start("'select 1'")) > 8
    assert alice.value("select df.start('select 1', id => 'my-own')") == "my-own"


def test_there_is_no_transaction_mode_new(alice: User) -> None:
    """No `transaction_mode => 'new'`"""
    assert "caller's transaction" in alice.refused("select df.start('select 1', transaction_mode => 'new')")


@pytest.mark.parametrize("name", ["run", "target_database", "debug_connection"])
def test_there_is_no_run_no_target_database_no_debug_connection(alice: User, name: str) -> None:
    """no `df.run`, `df.target_database`, `df.debug_connection`."""
    assert alice.run("select 1 from pg_proc where pronamespace = 'df'::regnamespace and proname = %s", [name]) == []


def test_nodes_is_a_view(alice: User) -> None:
    """`df.nodes` is a view."""
    kind = "select relkind::text from pg_class where relnamespace = 'df'::regnamespace and relname = 'nodes'"
    assert alice.run(kind) == [("v",)]


def test_finished_at_is_set_for_every_end(alice: User) -> None:
    """`finished_at`, here, is set for every end."""
    ids = [alice.start(graph) for graph in ("'select 1'", "'select 1 / 0'", "df.wait_for_signal('s')")]
    alice.run("select df.cancel(%s)", [ids[2]])
    assert [alice.end(id).status for id in ids] == ["completed", "failed", "cancelled"]
    assert alice.value("select count(*) from df.instances where id = any (%s) and finished_at is null", [ids]) == 0


def test_results_of_every_type_are_kept(alice: User) -> None:
    """Results of every type are kept, NaN and infinities included."""
    query = r"""
        select 'NaN'::float8 as nan, '-Infinity'::numeric as minus, 'infinity'::date as never, 1.50 as exact,
               '\x00ff'::bytea as raw, interval '1 day' as day, row(1, 'x') as both, '{1,2}'::int[] as list,
               int4range(1, 3) as range, null as nothing
    """
    [row] = alice.end(alice.insert(query)).result["rows"]
    assert row == {
        **{"nan": "NaN", "minus": "-Infinity", "never": "infinity", "exact": 1.5, "raw": r"\x00ff"},
        **{"day": "1 day", "both": {"f1": 1, "f2": "x"}, "list": [1, 2], "range": "[1,3)", "nothing": None},
    }


def test_a_wait_that_timed_out_is_false(alice: User) -> None:
    """A wait that timed out, and a response that is not ok, are false."""
    assert alice.rows("df.wait_for_signal('s', 0) ?> 'select 1 as a' !> 'select 2 as a'") == [{"a": 2}]


def test_a_response_that_is_not_ok_is_false(alice: User) -> None:
    """A wait that timed out, and a response that is not ok, are false."""
    response = """df.loop(df.break('{"status":404,"ok":false}'))"""
    assert alice.rows(f"({response}) ?> 'select 1 as a' !> 'select 2 as a'") == [{"a": 2}]


@pytest.mark.parametrize("word", ["n", "off"])
def test_n_and_off_are_false(alice: User, word: str) -> None:
    """`'n'` and `'off'` are false."""
    assert alice.rows(f"$$select '{word}'$$ ?> 'select 1 as a' !> 'select 2 as a'") == [{"a": 2}]


def test_a_missing_field_in_sql_fails_and_is_null_with_a_question_mark(alice: User) -> None:
    """`$x.missing` in SQL fails, `$x.missing?` is NULL"""
    named = "('select 1 as a' |=> 'x')"
    assert "$x.missing: result has no field 'missing'" in alice.error(f"{named} ~> 'select $x.missing as m'")["message"]
    assert alice.rows(f"{named} ~> 'select $x.missing? as m'") == [{"m": None}]


def test_references_inside_string_literals_are_escaped_for_them(alice: User) -> None:
    """references inside string literals are escaped for them"""
    named = "($$select 'it''s' as a$$ |=> 'x')"
    assert alice.rows(f"{named} ~> $$select 'say: $x' as b$$") == [{"b": "say: it's"}]


def test_nothing_is_substituted_in_dollar_quoted_text(alice: User) -> None:
    """and nothing is substituted in dollar-quoted text."""
    assert alice.rows("('select 1 as a' |=> 'x') ~> 'select $$a $x$$ as b'") == [{"b": "a $x"}]


def test_break_values_and_sleep_durations_are_substituted(alice: User) -> None:
    """Break values and sleep durations are substituted"""
    value = alice.start("""df.loop(('select 7 as a' |=> 'x') ~> df.break('{"a":"$x","b":$x}'))""")
    sleep = alice.start("('select 0.1 as a' |=> 'x') ~> df.sleep('$x')")
    assert alice.end(value).result == {"a": "7", "b": 7}
    assert alice.end(sleep).result == {"slept": True, "seconds": 0.1}


def test_variables_work_inside_json(alice: User, variable: str) -> None:
    """`{v}` works inside JSON."""
    assert alice.result("""df.loop(df.break('{"a":"{v}"}'))""") == {"a": variable}


def test_chains_have_no_length_limit_but_the_10000_nodes(alice: User) -> None:
    """Chains have no length limit but the 10,000 nodes."""
    chain = "df.seq_all(variadic array['select 1 / 0'] || array_fill('select 1'::text, array[{}]))"
    assert alice.error(chain.format(4999))["code"] == "22012"
    assert "10000 nodes" in alice.refused(f"select df.start({chain.format(5000)})")


@pytest.mark.parametrize("weekday", ["0", "7", "SUN", "1-5", "mon,WED"])
def test_cron_weekdays_are_standard(alice: User, weekday: str) -> None:
    """Cron weekdays are standard."""
    id = alice.start(f"df.race(df.wait_for_schedule('0 0 * * {weekday}'), df.sleep(0))")
    assert alice.end(id).status == "completed"
    assert "'0 0 * * 8'" in alice.refused("select df.start(df.wait_for_schedule('0 0 * * 8'))")


def test_a_cancelled_steps_sql_is_stopped(alice: User) -> None:
    """A cancelled step's SQL is stopped."""
    id = alice.start("'select pg_advisory_xact_lock(424242), pg_sleep(60)'")
    inside = "select 1 from pg_locks where locktype = 'advisory' and objid = 424242"
    wait_until(lambda: alice.run(inside), what="the step runs")
    alice.run("select df.cancel(%s)", [id])
    assert alice.end(id).status == "cancelled"
    wait_until(lambda: not alice.run(inside), what="the step has been stopped")


def test_explain_evaluates_nothing(alice: User, table: str) -> None:
    """`df.explain` evaluates nothing."""
    alice.run("select df.explain(%s)", [f"insert into {table} values (1)"])
    assert alice.run(f"select n from {table}") == []


def test_list_instances_always_has_nine_columns(alice: User) -> None:
    """`list_instances` always has nine columns."""
    for arguments in ("", "'completed'", "limit_count => 1"):
        cursor = alice.connection.execute(f"select * from df.list_instances({arguments})".encode())
        assert len(cursor.description or []) == 9


def test_loops_carry_names_at_the_root_too(alice: User, table: str) -> None:
    """Loops carry names at the root too"""
    alice.run(f"insert into {table} values (0)")
    count = f"'update {table} set n = n + 1 returning n' |=> 'n'"
    assert alice.rows(f"df.loop({count}, 'select $n < 3')") == [{"n": 3}]


def test_the_one_second_floor_is_only_for_unconditional_loops_that_wait_for_nothing(alice: User, table: str) -> None:
    """the one-second floor is only for unconditional loops that wait for nothing."""
    insert = f"'insert into {table} values (1)'"
    stop = f"'select count(*) >= 3 from {table}' ?> df.break() !> 'select 1'"

    def pauses(expression: str) -> int:
        alice.run(f"truncate {table}")
        id = alice.start(expression)
        assert alice.end(id).status == "completed"
        history = "select count(*) from df.history(%s) where event = 'timer' and node_type = 'LOOP'"
        return int(alice.value(history, [id]))

    started = time.monotonic()
    assert pauses(f"df.loop({insert} ~> 'select 1' ~> ({stop}))") == 2
    assert time.monotonic() - started >= 2
    assert pauses(f"df.loop({insert} ~> df.sleep(0) ~> ({stop}))") == 0
    assert pauses(f"df.loop({insert}, 'select count(*) < 3 from {table}')") == 0


def test_members_of_the_owner_role_see_its_instances(new_user: Callable[[str], User], admin: User) -> None:
    """Members of the owner role see its instances."""
    owner, member = new_user("owner12"), new_user("member12")
    id = owner.start("'select 1'")
    assert member.run("select 1 from df.instances where id = %s", [id]) == []
    admin.run(f"grant {owner.name} to {member.name}")
    assert member.run("select 1 from df.instances where id = %s", [id]) == [(1,)]


def test_steps_are_exactly_once(alice: User, table: str) -> None:
    """Steps are exactly once, as section 9 says."""
    id = alice.start(f"""
        'with it as (insert into {table} values (1) returning n) select pg_advisory_xact_lock(434343), pg_sleep(n * 0.3) from it'
        ~> 'insert into {table} values (2)'
    """)
    inside = "select pid from pg_locks where locktype = 'advisory' and objid = 434343"
    wait_until(lambda: alice.run(inside), what="the step runs")
    alice.run(f"select pg_terminate_backend(pid) from ({inside}) as step")
    assert alice.end(id).status == "completed"
    assert alice.run(f"select n from {table} order by n") == [(1,), (2,)]
