"""What an orchestrator relies on: alive whatever the database does, ready whoever leads."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.servers import Database, wait_until
from tests.workflows import world

PROBES: Final = 60
"""As many as a kubelet sends in ten minutes; it restarts a container after three that fail."""


def test_an_engine_is_alive_all_the_time_that_the_server_is_away(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path).start()
    pid = engine.pid
    database.cluster.server.stop("immediate")
    try:
        wait_until(lambda: engine.get("/readyz")[0] == 503)
        tries = engine.log().count("starting again")
        assert [engine.get("/healthz")[0] for _ in range(PROBES)] == [200] * PROBES
        # it tries again and again meanwhile, and answers in between
        wait_until(lambda: engine.log().count("starting again") > tries + 3)
        assert engine.get("/healthz")[0] == 200
        assert engine.get("/status")[0] == 200
    finally:
        database.cluster.server.start()
    engine.wait_ready()
    assert engine.pid == pid
    assert engine.returncode is None


def test_readiness_tells_why_not_without_a_secret(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, dsn=database.dsn("engine", port=1, password="hunter2")).spawn()
    wait_until(lambda: engine.get("/readyz")[0] == 503)
    wait_until(lambda: "ServerAway" in engine.get("/readyz")[1])
    assert "hunter2" not in engine.get("/readyz")[1] + engine.get("/status")[1] + engine.get("/metrics")[1]


def test_a_rolling_restart_waits_for_no_leadership(database: Database, tmp_path: Path) -> None:
    """The new one is ready beside the old, which leads until it is told to stop; then the new one leads."""
    old = database.engine(tmp_path).start()
    with world(database, old) as here:
        for _ in range(3):
            new = database.engine(tmp_path).spawn()
            wait_until(lambda new=new: new.get("/readyz")[0] == 200)  # type: ignore[misc]
            assert old.status()["role"] == "leader"
            assert new.status()["role"] == "standby"
            id = here.start("select 1")
            assert old.terminate() == 0
            new.wait_ready()
            here.end(id)
            here.engine = old = new


def test_without_a_port_an_engine_runs_workflows_and_answers_nobody(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, listen="off").spawn()
    with world(database, engine) as here:
        assert here.outcome("select 1").status == "completed"
    assert engine.get("/healthz")[0] == 0
    assert "not listening" in engine.log()
    assert engine.terminate() == 0
