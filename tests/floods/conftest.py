"""An engine with little room, and a table that shows what ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.floods.flood import scale
from tests.servers import Database
from tests.workflows import World, world

ROOM: Final = 500


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[World]:
    """A server with an engine whose room is small in the short form, and the default in the whole one."""
    engine = database.engine(tmp_path, admission=str(scale(ROOM, 10_000)), log_level="info").start()
    with world(database, engine) as made:
        made.run("create table public.done (id text)")
        made.run("grant insert, select on public.done to alice, bob")
        yield made
