"""The picture: everything in 24 lines of 80 columns, more of the lists where there is more room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from engine.cli.times import coarse, span, stamp
from engine.cli.top.samples import Figures
from engine.cli.top.sources import Database, Engine, Oldest, Slot
from engine.cli.views import one_line, shortened

UNKNOWN: Final = "-"
BARS: Final = "▁▂▃▄▅▆▇█"
NAME_WIDTH: Final = 12
TREND: Final = 16
"""Looks that the little graph of steps shows."""
SIZES: Final = ("B", "kB", "MB", "GB", "TB")
GOOD_WAL: Final = ("reserved", "extended")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one picture shows."""

    at: datetime
    every_seconds: float | None
    """None: this is the only one."""
    engines: Sequence[Engine]
    shown: Engine | None
    """The one whose figures these are: the leader, if it answers."""
    figures: Figures | None
    trend: Sequence[float]
    """Steps a second, the newest last."""
    database: Database


def picture(view: View, width: int, height: int | None) -> list[Text]:
    """The lines, at most `height`; none wider than `width`."""
    lines = [_title(view, width), *_engines(view), Text()]
    lines += _figures(view)
    lines += [_slot_line(view.database), Text()]
    room = None if height is None else height - len(lines)
    lines += _lists(view.database, width, room)
    return [_fitted(line, width) for line in lines[:height]]


def _fitted(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def _title(view: View, width: int) -> Text:
    where = view.database.place or (view.shown.url if view.shown else "")
    left = Text.assemble(
        ("walflow", "bold"), f"  {where}", (f"  as {view.database.role}" if view.database.role else "", "dim")
    )
    every = f"  every {view.every_seconds:g}s, q quits" if view.every_seconds is not None else ""
    right = f"{stamp(view.at)[11:19]} UTC{every}"
    left.truncate(max(width - len(right) - 2, 10), overflow="ellipsis")
    return left.append(" " * max(width - left.cell_len - len(right), 2)).append(right, "dim")


def _engines(view: View) -> Iterable[Text]:
    leaders = [engine for engine in view.engines if engine.role == "leader"]
    parts = Text()
    for engine in view.engines:
        colour = {"leader": "green", "away": "red"}.get(engine.role, "yellow")
        parts.append(("; " if parts else "") + engine.role, colour).append(f" at {engine.url.removeprefix('http://')}")
        if engine.error:
            parts.append(f" ({one_line(engine.error)})", "red")
        elif engine.role == "leader":
            parts.append(f", epoch {engine.status.get('epoch')}, confirmed {engine.status.get('confirmed_lsn')}")
        elif reason := engine.status.get("reason"):
            parts.append(f" ({one_line(str(reason))})")
    if len(leaders) > 1:
        parts.append("; more than one leads: one is about to be fenced", "bold red")
    yield _line("engine", parts)


# -- figures ----------------------------------------------------------------------------------------------------------


def _figures(view: View) -> Iterable[Text]:
    if view.figures is None or view.shown is None:
        yield _line("", Text("no engine answers: --url says where one listens (its setting listen)", style="dim"))
        return
    yield from _rates(view.figures, view)
    yield from _times(view.figures)
    yield from _amounts(view.figures, view.shown)
    yield _lag(view.figures)


def _rates(figures: Figures, view: View) -> Iterable[Text]:
    quarantined = view.database.quarantined
    yield _line(
        "throughput",
        _words(
            f"starts {per_second(figures.starts_per_second)}",
            f"ends {per_second(figures.ends_per_second)}",
            f"steps {per_second(figures.steps_per_second)}",
            sparkline(view.trend),
        ),
    )
    yield _line(
        "trouble",
        _words(
            _worse(f"failed {per_second(figures.failures_per_second)}", figures.failures_per_second),
            _worse(f"repeated steps {per_second(figures.retries_per_second)}", figures.retries_per_second),
            _worse(f"quarantined {_count(quarantined)}", quarantined),
        ),
    )


def _times(figures: Figures) -> Iterable[Text]:
    yield _line(
        "latency",
        _words(
            f"start {_pair(figures.start_seconds_p50, figures.start_seconds_p99)}",
            f"signal {_pair(figures.signal_seconds_p50, figures.signal_seconds_p99)}",
            f"timers late {_seconds(figures.timer_late_seconds_p99)}",
        ),
    )
    yield _line(
        "steps",
        _words(
            f"run {_pair(figures.step_seconds_p50, figures.step_seconds_p99)}",
            f"wait {_seconds(figures.step_wait_seconds_p99)}",
            f"in flight {_count(figures.in_flight)}",
        ),
    )


def _amounts(figures: Figures, engine: Engine) -> Iterable[Text]:
    yield _line(
        "executors",
        _words(
            f"{_count(figures.busy)} busy",
            f"{_count(figures.idle)} idle",
            f"{_count(figures.connecting)} connecting",
            f"for {_count(figures.roles)} roles",
        ),
    )
    yield _line(
        "instances",
        _words(
            f"{_count(figures.running)} running",
            f"{_count(figures.pending)} pending",
            f"{_count(engine.status.get('asleep'))} asleep",
            f"{_count(engine.status.get('waiting_for_room'))} waiting for room",
        ),
    )


def _lag(figures: Figures) -> Text:
    return _line(
        "lag",
        _words(
            _worse(f"{size(figures.lag_bytes)}, {_seconds(figures.lag_seconds)}", (figures.lag_seconds or 0) > 1),
            f"checkpoints {_seconds(figures.checkpoint_seconds_p99)}",
            f"loop late {_seconds(figures.loop_late_seconds_p99)}",
            f"reads {per_second(figures.transactions_per_second)}",
        ),
    )


def _slot_line(database: Database) -> Text:
    if database.error:
        return _line("database", Text(one_line(database.error), style="red"))
    if database.slot is None:
        return _line("slot", Text("there is none: no engine has led yet, or it was dropped", style="red"))
    return _line("slot", _slot(database.slot))


def _slot(slot: Slot) -> Text:
    return _words(
        Text(slot.slot_name),
        Text("active", style="green") if slot.active else Text("nobody reads it", style="bold red"),
        f"{size(slot.lag_bytes)} behind",
        f"retains {size(slot.retained_bytes)}",
        Text(slot.wal_status or UNKNOWN, style="" if slot.wal_status in GOOD_WAL else "bold red"),
    )


# -- lists ------------------------------------------------------------------------------------------------------------


def _lists(database: Database, width: int, room: int | None) -> list[Text]:
    """The oldest that wait and what fails, sharing the room that is left."""
    if database.error:
        return []
    oldest, failing = list(_oldest(database, width)), list(_failing(database, width))
    if room is not None:
        for_failing = min(len(failing), max(room - 1 - len(oldest), (room - 1) // 2))
        failing = failing[:for_failing]
        oldest = oldest[: max(room - 1 - len(failing), 0)]
    return [*oldest, Text(), *failing]


def _oldest(database: Database, width: int) -> Iterable[Text]:
    yield Text("oldest that have not ended", style="bold") if database.oldest else Text("nothing waits", style="dim")
    names = [_name(one, width) for one in database.oldest]
    column = max(map(cell_len, names), default=0)
    for one, name in zip(database.oldest, names, strict=True):
        age = coarse((one.now - one.created_at).total_seconds())
        text = Text.assemble((f"{age:>6}  ", "yellow"), set_cell_size(name, column), "  ")
        if one.quarantined is not None:
            text.append(f"quarantined: {shortened(one.quarantined, width)}", "bold red")
        elif one.waits_for:
            text.append(shortened(one.waits_for, width), "dim")
        yield text


def _name(one: Oldest, width: int) -> str:
    """Id and label, in at most two thirds of the line."""
    return shortened(f"{one.id}  {one.label}" if one.label else one.id, max(width * 2 // 3, 20))


def _failing(database: Database, width: int) -> Iterable[Text]:
    if not database.failing:
        yield Text("nothing failed in the last hour", style="dim")
        return
    yield Text("failed in the last hour, by label", style="bold")
    for one in database.failing:
        last = coarse((one.now - one.last_at).total_seconds())
        text = Text.assemble((f"{one.count:>5}  ", "red"), f"{shortened(one.label or 'without a label', 24):<16}  ")
        yield text.append(f"{last} ago  ", "dim").append(shortened(one.message or "", width), "red")


# -- small things -----------------------------------------------------------------------------------------------------


def _line(name: str, rest: Text) -> Text:
    return Text.assemble((f"{name:<{NAME_WIDTH}}", "dim"), rest)


def _words(*parts: str | Text) -> Text:
    return Text("   ").join(part if isinstance(part, Text) else Text(part) for part in parts if part)


def _worse(text: str, bad: float | bool | None) -> Text:
    return Text(text, style="red" if bad else "")


def per_second(value: float | None) -> str:
    """`0/s`, `3.4/s`, `1.2k/s`."""
    if value is None:
        return UNKNOWN
    if value >= 10_000:
        return f"{value / 1000:.0f}k/s"
    return f"{value / 1000:.1f}k/s" if value >= 1000 else f"{value:.0f}/s" if value >= 10 else f"{value:.2g}/s"


def size(value: float | None) -> str:
    """Bytes in a unit that keeps them short."""
    if value is None:
        return UNKNOWN
    unit = 0
    while value >= 1000 and unit < len(SIZES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {SIZES[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {SIZES[unit]}"


def sparkline(values: Sequence[float]) -> str:
    """The newest values as bars, the highest of them the highest bar."""
    newest = values[-TREND:]
    if len(newest) < 2 or not max(newest):
        return ""
    return "".join(BARS[round(value / max(newest) * (len(BARS) - 1))] for value in newest)


def _seconds(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value * 1000:.1f}ms" if 0 < value < 0.00995 else span(value)


def _pair(usual: float | None, late: float | None) -> str:
    return f"{_seconds(usual)} p99 {_seconds(late)}"


def _count(value: float | None) -> str:
    """A number in at most five characters."""
    if value is None:
        return UNKNOWN
    if value >= 10_000_000:
        return f"{value / 1_000_000:.0f}M"
    if value >= 100_000:
        return f"{value / 1_000:.0f}k"
    return f"{value:.0f}"
