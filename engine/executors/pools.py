"""Connections of submitting roles: bounded in all and per role, fair between roles, opened when wanted, closed when idle.

Theory of operation. A *job* waits in its role's queue for a connection, is run on it, and gives it back with `release`. A role's
first connection ends the role's other backends that a walflow opened in this database, and waits until they are gone, before
any other is opened: from then on whatever an earlier engine had in flight has either committed or never will. The same is
done for one backend whose connection died under a job (`suspect`): the job waits until that backend is seen gone.

A connection that cannot be had is no step's failure as long as the role has others, or the server is full. Else it is tried for
a while, and then the role's jobs are refused. The engine's own connection being gone is neither: `on_lost` ends the leadership.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from engine.errors import LeadershipLost, WalflowError
from engine.executors.driver import Answer, ServerError, StepConnection
from engine.executors.login import LoginRefused, Logins, NoRoom
from engine.limits import TRANSIENT_REPETITIONS

FIRST_REST_SECONDS: Final = 0.05
LONGEST_REST_SECONDS: Final = 5.0
"""Backoff of repetitions: doubled each time, with jitter."""
IDLE_SECONDS: Final = 60.0
"""After that an idle connection is closed."""
SWEEP_SECONDS: Final = 1.0
UNUSED_SECONDS: Final = 1.0
"""So long a role keeps its connection between two of its steps, though roles that have more could use it."""
LONGEST_COUNT_WITH_OTHERS: Final = 5
"""Failures to connect that count towards the backoff while the role has other connections, or the server is full: it tries
about once a second."""
NO_RIGHT: Final = ("42501", "42883", "3F000")
"""What making the wrapper says to a role that df was taken from."""
JOBS_A_TURN: Final = 8
"""Of one instance: the branches of a race that is won soon must not wait until each other race has a connection."""
FIRST_JOBS_EVERY: Final = 4
"""Of so many connections that a role's queue is given, one goes to an instance that has not begun."""
GRANT: Final = "select df.grant_usage(role) gives a role what it needs"


class Job(Protocol):
    """What wants a connection. `first`: nothing of its instance ran yet. `after`: a backend that must be gone before."""

    @property
    def instance(self) -> int: ...

    @property
    def first(self) -> bool: ...

    @property
    def after(self) -> int | None: ...

    def run(self, connection: StepConnection) -> None:
        """Use the connection, then `Pools.release` it."""

    def refuse(self, why: ServerError) -> None:
        """There will be no connection."""


class _Turns:
    """Jobs of instances that take turns, each instance's in order. Everything at once, however many there are."""

    __slots__ = ("_count", "_jobs", "_taken")

    def __init__(self) -> None:
        self._jobs: OrderedDict[int, OrderedDict[Job, None]] = OrderedDict()
        self._count = 0
        self._taken = 0
        """In the turn of the first."""

    def __len__(self) -> int:
        return self._count

    def append(self, job: Job) -> None:
        jobs = self._jobs.get(job.instance)
        if jobs is None:
            jobs = self._jobs[job.instance] = OrderedDict()
        jobs[job] = None
        self._count += 1

    def take(self) -> Job:
        instance, jobs = next(iter(self._jobs.items()))
        job, _ = jobs.popitem(last=False)
        self._count -= 1
        self._taken += 1
        if not jobs:
            self._taken = 0
            del self._jobs[instance]
        elif self._taken >= JOBS_A_TURN:
            self._taken = 0
            self._jobs.move_to_end(instance)
        return job

    def remove(self, job: Job) -> None:
        jobs = self._jobs.get(job.instance)
        if jobs is not None and job in jobs:
            del jobs[job]
            self._count -= 1
            if not jobs:
                if next(iter(self._jobs)) == job.instance:
                    self._taken = 0
                del self._jobs[job.instance]

    def clear(self) -> list[Job]:
        return [self.take() for _ in range(self._count)]


class Queue:
    """Jobs in order, but instances take turns, and what has begun goes before what has not, three times in four.

    So instances in flight are few and short, whatever waits behind them: latency, memory and the states that checkpoints
    write follow from their number. And what has not begun is not starved by loops that never end, nor by a map of thousands.
    """

    __slots__ = ("_begun", "_first", "_turn")

    def __init__(self) -> None:
        self._begun = _Turns()
        self._first = _Turns()
        self._turn = 0

    def __len__(self) -> int:
        return len(self._begun) + len(self._first)

    @property
    def empty(self) -> bool:
        return not self._begun and not self._first

    def append(self, job: Job) -> None:
        (self._first if job.first else self._begun).append(job)

    def take(self) -> Job:
        self._turn = (self._turn + 1) % FIRST_JOBS_EVERY
        if self._first and (not self._begun or self._turn == 0):
            return self._first.take()
        return self._begun.take()

    def remove(self, job: Job) -> None:
        """Takes a job out, if it is there."""
        (self._first if job.first else self._begun).remove(job)

    def clear(self) -> list[Job]:
        """Takes all out."""
        return [*self._begun.clear(), *self._first.clear()]


@dataclass(slots=True, eq=False)
class Pool:
    """The connections of one role. `ended`: its backends from before are gone; `suspects`: these are not known to be."""

    role: int
    queue: Queue = field(default_factory=Queue)
    idle: list[StepConnection] = field(default_factory=list)
    busy: int = 0
    opening: int = 0
    ended: bool = False
    end_wanted: bool = False
    suspects: set[int] = field(default_factory=set)
    after_suspects: list[Job] = field(default_factory=list)
    failures: int = 0
    resting: bool = False

    @property
    def size(self) -> int:
        return len(self.idle) + self.busy + self.opening


class Pools:
    """All of them. `chance` is where jitter comes from."""

    def __init__(
        self,
        logins: Logins,
        *,
        connections: int,
        per_role: int,
        on_lost: Callable[[LeadershipLost], None],
        chance: Random,
    ) -> None:
        self._logins = logins
        self._chance = chance
        self._on_lost = on_lost
        self._connections = connections
        self._per_role = min(per_role, connections)
        self._pools: dict[int, Pool] = {}
        self._size = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    @property
    def busy(self) -> int:
        return sum(pool.busy for pool in self._pools.values())

    @property
    def opening(self) -> int:
        return sum(pool.opening for pool in self._pools.values())

    @property
    def idle(self) -> int:
        return sum(len(pool.idle) for pool in self._pools.values())

    def idle_backends(self) -> list[int]:
        """Process ids of the backends that have answered all that they were given."""
        return [connection.pid for pool in self._pools.values() for connection in pool.idle]

    @property
    def roles(self) -> int:
        return sum(1 for pool in self._pools.values() if pool.size)

    # --- jobs -------------------------------------------------------------------------------------------------------

    def enqueue(self, role: int, job: Job) -> None:
        """The job runs when its turn comes, a connection is there, and the backend it comes after is gone."""
        pool = self._pool(role)
        if job.after in pool.suspects:
            pool.after_suspects.append(job)
        else:
            pool.queue.append(job)
        self._pump(pool)

    def suspect(self, role: int, pid: int) -> None:
        """The backend `pid` may still be at work: it is ended by the next connection that is opened, and one is opened."""
        pool = self._pool(role)
        pool.suspects.add(pid)
        self._pump(pool)

    def end_earlier(self, role: int) -> None:
        """Sees to it that nothing of the role is in flight that an earlier engine began, though nothing waits to run."""
        pool = self._pool(role)
        if not pool.ended:
            pool.end_wanted = True
            self._pump(pool)

    def withdraw(self, role: int, job: Job) -> None:
        """The job does not want a connection any more."""
        pool = self._pool(role)
        pool.queue.remove(job)
        if job in pool.after_suspects:
            pool.after_suspects.remove(job)

    def release(self, role: int, connection: StepConnection, *, keep: bool) -> None:
        """The job is done with its connection. Without `keep` it is closed."""
        pool = self._pool(role)
        pool.busy -= 1
        useless = connection.closed or connection.spoilt or self._closed
        if keep and not (useless or self._others_starve(pool) or self._suspects_starve(pool)):
            pool.idle.append(connection)
            self._pump(pool)
            return
        connection.close()
        self._size -= 1
        for other in self._starving_first(pool):
            self._pump(other)

    def stop(self) -> None:
        """Nothing more is run."""
        self._closed = True

    def close(self) -> None:
        """Closes what is idle and gives up what is being opened; busy ones are their jobs' to close."""
        self._closed = True
        self._sweeper.cancel()
        for task in self._tasks:
            task.cancel()
        for pool in self._pools.values():
            for connection in pool.idle:
                connection.close()
            pool.idle.clear()

    # --- connections ------------------------------------------------------------------------------------------------

    def _pool(self, role: int) -> Pool:
        pool = self._pools.get(role)
        if pool is None:
            pool = self._pools[role] = Pool(role)
        return pool

    def _others_starve(self, pool: Pool) -> bool:
        if self._size < self._connections:
            return False
        return any(other.queue and not other.size for other in self._pools.values() if other is not pool)

    def _suspects_starve(self, pool: Pool) -> bool:
        """Whether a backend waits to be ended and there is no room for the connection that would end it."""
        return bool(pool.suspects) and not pool.opening and not pool.resting and pool.size >= self._per_role

    def _starving_first(self, pool: Pool) -> list[Pool]:
        return [*(other for other in self._pools.values() if other is not pool and not other.size), pool]

    def _pump(self, pool: Pool) -> None:
        """Gives queued jobs the idle connections, and opens more within the limits."""
        if self._closed:
            return
        while pool.idle and not pool.queue.empty:
            pool.busy += 1
            pool.queue.take().run(pool.idle.pop())
        if pool.resting or (pool.queue.empty and not pool.suspects and not pool.end_wanted):
            return
        if pool.idle and self._suspects_starve(pool):
            pool.idle.pop(0).close()
            self._size -= 1
        # until a role's first connection has ended what ran before, there must be no second
        wanted = len(pool.queue) if pool.ended and not pool.suspects else 1
        while pool.opening < wanted and pool.size < self._per_role and self._make_room(pool):
            pool.opening += 1
            self._size += 1
            task = self._loop.create_task(self._open(pool))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _make_room(self, pool: Pool) -> bool:
        """Whether one more connection may be opened; another role's idle one is closed for it.

        A role that has none takes any, and whoever has fewer takes from those that have more, or who has to end a backend. Else a
        role keeps what it used just now: one whose workflows come one by one would log in anew for each step, beside a flood.
        """
        if self._size < self._connections:
            return True
        before = self._loop.time() - UNUSED_SECONDS
        for other in self._pools.values():
            if other is not pool and other.idle and _may_take(pool, other, before):
                other.idle.pop(0).close()
                self._size -= 1
                return True
        return False

    async def _open(self, pool: Pool) -> None:
        suspects = frozenset(pool.suspects)
        try:
            connection = await self._logins.connect(
                pool.role,
                end_all=not pool.ended,
                end=suspects,
                on_idle_loss=lambda lost: self._lost_idle(pool, lost),
            )
            await self._prepare(connection)
        except LoginRefused as error:
            self._not_opened(pool)
            self._refuse_all(pool, ServerError(sqlstate=error.sqlstate, message=str(error), hint=error.hint))
        except LeadershipLost as error:
            self._not_opened(pool)
            self._on_lost(error)
        except NoRoom as error:
            self._not_opened(pool)
            self._rest(pool, ServerError(sqlstate="53300", message=str(error)), for_ever=True)
        except Exception as error:
            self._not_opened(pool)
            self._rest(pool, ServerError(sqlstate="08001", message=f"connecting as the submitter failed: {error}"))
        except BaseException:
            self._not_opened(pool)
            raise
        else:
            pool.opening -= 1
            pool.failures = 0
            pool.ended = True
            pool.end_wanted = False
            self._cleared(pool, suspects)
            pool.idle.append(connection)
            self._pump(pool)
            if self._closed:  # while it was being opened
                connection.close()

    async def _prepare(self, connection: StepConnection) -> None:
        prepared: asyncio.Future[Answer] = self._loop.create_future()
        connection.prepare(lambda _, answer: prepared.set_result(answer))
        try:
            error = (await prepared).error
        except asyncio.CancelledError:
            connection.close()
            raise
        if error is not None:
            connection.close()
            if error.sqlstate in NO_RIGHT:
                raise LoginRefused(f"the submitter cannot run steps: {error.message}", error.sqlstate, GRANT)
            raise WalflowError(error.message)
        if connection.closed:  # between its answer and now
            raise WalflowError("the connection was lost")

    def _cleared(self, pool: Pool, suspects: frozenset[int]) -> None:
        pool.suspects -= suspects
        waiting, pool.after_suspects = pool.after_suspects, []
        for job in waiting:
            if job.after in pool.suspects:
                pool.after_suspects.append(job)
            else:
                pool.queue.append(job)

    def _not_opened(self, pool: Pool) -> None:
        pool.opening -= 1
        self._size -= 1

    def _lost_idle(self, pool: Pool, connection: StepConnection) -> None:
        if connection in pool.idle:  # else it is being opened, and whoever opens it sees that it is closed
            pool.idle.remove(connection)
            self._size -= 1

    def _rest(self, pool: Pool, why: ServerError, *, for_ever: bool = False) -> None:
        """No connection to be had: later again, and after as many times as a step is repeated its jobs are refused.

        Several that were tried at once are one try. While the role has other connections, its jobs wait for those; when the
        server is full, for as long as it takes.
        """
        if pool.resting:
            return
        pool.failures += 1
        if pool.busy or pool.idle or for_ever:
            pool.failures = min(pool.failures, LONGEST_COUNT_WITH_OTHERS)
        if pool.failures > TRANSIENT_REPETITIONS:
            pool.failures = 0
            self._refuse_all(pool, why)
            return
        pool.resting = True
        self._loop.call_later(self.rest_seconds(pool.failures), self._rested, pool)

    def _rested(self, pool: Pool) -> None:
        pool.resting = False
        self._pump(pool)

    def _refuse_all(self, pool: Pool, why: ServerError) -> None:
        jobs = [*pool.queue.clear(), *pool.after_suspects]
        pool.after_suspects = []
        pool.end_wanted = False
        for job in jobs:
            job.refuse(why)

    def _sweep(self) -> None:
        """Closes what has been idle for long, and gives to others what a role does not miss any more."""
        before = self._loop.time() - IDLE_SECONDS
        for pool in self._pools.values():
            for connection in [c for c in pool.idle if c.idle_since < before]:
                pool.idle.remove(connection)
                connection.close()
                self._size -= 1
        for pool in self._pools.values():
            self._pump(pool)
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def rest_seconds(self, repetition: int) -> float:
        """Exponential backoff with jitter: between half of the step and all of it."""
        whole = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2 ** (repetition - 1))
        return float(whole * self._chance.uniform(0.5, 1.0))


def _may_take(pool: Pool, other: Pool, before: float) -> bool:
    return bool(pool.suspects) or other.size > pool.size or other.idle[0].idle_since < before
