"""Record what real servers send: `python -m tests.cdc.captures.capture` writes `pg16.frames` and the like beside it.

A file holds the frames of one connection, each after its length in four bytes (tests/cdc/raw.py reads them). The
tests know these statements and say what must come out. To be run again when a new version of PostgreSQL comes.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg.pq.abc import PGconn

from cdc.progress import Progress
from cdc.protocol import ReplicationProtocol
from cdc.slot import connect_replication, create_slot, start_replication
from engine.embedded import EmbeddedServer, available_versions
from tests.cdc.raw import read_frames, save_frames

HERE = Path(__file__).parent

SCHEMA = """
    create schema shop;
    create type shop.mood as enum ('glad', 'sad');
    create table shop.orders (
        id bigint primary key, note text, doc jsonb, raw bytea, mood shop.mood, who regrole, at timestamptz, big text
    );
    alter table shop.orders alter column big set storage external;
    create table shop."Odd ""n" ("séléct" int primary key, b text);
    create table shop.listed (hidden text, id int, also_hidden int, shown text);
    create table shop.whole (a int, b text);
    alter table shop.whole replica identity full;
    create publication captured for table shop.orders, shop."Odd ""n", shop.listed (id, shown), shop.whole;
"""
TRANSACTIONS = (
    """insert into shop.orders values (1, 'Grüße, 世界 🐘', '{"a": [1, null]}', '\\x00ff', 'glad', 'postgres',
                                       '2025-11-21 02:10:56.123456+00', repeat('x', 3000))""",
    "insert into shop.orders (id, note) values (2, ''), (3, null)",
    "alter table shop.orders add column extra int; insert into shop.orders (id, extra) values (4, 7)",
    """insert into shop."Odd ""n" values (-1, 'tab\t and "quotes"')""",
    "insert into shop.listed values ('secret', 5, 6, 'open')",
    "begin; insert into shop.orders (id) values (5); rollback",
    "update shop.orders set note = 'changed' where id = 1",
    "update shop.orders set id = 10 where id = 1",
    "insert into shop.whole values (1, null); update shop.whole set b = 'two'; delete from shop.whole",
    "delete from shop.orders where id = 2",
    "truncate shop.orders, shop.whole",
    "select pg_replication_origin_create('elsewhere'); select pg_replication_origin_session_setup('elsewhere')",
    "insert into shop.orders (id) values (20)",
    "select pg_replication_origin_session_reset(); insert into shop.orders (id, note) values (21, 'the last one')",
)

ASCII_SCHEMA = "create table latin (note text); create publication captured for table latin"
ASCII_TRANSACTIONS = (
    b"insert into latin values ('caf\xe9'), ('caf\xc3\xa9'), ('plain')",
    b"insert into latin values ('the last one')",
)


async def capture(dsn: str, schema: str, transactions: Sequence[str | bytes]) -> list[bytes]:
    """The frames that bring these transactions, between two keepalives that were asked for."""
    with psycopg.connect(dsn, autocommit=True) as sql:
        sql.execute(schema.encode())
        async with await connect_replication(dsn, application_name="capture") as conn:
            await create_slot(conn, "capture")
            for transaction in transactions:
                sql.execute(transaction if isinstance(transaction, bytes) else transaction.encode())
            pgconn = await start_replication(conn, "capture", "captured")
            frames = _until_keepalive(pgconn)
            frames += read_frames(pgconn, lambda frames: b"the last one" in b"".join(frames))
            frames += read_frames(pgconn, lambda frames: frames[-1:] != [] and frames[-1][25:26] == b"C")
            frames += _until_keepalive(pgconn)
            pgconn.finish()
        return frames


def _until_keepalive(pgconn: PGconn) -> list[bytes]:
    pgconn.put_copy_data(ReplicationProtocol(Progress(), now_us=0).status(0, reply_wanted=True))
    pgconn.flush()
    return read_frames(pgconn, lambda frames: any(frame[:1] == b"k" for frame in frames))


def main() -> None:
    for version in available_versions():
        with EmbeddedServer(version=version) as server:
            frames = asyncio.run(capture(server.dsn(), SCHEMA, TRANSACTIONS))
            save_frames(HERE / f"pg{version}.frames", frames)
        with EmbeddedServer(version=version, encoding="SQL_ASCII") as server:
            frames = asyncio.run(capture(server.dsn(), ASCII_SCHEMA, ASCII_TRANSACTIONS))
            save_frames(HERE / f"pg{version}-ascii.frames", frames)


if __name__ == "__main__":
    main()
