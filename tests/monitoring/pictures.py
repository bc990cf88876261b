"""Draws docs/pictures: the panels of the dashboard, from what a real Prometheus scraped from real engines under a load.

    python -m tests.monitoring.pictures [seconds]

In the middle the leader is killed and the standby takes over, so that the pictures show what that looks like.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.monitoring.dashboard import ROOT, ROWS, Panel, Row
from tests.monitoring.prometheus import Line, Load, Prometheus
from tests.servers import Cluster
from tests.workflows import world

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET: Final = ROOT / "docs" / "pictures"
SECONDS: Final = 90.0
STEP_SECONDS: Final = 1.0
SCALE: Final = 0.42
"""Inches a column of Grafana's grid."""
COLOURS: Final = {"green": "#1a7f37", "yellow": "#bf8700", "red": "#cf222e"}
SUFFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def record(seconds: float) -> dict[str, list[Line]]:
    """The lines of every query."""
    queries = {query for row in ROWS for panel in row.panels for query in panel.promql.values()}
    cluster = Cluster(18).start()
    try:
        with tempfile.TemporaryDirectory() as name:
            directory, database = Path(name), cluster.database()
            engines = [database.engine(directory).start(), database.engine(directory).start(leading=False)]
            with world(database, engines[0]) as here, Prometheus(directory, engines) as prometheus:
                load, began = Load(here), time.time()
                load.until(lambda: time.time() > began + seconds / 2, 2 * seconds, "half of the time is over")
                engines[0].kill()
                engines[1].wait_ready()
                engines[0].start(leading=False)
                load.until(lambda: time.time() > began + seconds, 2 * seconds, "the time is over")
                return {query: prometheus.lines(query, began, time.time(), STEP_SECONDS) for query in queries}
    finally:
        cluster.close()


def draw(row: Row, lines: dict[str, list[Line]]) -> None:
    """A row's panels as one picture."""
    places: list[tuple[Panel, int, int]] = []
    left = top = height = 0
    for panel in row.panels:
        if left + panel.width > 24:
            left, top, height = 0, top + height, 0
        places.append((panel, left, top))
        left, height = left + panel.width, max(height, panel.height)
    tall = top + height
    figure = plt.figure(figsize=(24 * SCALE, tall * SCALE), layout=None)
    for panel, x, y in places:
        box = (
            (x + 1.3) / 24,
            1 - (y + panel.height - 1.2) / tall,
            (panel.width - 1.9) / 24,
            (panel.height - 2.2) / tall,
        )
        if panel.kind == "stat":
            box = ((x + 0.1) / 24, 1 - (y + panel.height - 0.2) / tall, (panel.width - 0.2) / 24, 0.9)
        axes = figure.add_axes(box)
        match panel.kind:
            case "stat":
                _number(axes, panel, lines)
            case "heatmap":
                _heatmap(axes, panel, lines)
            case _:
                _curves(axes, panel, lines)
    name = re.sub(r"[^a-z]+", "-", row.title.lower()).strip("-")
    figure.savefig(TARGET / f"{name}.png", dpi=80)
    plt.close(figure)


def _number(axes: Axes, panel: Panel, lines: dict[str, list[Line]]) -> None:
    found = [points[-1][1] for query in panel.promql.values() for _, points in lines[query] if points]
    value = found[0] if found else float("nan")
    colour = next(
        (name for bound, name in reversed(list(panel.steps)) if bound is None or value >= bound), panel.steps[0][1]
    )
    axes.set_facecolor(COLOURS[colour])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.42, shown(value, panel.unit), ha="center", va="center", fontsize=15, color="white")
    axes.text(0.5, 0.85, panel.title, ha="center", va="center", fontsize=8, color="white")


def _curves(axes: Axes, panel: Panel, lines: dict[str, list[Line]]) -> None:
    curves = [
        (re.sub(r"\{\{(\w+)\}\}", lambda found, labels=labels: labels.get(found[1], ""), legend), points)  # type: ignore[misc]
        for legend, query in panel.promql.items()
        for labels, points in lines[query]
    ]
    start = min((points[0][0] for _, points in curves if points), default=0)
    for legend, points in curves:
        axes.plot([at - start for at, _ in points], [value for _, value in points], lw=1, label=legend)
    axes.set_ylim(bottom=0)
    _dress(axes, panel)
    if curves:
        axes.legend(fontsize=5, loc="upper left", ncols=2, frameon=False)


def _heatmap(axes: Axes, panel: Panel, lines: dict[str, list[Line]]) -> None:
    """How many were in each bucket: the difference to the one below."""
    ((_, query),) = panel.promql.items()
    bounds = sorted((float(labels["le"].replace("+Inf", "inf")), dict(points)) for labels, points in lines[query])
    moments = sorted({at for _, points in bounds for at in points})
    cells = [
        [
            max(0.0, points.get(at, 0) - (bounds[n - 1][1].get(at, 0) if n else 0))
            for at in moments
        ]
        for n, (_, points) in enumerate(bounds)
    ]  # fmt: skip
    used = [n for n, row in enumerate(cells) if any(row)]
    cells = cells[: max(used, default=0) + 2]
    axes.imshow(cells, aspect="auto", origin="lower", cmap="Blues", interpolation="nearest")
    axes.set_yticks(range(len(cells)), [shown(bound, "s") for bound, _ in bounds[: len(cells)]])
    _dress(axes, panel)


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=7, loc="left", fontweight="bold")
    axes.tick_params(labelsize=5, length=2)
    if panel.kind != "heatmap":
        axes.grid(visible=True, lw=0.3)
        axes.yaxis.set_major_formatter(lambda value, _: shown(value, panel.unit))


def shown(value: float, unit: str) -> str:
    """A number with its unit, short."""
    if value != value:
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or not value else f"{1000 * value:.3g} ms"
    for size, suffix in SUFFIXES:
        if value >= size:
            return f"{value / size:.3g} {suffix}{'B' if unit == 'bytes' else ''}"
    return f"{value:.3g}"


def main(arguments: list[str]) -> None:
    """Records and draws."""
    mpl.use("agg")
    lines: dict[str, Any] = record(float(arguments[0]) if arguments else SECONDS)
    TARGET.mkdir(exist_ok=True)
    for row in ROWS:
        draw(row, lines)


if __name__ == "__main__":
    main(sys.argv[1:])
