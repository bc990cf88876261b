"""An event loop whose time is a number: it jumps to the next timer, and never sleeps.

Whatever an engine does runs in a context that names its `Actor`; so an engine can be killed between any two of its actions
(nothing of it runs any more, not even clean-up) or frozen for a while.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

CALLBACKS_AT_ONCE: Final = 20_000
"""Rounds of callbacks at one moment: more are a circle."""
ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)


class Actor:
    """Something that can be killed or frozen. `actions`: how many of its callbacks have run; `dies_after`: so many, if ever.
    `life`: the number of its latest leadership; `scanning`: what it folds comes from the tables.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.host: Any = None
        self.engine: Any = None
        self.life = 0
        self.new_life: Callable[[], int] = lambda: 0
        self.scanning = False
        self.actions = 0
        self.dies_after: int | None = None
        self.on_death: Callable[[], None] = lambda: None
        self.dead = False
        self.frozen = False
        self.parked: list[asyncio.Handle] = []
        self.context = copy_context()
        self.context.run(ACTOR.set, self)


class _Task(asyncio.Task[Any]):
    """Sets of tasks are gone through in the order of their making, or a seed would not repeat."""

    def __init__(self, coroutine: Any, *, number: int, **keywords: Any) -> None:
        self._number = number
        super().__init__(coroutine, **keywords)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Drive it with `run`. The world around the engines schedules with `after`, outside of every actor's context."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._made = 0
        self._ready: Any
        self._scheduled: Any
        self._outside = Context()
        self.errors: list[BaseException] = []
        self.set_task_factory(self._task)
        self._tasks: dict[_Task, None] = {}
        """All that have not ended: what is collected would run its clean-up, which the dead do not."""
        self._actors_matter = True
        self.set_exception_handler(self._raised)

    def time(self) -> float:
        return self._now

    def _task(self, _loop: asyncio.AbstractEventLoop, coroutine: Any, **keywords: Any) -> _Task:
        self._made += 1
        task = _Task(coroutine, number=self._made, loop=self, **keywords)
        self._tasks[task] = None
        task.add_done_callback(self._forget, context=self._outside)
        return task

    def _forget(self, task: Any) -> None:
        self._tasks.pop(task, None)

    def _raised(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or AssertionError(context["message"]))

    def _write_to_self(self) -> None: ...

    def _process_events(self, event_list: Any) -> None: ...

    def after(self, seconds: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Calls back outside of every actor."""
        return self.call_at(self._now + seconds, callback, *args, context=self._outside)

    def run(self, until: Callable[[], bool], horizon: float) -> bool:
        """Whether `until` came true before the horizon and before nothing was left to do. It is asked when all is at rest."""
        asyncio._set_running_loop(self)
        limit = self._now, CALLBACKS_AT_ONCE
        try:
            while self._ready or not until():
                limit = (self._now, limit[1] - 1) if limit[0] == self._now else (self._now, CALLBACKS_AT_ONCE)
                if not limit[1]:
                    self.errors.append(AssertionError(f"nothing comes to rest: {list(self._ready)[:3]}"))
                    return False
                if not self._ready and not self._jump(horizon):
                    return False
                for _ in range(len(self._ready)):
                    self._step(self._ready.popleft())
            return True
        finally:
            asyncio._set_running_loop(None)

    def _jump(self, horizon: float) -> bool:
        """To the next timer; whether there is one."""
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled or scheduled[0]._when > horizon:
            return False
        self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        return True

    def _step(self, handle: Any) -> None:
        if handle._cancelled:
            return
        actor = handle._context.get(ACTOR)
        if actor is not None and self._actors_matter:
            if actor.dead or actor.frozen:
                actor.parked.append(handle)
                return
            actor.actions += 1
            if actor.actions == actor.dies_after:
                actor.on_death()
                actor.parked.append(handle)
                return
        handle._run()

    def freeze(self, actor: Actor) -> None:
        actor.frozen = True

    def thaw(self, actor: Actor) -> None:
        actor.frozen = False
        parked, actor.parked = actor.parked, []
        self._ready.extend(parked)

    def dispose(self, actors: Iterable[Actor]) -> None:
        """Ends all tasks, those of the dead too; what they still do is done to nobody."""
        self._actors_matter = False
        for actor in actors:
            self._ready.extend(actor.parked)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        self.run(lambda: all(task.done() for task in tasks), self._now + 60)
        self._ready.clear()
        self._scheduled.clear()
        self._tasks.clear()
        self.close()
