"""Ten thousand instances whose last step waits for the same thing: they all finish at the same moment."""

from __future__ import annotations

import pytest

from tests.floods.flood import MARK, Flood, scale
from tests.servers import wait_until
from tests.workflows import World

pytestmark = pytest.mark.timeout(3600)

AT_ONCE = 10_000
"""Items of a map that may be under way."""


def test_thousands_that_wait_in_memory_finish_with_one_transaction(here: World) -> None:
    """No step follows the wait: the transaction of the signals is the end of all of them, in one checkpoint."""
    count = scale(2_000, 10_000)
    graph = here.build(f"select df.seq({MARK}, df.wait_for_signal('go'))")
    here.run(
        "insert into df.instances (id, graph) select 'w' || n, %s from generate_series(1, %s::int) as n",
        [graph, count],
        role="alice",
    )
    wait_until(lambda: here.value("select count(*) from public.done") == count, 600)
    flood = Flood("finishing", here)
    here.run("insert into df.signals (instance_id, name) select id, 'go' from df.instances", role="alice")
    flood.each_once(count)
    flood.nothing_is_left()
    flood.stayed_below(scale(60, 300))


def test_a_map_of_thousands_is_begun_and_cancelled_without_a_standstill(here: World) -> None:
    """All of its items wait for a connection; taking them back must not be quadratic."""
    count = scale(10_000, 80_000)  # more numbers are more than result_bytes
    items = f"'select n from generate_series(1, {count}) n'"
    id = here.start(here.build(f"select df.map({items}, 'select pg_sleep(3600)', {AT_ONCE})"))
    wait_until(lambda: here.engine.status().get("steps_in_flight", 0) >= AT_ONCE, 600)
    flood = Flood("map cancelled", here)
    here.run("select df.cancel(%s)", [id], role="alice")
    assert here.end(id, 600).status == "cancelled"
    flood.say(f"{count} taken back, peak {flood.peak_mb():.0f} MB")
    flood.nothing_is_left()
    flood.stayed_below(scale(100, 700))
