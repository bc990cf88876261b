"""`walflow signal`, `cancel` and `retry`: one row each, as any client would insert it, for the instance that was found."""

from __future__ import annotations

import sys
from typing import Annotated

import psycopg
import typer

from engine.cli import output
from engine.cli.instances import FINAL, Found, find
from engine.cli.options import AsJson, Id, Owner, with_dsn
from engine.cli.output import Raw
from engine.cli.session import Asked, Session
from engine.errors import ConfigError

SIGNAL_EXAMPLE = """Example: walflow signal order-1001 paid '{"cents": 1999}'"""
CANCEL_EXAMPLE = "Example: walflow cancel order-1001 --reason 'ordered twice'"
RETRY_EXAMPLE = "Example: walflow retry order-1001 --reason 'upgraded to 0.2'"


@with_dsn
def signal_command(
    session: Session,
    id: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="[DATA]", help="JSON; other text becomes a JSON string. - reads it from standard input."
        ),
    ] = "{}",
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Send a signal to a workflow. It is kept until something waits for it."""
    text = sys.stdin.read() if data == "-" else data
    with session.writing() as asked:
        found = find(session, asked, id, owner)
        if found.status in FINAL:
            raise ConfigError(f"Instance {id} is already {found.status}", "Nothing waits in it any more.")
        as_sent = _json(asked, text)
        asked.connection.execute(
            "insert into df.signals (owner, instance_id, name, data) values (%s, %s, %s, %s::json)",
            [found.submitter, found.id, name, as_sent],
        )
    _said(found, as_json, f"signal {name} sent to {found.id}", signal=name, data=as_sent)


def _json(asked: Asked, text: str) -> Raw:
    """The text if it is JSON to the database, else as a JSON string: as df.signal takes it."""
    try:
        with asked.connection.transaction():
            asked.connection.execute("select %s::json", [text])
    except (psycopg.errors.InvalidTextRepresentation, psycopg.errors.StatementTooComplex):
        [string] = asked.values("select to_json(%(text)s::text)", text=text)
        return Raw(string)
    return Raw(text)


@with_dsn
def cancel(
    session: Session,
    id: Id,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Kept with the workflow.")
    ] = "Cancelled by user",
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a workflow.

    What it is doing is rolled back, and what it owes is undone, before it is cancelled.
    """
    with session.writing() as asked:
        found = find(session, asked, id, owner)
        ended = found.status in FINAL
        if not ended:
            asked.connection.execute(
                "insert into df.cancellations (owner, instance_id, reason) values (%s, %s, %s)",
                [found.submitter, found.id, reason],
            )
    text = f"Instance {id} is already {found.status}" if ended else f"Instance {id} cancelled: {reason}"
    _said(found, as_json, text, cancelled=not ended)


@with_dsn
def retry(
    session: Session,
    id: Id,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Kept with the workflow.")
    ] = "Released by user",
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Let a quarantined workflow go on.

    What could not be folded is tried again, once what kept it from that is repaired.
    """
    with session.writing() as asked:
        found = find(session, asked, id, owner)
        if found.status in FINAL:
            hint = "A workflow that has ended stays so: start it again. retry is for one that was quarantined."
            raise ConfigError(f"Instance {id} is already {found.status}", hint)
        if found.quarantined is None:
            hint = f"It is {found.status}; walflow list --quarantined shows what was set aside."
            raise ConfigError(f"Instance {id} is not quarantined, so there is nothing to release", hint)
        asked.connection.execute(
            "insert into df.releases (owner, instance_id, reason) values (%s, %s, %s)",
            [found.submitter, found.id, reason],
        )
    _said(found, as_json, f"Instance {id} released: {reason}", released=True)


def _said(found: Found, as_json: bool, text: str, **more: object) -> None:
    out = output.stdout()
    if as_json:
        out.json({"id": found.id, "owner": found.owner, "status": found.status, **more})
    else:
        out.out(text, highlight=False)
