"""One huge transaction in the log: of starts, and of tables that are none of ours. The stream lives, and work goes on."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from tests.faults.harness import NOISE, fault, times, whole
from tests.servers import Database, EngineProcess, wait_until
from tests.workflows import World, world

STARTS = 1_000_000 if whole() else 15_000
OTHERS_MB = 1024 if whole() else 100
ROW_BYTES = 1000
OUTCOMES = """
select i.status, count(distinct i.key), count(c.instance_key)
  from df.instances i
  left join df.completions c on c.instance_key = i.key
 where i.id like 'huge-%'
 group by i.status
"""
SENDER_TIMEOUT_SECONDS = 20
"""wal_sender_timeout, as the engine sets it: a reader that is silent for so long loses its slot."""


@pytest.mark.timeout(3600)
def test_a_transaction_of_very_many_starts_is_folded_and_others_go_on(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault(f"{STARTS} starts in one INSERT", here) as seen:
        before = peak_mb(engine)
        here.run("create table public.ran (n int)", role="alice")
        seen.load.start()
        began = time.monotonic()
        here.run(
            "insert into df.instances (id, graph) select 'huge-' || i, 'select 1' from generate_series(1, %s) as i",
            [STARTS],
            role="alice",
        )
        committed = time.monotonic()
        assert here.outcome("select 1", role="bob", timeout=600).status == "completed"
        others = seen.took(time.monotonic() - committed)
        wait_until(lambda: left(here) == 0, timeout=3000, what="all have ended")
        took = time.monotonic() - committed
        print(
            f"{STARTS} starts: INSERT {committed - began:.1f} s; another role's start after it done in {others:.1f} s; "
            f"all done in {took:.1f} s; memory of the engine {before} MB before, {peak_mb(engine)} MB at most"
        )
        assert here.run(OUTCOMES) == [("completed", STARTS, STARTS)], "status, instances, their completions"
        assert one_stream(engine)
        here.run("delete from df.instances where id like 'huge-%%'")


@pytest.mark.timeout(1200)
def test_a_transaction_that_is_none_of_ours_keeps_nothing_waiting_for_long(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with (
        world(database, engine) as here,
        fault(f"{OTHERS_MB} MB of other tables' changes in one transaction", here) as seen,
    ):
        here.run("create table public.other (t text)")
        here.run("alter table public.other alter t set storage external")
        before = peak_mb(engine)
        for _ in range(times(1, 3)):
            seen.load.start()
            writing = threading.Thread(target=fill, args=(database,))
            writing.start()
            while writing.is_alive():
                seen.goes_on(timeout=60)
            writing.join()
            seen.goes_on(timeout=120)
        print(f"memory of the engine {before} MB before, {peak_mb(engine)} MB at most")
        assert peak_mb(engine) < before + 50
        assert one_stream(engine)
        assert seen.seconds[-1] < NOISE * SENDER_TIMEOUT_SECONDS


def fill(database: Database) -> None:
    rows = OTHERS_MB * 1024 * 1024 // ROW_BYTES
    database.run(
        "insert into public.other select repeat(chr(65 + i %% 26), %s) from generate_series(1, %s) as i",
        [ROW_BYTES, rows],
    )


def left(here: World) -> int:
    """How many have not ended. To count a million rows takes processors from what is waited for, so it is done at the end."""
    known = int(here.value("select completed_total from df.checkpoint"))
    if known < STARTS:
        return STARTS - known
    return int(here.value("select count(*) from df.instances where status in ('pending', 'running')"))


def one_stream(engine: EngineProcess) -> bool:
    """Whether it led all the time: a stream that was silent for too long would have been ended."""
    return engine.log().count('"leading"') == 1


def peak_mb(engine: EngineProcess) -> int:
    """The most memory that the engine's process has had, VmHWM."""
    status = Path(f"/proc/{engine.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024
