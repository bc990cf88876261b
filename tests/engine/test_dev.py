"""`walflow dev`, as a process: it prints what works, runs a workflow, and Ctrl-C leaves nothing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from engine.dev import free_listen_address, version_for
from tests.servers import PATIENCE_SECONDS, wait_until


@contextmanager
def walflow_dev(log_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start it, and yield the process and the URL that it printed."""
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", "dev", "--listen", "127.0.0.1:0", *arguments], stdout=log, stderr=log
        )
    try:
        wait_until(lambda: process.poll() is not None or "Ctrl-C stops both" in log_path.read_text())
        printed = re.search(r"postgresql://\S+", log_path.read_text())
        assert printed, log_path.read_text()
        yield process, printed[0]
    finally:
        process.kill()
        process.wait()


def children_of(pid: int) -> list[int]:
    """The server and its guard."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run_workflow(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select df.start('select 6 * 7 as answer')")
        wait_until(lambda: connection.execute("select from df.instances where status = 'completed'").rowcount == 1)


def interrupt(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(PATIENCE_SECONDS)


def test_the_printed_role_runs_a_workflow_and_ctrl_c_stops_both_and_leaves_nothing(tmp_path: Path) -> None:
    log_path = tmp_path / "log"
    with walflow_dev(log_path, "--postgres", "16") as (process, url):
        run_workflow(url)
        with psycopg.connect(url) as connection:
            assert connection.info.server_version // 10_000 == 16
            query = "select rolname, rolsuper from pg_roles where rolname = current_user"
            assert connection.execute(query).fetchall() == [("app", False)]
        servers = children_of(process.pid)
        assert servers
        assert interrupt(process) == 0, log_path.read_text()
    assert "Traceback" not in log_path.read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in servers)


def test_the_cluster_is_kept_with_data_and_started_again(tmp_path: Path, reachable_path: Path) -> None:
    arguments = ("--data", str(reachable_path / "data"), "--postgres", "16")
    with walflow_dev(tmp_path / "log1", *arguments) as (process, url):
        run_workflow(url)
        assert interrupt(process) == 0
    with walflow_dev(tmp_path / "log2", *arguments[:2]) as (process, url):
        with psycopg.connect(url) as connection:
            assert connection.execute("select status from df.instances").fetchall() == [("completed",)]
            assert connection.info.server_version // 10_000 == 16
        assert interrupt(process) == 0
    assert (reachable_path / "data").exists()


def test_an_unknown_version_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "-m", "engine", "dev", "--postgres", "9"], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"PostgreSQL 9 cannot be started here" in done.stderr


def test_the_version_is_that_of_the_cluster_unless_one_is_wanted(tmp_path: Path) -> None:
    assert version_for(None, None) == 18
    assert version_for(tmp_path, None) == 18
    (tmp_path / "PG_VERSION").write_text("16\n")
    assert version_for(tmp_path, None) == 16
    assert version_for(tmp_path, 18) == 18


def test_a_listen_address_that_is_taken_gives_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert free_listen_address(address) == "127.0.0.1:0"
    assert free_listen_address(address) == address
