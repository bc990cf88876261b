"""Many signals at once: to one instance, to many that wait outside the memory, to many that have not begun."""

from __future__ import annotations

import pytest

from tests.floods.conftest import ROOM
from tests.floods.flood import MARK, Flood, scale
from tests.servers import wait_until
from tests.workflows import World

pytestmark = pytest.mark.timeout(3600)

TAKE = "df.seq(df.wait_for_signal('go') |=> 's', 'insert into public.done values (($s::json)->>''data'')')"


def test_signals_by_the_thousand_to_one_instance_are_taken_in_order_and_the_rest_is_nothing(here: World) -> None:
    count, taken = scale(5_000, 100_000), scale(200, 1_000)
    id = here.start(here.build(f"select df.loop({TAKE}, 'select count(*) < {taken} from public.done')"))
    wait_until(lambda: here.status(id) == "running")
    flood = Flood("signals to one", here)
    here.run(
        "insert into df.signals (instance_id, name, data) select %s, 'go', to_json(n) from generate_series(1, %s::int) as n",
        [id, count],
        role="alice",
    )
    outcome = here.end(id, 3000)
    assert outcome.status == "completed", outcome
    assert here.run("select id::int from public.done order by 1") == [(n,) for n in range(1, taken + 1)]
    flood.say(f"{count} sent, {taken} taken, peak {flood.peak_mb():.0f} MB")
    flood.nothing_is_left()
    flood.stayed_below(scale(60, 400))


def test_what_sleeps_outside_the_memory_and_is_signalled_all_at_once_ends_once(here: World) -> None:
    count = scale(2_000, 10_000) + 2 * scale(ROOM, 10_000)
    start_waiting(here, count)
    wait_until(lambda: here.value("select count(*) from df.instances where status = 'running'") == count, 600)
    flood = Flood("signals to sleepers", here)
    here.run("insert into df.signals (instance_id, name) select id, 'go' from df.instances", role="alice")
    flood.each_once(count)
    flood.nothing_is_left()
    flood.stayed_below(scale(60, 300))


def test_signals_beside_starts_for_which_there_is_no_room_wait_with_them(here: World) -> None:
    count = scale(3_000, 100_000)
    graph = here.build(f"select df.seq(df.wait_for_signal('go'), {MARK})")
    flood = Flood("signals beside starts", here)
    here.run(
        "with started as (insert into df.instances (id, graph) select 'w' || n, %s from generate_series(1, %s::int) as n) "
        "insert into df.signals (instance_id, name) select 'w' || n, 'go' from generate_series(1, %s::int) as n",
        [graph, count, count],
        role="alice",
    )
    flood.each_once(count)
    flood.nothing_is_left()
    flood.stayed_below(scale(60, 400))


def start_waiting(here: World, count: int) -> None:
    graph = here.build(f"select df.seq(df.wait_for_signal('go'), {MARK})")
    here.run(
        "insert into df.instances (id, graph) select 'w' || n, %s from generate_series(1, %s::int) as n",
        [graph, count],
        role="alice",
    )
