"""An engine's steps: `engine.executors.login.Logins` and `driver.StepConnection` over a `Server`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Set
from typing import Any

from engine.errors import Lost, WalflowError
from engine.executors.driver import Answer, Done, OnLoss, ServerError, StepConnection
from tests.simulation import rules
from tests.simulation.clients import Client, noticed, query
from tests.simulation.server import Backend, ServerFailure, Work


class Logins:
    """`engine.executors.login.Logins`."""

    def __init__(self, host: Client) -> None:
        self._host = host

    async def connect(self, role: int, *, end_all: bool, end: Set[int], on_idle_loss: OnLoss) -> StepConnection:
        try:
            backend = await self._host.backend(role, "walflow")
        except Lost as error:
            raise WalflowError(str(error)) from error
        until = self._host.monotonic() + 10
        while others := self._others(backend, end_all, end):
            for other in others:
                other.terminate()
            if self._host.monotonic() > until:
                raise WalflowError("backends do not end")
            await asyncio.sleep(self._host.server.network_seconds())
        return Steps(self._host, backend, on_idle_loss)

    def _others(self, mine: Backend, end_all: bool, end: Set[int]) -> list[Backend]:
        """Those that are still there; one whose commit is in the log is there until others see that."""
        return [
            other
            for other in self._host.server.backends.values()
            if other is not mine
            and other.role == mine.role
            and other.name == "walflow"
            and (end_all or other.pid in end)
        ]


class Steps:
    """`engine.executors.driver.StepConnection`."""

    def __init__(self, host: Client, backend: Backend, on_idle_loss: OnLoss) -> None:
        self._host = host
        self._server = host.server
        self.backend = backend
        self._on_idle_loss = on_idle_loss
        self._done: Done | None = None
        self.pid = backend.pid
        self.closed = False
        self.spoilt = False
        self.idle_since = host.monotonic()
        backend.on_end = lambda: host.later(self._lose)
        if not backend.alive:  # somebody who takes over ended it while it ended others
            host.later(self._lose)
        host.connections.append(self)

    def call(self, parameters: Sequence[bytes | None], done: Done) -> None:
        call = {**_call(parameters), "life": self._host.actor.life}
        self._send(lambda b: rules.step(b, call, self._host.effects), done)

    def call_checked(self, query: bytes, parameters: Sequence[bytes | None], done: Done) -> None:
        self.call(parameters, done)

    def prepare(self, done: Done) -> None:
        self._send(query(lambda b: None), done)

    def execute(
        self, query: bytes, parameters: Sequence[bytes | None], done: Done, types: Sequence[int] | None = None
    ) -> None:
        raise AssertionError("no statement of the simulation runs on its own")

    def cancel(self) -> None:
        self.spoilt = True
        if self._done is not None and not self.closed:
            self._server.loop.after(self._server.network_seconds(), self.backend.cancel)
            self._host.later(self.cancel, seconds=1.0)

    def look(self) -> None: ...

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.backend.deaf = True
            self._server.loop.after(self._server.network_seconds(), noticed, self.backend)
            if self in self._host.connections:
                self._host.connections.remove(self)

    def _send(self, work: Callable[[Backend], Work], done: Done) -> None:
        assert self._done is None
        assert not self.closed
        self._done = done
        self._server.loop.after(self._server.network_seconds(), self._arrive, work)

    def _arrive(self, work: Callable[[Backend], Work]) -> None:
        if self._server.breaks():
            self.backend.terminate()
        elif self.backend.alive:
            self.backend.execute(work(self.backend), self._answered)

    def _answered(self, answer: Any, failure: ServerFailure | None) -> None:
        if self._server.breaks():
            self.backend.terminate()
        else:
            self._host.later(self._take, answer, failure)

    def _take(self, answer: Any, failure: ServerFailure | None) -> None:
        done, self._done = self._done, None
        if self.closed or done is None:
            return
        self.idle_since = self._host.monotonic()
        if failure is None:
            done(self, Answer(rows=((answer,),)))
        else:
            error = ServerError(
                sqlstate=failure.code, message=str(failure), constraint=failure.constraint, in_function=True
            )
            done(self, Answer(error=error))

    def _lose(self) -> None:
        if self.closed:
            return
        self.closed = True
        done, self._done = self._done, None
        if done is None:
            self._on_idle_loss(self)
        else:
            done(self, Answer(error=ServerError(sqlstate="08006", message="the connection was lost"), lost=True))


def _call(parameters: Sequence[bytes | None]) -> dict[str, Any]:
    """The wrapper's parameters by name."""
    key, step, text, _rows, epoch, xids, look, id_, _shown, cause, _repetitions, _limit, attempt = (
        None if value is None else value.decode() for value in parameters
    )
    assert key is not None
    assert attempt is not None
    return {
        "key": int(key), "step": step, "query": text, "epoch": int(epoch or 0),
        "xids": [int(x) for x in (xids or "{}").strip("{}").split(",") if x], "look": look == "t", "id": id_, "cause": cause,
        "attempt": int(attempt),
    }  # fmt: skip
