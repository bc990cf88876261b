"""Writes deploy/grafana/walflow.json, the dashboard: what is shown, and with which query.

    python -m tests.monitoring.dashboard

Run it after a change here; a test compares the two, reads the file with Grafana's own classes, and asks a real Prometheus each
query. What is the database's is the same on every engine, hence `max`; what an engine did itself adds up, hence `sum`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
TARGET: Final = ROOT / "deploy" / "grafana" / "walflow.json"
SCHEMA_VERSION: Final = 41
"""Of Grafana 11.6; later ones read it."""
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
JOB: Final = 'job=~"$job"'
GREEN, YELLOW, RED = "green", "yellow", "red"
WIDTH: Final = 24


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel. `queries` maps what a line is called to PromQL in which `{j}` stands for the selector of the job."""

    title: str
    about: str
    queries: dict[str, str]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 7
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    stacked: bool = False

    @property
    def promql(self) -> dict[str, str]:
        """The queries as Grafana gets them."""
        return {legend: query.replace("{j}", JOB) for legend, query in self.queries.items()}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row and its panels."""

    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def stat(title: str, about: str, query: str, unit: str, *steps: tuple[float | None, str], width: int = 3) -> Panel:
    """One number and its colour."""
    return Panel(
        title=title, about=about, queries={"": query}, kind="stat", unit=unit, width=width, height=4, steps=steps
    )


def late(share: float, metric: str, by: str = "") -> str:
    """Such a share of all observations was no longer."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{{j}}}}[$__rate_interval])))"


def heatmap(title: str, about: str, metric: str) -> Panel:
    """How many observations were how long."""
    return Panel(
        title=title,
        about=about,
        queries={"{{le}}": f"sum by (le) (increase({metric}_bucket{{{{j}}}}[$__rate_interval]))"},
        kind="heatmap",
        unit="s",
        width=6,
        height=8,
    )


ROWS: Final = (
    Row(
        title="Is it well?",
        panels=(
            stat("Leaders", "One, always.", "sum(walflow_leader{{j}})", "none", (None, RED), (1, GREEN), (2, RED)),
            stat("Slot is read", "1: yes.", "max(walflow_slot_active{{j}})", "none", (None, RED), (1, GREEN)),
            stat("Lag", "Commit of a heartbeat until it is folded.", "max(walflow_replication_lag_seconds{{j}})", "s",
                 (None, GREEN), (1, YELLOW), (5, RED)),
            stat("Oldest pending", "How long a start waits to be begun.", "max(walflow_oldest_pending_seconds{{j}})", "s",
                 (None, GREEN), (10, YELLOW), (60, RED)),
            stat("WAL kept", "What the server keeps for the slot.", "max(walflow_slot_retained_wal_bytes{{j}})", "bytes",
                 (None, GREEN), (1e9, YELLOW), (5e9, RED)),
            stat("Steps that fail", "Of all that ended in five minutes.",
                 'sum(rate(walflow_steps_total{{j},outcome="failed"}[5m])) / sum(rate(walflow_steps_total{{j}}[5m]))',
                 "percentunit", (None, GREEN), (0.01, YELLOW), (0.05, RED)),
            stat("Quarantined", "Instances that wait for somebody.", "max(walflow_quarantined_instances{{j}})", "none",
                 (None, GREEN), (1, RED)),
            stat("Alerts", "Of walflow that fire.",
                 'count(ALERTS{alertname=~"Walflow.*",alertstate="firing",job=~"$job|"}) or vector(0)', "none",
                 (None, GREEN), (1, RED)),
        ),
    ),
    Row(
        title="Throughput",
        panels=(
            Panel(title="Workflows a second", about="Begun, and ended by how.", unit="ops", queries={
                "started": "sum(rate(walflow_instances_started_total{{j}}[$__rate_interval]))",
                "{{status}}": "sum by (status) (rate(walflow_instances_finished_total{{j}}[$__rate_interval]))"}),
            Panel(title="Steps a second", about="By kind: sql in one transaction, sql_alone outside any, timer.", unit="ops",
                  queries={"{{kind}}": "sum by (kind) (rate(walflow_steps_total{{j}}[$__rate_interval]))"}),
            Panel(title="Rows of the log a second", about="By what they are, and transactions.", unit="ops", queries={
                "{{kind}}": "sum by (kind) (rate(walflow_events_total{{j}}[$__rate_interval]))",
                "transactions": "sum(rate(walflow_transactions_total{{j}}[$__rate_interval]))"}),
            Panel(title="Workflows under way", about="Unfinished: running, and pending for want of room.",
                  width=12, stacked=True,
                  queries={"{{status}}": 'sum by (status) (walflow_instances{{j},status=~"pending|running"})'}),
            Panel(title="How long workflows take", about="Commit of the INSERT to the end, nine in ten, by how they end.",
                  unit="s",
                  width=12, queries={"{{status}}": late(0.9, "walflow_instance_duration_seconds", "status")}),
        ),
    ),
    Row(
        title="Latency",
        panels=(
            heatmap("Start", "Commit of a start to its first step.", "walflow_start_latency_seconds"),
            heatmap("Signal", "Commit of a signal until what waited went on.", "walflow_signal_latency_seconds"),
            heatmap("Timer", "Due to fired.", "walflow_timer_lateness_seconds"),
            heatmap("Steps", "Sent to answered.", "walflow_step_duration_seconds"),
            Panel(title="Half of all", about="Median latencies.", unit="s", width=12, queries={
                name: late(0.5, metric)
                for name, metric in (("start", "walflow_start_latency_seconds"), ("signal", "walflow_signal_latency_seconds"),
                                     ("timer", "walflow_timer_lateness_seconds"))}),
            Panel(title="All but one in a hundred", about="99th percentiles.", unit="s", width=12, queries={
                name: late(0.99, metric)
                for name, metric in (("start", "walflow_start_latency_seconds"), ("signal", "walflow_signal_latency_seconds"),
                                     ("timer", "walflow_timer_lateness_seconds"))}),
        ),
    ),
    Row(
        title="Replication and checkpoints",
        panels=(
            Panel(title="Lag", about="A heartbeat's commit until it is folded.", unit="s",
                  queries={"lag": "max(walflow_replication_lag_seconds{{j}})"}),
            Panel(title="Behind", about="Not folded; folded and not confirmed; kept by the server.", unit="bytes", queries={
                "not folded": "max(walflow_replication_lag_bytes{{j}})",
                "not confirmed": "max(walflow_unconfirmed_bytes{{j}})",
                "kept": "max(walflow_slot_retained_wal_bytes{{j}})"}),
            Panel(title="Slot", about="Its wal_status, and whether somebody reads it.", queries={
                "{{status}}": "max by (status) (walflow_slot_wal_status{{j}})",
                "active": "max(walflow_slot_active{{j}})"}),
            Panel(title="Leaders by engine", about="Who leads, and since which epoch.", queries={
                "{{instance}} leads": "max by (instance) (walflow_leader{{j}})",
                "{{instance}} epoch": "max by (instance) (walflow_epoch{{j}})"}),
            Panel(title="Checkpoints", about="How long they take.", unit="s", queries={
                "half": late(0.5, "walflow_checkpoint_seconds"),
                "nine in ten": late(0.9, "walflow_checkpoint_seconds")}),
            Panel(title="Checkpoints a second, and their size", about="Instances of the last one.", queries={
                "a second": "sum(rate(walflow_checkpoint_seconds_count{{j}}[$__rate_interval]))",
                "instances": "max(walflow_checkpoint_instances{{j}})"}),
        ),
    ),
    Row(
        title="Executors",
        panels=(
            Panel(title="Step connections", about="By what they do, and how many there may be.", stacked=True, queries={
                "{{state}}": "sum by (state) (walflow_step_connections{{j}})"}),
            Panel(title="Busy, of those allowed", about="1: steps wait.", unit="percentunit", queries={
                "busy": 'max(walflow_step_connections{{j},state="busy"}) / max(walflow_step_connections_limit{{j}})'}),
            Panel(title="Waiting for a connection", about="Nine in ten, by kind.", unit="s", queries={
                "{{kind}}": late(0.9, "walflow_step_wait_seconds", "kind")}),
            Panel(title="Steps in flight", about="Sent and not answered.", queries={
                "{{kind}}": "sum by (kind) (walflow_steps_in_flight{{j}})"}),
            Panel(title="Running", about="Sent to answered, nine in ten, by kind.", unit="s", queries={
                "{{kind}}": late(0.9, "walflow_step_duration_seconds", "kind")}),
            Panel(title="Roles", about="That have a step connection.", queries={"roles": "sum(walflow_step_roles{{j}})"}),
        ),
    ),
    Row(
        title="Failures",
        panels=(
            Panel(title="Steps that fail or are cancelled, a second", about="By kind; which workflows, df.failing tells.",
                  unit="ops",
                  queries={"{{kind}} {{outcome}}":
                           'sum by (kind, outcome) (rate(walflow_steps_total{{j},outcome!="completed"}[$__rate_interval]))'}),
            Panel(title="Repetitions a second", about="After conflicts, lost connections and rows not visible yet.", unit="ops",
                  queries={"{{kind}}": "sum by (kind) (rate(walflow_step_retries_total{{j}}[$__rate_interval]))"}),
            Panel(title="Workflows that fail or are cancelled, a second", about="By how.", unit="ops", queries={
                "{{status}}":
                    'sum by (status) (rate(walflow_instances_finished_total{{j},status!="completed"}[$__rate_interval]))'}),
            Panel(title="Folded again", about="After a restart from the log; from the tables when the slot was lost.", queries={
                "{{how}}": "sum by (how) (increase(walflow_recovered_total{{j}}[$__rate_interval]))"}),
            Panel(title="Quarantined", about="Now, and newly.", queries={
                "now": "max(walflow_quarantined_instances{{j}})",
                "newly": "sum(increase(walflow_quarantined_total{{j}}[$__rate_interval]))"}),
            Panel(title="Fenced", about="Engines that ended because another one led, since the installation.", queries={
                "fenced": "max(walflow_fenced_total{{j}})"}),
        ),
    ),
    Row(
        title="Resources",
        panels=(
            Panel(title="Event loop", about="How late it wakes, nine in ten.", unit="s", queries={
                "{{instance}}": late(0.9, "walflow_event_loop_lag_seconds", "instance")}),
            Panel(title="Processor", about="Of one core; an engine uses one.", unit="percentunit", queries={
                "{{instance}}": "sum by (instance) (rate(process_cpu_seconds_total{{j}}[$__rate_interval]))"}),
            Panel(title="Memory", about="Resident.", unit="bytes", queries={
                "{{instance}}": "max by (instance) (process_resident_memory_bytes{{j}})"}),
            Panel(title="Open files", about="Sockets among them.", queries={
                "{{instance}}": "max by (instance) (process_open_fds{{j}})"}),
            Panel(title="Removed a second", about="By upkeep: finished instances, history of loops.", unit="ops", queries={
                "{{what}}": "sum by (what) (rate(walflow_removed_total{{j}}[$__rate_interval]))"}),
            Panel(title="Versions", about="Of walflow, Python and PostgreSQL.", queries={
                "{{version}}, Python {{python}}, PostgreSQL {{postgresql}}":
                    "count by (version, python, postgresql) (walflow_build_info{{j}})"}),
        ),
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "walflow",
        "title": "walflow",
        "description": "Durable workflows on plain PostgreSQL. docs/monitoring.md says what each figure means.",
        "tags": ["walflow", "postgresql"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_datasource(), _job()]},
        "annotations": {"list": [_new_leaders()]},
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _job() -> dict[str, Any]:
    return {
        "name": "job",
        "label": "Database (job)",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": "label_values(walflow_leader, job)", "refId": "jobs"},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all", "selected": True},
    }


def _new_leaders() -> dict[str, Any]:
    return {
        "name": "New leader",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": f"changes(walflow_leader{{{JOB}}}[1m]) > 0 and walflow_leader{{{JOB}}} == 1",
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in ROWS:
        number += 1
        yield {
            "id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [],
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
        }  # fmt: skip
        top += 1
        left = height = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top, height = 0, top + height, 0
            number += 1
            yield _panel(panel, number, {"h": panel.height, "w": panel.width, "x": left, "y": top})
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    options, custom = _looks(panel)
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [_target(panel, legend, query, "ABC"[n]) for n, (legend, query) in enumerate(panel.promql.items())],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"value": value, "color": color} for value, color in panel.steps],
                },
                "custom": custom,
            },
            "overrides": [],
        },
        "options": options,
    }


def _target(panel: Panel, legend: str, query: str, ref: str) -> dict[str, Any]:
    form = "heatmap" if panel.kind == "heatmap" else "time_series"
    target = {"refId": ref, "datasource": DATASOURCE, "expr": query, "format": form, "legendFormat": legend}
    return {**target, **({"instant": True} if panel.kind == "stat" else {"range": True})}


def _looks(panel: Panel) -> tuple[dict[str, Any], dict[str, Any]]:
    match panel.kind:
        case "stat":
            reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            return {"reduceOptions": reduce, "colorMode": "background", "graphMode": "none", "textMode": "value"}, {}
        case "heatmap":
            return {
                "calculate": False,
                "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "reverse": False},
                "yAxis": {"unit": "s", "axisPlacement": "left"},
                "cellGap": 1,
                "legend": {"show": False},
                "tooltip": {"mode": "single", "yHistogram": False},
            }, {}
        case _:
            stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
            lines = {
                "lineWidth": 1,
                "fillOpacity": 30 if panel.stacked else 10,
                "showPoints": "never",
                "stacking": stacking,
            }
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}, lines


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
