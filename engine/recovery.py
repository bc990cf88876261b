"""How a leader comes to know what is unfinished: from a checkpoint and the log after it, or from the tables.

Theory of operation. Who holds the slot leads. It ends what the leader before it left connected, bumps the epoch, and only then
loads: from there on nothing that the old one writes can be committed (A stale engine cannot harm).

When the slot cannot be continued from, the tables are the truth (Losing the slot loses nothing): `rebuild` makes a new slot,
imports the snapshot that ends exactly where it starts, holds the slot by streaming at once, and folds every row that no
checkpoint holds. Position, identity of the slot and states are stored by one transaction; until that has committed
`scanning` stands in df.checkpoint, and whoever finds it there begins again.

A scan does not know the order of the log. Per instance, a row that some completion names as its cause was acted on before: such
rows are folded first; the others follow in the order in which they were recorded.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql as pgsql

from cdc.errors import SlotLost
from cdc.lsn import Lsn, parse_lsn
from cdc.slot import (
    CreatedSlot,
    SlotState,
    SystemIdentity,
    check_slot,
    check_stored_position,
    create_slot,
    drop_slot,
    read_slot,
)
from engine.book import Book, HeldEvent, Live, completed
from engine.codec import CodecError, Stored
from engine.errors import MachineError, Unfit, WalflowError
from engine.events import CancelRequested, Event, Signalled, Started
from engine.executors.login import Login
from engine.log import fields
from engine.machine import NEW
from engine.rows import CommandKind, CommandRow, CompletionRow, InstanceRow, readable

Connection = psycopg.AsyncConnection[Any]

log = logging.getLogger("walflow.recovery")

CHUNK: Final = 500
"""Instances read at a time."""
LOGINS: Final = 4
"""Roles whose old backends are ended at the same time, before a scan."""

_END_LEADERS: Final = """
select pg_terminate_backend(pid)
  from pg_stat_activity
 where usename = current_user
   and datname = current_database()
   and application_name = 'walflow-leader'
   and pid <> pg_backend_pid()
"""
_CHECKPOINT: Final = """
select epoch, lsn, system_identifier, slot_name, slot_generation, scanning from df.checkpoint
"""
_NOW: Final = """
select pg_current_wal_flush_lsn(), pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       (extract(epoch from clock_timestamp()) * 1000000)::bigint
"""
_INSTANCE: Final = """
i.key, i.submitter, i.id, i.graph, i.label, i.input::text, i.vars::text, i.parent_key, i.event_id::text, i.status,
i.quarantined, (extract(epoch from i.started_at) * 1000000)::bigint, (extract(epoch from i.recorded_at) * 1000000)::bigint,
i.submitted_by::text, s.version, s.state
"""
_LIVE: Final = f"select {_INSTANCE} from df.states s join df.instances i on i.key = s.instance_key"
_UNFINISHED: Final = f"""
select {_INSTANCE} from df.instances i left join df.states s on s.instance_key = i.key where i.status in ('pending', 'running')
"""
_RESULTS: Final = """
select c.instance_key, c.step, c.result::text
  from unnest(%s::oid[], %s::bigint[], %s::text[]) as r(run_as, key, step)
  join df.completions c on c.run_as = r.run_as and c.instance_key = r.key and c.step = r.step and c.attempt = 1
"""
_MICROSECONDS: Final = "(extract(epoch from recorded_at) * 1000000)::bigint"
_COMPLETION: Final = """
run_as, instance_key, step, attempt, outcome, cause::text, event_id::text, result::text, error::text,
"""


_ONE_COMPLETION: Final = f"""
select {_COMPLETION} 0 from df.completions where run_as = %s and step = %s and attempt = %s and instance_key = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The row of df.checkpoint."""

    epoch: int
    lsn: Lsn
    system_identifier: str | None
    slot_name: str | None
    slot_generation: int
    scanning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the server said when leadership was taken: its flushed position, next transaction id and clock."""

    flushed: Lsn
    next_xid: int
    now_us: int


async def read_checkpoint(connection: Connection) -> Checkpoint:
    row = await _one(connection, _CHECKPOINT)
    epoch, lsn, system, slot, generation, scanning = row
    return Checkpoint(
        epoch=epoch,
        lsn=parse_lsn(lsn),
        system_identifier=system,
        slot_name=slot,
        slot_generation=generation,
        scanning=scanning,
    )


def why_rebuild(checkpoint: Checkpoint, slot: SlotState | None, system: SystemIdentity, name: str) -> str | None:
    """Why the log cannot be continued from the checkpoint; None when it can. Raises Unfit for somebody else's slot."""
    if slot is not None and (slot.plugin != "pgoutput" or slot.database != system.database):
        raise Unfit(
            f"slot {name} is not a pgoutput slot of database {system.database}",
            "choose another one with the setting slot",
        )
    if checkpoint.system_identifier is None:
        return "there is no checkpoint yet"
    if checkpoint.scanning:
        return "a table scan was not finished"
    if checkpoint.system_identifier != system.system_identifier:
        return "this is another system than the checkpoint's"
    if checkpoint.slot_name != name:
        return f"the checkpoint is of slot {checkpoint.slot_name}"
    try:
        check_slot(slot, name, system.database or "")
        assert slot is not None
        check_stored_position(checkpoint.lsn, slot, system)
    except SlotLost as lost:
        return lost.what
    return None


async def take_over(connection: Connection, *, scanning: bool) -> int:
    """Ends what an earlier leader left connected and bumps the epoch; returns the new one."""
    await connection.execute("set application_name = 'walflow-leader'")
    await connection.execute(_END_LEADERS)
    async with connection.transaction():
        row = await _one(connection, "select epoch from df.take_over()")
        if scanning:
            await connection.execute("update df.checkpoint set scanning = true")
    return int(row[0])


async def moment(connection: Connection) -> Moment:
    """To be asked after `take_over`: what the old leader wrote lies before `flushed`."""
    flushed, next_xid, now_us = await _one(connection, _NOW)
    return Moment(flushed=parse_lsn(flushed), next_xid=next_xid, now_us=now_us)


async def read_settings(connection: Connection) -> dict[str, str]:
    cursor = await connection.execute("select name, value from df.settings")
    return {name: value for name, value in await cursor.fetchall()}


# --- from a checkpoint ------------------------------------------------------------------------------------------------


async def load(connection: Connection, results: Connection, book: Book) -> None:
    """Reads every unfinished instance as the checkpoint holds it. `results` is a second connection."""
    async with connection.transaction():
        async for rows in _chunks(connection, _LIVE):
            for live in await _lives(results, book, rows):
                book.adopt(live)


async def _chunks(connection: Connection, query: LiteralString) -> AsyncIterator[list[tuple[Any, ...]]]:
    async with connection.cursor(name="walflow_load") as cursor:
        await cursor.execute(query)
        while rows := await cursor.fetchmany(CHUNK):
            yield rows


async def _lives(results: Connection, book: Book, rows: Sequence[tuple[Any, ...]]) -> list[Live]:
    """Instances with their states; one that cannot be read is quarantined."""
    drafts: list[tuple[tuple[Any, ...], Stored | CodecError | None]] = []
    wanted: list[tuple[int, int, str]] = []
    for row in rows:
        stored = _stored(row)
        drafts.append((row, stored))
        if isinstance(stored, Stored):
            wanted += [(row[1], row[0], step) for step in stored.references]
    found = await _results(results, wanted)
    return [live for row, stored in drafts if (live := _live(book, row, stored, found.get(row[0], {}))) is not None]


def _stored(row: tuple[Any, ...]) -> Stored | CodecError | None:
    if row[15] is None:
        return None
    try:
        return Stored(row[14], row[15])
    except CodecError as error:
        return error


async def _results(connection: Connection, wanted: list[tuple[int, int, str]]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = defaultdict(dict)
    if wanted:
        roles, keys, steps = ([w[i] for w in wanted] for i in range(3))
        cursor = await connection.execute(_RESULTS, [roles, keys, steps])
        for key, step, result in await cursor.fetchall():
            found[key][step] = result if result is not None else "null"
    return found


def _row(row: tuple[Any, ...]) -> InstanceRow:
    key, submitter, id_, graph, label, given, variables, parent_key, event_id = row[:9]
    return InstanceRow(key, submitter, readable(id_), graph, label, given, variables, parent_key, event_id)


def _completion(columns: Sequence[Any]) -> CompletionRow:
    """The columns of `_COMPLETION`."""
    run_as, key, step, attempt, outcome, cause, event_id, result, error = columns
    return CompletionRow(run_as, key, readable(step), attempt, outcome, cause, event_id, result, error)


def _command(kind: CommandKind, columns: Sequence[Any]) -> CommandRow:
    """Owner, id, key, name, text and event id."""
    owner, instance_id, key, name, text, event_id = columns
    return CommandRow(kind, owner, readable(instance_id), key, readable(name), readable(text), event_id)


def _live(book: Book, row: tuple[Any, ...], stored: Stored | CodecError | None, results: dict[str, str]) -> Live | None:
    """None for a row whose graph cannot be read and that has no state: `Book.start` fails it."""
    status, quarantined, started_us = row[9:12]
    subject, state, trouble = book.placeholder(_row(row)), NEW, None
    try:
        subject = book.subject(_row(row))
        if isinstance(stored, CodecError):
            raise stored
        if stored is not None:
            state = stored.state(subject.scope, results)
    except ValueError as error:  # a row that a trigger would not let through, or a state of another version
        if stored is None:
            return None
        trouble = f"{type(error).__name__}: {error}"
    live = Live(subject, state, status=status, started_us=started_us, in_states=stored is not None)
    live.quarantined = quarantined or trouble
    live.stored_status = (status, row[10])
    live.unread = trouble is not None
    return live


# --- from the tables --------------------------------------------------------------------------------------------------


async def prepare_rebuild(connection: Connection, login: Login, system: SystemIdentity, checkpoint: Checkpoint) -> None:
    """What must be so before the snapshot of a scan is taken: OIDs are those of this system, no old step is in flight."""
    if checkpoint.system_identifier not in (None, system.system_identifier):
        await _rewrite_oids(connection)
    # pending ones too: the status is as of the last checkpoint
    cursor = await connection.execute(
        "select distinct submitter from df.instances where status in ('pending', 'running')"
    )
    roles = [row[0] for row in await cursor.fetchall()]
    gate = asyncio.Semaphore(LOGINS)

    async def end(role: int) -> None:
        async with gate:
            try:
                opened = await login.connect(role, end_all=True, end=frozenset())
            except (WalflowError, psycopg.Error) as error:
                # its steps will meet the same trouble, and say so
                log.warning("old steps of a role could not be ended", extra=fields(role=role, error=str(error)))
            else:
                await opened.close()

    await asyncio.gather(*(end(role) for role in roles))


async def _rewrite_oids(connection: Connection) -> None:
    """After a dump and restore: `submitted_by` came by name, every other OID is that of a role of the old system."""
    async with connection.transaction():
        statements: tuple[LiteralString, ...] = (
            "create temporary table moved on commit drop as select distinct submitter as was, submitted_by::oid as is "
            "from df.instances where submitter <> submitted_by::oid",
            "delete from df.completions c using df.instances i "
            "where i.key = c.instance_key and c.run_as not in (0, i.submitter)",
            "update df.completions c set run_as = i.submitted_by::oid from df.instances i "
            "where i.key = c.instance_key and c.run_as = i.submitter and c.run_as <> 0",
            "update df.signals s set owner = m.is from moved m where s.owner = m.was",
            "update df.cancellations s set owner = m.is from moved m where s.owner = m.was",
            "update df.releases s set owner = m.is from moved m where s.owner = m.was",
            "update df.instances i set submitter = i.submitted_by::oid where i.submitter <> i.submitted_by::oid",
        )
        await connection.execute("set local search_path = pg_catalog")
        for statement in statements:
            await connection.execute(pgsql.SQL(statement))


async def make_slot(replication: Connection, name: str) -> CreatedSlot:
    """A new slot under the name, in place of one that is there. Raises SlotInUse, SlotNotCreated."""
    if await read_slot(replication, name) is not None:
        await drop_slot(replication, name)
    return await create_slot(replication, name)


async def import_snapshot(connection: Connection, snapshot: str) -> None:
    """Begins a transaction that sees what the slot's beginning sees."""
    await connection.execute("begin isolation level repeatable read, read only")
    await connection.execute(pgsql.SQL("set transaction snapshot {}").format(snapshot))


async def scan(connection: Connection, book: Book, consistent_point: Lsn) -> int:
    """Folds every row that no checkpoint holds; returns how many. `connection` has imported the slot's snapshot."""
    book.lsn = consistent_point
    folded = 0
    async for rows in _chunks(connection, _UNFINISHED):
        folded += await _scan_chunk(connection, book, rows, consistent_point)
    return folded


@dataclass(frozen=True, slots=True)
class _Found:
    """A row that a scan met, and when it was recorded."""

    recorded_us: int
    row: CompletionRow | CommandRow


@dataclass(slots=True)
class _History:
    """What a scan found of one instance; `causes` are the rows that some completion names as its cause."""

    found: list[_Found] = field(default_factory=list)
    causes: set[str] = field(default_factory=set)

    def ordered(self) -> list[_Found]:
        return sorted(self.found, key=lambda f: (f.row.event_id not in self.causes, f.recorded_us, f.row.event_id))


async def _scan_chunk(connection: Connection, book: Book, rows: list[tuple[Any, ...]], lsn: Lsn) -> int:
    histories = await _histories(connection, rows)
    lives = {live.key: live for live in await _lives(connection, book, rows)}
    with book.elsewhere() as at:
        for row in rows:
            live = lives.get(row[0])
            at(0, row[12], lsn, 0)
            if live is not None and live.in_states:
                book.adopt(live)
            elif str(row[13]).isdigit():
                book.unfit(_row(row), f"the submitter, role {row[13]}, does not exist on this system")
            else:
                book.start(_row(row))
            for ordinal, found in enumerate(histories[row[0]].ordered(), 1):
                at(0, found.recorded_us, lsn, ordinal)
                if isinstance(found.row, CompletionRow):
                    book.completion(found.row)
                else:
                    book.command(found.row)
    return len(rows) + sum(len(history.found) for history in histories.values())


async def _histories(connection: Connection, rows: list[tuple[Any, ...]]) -> dict[int, _History]:
    histories: dict[int, _History] = defaultdict(_History)
    keys = [row[0] for row in rows]
    query = f"select {_COMPLETION} {_MICROSECONDS} from df.completions where instance_key = any (%s)"
    cursor = await connection.execute(pgsql.SQL(query), [keys])
    for *columns, recorded_us in await cursor.fetchall():
        completion = _completion(columns)
        history = histories[completion.instance_key]
        history.found.append(_Found(recorded_us, completion))
        if completion.cause is not None:
            history.causes.add(completion.cause)
    for kind, table, text in _COMMANDS:
        for command, recorded_us in await _commands(connection, kind, table, text, rows):
            assert command.instance_key is not None
            histories[command.instance_key].found.append(_Found(recorded_us, command))
    return histories


_COMMANDS: Final[tuple[tuple[CommandKind, str, str], ...]] = (
    ("signal", "signals", "c.name, c.data::text"),
    ("cancellation", "cancellations", "'', c.reason"),
    ("release", "releases", "'', c.reason"),
)


async def _commands(
    connection: Connection, kind: CommandKind, table: str, text: str, rows: list[tuple[Any, ...]]
) -> list[tuple[CommandRow, int]]:
    query = f"""
        select c.owner, c.instance_id, i.key, {text}, c.event_id::text, (extract(epoch from c.recorded_at) * 1000000)::bigint
          from unnest(%s::bigint[], %s::oid[], %s::text[]) as i(key, owner, id)
          join df.{table} c on c.owner = i.owner and c.instance_id = i.id
           and (c.instance_key = i.key or c.instance_key is null) and not c.folded
    """
    parameters = [[row[i] for row in rows] for i in (0, 1, 2)]
    cursor = await connection.execute(pgsql.SQL(query), parameters)
    return [(_command(kind, row[:6]), row[6]) for row in await cursor.fetchall()]


# --- the cross-check --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What a snapshot showed as not folded, and a position after it: once a checkpoint has passed that, all must be folded."""

    position: Lsn
    keys: list[int]
    commands: dict[CommandKind, list[str]]


async def see_unfolded(connection: Connection) -> Seen:
    """A snapshot of the unfinished instances and of the commands without a mark, then a position of the log."""
    async with connection.transaction():
        await connection.execute("set transaction isolation level repeatable read, read only")
        cursor = await connection.execute("select key from df.instances where status in ('pending', 'running')")
        keys = [row[0] for row in await cursor.fetchall()]
        commands: dict[CommandKind, list[str]] = {}
        for kind, table, _ in _COMMANDS:
            cursor = await connection.execute(pgsql.SQL(f"select event_id::text from df.{table} where not folded"))
            commands[kind] = [row[0] for row in await cursor.fetchall()]
        position = await _one(connection, "select pg_current_wal_insert_lsn()")
    return Seen(parse_lsn(position[0]), keys, commands)


async def fold_missed(connection: Connection, book: Book, seen: Seen) -> int:
    """Folds what the log should have brought and did not; to be called once a checkpoint has passed `seen.position`.

    Such rows are there when the publication left them out for a while. Returns their number.
    """
    keys = [key for key in seen.keys if key not in book.instances]
    cursor = await connection.execute(f"{_UNFINISHED} and i.key = any (%s)", [keys])
    rows = [row for row in await cursor.fetchall() if row[0] not in book.instances]
    missed = await _scan_chunk(connection, book, rows, book.lsn) if rows else 0
    for kind, table, text in _COMMANDS:
        query = f"""
            select c.owner, c.instance_id, i.key, {text}, c.event_id::text,
                   (extract(epoch from c.recorded_at) * 1000000)::bigint
              from df.{table} c
              join df.instances i on i.submitter = c.owner and i.id = c.instance_id
             where c.event_id = any (%s::uuid[]) and not c.folded
        """
        cursor = await connection.execute(pgsql.SQL(query), [seen.commands[kind]])
        for row in await cursor.fetchall():
            with book.elsewhere() as at:
                at(0, row[6], book.lsn, 0)
                book.command(_command(kind, row[:6]))
            missed += 1
    return missed


# --- the inbox --------------------------------------------------------------------------------------------------------


async def read_inbox(connection: Connection, live: Live) -> list[HeldEvent]:
    """What was set aside for a quarantined instance; rows are read by their announced keys, and dropped when they are gone."""
    cursor = await connection.execute(
        """
        select lsn, ordinal, kind, row_key, (extract(epoch from commit_time) * 1000000)::bigint, xid::text::bigint
          from df.inbox where instance_key = %s order by lsn, ordinal
        """,
        [live.key],
    )
    held: list[HeldEvent] = []
    for lsn, ordinal, kind, row_key, at_us, xid in await cursor.fetchall():
        event = await _event_at(connection, live, kind, row_key, at_us)
        if event is not None:
            held.append(HeldEvent(parse_lsn(lsn), ordinal, kind, row_key, xid, event))
    return held


async def _event_at(connection: Connection, live: Live, kind: str, row_key: str, at_us: int) -> Event | None:
    key = json.loads(row_key)
    match kind:
        case "instance":
            row = await _maybe(connection, "select event_id::text from df.instances where key = %s", [key])
            return None if row is None else Started(row[0], at_us)
        case "completion":
            row = await _maybe(connection, _ONE_COMPLETION, [*key, live.key])
            return None if row is None else completed(_completion(row[:9]), at_us)
        case "signal":
            query = "select event_id::text, name, data::text from df.signals where owner = %s and event_id = %s::uuid"
            row = await _maybe(connection, query, key)
            return None if row is None else Signalled(row[0], at_us, readable(row[1]), readable(row[2]))
        case "cancellation":
            query = "select event_id::text, reason from df.cancellations where owner = %s and event_id = %s::uuid"
            row = await _maybe(connection, query, key)
            return None if row is None else CancelRequested(row[0], at_us, readable(row[1]))
        case _:
            raise MachineError(f"an event of kind {kind!r} was set aside")


async def _one(connection: Connection, query: LiteralString) -> tuple[Any, ...]:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return tuple(row)


async def _maybe(connection: Connection, query: str, parameters: Iterable[Any]) -> tuple[Any, ...] | None:
    row = await (await connection.execute(pgsql.SQL(query), list(parameters))).fetchone()
    return None if row is None else tuple(row)
