"""The dashboard: Grafana's schema, and every query of every panel and of every alert against a real Prometheus under load."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.exposition import generate_latest

from metrics.collect import Metrics
from metrics.names import METRICS, Metric, Scope
from tests.metrics.scraping import samples_of
from tests.monitoring.dashboard import ROOT, ROWS, TARGET, Panel, text
from tests.monitoring.prometheus import Load, Prometheus
from tests.monitoring.test_rules import alerts
from tests.servers import Cluster, wait_until
from tests.workflows import world

UNTIL_ALL_ANSWER_SECONDS: Final = 180.0
PANELS: Final = [panel for row in ROWS for panel in row.panels]
QUERIES: Final = [query for panel in PANELS for query in panel.promql.values()]
EXPORTED: Final = {name for name, _ in samples_of(generate_latest(Metrics().registry()).decode())}
DOCUMENTS: Final = [*(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.md"), ROOT / "README.md"]
NO_METRICS: Final = ("walflow_db", "walflow_reader")
"""The beginning of names, and a role."""
COMPARISONS: Final = re.compile(r"\s(?:>=|<=|==|!=|>|<|and|or|/)\s")


def names_in(promql: str) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(r"\b((?:walflow|process|python)_[a-z_]+)\b", re.sub(r'"[^"]*"', "", promql)))


def expressions() -> list[str]:
    """What alerts compare, each side."""
    return [part.strip() for alert in alerts() for part in COMPARISONS.split(alert["expr"])]


def measured() -> list[str]:
    """Those that are not a number, and have an answer when all is well."""
    return [part for part in expressions() if not re.fullmatch(r"[\d.e]+", part) and not part.startswith("absent(")]


# --- the file ---------------------------------------------------------------------------------------------------------------


def test_the_file_is_what_is_written_down() -> None:
    assert TARGET.read_text() == text(), "run python -m tests.monitoring.dashboard"


def test_grafana_s_own_classes_read_it_and_lose_nothing() -> None:
    given = json.loads(TARGET.read_text())
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(given)))
    assert lost(given, read) == []


def lost(given: Any, read: Any, where: str = "") -> list[str]:
    """Keys of the file that are not in what was read, or with another value there."""
    match given:
        case dict():
            return [
                one
                for key, value in given.items()
                for one in (lost(value, read[key], f"{where}.{key}") if key in read else [f"{where}.{key}"])
            ]
        case list():
            if len(given) != len(read):
                return [where]
            return [
                one for n, (a, b) in enumerate(zip(given, read, strict=True)) for one in lost(a, b, f"{where}[{n}]")
            ]
        case _:
            return [] if given == read else [where]


def test_a_key_that_grafana_does_not_know_would_be_seen() -> None:
    given = json.loads(TARGET.read_text())
    given["panels"][1]["fieldConfig"]["defaults"]["unitt"] = "s"
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(given)))
    assert lost(given, read) == [".panels[1].fieldConfig.defaults.unitt"]


def test_panels_lie_beside_one_another_and_every_source_is_the_variable() -> None:
    panels = json.loads(TARGET.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_says_what_it_shows_and_asks_for_the_chosen_job_only(panel: Panel) -> None:
    assert panel.about.endswith(".")
    for query in panel.promql.values():
        assert all('job=~"$job' in selector for selector in re.findall(r"\{([^}]*)\}", query)), query


# --- names ------------------------------------------------------------------------------------------------------------------


def test_dashboard_and_alerts_name_nothing_that_no_engine_exports() -> None:
    for promql in [*QUERIES, *(alert["expr"] for alert in alerts())]:
        assert names_in(promql) <= EXPORTED, promql


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_no_metric_that_no_engine_exports(document: Path) -> None:
    declared = {metric.name for metric in METRICS}
    in_sql = set(re.findall(r"'(walflow_db_[a-z_]+)'", (ROOT / "sql/migrations/0013_metrics.sql").read_text()))
    for name in re.findall(r"\b((?:walflow|process)_[a-z_]+)\b", document.read_text()):
        if name in NO_METRICS or name.endswith("_"):
            continue
        assert name in EXPORTED | declared | in_sql, name


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_shown_somewhere(metric: Metric) -> None:
    assert any(name.startswith(metric.name) for query in QUERIES for name in names_in(query))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_is_the_database_s_is_never_added_up(metric: Metric) -> None:
    """And what each engine counts is never taken from one of them alone."""
    for promql in [*QUERIES, *(alert["expr"] for alert in alerts())]:
        for function in re.findall(rf"\b(sum|max|avg|count|min)\b[^(]*\([^()]*(?:\(|)\b{metric.name}\b", promql):
            if metric.scope is Scope.DATABASE:
                assert function == "max", promql
            elif metric.name.endswith("_total"):
                assert function == "sum", promql


# --- against a real Prometheus ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Load, Prometheus]]:
    """Two engines, a load, and a Prometheus that scrapes them."""
    directory = tmp_path_factory.mktemp("prometheus")
    database = server18.database()
    engines = [database.engine(directory).start(), database.engine(directory).start(leading=False)]
    try:
        with world(database, engines[0]) as here, Prometheus(directory, engines) as prometheus:
            yield Load(here), prometheus
    finally:
        database.drop()


@pytest.mark.timeout(300)
def test_every_query_of_every_panel_has_an_answer(watched: tuple[Load, Prometheus]) -> None:
    load, prometheus = watched
    missing = dict.fromkeys([*QUERIES, *measured()])

    def all_answered() -> bool:
        for query in list(missing):
            if prometheus.values(query):
                del missing[query]
        return not missing

    try:
        load.until(all_answered, UNTIL_ALL_ANSWER_SECONDS, "every query has an answer")
    except AssertionError:
        pytest.fail("these have no answer:\n" + "\n".join(missing))


@pytest.mark.timeout(300)
def test_every_rule_is_evaluated_and_none_fires_when_all_is_well(watched: tuple[Load, Prometheus]) -> None:
    load, prometheus = watched

    def evaluated() -> list[dict[str, Any]]:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] == "ok" for rule in rules) else []

    load.until(lambda: bool(evaluated()), UNTIL_ALL_ANSWER_SECONDS, "every rule was evaluated")
    rules = evaluated()
    assert {rule["name"] for rule in rules} == {alert["alert"] for alert in alerts()}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


@pytest.mark.timeout(300)
def test_sums_over_both_engines_are_what_the_database_says(watched: tuple[Load, Prometheus]) -> None:
    load, prometheus = watched
    load.some()
    here = load.here
    wanted = {
        "sum(walflow_leader)": "select 1",
        "sum(walflow_instances_started_total)": "select total_instances from df.metrics()",
        'sum(walflow_instances_finished_total{status="failed"})': "select failed_instances from df.metrics()",
        "max(walflow_epoch)": "select epoch from df.health",
        "max(walflow_fenced_total)": "select fenced from df.health",
    }
    for promql, sql in wanted.items():
        wait_until(lambda p=promql, s=sql: prometheus.values(p) == [here.value(s)], 60, promql)  # type: ignore[misc]
