"""Waits on other instances."""

from __future__ import annotations

import json
from typing import Any

from tests.servers import wait_until
from tests.workflows import Outcome, World

WAIT = "df.wait_for_signal('go')"


def start(world: World, expression: str, id: str | None = None, role: str = "alice") -> str:
    return world.start(world.build(f"select {expression}"), id=id, role=role)


def end(world: World, expression: str, role: str = "alice") -> Outcome:
    return world.end(start(world, expression, role=role))


def answer(outcome: Outcome) -> Any:
    assert outcome.status == "completed", outcome
    return json.loads(outcome.result or "null")


def waiting(world: World, id: str) -> None:
    """Wait until the instance waits for another."""
    query = "select 1 from df.waits w join df.instances i on i.key = w.waiter_key where i.id = %s and w.folded"
    wait_until(lambda: world.run(query, [id]))


def test_an_instance_that_has_ended_answers_at_once(one: World) -> None:
    other = one.start("select 1.50 as n")
    one.end(other)
    outcome = end(one, f"df.await_instance('{other}')")
    assert '{"rows":[{"n":1.50}],"row_count":1}' in (outcome.result or "")
    told = answer(outcome)
    assert (told["instance_id"], told["status"], told["error"]) == (other, "completed", None)


def test_an_instance_that_runs_answers_when_it_ends(one: World) -> None:
    other = start(one, f"df.seq({WAIT}, 'select 1/0')")
    id = start(one, f"df.await_instance('{other}')")
    waiting(one, id)
    one.run("select df.signal(%s, 'go')", [other], role="alice")
    told = answer(one.end(id))
    assert (told["status"], told["result"], told["error"]["code"]) == ("failed", None, "22012")


def test_many_wait_for_one(one: World) -> None:
    other = start(one, WAIT)
    ids = [start(one, f"df.await_instance('{other}')") for _ in range(20)]
    for id in ids:
        waiting(one, id)
    one.run("select df.cancel(%s)", [other], role="alice")
    assert {answer(one.end(id))["status"] for id in ids} == {"cancelled"}


def test_an_instance_of_the_same_transaction_can_be_waited_for(one: World) -> None:
    with one.connection("alice").transaction():
        id = start(one, "df.await_instance('the-other')")
        one.start("select 1", id="the-other")
    assert answer(one.end(id))["status"] == "completed"


def test_an_instance_of_nobodys_is_not_found(one: World) -> None:
    outcome = end(one, "df.await_instance('nobodys')")
    assert outcome.status == "failed"
    assert outcome.message == "Instance not found or access denied: nobodys"


def test_a_strangers_instance_is_not_found(one: World) -> None:
    start(one, WAIT, id="bobs-own", role="bob")
    outcome = end(one, "df.await_instance('bobs-own')")
    assert outcome.message == "Instance not found or access denied: bobs-own"


def test_an_instance_of_a_role_whose_rights_one_has_is_found_and_ones_own_comes_first(one: World) -> None:
    boss = one.database.new_role("boss", "login")
    one.run(f"grant alice to {boss}")
    one.end(one.start("select 'alice' as who", id="shared"))
    assert answer(end(one, "df.await_instance('shared')", role=boss))["result"]["rows"] == [{"who": "alice"}]
    one.end(one.start("select 'boss' as who", id="shared", role=boss))
    assert answer(end(one, "df.await_instance('shared')", role=boss))["result"]["rows"] == [{"who": "boss"}]


def test_an_instance_cannot_wait_for_itself(one: World) -> None:
    id = start(one, "df.await_instance('{sys_instance_id}')")
    outcome = one.end(id)
    assert (outcome.code, outcome.message) == ("deadlock", f"Instance {id} cannot wait for itself")


def test_a_wait_that_takes_too_long_tells_the_status(one: World) -> None:
    other = start(one, WAIT)
    one.wait_for(other, "running")
    told = answer(end(one, f"df.await_instance('{other}', 0.3)"))
    assert told == {"instance_id": other, "status": "running", "timed_out": True}


def test_a_wait_that_lost_a_race_is_dropped(one: World) -> None:
    other = start(one, WAIT)
    assert end(one, f"df.race(df.await_instance('{other}'), df.sleep('0.2'))").status == "completed"
    one.run("select df.signal(%s, 'go')", [other], role="alice")
    assert one.end(other).status == "completed"


def test_two_that_wait_for_one_another_fail_and_say_so(one: World) -> None:
    first = start(one, "df.seq(df.wait_for_signal('go'), df.await_instance('ring-2'))", id="ring-1")
    second = start(one, "df.await_instance('ring-1')", id="ring-2")
    waiting(one, second)
    one.run("select df.signal('ring-1', 'go')", role="alice")
    outcome = one.end(first)
    message = "Waiting for ring-2 would never end: ring-2 waits for ring-1, ring-1 waits for ring-2"
    assert (outcome.code, outcome.message) == ("deadlock", message)
    assert answer(one.end(second))["status"] == "failed"


def test_a_ring_with_a_way_out_is_left_alone(one: World) -> None:
    first = start(one, "df.seq(df.wait_for_signal('go'), df.await_instance('bounded-2'))", id="bounded-1")
    second = start(one, "df.await_instance('bounded-1', 1)", id="bounded-2")
    waiting(one, second)
    one.run("select df.signal('bounded-1', 'go')", role="alice")
    assert answer(one.end(second))["timed_out"] is True
    assert answer(one.end(first))["status"] == "completed"


def test_a_child_that_waits_for_its_parent_fails(one: World) -> None:
    id = start(one, "df.call_child(df.await_instance('parent-of-it'))", id="parent-of-it")
    outcome = one.end(id)
    assert (outcome.status, outcome.code) == ("failed", "deadlock")


def test_a_wait_survives_the_engine(one: World) -> None:
    other = start(one, WAIT)
    id = start(one, f"df.await_instance('{other}')")
    waiting(one, id)
    one.engine.kill()
    one.engine.start()
    one.run("select df.signal(%s, 'go')", [other], role="alice")
    assert answer(one.end(id))["status"] == "completed"


def test_waits_are_answered_though_the_engine_is_killed_again_and_again(one: World) -> None:
    others = [start(one, WAIT) for _ in range(30)]
    ids = [start(one, f"df.await_instance('{other}')") for other in others]
    one.engine.kill()
    one.run(
        "insert into df.signals (instance_id, name) select id, 'go' from unnest(%s::text[]) as id",
        [others],
        role="alice",
    )
    one.engine.start()
    one.engine.kill()
    one.engine.start()
    for id in ids:
        assert answer(one.end(id))["status"] == "completed"


def test_a_ring_is_found_after_a_restart(one: World) -> None:
    second = start(one, "df.await_instance('ring-b')", id="ring-c")
    start(one, "df.seq(df.wait_for_signal('go'), df.await_instance('ring-c'))", id="ring-b")
    waiting(one, second)
    one.engine.kill()
    one.engine.start()
    one.run("select df.signal('ring-b', 'go')", role="alice")
    assert one.end("ring-b").code == "deadlock"


def test_an_id_that_several_of_ones_roles_have_is_ambiguous(one: World) -> None:
    chief = one.database.new_role("chief", "login")
    one.run(f"grant alice, bob to {chief}")
    for role in ("alice", "bob"):
        one.start("select 1", id="twice", role=role)
    outcome = end(one, "df.await_instance('twice')", role=chief)
    assert (outcome.code, outcome.message) == (
        "42P09",
        "Instance twice is ambiguous: 2 roles that you may act for have one",
    )


def test_a_member_of_the_owner_of_df_may_wait_for_anybody(one: World) -> None:
    admin = one.database.new_role("admin", "login")
    one.run(f"grant engine to {admin}")
    one.start("select 'bob' as who", id="bobs-again", role="bob")
    assert answer(end(one, "df.await_instance('bobs-again')", role=admin))["result"]["rows"] == [{"who": "bob"}]
