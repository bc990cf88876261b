"""SLEEP and SIGNAL: timers, deadlines, which signal goes to which wait (LANGUAGE.md section 7)."""

from __future__ import annotations

import pytest

from engine.errors import MachineError
from tests.engine.machinery import (
    SECOND,
    Run,
    brk,
    cell,
    if_,
    join,
    loop,
    race,
    rows,
    run,
    seq,
    sleep,
    sleep_until,
    sql,
    wait,
)

# --- SLEEP ------------------------------------------------------------------------------------------------------------


def test_a_sleep_counts_from_the_commit_of_the_row_that_led_to_it() -> None:
    begun = run(seq(sql("a"), sleep(30))).done("2", at=12)
    assert begun.due("3") == 42
    assert begun.timers["3"].cause == "e2"


def test_a_sleep_says_how_long_it_slept() -> None:
    assert run(sleep(30)).fire("1").result == {"slept": True, "seconds": 30}
    assert run(sleep(30)).fire("1", at=99).result == {"slept": True, "seconds": 30}, "not how late the timer was"
    assert run(sleep("0.25")).fire("1").result == {"slept": True, "seconds": 0.25}
    assert run(sleep(0)).fire("1").result == {"slept": True, "seconds": 0}


def test_a_sleep_of_nothing_still_waits_for_its_row() -> None:
    assert run(sleep(0)).due("1") == 0


@pytest.mark.parametrize(
    ("text", "value", "seconds"),
    [
        ("$x", 5, 5),
        ("$x", "1 hour 30 min", 5400),
        ("$x", "00:00:01.5", 1.5),
        ("$x", "PT2M", 120),
        ("$x minutes", 3, 180),
        ("{v} seconds", None, 7),
        ("$x.x", 2.5, 2.5),
    ],
)
def test_a_sleep_takes_a_reference(text: str, value: object, seconds: float) -> None:
    begun = run(seq(sql("a", "x"), sleep(text)), variables={"v": "7"}).done("2", cell(value), at=0)
    assert begun.due("3") == seconds


@pytest.mark.parametrize("value", ["soon", "-5", "", "NaN", "1e300", "infinity", [1], "12:"])
def test_a_sleep_that_cannot_be_read_fails_its_node(value: object) -> None:
    begun = run(seq(sql("a", "x"), sleep("$x"))).done("2", cell(value))
    assert begun.status == "failed"
    assert begun.error["code"] == "substitution"
    assert begun.error["node"] == 3


def test_a_sleep_of_a_reference_without_a_value_fails_its_node() -> None:
    assert "has no rows" in run(seq(sql("a", "x"), sleep("$x"))).done("2", rows()).error["message"]


def test_a_sleep_until_a_time_waits_until_then() -> None:
    begun = run(sleep_until("2023-11-14T22:14:00Z"))
    assert begun.due("1") == 40
    assert begun.fire("1").result == {"slept": True, "seconds": 40}


def test_a_sleep_until_a_time_in_the_past_waits_for_nothing() -> None:
    begun = run(sleep_until("0001-01-01T00:00:00+15"))
    assert begun.due("1") == 0
    assert begun.fire("1").result == {"slept": True, "seconds": 0}


@pytest.mark.parametrize(
    "text",
    ["2023-11-15", "2023-11-14 24:00", "2023-11-15 00:00:00+00", "2023-11-14T23:59:60Z", "2023-11-15 01:00:00.0 +01"],
)
def test_a_time_may_be_written_in_every_way_that_the_insert_accepts(text: str) -> None:
    assert run(sleep_until(text)).timers["1"].due_us == 1_700_006_400 * SECOND


def test_a_time_beyond_the_calendar_is_its_end() -> None:
    assert run(sleep_until("9999-12-31 23:59:59-15")).timers["1"].due_us == 253_402_300_799_999_999


def test_a_sleep_until_takes_a_reference() -> None:
    begun = run(seq(sql("a", "t"), sleep_until("$t"))).done("2", cell("2023-11-14T22:13:50+00:00"))
    assert begun.due("3") == 30


@pytest.mark.parametrize("value", ["tomorrow", "2023-13-01", "infinity", "2023-11-14T25:00Z", "2023-W01-1"])
def test_a_sleep_until_what_is_no_time_fails_its_node(value: str) -> None:
    begun = run(seq(sql("a", "t"), sleep_until("$t"))).done("2", cell(value))
    assert begun.error["message"].startswith("not a time: ")


def test_a_sleep_has_a_name_as_any_node() -> None:
    assert list(run(seq(sleep(2, "s"), sql("$s.seconds"))).fire("2").queries.values()) == ["2"]


# --- SIGNAL -----------------------------------------------------------------------------------------------------------


def test_a_wait_is_met_by_a_signal_of_its_name() -> None:
    begun = run(wait("approve", name="s")).signal("other").signal("approve", '{"by":"me"}')
    assert begun.result == {"signal_name": "approve", "timed_out": False, "data": {"by": "me"}}


def test_a_wait_without_a_timeout_asks_for_nothing() -> None:
    assert run(wait("s")).steps == set()


def test_a_wait_with_a_timeout_is_ended_by_its_timer() -> None:
    begun = run(wait("s", 20))
    assert begun.due("1") == 20
    assert begun.fire("1").result == {"signal_name": "s", "timed_out": True, "data": None}


def test_a_timeout_sets_the_time_to_its_due_time_at_least() -> None:
    assert run(seq(wait("s", 20), sleep(5))).fire("2", at=19).due("3") == 25


def test_a_signal_drops_the_timer_of_the_wait_it_meets() -> None:
    begun = run(seq(wait("s", 20), sql("a"))).signal("s", at=4)
    assert begun.steps == {"3"}
    begun.completed("2", "completed", None, None, run_as=0)
    assert begun.steps == {"3"}, "a timer that fires late is ignored"


def test_a_wait_that_timed_out_does_not_take_a_later_signal() -> None:
    begun = run(seq(wait("s", 20), wait("s"))).fire("2").signal("s", "1")
    assert begun.result["data"] == 1


def test_a_signal_in_the_log_before_the_timers_row_wins_though_it_was_late() -> None:
    assert run(wait("s", 20)).signal("s", at=30).result["timed_out"] is False


def test_a_timeout_of_nothing_asks_whether_there_is_a_signal() -> None:
    assert run(wait("s", 0)).fire("1").result["timed_out"] is True
    assert Run(wait("s", 0)).signal("s").start().result["timed_out"] is False


def test_a_signal_sent_before_the_start_is_delivered() -> None:
    assert Run(wait("s")).signal("s", "1").start().result["data"] == 1


def test_a_signal_sent_before_the_wait_is_delivered() -> None:
    assert run(seq(sql("a"), wait("s"))).signal("s", "1").done("2").result["data"] == 1


def test_a_signal_sent_between_two_iterations_is_delivered() -> None:
    begun = run(loop(seq(wait("s"), sql("a")))).signal("s").signal("s", "2").done("4.1")
    assert begun.steps == {"4.2"}


def test_a_wait_met_by_a_buffered_signal_starts_no_timer() -> None:
    assert Run(seq(wait("s", 20), sql("a"))).signal("s").start().steps == {"3"}


def test_buffered_signals_of_a_name_are_taken_in_commit_order() -> None:
    begun = run(seq(seq(sql("a"), wait("s", name="one")), seq(wait("s", name="two"), sql("$one.data, $two.data"))))
    begun.signal("s", "1").signal("s", "2").done("3")
    assert list(begun.queries.values()) == ["1, 2"]


def test_one_signal_satisfies_one_wait() -> None:
    begun = run(join(wait("s"), wait("s"), wait("s"))).signal("s", "1").signal("s", "2")
    assert begun.status == "running"
    assert [part["data"] for part in begun.signal("s", "3").result] == [1, 2, 3]


def test_the_oldest_signal_goes_to_the_wait_that_began_first() -> None:
    begun = run(join(seq(sql("a"), wait("s")), seq(sql("b"), wait("s")), wait("s")))
    begun.done("6").done("3").signal("s", "1").signal("s", "2").signal("s", "3")
    assert [part["data"] for part in begun.result] == [3, 2, 1]


def test_waits_that_began_together_are_met_in_branch_order() -> None:
    begun = run(seq(sql("a"), join(wait("s"), wait("t"), wait("s")))).done("2")
    begun.signal("t", "0").signal("s", "1").signal("s", "2")
    assert [part["data"] for part in begun.result] == [1, 0, 2]


def test_a_fresh_wait_passes_over_signals_from_before_it_began() -> None:
    begun = run(seq(sql("a"), wait("s", fresh=True))).signal("s", "1").done("2")
    assert begun.status == "running"
    assert begun.signal("s", "2").result["data"] == 2


def test_what_a_fresh_wait_passed_over_is_there_for_the_next_wait() -> None:
    begun = run(seq(seq(sql("a"), wait("s", fresh=True)), wait("s"))).signal("s", "1").done("3").signal("s", "2")
    assert begun.result["data"] == 1


def test_a_fresh_wait_before_the_start_passes_over_what_is_buffered() -> None:
    begun = Run(wait("s", 5, fresh=True)).signal("s").start()
    assert begun.fire("1").result["timed_out"] is True


def test_a_signal_taken_is_spent_even_if_its_branch_then_loses() -> None:
    begun = run(seq(race(seq(wait("s"), sql("a")), sql("b")), wait("s", 5))).signal("s").done("6")
    assert begun.timers.keys() == {"7"}


def test_a_signal_taken_is_spent_even_if_its_branch_then_fails() -> None:
    begun = run(join(seq(wait("s"), sql("a")), seq(sql("b"), wait("s", 9)))).signal("s").fail("4").done("6")
    assert begun.steps == {"7"}


def test_a_signal_for_no_wait_of_its_name_stays_for_later() -> None:
    begun = run(race(wait("s"), wait("t"))).signal("u").signal("t", "1")
    assert begun.result["signal_name"] == "t"


def test_signals_that_nobody_took_are_gone_with_the_end() -> None:
    begun = run(sql("a")).signal("s").done("1").signal("s")
    assert len(begun.state.signals) == 0


def test_signals_in_a_race_go_to_the_branch_that_began_first_and_the_other_is_dropped() -> None:
    begun = run(seq(race(wait("s"), wait("s")), wait("s"))).signal("s", "1").signal("s", "2")
    assert begun.result["data"] == 2


@pytest.mark.parametrize(
    ("around", "step"),
    [
        (lambda inner: inner, "1"),
        (lambda inner: race(inner, sleep(99)), "2"),
        (lambda inner: join(inner), "2"),
        (lambda inner: loop(seq(inner, brk())), "3.1"),
        (lambda inner: join(race(loop(race(seq(inner, brk()), wait("never"))), sleep(99))), "6.1"),
        (lambda inner: if_(inner, sql(), sql()), "4"),
    ],
)
@pytest.mark.parametrize("early", [False, True])
def test_a_wait_works_the_same_anywhere(around, step: str, early: bool) -> None:  # type: ignore[no-untyped-def]
    begun = Run(around(wait("s", 20)))
    if early:
        begun.signal("s").start()
    else:
        begun.start()
        assert step in begun.timers
        begun.signal("s")
    assert begun.state.waits == {}
    assert step not in begun.timers


def test_a_condition_of_a_loop_may_wait() -> None:
    begun = run(loop(sql("a"), wait("more", 5))).done("2.1").signal("more").done("2.2", "2").fire("3.2")
    assert begun.result == 2


def test_the_name_of_a_signal_has_its_references_filled_in() -> None:
    begun = run(seq(sql("a", "x"), wait("paid-{v}-$x", name="w"), sql("$w.signal_name")), variables={"v": "eu"})
    begun.done("3", cell(17)).signal("paid-{v}-$x").signal("paid-eu-17")
    assert list(begun.queries.values()) == ["'paid-eu-17'"]


def test_a_signal_name_that_cannot_be_filled_in_fails_its_node() -> None:
    assert run(seq(sql("a", "x"), wait("s-$x"))).done("2", rows()).error["node"] == 3


def test_a_signals_data_keeps_its_text() -> None:
    finish = run(wait("s")).signal("s", ' {"b":1.50, "a":[]} ').finish
    assert finish is not None
    assert finish.result == '{"signal_name":"s","timed_out":false,"data": {"b":1.50, "a":[]} }'


def test_a_signal_name_needs_no_escaping_by_its_user() -> None:
    assert run(wait('a"b\\c')).signal('a"b\\c').result["signal_name"] == 'a"b\\c'


def test_the_engines_completion_for_a_wait_without_a_timeout_is_a_bug_and_changes_nothing() -> None:
    begun = run(wait("s"))
    state = begun.state
    with pytest.raises(MachineError):
        begun.completed("1", "completed", None, None, run_as=0)
    assert begun.state is state


# --- kept timers (a table scan) --------------------------------------------------------------------------------------------


def test_a_kept_timer_and_an_older_signal_meet_and_the_signal_wins() -> None:
    begun = run(seq(sql("a"), wait("s", 20)))
    begun.signal("s", "1", at=5).completed("3", "completed", None, None, run_as=0, at=21).done("2", at=22)
    assert begun.result["data"] == 1


def test_a_kept_timer_and_a_younger_signal_meet_and_the_timer_wins() -> None:
    begun = run(seq(sql("a"), wait("s", 20)))
    begun.signal("s", "1", at=25).completed("3", "completed", None, None, run_as=0, at=21).done("2", at=26)
    assert begun.result["timed_out"] is True
