"""The slot, the publication and the connection that reads them: everything that happens before a stream runs.

Two kinds of connection appear. A *replication connection* (`connect_replication`) understands replication commands
and plain SQL without parameters; whatever can run on either kind is written without parameters for that reason.

The errors of the server are told apart by SQLSTATE only: its messages may be in any language.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import pq
from psycopg import sql as pgsql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import tuple_row

from cdc.errors import (
    CdcError,
    LossReason,
    Problem,
    PublicationIncomplete,
    ServerUnfit,
    SlotInUse,
    SlotLost,
    SlotNotCreated,
    StreamEnded,
)
from cdc.limits import CREATE_SLOT_LOCK_TIMEOUT_SECONDS, OLDEST_SERVER_VERSION, WAL_SENDER_TIMEOUT_SECONDS
from cdc.lsn import NO_LSN, Lsn, format_lsn, parse_lsn
from cdc.network import open_connection
from cdc.sessions import UNHINDERED, end_no_transaction

Connection = psycopg.AsyncConnection[Any]

PLUGIN: Final = "pgoutput"

_SLOT_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")

_LOCK_NOT_AVAILABLE: Final = "55P03"
_NOT_IN_PREREQUISITE_STATE: Final = "55000"
_DUPLICATE_OBJECT: Final = "42710"
_LIMIT_EXCEEDED: Final = "53400"
_INSUFFICIENT_PRIVILEGE: Final = "42501"

FAILOVER_SLOTS_SINCE: Final = 170_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemIdentity:
    """Which server this is, and how far its WAL is flushed."""

    system_identifier: str
    timeline: int
    flushed: Lsn
    database: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """One row of pg_replication_slots. `invalidation` says why the slot is of no more use, None if it is fine."""

    name: str
    plugin: str | None
    database: str | None
    active: bool
    active_pid: int | None
    restart_lsn: Lsn | None
    confirmed_flush_lsn: Lsn | None
    wal_status: str | None
    invalidation: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedSlot:
    """A new slot. `snapshot_name` can be imported until the next command on the connection that created the slot."""

    consistent_point: Lsn
    snapshot_name: str


# --- connecting


async def connect_replication(
    dsn: str,
    *,
    application_name: str,
    wal_sender_timeout_seconds: int = WAL_SENDER_TIMEOUT_SECONDS,
) -> Connection:
    """A connection that understands replication commands. Errors are psycopg's: there is no server to blame yet."""
    given = conninfo_to_dict(dsn).get("options")
    ours = f"-c search_path=pg_catalog,pg_temp -c wal_sender_timeout={wal_sender_timeout_seconds}s {UNHINDERED}"
    parameters = {
        "replication": "database",
        "client_encoding": "UTF8",
        "application_name": application_name,
        "options": f"{given} {ours}" if given else ours,
    }
    # Prepared statements are what the server refuses here (08P01).
    conn = await open_connection(dsn, parameters, prepare_threshold=None)
    await end_no_transaction(conn)
    return conn


async def identify_system(conn: Connection) -> SystemIdentity:
    """Ask a replication connection which server it leads to."""
    row = await _one_row(conn, pgsql.SQL("IDENTIFY_SYSTEM"))
    system_identifier, timeline, position, database = row
    return SystemIdentity(
        system_identifier=system_identifier, timeline=timeline, flushed=parse_lsn(position), database=database
    )


# --- the slot


async def read_slot(conn: Connection, name: str) -> SlotState | None:
    """The slot as the server sees it, None if there is none of that name. Works on any connection."""
    # Through jsonb, since which columns exist depends on the server's version.
    query = pgsql.SQL(
        "select pg_catalog.to_jsonb(s) from pg_catalog.pg_replication_slots as s where s.slot_name = {}"
    ).format(name)
    rows = await _rows(conn, query)
    return _slot_state(rows[0][0]) if rows else None


def check_slot(slot: SlotState | None, name: str, database: str) -> None:
    """Raise SlotLost unless this is a usable pgoutput slot of `database`."""
    rebuild = "a new slot must be made and the tables scanned"
    if slot is None:
        raise SlotLost(f"slot {name} does not exist", rebuild, reason=LossReason.MISSING)
    if slot.plugin != PLUGIN or slot.database != database:
        kind = f"a {slot.plugin} slot of database {slot.database}" if slot.plugin else "a physical slot"
        hint = "choose another slot name, or drop that slot if nobody needs it"
        raise SlotLost(f"slot {name} is {kind}, not {PLUGIN} of {database}", hint, reason=LossReason.FOREIGN)
    if slot.invalidation is not None:
        what = f"slot {name} was invalidated: {slot.invalidation}"
        raise SlotLost(what, f"drop it; {rebuild}", reason=LossReason.INVALIDATED)


def check_stored_position(stored: Lsn, slot: SlotState, system: SystemIdentity) -> None:
    """Raise SlotLost unless a checkpoint at `stored` can be continued from this slot.

    Only the positions are compared here; that system identifier and slot generation are those of the checkpoint is
    for the caller to compare. A slot *behind* the checkpoint is normal: the server's crash moves it back.
    """
    confirmed = NO_LSN if slot.confirmed_flush_lsn is None else slot.confirmed_flush_lsn
    hint = "a new slot must be made and the tables scanned"
    if confirmed > stored:
        beyond = f"beyond the checkpoint at {format_lsn(stored)}"
        what = f"slot {slot.name} was confirmed up to {format_lsn(confirmed)}, {beyond}"
        raise SlotLost(what, hint, reason=LossReason.FOREIGN)
    if stored > system.flushed:
        what = f"the checkpoint at {format_lsn(stored)} lies beyond the server's WAL at {format_lsn(system.flushed)}"
        raise SlotLost(what, hint, reason=LossReason.FOREIGN)


async def create_slot(
    conn: Connection,
    name: str,
    *,
    failover: bool = False,
    lock_timeout_seconds: float = CREATE_SLOT_LOCK_TIMEOUT_SECONDS,
) -> CreatedSlot:
    """Create a slot and export the snapshot that ends exactly where it starts. Raises SlotNotCreated.

    Every transaction that runs on the server now is waited for, for `lock_timeout_seconds` each. `failover` is for 17
    and later; older servers know no such slots.
    """
    if failover and conn.info.server_version < FAILOVER_SLOTS_SINCE:
        raise ServerUnfit([Problem("this server has no failover slots", "17 is the first version with them")])
    options = pgsql.SQL("SNAPSHOT 'export', FAILOVER" if failover else "SNAPSHOT 'export'")
    command = pgsql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput ({})").format(_slot_identifier(name), options)
    await conn.execute(pgsql.SQL("set lock_timeout = {}").format(max(1, round(lock_timeout_seconds * 1000))))
    try:
        _, consistent_point, snapshot_name, _ = await _one_row(conn, command)
    except psycopg.Error as error:
        raise _not_created(name, error) from error
    return CreatedSlot(consistent_point=parse_lsn(consistent_point), snapshot_name=snapshot_name)


async def drop_slot(conn: Connection, name: str) -> bool:
    """Drop the slot; returns whether it existed. Raises SlotInUse. Works on any connection."""
    try:
        await conn.execute(pgsql.SQL("select pg_catalog.pg_drop_replication_slot({})").format(name))
    except psycopg.errors.ObjectInUse as error:
        raise _in_use(name) from error
    except psycopg.errors.UndefinedObject:
        return False
    return True


# --- checks


async def check_server(conn: Connection) -> list[Problem]:
    """What keeps this server, or this role on it, from logical decoding. Works on any connection.

    Whom the server has let in as a walsender may replicate, whatever the role's attributes: RDS and Aurora go by membership in
    a role of theirs instead.
    """
    query: LiteralString = """
        select pg_catalog.current_setting('server_version_num')::int,
               pg_catalog.current_setting('server_version'),
               pg_catalog.current_setting('wal_level'),
               r.rolname::text,
               r.rolreplication or r.rolsuper or exists (
                 select from pg_catalog.pg_stat_activity as a
                  where a.pid = pg_catalog.pg_backend_pid() and a.backend_type = 'walsender'),
               exists (select from pg_catalog.pg_roles as m where m.rolname = 'rds_replication')
          from pg_catalog.pg_roles as r
         where r.rolname = current_user
    """
    number, version, wal_level, role, may_replicate, is_rds = await _one_row(conn, pgsql.SQL(query))
    problems = []
    if number < OLDEST_SERVER_VERSION:
        oldest = OLDEST_SERVER_VERSION // 10_000
        problems.append(Problem(f"the server is PostgreSQL {version}", f"PostgreSQL {oldest} or later is needed"))
    if wal_level != "logical":
        problems.append(
            Problem(
                f"wal_level is {wal_level}",
                "alter system set wal_level = 'logical'; then restart the server",
                statement="alter system set wal_level = 'logical'",
            )
        )
    if not may_replicate:
        name = pgsql.Identifier(role).as_string()
        hint = f"grant rds_replication to {name}" if is_rds else f"alter role {name} replication"
        problems.append(Problem(f"role {role} may not replicate", hint, statement=hint))
    return problems


async def check_publication(conn: Connection, publication: str, expected: Mapping[str, Iterable[str]]) -> list[Problem]:
    """What is missing for the inserts into every `schema.table` of `expected` to arrive with the given columns.

    To be called before each start: from PostgreSQL 18 on a missing publication is only a warning in the server's log,
    and the changes are skipped for good. Works on any connection.
    """
    found = await _rows(
        conn,
        pgsql.SQL("select p.pubinsert from pg_catalog.pg_publication as p where p.pubname = {}").format(publication),
    )
    if not found:
        return [Problem(f"publication {publication} does not exist", "run the migrations, or restore it")]
    problems = []
    if not found[0][0]:
        hint = "alter publication … set (publish = 'insert')"
        problems.append(Problem(f"publication {publication} does not publish inserts", hint))
    published = await _published_tables(conn, publication)
    for table, columns in expected.items():
        problems += _check_table(publication, table, columns, published.get(table))
    return problems


PUBLICATION_STAMP: Final[LiteralString] = """
select pg_catalog.string_agg(s.part, ' ' order by s.part)
  from (select %s::pg_catalog.text as name) as wanted
 cross join lateral (
   select p.oid || ':' || p.xmin from pg_catalog.pg_publication as p where p.pubname = wanted.name
    union all
   select r.oid || ':' || r.xmin
     from pg_catalog.pg_publication_rel as r
     join pg_catalog.pg_publication as p on p.oid = r.prpubid
    where p.pubname = wanted.name) as s(part)
"""
"""A query for a text that is another one whenever somebody has altered the publication, even if it is again what it was."""


async def require_publication(conn: Connection, publication: str, expected: Mapping[str, Iterable[str]]) -> None:
    """check_publication, raising PublicationIncomplete."""
    if problems := await check_publication(conn, publication, expected):
        raise PublicationIncomplete(problems)


async def require_server(conn: Connection) -> None:
    """check_server, raising ServerUnfit."""
    if problems := await check_server(conn):
        raise ServerUnfit(problems)


# --- starting


async def start_replication(conn: Connection, slot: str, publication: str) -> PGconn:
    """Send START_REPLICATION and return the libpq connection for `cdc.stream.Stream`.

    The start is where the slot was confirmed: the server moves any earlier position there, and believes a later one.
    Raises SlotInUse (55006), SlotLost (55000, 42704), or StreamEnded with any other SQLSTATE. An imported snapshot
    of `create_slot` must have been imported by now. In a database in SQL_ASCII the connection speaks raw bytes from
    here on, so psycopg's results on it are bytes too, should it be used for SQL again.
    After a cancellation the connection must be closed.
    """
    # What create_slot set must not end a stream whose decoding waits for a lock on the catalogs.
    await conn.execute("set lock_timeout = 0")
    if conn.info.parameter_status("server_encoding") == "SQL_ASCII":
        # Such a database holds any bytes, and the server ends the stream (22021) where they are not UTF-8.
        await conn.execute("set client_encoding = 'SQL_ASCII'")
    command = (
        f"START_REPLICATION SLOT {_slot_identifier(slot).as_string()} LOGICAL 0/0 "
        f"(proto_version '1', publication_names {_quote_literal(_quote_identifier(publication))})"
    )
    result = await _send(conn.pgconn, command.encode())
    if result.status == pq.ExecStatus.COPY_BOTH:
        return conn.pgconn
    await _take_results(conn.pgconn)
    raise _not_started(slot, result)


async def _send(pgconn: PGconn, command: bytes) -> PGresult:
    """The first result of a command. Not psycopg's own wait: that one sends a cancel request when it is cancelled."""
    pgconn.send_query(command)
    while pgconn.flush() == 1:
        await _ready(pgconn, write=True)
    result = await _result(pgconn)
    if result is None:
        raise StreamEnded("the server did not answer START_REPLICATION")
    return result


async def _take_results(pgconn: PGconn) -> None:
    """Leave the connection ready for the next command, if it still lives."""
    try:
        while await _result(pgconn) is not None:
            pass
    except psycopg.Error:
        return


async def _result(pgconn: PGconn) -> PGresult | None:
    while pgconn.is_busy():
        await _ready(pgconn)
        pgconn.consume_input()
    return pgconn.get_result()


async def _ready(pgconn: PGconn, *, write: bool = False) -> None:
    """Wait until the socket can be read (or, with `write`, written as well)."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    socket = pgconn.socket

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(socket, wake)
    if write:
        loop.add_writer(socket, wake)
    try:
        await ready
    finally:
        loop.remove_reader(socket)
        if write:
            loop.remove_writer(socket)


# --- small parts


async def _rows(conn: Connection, query: pgsql.SQL | pgsql.Composed) -> list[tuple[Any, ...]]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()


async def _one_row(conn: Connection, query: pgsql.SQL | pgsql.Composed) -> tuple[Any, ...]:
    (row,) = await _rows(conn, query)
    return row


def _slot_state(row: Mapping[str, Any]) -> SlotState:
    return SlotState(
        name=row["slot_name"],
        plugin=row["plugin"],
        database=row["database"],
        active=row["active"],
        active_pid=row["active_pid"],
        restart_lsn=_optional_lsn(row["restart_lsn"]),
        confirmed_flush_lsn=_optional_lsn(row["confirmed_flush_lsn"]),
        wal_status=row["wal_status"],
        invalidation=_invalidation(row),
    )


def _invalidation(row: Mapping[str, Any]) -> str | None:
    """Why the slot is of no more use; before 17 the server does not tell the reasons apart."""
    if reason := row.get("invalidation_reason"):
        return str(reason)
    return "lost" if row["wal_status"] == "lost" or row.get("conflicting") else None


def _optional_lsn(text: str | None) -> Lsn | None:
    return None if text is None else parse_lsn(text)


@dataclass(frozen=True, slots=True)
class _PublishedTable:
    columns: frozenset[str]
    row_filter: str | None


async def _published_tables(conn: Connection, publication: str) -> dict[str, _PublishedTable]:
    query: LiteralString = """
        select t.schemaname || '.' || t.tablename, pg_catalog.to_jsonb(t.attnames), t.rowfilter
          from pg_catalog.pg_publication_tables as t
         where t.pubname = {}
    """
    rows = await _rows(conn, pgsql.SQL(query).format(publication))
    return {table: _PublishedTable(frozenset(columns or ()), row_filter) for table, columns, row_filter in rows}


def _check_table(
    publication: str, table: str, columns: Iterable[str], published: _PublishedTable | None
) -> list[Problem]:
    if published is None:
        hint = f"alter publication {publication} add table {table}"
        return [Problem(f"publication {publication} leaves out {table}", hint)]
    problems = []
    if missing := [column for column in columns if column not in published.columns]:
        what = f"publication {publication} leaves out {', '.join(missing)} of {table}"
        problems.append(Problem(what, "add the columns to its column list"))
    if published.row_filter is not None:
        what = f"publication {publication} filters the rows of {table} by {published.row_filter}"
        problems.append(Problem(what, "publish the table without a where clause"))
    return problems


def _in_use(slot: str) -> SlotInUse:
    return SlotInUse(f"slot {slot} is read by another session", "keep trying; pg_replication_slots.active_pid names it")


def _not_created(slot: str, error: psycopg.Error) -> CdcError:
    hint = {
        _LOCK_NOT_AVAILABLE: "a transaction was open all the time: see pg_stat_activity.xact_start; then try again",
        _DUPLICATE_OBJECT: "a slot of that name exists already",
        _LIMIT_EXCEEDED: "raise max_replication_slots, or drop a slot that nobody needs",
        _NOT_IN_PREREQUISITE_STATE: "wal_level must be logical",
        _INSUFFICIENT_PRIVILEGE: "the role needs the REPLICATION attribute",
    }.get(error.sqlstate or "", "")
    return SlotNotCreated(f"slot {slot} was not created: {error}", hint, sqlstate=error.sqlstate)


def _not_started(slot: str, result: PGresult) -> CdcError:
    field = result.error_field(pq.DiagnosticField.SQLSTATE)
    sqlstate = None if field is None else field.decode("ascii", "replace")
    message = result.get_error_message("utf-8")
    match sqlstate:
        case "55006":  # object in use
            return _in_use(slot)
        case "42704":  # undefined object
            return SlotLost(f"slot {slot} is gone: {message}", reason=LossReason.MISSING)
        case "55000":  # not in prerequisite state
            return SlotLost(f"slot {slot} cannot be read any more: {message}", reason=LossReason.INVALIDATED)
        case _:
            return StreamEnded(f"the stream was not started: {message}", sqlstate=sqlstate)


def _slot_identifier(name: str) -> pgsql.Identifier:
    """The name for the replication grammar, which knows no doubled quotes in identifiers."""
    if _SLOT_NAME.fullmatch(name) is None:
        raise CdcError(f"{name!r} is no name for a slot", "use at most 63 lower-case letters, digits and underscores")
    return pgsql.Identifier(name)


def _quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quote_literal(text: str) -> str:
    """A literal as the replication grammar reads it: doubled quotes, and no escapes whatever."""
    return "'" + text.replace("'", "''") + "'"
