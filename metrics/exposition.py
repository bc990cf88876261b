"""The HTTP endpoints: /metrics, /healthz, /readyz, /status. A small server on the engine's own event loop.

That /healthz answers means that the loop turns, whatever the database does. GET and HEAD only, one request a
connection, everything bounded: request bytes, time, connections, and what scrapes cost: a page of metrics is made anew only
when `REUSE` times as long has passed as making it took, so however many ask, the stream loses a fiftieth of the loop's time at
most to each of the two formats. It listens on localhost unless told otherwise, since
it has neither encryption nor users; nothing that it shows is secret.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from metrics.collect import Histogram

REQUEST_BYTES: Final = 16_384  # request line and headers; a browser with many cookies sends 8 KB
REQUEST_TIMEOUT_SECONDS: Final = 5.0
CONNECTIONS: Final = 64  # a scraper and some probes; beyond that somebody means harm
LOOP_LAG_INTERVAL_SECONDS: Final = 0.5
REUSE: Final = 50
"""A page of metrics is handed out again for so many times as long as it took to make: some 0.2 s for one of 4 ms."""

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_OPENMETRICS: Final = "application/openmetrics-text"

log = logging.getLogger("walflow.http")


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether this engine is ready (as leader, or as a standby that reached the database), and why or why not."""

    ready: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """What matters of a request."""

    method: str
    path: str
    accept: str


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT

    def head(self) -> bytes:
        """Return status line and headers."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class BadRequest(Exception):
    """The bytes are no HTTP request, or too many."""


class AddressUnusable(Exception):
    """The address to listen on is taken, not ours or not allowed; `hint` says what to do."""

    hint = "Choose another address with the setting listen."


class Pages:
    """The pages of metrics in their two formats. `monotonic` is a clock in seconds."""

    def __init__(self, registry: CollectorRegistry, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._monotonic = monotonic
        self._made: dict[str, tuple[float, Response]] = {}

    def get(self, accept: str) -> Response:
        """The page that a client accepts: OpenMetrics when it names that, else Prometheus text. No other variant is made."""
        wanted = _OPENMETRICS if _OPENMETRICS in accept else ""
        until, page = self._made.get(wanted, (0.0, None))
        began = self._monotonic()
        if page is None or began >= until:
            encode, content_type = choose_encoder(wanted)
            page = Response(HTTPStatus.OK, encode(self._registry), content_type)
            ended = self._monotonic()
            self._made[wanted] = ended + REUSE * (ended - began), page
        return page


class HttpServer:
    """Serves the endpoints from `start()` to `close()`. The callables run on the event loop and must be quick."""

    def __init__(
        self,
        registry: CollectorRegistry,
        readiness: Callable[[], Readiness],
        status: Callable[[], Mapping[str, object]],
        *,
        pages: Pages | None = None,
    ) -> None:
        self._pages = pages or Pages(registry)
        self._readiness = readiness
        self._status = status
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.serving = 0
        """How many connections are open and were not refused."""

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (the given one, unless that is 0). Raises AddressUnusable."""
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=REQUEST_BYTES)
        except OSError as error:
            raise AddressUnusable(f"cannot listen on {host}:{port}: {error}") from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) <= CONNECTIONS:
                async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                    await self._serve(reader, writer)
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()  # a task of asyncio's own: nobody waits for its cancellation but close()
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving += 1
        try:
            await self._answer(reader, writer)
        finally:
            self.serving -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await read_request(reader)
        except BadRequest as error:
            request, response = Request("GET", "", ""), Response(HTTPStatus.BAD_REQUEST, f"{error}\n".encode())
        else:
            response = self.answer(request)
        writer.write(response.head() + (b"" if request.method == "HEAD" else response.body))
        await writer.drain()

    def answer(self, request: Request) -> Response:
        """Return the response to a request; a bug of ours is a 500 and a line in the log, not a dead endpoint."""
        if request.method not in ("GET", "HEAD"):
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n")
        try:
            return self._route(request)
        except Exception:
            log.exception("an endpoint failed")
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"see the log\n")

    def _route(self, request: Request) -> Response:
        match request.path:
            case "/metrics":
                return self._pages.get(request.accept)
            case "/healthz":
                return Response(HTTPStatus.OK, b"the event loop turns\n")
            case "/readyz":
                readiness = self._readiness()
                code = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
                return Response(code, f"{readiness.reason}\n".encode())
            case "/status":
                return Response(HTTPStatus.OK, json.dumps(self._status(), default=str).encode() + b"\n", _JSON)
            case _:
                return Response(HTTPStatus.NOT_FOUND, b"there are /metrics, /healthz, /readyz and /status\n")


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read one request's head. Raises BadRequest; ConnectionError when the client goes away first."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise BadRequest(f"more than {REQUEST_BYTES} bytes of headers") from error
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the client went away") from error
    return parse_request(head)


def parse_request(head: bytes) -> Request:
    """Parse a request's head. Raises BadRequest."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        raise BadRequest("no HTTP/1.1 request")
    headers = (line.partition(":") for line in lines if line)
    accepted = [value.strip() for name, _, value in headers if name.strip().lower() == "accept"]
    return Request(words[0], words[1].partition("?")[0], ", ".join(accepted))


async def watch_event_loop(lag_seconds: Histogram) -> None:
    """Observe for ever how late the event loop wakes. Costs nothing beside a timer twice a second."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(LOOP_LAG_INTERVAL_SECONDS)
        lag_seconds.observe(time.monotonic() - before - LOOP_LAG_INTERVAL_SECONDS)
