"""More at once than anybody should send, and what has to hold afterwards: all ended, once, and nothing was left behind.

Each test has a short form, for every run, and the whole one with WALFLOW_FLOODS=full: a million starts and the like. `Flood`
prints what it saw (`pytest -s`).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Final

from tests.servers import wait_until
from tests.workflows import World

FORM: Final = "WALFLOW_FLOODS"
MARK: Final = "'insert into public.done select ''{sys_instance_id}'''"
"""A step that leaves a trace, in a table without keys: twice run is twice there."""
EMPTY_ENGINE_MB: Final = 70
"""What the process takes before there is anything to do; what a flood may add is said by each test."""


def whole() -> bool:
    """Whether the whole form was asked for."""
    return os.environ.get(FORM) == "full"


def scale(short: int, full: int) -> int:
    """How much of it, in this run."""
    return full if whole() else short


def patience() -> float:
    """Seconds that a flood may take."""
    return 3000.0 if whole() else 50.0


@dataclass(slots=True)
class Flood:
    """One flood on one database. Counts are of all instances there."""

    name: str
    world: World
    began: float = field(default_factory=time.monotonic)

    def ended(self) -> int:
        return int(self.world.value("select count(*) from df.instances where finished_at is not null"))

    def wait_ended(self, count: int) -> None:
        """Until so many have ended."""
        rest = 1.0 if whole() else 0.05

        def all_ended() -> bool:
            if self.ended() == count:
                return True
            time.sleep(rest)  # counting costs the server what the engine should have
            return False

        wait_until(all_ended, patience(), f"{count} end ({self.name})")

    def each_once(self, count: int) -> None:
        """So many have completed, and each of them left one trace."""
        self.wait_ended(count)
        seconds = time.monotonic() - self.began
        assert self.world.run("select status, count(*) from df.instances group by 1") == [("completed", count)]
        assert self.world.run("select count(*), count(distinct id) from public.done") == [(count, count)]
        self.say(f"{count} in {seconds:.1f} s, {count / seconds:.0f}/s, peak {self.peak_mb():.0f} MB")

    def say(self, what: str) -> None:
        print(f"\n{self.name}: {what}", flush=True)

    def nothing_is_left(self) -> None:
        """No state, no event that waits, nothing that the slot keeps of the time until now."""
        wait_until(lambda: self.world.value("select count(*) from df.states") == 0, what="no states")
        assert self.world.value("select count(*) from df.inbox") == 0
        assert self.world.run("select backlog::text from df.checkpoint") == [("[]",)]
        end = self.world.value("select pg_current_wal_lsn()")
        self.world.end(self.world.start("select 1"))
        wait_until(lambda: self.slot_is_beyond(end), what="the slot advances to the end")

    def slot_is_beyond(self, lsn: str) -> bool:
        query = "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots where slot_name = %s"
        return bool(self.world.value(query, [lsn, self.world.database.slot]))

    def peak_mb(self) -> float:
        """The most memory that the engine's process had at any time."""
        return self._memory_mb("VmHWM")

    def memory_mb(self) -> float:
        """What it has now."""
        return self._memory_mb("VmRSS")

    def _memory_mb(self, name: str) -> float:
        with open(f"/proc/{self.world.engine.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024

    def stayed_below(self, added_mb: float) -> None:
        """The engine never had more than so many MB above an empty one."""
        assert self.peak_mb() < EMPTY_ENGINE_MB + added_mb, f"{self.peak_mb():.0f} MB"
