"""Whether the database is fit to run on: every condition, each with what repairs it.

`diagnose` looks, changes nothing and returns findings; `walflow doctor` prints them, and `walflow run` refuses to
start when one of them is an error. A warning is a condition under which the engine runs, but not as well as it could.
What the engine mends by itself when it takes over (a slot that is missing or was invalidated) is never an error.
"""

from __future__ import annotations

import psycopg

from cdc.limits import OLDEST_SERVER_VERSION
from engine.config import Settings
from engine.connect import Connection
from engine.doctor import installation, server
from engine.doctor.findings import (
    Finding,
    Severity,
    failed,
    logged_in,
    lost_connection,
    no_login,
    ok,
    whereabouts,
)

__all__ = ["Finding", "Severity", "diagnose", "failed"]


async def diagnose(settings: Settings, *, try_steps: bool = True) -> list[Finding]:
    """Look at every condition. `try_steps` logs in as some of the roles that submit, to see whether steps can.

    Raises nothing for what is wrong with the world: a server that is away is a finding too, with `away` set.
    """
    findings: list[Finding] = []
    try:
        async with logged_in(settings.dsn) as conn:
            await _look(conn, settings, findings, try_steps=try_steps)
    except psycopg.OperationalError as error:
        lost = lost_connection(error) if findings else await no_login("connection", "dsn", settings.dsn, error)
        findings.append(lost)
    return findings


async def _look(conn: Connection, settings: Settings, findings: list[Finding], *, try_steps: bool) -> None:
    """Add to the findings. What cannot be looked at before something else is repaired is left out."""
    findings.append(ok("connection", whereabouts(conn)))
    if conn.info.server_version < OLDEST_SERVER_VERSION:
        findings += await server.check_logical_decoding(conn)
        return
    findings += await server.check_primary(conn)
    if failed(findings):
        return
    findings += await server.check_engine_role(conn)
    schema = await installation.check_schema(conn)
    findings += schema
    installed = not failed(schema)
    findings += await server.check_replication(conn, settings, installed=installed)
    if installed:
        findings += await installation.check_contents(conn, settings.publication)
        if try_steps:
            findings += await installation.check_step_logins(conn, settings)
