"""What the functions of the schema do, as a model: `0006_step.sql` and `0007_engine.sql`, by the rules of DESIGN.md.

Each function is a statement for `Backend.execute`. test_conformance.py holds the model against the real ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from engine.codec import VERSION
from engine.cut import Cut
from engine.machine import ENGINE
from engine.store.rows import Begun, Cancelled, Child, Heartbeat, Record, Refusal, Waiting, Watched, Written
from tests.simulation.server import Backend, Row, ServerFailure, Wait, Work, lsn

FINAL = ("completed", "failed", "cancelled")
VISIBLE_SECONDS = 0.1
"""How long a statement waits for transactions to become visible."""
KEY_TAKEN = "one_key_one_outcome"


def require_epoch(b: Backend, epoch: int) -> None:
    """A stale engine cannot harm. By a snapshot: what is under way while another takes over may still be committed."""
    row = b.server.tables["epoch"].get(1, b.sees)
    assert row is not None
    if row["epoch"] != epoch:
        raise ServerFailure("DF001", f"epoch {epoch} does not lead any more")


def insert_completion(b: Backend, row: Row) -> Work:
    """One key, one outcome: whether it is this one. Waits for whoever holds the key."""
    key = (row["run_as"], row["key"], row["step"], row["attempt"])
    table = b.server.tables["completions"]
    while (holder := table.holder(key, b.transaction)) is not None:
        yield Wait(holder)
    if table.get(key, lambda t: t.committed or t is b.running) is not None:
        return False
    b.insert("df.completions", row)
    table.put(b.transaction, key, row)
    return True


def completion(
    run_as: int, key: int, step: str, outcome: str, cause: str | None, *, attempt: int = 1, result: str | None = None,
    error: str | None = None,
) -> Row:  # fmt: skip
    return {
        "run_as": run_as, "key": key, "step": step, "attempt": attempt, "outcome": outcome, "cause": cause, "result": result,
        "error": error,
    }  # fmt: skip


def answer(row: Row) -> str:
    """What whoever waits for an instance is told."""
    result = json.loads(row["result"]) if row["result"] is not None else None
    error = json.loads(row["error"]) if row["error"] is not None else None
    return json.dumps({"instance_id": row["id"], "status": row["status"], "result": result, "error": error})


# --- steps: a step's effects and its completion commit together -----------------------------------------------------------


def step(b: Backend, call: dict[str, Any], run: Any) -> Work:
    """`df.step`. `run` makes the effects and gives the result."""
    tables = b.server.tables
    row = tables["epoch"].get(1, b.sees)
    assert row is not None
    if row["epoch"] != call["epoch"]:
        return "fenced"
    until = b.server.loop.time() + VISIBLE_SECONDS
    while b.server.invisible(call["xids"]):
        if b.server.loop.time() >= until:
            return "invisible"
        yield 0.0005 if b.server.loop.time() + 0.01 > until else 0.01
    key = (b.role, call["key"], call["step"], call["attempt"])
    if call["look"] and tables["completions"].get(key, b.sees) is not None:
        return "exists"
    result = yield from run(b, call)
    row = completion(
        b.role, call["key"], call["step"], "completed", call["cause"], attempt=call["attempt"], result=result
    )
    if not (yield from insert_completion(b, row)):
        raise ServerFailure("23505", "duplicate key value violates unique constraint", KEY_TAKEN)
    return "ok"


# --- checkpoints ----------------------------------------------------------------------------------------------------------


def lock(b: Backend, table: str, key: Any) -> Work:
    """The row lock that an update takes; then the row as the last commit left it."""
    rows = b.server.tables[table]
    while (holder := rows.holder(key, b.transaction)) is not None:
        yield Wait(holder)
    return rows.get(key, lambda t: t.committed or t is b.running)


def write_checkpoint(b: Backend, epoch: int, cut: Cut, life: int = 0) -> Work:
    """All of it or nothing; nothing when another engine leads, or while rows of it are not visible. `life`: who wrote it."""
    tables = b.server.tables
    row = yield from lock(b, "checkpoint", 1)
    if row["epoch"] != epoch:
        raise ServerFailure("DF001", f"epoch {epoch} does not lead any more")
    backlog = row["backlog"] if cut.backlog is None else dict(cut.backlog)
    tables["checkpoint"].put(b.transaction, 1, {**row, "lsn": int(cut.lsn), "backlog": backlog})
    until = b.server.loop.time() + VISIBLE_SECONDS
    while (invisible := b.server.invisible(cut.xids)) and (cut.changes or cut.states or cut.backlog is not None):
        if b.server.loop.time() >= until:
            raise ServerFailure("DF002", "transactions are not visible yet")
        yield 0.01
    missing = 0
    for change in cut.changes:
        there = tables["instances"].get(change.key, b.sees)
        if there is None:
            missing += 1
            continue
        new = {
            **there, "status": change.status, "result": change.result, "error": change.error, "quarantined": change.quarantined,
            "started_us": there["started_us"] if there["started_us"] is not None else change.started_us,
            "finished_us": change.finished_us,
        }  # fmt: skip
        tables["instances"].put(b.transaction, change.key, new)
    for state_key, text, wake_us in cut.states:
        state = {"key": state_key, "state": text, "version": VERSION, "life": life, "wake_us": wake_us}
        tables["states"].put(b.transaction, state_key, state)
    for state_key in cut.dropped:
        tables["states"].put(b.transaction, state_key, None)
    missing += _mark(b, "signals", dict.fromkeys([*cut.marks.signal, *cut.marks.taken]))
    missing += _mark(b, "cancellations", cut.marks.cancellation)
    missing += _mark_waits(b, cut)
    yield from _answer_parents(b, cut)
    yield from _answer_waits(b, cut)
    _write_inbox(b, cut)
    if missing:
        if invisible:
            raise ServerFailure("DF002", f"{missing} rows are not visible yet")
        keys = {c.key for c in cut.changes} | {k for k, _, _ in cut.states}
        return Written(invisible, sorted(k for k in keys if tables["instances"].get(k, b.sees) is None))
    return Written(invisible, [])


def _write_inbox(b: Backend, cut: Cut) -> None:
    inbox = b.server.tables["inbox"]
    done = {place[0]: max(p[1:] for p in cut.inbox_done if p[0] == place[0]) for place in cut.inbox_done}
    for row in list(inbox.rows(b.sees)):
        if row["key"] in done and (row["lsn"], row["ordinal"]) <= done[row["key"]]:
            inbox.put(b.transaction, (row["key"], row["lsn"], row["ordinal"]), None)
    for key, at_us, held in cut.inbox:
        row = {
            "key": key, "lsn": held.lsn, "ordinal": held.ordinal, "kind": held.kind, "row_key": held.row_key, "at_us": at_us,
            "xid": held.xid,
        }  # fmt: skip
        if inbox.get((key, held.lsn, held.ordinal), b.sees) is None:
            inbox.put(b.transaction, (key, held.lsn, held.ordinal), row)


def _mark(b: Backend, table: str, marked: Iterable[tuple[str, int]]) -> int:
    """Sets `folded`; how many rows are missing."""
    missing = 0
    for event_id, _ in marked:
        row = b.server.tables[table].get(event_id, b.sees)
        if row is None:
            missing += 1
        else:
            b.server.tables[table].put(b.transaction, event_id, {**row, "folded": True})
    return missing


def _mark_waits(b: Backend, cut: Cut) -> int:
    missing, waits = 0, b.server.tables["waits"]
    for place in cut.marks.wait:
        row = waits.get(place, b.sees)
        if row is None:
            missing += 1
        else:
            waits.put(b.transaction, place, {**row, "folded": True})
    return missing


def _answer_parents(b: Backend, cut: Cut) -> Work:
    instances = b.server.tables["instances"]
    for key in cut.ended:
        row = instances.get(key, b.sees)
        if row is None or row["parent_key"] is None or row["status"] not in FINAL:
            continue
        parent = instances.get(row["parent_key"], b.sees)
        if parent is not None and parent["status"] not in FINAL:
            told = completion(
                ENGINE, row["parent_key"], row["parent_step"], "completed", row["cause"], result=answer(row)
            )
            yield from insert_completion(b, told)


def _answer_waits(b: Backend, cut: Cut) -> Work:
    instances = b.server.tables["instances"]
    marked = set(cut.marks.wait)
    for wait in list(b.server.tables["waits"].rows(b.sees)):
        if not (wait["instance_key"] in cut.ended or (wait["waiter_key"], wait["waiter_step"]) in marked):
            continue
        row, waiter = instances.get(wait["instance_key"], b.sees), instances.get(wait["waiter_key"], b.sees)
        if not wait["folded"] or row is None or waiter is None:
            continue
        if row["status"] in FINAL and waiter["status"] not in FINAL:
            told = completion(
                ENGINE, wait["waiter_key"], wait["waiter_step"], "completed", wait["cause"], result=answer(row)
            )
            yield from insert_completion(b, told)


# --- what the engine inserts ----------------------------------------------------------------------------------------------


def record_completions(b: Backend, epoch: int, records: Sequence[Record]) -> Work:
    """Timers are due by the database's clock; what was caused by what is not visible yet is skipped."""
    require_epoch(b, epoch)
    now_us = b.server.now_us()
    skipped, ready = [], []
    for place, record in enumerate(records):
        if b.server.invisible(record.xids) or (record.due_us is not None and now_us < record.due_us):
            skipped.append(place)
        else:
            ready.append(record)
    for r in sorted(ready, key=lambda r: (r.run_as, r.key, r.step, r.attempt)):
        row = completion(
            r.run_as, r.key, r.step, r.outcome, r.cause, attempt=r.attempt, result=_told(b, r), error=r.error
        )
        yield from insert_completion(b, row)
    return skipped


def _told(b: Backend, record: Record) -> str | None:
    """The timer of a wait for an instance tells what its status is."""
    wait = b.server.tables["waits"].get((record.key, record.step), b.sees) if record.due_us is not None else None
    row = b.server.tables["instances"].get(wait["instance_key"], b.sees) if wait is not None else None
    return record.result if row is None else json.dumps({"status": row["status"]})


def new_instance(b: Backend, **given: Any) -> Work:
    """The row, unless its id is taken."""
    names, name = b.server.tables["names"], (given["submitter"], given["id"])
    while (holder := names.holder(name, b.transaction)) is not None:
        yield Wait(holder)
    if names.get(name, lambda t: t.committed or t is b.running) is not None:
        return None
    row: Row = {
        "status": "pending", "result": None, "error": None, "quarantined": None, "started_us": None, "finished_us": None,
        "parent_key": None, "parent_step": None, "parent_id": None, "cause": None, "input": None, "vars": None, "label": None,
        **given, "key": b.server.next_key(),
    }  # fmt: skip
    b.insert("df.instances", row)
    b.server.tables["instances"].put(b.transaction, row["key"], row)
    names.put(b.transaction, name, {"key": row["key"]})
    return row


def named(b: Backend, submitter: int, id_: str) -> Row | None:
    """The instance of that id."""
    name = b.server.tables["names"].get((submitter, id_), b.sees)
    return None if name is None else b.server.tables["instances"].get(name["key"], b.sees)


def child_id(parent: int, step_key: str) -> str:
    return f"~{parent}/{step_key}"


def start_children(b: Backend, epoch: int, children: Sequence[Child]) -> Work:
    """Each under the id that its parent's step gives it, so that it starts once. A detached one answers at once."""
    require_epoch(b, epoch)
    skipped = []
    order = sorted(enumerate(children), key=lambda c: (c[1].key, c[1].step))
    for place, c in order:
        if b.server.invisible(c.xids):
            skipped.append(place)
            continue
        parent = b.server.tables["instances"].get(c.key, b.sees)
        if parent is None:
            continue
        row = yield from new_instance(
            b, id=child_id(c.key, c.step), submitter=parent["submitter"], graph=c.graph, label=c.label, input=c.input,
            vars=c.variables, parent_key=c.key, parent_step=c.step, parent_id=parent["id"], cause=c.cause,
        )  # fmt: skip
        if row is not None and c.detach:
            told = completion(ENGINE, c.key, c.step, "completed", c.cause, result=answer(row))
            yield from insert_completion(b, told)
    return Begun(skipped, [], [])


def cancel_children(b: Backend, epoch: int, cancelled: Sequence[Cancelled]) -> Work:
    """One that is not there yet is inserted cancelled, with its parent's answer; one that runs gets a cancellation."""
    require_epoch(b, epoch)
    skipped, ready = [], []
    instances = b.server.tables["instances"]
    for place, c in enumerate(cancelled):
        (skipped.append(place) if b.server.invisible(c.xids) else ready.append((place, c)))
    for place, c in sorted(ready, key=lambda p: (p[1].key, p[1].step)):
        parent = instances.get(c.key, b.sees)
        if parent is None:
            continue
        error = {"message": "Cancelled by its parent", "code": "cancelled", "node": 1, "step": "1", "attempt": 1}
        row = yield from new_instance(
            b, id=child_id(c.key, c.step), submitter=parent["submitter"], graph=c.graph, parent_key=c.key,
            parent_step=c.step, parent_id=parent["id"], cause=c.cause, status="cancelled", error=json.dumps(error),
            finished_us=b.server.now_us(),
        )  # fmt: skip
        if row is not None:
            told = completion(ENGINE, c.key, c.step, "completed", c.cause, result=answer(row))
            yield from insert_completion(b, told)
        there = named(b, parent["submitter"], child_id(c.key, c.step))
        if there is None:
            skipped.append(place)
        elif there["status"] not in FINAL:
            insert_command(b, "cancellations", there["submitter"], there["id"], there["key"], "Cancelled by its parent")
    return Begun(skipped, [], [])


def insert_command(
    b: Backend, table: str, owner: int, instance_id: str, key: int | None, text: str, name: str = ""
) -> None:
    row: Row = {
        "owner": owner, "instance_id": instance_id, "instance_key": key, "name": name, "text": text, "folded": False,
    }  # fmt: skip
    b.insert(f"df.{table}", row)
    b.server.tables[table].put(b.transaction, row["event_id"], row)


def begin_waits(b: Backend, epoch: int, waits: Sequence[Waiting]) -> Work:
    """The id is looked up among the submitter's own instances (the model has no rights of others)."""
    require_epoch(b, epoch)
    begun = Begun([], [], [])
    instances, table = b.server.tables["instances"], b.server.tables["waits"]
    for place, w in sorted(enumerate(waits), key=lambda p: (p[1].key, p[1].step)):
        if b.server.invisible(w.xids):
            begun.skipped.append(place)
            continue
        waiter = instances.get(w.key, b.sees)
        if waiter is None:
            continue
        awaited = named(b, waiter["submitter"], w.instance_id)
        if awaited is None:
            begun.missing.append(place)
        elif awaited["key"] == w.key:
            message = f"Instance {w.instance_id} cannot wait for itself"
            begun.refused.append(Refusal(place, message, "deadlock"))
        else:
            while (holder := table.holder((w.key, w.step), b.transaction)) is not None:
                yield Wait(holder)
            if table.get((w.key, w.step), lambda t: t.committed or t is b.running) is None:
                row: Row = {
                    "instance_key": awaited["key"], "owner": waiter["submitter"], "waiter_key": w.key, "waiter_step": w.step,
                    "cause": w.cause, "folded": False,
                }  # fmt: skip
                b.insert("df.waits", row)
                table.put(b.transaction, (w.key, w.step), row)
    return begun


def heartbeat(b: Backend, epoch: int, slot: str, settings: dict[str, str]) -> Work:
    require_epoch(b, epoch)
    b.insert("df.heartbeats", {"epoch": epoch})
    there = b.server.slots.get(slot)
    yield 0.0
    return Heartbeat(
        wal_end=lsn(b.server.lsn),
        restart_lsn=None if there is None else lsn(there.confirmed),
        wal_status=None if there is None else "reserved",
        settings=settings,
        now_us=b.server.now_us(),
    )


def take_over(b: Backend, scanning: bool) -> Work:
    """Whoever holds the slot bumps the epoch, in both places."""
    row = yield from lock(b, "checkpoint", 1)
    epoch = row["epoch"] + 1
    b.server.tables["checkpoint"].put(
        b.transaction, 1, {**row, "epoch": epoch, "scanning": row["scanning"] or scanning}
    )
    fencing = yield from lock(b, "epoch", 1)
    b.server.tables["epoch"].put(b.transaction, 1, {**fencing, "epoch": epoch})
    return epoch


def watch(b: Backend) -> Watched:
    """What the model does not know, it calls 0."""
    row = b.server.tables["epoch"].get(1, b.sees)
    assert row is not None
    return Watched(fenced=row["fenced"], oldest_pending_seconds=0.0, quarantined=0, publication_stamp="1")


def count_fenced(b: Backend) -> Work:
    row = yield from lock(b, "epoch", 1)
    b.server.tables["epoch"].put(b.transaction, 1, {**row, "fenced": row["fenced"] + 1})


def store_slot(b: Backend, epoch: int, system: str, slot: str) -> Work:
    row = yield from lock(b, "checkpoint", 1)
    if row["epoch"] == epoch:
        new = {**row, "system": system, "slot": slot, "generation": row["generation"] + 1, "scanning": False}
        b.server.tables["checkpoint"].put(b.transaction, 1, new)


def distrust_log(b: Backend, epoch: int) -> Work:
    row = yield from lock(b, "checkpoint", 1)
    if row["epoch"] == epoch:
        b.server.tables["checkpoint"].put(b.transaction, 1, {**row, "scanning": True})
