"""Processor time of the fold: microseconds per folded step, and per checkpointed instance, without any server.

Run: python -m bench.fold
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from cdc.lsn import Lsn
from cdc.messages import Insert
from cdc.relations import Relation
from engine.book import Book
from engine.effects import Effect, Execute
from engine.instance import Live
from engine.visibility import Visibility
from sql.publication import PUBLISHED

GRAPH = (
    '{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into t values (1)"},'
    '"right_node":{"node_type":"SQL","query":"insert into t values (2)"}},"right_node":'
    '{"node_type":"SQL","query":"insert into t values (3)"}}'
)
RESULT = '{"rows":[],"row_count":0,"affected":1}'
ROLE = "16385"


def relation(name: str, oid: int) -> Relation:
    return Relation(oid=oid, schema="df", name=name, columns=tuple(PUBLISHED[f"df.{name}"]))


INSTANCES = relation("instances", 1)
COMPLETIONS = relation("completions", 2)


def row(of: Relation, **values: str) -> Insert:
    return Insert(of, tuple(values.get(column) for column in of.columns))


class Log:
    """A log that answers every step with its completion."""

    def __init__(self) -> None:
        self.position = 100
        self.due: list[tuple[Live, Execute]] = []
        self.book = Book(visibility=Visibility(1000), dispatch=self._dispatch)

    def _dispatch(self, live: Live, effect: Effect) -> None:
        live.xids = ()
        if isinstance(effect, Execute):
            self.due.append((live, effect))

    def fold(self, messages: list[Insert]) -> None:
        for message in messages:
            self._transaction(message)

    def _transaction(self, message: Insert) -> None:
        self.position += 100
        self.book.begin(self.position & 0xFFFF_FFFF, 1_700_000_000_000_000 + self.position, Lsn(self.position))
        self.book.insert(message)
        self.book.commit(Lsn(self.position + 50))


def start(key: int) -> Insert:
    return row(INSTANCES, key=str(key), submitter=ROLE, id=f"w{key}", graph=GRAPH, event_id=str(uuid.uuid4()))


def completion(live: Live, effect: Execute) -> Insert:
    return row(
        COMPLETIONS,
        run_as=ROLE,
        instance_key=str(live.key),
        step=effect.step,
        attempt="1",
        written_by=ROLE,
        outcome="completed",
        cause=effect.cause,
        event_id=str(uuid.uuid4()),
        result=RESULT,
    )


def timed(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(count: int) -> dict[str, float]:
    """Seconds of processor time for `count` instances, by what was done."""
    log = Log()
    starts = [start(key) for key in range(1, count + 1)]
    seconds = {
        "start": timed(lambda: log.fold(starts)),
        "checkpoint of live": timed(lambda: log.book.stored(log.book.collect())),
        "step": 0.0,
    }
    while log.due:
        due, log.due = log.due, []
        messages = [completion(live, effect) for live, effect in due]
        seconds["step"] += timed(lambda rows=messages: log.fold(rows)) / 3  # type: ignore[misc]
    seconds["checkpoint of finished"] = timed(lambda: log.book.stored(log.book.collect()))
    return seconds


def main() -> None:
    count = 3000
    runs = [measure(count) for _ in range(5)]
    for name in runs[0]:
        print(f"{name:24} {min(run[name] for run in runs) / count * 1e6:8.1f} µs")


if __name__ == "__main__":
    main()
