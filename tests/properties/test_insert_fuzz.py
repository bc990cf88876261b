"""Graphs that were good and are not quite any more: each is taken by the INSERT and by the engine, or refused by both.

What is refused is refused with a path, or with the place where it stops being JSON; no other error, whatever the text is.
How many and which ones: mutations.py. Those that are taken live in test_fuzz_machine.py and test_fuzz_run.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
from psycopg.rows import TupleRow

from engine.graph import GraphError, Kind, parse_graph
from tests.properties.mutations import COUNT, REFUSED, SEED, good_graphs, mutants
from tests.servers import Cluster

BATCH: Final = 500
HTTP: Final = "HTTP steps are not available in this version of walflow"
INSERTS: Final = """
create function pg_temp.inserts(p_graphs text[]) returns text[] language plpgsql as $$
declare
  v_found text[] := '{}';
begin
  for v_n in 1 .. cardinality(p_graphs) loop
    begin
      insert into df.instances (graph) values (p_graphs[v_n]);
      raise exception 'taken' using errcode = 'ZZ001';
    exception
      when sqlstate 'ZZ001' then v_found[v_n] := '';
      when invalid_parameter_value then v_found[v_n] := sqlerrm;
      when others then v_found[v_n] := sqlstate || ': ' || sqlerrm;
    end;
  end loop;
  return v_found;
end $$
"""

# --- the comparison -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def connection(server: Cluster) -> Iterator[psycopg.Connection[TupleRow]]:
    """alice's, with a function that inserts many graphs and takes each back."""
    database = server.database()
    with database.connect("alice") as made:
        made.execute(INSERTS)
        yield made
    database.drop()


def of_the_engine(text: str) -> str:
    try:
        graph = parse_graph(text)
    except GraphError as error:
        return str(error)
    return HTTP if any(node.kind in (Kind.HTTP, Kind.HTTP_MULTIPART) for node in graph.nodes) else ""


@pytest.mark.timeout(120 + COUNT // 50)
def test_what_was_changed_is_taken_by_both_or_refused_by_both_with_a_path(
    connection: psycopg.Connection[TupleRow],
) -> None:
    graphs = good_graphs(connection)
    taken = 0
    for first in range(SEED, SEED + COUNT, BATCH):
        texts = [text for _, text in mutants(graphs, first, min(BATCH, SEED + COUNT - first))]
        found = connection.execute("select pg_temp.inserts(%s)", [texts]).fetchall()[0][0]
        for number, (text, verdict) in enumerate(zip(texts, found, strict=True)):
            told = f"WALFLOW_FUZZ=1 WALFLOW_FUZZ_SEED={first + number}: {text[:2_000]}"
            assert verdict == "" or REFUSED.match(verdict), (verdict, told)
            expected = of_the_engine(text)
            assert (verdict == "") == (expected == ""), (verdict, expected, told)
            taken += verdict == ""
    assert COUNT < 100 or COUNT / 20 < taken < COUNT * 0.9, taken  # enough of either kind


def test_the_graphs_that_are_changed_are_good_ones(connection: psycopg.Connection[TupleRow]) -> None:
    graphs = good_graphs(connection)
    found = connection.execute("select pg_temp.inserts(%s)", [graphs]).fetchall()[0][0]
    assert all(verdict == "" or verdict.endswith(HTTP) for verdict in found)
