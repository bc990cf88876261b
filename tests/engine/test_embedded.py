"""The embedded server: it starts, keeps what it should, and leaves nothing else behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine import embedded
from engine.embedded import EmbeddedError, EmbeddedServer, available_versions, binaries
from tests.servers import wait_until

FAST = {"fsync": "off"}


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(settings=FAST) as made:
        yield made


def answer(server: EmbeddedServer, query: str, **keywords: str) -> object:
    with psycopg.connect(server.dsn(**keywords), autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_the_wheel_brings_16_and_18() -> None:
    assert {16, 18} <= set(available_versions())


def test_it_is_set_up_for_logical_decoding_on_tcp_and_on_its_socket(server: EmbeddedServer) -> None:
    assert answer(server, "show wal_level") == "logical"
    assert answer(server, "show server_encoding", host=str(server.run_dir)) == "UTF8"
    assert answer(server, "show listen_addresses") == "127.0.0.1"


def test_closing_stops_it_and_removes_everything_and_may_be_repeated(server: EmbeddedServer) -> None:
    pid, directory = server.pid, server.run_dir
    server.close()
    assert not process_exists(pid)
    assert not directory.exists()
    server.close()


def test_a_crash_and_a_restart_keep_what_was_committed_and_the_port(server: EmbeddedServer) -> None:
    port = server.port
    answer(server, "create table t as select 42 as n")
    server.stop("immediate")
    assert not server.running
    server.start()
    assert server.port == port
    assert answer(server, "select n from t") == 42


def test_settings_change_with_a_restart_and_alter_system_beats_them(server: EmbeddedServer) -> None:
    server.restart(settings={"work_mem": "5MB"})
    assert answer(server, "show work_mem") == "5MB"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("alter system set work_mem = '6MB'")
    server.reload()
    wait_until(lambda: answer(server, "show work_mem") == "6MB")


def test_a_data_directory_is_kept_and_used_again(reachable_path: Path) -> None:
    data = reachable_path / "data"
    with EmbeddedServer(data, settings=FAST) as first:
        answer(first, "create table t as select 42 as n")
    with EmbeddedServer(data, settings=FAST) as second:
        assert answer(second, "select n from t") == 42


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(EmbeddedError, match="neither empty nor a PostgreSQL cluster"), EmbeddedServer(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_cluster_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedError, match=r"a cluster of PostgreSQL 9\.6, not 18"), EmbeddedServer(tmp_path):
        pass


def test_a_setting_that_postgres_refuses_is_an_error_with_the_log() -> None:
    with (
        pytest.raises(EmbeddedError, match="unrecognized configuration parameter"),
        EmbeddedServer(settings={"no_such_setting": "1"}),
    ):
        pass


def test_a_port_that_is_taken_is_an_error(server: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedError, match="could not bind"), EmbeddedServer(port=server.port):
        pass


def test_another_port_is_tried_when_the_free_one_was_taken_meanwhile(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([server.port, server.port, embedded.free_port()])
    monkeypatch.setattr(embedded, "free_port", lambda: next(ports))
    with EmbeddedServer(settings=FAST) as other:
        assert answer(other, "select 1") == 1


def test_a_version_without_binaries_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "binaries", lambda version: None)
    with pytest.raises(EmbeddedError, match="walflow\\[embedded\\]"):
        EmbeddedServer(version=15)


def test_it_is_stopped_and_removed_when_its_process_is_killed() -> None:
    assert_nothing_left("os.kill(os.getpid(), 9)", -signal.SIGKILL)


def test_it_is_stopped_and_removed_when_it_is_forgotten() -> None:
    assert_nothing_left("sys.exit(0)", 0)


def assert_nothing_left(ending: str, code: int) -> None:
    program = (
        "import os, sys\n"
        "from engine.embedded import EmbeddedServer\n"
        f"server = EmbeddedServer(settings={FAST}).start()\n"
        "print(server.pid, server.run_dir, flush=True)\n"
        f"{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    pid, directory = done.stdout.split()
    wait_until(lambda: not process_exists(int(pid)) and not Path(directory).exists(), what="server and files are gone")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run the server as somebody else")
def test_root_is_told_when_the_servers_user_cannot_reach_the_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with (
        pytest.raises(EmbeddedError, match="runs as nobody, who must be able to reach"),
        EmbeddedServer(tmp_path / "x"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run the server as somebody else")
def test_root_runs_it_from_a_copy_where_nobody_cannot_read_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = binaries(18)
    assert original is not None
    package, secret = original.parent.parent, tmp_path / "home"
    shutil.copytree(original.parent, secret / package.name / original.parent.name, symlinks=True)
    shutil.copytree(f"{package}.libs", secret / f"{package.name}.libs")
    secret.chmod(0o700)
    monkeypatch.setattr(embedded, "binaries", lambda version: secret / package.name / original.parent.name / "bin")
    with EmbeddedServer(settings=FAST) as server:
        assert answer(server, "select 1") == 1
        assert server.bin_dir.is_relative_to(server.run_dir)
    assert secret.stat().st_mode & 0o777 == 0o700
