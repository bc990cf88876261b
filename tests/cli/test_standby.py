"""Asking a standby: what only reads works there."""

from __future__ import annotations

from pathlib import Path

from tests.cli.commands import Shell
from tests.faults.replica import Replica
from tests.servers import Cluster
from tests.workflows import world


def test_a_standby_answers_and_says_that_it_takes_no_writes(tmp_path: Path, reachable_path: Path) -> None:
    cluster = Cluster(18).start()
    standby = Replica(cluster, reachable_path)
    try:
        database = cluster.database()
        with world(database, database.engine(tmp_path).start()) as here:
            here.start(here.build("select df.seq('select 1', df.wait_for_signal('go'))"), id="replicated")
            here.wait_for("replicated", "running")
            standby.copy()
            standby.server.start()
            standby.caught_up()
            shell = Shell(database)
            shell.environment["PGPORT"] = str(standby.server.port)
            assert [row["id"] for row in shell.json("list")] == ["replicated"]
            assert shell.json("show", "replicated")["status"] == "running"
            assert shell.json("history", "replicated")[0]["event"] == "started"
            assert shell.json("explain", "replicated")["tree"]
            assert shell.says("explain", "--file", "-", stdin="'select 1' ~> 'select 2'").count("SQL") == 2
            assert shell.json("top", "--url", "http://127.0.0.1:1")["database"]["error"] is None
            for command in (["signal", "replicated", "go"], ["cancel", "replicated"]):
                said = shell.refused(*command, code=3)
                assert "read-only" in said
                assert "say where the primary is" in said
        database.drop()
    finally:
        standby.close()
        cluster.close()
