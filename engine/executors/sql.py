"""SQL steps: each in one round trip, as the role that submitted the instance, in one transaction with its completion.

Theory of operation. A step is handed in by `submit` and leaves when a row under its key is folded (`settled`), whoever wrote
that row: an answer from the connection never ends it (A step's effects and its completion commit together). In between it is

========== ================================================================================================
queued     waits for a connection of its role
running    its call is under way; the key guards against a second one that commits
resting    failed for a transient reason, or met a row that is not visible yet; queued again later
answered   the wrapper said `ok` or `exists`, or a failure was handed to the recorder: the row is on its way
========== ================================================================================================

A connection that died around the commit leaves the truth at the key: the step waits until the old backend is seen gone, and
*looks* first. The same holds for every step that a new leader takes over.

After a failed step its connection is closed, after a cancel request as well; after a success the wrapper has cleaned it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Final, Literal

from engine.effects import CancelStep, Execute
from engine.errors import Failure, Fenced, MachineError
from engine.events import Outcome
from engine.executors.driver import Answer, ServerError, StepConnection
from engine.executors.pools import Pools
from engine.executors.recorder import Recorder
from engine.executors.statements import (
    NO_SUCH_STATEMENT,
    PASSED_ITS_TIME,
    SYNTAX_ERROR,
    UNIQUE_VIOLATION,
    judge,
    returns_rows,
)
from engine.instance import Live
from engine.limits import TRANSIENT_REPETITIONS
from engine.store.rows import Record
from metrics.collect import Metrics

INVISIBLE_REST_SECONDS: Final = 0.02
"""Before a step whose cause is not visible yet is tried again; it has waited 100 ms on the server already."""
UNANSWERED_SECONDS: Final = 10.0
"""An answered step whose row has not come by then is run again, looking first."""
KNOWN_STATEMENTS: Final = 10_000
"""Texts known to be one statement, and to return no rows. By text: what a node becomes depends on its references."""

AT_LEAST_ONCE: Final = "ran on its own, outside a transaction block: at least once"
_KEY_TAKEN: Final = "one_key_one_outcome"
_BEFORE_ALONE: Final = b"""
select case
         when (select e.epoch from df.epoch e) <> $1::pg_catalog.int8 then 'fenced'
         when exists (select from pg_catalog.unnest($2::pg_catalog.xid8[]) x
                       where not pg_catalog.pg_visible_in_snapshot(x, pg_catalog.pg_current_snapshot())) then 'invisible'
         when exists (select from df.completions c
                       where c.run_as = df.me() and c.instance_key = $3::pg_catalog.int8 and c.step = $4
                          and c.attempt = $6::pg_catalog.int4)
           then 'exists'
         else 'go'
       end,
       pg_catalog.set_config('df.in_workflow', 'true', false), pg_catalog.set_config('df.instance_id', $5, false)
"""

Phase = Literal["queued", "running", "resting", "answered"]


class Step:
    """One step on its way. `rows`: how the wrapper is called; `alone`: outside a transaction block; `look`: at the key first.

    `after`: the backend of a run whose connection died.
    """

    __slots__ = (
        "after", "alone", "cancelled", "connection", "effect", "executor", "first", "live", "look", "phase", "query",
        "repetitions", "rows", "since", "xids",
    )  # fmt: skip

    def __init__(
        self, executor: SqlExecutor, live: Live, effect: Execute, xids: tuple[int, ...], *, look: bool
    ) -> None:
        self.executor = executor
        self.live = live
        self.effect = effect
        self.query = effect.query.encode()
        self.xids = xids
        self.look = look
        self.first = live.state.folds <= 1
        self.rows = True
        self.phase: Phase = "queued"
        self.alone = False
        self.cancelled = False
        self.repetitions = 0
        self.connection: StepConnection | None = None
        self.after: int | None = None
        self.since = executor.now()
        """When it came into its phase, by the event loop's clock."""

    @property
    def role(self) -> int:
        return self.live.subject.submitter

    @property
    def instance(self) -> int:
        return self.live.subject.key

    def run(self, connection: StepConnection) -> None:
        self.phase, self.connection = "running", connection
        self.executor.began(self)
        self.executor.call(self, connection)

    def refuse(self, why: ServerError) -> None:
        self.executor.fail(self, why)


class SqlExecutor:
    """See the module's docstring. `proven` gets the transactions that a step has seen; `result_bytes` is asked each time."""

    def __init__(
        self,
        *,
        pools: Pools,
        recorder: Recorder,
        epoch: int,
        result_bytes: Callable[[], int],
        proven: Callable[[tuple[int, ...]], None],
        on_fenced: Callable[[Fenced], None],
        metrics: Metrics,
    ) -> None:
        self._pools = pools
        self._recorder = recorder
        self._epoch = str(epoch).encode()
        self._result_bytes = result_bytes
        self._proven = proven
        self._on_fenced = on_fenced
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._steps: dict[tuple[int, str, int], Step] = {}
        self._single: dict[bytes, None] = {}
        self._commands: dict[bytes, None] = {}
        self._sweeper = self._loop.call_later(UNANSWERED_SECONDS, self._sweep)

    def now(self) -> float:
        """The event loop's clock, seconds."""
        return self._loop.time()

    def __len__(self) -> int:
        """Steps that no row has answered."""
        return len(self._steps)

    # --- from the leader --------------------------------------------------------------------------------------------

    def submit(self, live: Live, effect: Execute, xids: tuple[int, ...], *, look: bool = False) -> None:
        """Runs a statement. `look`: an earlier engine may have run it."""
        step = Step(self, live, effect, xids, look=look)
        step.rows = step.query not in self._commands and returns_rows(effect.query)
        key = live.subject.key, effect.step, effect.attempt
        if key in self._steps:
            raise MachineError(f"step {effect.step} of instance {live.key} is under way already")
        self._steps[key] = step
        self._pools.enqueue(step.role, step)

    def cancel(self, live: Live, effect: CancelStep, xids: tuple[int, ...]) -> None:
        """Stops a statement on the server and takes its key; whichever row is first under the key is the outcome."""
        step = self._steps.get((live.key, effect.step, effect.attempt))
        if step is not None:
            step.cancelled = True
            if step.phase == "queued":
                self._pools.withdraw(step.role, step)
            elif step.connection is not None:
                step.connection.cancel()
        else:
            self._pools.end_earlier(live.subject.submitter)
        self._recorder.record(
            Record(
                run_as=live.subject.submitter,
                key=live.key,
                step=effect.step,
                attempt=effect.attempt,
                outcome="cancelled",
                cause=effect.cause or None,
                error='{"message": "the step was cancelled", "code": "cancelled"}',
                xids=xids,
            )
        )

    def settled(self, key: int, step_key: str, attempt: int, outcome: Outcome) -> None:
        """A row under the step's key was folded: it is over, whatever its connection still says."""
        step = self._steps.pop((key, step_key, attempt), None)
        if step is None:
            return
        self._metrics.steps.inc(_kind(step), outcome)
        if step.phase == "queued":
            step.cancelled = True
            self._pools.withdraw(step.role, step)

    def backends(self) -> list[int]:
        """Process ids of the backends in which nothing runs but steps that no row has answered."""
        running = [step.connection.pid for step in self._steps.values() if step.connection is not None]
        return [*self._pools.idle_backends(), *running]

    def is_under_way(self, key: int, step: str, attempt: int) -> bool:
        """Whether an attempt of an instance's step was submitted here and is not answered by a row."""
        return (key, step, attempt) in self._steps

    async def stop(self, grace_seconds: float) -> None:
        """Starts nothing more, lets what runs go on for a while, then cancels it on the server: it will run again."""
        self._pools.stop()
        await self._quiet(grace_seconds)
        for step in list(self._steps.values()):
            if step.connection is not None:
                step.cancelled = True
                step.connection.cancel()
        await self._quiet(1.0)

    async def _quiet(self, seconds: float) -> None:
        until = self._loop.time() + seconds
        while self._pools.busy and self._loop.time() < until:
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Closes every connection, at once."""
        self._sweeper.cancel()
        self._pools.close()
        for step in self._steps.values():
            if step.connection is not None:
                step.connection.close()

    def gather(self) -> None:
        """Sets the gauges, before a scrape."""
        alone = sum(1 for step in self._steps.values() if step.alone and step.phase == "running")
        metrics, pools = self._metrics, self._pools
        metrics.steps_in_flight.set(pools.busy - alone, "sql")
        metrics.steps_in_flight.set(alone, "sql_alone")
        metrics.step_connections.set(pools.busy, "busy")
        metrics.step_connections.set(pools.idle, "idle")
        metrics.step_connections.set(pools.opening, "connecting")
        metrics.step_roles.set(pools.roles)

    # --- calls --------------------------------------------------------------------------------------------------------

    def began(self, step: Step) -> None:
        now = self._loop.time()
        self._metrics.step_wait_seconds.observe(now - step.since, _kind(step))
        step.since = now

    def call(self, step: Step, connection: StepConnection) -> None:
        """A connection is there for the step."""
        if step.alone:
            parameters = [
                self._epoch, _xids(step), str(step.live.key).encode(), step.effect.step.encode(), step.live.subject.id.encode(),
                b"%d" % step.effect.attempt,
            ]  # fmt: skip
            connection.execute(_BEFORE_ALONE, parameters, lambda c, answer: self._asked_alone(step, c, answer))
        elif step.rows or step.query in self._single:
            connection.call(self._parameters(step), lambda c, answer: self._answered(step, c, answer))
        else:
            connection.call_checked(
                step.query, self._parameters(step), lambda c, answer: self._checked(step, c, answer)
            )

    def _parameters(self, step: Step) -> list[bytes | None]:
        effect, subject = step.effect, step.live.subject
        return [
            b"%d" % subject.key,
            effect.step.encode(),
            step.query,
            b"t" if step.rows else b"f",
            self._epoch,
            _xids(step),
            b"t" if step.look else b"f",
            subject.id.encode(),
            step.query if effect.shown else None,
            effect.cause.encode() or None,
            b"%d" % step.repetitions,
            b"%d" % self._result_bytes(),
            b"%d" % effect.attempt,
        ]

    def _checked(self, step: Step, connection: StepConnection, answer: Answer) -> None:
        """The statement went through Parse first: it is one statement, or that is its error."""
        if answer.error is None or (answer.error.sqlstate != SYNTAX_ERROR and answer.error.in_function):
            _remember(self._single, step.query)
        self._answered(step, connection, answer)

    def _answered(self, step: Step, connection: StepConnection, answer: Answer) -> None:
        step.connection = None
        self._metrics.step_duration_seconds.observe(self._loop.time() - step.since, _kind(step))
        error = answer.error
        if answer.lost:
            # first the suspect, then the room: the connection that is opened into it ends the suspect
            self._pools.suspect(step.role, connection.pid)
            self._pools.release(step.role, connection, keep=False)
            if error is not None and error.sqlstate in PASSED_ITS_TIME:
                self.fail(step, error)
            else:
                self._lost(step, connection.pid, error)
        elif error is None:
            self._pools.release(step.role, connection, keep=True)
            self._said(step, answer.rows[0][0] if answer.rows else None)
        elif error.sqlstate == NO_SUCH_STATEMENT and not error.in_function:
            step.connection = connection
            connection.prepare(lambda c, prepared: self._prepared(step, c, prepared))
        else:
            self._pools.release(step.role, connection, keep=False)
            self._failed(step, error)

    def _prepared(self, step: Step, connection: StepConnection, answer: Answer) -> None:
        """A step of the role had deallocated the wrapper; it was made again."""
        if answer.error is None and not step.cancelled:
            self.call(step, connection)
        else:
            self._answered(step, connection, answer)

    def _said(self, step: Step, said: str | None) -> None:
        match said:
            case "ok" | "exists":
                step.phase, step.since = "answered", self._loop.time()
                self._proven(step.xids)
            case "invisible":
                self._rest(step, INVISIBLE_REST_SECONDS)
            case "fenced":
                self._on_fenced(Fenced("another engine leads: a step met its epoch"))
            case _:
                self.fail(step, ServerError(sqlstate="XX000", message=f"the step wrapper answered {said!r}"))

    # --- what runs on its own ------------------------------------------------------------------------------------------

    def _asked_alone(self, step: Step, connection: StepConnection, answer: Answer) -> None:
        said = answer.rows[0][0] if answer.rows else None
        if answer.error is None and said == "go" and not step.cancelled:
            connection.execute(step.query, [], lambda c, ran: self._ran_alone(step, c, ran))
        else:
            self._answered(step, connection, answer)

    def _ran_alone(self, step: Step, connection: StepConnection, answer: Answer) -> None:
        """The outcome is the engine's to record. Rows (a CALL's) go through the server once more, to become JSON."""
        if answer.error is not None or answer.lost:
            self._answered(step, connection, answer)
        elif answer.rows:
            query = _row_as_json(answer.columns)
            values = [None if value is None else value.encode() for value in answer.rows[0]]
            connection.execute(query, values, lambda c, row: self._ended_alone(step, c, answer, row), answer.types)
        else:
            self._ended_alone(step, connection, answer, None)

    def _ended_alone(self, step: Step, connection: StepConnection, ran: Answer, row: Answer | None) -> None:
        """The session may be left in any state, so its connection is closed."""
        step.connection = None
        self._metrics.step_duration_seconds.observe(self._loop.time() - step.since, _kind(step))
        self._pools.release(step.role, connection, keep=False)
        text = row.rows[0][0] if row is not None and row.rows else None
        result = _result_alone(ran, text)
        size, limit = len(result.encode()), self._result_bytes()
        if size > limit:
            self.fail(
                step, ServerError(sqlstate="54000", message=f"result of {size} bytes exceeds the limit of {limit}")
            )
        else:
            self._record(step, "completed", result=result)

    # --- failures -------------------------------------------------------------------------------------------------------

    def _lost(self, step: Step, pid: int, error: ServerError | None) -> None:
        """The connection died: did it commit? The key knows, once the backend is gone."""
        why = error or ServerError(sqlstate="08006", message="the connection was lost")
        if not self._over(step) and self._may_repeat(step, why):
            step.look, step.after = True, pid
            self._rest(step, self._pools.rest_seconds(step.repetitions))

    def _failed(self, step: Step, error: ServerError) -> None:
        if self._over(step):
            return
        if error.sqlstate == UNIQUE_VIOLATION and error.constraint == _KEY_TAKEN and not step.look:
            # either the key was taken by another outcome, or the statement inserted its own: looking tells
            step.look = True
            self._again(step)
            return
        match judge(step.effect.query, step.rows, error.sqlstate):
            case "command":
                step.rows = False
                _remember(self._commands, step.query)
                self._again(step)
            case "alone":
                step.alone = True
                self._again(step)
            case "transient":
                if self._may_repeat(step, error):
                    self._rest(step, self._pools.rest_seconds(step.repetitions))
            case "failed":
                self.fail(step, error)

    def _may_repeat(self, step: Step, error: ServerError) -> bool:
        step.repetitions += 1
        self._metrics.step_retries.inc(_kind(step))
        if step.repetitions <= TRANSIENT_REPETITIONS:
            return True
        self.fail(step, error)
        return False

    def fail(self, step: Step, error: ServerError) -> None:
        """The step failed for good: that is recorded under its key."""
        if self._over(step):
            return
        more = {"detail": error.detail, "hint": error.hint, "position": error.position}
        failure = Failure(
            error.message,
            error.sqlstate,
            step.effect.node,
            step.effect.step,
            more={name: value for name, value in more.items() if value is not None},
        )
        self._record(step, "failed", error=failure.to_json())

    def _record(self, step: Step, outcome: Outcome, result: str | None = None, error: str | None = None) -> None:
        step.phase, step.since = "answered", self._loop.time()
        self._recorder.record(
            Record(
                run_as=step.role,
                key=step.live.key,
                step=step.effect.step,
                attempt=step.effect.attempt,
                outcome=outcome,
                result=result,
                error=error,
                cause=step.effect.cause or None,
                query=step.effect.query if step.effect.shown else None,
                note=AT_LEAST_ONCE if step.alone else None,
                repetitions=step.repetitions,
                xids=step.xids,
            )
        )

    def _over(self, step: Step) -> bool:
        """Whether a row under its key was folded meanwhile, or it was cancelled, which records its own outcome."""
        return step.cancelled or self._steps.get((step.live.key, step.effect.step, step.effect.attempt)) is not step

    # --- again ----------------------------------------------------------------------------------------------------------

    def _rest(self, step: Step, seconds: float) -> None:
        step.phase = "resting"
        self._loop.call_later(seconds, self._again, step)

    def _again(self, step: Step) -> None:
        if not self._over(step):
            step.phase, step.since = "queued", self._loop.time()
            self._pools.enqueue(step.role, step)

    def _sweep(self) -> None:
        """Looks again for rows that should have come: a commit that was answered may be lost in a failover."""
        for running in [s.connection for s in self._steps.values() if s.connection is not None]:
            running.look()
        before = self._loop.time() - UNANSWERED_SECONDS
        for step in [s for s in self._steps.values() if s.phase == "answered" and s.since < before and not s.cancelled]:
            step.look = True
            self._again(step)
        self._sweeper = self._loop.call_later(UNANSWERED_SECONDS, self._sweep)


def _kind(step: Step) -> str:
    return "sql_alone" if step.alone else "sql"


def _remember(known: dict[bytes, None], text: bytes) -> None:
    if len(known) >= KNOWN_STATEMENTS:
        known.clear()
    known[text] = None


def _xids(step: Step) -> bytes | None:
    return f"{{{','.join(map(str, step.xids))}}}".encode() if step.xids else None


def _row_as_json(columns: tuple[str, ...]) -> bytes:
    """A query that turns one row, given as its parameters, into JSON, as `row_to_json` in the wrapper does."""
    names = ('"{}"'.format(name.replace('"', '""')) for name in columns)
    row = ", ".join(f"${number} as {name}" for number, name in enumerate(names, 1))
    return f"select pg_catalog.row_to_json(r) from (select {row}) as r".encode()  # noqa: S608 (names are quoted)


def _result_alone(answer: Answer, row: str | None) -> str:
    """As the wrapper would say it. Without `row`, its JSON, the values are text."""
    if not answer.columns:
        return json.dumps({"rows": [], "row_count": 0, "affected": answer.affected or 0})
    if not answer.rows:
        return json.dumps({"rows": [], "row_count": 0, "columns": list(answer.columns)})
    row = row or json.dumps(dict(zip(answer.columns, answer.rows[0], strict=True)))
    return f'{{"rows":[{row}],"row_count":1}}'
