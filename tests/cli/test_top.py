"""`walflow top`: figures from two looks, a picture that fits, and a live screen that leaves the terminal as it was."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from engine.cli.top.samples import Sample, figures, parsed, quantile, rate
from engine.cli.top.screen import View, per_second, picture, size, sparkline
from engine.cli.top.sources import Database, Engine, Failing, Oldest, Slot, checked_url
from engine.errors import ConfigError
from metrics import names
from metrics.collect import Metrics
from tests.cli.commands import Shell, walflow
from tests.cli.terminal import CTRL_C, Terminal
from tests.servers import wait_until
from tests.workflows import World

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


# -- samples ----------------------------------------------------------------------------------------------------------


def scraped(metrics: Metrics, at: float) -> Sample:
    """What /metrics would say."""
    from prometheus_client import generate_latest

    return parsed(generate_latest(metrics.registry()).decode(), at)


def test_a_rate_is_what_was_counted_between_two_looks() -> None:
    metrics = Metrics()
    metrics.instances_finished.inc("completed", by=10)
    first = scraped(metrics, 100.0)
    metrics.instances_finished.inc("completed", by=6)
    metrics.instances_finished.inc("failed", by=2)
    second = scraped(metrics, 104.0)
    assert rate(first, second, names.INSTANCES_FINISHED) == 2.0
    assert rate(first, second, names.INSTANCES_FINISHED, status="failed") == 0.5


def test_a_rate_is_unknown_after_one_look_and_after_a_restart() -> None:
    metrics = Metrics()
    metrics.steps.inc("sql", "completed", by=10)
    old, new = scraped(metrics, 1.0), scraped(Metrics(), 2.0)
    assert rate(None, old, names.STEPS) is None
    assert rate(old, new, names.STEPS) is None
    assert rate(old, replace(old, at=1.0), names.STEPS) is None


def test_a_quantile_is_of_what_was_observed_meanwhile() -> None:
    metrics = Metrics()
    for _ in range(100):
        metrics.start_latency_seconds.observe(30)
    first = scraped(metrics, 1.0)
    for _ in range(10):
        metrics.start_latency_seconds.observe(0.0015)
    second = scraped(metrics, 2.0)
    assert quantile(first, second, names.START_LATENCY_SECONDS, 0.5) == pytest.approx(0.0015)
    since_the_start = quantile(first, first, names.START_LATENCY_SECONDS, 0.5)
    assert since_the_start is not None
    assert 10 < since_the_start <= 30
    assert quantile(None, scraped(Metrics(), 1.0), names.START_LATENCY_SECONDS, 0.5) is None


def test_what_is_beyond_the_last_bound_is_told_as_that_bound() -> None:
    metrics = Metrics()
    metrics.step_duration_seconds.observe(1_000, "sql")
    assert quantile(None, scraped(metrics, 1.0), names.STEP_DURATION_SECONDS, 0.99) == 60


def test_quantiles_add_up_what_their_labels_leave_open() -> None:
    metrics = Metrics()
    metrics.step_duration_seconds.observe(0.0005, "sql")
    metrics.step_duration_seconds.observe(50, "sql_alone")
    sample = scraped(metrics, 1.0)
    whole = quantile(None, sample, names.STEP_DURATION_SECONDS, 0.99)
    assert whole is not None
    assert whole > 30
    assert (quantile(None, sample, names.STEP_DURATION_SECONDS, 0.99, kind="sql") or 1) < 0.001


def test_what_is_no_metrics_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r".+"):
        parsed("<html>nothing of the kind</html>", 0.0)


# -- picture ----------------------------------------------------------------------------------------------------------


def view(**changes: Any) -> View:
    """Everything at its longest."""
    sample = scraped(Metrics(), 1.0)
    status = {
        "role": "leader",
        "epoch": 17,
        "confirmed_lsn": "FFFF/FFFFFFFF",
        "asleep": 10**6,
        "waiting_for_room": 10**6,
    }
    leader = Engine(url="http://walflow-0.walflow.production.svc.cluster.local:9464", status=status, sample=sample)
    oldest = Oldest(
        id="x" * 200, owner="a", label="l" * 900, quarantined=None, created_at=NOW - timedelta(days=40),
        waits_for="SIGNAL 'y' " * 50, now=NOW,
    )  # fmt: skip
    failing = Failing(label="n" * 900, count=99_999, last_at=NOW - timedelta(seconds=3), message="m\n" * 900, now=NOW)
    database = Database(
        place="app at a-long-host-name.in.some.zone:5432",
        role="a_role_with_a_long_name",
        slot=Slot(slot_name="walflow", active=True, wal_status="reserved", lag_bytes=1e12, retained_bytes=1e12),
        quarantined=3,
        oldest=[oldest] * 10,
        failing=[failing] * 10,
    )
    made = View(
        at=NOW,
        every_seconds=2,
        engines=[leader],
        shown=leader,
        figures=figures(None, sample),
        trend=[1.0, 2.0, 4.0],
        database=database,
    )
    return replace(made, **changes)


def text_of(made: View, width: int = 80, height: int | None = 24) -> str:
    return "\n".join(line.plain for line in picture(made, width, height))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (200, 60), (40, 10), (20, 5)])
def test_a_picture_fits_the_screen(width: int, height: int) -> None:
    lines = text_of(view(), width, height).splitlines()
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


def test_80_by_24_shows_figures_and_some_of_both_lists() -> None:
    text = text_of(view())
    for part in (
        "throughput",
        "latency",
        "executors",
        "lag",
        "slot",
        "oldest that have not ended",
        "failed in the last hour",
    ):
        assert part in text
    assert len(text.splitlines()) == 24


def test_no_figure_is_cut_off_at_80_columns() -> None:
    """With numbers as long as they get in a year's work."""
    metrics = Metrics()
    first = scraped(metrics, 1.0)
    for histogram in (metrics.start_latency_seconds, metrics.signal_latency_seconds, metrics.timer_lateness_seconds):
        histogram.observe(0.99)
    for kind in names.SQL_KINDS:
        metrics.step_duration_seconds.observe(59, kind)
        metrics.step_wait_seconds.observe(59, kind)
        metrics.steps_in_flight.set(99, kind)
    metrics.replication_lag_bytes.set(123_456_789)
    metrics.replication_lag_seconds.set(59.9)
    metrics.instances_started.inc(by=123_456)
    metrics.instances.set(9_999, "running")
    metrics.instances.set(99_999, "pending")
    made = view(figures=figures(first, scraped(metrics, 2.0)))
    slot = Slot(slot_name="walflow", active=True, wal_status="unreserved", lag_bytes=123e6, retained_bytes=456e9)
    lines = picture(replace(made, database=replace(made.database, slot=slot)), 80, 24)
    assert [line.plain for line in lines[3:11] if "…" in line.plain] == []


def test_more_room_shows_more() -> None:
    assert text_of(view(), 80, 60).count("40d") == 10


def test_no_engine_leaves_what_the_database_tells() -> None:
    away = Engine(url="http://127.0.0.1:9464", error="Connection refused")
    text = text_of(view(engines=[away], shown=None, figures=None))
    assert "away at 127.0.0.1:9464 (Connection refused)" in text
    assert "--url says where one listens" in text
    assert "walflow   active" in text


def test_no_database_leaves_what_the_engine_tells() -> None:
    text = text_of(view(database=Database(error="cannot connect: refused")))
    assert "database    cannot connect: refused" in text
    assert "throughput" in text


def test_two_leaders_are_pointed_out() -> None:
    leader = view().engines[0]
    assert "more than one leads" in text_of(view(engines=[leader, leader]), width=400)


def test_a_slot_that_nobody_reads_and_one_that_is_lost_are_seen() -> None:
    slot = Slot(slot_name="walflow", active=False, wal_status="lost", lag_bytes=None, retained_bytes=None)
    made = view(database=replace(view().database, slot=slot))
    assert "nobody reads it" in text_of(made)
    assert "lost" in text_of(made)
    assert "there is none" in text_of(view(database=replace(view().database, slot=None)))


def test_numbers_are_short() -> None:
    assert [per_second(value) for value in (None, 0, 0.25, 3.44, 42.4, 1_234, 98_765)] == [
        "-", "0/s", "0.25/s", "3.4/s", "42/s", "1.2k/s", "99k/s",
    ]  # fmt: skip
    assert [size(value) for value in (None, 0, 999, 1_500, 16_777_216, 5e12, 5e15)] == [
        "-", "0 B", "999 B", "1.5 kB", "16.8 MB", "5.0 TB", "5000 TB",
    ]  # fmt: skip
    assert sparkline([0.0, 1.0, 2.0]) == "▁▅█"
    assert sparkline([]) == sparkline([0.0, 0.0]) == ""


@pytest.mark.parametrize("text", ["http://", "ftp://x:1", "http://x:99999999", "http://[::1", ""])
def test_a_url_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--url"):
        checked_url(text)


def test_an_address_alone_is_a_url() -> None:
    assert checked_url("10.0.0.7:9464") == "http://10.0.0.7:9464"
    assert checked_url("https://x/") == "https://x"


# -- against a real engine --------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(town: World) -> list[str]:
    return ["top", "--url", f"http://127.0.0.1:{town.engine.port}", "--slot", town.database.slot]


def test_the_screen_lives_and_leaves_the_terminal_as_it_was(town: World, alice: Shell, arguments: list[str]) -> None:
    town.start(town.build("select df.wait_for_signal('never', 6000)"), id="top-waits")
    town.outcome("select 1/0")
    wait_until(
        lambda: town.run(
            "select 1 from df.progress p join df.instances i on i.key = p.instance_key where i.id = 'top-waits'"
        )
    )
    with Terminal(*arguments, "--interval", "200ms", environment=alice.environment) as terminal:
        terminal.wait_for_text("throughput")
        terminal.wait_for(lambda text: "leader at 127.0.0.1" in text and "starts 0/s" in text, "a rate")
        assert "division by zero" in terminal.text
        assert terminal.raw.count(b"\x1b[?1049h") == 1
        assert len(terminal.text.splitlines()) <= 24
        terminal.send(b"q")
        assert terminal.end() == 0
        assert terminal.restored


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_ctrl_c_and_sigterm_end_it_as_asked(alice: Shell, arguments: list[str], how: str) -> None:
    with Terminal(*arguments, environment=alice.environment) as terminal:
        terminal.wait_for_text("throughput")
        if how == "ctrl-c":
            terminal.send(CTRL_C)
        else:
            terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 0
        assert terminal.restored
        assert b"Traceback" not in terminal.raw


def test_it_fits_a_window_that_was_made_smaller_and_larger_again(alice: Shell, arguments: list[str]) -> None:
    with Terminal(*arguments, "--interval", "200ms", environment=alice.environment) as terminal:
        terminal.wait_for_text("oldest that have not ended")
        for columns, lines in ((60, 12), (120, 40)):
            terminal.resize(columns, lines)
            terminal.wait_for(
                lambda text, n=columns: len(title := text.splitlines()[0]) == n and title.endswith("q quits"),  # type: ignore[misc]
                "a title as wide as the window",
            )
            assert terminal.text.startswith("walflow")
            assert "throughput" in terminal.text
            assert ("oldest that have not ended" in terminal.text) == (lines == 40)
        terminal.send(b"q")
        assert terminal.end() == 0
        assert terminal.restored


def test_it_has_no_colour_with_no_color(alice: Shell, arguments: list[str]) -> None:
    with Terminal(*arguments, environment={**alice.environment, "NO_COLOR": "1"}) as terminal:
        terminal.wait_for_text("throughput")
        terminal.send(b"q")
        assert terminal.end() == 0
        assert b"\x1b[3" not in terminal.raw


def test_what_starts_is_seen(town: World, alice: Shell, arguments: list[str]) -> None:
    with Terminal(*arguments, "--interval", "200ms", environment=alice.environment) as terminal:
        terminal.wait_for_text("starts 0/s")
        for _ in range(20):
            town.start("select 1")
        terminal.wait_for(lambda text: "throughput" in text and "starts 0/s" not in text, "a rate that is not 0")
        terminal.send(b"q")
        assert terminal.end() == 0


def test_programs_get_one_object(alice: Shell, arguments: list[str], town: World) -> None:
    answer = alice.json(*arguments)
    assert answer["engines"][0]["role"] == "leader"
    assert answer["figures"]["starts_per_second"] is not None
    assert answer["database"]["slot"]["slot_name"] == town.database.slot
    assert answer["database"]["slot"]["active"] is True
    datetime.fromisoformat(answer["at"])


def test_the_engine_of_the_settings_is_asked(town: World, alice: Shell) -> None:
    listens = {**alice.environment, "WALFLOW_LISTEN": f"0.0.0.0:{town.engine.port}"}
    answer = json.loads(walflow("top", "--json", **listens).stdout)
    assert answer["engines"][0]["url"] == f"http://127.0.0.1:{town.engine.port}"
    assert answer["engines"][0]["role"] == "leader"


def test_in_a_pipe_it_is_one_picture(alice: Shell, arguments: list[str]) -> None:
    text = alice.says(*arguments)
    assert text.count("throughput") == 1
    assert "\x1b" not in text


def test_without_an_engine_the_database_is_enough(alice: Shell, town: World) -> None:
    text = alice.says("top", "--url", "http://127.0.0.1:1", "--slot", town.database.slot)
    assert "away at 127.0.0.1:1 (Connection refused)" in text
    assert f"{town.database.slot}   active" in text


def test_without_the_database_the_engine_is_enough(town: World, arguments: list[str]) -> None:
    done = walflow(*arguments, "--json", "--dsn", "host=127.0.0.1 port=1")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["figures"] is not None
    assert "cannot connect" in answer["database"]["error"]


def test_something_else_at_the_url_is_no_engine(town: World, alice: Shell) -> None:
    port = town.database.cluster.server.port
    answer = alice.json("top", "--url", f"http://127.0.0.1:{port}")
    assert answer["engines"][0]["error"]
    assert answer["figures"] is None
