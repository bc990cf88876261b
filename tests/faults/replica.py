"""A physical standby of a cluster: made by pg_basebackup, cut off, promoted."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from engine.embedded import EmbeddedServer
from tests.servers import FAST, Cluster, wait_until

SLOT: Final = "replica"
"""The physical slot by which the standby holds WAL back on its primary."""
FAILOVER_SINCE: Final = 17
"""From that version on logical slots can be copied to a standby."""


class Replica(Cluster):
    """Streams from `primary` into `directory`, which the server's user must be able to reach. Start it, then promote it."""

    def __init__(self, primary: Cluster, directory: Path) -> None:
        self._primary = primary
        self._numbers = itertools.count(1)
        self._upstream = primary.server.dsn(dbname="postgres", application_name=SLOT)
        settings = {
            **FAST,
            "primary_conninfo": self._upstream,
            "primary_slot_name": SLOT,
            "hot_standby_feedback": "on",
            **({"sync_replication_slots": "on"} if primary.version >= FAILOVER_SINCE else {}),
        }
        self.server = EmbeddedServer(data_dir=directory / "replica", version=primary.version, settings=settings)

    def copy(self) -> None:
        """Make the standby's files, and the slot for it."""
        with self._primary.connect() as admin:
            admin.execute("select pg_create_physical_replication_slot(%s, true)", [SLOT])
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        program = self._primary.server.bin_dir / "pg_basebackup"
        data = self.server.data_dir
        command = [str(program), "--pgdata", str(data), "--checkpoint=fast", "--no-sync", "--dbname", self._upstream]
        done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (data / "standby.signal").touch()
        owner = self._primary.server.data_dir.stat()
        for path in (data, *data.rglob("*")):
            shutil.chown(path, owner.st_uid, owner.st_gid)

    def caught_up(self) -> None:
        """Wait until it has replayed what the primary has written until now."""
        with self._primary.connect() as admin:
            row = admin.execute("select pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        wait_until(lambda: self._one("select pg_last_wal_replay_lsn() >= %s", row[0]), what="the standby catches up")

    def cut_off(self) -> None:
        """Nothing more comes from the primary."""
        self._set("primary_conninfo", make_conninfo(self._upstream, port=1))
        wait_until(lambda: not self._one("select count(*) from pg_stat_wal_receiver where status = 'streaming'"))

    def promote(self) -> None:
        """Make it a primary; returns when it is."""
        with self.connect() as admin:
            admin.execute("select pg_promote()")

    def synchronises(self, slot: str) -> bool:
        """Whether it has a usable copy of a logical slot of the primary."""
        return bool(
            self._one(
                "select count(*) from pg_replication_slots where slot_name = %s and synced and not temporary", slot
            )
        )

    def _set(self, name: str, value: str) -> None:
        with self.connect() as admin:
            admin.execute(f"alter system set {name} = '{value}'".encode())
        self.server.reload()

    def _one(self, query: str, *parameters: str) -> str:
        with self.connect() as connection:
            row = connection.execute(query.encode(), parameters).fetchone()
        assert row is not None
        value: str = row[0]
        return value
