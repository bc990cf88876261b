"""The statements with which a leader learns what is unfinished: from a checkpoint, from the tables, from the inbox.

What is found by keys is a lateral subquery with an OFFSET, which no planner takes apart. While tables are tiny it thinks going
through all of an index as cheap as looking one key up; a session keeps such a plan, and the tables grow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, LiteralString

from psycopg import sql as pgsql

from cdc.lsn import parse_lsn
from engine.backlog import Backlog
from engine.rows import CommandKind, CommandRow, CompletionRow, InstanceRow, WaitRow, readable
from engine.store.border import Connected
from engine.store.rows import CompletionKey, Recorded, Seen, SetAside, StoredInstance

CHUNK: Final = 500
"""Instances read at a time."""

_RECORDED: Final = "(extract(epoch from c.recorded_at) * 1000000)::bigint"
_INSTANCE: Final = """
i.key, i.submitter, i.id, i.graph, i.label, i.input::text, i.vars::text, i.parent_key, i.event_id::text, i.parent_step, i.status,
i.quarantined, (extract(epoch from i.started_at) * 1000000)::bigint, (extract(epoch from i.recorded_at) * 1000000)::bigint,
i.submitted_by::text, s.version, s.state, s.wake_at is not null
"""
_LAID_DOWN: Final = """
df.instances i
left join lateral (
  select s.instance_key, s.version, s.state, s.wake_at from df.states s where s.instance_key = i.key offset 0
) as s on true
"""
"""Instances with their states, where few are looked for."""
_AWAKE: Final = "(s.wake_at is null or s.wake_at <= clock_timestamp() + interval '10 seconds')"
"""What a new leader loads. The interval is `engine.cut.HORIZON_US`."""
_STORED: Final = f"select {_INSTANCE} from df.states s join df.instances i on i.key = s.instance_key where {_AWAKE}"
_IS_UNFINISHED: Final = "i.status in ('pending', 'running')"
_UNFINISHED: Final = f"""
select {_INSTANCE} from df.instances i left join df.states s on s.instance_key = i.key where {_IS_UNFINISHED}
"""
_RESULTS: Final = """
select c.instance_key, c.step, c.result::text
  from unnest(%s::oid[], %s::bigint[], %s::text[]) as r(run_as, key, step)
 cross join lateral (
   select * from df.completions c
    where c.run_as = r.run_as and c.instance_key = r.key and c.step = r.step and c.attempt = 1
   offset 0
 ) as c
"""
_SIGNAL_DATA: Final = """
select w.key, s.event_id::text, s.data::text
  from unnest(%s::oid[], %s::bigint[], %s::uuid[]) as w(owner, key, event_id)
 cross join lateral (select * from df.signals s where s.owner = w.owner and s.event_id = w.event_id offset 0) as s
"""
_COMPLETION: Final = f"""
{_RECORDED}, c.run_as, c.instance_key, c.step, c.attempt, c.outcome, c.cause::text, c.event_id::text,
c.result::text, c.error::text
"""
_OPEN_WAITS: Final = """
select w.instance_key, w.waiter_key, w.waiter_step
  from df.waits w
 cross join lateral (select s.wake_at from df.states s where s.instance_key = w.waiter_key offset 0) as s
  left join lateral (
    select c.outcome from df.completions c
     where c.run_as = 0 and c.instance_key = w.waiter_key and c.step = w.waiter_step and c.attempt = 1
    offset 0
  ) as c on true
 where w.folded and c.outcome is null
"""
_UNFOLDED_WAITS: Final = "select instance_key, waiter_key, waiter_step from df.waits where not folded"
_CAUSES: Final = """
select c.parent_key, c.cause::text
  from unnest(%s::bigint[], %s::oid[]) as i(key, submitter)
 cross join lateral (
   select * from df.instances c where c.submitted_by = i.submitter::regrole and c.parent_key = i.key offset 0
 ) as c
 where c.cause is not null
 union all
select w.waiter_key, w.cause::text from df.waits w where w.waiter_key = any (%s) and w.cause is not null
"""
_ANY: Final = f"select {_INSTANCE} from {_LAID_DOWN}"
_SHOWN: Final = """
select s.instance_key, p.nodes::text
  from df.states s
 cross join lateral (select i.submitted_by from df.instances i where i.key = s.instance_key offset 0) as i
 cross join lateral (
   select p.nodes from df.progress p where p.submitted_by = i.submitted_by and p.instance_key = s.instance_key offset 0
 ) as p
"""
_CHILDREN: Final = """
select s.instance_key, c.parent_step, c.key
  from df.states s
 cross join lateral (select p.submitted_by, p.key from df.instances p where p.key = s.instance_key offset 0) as p
 cross join lateral (
   select * from df.instances c
    where c.submitted_by = p.submitted_by and c.parent_key = p.key and c.status in ('pending', 'running')
   offset 0
 ) as c
"""
_WAKE: Final = "(extract(epoch from s.wake_at) * 1000000)::bigint"
_TIME: Final = "timestamptz '1970-01-01 00:00+00' + %s * interval '1 microsecond'"
_TAKEN: Final = """
select c.run_as::bigint, c.instance_key, c.step, c.attempt
  from unnest(%s::oid[], %s::bigint[], %s::text[], %s::integer[]) as r(run_as, key, step, attempt)
 cross join lateral (
   select * from df.completions c
    where c.run_as = r.run_as and c.instance_key = r.key and c.step = r.step and c.attempt = r.attempt
   offset 0
 ) as c
"""
_REWRITE_OIDS: Final[tuple[LiteralString, ...]] = (
    "create temporary table moved on commit drop as select distinct submitter as was, submitted_by::oid as is "
    "from df.instances where submitter <> submitted_by::oid",
    "delete from df.completions c using df.instances i "
    "where i.key = c.instance_key and c.run_as not in (0, i.submitter)",
    "update df.completions c set run_as = i.submitted_by::oid from df.instances i "
    "where i.key = c.instance_key and c.run_as = i.submitter and c.run_as <> 0",
    "update df.signals s set owner = m.is from moved m where s.owner = m.was",
    "update df.cancellations s set owner = m.is from moved m where s.owner = m.was",
    "update df.releases s set owner = m.is from moved m where s.owner = m.was",
    "update df.waits s set owner = m.is from moved m where s.owner = m.was",
    # what waits in the inbox is before all that this system's log brings, and visible
    "update df.inbox b set row_key = jsonb_set(b.row_key::jsonb, '{0}', to_jsonb(i.submitted_by::oid::bigint))::text "
    "from df.instances i where i.key = b.instance_key and b.kind <> 'instance' "
    "and b.row_key::jsonb ->> 0 = i.submitter::text",
    "update df.inbox b set xid = '0', lsn = '0/0', ordinal = n.place from (select i.*, row_number() "
    "over (partition by i.instance_key order by i.lsn, i.ordinal) as place from df.inbox i) as n "
    "where (n.instance_key, n.lsn, n.ordinal) = (b.instance_key, b.lsn, b.ordinal)",
    "update df.instances i set submitter = i.submitted_by::oid where i.submitter <> i.submitted_by::oid",
)
_COMMANDS: Final[dict[CommandKind, tuple[LiteralString, LiteralString]]] = {
    "signal": ("df.signals", "c.name, c.data::text"),
    "cancellation": ("df.cancellations", "'', c.reason"),
    "release": ("df.releases", "'', c.reason"),
}
"""Tables, and which of their columns are name and text."""


class PostgresReading(Connected):
    """`engine.store.Scanning` and `engine.store.Inbox` on a connection."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        with self.border():
            async with self.connection.transaction():
                yield

    # --- from a checkpoint ----------------------------------------------------------------------------------------------

    def stored_instances(self) -> AsyncIterator[list[StoredInstance]]:
        return self._instances(_STORED)

    async def _instances(self, query: LiteralString) -> AsyncIterator[list[StoredInstance]]:
        with self.border():
            async with self.connection.cursor(name="walflow_load") as cursor:
                await cursor.execute(query)
                while rows := await cursor.fetchmany(CHUNK):
                    yield [_stored(row) for row in rows]

    async def results(self, wanted: Sequence[tuple[int, int, str]]) -> list[tuple[int, str, str | None]]:
        found = await self.rows(_RESULTS, _columns(wanted, 3))
        return [(key, step, result) for key, step, result in found]

    async def signal_data(self, wanted: Sequence[tuple[int, int, str]]) -> list[tuple[int, str, str]]:
        found = await self.rows(_SIGNAL_DATA, _columns(wanted, 3))
        return [(key, event_id, readable(data)) for key, event_id, data in found]

    async def open_waits(self) -> list[WaitRow]:
        return [WaitRow(*row) for row in await self.rows(f"{_OPEN_WAITS} and {_AWAKE}")]

    async def shown(self) -> list[tuple[int, str]]:
        return [(key, nodes) for key, nodes in await self.rows(f"{_SHOWN} where {_AWAKE}")]

    async def children(self) -> list[tuple[int, str, int]]:
        return [(parent, step, key) for parent, step, key in await self.rows(f"{_CHILDREN} where {_AWAKE}")]

    async def asleep(self) -> int:
        (count,) = await self.one(f"select count(*) from df.states s where not {_AWAKE}")
        return int(count)

    # --- what is not in memory ------------------------------------------------------------------------------------------

    async def instances(self, keys: Sequence[int]) -> list[StoredInstance]:
        return [_stored(row) for row in await self.rows(f"{_ANY} where i.key = any (%s)", [list(keys)])]

    async def named(self, names: Sequence[tuple[int, str]]) -> list[tuple[int, str, int]]:
        query: LiteralString = """
            select i.submitter::bigint, n.id, i.key
              from unnest(%s::oid[], %s::text[]) as n(owner, id)
             cross join lateral (
               select * from df.instances i where i.submitted_by = n.owner::regrole and i.id = n.id offset 0
             ) as i
        """
        return [(owner, readable(id_), key) for owner, id_, key in await self.rows(query, _columns(names, 2))]

    async def shown_of(self, keys: Sequence[int]) -> list[tuple[int, str]]:
        rows = await self.rows(f"{_SHOWN} where s.instance_key = any (%s)", [list(keys)])
        return [(key, nodes) for key, nodes in rows]

    async def waits_of(self, keys: Sequence[int]) -> list[WaitRow]:
        return [WaitRow(*row) for row in await self.rows(f"{_OPEN_WAITS} and w.waiter_key = any (%s)", [list(keys)])]

    async def children_of(self, keys: Sequence[int]) -> list[tuple[int, str, int]]:
        rows = await self.rows(f"{_CHILDREN} where s.instance_key = any (%s)", [list(keys)])
        return [(parent, step, key) for parent, step, key in rows]

    async def with_inbox(self, keys: Sequence[int]) -> list[int]:
        query: LiteralString = "select distinct instance_key from df.inbox where instance_key = any (%s)"
        return [key for (key,) in await self.rows(query, [list(keys)])]

    async def set_aside(self, after: int, limit: int) -> list[int]:
        query: LiteralString = (
            "select distinct instance_key from df.inbox where instance_key > %s order by instance_key limit %s"
        )
        return [key for (key,) in await self.rows(query, [after, limit])]

    async def next_wake(self, after_us: int = 0) -> int | None:
        query: LiteralString = f"""
            select {_WAKE} from df.states s where s.wake_at > {_TIME} and s.wake_at < 'infinity' order by s.wake_at limit 1
        """
        row = await self.maybe(query, [after_us])
        return None if row is None else int(row[0])

    async def sleepers(self, after: tuple[int, int], upto_us: int, limit: int) -> list[tuple[int, int]]:
        query: LiteralString = f"""
            select {_WAKE}, s.instance_key
              from df.states s
             where s.wake_at <= {_TIME} and (s.wake_at, s.instance_key) > ({_TIME}, %s)
             order by s.wake_at, s.instance_key
             limit %s
        """
        rows = await self.rows(query, [upto_us, *after, limit])
        return [(wake_us, key) for wake_us, key in rows]

    async def waiting(self, submitter: int, after: int, last: int, limit: int) -> list[StoredInstance]:
        query: LiteralString = f"""
            {_ANY}
             where i.key > %s and i.key <= %s and i.submitter = %s and i.status = 'pending' and s.instance_key is null
             order by i.key
             limit %s
        """
        return [_stored(row) for row in await self.rows(query, [after, last, submitter, limit])]

    # --- from the tables ------------------------------------------------------------------------------------------------

    async def rewrite_oids(self) -> None:
        async with self.transaction():
            await self.run("set local search_path = pg_catalog")
            for statement in _REWRITE_OIDS:
                await self.run(statement)

    async def submitters(self) -> list[int]:
        # pending ones too: the status is as of the last checkpoint
        query: LiteralString = "select distinct submitter from df.instances where status in ('pending', 'running')"
        return [role for (role,) in await self.rows(query)]

    async def import_snapshot(self, snapshot: str) -> str:
        await self.run("begin isolation level repeatable read, read only")
        with self.border():
            await self.connection.execute(pgsql.SQL("set transaction snapshot {}").format(snapshot))
        (text,) = await self.one("select pg_current_snapshot()::text")
        return str(text)

    async def sees_all_of(self, snapshot: str) -> bool:
        query: LiteralString = """
            with s as (select %s::pg_snapshot as theirs, pg_current_snapshot() as ours),
            unseen(xid) as (
              select x from s, pg_snapshot_xip(s.ours) as x where x < pg_snapshot_xmax(s.theirs)
               union all
              select x::text::xid8
                from s, generate_series(pg_snapshot_xmax(s.ours)::text::bigint, pg_snapshot_xmax(s.theirs)::text::bigint - 1) as x
            )
            select not exists (select from s, unseen where pg_visible_in_snapshot(unseen.xid, s.theirs))
        """
        (whole,) = await self.one(query, [snapshot])
        return bool(whole)

    def unfinished_instances(self) -> AsyncIterator[list[StoredInstance]]:
        return self._instances(_UNFINISHED)

    async def unfinished_among(self, keys: Collection[int]) -> list[StoredInstance]:
        return [
            _stored(row) for row in await self.rows(f"{_ANY} where i.key = any (%s) and {_IS_UNFINISHED}", [list(keys)])
        ]

    async def completions_of(self, instances: Sequence[StoredInstance]) -> list[Recorded[CompletionRow]]:
        query: LiteralString = f"""
            select {_COMPLETION}
              from unnest(%s::bigint[], %s::oid[]) as i(key, submitter)
             cross join lateral (values (0::oid), (i.submitter)) as r(role)
             cross join lateral (
               select * from df.completions c where c.run_as = r.role and c.instance_key = i.key offset 0
             ) as c
        """
        return [_completion(row) for row in await self.rows(query, _keys_and_submitters(instances))]

    async def causes_of(self, instances: Sequence[StoredInstance]) -> list[tuple[int, str]]:
        keys, submitters = _keys_and_submitters(instances)
        return [(key, cause) for key, cause in await self.rows(_CAUSES, [keys, submitters, keys])]

    async def commands_of(self, kind: CommandKind, instances: Sequence[StoredInstance]) -> list[Recorded[CommandRow]]:
        table, text = _COMMANDS[kind]
        query: LiteralString = f"""
            select {_RECORDED}, c.owner, c.instance_id, i.key, {text}, c.event_id::text
              from unnest(%s::bigint[], %s::oid[], %s::text[]) as i(key, owner, id)
             cross join lateral (
               select * from {table} c
                where c.owner = i.owner and c.instance_id = i.id
                  and (c.instance_key = i.key or c.instance_key is null) and not c.folded
               offset 0
             ) as c
        """
        rows = await self.rows(query, _columns([(i.row.key, i.row.submitter, i.row.id) for i in instances], 3))
        return [_command(kind, row) for row in rows]

    async def nobodys(self, kind: CommandKind) -> list[tuple[str, int]]:
        query: LiteralString = f"""
            select c.event_id::text, c.owner::bigint
              from {_COMMANDS[kind][0]} c
             where not c.folded
               and not exists (select from df.instances i
                                where i.submitter = c.owner and i.id = c.instance_id
                                  and (c.instance_key = i.key or c.instance_key is null) and i.status in ('pending', 'running'))
        """
        return [(event_id, owner) for event_id, owner in await self.rows(query)]

    async def unfolded_waits(self) -> list[WaitRow]:
        return [WaitRow(*row) for row in await self.rows(_UNFOLDED_WAITS)]

    # --- what the log did not bring -------------------------------------------------------------------------------------

    async def see_unfolded(self, asked: Sequence[CompletionKey], waiting: Mapping[int, Backlog]) -> Seen:
        async with self.transaction():
            await self.run("set transaction isolation level repeatable read, read only")
            keys = await self.rows(
                """
                select i.key from df.instances i
                 where i.status in ('pending', 'running')
                   and not exists (select from df.states s where s.instance_key = i.key)
                   and not exists (
                     select from unnest(%s::oid[], %s::bigint[], %s::bigint[]) as w(submitter, after, last)
                      where w.submitter = i.submitter and i.key > w.after and i.key <= w.last)
                """,
                _columns([(role, between.after, between.last) for role, between in waiting.items()], 3),
            )
            commands: dict[CommandKind, list[str]] = {}
            for kind, (table, _) in _COMMANDS.items():
                found = await self.rows(f"select event_id::text from {table} where not folded")
                commands[kind] = [event_id for (event_id,) in found]
            waits = await self.rows("select event_id::text from df.waits where not folded")
            completions = await self._taken(asked)
            (position,) = await self.one("select pg_current_wal_insert_lsn()")
        return Seen(parse_lsn(position), [key for (key,) in keys], commands, [wait for (wait,) in waits], completions)

    async def _taken(self, asked: Sequence[CompletionKey]) -> list[CompletionKey]:
        taken: list[CompletionKey] = []
        for first in range(0, len(asked), CHUNK):
            rows = await self.rows(_TAKEN, _columns(asked[first : first + CHUNK], 4))
            taken += [(run_as, key, step, attempt) for run_as, key, step, attempt in rows]
        return taken

    async def commands_among(self, kind: CommandKind, event_ids: Sequence[str]) -> list[Recorded[CommandRow]]:
        table, text = _COMMANDS[kind]
        query: LiteralString = f"""
            select {_RECORDED}, c.owner, c.instance_id, i.key, {text}, c.event_id::text
              from {table} c
             cross join lateral (
               select i.key from df.instances i where i.submitted_by = c.owner::regrole and i.id = c.instance_id offset 0
             ) as i
             where c.event_id = any (%s::uuid[]) and not c.folded
        """
        return [_command(kind, row) for row in await self.rows(query, [list(event_ids)])]

    async def waits_among(self, event_ids: Sequence[str]) -> list[WaitRow]:
        rows = await self.rows(f"{_UNFOLDED_WAITS} and event_id = any (%s::uuid[])", [list(event_ids)])
        return [WaitRow(*row) for row in rows]

    async def completion(self, key: CompletionKey) -> Recorded[CompletionRow] | None:
        query: LiteralString = f"""
            select {_COMPLETION} from df.completions c
             where c.run_as = %s and c.instance_key = %s and c.step = %s and c.attempt = %s
        """
        row = await self.maybe(query, key)
        return None if row is None else _completion(row)

    # --- the inbox ------------------------------------------------------------------------------------------------------

    async def inbox(self, key: int) -> list[SetAside]:
        rows = await self.rows(
            """
            select lsn, ordinal, kind, row_key, (extract(epoch from commit_time) * 1000000)::bigint, xid::text::bigint
              from df.inbox where instance_key = %s order by lsn, ordinal
            """,
            [key],
        )
        return [
            SetAside(lsn=parse_lsn(lsn), ordinal=ordinal, kind=kind, row_key=row_key, at_us=at_us, xid=xid)
            for lsn, ordinal, kind, row_key, at_us, xid in rows
        ]

    async def start_of(self, key: int) -> str | None:
        row = await self.maybe("select event_id::text from df.instances where key = %s", [key])
        return None if row is None else str(row[0])

    async def signals(self, keys: Sequence[tuple[int, str]]) -> list[tuple[int, str, str, str]]:
        query: LiteralString = """
            select s.owner::bigint, s.event_id::text, s.name, s.data::text
              from unnest(%s::oid[], %s::uuid[]) as k(owner, event_id)
             cross join lateral (
               select * from df.signals s where s.owner = k.owner and s.event_id = k.event_id offset 0
             ) as s
        """
        rows = await self.rows(query, _columns(keys, 2))
        return [(owner, event_id, readable(name), readable(data)) for owner, event_id, name, data in rows]

    async def cancellation(self, owner: int, event_id: str) -> tuple[str, str] | None:
        query: LiteralString = (
            "select event_id::text, reason from df.cancellations where owner = %s and event_id = %s::uuid"
        )
        row = await self.maybe(query, [owner, event_id])
        return None if row is None else (row[0], readable(row[1]))


# --- rows -----------------------------------------------------------------------------------------------------------------


def _stored(row: tuple[Any, ...]) -> StoredInstance:
    """The columns of `_INSTANCE`."""
    key, submitter, id_, graph, label, given, variables, parent_key, event_id, parent_step = row[:10]
    instance = InstanceRow(
        key, submitter, readable(id_), graph, label, given, variables, parent_key, event_id, readable(parent_step)
    )
    status, quarantined, started_us, recorded_us, submitted_by, version, state, asleep = row[10:]
    return StoredInstance(
        row=instance,
        status=status,
        quarantined=quarantined,
        started_us=started_us,
        recorded_us=recorded_us,
        submitted_by=str(submitted_by),
        version=version,
        state=state,
        asleep=bool(asleep),
    )


def _completion(columns: Sequence[Any]) -> Recorded[CompletionRow]:
    """The columns of `_COMPLETION`."""
    recorded_us, run_as, key, step, attempt, outcome, cause, event_id, result, error = columns
    row = CompletionRow(run_as, key, readable(step), attempt, outcome, cause, event_id, result, error)
    return Recorded(recorded_us, row)


def _command(kind: CommandKind, columns: Sequence[Any]) -> Recorded[CommandRow]:
    """When it was recorded; owner, id, key, name, text and event id."""
    recorded_us, owner, instance_id, key, name, text, event_id = columns
    row = CommandRow(kind, owner, readable(instance_id), key, readable(name), readable(text), event_id)
    return Recorded(recorded_us, row)


def _keys_and_submitters(instances: Sequence[StoredInstance]) -> list[list[int]]:
    return _columns([(i.row.key, i.row.submitter) for i in instances], 2)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[i] for row in rows] for i in range(width)]
