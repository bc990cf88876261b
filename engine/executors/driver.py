"""A step connection driven through libpq directly: one statement at a time, its answer by callback.

`AsyncConnection.execute` costs the caller three times as much processor time a step, most of what an engine spends (measured
in bench/). So the hot path sends the prepared wrapper itself and reads the socket from the event loop; whatever is not hot
(connecting) is done with psycopg before a `LibpqConnection` takes over.

The outcome is known when the server is ready again, not at the command's own completion: a deferred constraint fails after
the rows came. So results are collected until there are no more, and an error anywhere is the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from engine.errors import clip
from engine.limits import ERROR_DETAIL_CHARACTERS, ERROR_MESSAGE_CHARACTERS
from engine.threads import in_thread

WRAPPER: Final = b"walflow_step"
CANCEL_AGAIN_SECONDS: Final = 1.0
"""Before a cancel request is sent again: one that comes before its statement has begun is lost."""
PREPARE: Final = b"select df.step($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13)"

_FIELD = pq.DiagnosticField
_STATUS = pq.ExecStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerError:
    """An error of the server, in the server's words, clipped."""

    sqlstate: str
    message: str
    detail: str | None = None
    hint: str | None = None
    position: int | None = None
    constraint: str | None = None
    in_function: bool = False
    """Whether it arose inside the wrapper's call rather than in calling it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a statement ended. `rows`: its result as text columns by name; `lost`: the connection is gone, and so is the truth."""

    rows: tuple[tuple[str | None, ...], ...] = ()
    columns: tuple[str, ...] = ()
    types: tuple[int, ...] = ()
    affected: int | None = None
    error: ServerError | None = None
    lost: bool = False


Done = Callable[["StepConnection", Answer], None]


class StepConnection(Protocol):
    """An open connection of one role: one statement at a time, its answer by callback. Owned by the executor's pool."""

    pid: int
    closed: bool
    spoilt: bool
    """A cancel request was sent: it may arrive during a later statement, so there must be none."""
    idle_since: float

    def call(self, parameters: Sequence[bytes | None], done: Done) -> None:
        """Calls the wrapper."""

    def call_checked(self, query: bytes, parameters: Sequence[bytes | None], done: Done) -> None:
        """Calls the wrapper after a Parse of the statement, in the same round trip: several statements fail there."""

    def prepare(self, done: Done) -> None:
        """Makes the prepared wrapper (again)."""

    def execute(
        self, query: bytes, parameters: Sequence[bytes | None], done: Done, types: Sequence[int] | None = None
    ) -> None:
        """Runs one statement on its own, outside any transaction block. `types` are OIDs."""

    def cancel(self) -> None:
        """Asks the server to stop what runs, until it has. The connection is of no use afterwards."""

    def look(self) -> None:
        """Reads what is there; for whoever suspects that the event loop did not say so."""

    def close(self) -> None: ...


OnLoss = Callable[[StepConnection], None]
"""Told when a connection ends without work."""


class LibpqConnection:
    """The one that is a connection; `on_idle_loss` when it ends without work."""

    __slots__ = (
        "_affected", "_columns", "_connection", "_done", "_error", "_loop", "_on_idle_loss", "_pgconn", "_pipeline", "_rows",
        "_socket", "_types", "_writing", "closed", "idle_since", "pid", "spoilt",
    )  # fmt: skip

    def __init__(self, connection: psycopg.AsyncConnection[Any], on_idle_loss: OnLoss) -> None:
        self._connection = connection  # keeps it alive
        self._pgconn: PGconn = connection.pgconn
        self._pgconn.nonblocking = 1
        self._socket = self._pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._on_idle_loss = on_idle_loss
        self._done: Done | None = None
        self._pipeline = False
        self._writing = False
        self._clear()
        self.pid = self._pgconn.backend_pid
        self.closed = False
        self.spoilt = False
        self.idle_since = self._loop.time()
        self._loop.add_reader(self._socket, self._readable)

    def _clear(self) -> None:
        self._rows: tuple[tuple[str | None, ...], ...] = ()
        self._columns: tuple[str, ...] = ()
        self._types: tuple[int, ...] = ()
        self._affected: int | None = None
        self._error: ServerError | None = None

    # --- sending --------------------------------------------------------------------------------------------------

    def call(self, parameters: Sequence[bytes | None], done: Done) -> None:
        self._begin(done)
        self._send(lambda: self._pgconn.send_query_prepared(WRAPPER, parameters))

    def call_checked(self, query: bytes, parameters: Sequence[bytes | None], done: Done) -> None:
        self._begin(done)
        self._pipeline = True

        def send() -> None:
            self._pgconn.enter_pipeline_mode()
            self._pgconn.send_prepare(b"", query)
            self._pgconn.send_query_prepared(WRAPPER, parameters)
            self._pgconn.pipeline_sync()

        self._send(send)

    def prepare(self, done: Done) -> None:
        self._begin(done)
        self._send(lambda: self._pgconn.send_prepare(WRAPPER, PREPARE))

    def execute(
        self, query: bytes, parameters: Sequence[bytes | None], done: Done, types: Sequence[int] | None = None
    ) -> None:
        self._begin(done)
        self._send(lambda: self._pgconn.send_query_params(query, parameters, types))

    def cancel(self) -> None:
        self.spoilt = True
        if not self.closed and self._done is not None:
            in_thread(_cancel, self._pgconn.get_cancel())  # libpq's call blocks
            self._loop.call_later(CANCEL_AGAIN_SECONDS, self.cancel)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._socket)
            if self._writing:
                self._loop.remove_writer(self._socket)
            self._pgconn.finish()

    def _begin(self, done: Done) -> None:
        assert self._done is None
        assert not self.closed
        self._done = done
        self._clear()

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
            self._flush()
        except psycopg.Error as error:
            self._loop.call_soon(self._lose, error)

    def _flush(self) -> None:
        pending = self._pgconn.flush() == 1
        if pending and not self._writing:
            self._loop.add_writer(self._socket, self._writable)
        elif self._writing and not pending:
            self._loop.remove_writer(self._socket)
        self._writing = pending

    def _writable(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self._lose(error)

    # --- receiving ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        if not self.closed:
            self._readable()

    def _readable(self) -> None:
        waiting = self._done
        try:
            self._read()
            if self._done is waiting and not self.closed:
                # uvloop tells of a reset connection once: what came before the reset was read, the reset was not
                self._read()
        except psycopg.Error as error:
            self._lose(error)
            return
        if not self.closed and self._pgconn.status == pq.ConnStatus.BAD:
            # libpq has closed the socket, which will never be readable again; in a pipeline no sync comes either
            self._lose(None)

    def _read(self) -> None:
        pgconn = self._pgconn
        pgconn.consume_input()
        while self._done is not None and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if not self._pipeline:
                    self._finish()
                    break
            elif result.status == _STATUS.PIPELINE_SYNC:
                pgconn.exit_pipeline_mode()
                self._pipeline = False
                self._finish()
                break
            else:
                self._take(result)

    def _take(self, result: PGresult) -> None:
        status = result.status
        if status == _STATUS.TUPLES_OK:
            self._types = tuple(result.ftype(c) for c in range(result.nfields))
            self._columns = tuple(_text(result.fname(c)) or "" for c in range(result.nfields))
            self._rows = tuple(
                tuple(_text(result.get_value(r, c)) for c in range(result.nfields)) for r in range(result.ntuples)
            )
        elif status == _STATUS.COMMAND_OK:
            self._affected = result.command_tuples
        elif status == _STATUS.FATAL_ERROR and self._error is None:
            self._error = _server_error(result)
        elif status in (_STATUS.COPY_IN, _STATUS.COPY_OUT, _STATUS.COPY_BOTH):
            self._error = ServerError(sqlstate="0A000", message="COPY to or from the client cannot be a step")
            self._loop.call_soon(self._lose, None)

    def _finish(self) -> None:
        done, self._done = self._done, None
        lost = self._pgconn.status == pq.ConnStatus.BAD
        if lost:
            self.close()
        self.idle_since = self._loop.time()
        if done is not None:
            done(self, Answer(self._rows, self._columns, self._types, self._affected, self._error, lost))

    def _lose(self, error: psycopg.Error | None) -> None:
        if self.closed:
            return
        self.close()
        done, self._done = self._done, None
        if done is None:
            self._on_idle_loss(self)
            return
        why = "the connection was lost" if error is None else str(error)
        reason = self._error or ServerError(sqlstate="08006", message=clip(why, ERROR_MESSAGE_CHARACTERS))
        done(self, Answer(error=reason, lost=True))


def _cancel(request: pq.abc.PGcancel) -> None:
    try:
        request.cancel()
    except psycopg.Error:
        # the connection is closed with its answer in any case, and the key is taken by an insert
        return


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _server_error(result: PGresult) -> ServerError:
    def field(which: pq.DiagnosticField, limit: int) -> str | None:
        value = result.error_field(which)
        return None if value is None else clip(value[: 4 * limit].decode("utf-8", "replace"), limit)

    position = field(_FIELD.STATEMENT_POSITION, 20) or field(_FIELD.INTERNAL_POSITION, 20)
    return ServerError(
        sqlstate=field(_FIELD.SQLSTATE, 5) or "XX000",
        message=field(_FIELD.MESSAGE_PRIMARY, ERROR_MESSAGE_CHARACTERS) or "the server gave no message",
        detail=field(_FIELD.MESSAGE_DETAIL, ERROR_DETAIL_CHARACTERS),
        hint=field(_FIELD.MESSAGE_HINT, ERROR_DETAIL_CHARACTERS),
        position=int(position) if position and position.isdigit() else None,
        constraint=field(_FIELD.CONSTRAINT_NAME, 63),
        in_function=result.error_field(_FIELD.CONTEXT) is not None,
    )
