"""Nothing secret is ever written: not to the log at its most talkative, not on a page, not by a command that fails.

Secrets are planted wherever a user or an operator may have one, and everything that can be done with them is done: steps that
use them succeed, fail and are undone, a server refuses logins and goes away, a row cannot be folded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg import sql as pgsql
from psycopg.conninfo import make_conninfo

from tests.servers import READER_ROLE, Database, EngineProcess, wait_until
from tests.workflows import World, world

PLACES = (
    "dsn", "replication_dsn", "passfile", "environment", "statement", "variable", "input", "signal", "error", "raised", "detail",
    "result", "item", "undo", "handler", "reason", "release", "child", "broken", "refused",
)  # fmt: skip


def secret(place: str) -> str:
    """What stands in one place and nowhere else."""
    return f"planted-in-{place}-7f3a"


def found_in(text: str) -> list[str]:
    """The places whose secrets are in a text."""
    return [place for place in PLACES if secret(place) in text]


def planted(database: Database, directory: Path, log_format: str) -> EngineProcess:
    """An engine with passwords in all its connection strings, at level debug."""
    passfile = directory / "passfile"
    passfile.write_text(f"*:*:*:*:{secret('passfile')}\n")
    passfile.chmod(0o600)
    engine = database.engine(
        directory,
        dsn=make_conninfo(database.engine_dsn, password=secret("dsn")),
        replication_dsn=make_conninfo(database.dsn(READER_ROLE), password=secret("replication_dsn")),
        step_passfile=str(passfile),
        log_format=log_format,
        log_level="debug",
    )
    engine.environment = {"PGPASSWORD": secret("environment")}
    return engine


def use_everything(here: World) -> None:
    """Workflows that carry secrets wherever they can, to their ends."""
    here.run("select df.setvar('token', %s)", [secret("variable")], "alice")
    start = "insert into df.instances (id, graph, input) values (%s, %s, %s)"
    here.run(
        start,
        ["uses", here.build(f"""
            select df.seq_all(
              df.as('select ''{{token}}'' as it, ''{secret("result")}'' as own', 'r'), 'select $r.own, $input',
              'select ''{secret("statement")}''', df.as(df.wait_for_signal('go'), 's'), 'select $s::jsonb',
              df.map('select ''{secret("item")}''', 'select $item'),
              df.call_child('select ''{secret("child")}''', 'kin'))
        """), f'{{"key": "{secret("input")}"}}'],
        "alice",
    )  # fmt: skip
    here.run(
        "insert into df.signals (instance_id, name, data) values ('uses', 'go', %s)", [f'"{secret("signal")}"'], "alice"
    )
    raising = (
        f"""'do $do$ begin raise exception ''{secret("raised")}'' using detail = ''{secret("detail")}''; end $do$'"""
    )
    failing = f"df.with_undo('select ''{secret('undo')}''', 'select 1') ~> 'select ''{secret('error')}''::int'"
    here.start(here.build(f"select df.catch({failing}, 'select $error, ''{secret('handler')}''')"), id="handled")
    here.start(here.build(f"select {raising}"), id="raises")
    here.start(here.build(f"select df.retry({raising}, 2, interval '10 ms')"), id="raises-again")
    here.start("select pg_sleep(600)", id="cancelled")
    here.run("insert into df.cancellations (instance_id, reason) values ('cancelled', %s)", [secret("reason")], "alice")
    ends = {id: here.end(id).status for id in ("uses", "handled", "raises", "raises-again", "cancelled")}
    assert ends == {
        "uses": "completed", "handled": "completed", "raises": "failed", "raises-again": "failed", "cancelled": "cancelled",
    }  # fmt: skip


def break_a_row(here: World) -> None:
    """A graph that got past the guards, as after a careless restore: it cannot be folded, and is released in vain."""
    here.run("alter table df.instances disable trigger user")
    query = """
        insert into df.instances (key, id, graph, submitted_by, submitter, created_xid, event_id)
        values (-1, 'broken', %s, 'alice', 'alice'::regrole::oid, pg_current_xact_id(), gen_random_uuid())
    """
    here.run(query, [f'{{"node_type":"SQL","query":"select 1","right_node":{{"{secret("broken")}":1}}'])
    here.run("alter table df.instances enable trigger user")
    wait_until(
        lambda: here.run("select 1 from df.instances where id = 'broken' and (quarantined <> '' or error is not null)")
    )


def refuse_a_login(here: World) -> None:
    """A role that the server lets submit, and then does not let in for its step."""
    role = here.database.new_role("refused", "login connection limit 0")
    with here.database.connect() as connection:
        connection.execute(pgsql.SQL("set role {}").format(pgsql.Identifier(role)))
        graph = f"select '{secret('refused')}'"
        connection.execute("insert into df.instances (id, graph) values ('refused', %s)", [graph])
    here.wait_for("refused", "running")
    here.run(
        "insert into df.cancellations (instance_id, owner, reason) values ('refused', %s::regrole::oid, '')", [role]
    )
    here.end("refused")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_secrets_planted_everywhere_are_never_logged_nor_shown(
    database: Database, tmp_path: Path, log_format: str
) -> None:
    engine = planted(database, tmp_path, log_format).start()
    with world(database, engine) as here:
        use_everything(here)
        break_a_row(here)
        pages = [engine.get(path)[1] for path in ("/metrics", "/status", "/readyz", "/healthz", "/nothing")]
        refuse_a_login(here)
        here.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'walflow%'")
        here.end(here.start("select 1"))
        assert engine.terminate() == 0
    log = engine.log()
    assert "step completed" in log  # it was talkative
    assert found_in(log) == []
    assert found_in("".join(pages)) == []


@pytest.mark.parametrize("command", ["run", "migrate", "doctor"])
@pytest.mark.parametrize(
    "dsn", ["host=127.0.0.1 port=1 user=x password={}", "postgresql://x:{}@127.0.0.1:1/x", "host=x {}= ="]
)
def test_a_command_that_cannot_connect_tells_no_password(command: str, dsn: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "WALFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "engine", command, *(["--show-settings"] if command == "run" else [])],
        env={**clean, "WALFLOW_DSN": dsn.format(secret("dsn")), "PGPASSWORD": secret("environment")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in (0, 2, 3), done.stderr
    assert found_in(done.stdout + done.stderr) == []
    assert "Traceback" not in done.stderr
