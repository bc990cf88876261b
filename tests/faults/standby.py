"""A synchronous standby that never answers: a commit that waits for it is in the log, and in nobody's snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.servers import Cluster, wait_until
from tests.workflows import World

LOCAL: Final = "set synchronous_commit = local"
"""For whoever shall not wait for it."""


class Standby:
    """A synchronous standby that never connects."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._threads: list[threading.Thread] = []

    def _wait_for(self, names: str) -> None:
        with self._cluster.connect() as connection:
            connection.execute(LOCAL)
            if names:
                connection.execute("alter system set synchronous_standby_names = 'nobody'")
            else:
                connection.execute("alter system reset synchronous_standby_names")
            self._cluster.server.reload()
            wait_until(lambda: self._shown() == names)

    def _shown(self) -> str:
        with self._cluster.connect() as connection:
            return str(
                connection.execute(
                    "select setting from pg_settings where name = 'synchronous_standby_names'"
                ).fetchall()[0][0]
            )

    def require(self) -> None:
        self._wait_for("nobody")

    def release(self) -> None:
        self._wait_for("")
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self._threads.clear()

    def commit(self, here: World, query: str, role: str = "alice") -> None:
        """Run a statement whose commit hangs, and return when it does."""
        thread = threading.Thread(target=lambda: here.database.run(query.encode(), role=role))  # type: ignore[arg-type]
        before = self.hanging(here)
        self._threads.append(thread)
        thread.start()
        wait_until(lambda: self.hanging(here) > before, what="the commit hangs")

    def hanging(self, here: World, role: str | None = None) -> int:
        return int(
            here.value(
                "select count(*) from pg_stat_activity where wait_event = 'SyncRep' and usename = coalesce(%s, usename)",
                [role],
            )
        )


@contextmanager
def standby(here: World) -> Iterator[Standby]:
    made = Standby(here.database.cluster)
    made.require()
    try:
        yield made
    finally:
        made.release()
