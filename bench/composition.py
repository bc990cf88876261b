"""Building graphs and starting from them: what the database does before any engine sees a row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from bench.rig import Figure, Rig

Connection = psycopg.Connection[TupleRow]

CHAIN = " ~> ".join(f"'select {number}'" for number in range(1_000))
BULK_ROWS = 100_000


def composition(rig: Rig) -> list[Figure]:
    """Builders, validation and bulk starts, each the best of three but for the last."""
    with rig.database.connect("alice") as alice:
        chain = _text(alice, f"select {CHAIN}")
        sequence = _text(alice, _all("seq_all", 5_000))
        join = _text(alice, _all("join_all", 9_999))
        return [
            ("1,000 steps composed with ~>", "≤ 300 ms", _best(lambda: _text(alice, f"select {CHAIN}"))),
            ("the same validated and started", "≤ 300 ms", _best(lambda: _start(alice, chain))),
            ("9,999 nodes of seq_all validated", "≤ 3,000 ms", _best(lambda: _validate(alice, sequence))),
            ("10,000 nodes of join_all validated", "≤ 3,000 ms", _best(lambda: _validate(alice, join))),
            (f"{BULK_ROWS:,} rows with one graph in one INSERT", "≤ 5,000 ms", _best(lambda: _bulk(alice), times=1)),
        ]


def _all(builder: LiteralString, nodes: int) -> str:
    return f"select df.{builder}(variadic array(select 'select ' || n from generate_series(1, {nodes}) as n))"


def _text(connection: Connection, query: str) -> str:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


def _start(connection: Connection, graph: str) -> None:
    connection.execute("insert into df.instances (graph) values (%s)", [graph])


def _validate(connection: Connection, graph: str) -> None:
    connection.execute("select df.validate_graph(%s)", [graph])


def _bulk(connection: Connection) -> None:
    """Rolled back: the engine is not what is measured."""
    with connection.transaction(force_rollback=True):
        connection.execute(
            "insert into df.instances (graph) select df.seq('select 1', 'select 2') from generate_series(1, %s)",
            [BULK_ROWS],
        )


def _best(work: Callable[[], object], times: int = 3) -> str:
    seen = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seen.append(time.perf_counter() - began)
    return f"{min(seen) * 1000:,.0f} ms"
