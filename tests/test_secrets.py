"""Secrets planted wherever users and operators put some, and looked for in everything that the engine says, at level debug."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest
from psycopg.conninfo import make_conninfo

from tests.servers import Cluster, Database, EngineProcess, wait_until
from tests.workflows import World, world

SECRET: Final = "hunter2-correct-horse"
"""Part of everything that is planted."""
PATHS: Final = ("/status", "/metrics", "/readyz", "/healthz")


def secretive(database: Database, directory: Path, log_format: str) -> EngineProcess:
    """An engine whose connection strings and passfile hold passwords (the server trusts whoever connects)."""
    passfile = directory / f"passfile-{log_format}"
    passfile.write_text(f"*:*:*:*:{SECRET}-passfile\n")
    passfile.chmod(0o600)
    engine = database.engine(
        directory,
        dsn=make_conninfo(database.engine_dsn, password=f"{SECRET}-dsn"),
        replication_dsn=make_conninfo(database.engine_dsn, password=f"{SECRET}-replication"),
        step_passfile=str(passfile),
        log_format=log_format,
        log_level="debug",
    )
    engine.environment = {**os.environ, "PGPASSWORD": f"{SECRET}-environment"}
    return engine


def said(engine: EngineProcess) -> str:
    """Everything."""
    return engine.log() + "".join(engine.get(path)[1] for path in PATHS)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_ever_logged_or_served(server18: Cluster, tmp_path: Path, log_format: str) -> None:
    database = server18.database()
    engine = secretive(database, tmp_path, log_format).start()
    with world(database, engine) as stage:
        alice = stage.connection("alice")
        alice.execute("select df.setvar('token', %s)", [f"{SECRET}-variable"])
        alice.execute("create table accounts (name text primary key)")
        alice.execute("insert into accounts values (%s)", [f"{SECRET}-row"])
        _run_all(stage)
        _quarantine_one(stage)
        database.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'walflow%%'")
        wait_until(lambda: engine.get("/readyz")[0] == 200 and engine.status().get("role") == "leader")
        alice.execute("select df.signal('poisoned', 'other')")  # what sleeps is read when something comes for it
        wait_until(lambda: "instance quarantined" in engine.log())
        assert "instance started" in engine.log(), "the story is told"
        assert SECRET not in said(engine)
        assert engine.terminate() == 0
        assert SECRET not in engine.log()
    database.drop()


def _run_all(stage: World) -> None:
    """Workflows that handle secrets in each way that there is, successfully and not."""
    graphs = {
        "literal": f"select '{SECRET}-literal'",
        "variable": "select {token}",
        "input": "select $input.token as t |=> a ~> select $a.t",
        "failing": f"do $$begin raise exception '{SECRET}-raised' using detail = '{SECRET}', hint = '{SECRET}'; end$$",
        "unique": f"insert into accounts values ('{SECRET}-row')",
        "syntax": f"selekt '{SECRET}-syntax'",
        "alone": f"vacuum (analyze) accounts /* {SECRET}-alone */",
    }
    given = json.dumps({"token": f"{SECRET}-input"})
    alice = stage.connection("alice")
    for name, graph in graphs.items():
        alice.execute("insert into df.instances (id, label, graph, input) values (%s, %s, df.seq(%s, 'select 1'), %s)",
                      [name, name, graph, given])  # fmt: skip
    alice.execute("select df.start(df.wait_for_signal('go'), id => 'signalled')")
    alice.execute("select df.signal('signalled', 'go', %s)", [json.dumps(f"{SECRET}-signal")])
    alice.execute("select df.start(df.sleep(600), id => 'cancelled')")
    alice.execute("select df.cancel('cancelled', %s)", [f"{SECRET}-reason"])
    for name in (*graphs, "signalled", "cancelled"):
        stage.end(name)


def _quarantine_one(stage: World) -> None:
    """One whose state nobody can read."""
    stage.connection("alice").execute("select df.start(df.wait_for_signal('go'), id => 'poisoned')")
    found = "select 1 from df.states s join df.instances i on i.key = s.instance_key where i.id = 'poisoned'"
    wait_until(lambda: stage.database.run(found))
    stage.database.run(
        "update df.states s set state = %s from df.instances i where i.key = s.instance_key and i.id = 'poisoned'",
        [json.dumps({"scopes": [f"{SECRET}-state"], "state": [SECRET]})],
    )


def test_what_is_wrong_with_settings_is_said_without_their_secrets(tmp_path: Path, server18: Cluster) -> None:
    database = server18.database()
    wrong = database.engine(tmp_path, dsn=f"host=127.0.0.1 port=1 dbname=x password={SECRET} nonsense={SECRET}").spawn()
    assert wrong.wait() == 2
    assert "dsn" in wrong.log()
    assert SECRET not in wrong.log()
    away = database.engine(tmp_path, dsn=f"host=127.0.0.1 port=1 user=x dbname=x password={SECRET}").spawn()
    wait_until(lambda: away.get("/readyz")[0] == 503)
    wait_until(lambda: "port 1 failed" in away.log())
    assert SECRET not in said(away)
    assert away.terminate() == 0
    database.drop()
