"""How large tables grow under a steady load, and how often an update stays on its page (HOT).

    python -m bench.upkeep [seconds] [workflows a second] [retention]
    python -m bench.upkeep latency

The second tells how long a workflow of three steps takes while nothing is removed, and while there is much to remove.

With autovacuum as the schema sets it. In the second half of the run the tables that are updated must not grow any more; the
longer the run and the shorter the retention, the more that says.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from bench.rig import CONNECTIONS, DURABLE
from tests.servers import Cluster, Database, EngineProcess, drop_slots, wait_until

SETTINGS: Final = {**DURABLE, "autovacuum": "on", "autovacuum_naptime": "5s"}
"""The naptime is a twelfth of the default, as a run is short."""
SECONDS: Final = 300
RATE: Final = 200
RETENTION: Final = "60s"
SAMPLES: Final = 500
BACKLOG: Final = 100_000
"""Finished instances."""
TABLES: Final = (
    "instances", "states", "checkpoint", "epoch", "progress", "heartbeats", "signals", "cancellations", "waits", "completions",
)  # fmt: skip
SCRIPT: Final = """
\\set kind random(1, 10)
\\if :kind <= 7
  insert into df.instances (graph) values (df.seq(df.seq('select 1', 'select 2'), 'select 3'));
\\elif :kind = 8
  with i as (insert into df.instances (graph) values (df.seq(df.wait_for_signal('go'), 'select 1')) returning id)
  insert into df.signals (instance_id, name) select id, 'go' from i;
\\elif :kind = 9
  insert into df.instances (graph) values (df.seq(df.seq('select 1', df.sleep(3)), 'select 2'));
\\else
  insert into df.instances (graph) values (df.seq(df.call_child('select 1'), df.join('select 2', df.sleep(1))));
\\endif
"""
_STATISTICS: Final = """
select relname, n_live_tup, n_dead_tup, n_tup_upd, n_tup_hot_upd, autovacuum_count,
       pg_table_size(relid), pg_indexes_size(relid)
  from pg_stat_user_tables
 where schemaname = 'df'
"""


class Size(NamedTuple):
    """What the server counts of one table."""

    name: str
    live: int
    dead: int
    updates: int
    hot: int
    vacuums: int
    table_bytes: int
    index_bytes: int

    @property
    def bytes(self) -> int:
        return self.table_bytes + self.index_bytes


def sizes(database: Database) -> dict[str, Size]:
    """Of all tables."""
    return {row[0]: Size(*row) for row in database.run(_STATISTICS)}


def load(database: Database, seconds: int, rate: int) -> float:
    """A steady load for so long; the workflows a second that it came to."""
    server = database.cluster.server
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(SCRIPT)
        file.flush()
        command = [
            str(server.bin_dir / "pgbench"),
            "-n",
            "-M",
            "simple",
            "-T",
            str(seconds),
            "-R",
            str(rate),
            "-f",
            file.name,
        ]
        command += ["-c", "4", "-j", "1", "-h", "127.0.0.1", "-p", str(server.port), "-U", "alice", database.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found is not None, done.stdout
    return float(found[1])


def report(title: str, before: dict[str, Size], after: dict[str, Size], workflows: float) -> None:
    """A line for each table. `before` is as of the middle of the run."""
    print(f"\n{title}\n")
    print(
        "| table | size, MB | growth in the second half | MB per 100,000 workflows | HOT | dead rows | live rows | vacuums |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in TABLES:
        was, now = before[name], after[name]
        updates = now.updates - was.updates
        hot = f"{100 * (now.hot - was.hot) / updates:.0f} % of {updates}" if updates else "-"
        print(
            f"| {name} | {now.bytes / 1e6:.1f} | {(now.bytes - was.bytes) / 1e6:+.1f} | {now.bytes / workflows * 0.1:.1f} "
            f"| {hot} | {now.dead} | {now.live} | {now.vacuums} |",
            flush=True,
        )


def run(database: Database, seconds: int, rate: int) -> None:
    half = seconds // 2
    began = time.monotonic()
    workflows = half * load(database, half, rate)
    middle = sizes(database)
    workflows += half * load(database, half, rate)
    after = sizes(database)
    ((removed,),) = database.run("select started_total - (select count(*) from df.instances) from df.checkpoint")
    report(
        f"{time.monotonic() - began:.0f} s, {workflows:.0f} workflows begun, {removed} instances removed",
        middle,
        after,
        workflows,
    )


def latency(engine: EngineProcess, database: Database) -> None:
    """Of single workflows, INSERT until the status is committed, alone and beside a removal."""
    print("| three steps, INSERT until the status is committed | p50 | p99 |\n|---|---|---|", flush=True)
    print("| nothing to remove | {:.1f} ms | {:.1f} ms |".format(*times(database)), flush=True)
    engine.terminate()
    leave_finished(database, BACKLOG)
    engine.start()
    wait_until(lambda: (engine.metric("walflow_removed_total", what="instance") or 0) > 0, 60)
    before, began = engine.metric("walflow_removed_total", what="instance") or 0, time.monotonic()
    p50, p99 = times(database)
    removed = (engine.metric("walflow_removed_total", what="instance") or 0) - before
    rate = removed / (time.monotonic() - began)
    print(f"| beside a removal of {rate:.0f} instances a second | {p50:.1f} ms | {p99:.1f} ms |", flush=True)


def times(database: Database) -> tuple[float, float]:
    """Median and 99th percentile of `SAMPLES`, milliseconds."""
    graph = "insert into df.instances (graph) values (df.seq(df.seq('select 1', 'select 2'), 'select 3')) returning id"
    status = "select status = 'completed' from df.instances where submitted_by = 'alice'::regrole and id = %s"
    seen = []
    with database.connect("alice") as alice, database.connect() as observer:
        for _ in range(SAMPLES):
            began = time.perf_counter()
            id = alice.execute(graph).fetchone()
            while observer.execute(status, id).fetchone() != (True,):
                time.sleep(0.001)
            seen.append((time.perf_counter() - began) * 1000)
    seen = sorted(seen[SAMPLES // 10 :])
    return statistics.median(seen), seen[int(len(seen) * 0.99)]


def leave_finished(database: Database, count: int) -> None:
    """Instances that ended long ago. No engine may run; the slot goes, since the log would start them."""
    with database.cluster.connect() as connection:
        drop_slots(connection, database.name)
    database.run("insert into df.instances (graph) select 'select 1' from generate_series(1, %s)", [count], "alice")
    database.run(
        "insert into df.completions (run_as, instance_key, step, attempt, outcome) "
        "select submitter, key, n::text, 1, 'completed' from df.instances cross join generate_series(1, 4) as n "
        "where status = 'pending'"
    )
    database.run(
        "update df.instances set status = 'completed', recorded_at = '2001-01-01', finished_at = '2001-01-01' "
        "where status = 'pending'"
    )


def main(arguments: list[str]) -> None:
    latencies = arguments == ["latency"]
    if latencies:
        arguments = ["0", "0", "1d"]
    seconds = int(arguments[0]) if arguments else SECONDS
    rate = int(arguments[1]) if len(arguments) > 1 else RATE
    retention = arguments[2] if len(arguments) > 2 else RETENTION
    cluster = Cluster(18, SETTINGS).start()
    try:
        database = cluster.database()
        with tempfile.TemporaryDirectory() as directory:
            engine = database.engine(
                Path(directory),
                step_connections=CONNECTIONS,
                step_connections_per_role=CONNECTIONS,
                log_level="info",
                retention=retention,
            ).start()
            try:
                if latencies:
                    latency(engine, database)
                else:
                    run(database, seconds, rate)
            finally:
                engine.terminate()
                database.drop()
    finally:
        cluster.close()


if __name__ == "__main__":
    main(sys.argv[1:])
