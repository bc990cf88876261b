"""What the code feeds: plain numbers in dictionaries, made into Prometheus samples only when somebody asks.

    metrics = Metrics()
    metrics.steps.inc("sql", "completed")
    metrics.step_duration_seconds.observe(0.004, "sql")

All values of all labels exist from the start, so a rate is known from the first scrape, and a value outside the closed
set of its label is a KeyError, our own bug. Not thread-safe: one event loop feeds and reads.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate, product

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from metrics import names
from metrics.names import Kind, Metric, Scope


class Tally:
    """A counter or a gauge: one number for each combination of its labels' values, in the order of the labels."""

    __slots__ = ("metric", "values")

    def __init__(self, metric: Metric) -> None:
        assert metric.kind is not Kind.HISTOGRAM, metric.name
        self.metric = metric
        self.values: dict[tuple[str, ...], float] = dict.fromkeys(product(*metric.labels.values()), 0)

    def inc(self, *labels: str, by: float = 1) -> None:
        """Add to one number."""
        self.values[labels] += by

    def set(self, value: float, *labels: str) -> None:
        """Set one number of a gauge."""
        assert self.metric.kind is Kind.GAUGE, self.metric.name
        if labels not in self.values:
            raise KeyError(labels)
        self.values[labels] = value

    def raise_to(self, value: float, *labels: str) -> None:
        """Set a counter that is kept elsewhere; one look may be older than another."""
        self.values[labels] = max(value, self.values[labels])

    def set_only(self, chosen: str) -> None:
        """Set a gauge with one label to 1 for this value and to 0 for all others; an unknown value leaves all at 0."""
        for labels in self.values:
            self.values[labels] = 1 if labels == (chosen,) else 0

    def clear(self) -> None:
        """Set all numbers of a gauge to 0."""
        for labels in self.values:
            self.values[labels] = 0

    def family(self) -> Family:
        """Return the samples as they are now."""
        make = CounterMetricFamily if self.metric.kind is Kind.COUNTER else GaugeMetricFamily
        base_name = self.metric.name.removesuffix("_total")  # prometheus-client adds it to counters itself
        family = make(base_name, self.metric.meaning, labels=list(self.metric.labels), unit=self.metric.unit)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class Histogram:
    """Counts of observations by bucket, for each combination of the labels' values."""

    __slots__ = ("_bounds", "_counts", "_sums", "metric")

    def __init__(self, metric: Metric) -> None:
        assert metric.kind is Kind.HISTOGRAM, metric.name
        self.metric = metric
        self._bounds = tuple(metric.buckets)
        combinations = list(product(*metric.labels.values()))
        self._counts = {labels: [0] * (len(self._bounds) + 1) for labels in combinations}
        self._sums = dict.fromkeys(combinations, 0.0)

    def observe(self, value: float, *labels: str) -> None:
        """Count one observation. A negative one (clocks differ) counts as 0."""
        value = max(value, 0.0)
        self._counts[labels][bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def count(self, *labels: str) -> int:
        """How many observations there were."""
        return sum(self._counts[labels])

    def family(self) -> Family:
        """Return the samples as they are now."""
        metric = self.metric
        family = HistogramMetricFamily(metric.name, metric.meaning, labels=list(metric.labels), unit=metric.unit)
        bounds = [*(f"{float(bound)}" for bound in self._bounds), "+Inf"]
        for labels, counts in self._counts.items():
            buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            family.add_metric(labels, buckets, self._sums[labels])
        return family


class Metrics(Collector):
    """One object for each line of `metrics.names`, under its name without prefix and `_total`."""

    def __init__(self) -> None:
        self.gather: Callable[[], None] = lambda: None
        """Called before each scrape: sets the gauges whose value is worth knowing only then."""
        self.server_version = ""
        """PostgreSQL's version, for walflow_build_info; set when it is known."""
        self.leader = Tally(names.LEADER)
        self.epoch = Tally(names.EPOCH)
        self.fenced = Tally(names.FENCED)
        self.replication_lag_bytes = Tally(names.REPLICATION_LAG_BYTES)
        self.replication_lag_seconds = Tally(names.REPLICATION_LAG_SECONDS)
        self.slot_retained_wal_bytes = Tally(names.SLOT_RETAINED_WAL_BYTES)
        self.slot_active = Tally(names.SLOT_ACTIVE)
        self.slot_wal_status = Tally(names.SLOT_WAL_STATUS)
        self.transactions = Tally(names.TRANSACTIONS)
        self.events = Tally(names.EVENTS)
        self.instances = Tally(names.INSTANCES)
        self.oldest_pending_seconds = Tally(names.OLDEST_PENDING_SECONDS)
        self.instances_started = Tally(names.INSTANCES_STARTED)
        self.instances_finished = Tally(names.INSTANCES_FINISHED)
        self.instance_duration_seconds = Histogram(names.INSTANCE_DURATION_SECONDS)
        self.start_latency_seconds = Histogram(names.START_LATENCY_SECONDS)
        self.signal_latency_seconds = Histogram(names.SIGNAL_LATENCY_SECONDS)
        self.timer_lateness_seconds = Histogram(names.TIMER_LATENESS_SECONDS)
        self.steps = Tally(names.STEPS)
        self.step_duration_seconds = Histogram(names.STEP_DURATION_SECONDS)
        self.step_wait_seconds = Histogram(names.STEP_WAIT_SECONDS)
        self.steps_in_flight = Tally(names.STEPS_IN_FLIGHT)
        self.step_retries = Tally(names.STEP_RETRIES)
        self.step_connections = Tally(names.STEP_CONNECTIONS)
        self.step_connections_limit = Tally(names.STEP_CONNECTIONS_LIMIT)
        self.step_roles = Tally(names.STEP_ROLES)
        self.checkpoint_seconds = Histogram(names.CHECKPOINT_SECONDS)
        self.checkpoint_instances = Tally(names.CHECKPOINT_INSTANCES)
        self.unconfirmed_bytes = Tally(names.UNCONFIRMED_BYTES)
        self.recovered = Tally(names.RECOVERED)
        self.quarantined = Tally(names.QUARANTINED)
        self.quarantined_instances = Tally(names.QUARANTINED_INSTANCES)
        self.removed = Tally(names.REMOVED)
        self.event_loop_lag_seconds = Histogram(names.EVENT_LOOP_LAG_SECONDS)

    def collect(self) -> Iterator[Family]:
        """Yield all families; called by the registry at each scrape."""
        self.gather()
        yield self._build_info()
        for value in vars(self).values():
            if isinstance(value, Tally | Histogram):
                yield value.family()

    def registry(self) -> CollectorRegistry:
        """Return a registry of these and of the client library's own process metrics."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return registry

    def stop_leading(self) -> None:
        """The leadership is over: what only a leader knows is 0 from here on, and nobody is known to read the slot."""
        self.gather = lambda: None
        for value in vars(self).values():
            if isinstance(value, Tally) and value.metric.kind is Kind.GAUGE and value.metric.scope is Scope.LEADER:
                value.clear()
        self.slot_active.set(0)

    def _build_info(self) -> Family:
        family = GaugeMetricFamily(
            names.BUILD_INFO.name, names.BUILD_INFO.meaning, labels=["version", "python", "postgresql"]
        )
        family.add_metric([walflow_version(), platform.python_version(), self.server_version], 1)
        return family


def walflow_version() -> str:
    """The installed version of walflow."""
    try:
        return version("walflow")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"
