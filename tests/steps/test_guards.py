"""RETRY, TIMEOUT, CATCH, UNDO, MAP and schedules on a real server: what really ran, and what did not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.servers import wait_until
from tests.workflows import World


@pytest.fixture
def ledger(one: World) -> World:
    """A table public.done of alice's, without keys, in the order in which it was written."""
    one.run("drop table if exists public.done", role="alice")
    one.run("create table public.done (n bigint generated always as identity, word text)", role="alice")
    return one


def words(world: World) -> list[str]:
    return [word for (word,) in world.run("select word from public.done order by n")]


def write(word: str) -> str:
    return f"'insert into public.done (word) values (''{word}'')'"


def paid(word: str) -> str:
    return f"df.with_undo({write(word)}, {write('undo ' + word)})"


FAILS = "'select 1/0'"


def run(world: World, expression: str) -> str:
    return world.start(world.build(f"select {expression}"))


def test_each_try_runs_all_of_it_again_and_what_failed_left_nothing(ledger: World) -> None:
    fails_twice = "'select 1 / greatest(0, count(*) - 2)::int from public.done where word = ''tried'''"
    graph = f"df.retry(df.seq_all({write('tried')}, {fails_twice}), 5, '0.05')"
    assert ledger.end(run(ledger, graph)).status == "completed"
    assert words(ledger) == ["tried"] * 3


def test_a_retry_that_gives_up_says_how_often_it_tried(ledger: World) -> None:
    outcome = ledger.end(run(ledger, f"df.retry({FAILS}, 3, '0.01')"))
    assert outcome.error is not None
    assert (outcome.code, outcome.error["attempt"]) == ("22012", 3)


def test_a_timeout_stops_the_statement_on_the_server_and_nothing_of_it_stays(ledger: World) -> None:
    slow = "'with w as (insert into public.done (word) values (''slow'')) select pg_sleep(30)'"
    id = run(ledger, f"df.catch(df.timeout({slow}, '0.3'), 'select $error.code as code')")
    assert ledger.end(id).rows == [{"code": "timeout"}]
    assert words(ledger) == []
    assert (
        ledger.value("select count(*) from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active'")
        <= 1
    )


def test_what_completed_is_undone_in_reverse_order_and_the_failure_is_told(ledger: World) -> None:
    outcome = ledger.end(run(ledger, f"df.seq_all({paid('a')}, {paid('b')}, {paid('c')}, {FAILS})"))
    assert outcome.code == "22012"
    assert words(ledger) == ["a", "b", "c", "undo c", "undo b", "undo a"]


def test_an_undo_sees_its_names_and_is_repeated_until_it_succeeds(ledger: World) -> None:
    ledger.run("create sequence if not exists public.tries", role="alice")
    ledger.run("alter sequence public.tries restart", role="alice")
    body = "df.as('select 7 as id', 'x')"
    undo = (
        "'insert into public.done (word) select ''undo '' || $x.id from (select 1 / (nextval(''public.tries'') / 2)) t'"
    )
    id = run(ledger, f"df.seq(df.with_undo({body}, {undo}), {FAILS})")
    assert ledger.end(id).status == "failed"
    assert words(ledger) == ["undo 7"]
    attempts = ledger.run(
        "select attempt, outcome from df.completions where instance_key = %s and run_as <> 0 and attempt >= 1 and step = '4'",
        [ledger.key(id)],
    )
    assert sorted(attempts) == [(1, "failed"), (2, "completed")]


def test_a_cancelled_instance_is_undone_before_it_is_cancelled(ledger: World) -> None:
    id = run(ledger, f"df.seq_all({paid('a')}, df.sleep(3600))")
    wait_until(lambda: words(ledger) == ["a"])
    ledger.run("select df.cancel(%s, 'enough')", [id], role="alice")
    outcome = ledger.end(id)
    assert (outcome.status, outcome.message) == ("cancelled", "enough")
    assert words(ledger) == ["a", "undo a"]


def test_a_second_cancellation_does_not_stop_an_undo(ledger: World) -> None:
    slow = "'insert into public.done (word) select ''undone'' from pg_advisory_xact_lock(hashtext(''undoing'')), pg_sleep(0.7)'"
    id = run(ledger, f"df.seq_all(df.with_undo({write('a')}, {slow}), df.sleep(3600))")
    wait_until(lambda: words(ledger) == ["a"])
    ledger.run("select df.cancel(%s, 'first')", [id], role="alice")
    wait_until(lambda: ledger.running("undoing"))
    ledger.run("insert into df.cancellations (instance_id, reason) values (%s, 'second')", [id], role="alice")
    assert ledger.end(id).message == "first"
    assert words(ledger) == ["a", "undone"]


def test_undos_run_exactly_once_through_kills_between_them(ledger: World) -> None:
    slow = [
        f"df.with_undo({write(str(i))}, 'insert into public.done (word) select ''undo {i}'' from pg_sleep(0.15)')"
        for i in range(6)
    ]
    id = run(ledger, f"df.seq_all({', '.join(slow)}, {FAILS})")
    for undone in (1, 3, 4):
        wait_until(lambda: sum(w.startswith("undo") for w in words(ledger)) >= undone)  # noqa: B023 (called here)
        ledger.engine.kill()
        ledger.engine.start()
    assert ledger.end(id).code == "22012"
    assert words(ledger) == [*map(str, range(6)), *(f"undo {i}" for i in reversed(range(6)))]


def test_a_map_runs_its_body_once_for_each_row(ledger: World) -> None:
    body = "'insert into public.done (word) values (''$item.w'') returning word'"
    id = run(ledger, f"df.map('select ''w'' || i as w from generate_series(1, 30) i', {body}, 4)")
    outcome = ledger.end(id)
    assert outcome.result is not None
    assert [item["rows"][0]["word"] for item in json.loads(outcome.result)] == [f"w{i}" for i in range(1, 31)]
    assert sorted(words(ledger)) == sorted(f"w{i}" for i in range(1, 31))


def test_no_more_rows_are_open_than_max_parallel(ledger: World) -> None:
    body = "'select pg_sleep(0.05), pg_advisory_xact_lock(hashtext(''map of three''))'"
    body = body.replace("pg_advisory_xact_lock", "pg_advisory_xact_lock_shared")
    id = run(ledger, f"df.map('select i from generate_series(1, 12) i', {body}, 3)")
    most = 0
    while ledger.status(id) not in ("completed", "failed"):
        most = max(most, len(ledger.running("map of three")))
    assert ledger.status(id) == "completed"
    assert most <= 3


def test_a_schedule_waits_for_its_next_tick(ledger: World) -> None:
    id = run(ledger, "df.wait_for_schedule('* * * * *')")
    ledger.wait_for(id, "running")
    now = datetime.now(UTC)
    if (now.replace(second=0, microsecond=0) + timedelta(minutes=1) - now).total_seconds() < 15:
        assert json.loads(ledger.end(id, 70).result or "")["scheduled"] is True
    else:
        ledger.run("select df.cancel(%s)", [id], role="alice")
        assert ledger.end(id).status == "cancelled"


def test_a_signal_a_timeout_and_a_catch_make_an_approval(ledger: World) -> None:
    wait = "df.timeout(df.wait_for_signal('approve'), '5')"
    id = run(ledger, f"df.catch(df.seq({wait}, {write('approved')}), {write('late')})")
    ledger.wait_for(id, "running")
    ledger.run("select df.signal(%s, 'approve')", [id], role="alice")
    assert ledger.end(id).status == "completed"
    assert words(ledger) == ["approved"]
    (taken,) = wait_until(
        lambda: ledger.run("select taken_by from df.signals where instance_id = %s and taken_by is not null", [id])
    )
    assert taken == ("4",)


def test_a_loser_of_a_race_is_undone_while_the_winner_goes_on(ledger: World) -> None:
    loser = f"df.seq({paid('a')}, df.sleep(3600))"
    id = run(ledger, f"df.seq(df.race({loser}, df.wait_for_signal('go')), {write('won')})")
    wait_until(lambda: words(ledger) == ["a"])
    ledger.run("select df.signal(%s, 'go')", [id], role="alice")
    assert ledger.end(id).status == "completed"
    assert sorted(words(ledger)) == ["a", "undo a", "won"]
