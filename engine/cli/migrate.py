"""`walflow migrate`, and what it is doing while it does: a large table may take its time, or somebody's lock be in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final, LiteralString, Self

import psycopg
import typer

from engine.cli import output
from engine.config import Loaded
from engine.options import with_settings
from sql.migrate import Report, Stage, Tell, connection_string, migrate

EXAMPLE = "Example: walflow migrate --dsn postgresql://walflow@db.internal/app --dry-run"
LOOK_SECONDS: Final = 1.0
"""Between looks at what the server is doing, and before the first: most migrations are over by then."""
DOING: Final[LiteralString] = """
    select case
             when b.blockers is not null then 'waits for ' || b.blockers
             when i.index is not null then i.index
           end
      from (select string_agg(format('backend %%s (%%s)', p.pid, concat_ws(', ', a.usename, a.application_name, a.state)),
                              ' and ') as blockers
              from unnest(pg_catalog.pg_blocking_pids(%(pid)s)) as p(pid)
              left join pg_catalog.pg_stat_activity a on a.pid = p.pid) as b,
           (select max(format('index on %%s: %%s%%s', c.relid::regclass, c.phase,
                              ', ' || round(100.0 * c.blocks_done / nullif(c.blocks_total, 0)) || ' %%')) as index
              from pg_catalog.pg_stat_progress_create_index c
             where c.pid = %(pid)s) as i
"""


@with_settings("dsn")
def migrate_command(
    loaded: Loaded,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL that would run, and stop.")] = False,
    operators: Annotated[
        str | None,
        typer.Option(
            "--operators", help="The schema for the operators.", show_default="public where the role may, else df"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Install or upgrade schema df and the publication.

    Safe to run again, and from several places at once.
    """
    dsn = loaded.settings.dsn
    with _progress(dsn) as tell:
        report = migrate(dsn, dry_run=dry_run, operators=operators, tell=tell)
    out, beside = output.stdout(), output.stderr()
    if as_json:
        out.json(_for_programs(report))
    else:
        out.out(report.sql if dry_run else _migrated(report), highlight=False)
    for warning in report.warnings:
        beside.print(f"walflow: {warning}", soft_wrap=True)


def _migrated(report: Report) -> str:
    if report.before == report.after:
        return f"schema df is at version {report.after} already"
    return (
        f"schema df is at version {report.after}; it was at {report.before}"
        if report.before
        else (f"schema df is installed, version {report.after}")
    )


def _for_programs(report: Report) -> dict[str, object]:
    told: dict[str, object] = {
        "before": report.before,
        "after": report.after,
        "applied": [migration.file_name for migration in report.applied],
        "operators_schema": report.operators_schema,
        "warnings": report.warnings,
        "dry_run": report.dry_run,
    }
    return {**told, "sql": report.sql} if report.dry_run else told


@contextmanager
def _progress(dsn: str) -> Iterator[Tell]:
    """On a terminal a line that changes, in a log a line for each migration; both on stderr."""
    beside = output.stderr()
    if not beside.live:
        last: list[str] = []

        def line(text: str) -> None:
            if last != [text]:
                beside.print(f"walflow: {text}", soft_wrap=True)
            last[:] = [text]

        with _Onlooker(dsn, line) as onlooker:
            yield onlooker.tell
        return
    with beside.status("connecting …") as status, _Onlooker(dsn, status.update) as onlooker:
        yield onlooker.tell


class _Onlooker:
    """Says what stage the work is at, and, from a connection of its own, what the server is doing for it."""

    def __init__(self, dsn: str, say: Callable[[str], None]) -> None:
        self._dsn = dsn
        self._say = say
        self._stage: Stage | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="walflow-onlooker", daemon=True)

    def tell(self, stage: Stage) -> None:
        """The work goes on with this."""
        self._stage = stage
        if stage.number:
            self._say(described(stage))

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            stage = self._stage
            if stage is not None and (doing := self._doing(stage.backend)):
                self._say(f"{described(stage)}: {doing}")

    def _doing(self, backend: int) -> str | None:
        """None where nothing is known: whoever looks on must not disturb, and may be refused a connection."""
        try:
            with psycopg.connect(connection_string(self._dsn), autocommit=True) as connection:
                row = connection.execute(DOING, {"pid": backend}).fetchone()
        except psycopg.Error:
            return None
        return None if row is None else row[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LOOK_SECONDS)  # it may be waiting for a connection; it dies with us


def described(stage: Stage) -> str:
    """A stage for people."""
    return f"{stage.what} ({stage.number} of {stage.total})" if stage.number else stage.what
