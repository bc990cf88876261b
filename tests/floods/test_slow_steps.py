"""Steps that are slower than they arrive: what cannot run yet waits as rows, in no queue of the engine's."""

from __future__ import annotations

import pytest

from tests.floods.flood import MARK, Flood, scale
from tests.servers import wait_until
from tests.workflows import World

pytestmark = pytest.mark.timeout(3600)


def test_what_arrives_faster_than_it_runs_waits_as_rows_and_the_slot_goes_on(here: World) -> None:
    count, each = scale(1_500, 40_000), scale(50, 100)
    graph = here.build(f"select df.seq('select pg_sleep(0.05)', {MARK})")
    flood = Flood("slow steps", here)
    most = 0
    for first in range(0, count, each):
        here.run(
            "insert into df.instances (id, graph) select 'w' || n, %s from generate_series(%s::int, %s::int) as n",
            [graph, first + 1, first + each],
            role="alice",
        )
        most = max(most, here.engine.status()["steps_in_flight"])
    sent = here.value("select pg_current_wal_lsn()")
    wait_until(lambda: flood.slot_is_beyond(sent), 30, "the slot passes all starts while their steps wait")
    assert flood.ended() < count, "or they were not slow"
    assert most <= scale(500, 10_000), "no more wait in memory than were admitted"
    flood.each_once(count)
    flood.nothing_is_left()
    flood.stayed_below(scale(40, 250))
