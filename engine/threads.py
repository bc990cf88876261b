"""Threads for what blocks, all of which are started beforehand.

A thread for whose beginning there is no memory may die before it has said that it began, and whoever started it waits for that
for ever: the event loop, and with it a leader that neither leads nor ends. Python's own executors start theirs when they are
needed, and one more to shut down; so nothing here uses a loop's default executor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

COUNT: Final = 6
"""What waits for a thread is cancel requests, mostly: one round trip each."""


def start() -> None:
    """Start them, where memory is not short yet. Whoever does not finds them started at the first call."""
    _executor()


def in_thread(function: Callable[[*Ts], T], *arguments: *Ts) -> asyncio.Future[T]:
    """Call it in a thread; the running loop's future has what it returns or raises."""
    return asyncio.get_running_loop().run_in_executor(_executor(), function, *arguments)


@cache
def _executor() -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(COUNT, thread_name_prefix="walflow")
    together = threading.Barrier(COUNT)  # nobody is idle until all are there, so that each call starts one
    for _ in range(COUNT):
        executor.submit(together.wait)
    return executor
