"""LANGUAGE.md, section 8: instances that others start as a part of themselves, and waits for instances."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.user import User
from tests.servers import wait_until
from tests.workflows import ENDS

NEVER = "df.wait_for_signal('never')"


def child(graph: str, label: str = "null", **options: Any) -> str:
    """A node that calls a child, and what its options say."""
    return f"df.call_child({graph}, {label}, $o${json.dumps(options)}$o$)"


def child_of(user: User, id: str) -> str:
    """The id of the only child of an instance, once it is there."""
    rows = wait_until(lambda: user.run("select id from df.instances where parent_id = %s", [id]))
    ((child_id,),) = rows
    return str(child_id)


def goes_on(user: User, id: str) -> bool:
    """Whether an instance has not ended a little later."""
    return user.value("select df.status(%s) from pg_sleep(0.3)", [id]) not in ENDS


# --- what a child is ------------------------------------------------------------------------------------------------


def test_call_child_starts_a_child_and_suspends_the_parent_until_it_ends(alice: User) -> None:
    """`call_child` starts a child instance as part of the parent and suspends the parent until it ends."""
    id = alice.start(f"{child(chr(39) + 'select 1' + chr(39))} ~> 'select 2 as n'")
    assert alice.end(id).result["rows"] == [{"n": 2}]
    waiting = alice.start(child("df.wait_for_signal('go')"))
    child_id = child_of(alice, waiting)
    assert goes_on(alice, waiting)
    alice.run("select df.signal(%s, 'go')", [child_id])
    assert alice.end(waiting).status == "completed"


def test_nothing_is_held_while_the_parent_waits(alice: User) -> None:
    """Nothing is held while it waits."""
    ids = [alice.start(child(child(NEVER))) for _ in range(20)]
    wait_until(lambda: alice.value("select count(*) from df.instances where parent_id = any(%s)", [ids]) == 20)
    assert alice.rows("'select 1 as n'") == [{"n": 1}]
    held = "select count(*) from pg_stat_activity where usename = current_user and state <> 'idle' and pid <> pg_backend_pid()"
    wait_until(lambda: alice.value(held) == 0)
    for id in ids:
        alice.run("select df.cancel(%s)", [id])


def test_the_child_is_an_ordinary_row_with_parent_id_and_its_own_id(alice: User) -> None:
    """The child is an ordinary row of `df.instances` with `parent_id`, its own id (begins with `~`…), same submitter."""
    id = alice.start(child("'select 1 as n'", "'my child'"))
    alice.end(id)
    query = (
        "select id ~ '^~', submitted_by = current_user::regrole, label, status from df.instances where parent_id = %s"
    )
    assert alice.run(query, [id]) == [(True, True, "my child", "completed")]


def test_an_id_that_begins_with_a_tilde_is_refused_to_callers(alice: User) -> None:
    """Refused to callers, so it starts once and nobody can take its place."""
    assert alice.refused("select df.start('select 1', id => '~1/1')")
    assert alice.refused("insert into df.instances (id, graph) values ('~1/1', 'select 1')")


def test_its_nodes_count_to_the_parents_10000(alice: User) -> None:
    """Its nodes count to the parent's 10,000."""
    many = "df.seq_all(variadic array_fill('select 1'::text, array[{}]))"  # n steps are 2n - 1 nodes
    assert alice.refused(f"select df.start(df.seq({child(many.format(3000))}, {many.format(3000)}))")


# --- substitution ---------------------------------------------------------------------------------------------------


def test_the_childs_graph_is_never_substituted_by_the_parent(alice: User) -> None:
    """The child's graph is never substituted by the parent."""
    called = child("'select ''$x'' as v, ''{sys_label}'' as l'")
    end = alice.outcome(f"'select 1' |=> 'x' ~> {called}, label => 'parent'")
    assert end.result["rows"] == [{"v": "$x", "l": ""}]


def test_label_and_the_strings_of_options_are(alice: User) -> None:
    """`label` and the strings of `options` are."""
    called = child("'select ''{sys_label}'' as l, $input.word as w'", "'child of $x'", input={"word": "so $x.b"})
    assert alice.rows(f"'select 1 as a, 2 as b' |=> 'x' ~> {called}") == [{"l": "child of 1", "w": "so 2"}]


def test_a_string_that_is_exactly_one_reference_becomes_that_json_value_with_its_type(alice: User) -> None:
    """A string that is exactly one reference becomes that JSON value with its type (`{"id":"$o.id"}` → `{"id":42}`)."""
    called = child("'select $input::json as i'", input={"id": "$o.id", "t": "$o.t", "o": ["$o.o"], "n": "$o.none?"})
    first = """$s$select 42 as id, true as t, '{"a": 1}'::json as o$s$ |=> 'o'"""
    assert alice.rows(f"{first} ~> {called}") == [{"i": {"id": 42, "t": True, "o": [{"a": 1}], "n": None}}]


# --- options --------------------------------------------------------------------------------------------------------


def test_timeout_seconds(alice: User) -> None:
    """Options: `timeout_seconds`."""
    id = alice.start(child(NEVER, timeout_seconds=0.6))
    assert alice.end(id).error["code"] == "timeout"
    assert alice.end(child_of(alice, id)).status == "cancelled"


def test_on_failure_raise_is_the_default_the_node_fails_with_the_childs_error(alice: User) -> None:
    """`on_failure`: `raise` (default: the node fails with the child's error)."""
    for called in (child("'select 1/0'"), child("'select 1/0'", on_failure="raise")):
        error = alice.error(called)
        assert (error["code"], error["message"]) == ("22012", "division by zero")


def test_on_failure_return(alice: User) -> None:
    """Or `return`."""
    id = alice.start(child("'select 1/0'", on_failure="return"))
    end = alice.end(id)
    assert end.status == "completed"
    assert (end.result["status"], end.result["result"]) == ("failed", None)
    assert (end.result["error"]["code"], end.result["instance_id"]) == ("22012", child_of(alice, id))


def test_variables_are_not_inherited_unless_inherit_vars_says_so(alice: User) -> None:
    """`inherit_vars` (default false) and `vars`."""
    shows = "'select ''{inherited} {given}'' as v'"
    with alice.transaction():
        alice.run("select df.setvar('inherited', 'yes')")
        plain = alice.start(child(shows))
        given = alice.start(child(shows, vars={"given": "too"}))
        inherited = alice.start(child(shows, inherit_vars=True, vars={"given": "too"}))
        alice.run("select df.clearvars()")
    assert [alice.end(id).result["rows"][0]["v"] for id in (plain, given, inherited)] == [
        "{inherited} {given}",
        "{inherited} too",
        "yes too",
    ]


def test_input_is_given_to_the_child(alice: User) -> None:
    """`input`."""
    assert alice.rows(child("'select $input.n + 1 as n'", input={"n": 41})) == [{"n": 42}]


@pytest.mark.parametrize("options", [{}, {"on_parent_cancel": "cancel"}])
def test_on_parent_cancel_cancel_is_the_default(alice: User, options: dict[str, str]) -> None:
    """`on_parent_cancel`: `cancel` (default)."""
    id = alice.start(child(NEVER, **options))
    child_id = child_of(alice, id)
    alice.run("select df.cancel(%s)", [id])
    assert alice.end(id).status == "cancelled"
    assert alice.end(child_id).status == "cancelled"


def test_on_parent_cancel_abandon(alice: User) -> None:
    """Or `abandon`."""
    id = alice.start(child("df.wait_for_signal('go')", on_parent_cancel="abandon"))
    child_id = child_of(alice, id)
    alice.run("select df.cancel(%s)", [id])
    assert alice.end(id).status == "cancelled"
    assert goes_on(alice, child_id)
    alice.run("select df.signal(%s, 'go')", [child_id])
    assert alice.end(child_id).status == "completed"


def test_detach_does_not_wait(alice: User) -> None:
    """`detach` true: do not wait."""
    id = alice.start(child("df.wait_for_signal('go')", detach=True))
    assert alice.end(id).status == "completed"
    child_id = child_of(alice, id)
    alice.run("select df.signal(%s, 'go')", [child_id])
    assert alice.end(child_id).status == "completed"


# --- results --------------------------------------------------------------------------------------------------------


def test_the_result_with_return(alice: User) -> None:
    """Result: `{"instance_id","status","result","error"}` with `on_failure: return`."""
    id = alice.start(child("'select 1 as n'", on_failure="return"))
    result = alice.end(id).result
    assert result.keys() == {"instance_id", "status", "result", "error"}
    assert (result["instance_id"], result["status"], result["error"]) == (child_of(alice, id), "completed", None)
    assert result["result"]["rows"] == [{"n": 1}]


def test_the_childs_result_itself_with_raise(alice: User) -> None:
    """The child's result itself with `raise`."""
    assert alice.rows(child("'select 1 as n'")) == [{"n": 1}]


def test_the_id_is_visible_at_once_in_instance_nodes_so_the_child_can_be_signalled(alice: User) -> None:
    """The id is visible at once in `instance_nodes`, so the child can be signalled."""
    id = alice.start(child("df.wait_for_signal('go')"))
    query = "select status_details::text from df.instance_nodes(%s) where node_type = 'CALL_CHILD'"
    child_id = child_of(alice, id)
    wait_until(lambda: any(child_id in (details or "") for (details,) in alice.run(query, [id])))
    alice.run("select df.signal(%s, 'go')", [child_id])
    assert alice.end(id).status == "completed"


@pytest.mark.parametrize("option", ["cancel", "abandon"])
@pytest.mark.parametrize(
    "around", ["df.race({}, df.sleep('0.6'))", "df.catch(df.timeout({}, interval '0.6 s'), 'select 1')"]
)
def test_loss_of_a_race_and_timeout_propagate_as_on_parent_cancel_says(alice: User, option: str, around: str) -> None:
    """Cancellation of the parent, loss of a race and timeout propagate as `on_parent_cancel` says."""
    id = alice.start(around.replace("{}", child(NEVER, on_parent_cancel=option)))
    child_id = child_of(alice, id)
    assert alice.end(id).status == "completed"
    if option == "cancel":
        assert alice.end(child_id).status == "cancelled"
    else:
        assert goes_on(alice, child_id)


def test_a_child_may_have_children(alice: User) -> None:
    """The child is an ordinary row of `df.instances`."""
    id = alice.start(child(child("'select 1 as n'")))
    assert alice.end(id).result["rows"] == [{"n": 1}]
    grandchild = child_of(alice, child_of(alice, id))
    assert alice.end(grandchild).status == "completed"


# --- await_instance -------------------------------------------------------------------------------------------------


def test_await_instance_waits_for_an_instance_that_is_not_finished(alice: User) -> None:
    """`await_instance` waits for any instance the submitter may see, not [finished]."""
    awaited = alice.start("df.wait_for_signal('go')")
    id = alice.start(f"df.await_instance('{awaited}')")
    assert goes_on(alice, id)
    alice.run("select df.signal(%s, 'go', '7')", [awaited])
    result = alice.end(id).result
    assert (result["instance_id"], result["status"], result["error"]) == (awaited, "completed", None)
    assert result["result"]["data"] == 7


def test_await_instance_of_one_already_finished(alice: User) -> None:
    """Already finished or not."""
    awaited = alice.start("'select 1/0'")
    alice.end(awaited)
    result = alice.result(f"df.await_instance('{awaited}')")
    assert result.keys() == {"instance_id", "status", "result", "error"}
    assert (result["instance_id"], result["status"], result["result"]) == (awaited, "failed", None)
    assert result["error"]["code"] == "22012"


def test_await_instance_takes_a_reference(alice: User) -> None:
    """`await_instance` waits for any instance the submitter may see."""
    awaited = alice.start("'select 1 as n'")
    graph = f"'select ''{awaited}''' |=> 'x' ~> df.await_instance('$x')"
    assert alice.result(graph)["result"]["rows"] == [{"n": 1}]


def test_await_instance_of_one_that_cannot_be_seen_fails(alice: User, bob: User) -> None:
    """Any instance the submitter may see."""
    foreign = bob.start("'select 1'")
    bob.end(foreign)
    assert "not found or access denied" in alice.error(f"df.await_instance('{foreign}')")["message"]


def test_the_timeout_of_await_instance(alice: User) -> None:
    """Timeout gives `{"instance_id","status":…,"timed_out":true}`."""
    awaited = alice.start(NEVER)
    result = alice.result(f"df.await_instance('{awaited}', 0.3)")
    assert result == {"instance_id": awaited, "status": result["status"], "timed_out": True}
    assert result["status"] not in ENDS
