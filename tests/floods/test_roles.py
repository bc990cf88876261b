"""Who floods delays himself: other roles, and other instances of his own, get on. Told by what was recorded before what."""

from __future__ import annotations

import statistics

import pytest

from tests.floods.flood import Flood, scale
from tests.servers import wait_until
from tests.workflows import World

pytestmark = pytest.mark.timeout(3600)

OVERTAKEN = """
    select count(*) from df.completions c join df.instances i on i.key = c.instance_key
     where i.submitted_by = 'alice'::regrole
       and c.recorded_at between (select created_at from df.instances where id = %(id)s)
                             and (select finished_at from df.instances where id = %(id)s)
"""
MANY_STEPS = 400
"""Steps of others that may be recorded while a workflow of three goes through: some rounds of their connections, no queue."""


def test_a_role_that_floods_does_not_stand_before_another_in_any_queue(here: World) -> None:
    count = scale(5_000, 50_000)
    graph = here.build("select 'select pg_sleep(0.01)' ~> 'select 2'")
    Flood("roles", here)
    here.run(
        "insert into df.instances (graph) select %s from generate_series(1, %s::int)", [graph, count], role="alice"
    )
    wait_until(lambda: here.value("select count(*) from df.completions") > 0)
    quiet = here.build("select 'select 1' ~> 'select 2' ~> 'select 3'")
    overtaken = []
    for _ in range(20):
        id = here.start(quiet, role="bob")
        assert here.end(id).status == "completed"
        overtaken.append(here.value(OVERTAKEN, {"id": id}))
    assert here.engine.status()["waiting_for_room"] > count // 4, "or it was no flood any more"
    assert statistics.median(overtaken) < MANY_STEPS, overtaken


def test_an_instance_with_thousands_of_steps_takes_turns_with_others_of_its_role(here: World) -> None:
    count = scale(3_000, 80_000)  # more numbers are more than result_bytes
    items = f"'select n from generate_series(1, {count}) n'"
    here.start(here.build(f"select df.map({items}, 'select pg_sleep(0.05)', 3000)"))
    wait_until(lambda: here.engine.status().get("steps_in_flight", 0) > 1_500, 120)
    id = here.start(here.build("select 'select 1' ~> 'select 2' ~> 'select 3'"))
    assert here.end(id).status == "completed"
    assert here.value(OVERTAKEN, {"id": id}) < MANY_STEPS
