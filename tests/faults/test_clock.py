"""The clock of the engine's host is set, back and forth: the database's clock decides when a timer fires."""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path
from typing import Final

import pytest

from tests.faults.harness import fault, times
from tests.servers import Database, EngineProcess, wait_until
from tests.workflows import World, world

LIBRARY: Final = Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH")) / "faketime/libfaketimeMT.so.1"
pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="apt-get install faketime")

HOUR: Final = 3600
DUE: Final = """
select i.id, extract(epoch from c.recorded_at - i.recorded_at)::float8 - 1.5
  from df.completions c join df.instances i on i.key = c.instance_key
 where i.id like 'nap.%%' and c.step = '1'
"""
LATE_SECONDS: Final = 1.0
"""After a timer was due; machines that run tests do other things as well."""


class Clock:
    """The wall clock of an engine's process; the clock that only counts stays as it is, as when an administrator sets a clock."""

    def __init__(self, engine: EngineProcess, directory: Path) -> None:
        self._file = directory / "clock"
        self.set(0)
        engine.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """So many seconds off the true time, from within a second on."""
        self._file.write_text(f"{seconds:+d}")


def shown_seconds(engine: EngineProcess) -> float:
    """How far the clock of an engine is off, by the last line of its log."""
    text = str(engine.events()[-1]["time"])
    return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(time.gmtime())


@pytest.mark.timeout(1800)
def test_an_engines_clock_that_is_set_an_hour_back_and_forth_fires_no_timer_early_and_none_late(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path)
    clock = Clock(engine, tmp_path)
    engine.start()
    with world(database, engine) as here, fault("the engine's clock is set by an hour", here) as seen:
        for number in range(times(4, 40)):
            seen.load.start()
            nap(here, f"before.{number}")
            clock.set(0 if number % 4 == 3 else (-HOUR, HOUR, -HOUR // 2)[number % 3])
            nap(here, f"after.{number}")
            seen.load.start()
            seen.goes_on()
            seen.load.check()
        lateness = {id: late for id, late in here.run(DUE)}
        assert len(lateness) == 2 * times(4, 40)
        assert min(lateness.values()) >= 0, lateness
        assert max(lateness.values()) < LATE_SECONDS, lateness


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_an_engine_whose_clock_is_wrong_from_the_start_fires_timers_in_time(
    database: Database, tmp_path: Path, seconds: int
) -> None:
    engine = database.engine(tmp_path)
    Clock(engine, tmp_path).set(seconds)
    engine.start()
    assert abs(shown_seconds(engine) - seconds) < HOUR / 4
    with world(database, engine) as here:
        nap(here, "wrong")
        wait_until(lambda: here.run(DUE))
        [(_, late)] = here.run(DUE)
        assert 0 <= late < LATE_SECONDS


def nap(here: World, name: str) -> None:
    """A timer of one and a half seconds."""
    here.start(here.build("select df.sleep(interval '1.5 seconds')"), id=f"nap.{name}")
