"""The server, the two roles, and the slot."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, LiteralString

import psycopg
from psycopg import sql as pgsql
from psycopg.conninfo import conninfo_to_dict

from cdc import slot as slots
from cdc.errors import LossReason, Problem, SlotLost
from cdc.lsn import parse_lsn
from cdc.slot import SlotState, connect_replication
from engine.config import Settings
from engine.connect import Connection
from engine.doctor.findings import (
    APPLICATION_NAME,
    WHERE,
    Finding,
    Severity,
    fail,
    failed,
    no_login,
    ok,
    quoted,
    row_of,
    rows_of,
    warn,
)

READERS: Final = ("walflow-leader", "walflow-standby", APPLICATION_NAME)


async def check_primary(conn: Connection) -> list[Finding]:
    """A standby takes no writes. After a failover an address may lead to one that is about to be promoted."""
    [standby] = await row_of(conn, "select pg_is_in_recovery()")
    if not standby:
        return []
    return [
        Finding(
            condition="primary",
            severity=Severity.ERROR,
            what=f"the server at {conn.info.host}:{conn.info.port} is a standby, which takes no writes",
            repair="set dsn to the primary: all hosts, and target_session_attrs=read-write, find it; or promote this one",
            away=True,
        )
    ]


async def check_engine_role(conn: Connection) -> list[Finding]:
    """The engine's own connection: straight to the server, no superuser, a sensible encoding."""
    return [*await check_pooler(conn), *await check_superuser(conn), *await check_encoding(conn)]


async def check_pooler(conn: Connection) -> list[Finding]:
    [pid] = await row_of(conn, "select pg_backend_pid()")
    if pid == conn.info.backend_pid:
        return []
    return [warn("pooler", "dsn leads through a connection pooler", "set dsn to the server itself")]


async def check_superuser(conn: Connection) -> list[Finding]:
    [superuser] = await row_of(conn, "select rolsuper from pg_roles where rolname = current_user")
    if not superuser:
        return [ok("role", f"role {conn.info.user} is no superuser")]
    return [
        warn(
            "role",
            f"role {conn.info.user} is a superuser, which the engine does not need",
            f"alter role {quoted(conn.info.user)} nosuperuser; or set dsn to a plain role that owns schema df",
        )
    ]


async def check_encoding(conn: Connection) -> list[Finding]:
    [encoding] = await row_of(conn, "select current_setting('server_encoding')")
    if encoding != "SQL_ASCII":
        return [ok("encoding", f"the database is in {encoding}")]
    return [
        warn(
            "encoding",
            "the database is in SQL_ASCII, which checks nothing: an instance with text that is no UTF-8 fails",
            "create database … encoding 'UTF8' template template0, and move there",
        )
    ]


async def check_replication(conn: Connection, settings: Settings, *, installed: bool) -> list[Finding]:
    try:
        replication = await connect_replication(settings.replication_dsn, application_name=APPLICATION_NAME)
    except psycopg.OperationalError as error:
        return [*await check_logical_decoding(conn), await _no_replication(conn, settings, error)]
    async with replication:
        findings = [*await check_logical_decoding(replication), *await check_same_server(conn, replication)]
        if not failed(findings):
            findings += await check_slot(conn, replication, settings, installed=installed)
        return findings


async def _no_replication(conn: Connection, settings: Settings, error: psycopg.Error) -> Finding:
    finding = await no_login("replication", "replication_dsn", settings.replication_dsn, error)
    if finding.away:
        return finding
    role = conninfo_to_dict(settings.replication_dsn).get("user") or conn.info.user
    # where there is rds_replication, membership in it is what counts
    lacking: LiteralString = """
        select 1 from pg_roles
         where rolname = {} and not rolreplication and not rolsuper and to_regrole('rds_replication') is null
    """
    if await rows_of(conn, lacking, str(role)):
        statement = f"alter role {quoted(str(role))} replication"
        return replace(finding, repair=statement, statements=(statement,))
    repair = "give the role REPLICATION (alter role … replication), admit it in pg_hba.conf, or raise max_wal_senders"
    return replace(finding, repair=repair)


async def check_logical_decoding(conn: Connection) -> list[Finding]:
    problems = await slots.check_server(conn)
    if problems:
        return [fail("server", problem.what, problem.hint, *_statement(problem)) for problem in problems]
    return [ok("server", f"wal_level is logical and role {conn.info.user} may replicate")]


def _statement(problem: Problem) -> tuple[str, ...]:
    return (problem.statement,) if problem.statement else ()


async def check_same_server(conn: Connection, replication: Connection) -> list[Finding]:
    if await row_of(conn, WHERE) == await row_of(replication, WHERE):
        return [ok("replication", f"{replication.info.user} is logged in for replication from the same database")]
    return [
        fail(
            "replication",
            "dsn and replication_dsn lead to different databases",
            "set both to the same server and dbname",
        )
    ]


async def check_slot(
    conn: Connection, replication: Connection, settings: Settings, *, installed: bool
) -> list[Finding]:
    slot = await slots.read_slot(replication, settings.slot)
    if slot is None:
        return await check_room(replication, settings.slot)
    try:
        slots.check_slot(slot, settings.slot, conn.info.dbname)
    except SlotLost as lost:
        return [_lost_slot(settings.slot, lost)]
    findings = await check_reader(replication, slot)
    if installed and not failed(findings):
        findings += await check_position(conn, replication, slot)
    return findings


def _lost_slot(name: str, lost: SlotLost) -> Finding:
    if lost.reason is LossReason.FOREIGN:
        drop = pgsql.SQL("select pg_drop_replication_slot({})").format(name).as_string()
        return fail("slot", lost.what, f"choose another name with the setting slot; or, if nobody needs it, {drop}")
    return warn("slot", lost.what, "nothing: the next leader makes a new slot and scans the tables")


async def check_room(conn: Connection, name: str) -> list[Finding]:
    query: LiteralString = """
        select count(*)::int, current_setting('max_replication_slots')::int from pg_replication_slots
    """
    used, room = await row_of(conn, query)
    if used < room:
        return [ok("slot", f"slot {name} does not exist yet, and there is room for it ({used} of {room} in use)")]
    return [
        fail(
            "slot",
            f"there is no room for slot {name}: all {room} replication slots are in use",
            f"alter system set max_replication_slots = {room + 5}; restart the server; or drop a slot nobody needs",
            f"alter system set max_replication_slots = {room + 5}",
        )
    ]


async def check_reader(conn: Connection, slot: SlotState) -> list[Finding]:
    """An engine that reads the slot is a leader; anything else there keeps every engine out."""
    if slot.active_pid is None:
        return [ok("slot", f"slot {slot.name} is there, and free")]
    rows = await rows_of(conn, "select application_name from pg_stat_activity where pid = {}", slot.active_pid)
    reader = rows[0][0] if rows else ""
    if reader in READERS:
        return [ok("slot", f"slot {slot.name} is read by an engine (backend {slot.active_pid})")]
    return [
        fail(
            "slot",
            f"slot {slot.name} is occupied by {reader or '?'!r} (backend {slot.active_pid}), which is no engine",
            f"stop that reader (select pg_terminate_backend({slot.active_pid})), or choose another name for slot",
        )
    ]


async def check_position(conn: Connection, replication: Connection, slot: SlotState) -> list[Finding]:
    """Compare what was stored with the slot. The order of reading matters: slot, checkpoint, end of the WAL."""
    query: LiteralString = "select lsn::text, system_identifier, slot_name from df.checkpoint"
    lsn, system_identifier, slot_name = await row_of(conn, query)
    system = await slots.identify_system(replication)
    nothing = "nothing: the next leader makes a new slot and scans the tables"
    if system_identifier is None:
        return []
    if (system_identifier, slot_name) != (system.system_identifier, slot.name):
        return [warn("position", "the stored position is of another server or slot (a restore?)", nothing)]
    try:
        slots.check_stored_position(parse_lsn(lsn), slot, system)
    except SlotLost as lost:
        return [warn("position", lost.what, nothing)]
    return [ok("position", f"the stored position {lsn} agrees with the slot")]
