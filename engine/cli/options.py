"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from engine.cli.instances import Filter, listed
from engine.cli.session import Session
from engine.config import Loaded, load
from engine.errors import WalflowError
from engine.options import with_settings

OF_USERS: Final = {"dsn": "Where, and as whom: your own role. As for psql without it."}
COMPLETION_SECONDS: Final = 2
COMPLETIONS: Final = 50


def with_dsn(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --dsn, as users need it; its first argument is an open session."""

    def run(loaded: Loaded, /, *args: Any, **options: Any) -> None:
        with Session(loaded.settings.dsn) as session:
            command(session, *args, **options)

    return with_settings("dsn", help_texts=OF_USERS, like=command)(run)


def known_ids(incomplete: str) -> list[str]:
    """Ids of new instances that begin so, for the shell. A shell has no use for an error in the middle of a line."""
    try:
        loaded = load({}, os.environ, None)
        with Session(loaded.settings.dsn, connect_timeout=COMPLETION_SECONDS) as session, session.reading() as asked:
            return [one.id for one in listed(asked, Filter(limit=1000)) if one.id.startswith(incomplete)][:COMPLETIONS]
    except WalflowError:
        return []


Id = Annotated[str, typer.Argument(metavar="ID", help="The instance.", autocompletion=known_ids)]
Owner = Annotated[
    str | None, typer.Option("--owner", metavar="ROLE", help="Whose instance, where several roles have one of that id.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON, with times in ISO 8601.")]
