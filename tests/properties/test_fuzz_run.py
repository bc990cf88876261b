"""Mutated graphs that the INSERT takes run on a real server under a real engine, and each comes to an end.

An ordinary role inserts them in batches. Some get their signals in the transaction of the INSERT, the others when they are
seen to wait; what still runs after a while is cancelled. No instance is quarantined, and the engine neither stumbles nor
says that it did. An undo is not stopped by a cancellation: what waits in one may be left when all others have ended.
How many graphs and which ones: mutations.py.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Final

import pytest

from engine.graph import Graph, Signal, parse_graph
from engine.specs import MAX_SIGNAL_NAME_BYTES, has_reference
from tests.properties.mutations import COUNT, REFUSED, SEED, TABLES, good_graphs, mutants
from tests.servers import Cluster, wait_until
from tests.workflows import ENDS, World, world

BATCH: Final = 500
PATIENCE_SECONDS: Final = 1.0
"""Until what still runs is cancelled."""
ITERATIONS: Final = 30
"""Of a loop: nothing else ends one in an undo."""
DATA: Final = ("{}", "null", '"\\ud800"', "1e400", '[{"rows":[{"n":1}]}]', "[" * 1_000 + "]" * 1_000)

INSERT: Final = """
create function pg_temp.inserted(p_graphs text[], p_inputs jsonb[]) returns text[] language plpgsql as $$
declare
  v_found text[];
  v_one   text;
begin
  for v_n in 1 .. cardinality(p_graphs) loop
    begin
      insert into df.instances (graph, input) values (p_graphs[v_n], p_inputs[v_n]) returning key into v_one;
    exception
      when invalid_parameter_value then v_one := sqlerrm;
    end;
    v_found[v_n] := v_one;
  end loop;
  return v_found;
end $$
"""
SIGNAL: Final = (
    "insert into df.signals (instance_id, name, data) select id, %s, %s::json from df.instances where key = %s"
)
UNFINISHED: Final = "select key from df.instances where key > %s and not df.is_final(status)"
SIGNAL_WAITS: Final = """
insert into df.signals (instance_id, name, data)
select i.id, f.frame ->> 'signal', '{"n": 1}'
  from df.instances i
  join df.progress p on p.instance_key = i.key,
       json_array_elements(p.nodes) as f (frame)
 where i.key > %s and not df.is_final(i.status)
   and f.frame ->> 'state' = 'waiting' and f.frame ->> 'signal' is not null
   and octet_length(f.frame ->> 'signal') between 1 and 200
"""
CANCEL: Final = """
select df.cancel(i.id) from df.instances i
 where i.key > %s and not df.is_final(i.status)
   and not exists (select from df.cancellations c where c.instance_key = i.key)
"""
STILL: Final = """
select i.graph, array(select (f.frame ->> 'node')::int from json_array_elements(p.nodes) as f (frame)),
       exists (select from df.instances c where c.parent_key = i.key and not df.is_final(c.status))
  from df.instances i left join df.progress p on p.instance_key = i.key
 where i.key > %s and not df.is_final(i.status)
"""
READ: Final = """
select count(n.node_id), length(df.explain(i.id))
  from df.instances i, df.instance_nodes(i.id) as n
 where i.key > %s and i.key %% 10 = 0
 group by i.id
"""


@pytest.fixture(scope="module")
def here(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A database with an engine, and what the statements refer to."""
    database = server18.database()
    try:
        with database.connect() as connection:
            connection.execute("update df.settings set value = %s where name = 'loop_iterations'", [str(ITERATIONS)])
        engine = database.engine(tmp_path_factory.mktemp("engine"), log_level="info")
        with world(database, engine.start()) as made:
            made.run(TABLES, role="alice")
            made.run("select df.setvar('a', '0.5'), df.setvar('t', '2027-01-31')", role="alice")
            made.run(INSERT, role="alice")
            yield made
    finally:
        database.drop()


def names(graph: Graph) -> list[str]:
    """The signals that it waits for, as far as its text says."""
    found = {node.spec.name for node in graph.nodes if isinstance(node.spec, Signal)}
    return sorted(n for n in found if not has_reference(n) and len(n.encode()) <= MAX_SIGNAL_NAME_BYTES)


def insert(here: World, batch: list[tuple[int, str]]) -> int:
    """How many of a batch were stored; the others were refused with a path. Half of them have their signals at once."""
    chances = [Random(seed) for seed, _ in batch]
    texts = [text for _, text in batch]
    inputs = [chance.choice(("null", "[1, 2]", '{"rows": [{"n": 1}]}', '"x"')) for chance in chances]
    stored = 0
    with here.connection("alice").transaction():
        found = here.value("select pg_temp.inserted(%s, %s::text[]::jsonb[])", [texts, inputs], "alice")
        for chance, verdict, text in zip(chances, found, texts, strict=True):
            if not verdict.isdigit():
                assert REFUSED.match(verdict), (verdict, text)
                continue
            stored += 1
            for name in names(parse_graph(text)) if chance.random() < 0.5 else ():
                here.run(SIGNAL, [name, chance.choice(DATA), verdict], "alice")
    return stored


def lived(here: World, before: int) -> None:
    """Waits until the instances after this key have ended, or wait in an undo."""
    deadline = time.monotonic() + PATIENCE_SECONDS

    def signalled() -> bool:
        here.run(SIGNAL_WAITS, [before], "alice")
        return not here.run(UNFINISHED, [before], "alice")

    def cancelled() -> bool:
        here.run(CANCEL, [before], "alice")
        return signalled() or all(in_undo(*row) for row in here.run(STILL, [before]))

    wait_until(lambda: signalled() or time.monotonic() > deadline)
    wait_until(cancelled, 60)


def in_undo(text: str, nodes: list[int], waits_for_child: bool) -> bool:
    """Whether all that is open is part of an undo, or nothing is but a child's."""
    graph = parse_graph(text)
    return all(graph.node(number).undoing for number in nodes) if nodes else waits_for_child


@pytest.mark.timeout(120 + COUNT // 20)
def test_every_graph_that_is_stored_runs_to_an_end(here: World) -> None:
    graphs = good_graphs(here.connection("alice"))
    epoch = here.value("select epoch from df.epoch")
    began = time.monotonic()
    stored = 0
    for first in range(SEED, SEED + COUNT, BATCH):
        before = here.value("select coalesce(max(key), 0) from df.instances")
        batch = list(mutants(graphs, first, min(BATCH, SEED + COUNT - first)))
        stored += insert(here, batch)
        lived(here, before)
        assert here.value("select count(*) from df.instances where quarantined is not null") == 0, f"from seed {first}"
        assert here.engine.returncode is None
        assert here.run(READ, [before], "alice")
    seconds = time.monotonic() - began

    left = here.run(STILL, [0])
    ends: Counter[str] = Counter(dict(here.run("select status, count(*) from df.instances group by status")))
    children = here.value("select count(*) from df.instances where parent_id is not null")
    print(f"{COUNT} from {SEED}: {stored} stored, {children} children, {dict(ends)}, {seconds:.0f} s")  # told with -s
    assert [row for row in left if not in_undo(*row)] == []
    assert len(left) <= stored / 20
    assert COUNT < 1_000 or min(ends[end] for end in ENDS) > stored / 20
    assert here.value("select epoch from df.epoch") == epoch
    assert here.value("select count(*) from df.inbox") == 0
    assert "Traceback" not in here.engine.log()
    assert [event for event in here.engine.events() if event["level"] in ("error", "critical")] == []
