"""`walflow show`: one workflow as it stands, or followed to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Annotated, TypeVar

import typer
from rich.live import Live

from engine.cli import output, terminal, views
from engine.cli.instances import Details, Event, Found, Waiting, details, find, history
from engine.cli.options import AsJson, Id, Owner, with_dsn
from engine.cli.output import Out
from engine.cli.session import Session, first_line
from engine.errors import Unfit

EXAMPLE = "Example: walflow show order-1001 --watch"
PAUSE_SECONDS = 0.25
RETRY_SECONDS = 1.0
REST = 3
"""Times as long as a question took is waited before the next: a large graph takes the server a while to look through."""
BELOW = 1
"""Lines of a terminal that stay free under a live picture."""

T = TypeVar("T")
Look = Callable[[], tuple[Details, list[Waiting]]]


@with_dsn
def show(
    session: Session,
    id: Id,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end; Ctrl-C stops looking.")] = False,
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Show one workflow and how it stands, once or live."""
    with session.reading() as asked:
        found = find(session, asked, id, owner)
    show_found(session, found, watch=watch, as_json=as_json)


def show_found(session: Session, found: Found, *, watch: bool, as_json: bool) -> None:
    """The same of an instance that is known."""

    def look_once() -> tuple[Details, list[Waiting]]:
        with session.reading() as asked:
            return details(asked, found)

    def look() -> tuple[Details, list[Waiting]]:
        return _patiently(session, look_once) if watch else look_once()

    out = output.stdout()
    style = views.Style(plain=not out.is_terminal, me=session.role)
    with terminal.stopped_quietly() if watch else nullcontext():
        if as_json:
            _for_programs(out, look, watch=watch)
        elif not watch:
            out.put(views.shown(*look(), style))
        elif out.live:
            _live(out, look, style)
        else:
            _events(out, session, found, look, style)


def _patiently(session: Session, look: Callable[[], T]) -> T:
    """What a look gives, also when the server has to come back first: who watches can wait, or press Ctrl-C."""
    said = False
    while True:
        try:
            if session.lost:
                session.reconnect()
            return look()
        except Unfit as error:
            if not session.lost:
                raise
            if not said:
                output.stderr().put(f"walflow: {first_line(error)}; trying again")
            said = True
            time.sleep(RETRY_SECONDS)


def _live(out: Out, look: Look, style: views.Style) -> None:
    """One picture over the other, and the whole of the last, which stays when Ctrl-C ends it."""
    seen = look()
    try:
        with Live(console=out, auto_refresh=False, transient=True) as live:

            def draw() -> bool:
                nonlocal seen
                seen = look()
                with terminal.undisturbed():
                    live.update(views.shown(*seen, style, height=out.height - BELOW), refresh=True)
                return seen[0].final

            _until(draw)
    finally:
        out.put(views.shown(*seen, style))


def _events(out: Out, session: Session, found: Found, look: Look, style: views.Style) -> None:
    """Where nothing can be drawn over: a line for each thing as it happens."""
    seen: set[tuple[object, ...]] = set()

    def read() -> list[Event]:
        with session.reading() as asked:
            return history(asked, found)

    def follow() -> bool:
        instance, _ = look()
        events = _patiently(session, read)
        new = [event for event in events if (event.event, event.step, event.attempt, event.at) not in seen]
        seen.update((event.event, event.step, event.attempt, event.at) for event in new)
        if new:
            out.put(views.told(new, replace(style, plain=True), headers=False))
            out.file.flush()
        return instance.final

    _until(follow)


def _for_programs(out: Out, look: Look, *, watch: bool) -> None:
    """One object; when watching, one a line whenever something changed."""
    last = None

    def tell() -> bool:
        nonlocal last
        instance, waiting = look()
        now = (instance.status, instance.quarantined, instance.tree, [(wait.step, wait.state) for wait in waiting])
        if now != last:
            out.out(output.as_json(as_object(instance, waiting)), highlight=False)
            out.file.flush()
        last = now
        return instance.final

    if watch:
        _until(tell)
    else:
        out.json(as_object(*look()))


def as_object(instance: Details, waiting: list[Waiting]) -> dict[str, object]:
    """What programs get of one instance."""
    fields = asdict(instance)
    for name in ("now", "message"):
        del fields[name]
    return {**fields, "waiting": [asdict(wait) for wait in waiting]}


def _until(done: Callable[[], bool]) -> None:
    while True:
        began = time.monotonic()
        if done():
            return
        time.sleep(max(PAUSE_SECONDS, REST * (time.monotonic() - began)))
