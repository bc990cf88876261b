"""Results of 100 MB: refused where the server made them, and of them the engine never sees a byte."""

from __future__ import annotations

import pytest

from tests.floods.flood import EMPTY_ENGINE_MB, Flood, scale
from tests.servers import wait_until
from tests.workflows import World

pytestmark = pytest.mark.timeout(600)

HUGE = 100 * 1024 * 1024
LARGEST = 16 * 1024 * 1024 - 100


def test_a_result_of_a_hundred_megabytes_fails_its_step_and_nothing_else(here: World) -> None:
    flood = Flood("huge results", here)
    huge = [here.start(f"select repeat('x', {HUGE}) as x") for _ in range(scale(2, 20))]
    small = [here.start("select 1 as one", role="bob") for _ in range(20)]
    for id in small:
        assert here.end(id).rows == [{"one": 1}]
    for id in huge:
        outcome = here.end(id, 300)
        assert outcome.status == "failed"
        assert "exceeds the limit of" in outcome.message
    flood.say(f"peak {flood.peak_mb():.0f} MB")
    flood.nothing_is_left()
    flood.stayed_below(20)


def test_results_as_large_as_any_can_be_pass_and_leave_the_memory(here: World) -> None:
    """Whoever raises the limit pays for each that is in memory, and not for ever: more than this the table does not take."""
    here.run("update df.settings set value = %s where name = 'result_bytes'", [str(2 * HUGE)])
    here.engine.terminate()
    here.engine.start()
    flood = Flood("largest results", here)
    graph = here.build(f"select df.seq('select repeat(''x'', {LARGEST}) as x', 'select 1 as one')")
    too_large = here.start(f"select repeat('x', {HUGE}) as x")
    for id in [here.start(graph) for _ in range(scale(4, 20))]:
        assert here.end(id, 300).rows == [{"one": 1}]
    assert "results_fit" in here.end(too_large, 300).message
    flood.say(f"peak {flood.peak_mb():.0f} MB, after {flood.memory_mb():.0f} MB")
    flood.nothing_is_left()
    flood.stayed_below(700)
    wait_until(lambda: flood.memory_mb() < 2 * EMPTY_ENGINE_MB, what="the memory is given back")
