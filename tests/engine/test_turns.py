"""Who is given a connection next: instances take turns, and what has begun goes before what has not."""

from __future__ import annotations

import time
from dataclasses import dataclass

from engine.executors.driver import ServerError, StepConnection
from engine.executors.pools import JOBS_A_TURN, Queue


@dataclass(eq=False)
class Wish:
    """A job that is told apart by its name."""

    instance: int
    name: str = ""
    first: bool = False
    after: int | None = None

    def run(self, connection: StepConnection) -> None:
        raise AssertionError(connection)

    def refuse(self, why: ServerError) -> None:
        raise AssertionError(why)


def names(queue: Queue) -> list[str]:
    taken = []
    while not queue.empty:
        job = queue.take()
        assert isinstance(job, Wish)
        taken.append(job.name)
    return taken


def test_an_instance_with_many_jobs_takes_turns_with_those_that_have_one() -> None:
    queue = Queue()
    many = [f"job {n}" for n in range(JOBS_A_TURN + 2)]
    for job in (*(Wish(1, name) for name in many), Wish(2, "other"), Wish(3, "third")):
        queue.append(job)
    assert names(queue) == [*many[:JOBS_A_TURN], "other", "third", *many[JOBS_A_TURN:]]


def test_one_in_four_goes_to_what_has_not_begun() -> None:
    queue = Queue()
    for n in range(6):
        queue.append(Wish(n, "begun"))
        queue.append(Wish(10 + n, "first", first=True))
    assert names(queue)[:8] == [*["begun"] * 3, "first", *["begun"] * 3, "first"]


def test_a_hundred_thousand_jobs_are_taken_back_at_once_not_one_by_one_through_all() -> None:
    queue = Queue()
    jobs = [Wish(1) for _ in range(100_000)]
    for job in jobs:
        queue.append(job)
    began = time.process_time()
    for job in reversed(jobs):
        queue.remove(job)
    assert queue.empty
    assert time.process_time() - began < 5, "searching a list for each takes minutes"
    queue.remove(jobs[0])
    assert len(queue) == 0


def test_clearing_gives_all_and_leaves_none() -> None:
    queue = Queue()
    jobs = [Wish(1), Wish(2, first=True), Wish(1)]
    for job in jobs:
        queue.append(job)
    assert set(queue.clear()) == set(jobs)
    assert queue.empty
