"""What is fed is what is shown."""

from __future__ import annotations

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from metrics.collect import Metrics
from metrics.names import METRICS


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    text = generate_latest(metrics.registry()).decode()
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_every_metric_is_shown_from_the_start_with_all_values_of_its_labels() -> None:
    shown = {name for name, _ in samples(Metrics())}
    for metric in METRICS:
        assert metric.name in shown or f"{metric.name}_bucket" in shown
    assert samples(Metrics())["walflow_steps_total", ("sql", "cancelled")] == 0


def test_counters_and_gauges_show_what_was_fed() -> None:
    metrics = Metrics()
    metrics.steps.inc("sql", "completed")
    metrics.steps.inc("sql", "completed", by=2)
    metrics.transactions.inc()
    metrics.epoch.set(7)
    shown = samples(metrics)
    assert shown["walflow_steps_total", ("sql", "completed")] == 3
    assert shown["walflow_transactions_total", ()] == 1
    assert shown["walflow_epoch", ()] == 7


def test_one_value_of_a_state_is_1_and_the_others_are_0() -> None:
    metrics = Metrics()
    metrics.slot_wal_status.set_only("extended")
    metrics.slot_wal_status.set_only("lost")
    shown = samples(metrics)
    assert shown["walflow_slot_wal_status", ("lost",)] == 1
    assert shown["walflow_slot_wal_status", ("extended",)] == 0


def test_a_histogram_counts_cumulatively_and_a_bound_belongs_to_its_bucket() -> None:
    metrics = Metrics()
    for value in (0.001, 0.0011, 100.0, -5.0):
        metrics.step_duration_seconds.observe(value, "sql")
    shown = {key: value for key, value in samples(metrics).items() if key[1][:1] == ("sql",)}
    assert shown["walflow_step_duration_seconds_bucket", ("sql", "0.001")] == 2
    assert shown["walflow_step_duration_seconds_bucket", ("sql", "0.002")] == 3
    assert shown["walflow_step_duration_seconds_bucket", ("sql", "60.0")] == 3
    assert shown["walflow_step_duration_seconds_bucket", ("sql", "+Inf")] == 4
    assert shown["walflow_step_duration_seconds_count", ("sql",)] == 4
    assert shown["walflow_step_duration_seconds_sum", ("sql",)] == pytest.approx(100.0021)
    assert metrics.step_duration_seconds.count("sql") == 4


def test_a_label_outside_its_closed_set_is_a_bug() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.events.inc("order-42")
    with pytest.raises(KeyError):
        metrics.instances.set(1, "nonsense")
    with pytest.raises(KeyError):
        metrics.step_wait_seconds.observe(1, "nonsense")


def test_after_a_leadership_nothing_of_it_is_shown_and_counters_go_on() -> None:
    metrics = Metrics()
    metrics.leader.set(1)
    metrics.slot_active.set(1)
    metrics.instances.set(7, "running")
    metrics.gather = lambda: metrics.unconfirmed_bytes.set(5)
    metrics.transactions.inc()
    samples(metrics)
    metrics.stop_leading()
    shown = samples(metrics)
    assert shown["walflow_leader", ()] == shown["walflow_slot_active", ()] == 0
    assert shown["walflow_instances", ("running",)] == shown["walflow_unconfirmed_bytes", ()] == 0
    assert shown["walflow_transactions_total", ()] == 1


def test_a_counter_that_is_kept_elsewhere_never_goes_back() -> None:
    metrics = Metrics()
    metrics.fenced.raise_to(3)
    metrics.fenced.raise_to(2)
    assert samples(metrics)["walflow_fenced_total", ()] == 3


def test_build_info_carries_the_versions() -> None:
    metrics = Metrics()
    metrics.server_version = "18.4"
    [(_, labels)] = [key for key in samples(metrics) if key[0] == "walflow_build_info"]
    assert "18.4" in labels


def test_the_process_metrics_of_the_client_library_are_there() -> None:
    assert ("process_resident_memory_bytes", ()) in samples(Metrics())
