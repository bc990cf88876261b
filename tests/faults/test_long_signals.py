"""Signals with much in them, buffered: a checkpoint names their rows, and whoever takes over reads them there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Database, wait_until
from tests.workflows import World, world

GRAPH = """
select df.wait_for_signal('open') ~> (df.wait_for_signal('go') |=> 'first') ~> (df.wait_for_signal('go') |=> 'second')
       ~> 'insert into public.seen (data) values (''$first.data''), (''$second.data'')'
"""
LONG = "é \"' \\ " * 20_000


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[World]:
    with world(database, database.engine(tmp_path).start()) as made:
        made.run("create table public.seen (n serial, data text)", role="alice")
        yield made


def test_what_was_sent_before_a_crash_is_delivered_after_it_as_it_was_sent(here: World) -> None:
    id = here.start(here.build(GRAPH))
    for data in (LONG, "short"):
        here.run("select df.signal(%s, 'go', %s::jsonb)", [id, json.dumps(data)], role="alice")
    wait_until(lambda: here.value("select count(*) from df.signals where folded") == 2)
    assert here.value("select length(state) < 1000 from df.states") is True
    here.engine.kill()
    here.engine.start()
    here.run("select df.signal(%s, 'open')", [id], role="alice")
    assert here.end(id).status == "completed"
    assert here.run("select data from public.seen order by n") == [(LONG,), ("short",)]
