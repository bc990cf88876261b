"""The HTTP endpoints, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping

import pytest

from metrics.collect import Metrics
from metrics.exposition import (
    CONNECTIONS,
    REQUEST_BYTES,
    REUSE,
    BadRequest,
    HttpServer,
    Pages,
    Readiness,
    parse_request,
    watch_event_loop,
)

READY = Readiness(ready=True, reason="leader")


async def exchange(port: int, request: bytes) -> tuple[int, str, str]:
    """Send bytes, return status code, head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split(" ")[1]), head, body


def get(path: str, **headers: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def serve(
    test: Callable[[int], Awaitable[None]],
    readiness: Callable[[], Readiness] = lambda: READY,
    status: Callable[[], Mapping[str, object]] = dict,
) -> None:
    """Run a test against a server on a free port."""

    async def run() -> None:
        server = HttpServer(Metrics().registry(), readiness, status)
        port = await server.start("127.0.0.1", 0)
        try:
            await test(port)
        finally:
            await server.close()

    asyncio.run(run())


def test_metrics_are_prometheus_text_unless_openmetrics_is_asked_for() -> None:
    async def test(port: int) -> None:
        code, head, body = await exchange(port, get("/metrics"))
        assert code == 200
        assert "text/plain" in head
        assert "walflow_steps_total" in body
        _, head, body = await exchange(port, get("/metrics", Accept="application/openmetrics-text; version=1.0.0"))
        assert "application/openmetrics-text" in head
        assert body.endswith("# EOF\n")

    serve(test)


class Clock:
    """Making a page takes `cost` seconds by it."""

    def __init__(self, metrics: Metrics, cost: float) -> None:
        self.now = 0.0
        self.made = 0
        self._cost = cost
        metrics.gather = self._made

    def __call__(self) -> float:
        return self.now

    def _made(self) -> None:
        self.made += 1
        self.now += self._cost


def test_a_thousand_scrapes_at_once_make_one_page() -> None:
    metrics = Metrics()
    registry = metrics.registry()
    clock = Clock(metrics, 0.01)
    pages = Pages(registry, clock)
    assert len({id(pages.get("text/plain")) for _ in range(1000)}) == 1
    assert clock.made == 1


def test_pages_cost_a_small_share_of_the_time_however_often_they_are_asked_for() -> None:
    metrics = Metrics()
    registry = metrics.registry()
    clock = Clock(metrics, 0.01)
    pages = Pages(registry, clock)
    for _ in range(10_000):
        pages.get("")
        clock.now += 0.001  # a thousand scrapes a second
    assert clock.made * 0.01 <= clock.now / REUSE + 0.01


def test_a_page_is_made_anew_when_its_time_is_over() -> None:
    metrics = Metrics()
    registry = metrics.registry()
    clock = Clock(metrics, 0.01)
    pages = Pages(registry, clock)
    first = pages.get("")
    metrics.transactions.inc()
    assert pages.get("") is first
    clock.now += REUSE * 0.01
    assert b"walflow_transactions_total 1.0" in pages.get("").body


@pytest.mark.parametrize("version", ["0.0.1", "1.0.0", "2.0.0", "x" * 1000])
def test_what_a_client_asks_for_makes_no_third_format(version: str) -> None:
    pages = Pages(Metrics().registry(), lambda: 0.0)
    pages.get("")
    assert pages.get(f"application/openmetrics-text; version={version}; escaping={version}").content_type == (
        pages.get("application/openmetrics-text").content_type
    )


def test_a_thousand_clients_at_once_are_answered_or_refused_and_no_more_than_so_many_are_served() -> None:
    """Their pages are made once, and what is open at a time is bounded: the loop is there for the stream."""
    most = 0

    async def scrape(port: int, server: HttpServer) -> int | None:
        nonlocal most
        try:
            code = (await exchange(port, get("/metrics")))[0]
        except (IndexError, ConnectionError):
            return None
        finally:
            most = max(most, server.serving)
        return code

    async def run() -> list[int | None]:
        metrics = Metrics()
        registry = metrics.registry()
        clock = Clock(metrics, 0.01)
        server = HttpServer(registry, lambda: READY, dict, pages=Pages(registry, clock))
        port = await server.start("127.0.0.1", 0)
        try:
            codes = await asyncio.gather(*(scrape(port, server) for _ in range(1000)))
        finally:
            await server.close()
        assert clock.made == 1
        return codes

    codes = asyncio.run(run())
    assert set(codes) <= {200, None}
    assert codes.count(200) >= CONNECTIONS
    assert 0 < most <= CONNECTIONS


def test_health_does_not_depend_on_readiness() -> None:
    async def test(port: int) -> None:
        assert (await exchange(port, get("/healthz")))[0] == 200

    serve(test, readiness=lambda: Readiness(ready=False, reason="no database"))


def test_readiness_is_503_with_the_reason() -> None:
    async def test(port: int) -> None:
        code, _, body = await exchange(port, get("/readyz"))
        assert (code, body) == (503, "no database\n")

    serve(test, readiness=lambda: Readiness(ready=False, reason="no database"))


def test_a_standby_is_ready() -> None:
    async def test(port: int) -> None:
        code, _, body = await exchange(port, get("/readyz?verbose=1"))
        assert (code, body) == (200, "standby\n")

    serve(test, readiness=lambda: Readiness(ready=True, reason="standby"))


def test_status_is_json() -> None:
    async def test(port: int) -> None:
        code, head, body = await exchange(port, get("/status"))
        assert code == 200
        assert "application/json" in head
        assert json.loads(body) == {"role": "leader", "epoch": 3}

    serve(test, status=lambda: {"role": "leader", "epoch": 3})


def test_head_answers_without_a_body() -> None:
    async def test(port: int) -> None:
        code, head, body = await exchange(port, b"HEAD /healthz HTTP/1.1\r\n\r\n")
        assert (code, body) == (200, "")
        assert "Content-Length: 21" in head

    serve(test)


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (get("/nothing"), 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"\xff\xfe\x00 / HTTP/1.1\r\n\r\n", 405),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
        (get("/metrics", Cookie="x" * REQUEST_BYTES), 400),
    ],
)
def test_what_is_not_served(request_bytes: bytes, code: int) -> None:
    async def test(port: int) -> None:
        assert (await exchange(port, request_bytes))[0] == code

    serve(test)


def test_a_bug_in_a_callable_is_a_500_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Mapping[str, object]:
        raise RuntimeError("our bug")

    async def test(port: int) -> None:
        assert (await exchange(port, get("/status")))[0] == 500
        assert (await exchange(port, get("/healthz")))[0] == 200

    serve(test, status=broken)
    assert "our bug" in caplog.text


def test_silent_clients_do_not_keep_others_out_once_they_are_too_many() -> None:
    async def test(port: int) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""  # refused at once, not queued behind them
        for _, other in [*silent, (reader, writer)]:
            other.close()
        for _, other in [*silent, (reader, writer)]:
            await other.wait_closed()
        async with asyncio.timeout(5):
            while (await exchange_or_none(port)) != 200:
                await asyncio.sleep(0)

    serve(test)


async def exchange_or_none(port: int) -> int | None:
    try:
        return (await exchange(port, get("/healthz")))[0]
    except (IndexError, ConnectionError):
        return None


def test_closing_does_not_wait_for_a_silent_client() -> None:
    async def run() -> None:
        server = HttpServer(Metrics().registry(), lambda: READY, dict)
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await server.close()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()

    asyncio.run(run())


def test_several_accept_headers_are_one_list() -> None:
    assert parse_request(b"GET / HTTP/1.1\r\nAccept: a/b\r\naccept: c/d\r\n\r\n").accept == "a/b, c/d"


def test_a_request_line_of_four_words_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse_request(b"GET / x HTTP/1.1\r\n\r\n")


def test_the_event_loops_lag_is_observed() -> None:
    metrics = Metrics()

    async def run() -> None:
        task = asyncio.create_task(watch_event_loop(metrics.event_loop_lag_seconds))
        async with asyncio.timeout(10):
            while not metrics.event_loop_lag_seconds.count():
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(run())
