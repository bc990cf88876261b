"""Installs and upgrades schema df: the numbered files of sql/migrations, in order, in one transaction.

Theory of operation. `df.migrations` says what was applied; everything happens while it is locked in ACCESS EXCLUSIVE
mode, in the transaction that made or read it. So two that run at once take turns, the second finds nothing left to do,
and whatever goes wrong leaves the schema as it was. Users hold no privilege on that table and cannot take the lock; an
advisory lock anyone could (ROLES.md rule 14). The one thing that no lock covers is the making of schema and table:
there the loser of the race gets an error from a unique index of the catalog, and begins again.

Works as a plain LOGIN role with CREATE on the database, which becomes the owner of df. The connection's search_path is
pinned at its start (ROLES.md rule 12).

After the migrations come two things that are no part of the schema's version and are done each time: the operators
(sql/operators.sql), whose schema is a choice, and `df.seal()`, which gives every role that has df what is new in it.

Errors:

MigrateError                what happened, with `hint`: what to do
├── NotConnected            the server cannot be reached, or refuses the login
├── ServerTooOld            before PostgreSQL 15
├── SchemaTooNew            a newer walflow installed or upgraded df
├── SchemaNotOurs           schema df or its contents belong to somebody else
├── MigrationsDiffer        what was applied is not what this walflow has under that number
├── MissingPrivilege        the role lacks CREATE on the database or a schema
├── OperatorTaken           another operator of that name stands where ours should
└── MigrationFailed         a statement of a migration failed: file, line, the server's message
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final, LiteralString

import psycopg
from psycopg import sql as pgsql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

Connection = psycopg.Connection[TupleRow]

APPLICATION_NAME: Final = "walflow-cli"
MINIMUM_SERVER: Final = 15
OPTIONS: Final = "-c search_path=pg_catalog,pg_temp -c standard_conforming_strings=on -c client_min_messages=warning"
"""Startup options: they beat ALTER ROLE … SET, and nobody's schema can come first (ROLES.md rules 12 and 16)."""
BOOTSTRAP_TRIES: Final = 5
"""How often somebody else may win the race for making schema and table; each time less is left to race for."""

_FILE_NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")
_CREATE_SCHEMA: Final = "create schema df"
_CREATE_TABLE: Final = """\
create table df.migrations (
  number     integer primary key,
  name       text not null,
  checksum   text not null,
  applied_at timestamptz not null default clock_timestamp(),
  applied_by name not null default current_user
)"""
LOCK_TIMEOUT_SECONDS: Final = 30
"""How long a migration waits for a table that somebody uses."""
_BUSY: Final = "Nothing was changed. A long transaction uses a table of df: end it, and run walflow migrate again."
_FAULT: Final = "Nothing was changed. This is a fault of walflow: please report it."
_COMMENT: Final = "comment on table df.migrations is 'What walflow migrate has applied; whoever migrates locks it.'"


class MigrateError(Exception):
    """Why df was not installed or upgraded; nothing was changed. `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class NotConnected(MigrateError):
    """The server cannot be reached, or refuses the login."""


class ServerTooOld(MigrateError):
    """The server's major version is not supported."""


class SchemaTooNew(MigrateError):
    """df has migrations that this walflow does not know."""


class SchemaNotOurs(MigrateError):
    """Schema df, or what is in it, belongs to somebody else."""


class MigrationsDiffer(MigrateError):
    """An applied migration is not the one that this walflow has under that number."""


class MissingPrivilege(MigrateError):
    """The role may not create what has to be created."""


class OperatorTaken(MigrateError):
    """An operator of that name and types is there already and calls something else."""


class MigrationFailed(MigrateError):
    """A statement of a migration failed; `number` and `line` say which."""

    def __init__(self, message: str, hint: str, *, number: int, line: int | None) -> None:
        super().__init__(message, hint)
        self.number = number
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of sql/migrations."""

    number: int
    name: str
    text: str

    @property
    def file_name(self) -> str:
        return f"{self.number:04}_{self.name}.sql"

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `migrate` did, or would do."""

    before: int
    """The schema's version before: the number of its last migration, 0 for none."""
    after: int
    """The version now, or that it would have."""
    applied: tuple[Migration, ...]
    """What was applied, or would be, in order."""
    operators_schema: str
    """Where the operators are."""
    sql: str
    """Everything that was run, or would be, as a script."""
    warnings: tuple[str, ...]
    """What whoever runs this should know."""
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is being done, for whoever looks on: it may take long, or wait for somebody."""

    what: str
    """A migration's file, or a few words."""
    number: int
    """Which of the migrations to apply, from 1; 0 for what is none."""
    total: int
    """How many there are."""
    backend: int
    """The process id of the server's backend that does it."""


Tell = Callable[[Stage], None]


# --- the files ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def migrations() -> tuple[Migration, ...]:
    """The migrations of this walflow, in the order of their numbers. They are package data: a wheel has them."""
    found = []
    for file in files("sql").joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match is not None:
            text = file.read_text(encoding="utf-8")
            found.append(Migration(number=int(match[1]), name=match[2], text=text))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    assert numbers == list(range(1, len(found) + 1)), f"migrations are numbered from 1 without gaps, not {numbers}"
    return tuple(found)


def newest_version() -> int:
    """The version of the schema that this walflow needs."""
    return migrations()[-1].number


def _operators() -> str:
    return files("sql").joinpath("operators.sql").read_text(encoding="utf-8")


# --- asking ---------------------------------------------------------------------------------------------------------

_HAS_MIGRATIONS: Final = "select to_regclass('df.migrations') is not null"
_VERSION: Final = "select coalesce(max(number), 0) from df.migrations"


async def installed_version(connection: psycopg.AsyncConnection[TupleRow]) -> int:
    """The version of the schema in this database, 0 without one. Only df's owner may read it."""
    row = await (await connection.execute(_HAS_MIGRATIONS)).fetchone()
    if row is None or not row[0]:
        return 0
    row = await (await connection.execute(_VERSION)).fetchone()
    return 0 if row is None else int(row[0])


def _value(connection: Connection, query: LiteralString, parameters: Sequence[object] = ()) -> object:
    """The first column of the first row; None without one."""
    row = connection.execute(query, parameters or None).fetchone()
    return None if row is None else row[0]


def _applied(connection: Connection) -> list[tuple[int, str, str]]:
    """Number, name and checksum of what was applied; nothing where there is no df.migrations."""
    if not _value(connection, _HAS_MIGRATIONS):
        return []
    rows = connection.execute("select number, name, checksum from df.migrations order by number").fetchall()
    return [(int(number), str(name), str(checksum)) for number, name, checksum in rows]


# --- checking -------------------------------------------------------------------------------------------------------


def _check_server(connection: Connection) -> None:
    version = connection.info.server_version // 10_000
    if version < MINIMUM_SERVER:
        raise ServerTooOld(
            f"the server is PostgreSQL {version}, walflow needs {MINIMUM_SERVER} or later",
            "Upgrade the server.",
        )


def _is_ours(connection: Connection) -> bool:
    """Whether schema df is ours, or not there yet. Raises for contents that are not walflow's.

    It may be there empty: made for us by somebody who may create schemas. Not ours means that we are a superuser.
    """
    row = connection.execute(
        """
        select n.nspowner::regrole::text, n.nspowner = quote_ident(current_user)::regrole, current_user::text,
               (select r.rolsuper from pg_roles r where r.rolname = current_user),
               exists (select from pg_class c where c.relnamespace = n.oid)
               or exists (select from pg_proc p where p.pronamespace = n.oid)
          from pg_namespace n
         where n.nspname = 'df'
        """
    ).fetchone()
    if row is None:
        return True
    owner, is_ours, role, is_superuser, has_contents = row
    if not is_ours and not is_superuser:
        raise SchemaNotOurs(f"schema df belongs to {owner}, not to {role}", f"Run walflow migrate as {owner}.")
    if has_contents and not _value(connection, _HAS_MIGRATIONS):
        raise SchemaNotOurs(
            "schema df has contents that are not walflow's (there is no df.migrations)",
            "Rename that schema, or install walflow in another database.",
        )
    return bool(is_ours)


def _pending(applied: Sequence[tuple[int, str, str]]) -> tuple[Migration, ...]:
    """What is left to apply. Refuses a history that is not the beginning of ours."""
    ours = migrations()
    newest = max((number for number, _, _ in applied), default=0)
    if newest > len(ours):
        raise SchemaTooNew(
            f"schema df is version {newest}, this walflow knows versions up to {len(ours)}",
            "Install the walflow that upgraded it, or a newer one.",
        )
    for migration, found in zip(ours, applied, strict=False):
        number, name, checksum = found
        if (number, name, checksum) != (migration.number, migration.name, migration.checksum):
            what = "is missing" if number != migration.number else f"was applied with another text ({name})"
            raise MigrationsDiffer(
                f"migration {migration.file_name} {what}",
                "Migrations never change once released: install the walflow that this database was made with, "
                "or one that follows it.",
            )
    return ours[len(applied) :]


def _operators_schema(connection: Connection, wanted: str | None) -> str:
    """The schema for the operators: as asked, else public where we may create (or they are already), else df."""
    if wanted is None:
        may_create = _value(
            connection,
            "select bool_or(has_schema_privilege(n.oid, 'CREATE')) from pg_namespace n where n.nspname = 'public'",
        )
        there = _value(
            connection,
            """
            select count(*) = 8
              from pg_operator o
              join pg_proc p on p.oid = o.oprcode
             where o.oprnamespace = to_regnamespace('public') and p.pronamespace = to_regnamespace('df')
            """,
        )
        return "public" if may_create or there else "df"
    if wanted != "df" and _value(connection, "select to_regnamespace(quote_ident(%s))", [wanted]) is None:
        raise MissingPrivilege(f"there is no schema {wanted} for the operators", f'Run: create schema "{wanted}"')
    return wanted


def _warnings(schema: str, role: str) -> tuple[str, ...]:
    if schema == "pg_catalog":
        return (
            "operators in pg_catalog are left out by pg_dump and pg_upgrade: "
            "run walflow migrate --operators pg_catalog again after a restore or an upgrade",
        )
    if schema == "df":
        grant = pgsql.SQL("grant create on schema public to {}").format(pgsql.Identifier(role)).as_string()
        return (
            "the operators are in schema df, because this role may not create in public: use them with df in the "
            f"search_path, as OPERATOR(df.~>), or run: {grant}; then walflow migrate again",
        )
    return ()


# --- doing ----------------------------------------------------------------------------------------------------------


class _Script:
    """Runs texts and remembers them; or only remembers them."""

    def __init__(self, connection: Connection, *, dry_run: bool, tell: Tell | None = None) -> None:
        self.connection = connection
        self.dry_run = dry_run
        self.texts: list[str] = []
        self._tell = tell

    def tell(self, what: str, number: int = 0, total: int = 0) -> None:
        """Say what comes next."""
        if self._tell is not None and not self.dry_run:
            self._tell(Stage(what=what, number=number, total=total, backend=self.connection.info.backend_pid))

    def run(self, text: str) -> None:
        self.texts.append(text.rstrip().removesuffix(";"))
        if not self.dry_run:
            self.connection.execute(text)

    @property
    def text(self) -> str:
        return "begin;\n" + "".join(f"{text};\n" for text in self.texts) + "commit;\n"


def _bootstrap(script: _Script) -> None:
    """Schema and table, where they are not there, and the lock."""
    if _value(script.connection, "select to_regnamespace('df') is null"):
        script.run(_CREATE_SCHEMA)
    if _value(script.connection, "select to_regclass('df.migrations') is null"):
        script.run(_CREATE_TABLE)
        script.run(_COMMENT)
    script.tell("taking turns with others that migrate")
    script.run("lock table df.migrations in access exclusive mode")
    # whoever waits for a table makes all others wait for it, too
    script.run(f"set local lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")


def _apply(script: _Script, migration: Migration) -> None:
    try:
        script.run(f"-- {migration.file_name}\n{migration.text}")
    except psycopg.errors.InsufficientPrivilege:
        raise
    except psycopg.Error as error:
        position = error.diag.statement_position
        before = f"-- {migration.file_name}\n{migration.text}"[: int(position)] if position is not None else None
        line = None if before is None else before.count("\n")
        busy = isinstance(error, psycopg.errors.LockNotAvailable)
        raise MigrationFailed(
            f"{migration.file_name}{'' if line is None else f', line {line}'}: "
            f"{error.diag.message_primary or error} ({error.sqlstate})",
            error.diag.message_hint or (_BUSY if busy else _FAULT),
            number=migration.number,
            line=line,
        ) from error
    script.run(
        pgsql.SQL("insert into df.migrations (number, name, checksum) values ({}, {}, {})")
        .format(migration.number, migration.name, migration.checksum)
        .as_string()
    )


def _create_operators(script: _Script, schema: str) -> None:
    set_schema = pgsql.SQL("select set_config('walflow.operators', {}, true)").format(schema).as_string()
    try:
        script.run(set_schema)
        script.run(_operators())
    except psycopg.errors.DuplicateFunction as error:
        raise OperatorTaken(
            error.diag.message_primary or str(error),
            "Drop that operator, or run walflow migrate --operators with another schema.",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        grant = pgsql.SQL("Run: grant create on schema {} to {}").format(
            pgsql.Identifier(schema), pgsql.Identifier(script.connection.info.user)
        )
        raise MissingPrivilege(
            f"operators in schema {schema}: {error.diag.message_primary or error}",
            "Run it once more as a superuser." if schema == "pg_catalog" else grant.as_string(),
        ) from error


def _seal(script: _Script, version: int) -> None:
    if script.dry_run:
        has_seal = any("function df.seal()" in migration.text for migration in migrations()[:version])
    else:
        has_seal = bool(_value(script.connection, "select to_regprocedure('df.seal()') is not null"))
    if has_seal:
        script.run("select df.seal()")


def _migrate(
    connection: Connection, *, dry_run: bool, operators: str | None, target: int, tell: Tell | None = None
) -> Report:
    """The whole of it, in the connection's open transaction."""
    _check_server(connection)
    script = _Script(connection, dry_run=dry_run, tell=tell)
    is_ours = _is_ours(connection)
    if is_ours:
        _bootstrap(script)
    applied = _applied(connection)  # after the lock: whoever was before us has committed
    pending = tuple(migration for migration in _pending(applied) if migration.number <= target)
    if pending and not is_ours:
        raise SchemaNotOurs(
            "schema df belongs to another role, and there is something to migrate",
            "Run walflow migrate as its owner first; a superuser only puts operators into pg_catalog.",
        )
    for number, migration in enumerate(pending, 1):
        script.tell(migration.file_name, number, len(pending))
        _apply(script, migration)
    after = max(len(applied), pending[-1].number if pending else 0)
    schema = _operators_schema(connection, operators)
    script.tell("operators and grants")
    _create_operators(script, schema)
    if is_ours:
        _seal(script, after)
    return Report(
        before=len(applied),
        after=after,
        applied=pending,
        operators_schema=schema,
        sql=script.text,
        warnings=_warnings(schema, connection.info.user),
        dry_run=dry_run,
    )


def connection_string(dsn: str) -> str:
    """`dsn` for migrate's own connections: its options come last and so win, whatever options the user has."""
    given = conninfo_to_dict(dsn)
    options = given.get("options") or os.environ.get("PGOPTIONS") or ""
    return make_conninfo(
        dsn, options=f"{options} {OPTIONS}".strip(), application_name=APPLICATION_NAME, client_encoding="UTF8"
    )


@contextmanager
def _connected(dsn: str) -> Iterator[Connection]:
    try:
        connection = psycopg.connect(connection_string(dsn))
    except psycopg.OperationalError as error:
        raise NotConnected(str(error).strip(), "Check the connection string (WALFLOW_DSN).") from error
    with connection:
        yield connection


def _privilege_error(error: psycopg.errors.InsufficientPrivilege, connection: Connection) -> MissingPrivilege:
    grant = pgsql.SQL("grant create on database {} to {}").format(
        pgsql.Identifier(connection.info.dbname), pgsql.Identifier(connection.info.user)
    )
    return MissingPrivilege(error.diag.message_primary or str(error), f"Run as a superuser: {grant.as_string()}")


def migrate(
    dsn: str,
    *,
    dry_run: bool = False,
    operators: str | None = None,
    target: int | None = None,
    tell: Tell | None = None,
) -> Report:
    """Install schema df, or upgrade it to this walflow's version, and return what was done.

    `dsn` is a libpq connection string of the role that owns df, or is to. With `dry_run` nothing is changed and the
    report's `sql` says what would be. `operators` names the schema for the operators; None: public where that role may
    create there, else df. `target` stops at that version (for tests of upgrades). `tell` is called before each part of the
    work. Raises MigrateError.
    """
    last: Exception | None = None
    for _ in range(BOOTSTRAP_TRIES):
        with _connected(dsn) as connection:
            connection.read_only = dry_run
            try:
                return _migrate(
                    connection,
                    dry_run=dry_run,
                    operators=operators,
                    target=newest_version() if target is None else target,
                    tell=tell,
                )
            except (
                psycopg.errors.UniqueViolation,
                psycopg.errors.DuplicateSchema,
                psycopg.errors.DuplicateTable,
            ) as error:
                # somebody else made schema or table at the same time, and has committed by now
                last = error
                connection.rollback()
            except psycopg.errors.InsufficientPrivilege as error:
                raise _privilege_error(error, connection) from error
    raise MigrateError(f"schema df could not be made: {last}", "Try again.") from last
