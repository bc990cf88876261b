"""Who gets a connection when there are no more, and who keeps his."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Set
from random import Random

import pytest

from engine.executors.driver import Done, OnLoss, ServerError, StepConnection
from engine.executors.pools import SWEEP_SECONDS, UNUSED_SECONDS, Pools
from tests.engine.logbook import ALICE, BOB
from tests.engine.test_steps_under_way import Connection

CAROL = 16_387


class Job:
    """Keeps its connection until it is told to give it back."""

    first = False
    after = None

    def __init__(self, pools: Pools, role: int, instance: int) -> None:
        self.pools, self.role, self.instance = pools, role, instance
        self.connection: StepConnection | None = None

    def run(self, connection: StepConnection) -> None:
        self.connection = connection

    def refuse(self, why: ServerError) -> None:
        raise AssertionError(why)

    def end(self) -> None:
        assert self.connection is not None
        self.connection.idle_since = asyncio.get_running_loop().time()
        self.pools.release(self.role, self.connection, keep=True)


class Agency:
    """Pools with room for some connections, where logins succeed at once."""

    def __init__(self, connections: int) -> None:
        self.opened: list[int] = []
        self.pools = Pools(self, connections=connections, per_role=2, on_lost=_raise, chance=Random(1))
        self._instances = 0

    async def connect(self, role: int, *, end_all: bool, end: Set[int], on_idle_loss: OnLoss) -> StepConnection:
        self.opened.append(role)
        return Connection(100 + len(self.opened))

    async def want(self, role: int) -> Job:
        self._instances += 1
        job = Job(self.pools, role, self._instances)
        self.pools.enqueue(role, job)
        for _ in range(20):
            await asyncio.sleep(0)
        return job


def _raise(error: BaseException) -> None:
    raise error


def work(scene: Callable[[Agency], Awaitable[None]], *, connections: int = 2) -> None:
    async def play() -> None:
        agency = Agency(connections)
        try:
            await scene(agency)
        finally:
            agency.pools.close()

    asyncio.run(play())


def test_a_role_keeps_its_connection_from_step_to_step_beside_one_that_has_as_many_and_wants_more() -> None:
    async def scene(agency: Agency) -> None:
        quiet = await agency.want(BOB)
        await agency.want(ALICE)
        waits = await agency.want(ALICE)
        quiet.end()
        assert (await agency.want(ALICE)).connection is None
        assert waits.connection is None
        assert (await agency.want(BOB)).connection is quiet.connection
        assert agency.opened == [BOB, ALICE]

    work(scene)


def test_what_a_role_has_not_used_for_a_while_is_anothers() -> None:
    async def scene(agency: Agency) -> None:
        quiet = await agency.want(BOB)
        await agency.want(ALICE)
        quiet.end()
        assert quiet.connection is not None
        quiet.connection.idle_since -= 2 * UNUSED_SECONDS
        assert (await agency.want(ALICE)).connection is not None
        assert agency.opened == [BOB, ALICE, ALICE]

    work(scene)


def test_what_becomes_unused_while_another_role_waits_is_given_to_that_role() -> None:
    async def scene(agency: Agency) -> None:
        quiet = await agency.want(BOB)
        await agency.want(ALICE)
        waits = await agency.want(ALICE)
        quiet.end()
        assert quiet.connection is not None
        quiet.connection.idle_since -= 2 * UNUSED_SECONDS
        await asyncio.sleep(1.5 * SWEEP_SECONDS)
        assert waits.connection is not None

    work(scene)


def test_a_role_that_has_none_takes_what_is_idle() -> None:
    async def scene(agency: Agency) -> None:
        (await agency.want(BOB)).end()
        await agency.want(ALICE)
        assert (await agency.want(CAROL)).connection is not None
        assert agency.opened == [BOB, ALICE, CAROL]

    work(scene)


def test_who_has_fewer_takes_what_one_who_has_more_used_just_now() -> None:
    async def scene(agency: Agency) -> None:
        busy = [await agency.want(ALICE) for _ in range(2)]
        await agency.want(BOB)
        busy[0].end()
        assert (await agency.want(BOB)).connection is not None
        assert agency.opened == [ALICE, ALICE, BOB, BOB]

    work(scene, connections=3)


def test_who_has_to_end_a_backend_takes_what_another_used_just_now() -> None:
    async def scene(agency: Agency) -> None:
        await agency.want(BOB)
        (await agency.want(ALICE)).end()
        agency.pools.suspect(BOB, 99)
        assert agency.pools.idle == 0
        assert agency.pools.opening == 1

    work(scene)


def test_a_role_that_has_none_gets_the_next_that_is_given_back_though_its_role_wants_more() -> None:
    async def scene(agency: Agency) -> None:
        busy = [await agency.want(ALICE) for _ in range(3)]
        waits = await agency.want(BOB)
        busy[0].end()
        for _ in range(20):
            await asyncio.sleep(0)
        assert waits.connection is not None
        assert busy[2].connection is None

    work(scene)


class Lost(Connection):
    """Ended by its server when it has just answered that it is ready."""

    def __init__(self, pid: int, on_idle_loss: OnLoss) -> None:
        super().__init__(pid)
        self._on_idle_loss = on_idle_loss

    def prepare(self, done: Done) -> None:
        super().prepare(done)
        self.closed = True
        self._on_idle_loss(self)


def test_a_connection_that_is_lost_the_moment_it_is_ready_is_given_to_nobody_and_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.executors.pools.FIRST_REST_SECONDS", 0.0)

    async def scene(agency: Agency) -> None:
        opened: list[Connection] = []

        async def connect(role: int, *, end_all: bool, end: Set[int], on_idle_loss: OnLoss) -> StepConnection:
            opened.append(Lost(1, on_idle_loss) if not opened else Connection(2))
            return opened[-1]

        monkeypatch.setattr(agency, "connect", connect)
        first = await agency.want(ALICE)
        assert first.connection is opened[1]
        assert (await agency.want(BOB)).connection is opened[2], "there is room for two"
        assert (await agency.want(CAROL)).connection is None, "and not for three"

    work(scene)
