"""A book, driven with the messages of a log, and the rows that stand in one."""

from __future__ import annotations

import json

from cdc.lsn import Lsn
from cdc.messages import Insert, Value
from cdc.relations import Relation
from engine.book import Book
from engine.cut import Cut
from engine.effects import Effect, Execute
from engine.instance import Live
from engine.machine import outstanding
from engine.visibility import Visibility
from sql.publication import PUBLISHED
from tests.engine.machinery import Json

ALICE, BOB = 16_385, 16_386
NEXT_XID = 1_000


class Log:
    """A log, and the book that reads it. Each call of `transaction` is one."""

    def __init__(self, *, stored: int = 0, admission: int = 10_000) -> None:
        self.effects: list[tuple[int, Effect]] = []
        self.book = Book(
            visibility=Visibility(NEXT_XID),
            dispatch=lambda live, effect: self.effects.append((live.key, effect)),
            stored=Lsn(stored),
            admission=admission,
        )
        self.book.on_arrived = self._arrived
        self.position = 100
        self.xid = NEXT_XID
        self.at_us = 1_700_000_000_000_000
        self._relations = {name: relation(name, oid) for oid, name in enumerate(PUBLISHED, 1)}
        self._ids = 0

    def _arrived(self, live: Live) -> None:
        for effect in outstanding(live.subject, live.state):
            self.book.dispatch(live, effect)

    def transaction(self, *rows: tuple[str, dict[str, Value]]) -> Lsn:
        self.begin()
        for table, values in rows:
            self.insert(table, values)
        return self.commit()

    def begin(self) -> None:
        self.position += 100
        self.xid += 1
        self.at_us += 1_000_000
        self.book.begin(self.xid, self.at_us, Lsn(self.position))

    def insert(self, table: str, values: dict[str, Value]) -> None:
        of = self._relations[f"df.{table}"]
        self._ids += 1
        given: dict[str, Value] = {"event_id": f"e{self._ids}", **values}
        self.book.insert(Insert(of, tuple(given.get(column) for column in of.columns)))

    def commit(self) -> Lsn:
        end = Lsn(self.position + 50)
        self.book.commit(end)
        return end

    # --- what came of it ------------------------------------------------------------------------------------------

    def live(self, key: int = 1) -> Live:
        return self.book.instances[key]

    def asked(self, key: int = 1) -> list[str]:
        return [effect.query for k, effect in self.effects if k == key and isinstance(effect, Execute)]

    def checkpoint(self, now_us: int = 0) -> Cut:
        cut = self.book.collect(now_us)
        self.book.stored(cut)
        return cut


def relation(name: str, oid: int) -> Relation:
    return Relation(oid=oid, schema="df", name=name.removeprefix("df."), columns=tuple(PUBLISHED[name]))


Row = tuple[str, dict[str, Value]]


def start(graph: Json | str = "select 1", key: int = 1, id_: str = "w1", owner: int = ALICE, **more: Value) -> Row:
    text = graph if isinstance(graph, str) else json.dumps(graph)
    return "instances", {"key": str(key), "submitter": str(owner), "id": id_, "graph": text, **more}


def signal(
    name: str = "s", data: Value = "{}", *, key: int | None = 1, id_: str = "w1", owner: int = ALICE, **more: Value
) -> Row:
    return "signals", {**command(key, id_, owner), "name": name, "data": data, **more}


def cancel(reason: str = "why", *, key: int | None = 1, id_: str = "w1", owner: int = ALICE) -> Row:
    return "cancellations", {**command(key, id_, owner), "reason": reason}


def release(*, key: int | None = 1, owner: int = ALICE) -> Row:
    return "releases", {**command(key, "w1", owner), "reason": "repaired"}


def wait_for(awaited: int, waiter: int, step: str) -> Row:
    return "waits", {"instance_key": str(awaited), "waiter_key": str(waiter), "waiter_step": step}


def command(key: int | None, id_: str, owner: int) -> dict[str, Value]:
    return {"owner": str(owner), "instance_id": id_, "instance_key": None if key is None else str(key)}


def done(step: str = "1", result: Value = '{"rows":[]}', *, key: int = 1, run_as: int = ALICE, **more: Value) -> Row:
    values: dict[str, Value] = {
        "run_as": str(run_as), "instance_key": str(key), "step": step, "attempt": "1", "written_by": str(run_as),
        "outcome": "completed", "result": result, **more,
    }  # fmt: skip
    return "completions", values
