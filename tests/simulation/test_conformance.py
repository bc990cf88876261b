"""The model of the schema's functions gives the answers that the functions give: the same calls go to both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from random import Random
from typing import Any, Final

from engine.connect import connect
from engine.errors import WalflowError
from engine.store import Store
from engine.store.postgres import PostgresStore
from engine.store.rows import Cancelled, Child, Record, Waiting
from tests.servers import Database
from tests.simulation import rules
from tests.simulation.host import Host
from tests.simulation.loop import Actor, VirtualLoop
from tests.simulation.server import Backend, Server, Work

FAR_US: Final = 4_000_000_000_000_000
"""A due time in the next century."""


def record(**given: Any) -> Record:
    return Record(**{"run_as": 0, "key": 1, "step": "1", "outcome": "completed", "cause": None, **given})


def child(step: str, **given: Any) -> Child:
    parts: dict[str, Any] = {
        "label": None,
        "input": None,
        "variables": None,
        "detach": False,
        "cause": None,
        "xids": (),
    }
    return Child(key=1, step=step, graph='{"node_type":"SQL","query":"select 1"}', **{**parts, **given})


def cancelled(step: str) -> Cancelled:
    return Cancelled(key=1, step=step, graph='{"node_type":"SQL","query":"select 1"}', cause=None, xids=())


def waiting(step: str, instance_id: str) -> Waiting:
    return Waiting(key=1, step=step, instance_id=instance_id, cause=None, xids=(), since=0)


async def calls(store: Store, role: int) -> list[Any]:
    """What everything answers, errors by their names, and what stands in the tables afterwards."""
    epoch = await store.take_over(scanning=True)
    said: list[Any] = [epoch]

    async def say(answer: Awaitable[Any]) -> None:
        try:
            said.append(await answer)
        except WalflowError as error:
            said.append(type(error).__name__)

    await say(store.record_completions(epoch, [record(), record(step="2", due_us=FAR_US), record(step="3", due_us=1)]))
    await say(store.record_completions(epoch, [record(outcome="failed", error="{}"), record(run_as=role, attempt=2)]))
    await say(store.record_completions(epoch - 1, [record(step="4")]))
    await say(store.start_children(epoch, [child("5"), child("6", detach=True)]))
    await say(store.start_children(epoch, [child("5")]))
    await say(store.start_children(epoch - 1, [child("7")]))
    await say(store.cancel_children(epoch, [cancelled("5"), cancelled("8")]))
    await say(store.begin_waits(epoch, [waiting("9", "nobody"), waiting("10", "self"), waiting("11", "other")]))
    await say(store.begin_waits(epoch, [waiting("11", "other")]))
    for key in ((0, 1, "1", 1), (0, 1, "2", 1), (role, 1, "1", 2), (0, 1, "4", 1), (0, 1, "6", 1), (0, 1, "8", 1)):
        found = await store.completion(key)
        said.append((key[2], None if found is None else (found.row.outcome, _shape(found.row.result))))
    said.append(sorted((i.row.id, i.row.parent_key, i.status) for i in await store.instances(range(1, 9))))
    said.append([(w.instance_key, w.waiter_key, w.waiter_step) for w in await store.unfolded_waits()])
    taken = await store.take_over(scanning=False)
    said.append((taken, (await store.checkpoint()).scanning))
    await say(store.heartbeat(epoch, "none"))
    return said


def _shape(result: Any) -> Any:
    return None if result is None else json.loads(result).get("status")


def _no_steps() -> Work:
    raise AssertionError("nothing here runs a step")
    yield


def by_the_model(role: int) -> list[Any]:
    loop = VirtualLoop()
    server = Server(loop, Random(1))
    server.rough = False
    actor = Actor("engine")
    host = Host(server, actor, Random(1), lambda *_: _no_steps(), lambda *_: None, lambda _: None)

    def start(b: Backend) -> Work:
        for id_ in ("self", "other"):
            yield from rules.new_instance(b, id=id_, submitter=role, graph='{"node_type":"SQL","query":"select 1"}')

    async def run() -> list[Any]:
        store = await host.store("walflow-leader")
        await store.ask(start)
        return await calls(store, role)

    task = loop.create_task(run(), context=actor.context)
    loop.run(task.done, 100)
    said = task.result()
    loop.dispose([actor])
    return said


def test_the_model_answers_as_the_schema_does(database: Database) -> None:
    for id_ in ("self", "other"):
        database.run("insert into df.instances (id, graph) values (%s, 'select 1')", [id_], role="alice")
    ((role,),) = database.run("select 'alice'::regrole::oid::bigint")

    async def run() -> list[Any]:
        store = PostgresStore(await connect(database.engine_dsn, "walflow-leader"))
        try:
            return await calls(store, role)
        finally:
            await store.close()

    assert asyncio.run(run()) == by_the_model(int(role))
