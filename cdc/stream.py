"""A started replication connection on an event loop.

Theory of operation. The socket's readability calls `_readable`, which takes frames out of libpq, turns them into
messages and hands each to `on_message`, all in one call stack: no task switch stands between a commit and its
reader. What bounds that work, and keeps it going:

- The socket is read only when libpq's buffer is empty, or that buffer would grow without limit.
- After `SLICE_SECONDS` the loop gets its turn; what is left is taken up by `call_soon`, since libpq's buffer makes no
  socket readable. Statuses therefore leave in time in the middle of a transaction of any size.
- A burst of frames is followed by a status, so that a walsender that missed a flush looks again (`LOOK_AGAIN_SECONDS`).
- Outgoing statuses are not queued behind each other: while one waits for the socket, later ones are merged into it.

A stream ends exactly once, in one of two ways: by `close()`, which is silent, or by anything else (the server, the
network, bytes that make no sense, an exception from `on_message`), which is reported to `on_end`, once. After
`on_end`, `close()` still ends the copy where that is possible, so that the slot is free within milliseconds.

While a stream runs nothing else may use the connection: psycopg's own waits would take the socket's callbacks away,
and cancelling one of them sends a cancel request that kills the stream.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from cdc.errors import StreamEnded
from cdc.limits import (
    CLOSE_TIMEOUT_SECONDS,
    CONFIRM_SPACING_SECONDS,
    LOOK_AGAIN_SECONDS,
    SLICE_SECONDS,
    UNANSWERED_STATUSES,
)
from cdc.lsn import Lsn
from cdc.messages import Begin, Commit, Insert, Keepalive
from cdc.progress import Progress
from cdc.protocol import ReplicationProtocol

StreamMessage: TypeAlias = Begin | Insert | Commit | Keepalive

_DELIVERED = (Insert, Begin, Commit, Keepalive)  # the most frequent first: isinstance looks in this order

_HINTS = {
    "42704": "the publication or something it needs was dropped: check pg_publication_tables",
    "55000": "the slot may have been invalidated: look at pg_replication_slots",
    "57P01": "the server stops, or somebody ended this session",
    "57P02": "the server crashes and will be back; what was not confirmed comes again",
}


class _State(Enum):
    RUNNING = "running"
    BROKEN = "ended, reported to on_end"
    CLOSING = "draining after close()"
    CLOSED = "closed"


class Clock:
    """Microseconds since the Unix epoch that never go back: the wall clock of the start, moved on monotonically."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // 1000


class Stream:
    """Delivers the messages of a connection that START_REPLICATION was sent on (`cdc.slot.start_replication`).

    `on_message` is called for every Begin, Insert, Commit and Keepalive, in order, from the loop's callbacks; it must
    be quick and must not await. `on_end` is called at most once, with what ended the stream.
    """

    def __init__(
        self,
        protocol: ReplicationProtocol,
        pgconn: PGconn,
        *,
        on_message: Callable[[StreamMessage], None],
        on_end: Callable[[BaseException], None],
        now_us: Callable[[], int] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """`now_us` must be the clock that `protocol` was made with, or one that agrees with it."""
        self._protocol = protocol
        self._pgconn = pgconn
        self._on_message = on_message
        self._on_end = on_end
        self._now_us = Clock() if now_us is None else now_us
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._socket = pgconn.socket
        # A TLS (or GSSAPI) record may leave bytes behind that make no socket readable: ask once more before waiting.
        self._reads_before_wait = 2 if pgconn.ssl_in_use or pgconn.used_gssapi else 1
        self._state = _State.RUNNING
        self._continuation: asyncio.Handle | None = None
        self._status_timer: asyncio.TimerHandle | None = None
        self._confirm_timer: asyncio.TimerHandle | None = None
        self._confirm_not_before = 0.0
        self._look_again_timer: asyncio.TimerHandle | None = None
        self._look_again_at = 0.0
        self._writing = False
        self._status_owed = False
        self._unanswered = 0
        self._copying = True
        self._attached = False
        self._drained: asyncio.Future[bool] | None = None

    @property
    def running(self) -> bool:
        return self._state is _State.RUNNING

    @property
    def protocol(self) -> ReplicationProtocol:
        return self._protocol

    @property
    def progress(self) -> Progress:
        return self._protocol.progress

    @property
    def position(self) -> Lsn:
        """Everything before it was delivered."""
        return self._protocol.position

    @property
    def in_transaction(self) -> bool:
        """Whether a Begin has come whose Commit has not."""
        return self._protocol.in_transaction

    def start(self) -> None:
        """Begin to read. Messages come from the loop's next turn on."""
        self._pgconn.nonblocking = 1
        self._attach(self._readable)
        # libpq may have read the first frames together with the answer to START_REPLICATION.
        self._continuation = self._loop.call_soon(self._continue)
        self._schedule_status()

    def send_status(self, reply_wanted: bool = False) -> None:
        """Tell the server where we are, now; a status that still waits for the socket absorbs this one."""
        if self._state is not _State.RUNNING:
            return
        if self._writing:
            self._status_owed = True
            return
        try:
            self._pgconn.put_copy_data(self._protocol.status(self._now_us(), reply_wanted))
            self._flush()
        except psycopg.Error as error:
            self._break(_lost(error))

    def confirm(self, position: Lsn) -> None:
        """A checkpoint at `position` has committed: tell the server, now or together with others within a moment."""
        self._protocol.progress.checkpointed(position)
        if self._state is _State.RUNNING and self._confirm_timer is None:
            at = max(self._confirm_not_before, self._loop.time())
            self._confirm_timer = self._loop.call_at(at, self._send_confirmation)

    async def close(self, timeout_seconds: float = CLOSE_TIMEOUT_SECONDS) -> bool:
        """End the stream and free the slot; nothing is delivered from now on, and on_end is not called any more.

        What was confirmed until now is still reported. Returns whether the connection came back in order and can be
        used for SQL again. If not, because the server did not answer in time or the connection was broken already,
        it is closed.
        """
        if self._state in (_State.CLOSING, _State.CLOSED):
            raise AssertionError("a stream is closed once")
        self._state = _State.CLOSING
        self._detach()
        drained = self._drained = self._loop.create_future()
        try:
            self._say_goodbye()
            await asyncio.wait((drained,), timeout=timeout_seconds)
        finally:
            self._detach()
            clean = drained.done() and drained.result()
            if not clean:
                self._pgconn.finish()
            self._state = _State.CLOSED
        return clean

    # --- reading

    def _readable(self) -> None:
        # With a continuation under way the socket waits its turn: libpq's buffer is not empty yet.
        if self._continuation is None:
            self._read()

    def _continue(self) -> None:
        self._continuation = None
        self._read()

    def _read(self) -> None:
        """Deliver for one slice of time, or until there is nothing to deliver; answer if the server asked."""
        self._unanswered = 0
        try:
            self._deliver_slice()
        except psycopg.Error as error:
            self._break(_lost(error))
        except Exception as error:  # ProtocolError, or a bug of ours: going on would lose a message
            self._break(error)
        if self._protocol.reply_owed:
            self.send_status()
        self._look_again_at = self._loop.time() + LOOK_AGAIN_SECONDS
        if self._look_again_timer is None and self._state is _State.RUNNING:
            self._look_again_timer = self._loop.call_at(self._look_again_at, self._look_again)

    def _look_again(self) -> None:
        """The burst is over, or goes on."""
        self._look_again_timer = None
        if self._loop.time() < self._look_again_at:
            self._look_again_timer = self._loop.call_at(self._look_again_at, self._look_again)
        else:
            self.send_status()

    def _deliver_slice(self) -> None:
        get_copy_data = self._pgconn.get_copy_data
        receive = self._protocol.receive
        clock = time.monotonic
        end = clock() + SLICE_SECONDS
        reads_left = self._reads_before_wait
        while self._state is _State.RUNNING:
            size, frame = get_copy_data(1)
            if size > 0:
                message = receive(bytes(frame))
                if isinstance(message, _DELIVERED):
                    self._deliver(message)
                reads_left = self._reads_before_wait
                if clock() >= end:
                    self._continuation = self._loop.call_soon(self._continue)
                    return
            elif size < 0:
                self._server_ended()
            elif reads_left:
                self._pgconn.consume_input()
                reads_left -= 1
            else:
                return

    def _deliver(self, message: StreamMessage) -> None:
        try:
            self._on_message(message)
        except (KeyboardInterrupt, SystemExit) as error:
            self._break(error)
            raise
        except BaseException as error:  # a CancelledError too: the message it interrupted is lost to the reader
            self._break(error)

    def _server_ended(self) -> None:
        self._copying = False
        # An error has arrived whole by now, so this does not block; if something else came, we do not wait for it.
        result = None if self._pgconn.is_busy() else self._pgconn.get_result()
        self._break(_ended(result))

    # --- writing

    def _flush(self) -> None:
        """Send what libpq holds; what the socket does not take leaves when it is writable."""
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
            return
        if self._status_owed and not self._writing:
            self._status_owed = False
            self.send_status()

    def _send_confirmation(self) -> None:
        self._confirm_timer = None
        self._confirm_not_before = self._loop.time() + CONFIRM_SPACING_SECONDS
        self.send_status()

    def _schedule_status(self) -> None:
        wait_us = max(0, self._protocol.status_due_us - self._now_us())
        self._status_timer = self._loop.call_later(wait_us / 1_000_000, self._status_tick)

    def _status_tick(self) -> None:
        """Send the periodic status, unless another one went out lately. It asks for a reply: a sign of life."""
        if self._protocol.status_due(self._now_us()):
            if self._unanswered >= UNANSWERED_STATUSES:
                self._break(
                    StreamEnded(f"no answer to {self._unanswered} status messages", "is the server's host gone?")
                )
                return
            self._unanswered += 1
            self.send_status(reply_wanted=True)
        if self._state is _State.RUNNING:
            self._schedule_status()

    # --- ending

    def _break(self, error: BaseException) -> None:
        if self._state is _State.RUNNING:
            self._state = _State.BROKEN
            self._detach()
            self._on_end(error)

    def _lose(self, error: psycopg.Error) -> None:
        """The connection is broken, whatever we were doing with it."""
        if self._state is _State.CLOSING:
            self._finish_draining(clean=False)
        else:
            self._break(_lost(error))

    def _attach(self, reader: Callable[[], None]) -> None:
        self._loop.add_reader(self._socket, reader)
        self._attached = True

    def _detach(self) -> None:
        """Leave no callback behind. At once when libpq has closed the socket: its number may be reused by anybody."""
        if self._attached:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._attached = self._writing = False
        for handle in (self._continuation, self._status_timer, self._confirm_timer, self._look_again_timer):
            if handle is not None:
                handle.cancel()
        self._continuation = self._status_timer = self._confirm_timer = self._look_again_timer = None

    def _say_goodbye(self) -> None:
        """Report what is durable and end the copy; `_drain` takes the answers."""
        if self._pgconn.status != pq.ConnStatus.OK:
            self._finish_draining(clean=False)
            return
        self._attach(self._drain)
        try:
            if self._copying:
                self._pgconn.put_copy_data(self._protocol.status(self._now_us()))
                self._pgconn.put_copy_end()
                self._flush()
        except psycopg.Error:
            self._finish_draining(clean=False)
            return
        self._drain()

    def _drain(self) -> None:
        """Throw away what still arrives until the connection is ready for SQL."""
        try:
            for _ in range(self._reads_before_wait):
                self._pgconn.consume_input()
                if self._take_rest():
                    self._finish_draining(clean=True)
                    return
        except psycopg.Error:
            self._finish_draining(clean=False)

    def _take_rest(self) -> bool:
        """Whether everything was taken."""
        while self._copying:
            size, _ = self._pgconn.get_copy_data(1)
            if size == 0:
                return False
            self._copying = size > 0
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                return True
            if result.status == pq.ExecStatus.COPY_IN:  # the server ended its half first and waits for ours
                self._pgconn.put_copy_end()
                self._flush()
        return False

    def _finish_draining(self, *, clean: bool) -> None:
        self._detach()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(clean)


def _lost(error: psycopg.Error) -> StreamEnded:
    return StreamEnded(f"replication connection lost: {error}".strip(), "connect again", sqlstate=error.sqlstate)


def _ended(result: PGresult | None) -> StreamEnded:
    """What the server said when it ended the copy by itself."""
    if result is None or result.status != pq.ExecStatus.FATAL_ERROR:
        return StreamEnded("the server ended the stream in good order", "it probably shuts down: connect again")
    field = result.error_field(pq.DiagnosticField.SQLSTATE)
    sqlstate = None if field is None else field.decode("ascii", "replace")
    message = result.get_error_message("utf-8")
    return StreamEnded(f"the server ended the stream: {message}", _HINTS.get(sqlstate or "", ""), sqlstate=sqlstate)
