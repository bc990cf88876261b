"""The store on a server: see `engine.store`."""

from __future__ import annotations

from typing import Final

from cdc.errors import Problem
from cdc.lsn import Lsn, parse_lsn
from cdc.slot import PUBLICATION_STAMP, SlotState, check_publication, read_slot
from engine.backlog import Backlog
from engine.store.reading import PostgresReading
from engine.store.rows import Checkpoint, Moment, Watched
from engine.store.writing import PostgresWriting
from sql.publication import PUBLISHED

_END_LEADERS: Final = """
select pg_terminate_backend(pid)
  from pg_stat_activity
 where usename = current_user
   and datname = current_database()
   and application_name = 'walflow-leader'
   and pid <> pg_backend_pid()
"""
_CHECKPOINT: Final = """
select epoch, lsn, system_identifier, slot_name, slot_generation, scanning, backlog from df.checkpoint
"""
_NOW: Final = """
select pg_current_wal_flush_lsn(), pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       (extract(epoch from clock_timestamp()) * 1000000)::bigint
"""
_WATCH: Final = f"select w.fenced, w.oldest_pending_seconds, w.quarantined, ({PUBLICATION_STAMP}) from df.watch() as w"
_ROLE: Final = "select rolname, rolcanlogin from pg_catalog.pg_roles where oid = %s"
_BLOCKERS: Final = """
select case b.pid when 0 then 'a prepared transaction (pg_prepared_xacts)'
                  else format('backend %%s (role %%s, database %%s)', b.pid, a.usename, a.datname) end
  from unnest(pg_blocking_pids(%s)) as b(pid)
  left join pg_stat_activity a on a.pid = b.pid
 order by b.pid
"""
"""Other roles' pg_stat_activity is not ours to read, but this is."""


class PostgresStore(PostgresReading, PostgresWriting):
    """`engine.store.Store` on a connection of `engine.connect`."""

    @property
    def server_version(self) -> str:
        return self.connection.info.parameter_status("server_version") or ""

    async def close(self) -> None:
        await self.connection.close()

    async def checkpoint(self) -> Checkpoint:
        epoch, lsn, system, slot, generation, scanning, backlog = await self.one(_CHECKPOINT)
        return Checkpoint(
            epoch=epoch,
            lsn=parse_lsn(lsn),
            system_identifier=system,
            slot_name=slot,
            slot_generation=generation,
            scanning=scanning,
            backlog={role: Backlog(after=after, last=last, count=count) for role, after, last, count in backlog},
        )

    async def slot(self, name: str) -> SlotState | None:
        with self.border():
            return await read_slot(self.connection, name)

    async def wal_position(self) -> Lsn:
        (position,) = await self.one("select pg_current_wal_insert_lsn()")
        return parse_lsn(position)

    async def take_over(self, *, scanning: bool) -> int:
        await self.run("set application_name = 'walflow-leader'")
        await self.run(_END_LEADERS)
        async with self.transaction():
            (epoch,) = await self.one("select epoch from df.take_over()")
            if scanning:
                await self.run("update df.checkpoint set scanning = true")
        return int(epoch)

    async def moment(self) -> Moment:
        flushed, next_xid, now_us = await self.one(_NOW)
        return Moment(flushed=parse_lsn(flushed), next_xid=next_xid, now_us=now_us)

    async def settings(self) -> dict[str, str]:
        return {name: value for name, value in await self.rows("select name, value from df.settings")}

    async def store_slot(self, epoch: int, *, system_identifier: str, slot: str) -> None:
        await self.run(
            """
            update df.checkpoint
               set system_identifier = %s, slot_name = %s, slot_generation = slot_generation + 1, scanning = false
             where epoch = %s
            """,
            [system_identifier, slot, epoch],
        )

    async def watch(self, publication: str) -> Watched:
        fenced, seconds, quarantined, stamp = await self.one(_WATCH, [publication])
        return Watched(
            fenced=fenced, oldest_pending_seconds=seconds, quarantined=quarantined, publication_stamp=str(stamp)
        )

    async def count_fenced(self) -> None:
        await self.run("select df.count_fenced()")

    async def blockers(self, pid: int) -> list[str]:
        return [row[0] for row in await self.rows(_BLOCKERS, [pid])]

    async def publication_problems(self, publication: str) -> list[Problem]:
        with self.border():
            return await check_publication(self.connection, publication, PUBLISHED)

    async def role(self, oid: int) -> tuple[str, bool] | None:
        row = await self.maybe(_ROLE, [oid])
        return None if row is None else (str(row[0]), bool(row[1]))
