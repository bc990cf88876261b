"""`walflow list`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from engine.cli import output, views
from engine.cli.instances import STATUSES, Filter, Listed, listed
from engine.cli.options import AsJson, with_dsn
from engine.cli.session import Session
from engine.config import parse_duration
from engine.errors import ConfigError

EXAMPLE = "Example: walflow list --status failed,running --label nightly --newer-than 2d"


def _statuses(incomplete: str) -> list[str]:
    return [status for status in STATUSES if status.startswith(incomplete)]


@with_dsn
def list_command(
    session: Session,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status", "-s", metavar="STATUS", help=f"Only these: {', '.join(STATUSES)}.", autocompletion=_statuses
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", "-l", metavar="LABEL", help="Only those with this label.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="ROLE", help="Only this role's.")] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Started longer ago than this: 30m, 2h, 7d.")
    ] = None,
    newer_than: Annotated[
        str | None, typer.Option("--newer-than", metavar="AGE", help="Started since: 30m, 2h, 7d ago.")
    ] = None,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Only those that were set aside.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, max=100_000, help="How many at most.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List workflows, the newest first.

    Those of every role whose rights you have.
    """
    wanted = Filter(
        statuses=_chosen(status or []),
        label=label,
        owner=owner,
        older_than=_age("--older-than", older_than),
        newer_than=_age("--newer-than", newer_than),
        quarantined=quarantined,
        limit=limit,
    )
    with session.reading() as asked:
        rows = listed(asked, wanted)
    out = output.stdout()
    if as_json:
        out.json([_for_programs(row) for row in rows])
        return
    style = views.Style(plain=not out.is_terminal, me=session.role)
    if rows:
        out.put(views.listing(rows, style))
        if len(rows) == limit and out.is_terminal:
            output.stderr().print(f"the newest {limit}: --limit shows more", style="dim")
    else:
        output.stderr().print(views.nothing_listed(wanted != Filter(limit=limit), style))


def _chosen(given: list[str]) -> list[str]:
    """The statuses, which may stand in one option with commas or in several."""
    chosen = list(dict.fromkeys(word.strip() for text in given for word in text.split(",")))
    for word in chosen:
        if word not in STATUSES:
            raise ConfigError(f"--status: there is no status {word!r}", f"It is one of {', '.join(STATUSES)}.")
    return chosen


def _age(flag: str, text: str | None) -> timedelta | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {text!r} is no good: it must be {error}") from None


def _for_programs(row: Listed) -> dict[str, object]:
    return {
        "id": row.id,
        "owner": row.owner,
        "label": row.label,
        "status": row.status,
        "quarantined": row.quarantined,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "message": row.message,
    }
