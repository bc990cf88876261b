"""Every metric: its name, kind, unit, labels (closed sets only), meaning, and what to do when it is bad.

Nothing else declares one. `metrics.collect` makes what the code feeds, `/metrics` shows them, and documents quote them.
A label's value is never an instance id, a label of a user or a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Scope(StrEnum):
    """Whose a value is, and so what a query over several engines of one database has to do with it."""

    ENGINE = "engine"
    """What this process did, or does: they add up, `sum`."""
    LEADER = "leader"
    """Known to whoever leads, 0 elsewhere: `sum` and `max` are the same, and an average is none."""
    DATABASE = "database"
    """The same wherever it is asked for, as fresh as that engine's last look: `max`; added up it is wrong."""


class Unit(StrEnum):
    """Base units only."""

    NONE = ""
    BYTES = "bytes"
    SECONDS = "seconds"


STATUSES: Final = ("pending", "running", "completed", "failed", "cancelled")
FINAL_STATUSES: Final = ("completed", "failed", "cancelled")
SQL_KINDS: Final = ("sql", "sql_alone")
"""`sql` runs in one transaction with its completion, `sql_alone` outside any (at least once)."""
STEP_KINDS: Final = (*SQL_KINDS, "timer")
EVENT_KINDS: Final = ("start", "signal", "cancellation", "release", "completion", "wait", "heartbeat")
CONNECTION_STATES: Final = ("idle", "busy", "connecting")
WAL_STATUSES: Final = ("reserved", "extended", "unreserved", "lost")
RECOVERIES: Final = ("stream", "scan")
REMOVALS: Final = ("instance", "history")

LATENCY_BUCKETS: Final = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
DURATION_BUCKETS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400, 604800)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. `labels` maps each label to all the values that it can have."""

    name: str
    kind: Kind
    unit: Unit = Unit.NONE
    meaning: str
    when_bad: str
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    buckets: Sequence[float] = ()
    """Upper bounds of a histogram, without the infinite one."""
    scope: Scope = Scope.ENGINE


def _counter(name: str, meaning: str, when_bad: str, scope: Scope = Scope.ENGINE, **labels: Sequence[str]) -> Metric:
    return Metric(
        name=f"{name}_total", kind=Kind.COUNTER, meaning=meaning, when_bad=when_bad, labels=labels, scope=scope
    )


def _gauge(name: str, meaning: str, when_bad: str, scope: Scope = Scope.LEADER, **labels: Sequence[str]) -> Metric:
    return Metric(
        name=name, kind=Kind.GAUGE, unit=_unit(name), meaning=meaning, when_bad=when_bad, labels=labels, scope=scope
    )


def _histogram(
    name: str, meaning: str, when_bad: str, buckets: Sequence[float] = LATENCY_BUCKETS, **labels: Sequence[str]
) -> Metric:
    return Metric(
        name=name,
        kind=Kind.HISTOGRAM,
        unit=_unit(name),
        meaning=meaning,
        when_bad=when_bad,
        labels=labels,
        buckets=buckets,
    )


def _unit(name: str) -> Unit:
    return next((unit for unit in (Unit.BYTES, Unit.SECONDS) if name.endswith(f"_{unit}")), Unit.NONE)


# -- the engine and its leadership

LEADER: Final = _gauge(
    "walflow_leader",
    "1 while this engine holds the slot and leads, else 0.",
    "No engine with 1: see the standbys' /readyz and walflow_slot_active. Two with 1: one is fenced and about to stop.",
)
EPOCH: Final = _gauge(
    "walflow_epoch",
    "The number of this engine's leadership; 0 while it has none.",
    "Rising often: leaders are killed or lose the database; see their last log lines.",
)
BUILD_INFO: Final = _gauge(
    "walflow_build_info",
    "Always 1; the labels say which versions run (walflow, Python, PostgreSQL server).",
    "Different versions side by side for long: a rollout is stuck.",
    Scope.ENGINE,
)
FENCED: Final = _counter(
    "walflow_fenced",
    "Engines that ended because they found another one's epoch; counted in df.epoch, shown by every engine.",
    "Once a takeover is normal; more means that an engine freezes or loses the network for longer than it should.",
    Scope.DATABASE,
)

# -- the log

REPLICATION_LAG_BYTES: Final = _gauge(
    "walflow_replication_lag_bytes",
    "WAL between the server's end and what has been folded.",
    "Growing: the engine or the server's decoding (one core a database) cannot keep up with what is written.",
)
REPLICATION_LAG_SECONDS: Final = _gauge(
    "walflow_replication_lag_seconds",
    "From the commit of the last heartbeat until it was folded; of one that is still on its way, how long so far.",
    "Above a second: compare walflow_event_loop_lag_seconds (the engine is busy) with the bytes (decoding is behind).",
)
SLOT_RETAINED_WAL_BYTES: Final = _gauge(
    "walflow_slot_retained_wal_bytes",
    "WAL that the server keeps for the slot.",
    "Growing towards the disk's or max_slot_wal_keep_size's limit: no leader, or its checkpoints fail; see the log.",
    Scope.DATABASE,
)
SLOT_ACTIVE: Final = _gauge(
    "walflow_slot_active",
    "1 while some engine reads the slot, else 0.",
    "0 for longer than a restart takes: no engine runs, or none can reach the server.",
    Scope.DATABASE,
)
SLOT_WAL_STATUS: Final = _gauge(
    "walflow_slot_wal_status",
    "1 for the slot's present wal_status, 0 for the others.",
    "unreserved: about to be lost, get a leader running. lost: the next leader makes a new slot and scans the tables.",
    Scope.DATABASE,
    status=WAL_STATUSES,
)
TRANSACTIONS: Final = _counter(
    "walflow_transactions",
    "Transactions with published rows read from the stream.",
    "Flat for minutes on a leader: not even heartbeats arrive; see walflow doctor about the publication.",
)
EVENTS: Final = _counter(
    "walflow_events",
    "Published rows read from the stream, by what they are.",
    "Completions much above steps: a role inserts rows of its own; they are ignored, but cost.",
    kind=EVENT_KINDS,
)

# -- instances

INSTANCES: Final = _gauge(
    "walflow_instances",
    "Unfinished instances that this engine holds in memory, and finished ones not checkpointed yet.",
    "pending growing: more starts than admission or the steps let through.",
    status=STATUSES,
)
OLDEST_PENDING_SECONDS: Final = _gauge(
    "walflow_oldest_pending_seconds",
    "How long the oldest start has waited to be begun, as the tables say; 0 when none waits.",
    "Growing: no engine leads, it lags, or admission is full; see walflow_leader and walflow_instances.",
    Scope.DATABASE,
)
INSTANCES_STARTED: Final = _counter(
    "walflow_instances_started",
    "Instances folded for the first time.",
    "Flat while applications insert: their transactions do not commit, or the lag grows.",
)
INSTANCES_FINISHED: Final = _counter(
    "walflow_instances_finished",
    "Instances that ended, by how.",
    "failed rising: select id, error from df.instances where status = 'failed'.",
    status=FINAL_STATUSES,
)
INSTANCE_DURATION_SECONDS: Final = _histogram(
    "walflow_instance_duration_seconds",
    "From the commit of an instance's INSERT to its end.",
    "Compare with what the workflows wait for on purpose before looking for a cause.",
    DURATION_BUCKETS,
    status=FINAL_STATUSES,
)
START_LATENCY_SECONDS: Final = _histogram(
    "walflow_start_latency_seconds",
    "From the commit of an instance's INSERT until its first step was dispatched.",
    "High with a low lag: walflow_step_wait_seconds tells whether connections are short.",
)
SIGNAL_LATENCY_SECONDS: Final = _histogram(
    "walflow_signal_latency_seconds",
    "From the commit of a signal until the wait that it ended had resumed.",
    "As start latency.",
)
TIMER_LATENESS_SECONDS: Final = _histogram(
    "walflow_timer_lateness_seconds",
    "From the time a timer was due until its completion was folded.",
    "High: the engine is busy, or its clock is behind the database's.",
)

# -- steps

STEPS: Final = _counter(
    "walflow_steps",
    "Attempts of steps that ended, by how.",
    "failed rising: df.completions holds the errors.",
    kind=STEP_KINDS,
    outcome=FINAL_STATUSES,
)
STEP_DURATION_SECONDS: Final = _histogram(
    "walflow_step_duration_seconds",
    "From sending a step to the server until its outcome was known.",
    "Slow statements: pg_stat_statements names them.",
    kind=SQL_KINDS,
)
STEP_WAIT_SECONDS: Final = _histogram(
    "walflow_step_wait_seconds",
    "From dispatching a step until a connection was free for it.",
    "High: raise step_connections or step_connections_per_role, or look for slow steps that hold them.",
    kind=SQL_KINDS,
)
STEPS_IN_FLIGHT: Final = _gauge(
    "walflow_steps_in_flight",
    "Steps sent and not answered.",
    "At step_connections for long: the steps are slow or the connections too few.",
    kind=SQL_KINDS,
)
STEP_RETRIES: Final = _counter(
    "walflow_step_retries",
    "Repetitions by the engine after transient failures (serialization, deadlock, lost connection, visibility).",
    "Rising: steps conflict with one another or the server drops connections; the log names the SQLSTATE.",
    kind=SQL_KINDS,
)
STEP_CONNECTIONS: Final = _gauge(
    "walflow_step_connections",
    "Connections for steps, by what they do.",
    "connecting for long: pg_hba.conf, max_connections or the network.",
    state=CONNECTION_STATES,
)
STEP_CONNECTIONS_LIMIT: Final = _gauge(
    "walflow_step_connections_limit",
    "The setting step_connections of this engine.",
    'walflow_step_connections{state="busy"} at it for long: steps wait for connections.',
    Scope.ENGINE,
)
STEP_ROLES: Final = _gauge(
    "walflow_step_roles",
    "Roles that have a connection for steps.",
    "More than step_connections allows at once: connections are closed and made all the time.",
)

# -- checkpoints and trouble

CHECKPOINT_SECONDS: Final = _histogram(
    "walflow_checkpoint_seconds",
    "Duration of a checkpoint's transaction.",
    "High: slow commits (disk, synchronous standby) or large states.",
)
CHECKPOINT_INSTANCES: Final = _gauge(
    "walflow_checkpoint_instances",
    "Instances written by the last checkpoint.",
    "Near walflow_instances all the time: checkpoints cannot keep up.",
)
UNCONFIRMED_BYTES: Final = _gauge(
    "walflow_unconfirmed_bytes",
    "WAL folded and not yet confirmed to the server.",
    "Growing: checkpoints fail or are slow; see the log.",
)
RECOVERED: Final = _counter(
    "walflow_recovered",
    "Rows folded again after a restart, from the stream, or from a table scan after the slot was lost.",
    "scan above 0: the slot was lost; nothing else is, but find out why (max_slot_wal_keep_size, a dropped slot).",
    how=RECOVERIES,
)
QUARANTINED: Final = _counter(
    "walflow_quarantined",
    "Instances set aside because an event of theirs could not be folded.",
    "Above 0: df.instances.quarantined says why. Report it; a row in df.releases lets the instance go on.",
)
QUARANTINED_INSTANCES: Final = _gauge(
    "walflow_quarantined_instances",
    "Instances that are set aside now, as the tables say.",
    "Above 0: df.instances.quarantined says why. Mend what it names; a row in df.releases lets the instance go on.",
    Scope.DATABASE,
)
REMOVED: Final = _counter(
    "walflow_removed",
    "What upkeep removed: finished instances after their retention, rows of early iterations of running loops.",
    "Flat while finished instances are older than retention: docs/upkeep.md tells what keeps them.",
    what=REMOVALS,
)
EVENT_LOOP_LAG_SECONDS: Final = _histogram(
    "walflow_event_loop_lag_seconds",
    "How late the event loop wakes from a sleep of known length; sampled all the time.",
    "Above 0.1: the engine's one thread is saturated, or the machine gives it no processor.",
)

METRICS: Final[Sequence[Metric]] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
