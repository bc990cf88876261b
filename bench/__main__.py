"""All figures of `bench/README.md`, in one run on one server. Run: make bench (or python -m bench [NAME …])."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.composition import composition
from bench.flood import busy_flood, flood
from bench.reading import reading
from bench.rig import CONNECTIONS, STEPS, Figure, Rig, rig
from bench.watching import metrics
from tests.servers import wait_until

STEP = """
\\set n :n + 1
select df.step(:run::bigint * 1000000000000 + :client_id::bigint * 1000000000 + :n, '1',
  'insert into t (x) values (1) returning id', true, :epoch, null, false, 'bench', null, null, 0, 1048576);
"""
BARE = """
\\set n :n + 1
select public.bare_step(:run::bigint * 1000000000000 + :client_id::bigint * 1000000000 + :n, '1',
  'insert into t (x) values (1) returning id');
"""
BARE_FUNCTION = """
create function public.bare_step(p_key bigint, p_step text, p_query text) returns text language plpgsql as $$
declare
  v_row record;
  v_rows text[];
begin
  for v_row in execute p_query loop
    v_rows := pg_catalog.array_append(v_rows, pg_catalog.row_to_json(v_row)::text);
  end loop;
  insert into df.completions (instance_key, step, attempt, outcome, result)
  values (p_key, p_step, 1, 'completed', pg_catalog.concat('{"rows":[', pg_catalog.array_to_string(v_rows, ','), ']}')::json);
  return 'ok';
end
$$
"""


def throughput(rig: Rig) -> list[Figure]:
    """Steps per second against pgbench running the very same statement, and what a workflow costs the server."""
    rounds = []
    for _ in range(3):
        bench = rig.pgbench(STEP, seconds=4)
        count = 3000
        lsn, xid = rig.run("select pg_current_wal_lsn(), pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0]
        seconds = rig.finish(count)
        wal = float(rig.value("select pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", [lsn])) / count
        xids = rig.value("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint") - xid
        rounds.append((count * STEPS / seconds, bench, xids / count, wal))
    steps, bench, commits, wal = (statistics.median(r[i] for r in rounds) for i in range(4))
    ratio = statistics.median(r[0] / r[1] for r in rounds)
    return [
        (
            f"exactly-once SQL steps/s ÷ pgbench, same statement, {CONNECTIONS} connections",
            "≥ 0.55",
            f"{ratio:.2f} ({steps:,.0f} ÷ {bench:,.0f})",
        ),
        ("write commits per 3-step workflow under load, beyond its start", "≤ 3.2", f"{commits:.2f}"),
        ("WAL bytes per 3-step workflow", "≤ 4.5 KB", f"{wal / 1000:.2f} KB"),
    ]


def wrapper(rig: Rig) -> list[Figure]:
    """Time of the wrapper beyond a bare loop and INSERT, one connection, without waiting for the disk; best of four."""
    rig.run(BARE_FUNCTION)
    rig.run("grant execute on function public.bare_step to alice")
    with _without_waiting_for_the_disk(rig):
        runs = [(_alone(rig, STEP), _alone(rig, BARE)) for _ in range(4)]
    full, bare = min(run[0] for run in runs), min(run[1] for run in runs)
    return [
        (
            "step wrapper beyond the bare statement and INSERT",
            "≤ 35 µs",
            f"{full - bare:.0f} µs, {(full - bare) / bare:.2f} of these",
        )
    ]


@contextmanager
def _without_waiting_for_the_disk(rig: Rig) -> Iterator[None]:
    rig.run("alter role alice set synchronous_commit = off")
    yield
    rig.run("alter role alice reset synchronous_commit")


def _alone(rig: Rig, script: str) -> float:
    """Microseconds a call, on one connection."""
    return 1e6 / rig.pgbench(script, seconds=3, connections=1)


def latency(rig: Rig) -> list[Figure]:
    """INSERT of a 3-step workflow until its status is committed, on an idle server."""
    seen = []
    query = "select df.start('insert into t (x) values (1)' ~> 'insert into t (x) values (2)' ~> 'insert into t (x) values (3)')"
    status = "select status = 'completed' from df.instances where submitted_by = 'alice'::regrole and id = %s"
    with rig.database.connect("alice") as alice, rig.database.connect() as observer:
        graph = alice.execute(query.replace("df.start", "")).fetchone()  # the expression alone: its text
        assert graph is not None
        for i in range(300):
            began = time.perf_counter()
            alice.execute("insert into df.instances (id, graph) values (%s, %s)", [f"latency-{i}", graph[0]])
            while not observer.execute(status, [f"latency-{i}"]).fetchone()[0]:  # type: ignore[index]
                time.sleep(0.0002)  # polling without rest would take one of two processors from the engine
            seen.append((time.perf_counter() - began) * 1000)
    seen = sorted(seen[50:])
    p50, p99 = statistics.median(seen), seen[int(len(seen) * 0.99)]
    with _without_waiting_for_the_disk(rig):
        step = min(_alone(rig, STEP) for _ in range(3)) / 1000
    return [
        (
            "3-step workflow, INSERT until its status is committed, idle server, p50 / p99",
            "≤ 3 / 10 ms",
            f"{p50:.1f} / {p99:.1f} ms, {p50 / step:.0f} / {p99 / step:.0f} steps of {1000 * step:.0f} µs in pgbench",
        )
    ]


def signal(rig: Rig) -> list[Figure]:
    """From the commit of a signal to the start of the step after the wait."""
    query = "select df.start(df.seq(df.wait_for_signal('go'), 'select 1'), id => %s)"
    started = """
        select extract(epoch from c.started_at)
          from df.completions c join df.instances i on i.key = c.instance_key
         where i.id = %s and c.step = '3'
    """
    seen = []
    with rig.database.connect("alice") as alice:
        for i in range(200):
            name = f"signal-{i}"
            alice.execute(query, [name])
            wait_until(lambda n=name: rig.run("select 1 from df.instances where id = %s and status = 'running'", [n]))  # type: ignore[misc]
            alice.execute("select df.signal(%s, 'go')", [name])
            committed = time.time()
            rows = wait_until(lambda n=name: rig.run(started, [n]))  # type: ignore[misc]
            seen.append((float(rows[0][0]) - committed) * 1000)
    return [("signal committed → next step started, p50", "≤ 3 ms", f"{statistics.median(seen):.1f} ms")]


def idle(rig: Rig) -> list[Figure]:
    """Transactions of an idle leader, counted by the server over a minute."""
    count = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
    rig.wait_finished(rig.finished())
    with rig.database.cluster.connect() as observer:
        time.sleep(10)  # what a new leader does once is done
        name = rig.database.name
        query = count.replace("current_database()", "%s")
        before = observer.execute(query, [name]).fetchone()
        time.sleep(60)
        after = observer.execute(query, [name]).fetchone()
    assert before is not None
    assert after is not None
    return [("statements per second of an idle leader", "≤ 0.2", f"{(after[0] - before[0]) / 60:.2f}")]


def memory(rig: Rig) -> list[Figure]:
    """Resident memory of ten thousand sleeping workflows."""
    before = _resident(rig)
    rig.run(
        """
        insert into df.instances (graph)
        select df.seq(df.seq('select 1', df.sleep(86400)), 'select 2') from generate_series(1, 10000)
        """,
        role="alice",
    )
    wait_until(lambda: sum(map(rig.engine.status().__getitem__, ("timers", "asleep"))) == 10000, 120, "all sleep")
    return [
        (
            "memory for 10,000 sleeping workflows, beyond the empty engine",
            "≤ 60 MB",
            f"{(_resident(rig) - before) / 1e6:.0f} MB",
        )
    ]


def _resident(rig: Rig) -> int:
    with open(f"/proc/{rig.engine.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


FIGURES: dict[str, Callable[[Rig], list[Figure]]] = {
    "throughput": throughput,
    "wrapper": wrapper,
    "latency": latency,
    "signal": signal,
    "idle": idle,
    "memory": memory,
    "composition": composition,
    "reading": reading,
    "flood": flood,
    "busy-flood": busy_flood,
    "metrics": metrics,
}


def main(names: list[str]) -> None:
    print("| figure | wanted | seen |\n|---|---|---|")
    for name in names or list(FIGURES):
        with rig() as made:
            for what, wanted, seen in FIGURES[name](made):
                print(f"| {what} | {wanted} | {seen} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
