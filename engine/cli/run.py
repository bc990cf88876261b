"""`walflow run`: the engine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from engine import log, signals
from engine.cli import output
from engine.config import Loaded, shown
from engine.errors import ConfigError
from engine.options import with_settings

EXAMPLE = "Example: walflow run --dsn postgresql://walflow@db.internal/app --log-level debug"


@with_settings()
def run(
    loaded: Loaded,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print all settings with where each came from, and stop.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --show-settings, for programs: one JSON object.")
    ] = False,
) -> None:
    """Run the engine.

    As leader, or as hot standby while another one holds the slot.
    """
    if show_settings:
        _print_settings(loaded, as_json=as_json)
        return
    if as_json:
        raise ConfigError("--json goes with --show-settings", "The log is JSON with --log-format json.")
    start_logging(loaded)
    signals.end_in_good_order()
    from engine import runner  # what it needs is loaded only where an engine runs

    raise typer.Exit(runner.run(loaded.settings))


def _print_settings(loaded: Loaded, *, as_json: bool) -> None:
    rows = shown(loaded)
    if as_json:
        output.stdout().json({name: {"value": value, "source": source} for name, value, source in rows})
        return
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
