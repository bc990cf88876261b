"""What the reading functions take beside a million finished instances of one role. Run: python -m bench reading."""

from __future__ import annotations

import statistics
import time

import psycopg
from psycopg.rows import TupleRow

from bench.rig import Figure, Rig
from tests.servers import ENGINE_ROLE, Database

INSTANCES = 1_000_000
ROUNDS = 9
WANTED = "≤ 20 ms"

# The owner writes past the guards, as a restore does. One in two thousand failed, one in three thousand was cancelled,
# twenty old ones run, and of these the engine keeps rows in df.progress.
FILL = """
    alter table df.instances disable trigger all;
    insert into df.instances
      (key, submitted_by, submitter, id, graph, label, status, result, error, created_at, started_at, finished_at, event_id)
    select n, 'alice'::regrole, 'alice'::regrole, 'done-' || n, g.graph,
           case when n %% 100000 = 7 then 'rare' when n %% 10 = 0 then 'nightly' end,
           s.status,
           case when s.status = 'completed' then '{"rows":[{"id":1}],"row_count":1}'::json end,
           case when s.status in ('failed', 'cancelled') then '{"message":"no","node":3,"step":"3","attempt":1}'::json end,
           t.at, t.at, case when s.status <> 'running' then t.at + interval '5 ms' end,
           gen_random_uuid()
      from generate_series(1, %(count)s) as n
     cross join lateral (select case when n %% 50000 = 11 then 'running' when n %% 2000 = 3 then 'failed'
                                     when n %% 3000 = 5 then 'cancelled' else 'completed' end as status) as s
     cross join lateral (select now() - interval '30 days' + n * interval '2 seconds' as at) as t
     cross join (select df.seq(df.seq('select 1', 'select 2'), 'select 3') as graph) as g;
    insert into df.completions (run_as, instance_key, step, attempt, written_by, outcome, result, started_at, recorded_at)
    select 'alice'::regrole, n, p.step, 1, 'alice'::regrole, 'completed', '{"rows":[{"id":1}],"row_count":1}', now(), now()
      from generate_series(1, %(count)s) as n
     cross join (values ('3'), ('4'), ('5')) as p(step);
    insert into df.progress (submitted_by, instance_key, nodes)
    select i.submitted_by, i.key, '[{"node":4,"step":"4","state":"running"}]' from df.instances i where i.status = 'running';
    select setval('df.instance_keys', %(count)s + 1);
    alter table df.instances enable always trigger "00_guard";
    alter table df.instances enable always trigger "01_key";
    alter table df.instances enable always trigger "02_validate";
"""

LISTED = {
    "list_instances()": "",
    "list_instances(limit_count => 1000)": "limit_count => 1000",
    "list_instances(after_cursor => the middle)": "after_cursor => %(cursor)s",
    "list_instances('completed')": "'completed'",
    "list_instances('failed')": "'failed'",
    "list_instances('cancelled', after_cursor => the middle)": "'cancelled', after_cursor => %(cursor)s",
    "list_instances('running'), twenty of them": "'running'",
    "list_instances('pending'), none": "'pending'",
    "list_instances(label_filter => 'nightly'), a tenth of all": "label_filter => 'nightly'",
    "list_instances(label_filter => 'rare'), ten of all": "label_filter => 'rare'",
    "list_instances('failed', label_filter => 'rare'), none": "'failed', label_filter => 'rare'",
}
ASKED = {
    **{name: f"select count(*) from df.list_instances({arguments})" for name, arguments in LISTED.items()},
    "instance_info": "select count(*) from df.instance_info('done-500000')",
    "instance_executions": "select count(*) from df.instance_executions('done-500000')",
    "instance_nodes": "select count(*) from df.instance_nodes('done-500000')",
    "nodes, of one instance": "select count(*) from df.nodes where instance_id = 'done-500000'",
    "history": "select count(*) from df.history('done-500000')",
    "explain, of an instance": "select df.explain('done-500000')",
    "status": "select df.status('done-500000')",
    "result": "select df.result('done-500000')",
}


def fill(database: Database, count: int = INSTANCES) -> None:
    """A million instances that are finished, and what belongs to them."""
    with database.connect(ENGINE_ROLE) as engine:
        for statement in FILL.split(";\n"):
            if statement.strip():
                text = statement % {"count": count} if "%(count)s" in statement else statement
                engine.execute(text.encode())
    with database.connect() as superuser:
        superuser.execute("vacuum analyze df.instances")
        superuser.execute("vacuum analyze df.completions")


def timed(connection: psycopg.Connection[TupleRow], query: str, cursor: str) -> float:
    """Milliseconds of a statement, the median of some rounds after a first."""
    seen = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        connection.execute(query.encode(), {"cursor": cursor})
        seen.append((time.perf_counter() - began) * 1000)
    return statistics.median(seen[1:])


def reading(rig: Rig) -> list[Figure]:
    """One figure a function, as an ordinary role."""
    database = rig.database
    rig.engine.terminate()  # it would read four million rows from the log meanwhile
    fill(database)
    middle = database.run(
        "select (extract(epoch from created_at) * 1000000)::bigint || ':' || id from df.instances where key = %s",
        [INSTANCES // 2],
    )
    with database.connect("alice") as alice:
        return [
            (f"`{name}` beside a million finished instances", WANTED, f"{timed(alice, query, middle[0][0]):.1f} ms")
            for name, query in ASKED.items()
        ]
