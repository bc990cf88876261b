"""What migrate made, and whether it is still whole: schema, owners, publication, grants; and the roles that submit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from cdc.slot import check_publication as publication_problems
from engine.config import Settings
from engine.connect import Connection
from engine.doctor.findings import (
    MIGRATE,
    WHERE,
    Finding,
    fail,
    logged_in,
    ok,
    one_line,
    quoted,
    row_of,
    rows_of,
    warn,
)
from sql.migrate import installed_version, newest_version
from sql.publication import PUBLISHED, create_statement, repair_statement

STEP_LOGINS: Final = 10  # roles whose login is tried; each costs a connection


async def check_schema(conn: Connection) -> list[Finding]:
    rows = await rows_of(
        conn,
        """
        select r.rolname, r.oid = (select m.oid from pg_roles m where m.rolname = current_user)
          from pg_namespace n join pg_roles r on r.oid = n.nspowner
         where n.nspname = 'df'
        """,
    )
    if not rows:
        return [fail("schema", f"there is no schema df in {conn.info.dbname}", MIGRATE, MIGRATE)]
    [(owner, ours)] = rows
    if not ours:
        what = f"schema df belongs to {owner}, not to {conn.info.user}"
        return [fail("schema", what, f"set dsn to role {quoted(owner)}, or run walflow migrate in another database")]
    return await check_version(conn)


async def check_version(conn: Connection) -> list[Finding]:
    there, ours = await installed_version(conn), newest_version()
    if there == ours:
        return [ok("schema", f"schema df is ours, version {there}")]
    if there < ours:
        return [fail("schema", f"schema df is version {there}, this walflow needs {ours}", MIGRATE, MIGRATE)]
    return [fail("schema", f"schema df is version {there}, newer than this walflow ({ours})", "upgrade walflow")]


async def check_contents(conn: Connection, publication: str) -> list[Finding]:
    """What is in schema df: whose it is, what is published of it, and what everybody may do with it."""
    return [*await check_owners(conn), *await check_publication(conn, publication), *await check_public(conn)]


async def check_owners(conn: Connection) -> list[Finding]:
    """After a restore as another role, schema and contents may belong to different ones."""
    rows = await rows_of(
        conn,
        """
        select 'alter table ' || c.oid::regclass || ' owner to ' || quote_ident(current_user)
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'df' and c.relkind in ('r', 'p', 'v', 'S') and c.relowner <> n.nspowner
         union all
        select 'alter routine ' || p.oid::regprocedure || ' owner to ' || quote_ident(current_user)
          from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where n.nspname = 'df' and p.proowner <> n.nspowner
        """,
    )
    if not rows:
        return [ok("owner", f"everything in schema df belongs to {conn.info.user}")]
    return [fail("owner", f"{len(rows)} objects in schema df belong to other roles", _joined(rows), *_each(rows))]


async def check_publication(conn: Connection, publication: str) -> list[Finding]:
    problems = await publication_problems(conn, publication, PUBLISHED)
    if not problems:
        return [ok("publication", f"publication {publication} has all tables and columns, and inserts")]
    exists = await rows_of(conn, "select 1 from pg_publication where pubname = {}", publication)
    repair = repair_statement(publication) if exists else create_statement(publication)
    return [fail("publication", "; ".join(problem.what for problem in problems), repair, repair)]


async def check_public(conn: Connection) -> list[Finding]:
    """What is PUBLIC's in df is everybody's, also of roles that nobody granted df to (ROLES rule 11)."""
    rows = await rows_of(
        conn,
        """
        select 'revoke all on schema df from public'
          from pg_namespace n, aclexplode(n.nspacl) a
         where n.nspname = 'df' and a.grantee = 0
         union
        select 'revoke all on ' || c.oid::regclass || ' from public'
          from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a
         where n.nspname = 'df' and a.grantee = 0
         union
        select 'select df.seal()'
          from pg_proc p join pg_namespace n on n.oid = p.pronamespace,
               aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where n.nspname = 'df' and a.grantee = 0
         union
        select 'select df.seal()'
          from pg_type t join pg_namespace n on n.oid = t.typnamespace,
               aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
         where n.nspname = 'df' and t.typtype in ('c', 'd', 'e') and a.grantee = 0
        """,
    )
    if not rows:
        return [ok("public", "nothing in schema df is granted to PUBLIC")]
    return [
        fail(
            "public", "objects in schema df are granted to PUBLIC, that is, to every role", _joined(rows), *_each(rows)
        )
    ]


def _joined(rows: Sequence[tuple[str]]) -> str:
    return "; ".join(_each(rows))


def _each(rows: Sequence[tuple[str]]) -> tuple[str, ...]:
    return tuple(statement for (statement,) in rows)


async def check_step_logins(conn: Connection, settings: Settings) -> list[Finding]:
    rows = await rows_of(
        conn,
        """
        select r.rolname
          from pg_roles r, pg_namespace n
         where n.nspname = 'df' and r.oid <> n.nspowner and r.rolcanlogin and not r.rolsuper
           and has_schema_privilege(r.oid, n.oid, 'usage')
         order by r.oid
         limit {}
        """,
        STEP_LOGINS,
    )
    if not rows:
        what = "no role has df yet, so nobody can start a workflow"
        return [warn("steps", what, "select df.grant_usage('some_role')")]
    here = await row_of(conn, WHERE)
    return [await check_step_login(settings, role, here) for (role,) in rows]


async def check_step_login(settings: Settings, role: str, expected: tuple[Any, ...]) -> Finding:
    passfile = {"passfile": str(settings.step_passfile)} if settings.step_passfile else {}
    repair = (
        f"admit {quoted(role)} in pg_hba.conf for the address of the engine, or put its password into step_passfile"
    )
    try:
        async with logged_in(settings.step_dsn, user=role, **passfile) as step:
            reached = await row_of(step, WHERE)
    except psycopg.OperationalError as error:
        return warn("steps", f"steps of {role} would fail: {one_line(error)}", repair)
    if reached != expected:
        return warn("steps", f"step_dsn leads {role} to another database than dsn", "mend step_dsn")
    return ok("steps", f"steps can log in as {role}")
