"""The loop: look, draw, wait for a key or the time."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.console import Group
from rich.live import Live

from engine.cli import output, terminal
from engine.cli.options import AsJson
from engine.cli.top.samples import Sample, figures
from engine.cli.top.screen import TREND, View, picture
from engine.cli.top.sources import Engine, Watched, ask_engine, checked_url
from engine.config import Loaded, parse_duration
from engine.errors import ConfigError, Unfit
from engine.options import with_settings

EXAMPLE: Final = "Example: walflow top --url http://10.0.0.7:9464 --dsn postgresql://ops@db.internal/app"
USUAL: Final = "http://127.0.0.1:9464"
ANYWHERE: Final = ("0.0.0.0", "::")
FASTEST_SECONDS: Final = 0.2
ONCE_SECONDS: Final = 1.0
"""Between the two looks that one picture is made of, so that it has rates."""
OF_USERS: Final = {"dsn": "Where, and as whom: your own role. As for psql without it."}


@with_settings("dsn", "slot", help_texts=OF_USERS)
def top(
    loaded: Loaded,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Where an engine listens; several times for several.",
            show_default="the setting listen, on this machine",
        ),
    ] = None,
    interval: Annotated[str, typer.Option("--interval", "-i", metavar="TIME", help="Between two looks.")] = "2s",
    once: Annotated[
        bool, typer.Option("--once", help="One picture, and stop; also wherever nothing can be redrawn.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show live what the engine does.

    Throughput, latency, lag, what waits longest and what fails. q or Ctrl-C ends it. Without an engine to ask, what the database
    alone can tell.
    """
    urls = [checked_url(text) for text in url or [_here(loaded)]]
    seconds = _seconds(interval)
    out = output.stdout()
    watch = Watch(urls, Watched(loaded.settings.dsn, loaded.settings.slot))
    with terminal.stopped_quietly():
        try:
            if as_json or once or not out.live:
                view = watch.once()
                if as_json:
                    out.json(for_programs(view))
                else:
                    out.put(Group(*picture(view, min(out.width, 110), None)))
            else:
                _live(out, watch, seconds)
        finally:
            watch.close()


def _here(loaded: Loaded) -> str:
    """Where the engine of these settings listens, for whoever is on the same machine."""
    address = loaded.settings.listen_address
    if address is None:  # that one listens nowhere; another may, at the usual place
        return USUAL
    host, port = address
    host = "127.0.0.1" if host in ANYWHERE else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _seconds(text: str) -> float:
    try:
        return max(parse_duration(text).total_seconds(), FASTEST_SECONDS)
    except ValueError as error:
        raise ConfigError(f"--interval: {text!r} is no good: it must be {error}") from None


def _live(out: output.Out, watch: Watch, seconds: float) -> None:
    view = watch.look(seconds)  # before the screen is taken: if nothing answers, that is said on the usual one
    with terminal.keys() as keys, Live(console=out, screen=True, auto_refresh=False) as live:
        while True:
            with terminal.undisturbed():
                live.update(Group(*picture(view, out.width, out.height)), refresh=True)
            if keys.wait(seconds) in ("q", "Q"):
                return
            view = watch.look(seconds, patient=True)


class Watch:
    """Looks again and again, and remembers what rates and trends need."""

    def __init__(self, urls: list[str], database: Watched) -> None:
        self._urls = urls
        self._database = database
        self._last: dict[str, Sample] = {}
        self._trend: deque[float] = deque(maxlen=TREND)

    def look(self, every_seconds: float | None = None, *, patient: bool = False) -> View:
        """How things stand. Raises Unfit when nothing answers at all, unless `patient`."""
        engines = [ask_engine(url) for url in self._urls]
        database = self._database.ask()
        if not patient and database.error and all(engine.error for engine in engines):
            away = "; ".join(f"{engine.url}: {engine.error}" for engine in engines)
            raise Unfit(f"neither an engine nor the database answers: {away}; {database.error}", _WHERE)
        shown = _shown(engines)
        seen = None
        if shown is not None and shown.sample is not None:
            seen = figures(self._last.get(shown.url), shown.sample)
            if seen.steps_per_second is not None:
                self._trend.append(seen.steps_per_second)
        self._last = {engine.url: engine.sample for engine in engines if engine.sample is not None}
        return View(
            at=datetime.now(UTC),
            every_seconds=every_seconds,
            engines=engines,
            shown=shown,
            figures=seen,
            trend=tuple(self._trend),
            database=database,
        )

    def once(self) -> View:
        """One view, with rates where an engine answers."""
        view = self.look()
        if view.shown is None:
            return view
        time.sleep(ONCE_SECONDS)
        return replace(self.look(patient=True), every_seconds=None)

    def close(self) -> None:
        """Hang up."""
        self._database.close()


_WHERE: Final = "Say with --url where an engine listens, and with --dsn where the database is."


def _shown(engines: list[Engine]) -> Engine | None:
    """The leader, else whichever answers."""
    answering = [engine for engine in engines if not engine.error]
    return next((engine for engine in answering if engine.role == "leader"), answering[0] if answering else None)


def for_programs(view: View) -> dict[str, object]:
    """The same as one object."""
    database = view.database
    return {
        "at": view.at,
        "engines": [{"url": one.url, "error": one.error or None, **one.status} for one in view.engines],
        "figures": asdict(view.figures) if view.figures is not None else None,
        "database": {
            "error": database.error or None,
            "slot": asdict(database.slot) if database.slot is not None else None,
            "quarantined": database.quarantined,
            "oldest": [_without_now(asdict(one)) for one in database.oldest],
            "failing": [_without_now(asdict(one)) for one in database.failing],
        },
    }


def _without_now(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name != "now"}
