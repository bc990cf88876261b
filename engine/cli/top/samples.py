"""What an engine's /metrics says, and the figures that two looks at it make: rates, and quantiles of what happened in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from metrics import names
from metrics.names import Metric

Labels = tuple[tuple[str, str], ...]
LATE: Final = 0.99
USUAL: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Every sample of /metrics at one moment, by name and labels. `at` is seconds of a clock that does not go back."""

    at: float
    values: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str, **labels: str) -> float | None:
        """The sum over all samples of that name with these labels; None where there is none."""
        wanted = set(labels.items())
        found = [value for given, value in self.values.get(name, {}).items() if wanted <= set(given)]
        return sum(found) if found else None


def parsed(text: str, at: float) -> Sample:
    """Read Prometheus' text format. Raises ValueError for what is none."""
    values: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return Sample(at=at, values=values)


def rate(old: Sample | None, new: Sample, metric: Metric, **labels: str) -> float | None:
    """How much a counter grew a second; None for one look alone, and when the engine was started anew."""
    before = None if old is None else old.total(metric.name, **labels)
    after = new.total(metric.name, **labels)
    if old is None or before is None or after is None or after < before or new.at <= old.at:
        return None
    return (after - before) / (new.at - old.at)


def quantile(old: Sample | None, new: Sample, metric: Metric, q: float, **labels: str) -> float | None:
    """A quantile of what was observed between two looks (since the start, where nothing was), interpolated as Prometheus does."""
    buckets = _buckets(new, metric, labels)
    before = _buckets(old, metric, labels) if old is not None else {}
    between = {bound: count - before.get(bound, 0) for bound, count in buckets.items()}
    if between.get(inf, 0) > 0 and min(between.values()) >= 0:
        buckets = between
    wanted = q * buckets.get(inf, 0)
    if not wanted:
        return None
    low = below = 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted:
            return low if bound == inf else low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return None


def _buckets(sample: Sample, metric: Metric, labels: Mapping[str, str]) -> dict[float, float]:
    """Cumulative counts by upper bound, summed over the other labels."""
    counts: dict[float, float] = {}
    for given, value in sample.values.get(f"{metric.name}_bucket", {}).items():
        parts = dict(given)
        bound = float(parts.pop("le"))
        if labels.items() <= parts.items():
            counts[bound] = counts.get(bound, 0) + value
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the screen shows of one engine. None: not known yet, or nothing of the kind has happened."""

    starts_per_second: float | None
    ends_per_second: float | None
    failures_per_second: float | None
    steps_per_second: float | None
    retries_per_second: float | None
    transactions_per_second: float | None
    start_seconds_p50: float | None
    start_seconds_p99: float | None
    signal_seconds_p50: float | None
    signal_seconds_p99: float | None
    timer_late_seconds_p99: float | None
    step_seconds_p50: float | None
    step_seconds_p99: float | None
    step_wait_seconds_p99: float | None
    checkpoint_seconds_p99: float | None
    loop_late_seconds_p99: float | None
    running: float | None
    pending: float | None
    busy: float | None
    idle: float | None
    connecting: float | None
    roles: float | None
    in_flight: float | None
    lag_bytes: float | None
    lag_seconds: float | None
    unconfirmed_bytes: float | None
    checkpoint_instances: float | None


def figures(old: Sample | None, new: Sample) -> Figures:
    """Two looks, compared."""
    connections = {state: new.total(names.STEP_CONNECTIONS.name, state=state) for state in names.CONNECTION_STATES}
    return Figures(
        starts_per_second=rate(old, new, names.INSTANCES_STARTED),
        ends_per_second=rate(old, new, names.INSTANCES_FINISHED),
        failures_per_second=rate(old, new, names.INSTANCES_FINISHED, status="failed"),
        steps_per_second=rate(old, new, names.STEPS),
        retries_per_second=rate(old, new, names.STEP_RETRIES),
        transactions_per_second=rate(old, new, names.TRANSACTIONS),
        start_seconds_p50=quantile(old, new, names.START_LATENCY_SECONDS, USUAL),
        start_seconds_p99=quantile(old, new, names.START_LATENCY_SECONDS, LATE),
        signal_seconds_p50=quantile(old, new, names.SIGNAL_LATENCY_SECONDS, USUAL),
        signal_seconds_p99=quantile(old, new, names.SIGNAL_LATENCY_SECONDS, LATE),
        timer_late_seconds_p99=quantile(old, new, names.TIMER_LATENESS_SECONDS, LATE),
        step_seconds_p50=quantile(old, new, names.STEP_DURATION_SECONDS, USUAL),
        step_seconds_p99=quantile(old, new, names.STEP_DURATION_SECONDS, LATE),
        step_wait_seconds_p99=quantile(old, new, names.STEP_WAIT_SECONDS, LATE),
        checkpoint_seconds_p99=quantile(old, new, names.CHECKPOINT_SECONDS, LATE),
        loop_late_seconds_p99=quantile(old, new, names.EVENT_LOOP_LAG_SECONDS, LATE),
        running=new.total(names.INSTANCES.name, status="running"),
        pending=new.total(names.INSTANCES.name, status="pending"),
        busy=connections["busy"],
        idle=connections["idle"],
        connecting=connections["connecting"],
        roles=new.total(names.STEP_ROLES.name),
        in_flight=new.total(names.STEPS_IN_FLIGHT.name),
        lag_bytes=new.total(names.REPLICATION_LAG_BYTES.name),
        lag_seconds=new.total(names.REPLICATION_LAG_SECONDS.name),
        unconfirmed_bytes=new.total(names.UNCONFIRMED_BYTES.name),
        checkpoint_instances=new.total(names.CHECKPOINT_INSTANCES.name),
    )
