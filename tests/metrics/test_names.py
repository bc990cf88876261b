"""The registry of metrics: complete, consistent, and the contract's names."""

from __future__ import annotations

import re

import pytest

from metrics.collect import Histogram, Metrics, Tally
from metrics.names import METRICS, Kind, Metric, Unit

CONTRACT = """
walflow_leader walflow_epoch walflow_build_info walflow_replication_lag_bytes walflow_replication_lag_seconds
walflow_slot_retained_wal_bytes walflow_slot_active walflow_slot_wal_status{status} walflow_transactions_total
walflow_events_total{kind} walflow_instances{status} walflow_instances_started_total
walflow_instances_finished_total{status} walflow_instance_duration_seconds{status}
walflow_start_latency_seconds walflow_signal_latency_seconds walflow_timer_lateness_seconds
walflow_steps_total{kind,outcome} walflow_step_duration_seconds{kind} walflow_step_wait_seconds{kind}
walflow_steps_in_flight{kind} walflow_step_retries_total{kind} walflow_step_connections{state}
walflow_step_roles walflow_checkpoint_seconds walflow_checkpoint_instances walflow_unconfirmed_bytes
walflow_recovered_total{how} walflow_quarantined_total walflow_fenced_total walflow_event_loop_lag_seconds
"""

each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def test_every_name_of_the_operating_contract_is_there_with_its_labels() -> None:
    def written(metric: Metric) -> str:
        return metric.name + (f"{{{','.join(metric.labels)}}}" if metric.labels else "")

    assert {written(metric) for metric in METRICS} >= set(CONTRACT.split())


def test_names_are_unique() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@each_metric
def test_a_name_ends_with_its_unit_and_counters_with_total(metric: Metric) -> None:
    assert re.fullmatch(r"walflow_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.unit is Unit.NONE or metric.name.endswith(f"_{metric.unit}")


@each_metric
def test_a_metric_says_what_it_means_and_labels_are_closed_sets(metric: Metric) -> None:
    assert metric.meaning.endswith(".")
    assert metric.when_bad.endswith(".")
    assert all(values and len(set(values)) == len(values) for values in metric.labels.values())
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)


def test_every_metric_is_collected_exactly_once() -> None:
    fed = [value.metric for value in vars(Metrics()).values() if isinstance(value, Tally | Histogram)]
    assert sorted(metric.name for metric in fed) == sorted(
        metric.name for metric in METRICS if metric.name != "walflow_build_info"
    )
