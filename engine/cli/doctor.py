"""`walflow doctor`: every condition, and with --fix what repairs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.padding import Padding
from rich.text import Text

from engine.cli import output
from engine.cli.exits import Exit
from engine.cli.output import Out
from engine.cli.run import forget_password
from engine.config import Loaded, Settings, parse_dsn
from engine.doctor import Finding, Severity, diagnose, failed
from engine.doctor.findings import MIGRATE
from engine.doctor.repairs import Repair, repair
from engine.errors import ConfigError
from engine.options import with_settings

EXAMPLE = "Example: walflow doctor --dsn postgresql://walflow@db.internal/app --fix"
MARKS: Final = {
    Severity.OK: ("✓", "ok", "green"),
    Severity.WARNING: ("!", "!", "yellow"),
    Severity.ERROR: ("✗", "FAILED", "red"),
}
"""Mark, the same in ASCII, and colour."""

Allowed = Callable[[str], bool]
"""Whether a statement may be run."""


@with_settings()
def doctor(
    loaded: Loaded,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Print each repairing statement, ask, and run it; then look again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --fix: do not ask.")] = False,
    admin_dsn: Annotated[
        str | None,
        typer.Option("--admin-dsn", metavar="DSN", help="With --fix: who repairs what the engine's role may not."),
    ] = None,
) -> None:
    """Look at every condition that the engine needs.

    Exit 3 if one is not met. With --fix, repair what a statement can repair.
    """
    forget_password()
    allowed = _consent(fix=fix, yes=yes, as_json=as_json, admin_dsn=admin_dsn)
    findings = asyncio.run(diagnose(loaded.settings))
    out = output.stdout()
    if not as_json:
        print_findings(out, findings)
    repairs: list[Repair] = []
    if fix:
        findings = _fixed(out, loaded.settings, findings, admin_dsn, allowed, repairs, quiet=as_json)
        if repairs and not as_json:
            out.print()
            print_findings(out, findings)
    if as_json:
        out.out(output.as_json(_for_programs(findings, repairs if fix else None)), highlight=False)
    if failed(findings):
        raise typer.Exit(Exit.UNFIT)


def _consent(*, fix: bool, yes: bool, as_json: bool, admin_dsn: str | None) -> Allowed:
    """How to ask. Raises ConfigError where nobody can be asked."""
    if not fix and (yes or admin_dsn is not None):
        raise ConfigError("--yes and --admin-dsn go with --fix", "Without it doctor only looks.")
    if admin_dsn is not None:
        try:
            parse_dsn(admin_dsn)
        except ValueError as error:
            raise ConfigError(f"--admin-dsn: it must be {error}") from None
    if fix and not yes and (as_json or not sys.stdin.isatty()):
        raise ConfigError(
            "--fix asks before each statement, and there is no terminal to ask at", "Add --yes to run them all."
        )
    return (lambda _: True) if yes else _ask


def _ask(statement: str) -> bool:
    return typer.confirm("run this?", default=False)


def _fixed(
    out: Out,
    settings: Settings,
    findings: list[Finding],
    admin_dsn: str | None,
    allowed: Allowed,
    repairs: list[Repair],
    *,
    quiet: bool,
) -> list[Finding]:
    """Run what repairs, look again, and go on with what comes to light then; each statement is tried once."""
    tried: set[str] = set()
    while todo := [(f.condition, s) for f in findings for s in dict.fromkeys(f.statements) if s not in tried]:
        ran = 0
        for condition, statement in todo:
            tried.add(statement)
            if not quiet:
                out.print()
                out.put(Text(_as_typed(statement), style="bold"))
            if not allowed(statement):
                continue
            ran += 1
            repairs.append(asyncio.run(repair(settings, condition, statement, admin_dsn)))
            if not quiet:
                out.put(_outcome(repairs[-1]))
        if not ran:
            break
        findings = asyncio.run(diagnose(settings))
    return findings


def _as_typed(statement: str) -> str:
    """SQL ends as in psql."""
    return statement if statement.endswith(";") or statement == MIGRATE else f"{statement};"


def _outcome(made: Repair) -> Text:
    by = f" as {made.role}" if made.role else ""
    return Text(f"  done{by}", style="green") if made.done else Text(f"  failed{by}: {made.error}", style="red")


def print_findings(out: Out, findings: list[Finding]) -> None:
    """For people; a terminal's lines are broken between words."""
    for finding in findings:
        out.put(_line(mark(finding.severity, out), finding))
        if finding.repair:
            out.put(
                Padding(Text(finding.repair, style="cyan"), (0, 0, 0, 4))
                if out.is_terminal
                else Text(f"    {finding.repair}")
            )
    bad = len(failed(findings))
    out.print()
    out.print(f"{bad} of {len(findings)} conditions not met" if bad else "fit to run on")


def _line(sign: Text, finding: Finding) -> Text:
    return Text.assemble(sign, f" {finding.condition}: {finding.what}")


def mark(severity: Severity, out: Out) -> Text:
    """The mark of a condition, as the encoding can say it."""
    sign, plain, colour = MARKS[severity]
    try:
        sign.encode(out.encoding)
    except UnicodeEncodeError:
        sign = plain
    return Text(sign, style=colour)


def _for_programs(findings: list[Finding], repairs: list[Repair] | None) -> dict[str, object]:
    told: dict[str, object] = {"fit": not failed(findings), "findings": [asdict(finding) for finding in findings]}
    if repairs is not None:
        told["repairs"] = [asdict(made) for made in repairs]
    return told
