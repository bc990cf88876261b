"""A million starts in one INSERT: they are rows that wait, and the engine's memory is that of those it has admitted."""

from __future__ import annotations

import pytest

from tests.floods.flood import MARK, Flood, patience, scale
from tests.servers import wait_until
from tests.workflows import World

pytestmark = pytest.mark.timeout(3600)


def test_starts_by_the_million_in_one_insert_all_run_once_in_the_memory_of_those_that_are_admitted(here: World) -> None:
    count = scale(8_000, 1_000_000)
    graph = here.build(f"select {MARK}")
    flood = Flood("starts", here)
    here.run(
        "insert into df.instances (id, graph) select 'w' || n, %s from generate_series(1, %s::int) as n",
        [graph, count],
        role="alice",
    )
    wait_until(lambda: pending(here) > count // 2, patience(), "the metric says how many wait")
    status = here.engine.status()
    assert status["waiting_for_room"] > count // 4
    flood.each_once(count)
    flood.nothing_is_left()
    flood.stayed_below(scale(40, 250))
    assert here.engine.metric("walflow_instances", status="pending") == 0
    assert here.engine.status()["waiting_for_room"] == 0


def pending(here: World) -> float:
    return here.engine.metric("walflow_instances", status="pending") or 0
