"""Steps between their dispatch and the row that ends them: what the executor does with connections that answer, fail and die."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from random import Random

from engine.effects import CancelStep, Execute
from engine.executors.driver import Answer, Done, OnLoss, ServerError, StepConnection
from engine.executors.pools import Pools
from engine.executors.sql import SqlExecutor
from engine.store.rows import Record
from metrics.collect import Metrics
from tests.engine.logbook import ALICE, Log, start

LOOK = 6
"""The wrapper's parameter that says whether the key is looked at first."""
CANCELLED = Answer(error=ServerError(sqlstate="57014", message="canceling statement due to user request"))
OK = Answer(rows=(("ok",),))
LOST = Answer(lost=True)


class Connection:
    """A step connection that keeps what it was called with, until the test answers."""

    spoilt = closed = False
    idle_since = 0.0

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.calls: list[Sequence[bytes | None]] = []
        self.done: Done | None = None

    def prepare(self, done: Done) -> None:
        done(self, Answer())

    def call(self, parameters: Sequence[bytes | None], done: Done) -> None:
        self.calls.append(parameters)
        self.done = done

    def call_checked(self, query: bytes, parameters: Sequence[bytes | None], done: Done) -> None:
        self.call(parameters, done)

    def execute(
        self, query: bytes, parameters: Sequence[bytes | None], done: Done, types: Sequence[int] | None = None
    ) -> None:
        raise AssertionError("nothing here runs on its own")

    def cancel(self) -> None:
        self.spoilt = True

    def look(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def answer(self, answer: Answer) -> None:
        assert self.done is not None
        self.done(self, answer)


class Office:
    """An executor with its pools, where logins succeed at once and what is recorded is kept."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.logins: list[tuple[bool, Set[int]]] = []
        self.recorded: list[Record] = []
        self.log = Log()
        self.log.transaction(start())
        pools = Pools(self, connections=4, per_role=4, on_lost=_raise, chance=Random(1))
        self.executor = SqlExecutor(
            pools=pools,
            recorder=self,  # type: ignore[arg-type]  # only `record` is asked of it
            epoch=1,
            result_bytes=lambda: 1000,
            proven=lambda _xids: None,
            on_fenced=_raise,
            metrics=Metrics(),
        )

    async def connect(self, role: int, *, end_all: bool, end: Set[int], on_idle_loss: OnLoss) -> StepConnection:
        self.logins.append((end_all, end))
        self.connections.append(Connection(100 + len(self.connections)))
        return self.connections[-1]

    def record(self, record: Record) -> None:
        self.recorded.append(record)

    def submit(self, step: str = "1", *, look: bool = False) -> None:
        self.executor.submit(self.log.live(), Execute(step, 1, "select 1", False, "cause"), (), look=look)

    def cancel(self, step: str = "1") -> None:
        self.executor.cancel(self.log.live(), CancelStep(step, "cause"), ())

    async def called(self, times: int) -> Connection:
        """The connection of the last call, once there were so many in all."""
        while sum(len(connection.calls) for connection in self.connections) < times:
            await asyncio.sleep(0.001)
        return next(connection for connection in reversed(self.connections) if connection.calls)


def _raise(error: BaseException) -> None:
    raise error


def work(scene: Callable[[Office], Awaitable[None]]) -> None:
    async def play() -> None:
        office = Office()
        try:
            async with asyncio.timeout(20):
                await scene(office)
        finally:
            office.executor.close()

    asyncio.run(play())


def test_no_answer_of_a_connection_ends_a_step_but_the_row_under_its_key() -> None:
    async def scene(office: Office) -> None:
        office.submit()
        (await office.called(1)).answer(OK)
        assert office.executor.is_under_way(1, "1", 1)
        office.executor.settled(1, "1", 1, "completed")
        assert not office.executor.is_under_way(1, "1", 1)

    work(scene)


def test_a_roles_first_connection_ends_all_that_an_earlier_engine_left_and_later_ones_do_not() -> None:
    async def scene(office: Office) -> None:
        office.submit("1")
        await office.called(1)
        office.submit("2")
        await office.called(2)
        assert office.logins == [(True, set()), (False, set())]

    work(scene)


def test_a_step_whose_connection_died_runs_again_after_that_backend_was_ended_and_looks_at_its_key_first() -> None:
    async def scene(office: Office) -> None:
        office.submit()
        died = await office.called(1)
        died.closed = True
        died.answer(LOST)
        again = await office.called(2)
        assert died.calls[0][LOOK] == b"f"
        assert again.calls[0][LOOK] == b"t"
        assert office.logins[1] == (False, {died.pid})
        assert office.recorded == [], "nobody knows yet how it ended"

    work(scene)


def test_a_step_that_an_earlier_engine_may_have_run_looks_at_its_key_first() -> None:
    async def scene(office: Office) -> None:
        office.submit(look=True)
        assert (await office.called(1)).calls[0][LOOK] == b"t"

    work(scene)


def test_what_the_server_says_to_our_own_cancel_is_no_failure() -> None:
    async def scene(office: Office) -> None:
        office.submit()
        connection = await office.called(1)
        office.cancel()
        connection.answer(CANCELLED)
        assert [(record.step, record.run_as, record.outcome) for record in office.recorded] == [
            ("1", ALICE, "cancelled")
        ]

    work(scene)


def test_a_connection_that_a_cancel_request_was_sent_on_runs_nothing_more_though_its_step_went_well() -> None:
    """The request may arrive during the next statement."""

    async def scene(office: Office) -> None:
        office.submit("1")
        connection = await office.called(1)
        office.cancel("1")
        connection.answer(OK)
        office.submit("2")
        assert (await office.called(2)) is not connection
        assert connection.closed

    work(scene)


def test_waiting_for_visibility_counts_toward_no_limit() -> None:
    async def scene(office: Office) -> None:
        office.submit()
        for times in range(1, 15):
            (await office.called(times)).answer(Answer(rows=(("invisible",),)))
        assert (await office.called(15)).calls[-1][10] == b"0", "no repetition is counted"
        assert office.recorded == []

    work(scene)
