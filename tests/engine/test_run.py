"""`walflow run` as a process: how it becomes ready, what it shows over HTTP, and with which code it ends."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.servers import Database, wait_until


def finished(database: Database) -> bool:
    return database.run("select count(*) from df.instances where status <> 'completed'") == [(0,)]


def test_it_leads_runs_a_workflow_shows_it_and_ends_with_0(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    database.run("select df.start('select 1')", role="alice")
    wait_until(lambda: finished(database))
    assert engine.get("/healthz")[0] == 200
    assert engine.status()["epoch"] == 1
    assert engine.metric("walflow_leader") == 1
    wait_until(lambda: engine.metric("walflow_instances_finished_total", status="completed") == 1)
    assert engine.metric("walflow_steps_total", kind="sql", outcome="completed") == 1
    assert engine.terminate() == 0, engine.log()
    assert all({"time", "level", "logger", "message"} <= event.keys() for event in engine.events())


def test_a_second_engine_stands_by_is_ready_and_takes_over(database: Database, tmp_path: Path) -> None:
    first = database.engine(tmp_path).start()
    second = database.engine(tmp_path).start(leading=False)
    assert second.status()["role"] == "standby"
    first.kill()
    second.wait_ready()
    database.run("select df.start('select 1')", role="alice")
    wait_until(lambda: finished(database))


def test_a_standby_goes_on_from_the_log_whatever_was_written_while_it_stood_by(
    database: Database, tmp_path: Path
) -> None:
    first = database.engine(tmp_path).start()
    second = database.engine(tmp_path).start(leading=False)
    for _ in range(20):
        database.run("select df.start('select 1')", role="alice")
    wait_until(lambda: finished(database))
    first.kill()
    second.wait_ready()
    assert "the tables will be scanned" not in second.log()
    assert second.metric("walflow_recovered_total", how="scan") == 0


def test_an_unfit_database_is_exit_3_with_the_statement(database: Database, tmp_path: Path) -> None:
    database.run("drop publication walflow")
    engine = database.engine(tmp_path).spawn()
    assert engine.wait() == 3
    assert "publication walflow does not exist" in engine.log()
    assert "create publication" in engine.log()


def test_a_server_that_is_away_is_waited_for_alive_but_not_ready(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, dsn=database.dsn("engine", port=1)).spawn()
    wait_until(lambda: engine.get("/readyz")[0] == 503)
    assert engine.get("/healthz")[0] == 200
    wait_until(lambda: "starting again" in engine.log())
    assert engine.returncode is None
    assert engine.terminate() == 0


def test_a_server_that_crashes_is_waited_for_and_the_work_goes_on(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    database.cluster.server.stop("immediate")
    wait_until(lambda: engine.get("/readyz")[0] == 503)
    database.cluster.server.start()
    engine.wait_ready()
    database.run("select df.start('select 1')", role="alice")
    wait_until(lambda: finished(database))


def test_a_listen_address_that_is_taken_is_exit_2(database: Database, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        engine = database.engine(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}").spawn()
        assert engine.wait() == 2
    assert "listen" in engine.log()
