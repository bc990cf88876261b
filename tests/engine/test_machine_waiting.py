"""MAP, CALL_CHILD, AWAIT_INSTANCE and WAIT_SCHEDULE."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from engine.graph import graph_of
from tests.engine.machinery import (
    EPOCH,
    SECOND,
    Run,
    await_,
    brk,
    catch,
    cell,
    child,
    join,
    loop,
    map_,
    race,
    retry,
    rows,
    run,
    schedule,
    seq,
    sleep,
    sql,
    timeout,
    wait,
)

# --- map ----------------------------------------------------------------------------------------------------------------


def test_a_map_runs_its_body_for_each_row_some_at_a_time() -> None:
    begun = run(map_(sql("items"), sql("do $item, $item.b"), 2)).done(
        "2", rows(*({"a": i, "b": f"b{i}"} for i in (1, 2, 3)))
    )
    assert begun.queries == {"3.1": "do 1, 'b1'", "3.2": "do 2, 'b2'"}
    begun.done("3.2", cell(2))
    assert begun.queries == {"3.1": "do 1, 'b1'", "3.3": "do 3, 'b3'"}
    begun.done("3.3", cell(3)).done("3.1", cell(1))
    assert [r["rows"][0]["x"] for r in begun.result] == [1, 2, 3]


def test_a_map_of_nothing_is_an_empty_array() -> None:
    assert run(map_(sql("items"), sql("do"))).done("2").result == []


def test_a_map_takes_the_elements_of_an_array_and_a_result_by_its_name() -> None:
    begun = run(seq(join(sql("a"), sql("b"), name="both"), map_("both", sql("do $item"))))
    begun.done("3", cell(1)).done("4", cell("x"))
    assert list(begun.queries.values()) == ["do 1", "do 'x'"]
    begun = Run(map_("input", sql("do $item")), input_='[1, "two", null]').start()
    assert list(begun.queries.values()) == ["do '1'", "do '\"two\"'", "do NULL"]


@pytest.mark.parametrize("given", ['{"a":1}', "5", "null"])
def test_a_map_of_something_else_fails(given: str) -> None:
    error = Run(map_("input", sql("do")), input_=given).start().error
    assert error["message"].startswith("df.map: the items are neither rows nor a JSON array")


def test_a_map_of_an_unknown_name_fails() -> None:
    assert run(map_("nobody", sql("do"))).error["message"] == "df.map: no result is named 'nobody' here"


def test_the_first_failure_stops_new_items_and_running_ones_finish() -> None:
    begun = run(map_(sql("items"), sql("do"), 2)).done("2", rows(*({"i": i} for i in range(5)))).fail("3.2", "no")
    assert begun.queries.keys() == {"3.1"}
    begun.done("3.1")
    assert begun.error["message"] == "MAP item 2 failed: no"


def test_no_row_begins_after_one_that_failed_at_once() -> None:
    body = seq(sql("do $item"), sql("more"))
    begun = run(map_(sql("items"), body, 2)).done("2", rows({"i": 1}, {"j": None}, {"i": 3}))
    assert begun.queries == {"4.1": "do 1"}
    begun.done("4.1").done("5.1")
    assert begun.error["message"].startswith("MAP item 2 failed: ")


def test_what_a_body_sets_stays_inside() -> None:
    begun = (
        run(seq(map_(sql("items"), sql("do", "x")), sql("select '$x', '$item'"))).done("3", rows({"i": 1})).done("4.1")
    )
    assert begun.queries == {"5": "select '$x', '$item'"}


def test_bodies_that_wait_for_nothing_end_at_once() -> None:
    body = loop(brk("$item"))
    begun = run(map_(sql("items"), body, 3)).done("2", rows(*({"i": i} for i in range(1000))))
    assert begun.result == list(range(1000))


def test_a_map_in_a_map_and_in_a_loop() -> None:
    begun = run(loop(map_(sql("items"), map_("item", sql("do $item"))), sql("?")))
    begun.done("3.1", rows({"i": 1}))
    assert begun.queries == {"5.1.1.1": "do 1"}
    begun.done("5.1.1.1", cell(9)).done("6.1", cell(False))
    assert json.loads(begun.finish.result or "")[0][0]["rows"] == [{"x": 9}] if begun.finish else False


def test_a_cancelled_map_stops_what_is_open_only() -> None:
    begun = run(map_(sql("items"), sql("do"), 1)).done("2", rows({"i": 1}, {"i": 2})).cancel()
    assert begun.draining.keys() == {"3.1"}
    assert begun.stopped("3.1").status == "cancelled"


# --- children -----------------------------------------------------------------------------------------------------------


def test_a_child_is_started_with_its_graph_as_it_stands_and_its_options_filled_in() -> None:
    call = child(
        sql("select $o, {v}"), "for $o.id", input={"id": "$o.id", "text": "n $o.id", "v": "{v}"}, vars={"w": "$o.id"}
    )
    begun = run(seq(sql("a", "o"), call), variables={"v": "V"}).done("2", rows({"id": 42}))
    effect = begun.children["3"]
    assert graph_of(effect.graph).node(1).query == "select $o, {v}"
    assert effect.label == "for 42"
    assert effect.input == '{"id":42,"text":"n 42","v":"V"}'
    assert effect.variables == '{"w":"42"}'


def test_variables_are_inherited_only_on_request() -> None:
    assert run(child(sql("a")), variables={"v": "V"}).children["1"].variables is None
    inherited = run(child(sql("a"), inherit_vars=True, vars={"w": 1}), variables={"v": "V"}).children["1"].variables
    assert json.loads(inherited or "") == {"v": "V", "w": "1"}


def test_the_childs_result_itself_is_the_result() -> None:
    assert run(child(sql("a"))).ended("1", "completed", {"rows": [{"x": 1}]}).result == {"rows": [{"x": 1}]}


def test_a_failed_child_fails_the_node_with_its_error() -> None:
    error = run(child(sql("a"))).ended("1", "failed", None, {"message": "no", "code": "23505"}).error
    assert (error["message"], error["code"], error["node"], error["instance_id"]) == ("no", "23505", 1, "~7/1")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_child_whose_failure_returns_gives_all_of_it(status: str) -> None:
    result = run(child(sql("a"), on_failure="return")).ended("1", status, None, {"message": "m", "code": "c"}).result
    assert (result["instance_id"], result["status"]) == ("~7/1", status)


def test_a_detached_child_is_not_waited_for() -> None:
    begun = run(seq(child(sql("a"), "x", detach=True), sql("b")))
    assert begun.children["2"].detach
    begun.ended("2", "pending")
    assert begun.queries == {"4": "b"}


def test_a_cancelled_parent_cancels_its_child_and_waits_for_its_end() -> None:
    begun = run(child(sql("a"))).cancel()
    assert begun.draining.keys() == {"1"}
    assert begun.status == "running"
    assert begun.ended("1", "cancelled").status == "cancelled"


def test_an_abandoned_child_is_let_go() -> None:
    begun = run(race(child(sql("a"), on_parent_cancel="abandon"), wait("go"))).signal("go")
    assert begun.draining == {}
    assert begun.status == "completed"


def test_a_child_that_takes_too_long_is_cancelled_and_its_end_waited_for_by_what_comes_after() -> None:
    begun = run(catch(child(sql("a"), timeout_seconds=5), sql("h"))).fire("2.1")
    assert begun.open == {}
    begun.ended("2", "cancelled")
    assert begun.queries == {"4": "h"}


def test_a_child_that_takes_too_long_may_be_a_result() -> None:
    begun = run(seq(child(sql("a"), timeout_seconds=5, on_failure="return", on_parent_cancel="abandon"), sql("b")))
    assert begun.due("2.1") == 5
    begun.fire("2.1")
    assert begun.queries == {"4": "b"}


def test_a_child_that_ends_in_time_drops_its_timer() -> None:
    begun = run(seq(child(sql("a"), timeout_seconds=5), sql("b"))).ended("2")
    assert begun.timers == {}


def test_each_try_and_each_row_has_a_child_of_its_own() -> None:
    begun = run(retry(map_(sql("items"), child(sql("a")))))
    begun.done("3.1", rows({"i": 1}, {"i": 2})).ended("4.1.1").ended("4.1.2", "failed").fire("1.1")
    begun.done("3.2", rows({"i": 1}))
    assert begun.children.keys() == {"4.2.1"}


@pytest.mark.parametrize("options", [{"timeout_seconds": "$input"}, {"timeout_seconds": "-$input"}])
def test_options_that_come_out_wrong_fail_the_node(options: dict[str, str]) -> None:
    assert Run(child(sql("a"), **options), input_='"x"').start().error["message"].startswith("df.call_child: ")


# --- other instances ----------------------------------------------------------------------------------------------------


def test_the_end_of_another_instance_is_the_result() -> None:
    begun = run(seq(sql("a", "o"), await_("$o"))).done("2", cell("other"))
    assert begun.awaits["3"].instance_id == "other"
    assert begun.ended("3", "failed", None, {"message": "m"}).result["status"] == "failed"


def test_an_await_that_times_out_says_so() -> None:
    begun = run(await_("other", 5))
    begun.at_us = EPOCH + 5 * SECOND
    begun.completed("1", "completed", '{"status":"running"}', None, run_as=0)
    assert begun.result == {"instance_id": "other", "status": "running", "timed_out": True}


def test_an_answer_in_time_drops_the_timer() -> None:
    begun = run(seq(await_("other", 5), sql("b"))).ended("2")
    assert begun.timers == {}


def test_an_instance_that_cannot_be_found_fails_the_node() -> None:
    message = "Instance not found or access denied: other"
    begun = run(await_("other")).completed(
        "1", "failed", None, json.dumps({"message": message, "code": "P0002"}), run_as=0
    )
    assert begun.error["message"] == message


def test_an_instance_cannot_wait_for_itself() -> None:
    assert run(await_("{sys_instance_id}")).error["code"] == "deadlock"


def test_a_lost_wait_is_dropped() -> None:
    begun = run(race(await_("other", 5), wait("go"))).signal("go")
    assert begun.steps == set()
    assert begun.status == "completed"


# --- schedules ----------------------------------------------------------------------------------------------------------


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def test_a_schedule_waits_for_the_next_tick_strictly_later() -> None:
    begun = Run(seq(schedule("0 12 * * *"), sql("a")))
    begun.at_us = at("2025-01-01 12:00:00")
    begun.start()
    assert begun.timers["2"].due_us == at("2025-01-02 12:00:00")
    assert begun.fire("2").queries == {"3": "a"}


def test_its_result_says_when() -> None:
    begun = Run(schedule("@daily", "Europe/Berlin"))
    begun.at_us = at("2025-01-01 12:00:00")
    assert begun.start().fire("1").result == {"scheduled": True, "at": "2025-01-01T23:00:00+00:00"}


def test_ticks_that_passed_are_not_made_up() -> None:
    begun = Run(loop(schedule("*/5 * * * *")))
    begun.at_us = at("2025-01-01 12:00:00")
    begun.start()
    begun.at_us = at("2025-01-01 12:52:00")
    begun.completed("2.1", "completed", "null", None, run_as=0)
    assert begun.timers["2.2"].due_us == at("2025-01-01 12:55:00")


def test_a_schedule_counts_as_having_waited_and_may_be_filled_in() -> None:
    begun = (
        Run(loop(seq(schedule("{cron}"), sql("a"))), variables={"cron": "* * * * *"}).start().fire("3.1").done("4.1")
    )
    assert begun.timers.keys() == {"3.2"}
    assert Run(schedule("{cron}"), variables={"cron": "never"}).start().error["code"] == "22023"


def test_a_timeout_around_a_sleep_and_a_schedule() -> None:
    assert run(timeout(seq(sleep(1), schedule("0 0 1 1 *")), 10)).fire("3").fire("1").error["code"] == "timeout"
