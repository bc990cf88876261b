"""Rows to pictures: pure functions that know nothing of servers and terminals, but for how wide a line may be.

80 columns are enough for all of it. On a terminal times are relative and texts are cut to the line; off it, `Style.plain`,
times are ISO 8601 and nothing is cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.cli.instances import Details, Event, Listed, Waiting
from engine.cli.output import Raw, as_json
from engine.cli.times import ago, span, stamp

MARKS: Final = {"completed": "✓", "failed": "✗", "running": "⏳", "pending": "○", "cancelled": "⊘"}
COLOURS: Final = {
    "✓": "green",
    "✗": "red",
    "⏳": "yellow",
    "○": "dim",
    "⊘": "dim",
    "taken": "green",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "running": "yellow",
    "pending": "cyan",
    "quarantined": "bold red",
}
LONGEST_VALUE: Final = 600
"""Characters of a result, input or error that are shown; --json has all of them."""
TREE_LINES: Final = 60
"""Lines of a tree that `show` draws around what is running; `explain` draws all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How output is to look. `me` is the role that asks: what is its own need not be said to be."""

    plain: bool = False
    me: str = ""

    def when(self, moment: datetime, now: datetime) -> str:
        """A time, relative for people."""
        return stamp(moment) if self.plain else ago(moment, now)


def grid(*headers: str, flexible: str) -> Table:
    """Columns without lines between them; the last takes the rest of the width."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0), show_header=any(headers))
    for header in headers:
        table.add_column(header, no_wrap=True)
    table.add_column(flexible, overflow="fold")
    return table


def status_text(status: str, quarantined: str | None = None) -> Text:
    """A status with its mark; what is quarantined has stopped, whatever its status says."""
    if quarantined is not None:
        return Text("✗ quarantined", style=COLOURS["quarantined"])
    return Text(f"{MARKS[status]} {status}", style=COLOURS[status])


# -- list -------------------------------------------------------------------------------------------------------------


def listing(rows: Sequence[Listed], style: Style) -> RenderableType:
    """A list of instances; what went wrong stands below the instance, or off a terminal behind it."""
    table = grid("status", "started", "took", flexible="instance")
    for row in rows:
        table.add_row(
            status_text(row.status, row.quarantined),
            style.when(row.created_at, row.now),
            _took(row.started_at, row.finished_at, row.now),
            _instance(row, style),
        )
    return table


def _took(started: datetime | None, finished: datetime | None, now: datetime) -> str:
    return "" if started is None else span(((finished or now) - started).total_seconds())


def _instance(row: Listed, style: Style) -> Text:
    text = Text.assemble((row.id, "bold"))
    if row.label:
        text.append(f"  {one_line(row.label)}", "cyan")
    if row.owner != style.me:
        text.append(f"  of {row.owner}", "dim")
    if trouble := row.quarantined or (row.message if row.status != "completed" else None):
        text.append("  " if style.plain else "\n  ")
        text.append(
            one_line(trouble) if style.plain else shortened(trouble, 160), "red" if row.status != "cancelled" else "dim"
        )
    return text


def nothing_listed(filtered: bool, style: Style) -> Text:
    """What is said instead of an empty list."""
    of_whom = f" that role {style.me} sees" if style.me else ""
    return Text(f"no instances{of_whom}" + (" and that the filters let through" if filtered else ""), style="dim")


# -- show -------------------------------------------------------------------------------------------------------------


def shown(instance: Details, waiting: Sequence[Waiting], style: Style, height: int | None = None) -> RenderableType:
    """One instance: what it is, how it stands, what it waits for, its tree; in at most `height` lines, if given."""
    facts = list(_facts(instance, style)) + [_wait(wait) for wait in waiting if wait.state != "running"]
    if height is not None:
        facts = facts[: max(height - 4, 3)]
    table = grid("", flexible="")
    table.columns[0].style = "dim"
    if height is not None:
        table.columns[1].no_wrap, table.columns[1].overflow = True, "ellipsis"
    for name, value in facts:
        table.add_row(name, value)
    lines = instance.tree.splitlines()
    room = TREE_LINES if height is None else height - len(facts) - 1
    cut = window(lines, room) if not style.plain else lines
    return Group(table, Text(), *(tree_line(line) for line in cut))


def _facts(instance: Details, style: Style) -> Iterable[tuple[str, Text]]:
    now = instance.now
    yield "instance", Text(instance.id, style="bold")
    yield "status", _standing(instance)
    if instance.quarantined is not None:
        yield "quarantined", Text(one_line(instance.quarantined), style="red")
    if instance.label:
        yield "label", Text(one_line(instance.label), style="cyan")
    if instance.owner != style.me:
        yield "owner", Text(instance.owner)
    yield "started", Text(_started(instance, style))
    if instance.finished_at is not None:
        yield "ended", Text(style.when(instance.finished_at, now))
    if instance.parent_id:
        yield "parent", Text(instance.parent_id)
    for name in ("input", "result"):
        value = getattr(instance, name)
        if value is not None:
            yield name, Text(str(value) if style.plain else shortened(rows_alone(value), LONGEST_VALUE))
    if instance.error is not None:
        yield "error", Text(str(instance.error) if style.plain else said(instance.error), style="red")


def _standing(instance: Details) -> Text:
    text = status_text(instance.status)
    took = _took(instance.started_at, instance.finished_at, instance.now)
    if took:
        text.append(f" {'after' if instance.final else 'for'} {took}", "default")
    if instance.executions > 1:
        text.append(f", iteration {instance.executions}", "default")
    return text


def _started(instance: Details, style: Style) -> str:
    if style.plain:
        return stamp(instance.created_at)
    by = f", by {instance.logged_in_as}" if instance.logged_in_as else ""
    return f"{ago(instance.created_at, instance.now)} ({stamp(instance.created_at)}){by}"


def _wait(wait: Waiting) -> tuple[str, Text]:
    text = Text(wait.what)
    if wait.due_in_seconds is not None:
        text.append(f"  due in {span(wait.due_in_seconds)}" if wait.due_in_seconds > 0 else "  due now", "yellow")
    if other := wait.child or wait.instance:
        text.append(f"  {other}", "cyan")
    return ("undoes" if wait.state == "undoing" else "waits for"), text


def tree_line(line: str) -> Text:
    """A line of df.explain, with its mark coloured."""
    text = Text(line, no_wrap=True, overflow="ellipsis")
    bare = line.lstrip()
    if bare[:1] in COLOURS and not bare.endswith(":"):
        start = len(line) - len(bare)
        text.stylize(COLOURS[bare[0]], start, start + 1)
        if bare[0] == "⊘":
            text.stylize("dim", start)
    elif bare.endswith(":"):
        text.stylize("dim")
    return text


def window(lines: Sequence[str], room: int) -> list[str]:
    """At most `room` lines, with what is running or failed among them, and what was left out above and below."""
    if len(lines) <= max(room, 1):
        return list(lines)
    room = max(room - 2, 1)
    places = [n for n, line in enumerate(lines) if line.lstrip()[:1] in ("⏳", "✗") and not line.rstrip().endswith(":")]
    first = max(0, min((places[-1] if places else 0) - room // 2, len(lines) - room))
    above, below = first, len(lines) - first - room
    kept = list(lines[first : first + room])
    return [*([f"… {above} lines above"] if above else []), *kept, *([f"… {below} lines below"] if below else [])]


def whole_tree(drawn: str) -> Group:
    """All of a tree, as df.explain gives it."""
    return Group(*(tree_line(line) for line in drawn.splitlines()))


# -- history ----------------------------------------------------------------------------------------------------------


def told(events: Sequence[Event], style: Style, *, headers: bool = True) -> RenderableType:
    """A history: when (since the start, for people), what, at which step, how long it took."""
    table = grid("at" if style.plain else "after", "what", "step", "took", flexible="")
    table.show_header = headers
    for event in events:
        table.add_row(_moment(event, style), *_what(event), _account(event, style))
    return table


def _moment(event: Event, style: Style) -> Text:
    if event.at is None:
        return Text("")
    since = span((event.at - event.begun_at).total_seconds())
    return Text(stamp(event.at) if style.plain else f"+{since}", style="dim")


def _what(event: Event) -> tuple[Text, str, str]:
    mark = MARKS.get(event.outcome or "", "")
    name = f"{mark} {event.event}" if mark else event.event
    colour = COLOURS.get(event.outcome or "", "") if event.event != "quarantined" else "red"
    attempt = f" #{event.attempt}" if (event.attempt or 1) > 1 else ""
    took = "" if event.duration_ms is None else span(event.duration_ms / 1000)
    return Text(name, style=colour), f"{event.step or ''}{attempt}", took


def _account(event: Event, style: Style) -> Text:
    """What ran, came out or was said; cut to two lines of a terminal."""
    parts = list(_parts(event))
    if style.plain:
        return Text("  ".join(one_line(part) for part, _ in parts))
    text = Text()
    for part, colour in parts:
        text.append(f"{' ' if text else ''}{shortened(part, 100)}", colour)
    return text


def _parts(event: Event) -> Iterable[tuple[str, str]]:
    match event.event:
        case "started":
            yield f"by {event.who}", "dim"
        case "signal" | "cancellation" | "release":
            yield f"{event.query or ''} {event.outcome or ''}, by {event.who or '?'}".strip(), ""
        case _:
            if event.query:
                yield event.query, ""
    if event.result is not None and event.event != "started":
        yield f"→ {rows_alone(event.result)}", "green"
    if event.message and event.message != event.note:
        yield event.message, "red"
    if event.repetitions:
        yield f"(repeated {event.repetitions} times)", "dim"
    if event.note:
        yield event.note, "red" if event.event == "quarantined" or event.outcome == "failed" else "dim"


# -- small things -----------------------------------------------------------------------------------------------------


def one_line(text: str) -> str:
    """White space as one blank, and no control characters: what users wrote must not steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shortened(text: str, longest: int) -> str:
    """One line of at most `longest` cells."""
    line = one_line(text[: longest * 4])
    return (
        line
        if cell_len(line) <= longest and len(text) <= longest * 4
        else set_cell_size(line, longest - 1).rstrip() + "…"
    )


def rows_alone(result: str) -> str:
    """A result for people: of one with rows, the rows; of a single one, that."""
    if len(result) > LONGEST_VALUE * 4:
        return str(result)
    try:
        value = json.loads(result, parse_float=Raw)
        rows = value["rows"]
        if isinstance(rows, list) and rows:
            return as_json(rows[0] if len(rows) == 1 else rows)
    except (ValueError, RecursionError, KeyError, TypeError):
        return str(result)
    return f"{value['affected']} rows affected" if "affected" in value else "no rows"


def said(error: str) -> str:
    """An instance's error for people."""
    try:
        given = json.loads(error)
        code, step = given.get("code"), given.get("step")
        text = one_line(str(given["message"]))[:LONGEST_VALUE]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return shortened(error, LONGEST_VALUE)
    return text + (f" ({code})" if code else "") + (f", at step {step}" if step else "")
