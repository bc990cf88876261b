"""A steady trickle of starts, and the largest gap between two of its completions: how long work stood still for a user."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from tests.workflows import World

SPACING_SECONDS: Final = 0.02
START: Final = "insert into df.instances (id, graph) values ('trickled-' || %s, 'select 1')"
GAP: Final = """
with completions as (
  select c.recorded_at, lag(c.recorded_at) over (order by c.recorded_at) as before
    from df.completions c
    join df.instances i on i.key = c.instance_key
   where i.id like 'trickled-%%'
)
select coalesce(extract(epoch from max(recorded_at - before)), 0) from completions where recorded_at >= %s
"""


class Trickle:
    """Starts instances of one step, `SPACING_SECONDS` apart, until it is stopped."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._flow)
        self._trouble: list[Exception] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and raise what went wrong."""
        self._enough.set()
        self._thread.join()
        if self._trouble:
            raise self._trouble[0]

    def gap_seconds(self, since: datetime) -> float:
        """The largest gap between the commits of two steps, the second of them since then, by the database's clock.

        The first may be older: a leader that stops may not complete another one.
        """
        return float(self.world.value(GAP, [since]))

    def _flow(self) -> None:
        try:
            with self.world.database.connect("alice") as connection:
                number = 0
                while not self._enough.wait(SPACING_SECONDS):
                    number += 1
                    connection.execute(START, [number])
        except Exception as error:
            self._trouble.append(error)


@contextmanager
def trickle(world: World) -> Iterator[Trickle]:
    """A trickle for as long as the block lasts."""
    made = Trickle(world)
    made.start()
    try:
        yield made
    finally:
        made.stop()
