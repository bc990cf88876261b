"""A step's effects and its completion commit together: whatever happens to its connection, each step happens once."""

from __future__ import annotations

import json
import random
from collections import Counter

from tests.servers import wait_until
from tests.workflows import World

WORKFLOWS = 150
STEPS = 4


def chain(table: str) -> str:
    """A workflow whose step k adds a row (workflow, k) to a table that has no key."""
    steps = [
        f"insert into {table} values (current_setting('df.instance_id'), {k}) /* {k} */" for k in range(1, STEPS + 1)
    ]
    graph: dict[str, object] = {"node_type": "SQL", "query": steps[0]}
    for step in steps[1:]:
        graph = {"node_type": "THEN", "left_node": graph, "right_node": {"node_type": "SQL", "query": step}}
    return json.dumps(graph)


def unfinished(world: World, prefix: str) -> int:
    return int(
        world.value(
            "select count(*) from df.instances where id like %s || '%%' and status in ('pending', 'running')", [prefix]
        )
    )


def test_exactly_once_though_connections_are_killed_all_the_time(one: World) -> None:
    """Before, during and after the commit: hundreds of times."""
    one.run("create table public.happened (id text, step int)", role="alice")
    one.run(
        "insert into df.instances (id, graph) select 'killed' || i, %s from generate_series(1, %s) i",
        [chain("public.happened"), WORKFLOWS],
        role="alice",
    )
    killed = 0
    chance = random.Random(1)

    def kill_one_and_look() -> bool:
        nonlocal killed
        at_work = one.run("select pid from pg_stat_activity where usename = 'alice' and query like 'select df.step%'")
        if at_work and killed < 100:
            one.run("select pg_terminate_backend(%s)", list(chance.choice(at_work)))
            killed += 1
        return unfinished(one, "killed") == 0

    wait_until(kill_one_and_look, timeout=60)
    assert killed > 20
    assert one.run("select distinct status, error::text from df.instances where id ~ '^killed'") == [
        ("completed", None)
    ]
    happened = Counter(one.run("select id, step from public.happened"))
    assert len(happened) == WORKFLOWS * STEPS, "none is missing"
    assert set(happened.values()) == {1}, "none happened twice"
    assert one.value("select max(repetitions) from df.completions") > 0


def test_a_step_that_committed_while_its_connection_died_is_not_run_again(one: World) -> None:
    one.run("create table public.at_commit (word text)", role="alice")
    one.run("create sequence public.runs", role="alice")
    for number in range(20):
        id = one.start(f"insert into public.at_commit select 'again {number} ' || nextval('public.runs')")
        wait_until(lambda: one.history(id))  # noqa: B023 (called here)
        for pid in one.backends("alice"):
            one.run("select pg_terminate_backend(%s)", [pid])
        assert one.end(id).status == "completed"
        assert one.value("select count(*) from public.at_commit where word ~ %s", [f"^again {number} "]) == 1


def test_a_step_whose_effects_are_not_rolled_back_looks_at_its_key_first_when_it_may_have_run(one: World) -> None:
    """A sequence does not roll back: a second run under a key that is taken would show in it."""
    one.run("create sequence public.looked", role="alice")
    for _ in range(10):
        before = one.value("select last_value from public.looked")
        id = one.start("select nextval('public.looked') as n")
        wait_until(lambda: one.history(id))  # noqa: B023 (called here)
        for pid in one.backends("alice"):
            one.run("select pg_terminate_backend(%s)", [pid])
        assert one.end(id).status == "completed"
        assert one.value("select last_value from public.looked") <= before + 1
