"""`walflow run`: the engine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from engine import log
from engine.config import Loaded, shown
from engine.options import with_settings

EXAMPLE = "Example: walflow run --dsn postgresql://walflow@db.internal/app --log-level debug"


@with_settings()
def run(
    loaded: Loaded,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print all settings with where each came from, and stop.")
    ] = False,
) -> None:
    """Run the engine.

    As leader, or as hot standby while another one holds the slot.
    """
    if show_settings:
        _print_settings(loaded)
        return
    start_logging(loaded)
    from engine import runner  # what it needs is loaded only where an engine runs

    raise typer.Exit(runner.run(loaded.settings))


def _print_settings(loaded: Loaded) -> None:
    rows = shown(loaded)
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, source in rows:
        print(f"{name:{name_width}}  {value:{min(value_width, 60)}}  ({source})")


def start_logging(loaded: Loaded) -> None:
    """Before an engine runs in this process."""
    log.set_up(loaded.settings.log_format, loaded.settings.log_level)
    forget_password()


def forget_password() -> None:
    """Take the engine's password out of the environment: it is in dsn now, and libpq would send it for every role."""
    os.environ.pop("PGPASSWORD", None)
