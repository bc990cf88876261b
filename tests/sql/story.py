"""An instance, and what the engine would have written of it: for tests of what readers are told."""

from __future__ import annotations

import json
from typing import Any

from psycopg.rows import dict_row

from tests.servers import ENGINE_ROLE, Database
from tests.sql.asking import Asking


class Story:
    """An instance of alice's and what the engine would have written of it."""

    def __init__(self, home: Database, id: str, graph: str, **given: str) -> None:
        self.home = home
        self.id = id
        with home.connect("alice") as connection:
            expression = f"select df.start({graph}, id => %s, label => %s)"
            connection.execute(expression.encode(), [id, given.get("label")])
        self.key = home.run("select key from df.instances where id = %s", [id])[0][0]

    def engine(self, query: str, *values: Any) -> None:
        with self.home.connect(ENGINE_ROLE) as connection:
            connection.execute(query.encode(), values)

    def is_(self, status: str, *, result: object = None, error: object = None) -> Story:
        self.engine(
            """
            update df.instances set status = %s, result = %s, error = %s, started_at = created_at, updated_at = now(),
                   finished_at = case when %s in ('completed', 'failed', 'cancelled') then now() end
             where key = %s
            """,
            status,
            None if result is None else json.dumps(result),
            None if error is None else json.dumps(error),
            status,
            self.key,
        )
        return self

    def did(self, step: str, outcome: str = "completed", *, value: object = 1, by: str = "alice", **more: Any) -> Story:
        """A SQL step's completion; by "engine": a timer's or a child's, with `result` as it is."""
        result = more.get("result", {"rows": [{"v": value}], "row_count": 1} if by == "alice" else None)
        self.engine(
            """
            insert into df.completions
              (run_as, written_by, instance_key, step, attempt, outcome, result, error, query, repetitions, note)
            values (case when %s = 'engine' then 0 else 'alice'::regrole end, df.me(), %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            by,
            self.key,
            step,
            more.get("attempt", 1),
            outcome,
            json.dumps(result) if outcome == "completed" and result is not None else None,
            json.dumps({"message": "no", "code": "XX000"}) if outcome == "failed" else None,
            more.get("query"),
            more.get("repetitions", 0),
            more.get("note"),
        )
        return self

    def shows(self, *frames: dict[str, object]) -> Story:
        self.engine(
            """
            insert into df.progress (submitted_by, instance_key, nodes) values ('alice', %s, %s)
                on conflict (submitted_by, instance_key) do update set nodes = excluded.nodes
            """,
            self.key,
            json.dumps(frames),
        )
        return self

    def nodes(self) -> dict[int, dict[str, Any]]:
        with self.home.connect("alice") as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return {row["node_id"]: row for row in cursor.execute("select * from df.instance_nodes(%s)", [self.id])}

    def inferred(self) -> list[str]:
        return [row["inferred_status"] for row in self.nodes().values()]

    def explained(self) -> str:
        return str(self.home.run("select df.explain(%s)", [self.id], role="alice")[0][0])

    def history(self) -> list[dict[str, Any]]:
        with self.home.connect("alice") as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return cursor.execute("select * from df.history(%s)", [self.id]).fetchall()


def listed(asking: Asking, arguments: str = "", *values: object) -> list[str]:
    return [row[0] for row in asking.rows(f"select instance_id from df.list_instances({arguments})", *values)]
