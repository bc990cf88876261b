"""`walflow explain` and `walflow history`."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated

import typer

from engine.cli import output, views
from engine.cli.graphs import graph_of, name_of, text_of
from engine.cli.instances import find, history, tree
from engine.cli.options import AsJson, Id, Owner, known_ids, with_dsn
from engine.cli.session import Session
from engine.errors import ConfigError

EXPLAIN_EXAMPLE = "Example: walflow explain order-1001; before a start: walflow explain --file order.sql"
HISTORY_EXAMPLE = "Example: walflow history order-1001 --json"
OURS = ("message", "begun_at")
"""Fields that are for rendering."""
AN_ID = re.compile(r"[~A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")


@with_dsn
def explain(
    session: Session,
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The instance; or a graph.", autocompletion=known_ids)
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE|-", help="A workflow as for walflow start; it is not run."),
    ] = None,
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Draw a workflow as a tree, with how far it has come.

    With --file, a workflow that was not started yet: what could not run is refused, and nothing is run.
    """
    if (id is None) == (file is None):
        raise ConfigError("walflow explain needs either an instance's ID or --file", EXPLAIN_EXAMPLE)
    if id is not None and AN_ID.fullmatch(id):
        with session.reading() as asked:
            drawn = tree(asked, find(session, asked, id, owner))
    else:
        text = id if id is not None else text_of(file or "-")
        with session.writing() as asked:  # the builders of an expression are the user's to choose
            graph = graph_of(asked, text, name_of(file) if file is not None else "the argument")
            [drawn] = asked.values("select df.explain(%(graph)s)", graph=graph)
    out = output.stdout()
    if as_json:
        out.json({"id": id if file is None else None, "tree": drawn.splitlines()})
    else:
        out.put(views.whole_tree(drawn))


@with_dsn
def history_command(
    session: Session,
    id: Id,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, help="Only the last so many events.")
    ] = None,
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Tell what happened in a workflow, step by step.

    With the SQL as it really ran, in the order in which it was recorded.
    """
    with session.reading() as asked:
        events = history(asked, find(session, asked, id, owner), last)
    out = output.stdout()
    if as_json:
        out.json([{name: value for name, value in asdict(event).items() if name not in OURS} for event in events])
    else:
        out.put(views.told(events, views.Style(plain=not out.is_terminal, me=session.role)))
