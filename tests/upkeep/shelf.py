"""Instances as the engine leaves them, without an engine: what may be removed is decided by rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from tests.servers import Database, Row

EPOCH = 1
TABLES = ("signals", "cancellations", "releases", "waits", "completions", "progress", "states", "inbox", "instances")


@dataclass(slots=True)
class Look:
    """What a look found, and where the log and the transaction ids stood."""

    keys: list[int]
    after: int
    ended: bool
    seen: str
    xid: str
    backends: list[int]


@dataclass(slots=True)
class Removed:
    """The answer of a removal. `count` is None as long as the position is not confirmed."""

    count: int | None
    rest: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)


class Shelf:
    """A database with a slot and a checkpoint, whose rows a test writes by hand."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.connection: psycopg.Connection[TupleRow] = database.connect()
        self.run("select pg_create_logical_replication_slot(%s, 'pgoutput')", [database.slot])
        self.run("update df.checkpoint set epoch = %s, slot_name = %s", [EPOCH, database.slot])
        self.run("update df.epoch set epoch = %s", [EPOCH])

    def run(self, query: str, parameters: Any = None) -> list[Row]:
        cursor = self.connection.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, parameters: Any = None) -> Any:
        return self.run(query, parameters)[0][0]

    def start(self, id: str, graph: str = "select 1", *, role: str = "alice") -> int:
        """An instance that is just inserted; its key."""
        self.database.run("insert into df.instances (id, graph) values (%s, %s)", [id, graph], role)
        return int(self.value("select key from df.instances where id = %s and submitter = %s::regrole", [id, role]))

    def finish(self, key: int, days: float = 40, status: str = "completed") -> None:
        """As a checkpoint says that it ended, long ago."""
        self.run(
            """
            update df.instances
               set status = %s, recorded_at = now() - %s * interval '1 day', finished_at = now() - %s * interval '1 day'
             where key = %s
            """,
            [status, days, days, key],
        )

    def finished(self, id: str, *, days: float = 40, role: str = "alice") -> int:
        """An instance that ended, with a row of everything that it can leave; its key."""
        key = self.start(id, role=role)
        self.leave_rows(key, role)
        self.finish(key, days)
        return key

    def leave_rows(self, key: int, role: str = "alice") -> None:
        given = {"key": key, "role": role}
        for query in (
            "insert into df.signals (owner, instance_id, name) select submitter, id, 'go' from df.instances where key = %(key)s",
            "insert into df.cancellations (owner, instance_id) select submitter, id from df.instances where key = %(key)s",
            "insert into df.cancellations (owner, instance_id) select submitter, id from df.instances where key = %(key)s",
            "insert into df.releases (owner, instance_id) select submitter, id from df.instances where key = %(key)s",
        ):
            self._as_engine(query, given)
        for table in ("signals", "cancellations", "releases"):
            self.run(f"update df.{table} set folded = true where instance_key = %(key)s", given)
        self.run(
            "insert into df.completions (run_as, instance_key, step, attempt, outcome) "
            "values (%(role)s::regrole, %(key)s, '1', 1, 'completed'), (0, %(key)s, '2', 1, 'completed')",
            given,
        )
        self.run(
            "insert into df.inbox (instance_key, lsn, ordinal, kind, row_key, commit_time, xid) "
            "values (%(key)s, '0/1', 1, 'signal', '1', now(), '3')",
            given,
        )
        self.run("insert into df.progress values (%(role)s::regrole, %(key)s, '[]')", given)

    def _as_engine(self, query: str, given: dict[str, Any]) -> None:
        with self.database.connect("engine") as engine:
            engine.execute(query.encode(), given)

    def wait(self, awaited: int, waiter: int, *, step: str = "2", folded: bool = True) -> None:
        """A step of `waiter` waits for `awaited`."""
        self.run(
            "insert into df.waits (instance_key, owner, waiter_key, waiter_step, folded) "
            "values (%s, 'alice'::regrole, %s, %s, %s)",
            [awaited, waiter, step, folded],
        )

    def answer(self, key: int, step: str = "2") -> None:
        """The engine's completion of a step."""
        self.run(
            "insert into df.completions (run_as, instance_key, step, attempt, outcome) values (0, %s, %s, 1, 'completed')",
            [key, step],
        )

    # --- what upkeep does ---------------------------------------------------------------------------------------------

    def look(self, *, after: int = 0, looks: int = 1000, older_than: str = "30 days") -> Look:
        query = """
            select keys, after, ended, seen, xid::text, backends
              from df.find_finished(%s::interval, %s::bigint, %s::integer)
        """
        return Look(*self.run(query, [older_than, after, looks])[0])

    def confirm(self) -> None:
        """A checkpoint passes everything that is there by now, and the server hears of it."""
        self.run("update df.checkpoint set lsn = pg_current_wal_insert_lsn()")
        self.run("select pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", [self.database.slot])

    def remove(
        self,
        look: Look,
        *,
        keys: Sequence[int] | None = None,
        epoch: int = EPOCH,
        older_than: str = "30 days",
        known: Sequence[int] = (),
        rows: int = 1000,
    ) -> Removed:
        query = """
            select removed, rest, busy
              from df.remove_finished(
                %s::bigint, %s, %s::bigint[], %s::pg_lsn, %s::xid8, %s::interval, %s::integer[], %s::integer[], %s::integer)
        """
        slot, wanted = self.database.slot, list(look.keys if keys is None else keys)
        parameters = [epoch, slot, wanted, look.seen, look.xid, older_than, look.backends, list(known), rows]
        return Removed(*self.run(query, parameters)[0])

    def keep(self) -> int:
        """Look, confirm and remove; how many instances went."""
        look = self.look()
        self.confirm()
        removed = self.remove(look)
        assert removed.count is not None
        return removed.count

    def left(self, key: int) -> dict[str, int]:
        """How many rows of each table are an instance's, or point to it."""
        where = {
            "instances": "key = %(key)s",
            "waits": "instance_key = %(key)s or waiter_key = %(key)s",
        }
        found = {
            table: self.value(
                f"select count(*) from df.{table} where {where.get(table, 'instance_key = %(key)s')}", {"key": key}
            )
            for table in TABLES
        }
        return {table: count for table, count in found.items() if count}
