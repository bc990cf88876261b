"""`walflow start`."""

from __future__ import annotations

from typing import Annotated

import psycopg
import typer

from engine.cli import output
from engine.cli.graphs import graph_of, name_of, text_of
from engine.cli.instances import find
from engine.cli.options import AsJson, with_dsn
from engine.cli.session import Asked, Session
from engine.cli.showing import show_found
from engine.errors import ConfigError

EXAMPLE = "Example: walflow start order.sql --id order-1001 --label order --watch"


@with_dsn
def start(
    session: Session,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="A JSON graph, an expression of builders ('select 1' ~> 'select 2'), or SQL for one step. - is standard input.",
        ),
    ],
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its id: started at most once.", show_default="a new one")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", "-l", metavar="LABEL", help="Its label.")] = None,
    input: Annotated[str | None, typer.Option("--input", metavar="JSON", help="Its input, $input in steps.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a workflow, and print its id.

    Its steps run as the role that starts it.
    """
    text = text_of(file)
    with session.writing() as asked:
        graph = graph_of(asked, text, name_of(file))
        began, started_id = _insert(asked, graph, id, label, input)
        if not began:
            existing = find(session, asked, started_id, None)
    out = output.stdout()
    if as_json and not watch:
        out.json({"id": started_id, "owner": session.role, "started": began})
    elif not watch:
        out.out(started_id, highlight=False)
    if not began:
        output.stderr().print(f"walflow: {started_id} was there already, and is {existing.status}: nothing was started")
    if watch:
        with session.reading() as asked:
            found = find(session, asked, started_id, session.role)
        show_found(session, found, watch=True, as_json=as_json)


def _insert(asked: Asked, graph: str, id: str | None, label: str | None, input: str | None) -> tuple[bool, str]:
    """Whether it was started, and its id."""
    query = """
        insert into df.instances (id, graph, label, input) values (coalesce(%s, df.new_id()), %s, %s, %s)
        on conflict (submitted_by, id) do nothing
        returning id
    """
    try:
        row = asked.connection.execute(query, [id, graph, label, input]).fetchone()
    except psycopg.errors.InvalidTextRepresentation as error:
        raise ConfigError(
            f"--input: {error.diag.message_primary}", "It is JSON, such as '{\"order\": 1001}'."
        ) from error
    assert row is not None or id is not None, "a new id is nobody's"
    return (True, str(row[0])) if row is not None else (False, str(id))
