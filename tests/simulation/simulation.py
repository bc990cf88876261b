"""One history: several engines over one modelled server, all of it decided by a seed, checked while it runs and at its end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any, Final

from engine import machine
from engine.config import Settings
from engine.effects import CancelStep, Execute, StartTimer
from engine.errors import Fenced
from engine.runner import Engine
from metrics.collect import Metrics
from tests.simulation import rules
from tests.simulation.checkers import CHECKERS, Checker
from tests.simulation.host import Host
from tests.simulation.loop import ACTOR, Actor, VirtualLoop
from tests.simulation.plan import QUIET_SECONDS, Command, Fault, Plan, Start, draw
from tests.simulation.server import Backend, Logged, Server, ServerFailure, Slot, Work
from tests.simulation.trace import Trace

HORIZON_SECONDS: Final = 4_000.0
CANCEL_SECONDS: Final = 80.0
"""Instances that still run by then are cancelled: some wait for what never comes."""
PATIENCE_SECONDS: Final = 10.0
"""What an instance has asked for is answered within so long, where nothing goes wrong."""
SLOT: Final = "walflow"
SETTINGS: Final = Settings(
    dsn="", replication_dsn="", step_dsn="", step_passfile=None, slot=SLOT, publication="walflow", listen="127.0.0.1:0",
    step_connections=4, step_connections_per_role=2, admission=1000, grace=timedelta(seconds=1), retention=timedelta(0),
    log_format="text", log_level="error", traces="off",
)  # fmt: skip
ROW_SHOWN: Final = (
    "key",
    "id",
    "step",
    "attempt",
    "run_as",
    "outcome",
    "instance_id",
    "name",
    "cause",
    "waiter_key",
    "epoch",
)
METRICS: Final = Metrics()
"""One for all: nobody looks at it."""


@dataclass(slots=True)
class Outcome:
    """How a simulation went. `history`: what happened, for people."""

    seed: int
    plan: Plan
    violations: list[str]
    history: list[str] = field(default_factory=list)
    seconds: float = 0.0
    actions: int = 0


class Simulation:
    """See the module's docstring."""

    def __init__(self, seed: int, plan: Plan, *, in_detail: bool = False) -> None:
        self.plan = plan
        self.loop = VirtualLoop()
        self.chance = Random(f"{seed}/world")
        self.server = Server(self.loop, self.chance)
        self.server.break_chance = plan.breaks
        self.trace = Trace()
        self.engines: list[Actor | None] = [None] * plan.engines
        self.actors: list[Actor] = []
        self.restored = False
        self.history: list[tuple[float, str]] = []
        self.started: set[int] = set()
        self.checkers: list[Checker] = [make(self) for make in CHECKERS]
        self._once, _, _, self._durable, self._visible, self._apart, self._ends = self.checkers
        self.server.on_confirm = self._durable.confirmed  # type: ignore[attr-defined]
        self._ledger = 0
        self._quiet = False
        if in_detail:
            self.server.on_commit = self._committed

    def _committed(self, logged: Logged) -> None:
        for table, row in logged.rows:
            shown = {name: row[name] for name in ROW_SHOWN if row.get(name) is not None}
            self.note(f"{logged.end_lsn:x} {table} {row['event_id'][:8]} {shown}")

    # --- its course -------------------------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Returns the violations."""
        after = self.loop.after
        for number in range(self.plan.engines):
            after(number * self.chance.random(), self._boot, number)
        for start in self.plan.starts:
            after(start.at, self._start, start)
        for command in self.plan.commands:
            after(command.at, self._command, command)
        for fault in self.plan.faults:
            after(fault.at, self._strike, fault)
        after(QUIET_SECONDS, self._calm)
        after(CANCEL_SECONDS - PATIENCE_SECONDS, self._ask_what_is_owed)
        after(CANCEL_SECONDS, self._cancel_all)
        with folds_told_to(self.trace):
            self.loop.run(self._over, HORIZON_SECONDS)
        for checker in self.checkers:
            checker.finished()
        stray = [f"an error that nobody caught: {error!r}" for error in self.loop.errors]
        violations = [v for checker in self.checkers for v in checker.violations] + stray
        self.server.over = True
        self.loop.dispose(self.actors)
        return violations

    def _over(self) -> bool:
        if len(self.started) < len(self.plan.starts):
            return False
        rows = self.server.all("instances")
        return all(row["status"] in rules.FINAL for row in rows) and not any(
            t.wrote and not t.ended and not t.aborted for t in self.server.transactions.values()
        )

    def complain(self, what: str) -> None:
        """An engine has met what must not be."""
        self._ends.said(f"an engine says: {what}")

    def note(self, what: str) -> None:
        self.history.append((self.loop.time(), what))

    # --- engines ----------------------------------------------------------------------------------------------------------

    def _boot(self, number: int) -> None:
        actor = Actor(f"engine {number}")
        actor.new_life = self.trace.new_life
        self.engines[number] = actor
        self.actors.append(actor)
        trace = self.trace
        host = Host(self.server, actor, Random(self.chance.random()), self._effects, trace.loaded, trace.scanned.update)
        actor.host = host
        self.note(f"{actor.name} starts")
        self.loop.call_soon(self._begin, number, actor, host, context=actor.context)

    def _begin(self, number: int, actor: Actor, host: Host) -> None:
        engine = Engine(replace(SETTINGS, admission=self.plan.admission), METRICS, host)
        actor.engine = engine
        task = self.loop.create_task(engine.run(), context=actor.context)
        task.add_done_callback(lambda t: self._ended(number, actor, t))

    def _ended(self, number: int, actor: Actor, task: asyncio.Task[None]) -> None:
        """By itself: only a fence does that."""
        error = task.exception()
        self.note(f"{actor.name} ended: {error!r}")
        if not isinstance(error, Fenced):
            self._ends.said(f"{actor.name} ended by itself: {error!r}")
        actor.host.vanish(lambda: 0.0)
        actor.dead = True
        self.loop.after(1 + self.chance.random() * 3, self._boot, number)

    def _kill(self, number: int) -> None:
        actor = self.engines[number]
        if actor is None or actor.dead:
            return
        self.note(f"{actor.name} is killed")
        actor.dead = True
        slow = self.chance.random() < 0.3
        actor.host.vanish(lambda: self.chance.random() * (8 if slow else 0.02))
        self.loop.after(0.1 + self.chance.random() * 6, self._boot, number)

    # --- users ------------------------------------------------------------------------------------------------------------

    def _start(self, start: Start) -> None:
        def work(b: Backend) -> Work:
            yield from rules.new_instance(b, id=start.id, submitter=start.role, graph=start.graph)
            for name in start.signals:
                rules.insert_command(b, "signals", start.role, start.id, None, json.dumps(start.number), name)

        def started(_: Any, failure: ServerFailure | None) -> None:
            self.started.add(start.number)
            self.note(f"{start.id} was inserted: {start.graph}")

        self._as_user(start.role, work, started)

    def _as_user(self, role: int, work: Any, reply: Any) -> None:
        if self.server.away:
            self.loop.after(1, self._as_user, role, work, reply)
            return
        backend = Backend(self.server, role, "psql")
        backend.on_end = lambda: self.loop.after(1, self._as_user, role, work, reply)

        def replied(answer: Any, failure: ServerFailure | None) -> None:
            backend.on_end = lambda: None
            backend.terminate()
            reply(answer, failure)

        backend.execute(work(backend), replied)

    def _command(self, command: Command) -> None:
        role = next(s.role for s in self.plan.starts if s.number == command.number)
        self._insert_command(role, f"i{command.number}", command.name)

    def _insert_command(self, role: int, id_: str, name: str) -> None:
        def work(b: Backend) -> Work:
            there = rules.named(b, role, id_)
            if there is None:
                raise ServerFailure("P0002", f"Instance not found or access denied: {id_}")
            table = "signals" if name else "cancellations"
            text = json.dumps(id_) if name else "enough"
            rules.insert_command(b, table, role, id_, there["key"], text, name)
            return None
            yield

        self.note(f"{'signal ' + name if name else 'cancellation'} for {id_}")
        self._as_user(role, work, lambda *_: None)

    def _ask_what_is_owed(self) -> None:
        owed = self._owed()
        self.loop.after(0.9 * PATIENCE_SECONDS, self._look_what_is_owed, owed)

    def _look_what_is_owed(self, before: set[tuple[int, str]]) -> None:
        for key, what in sorted(before & self._owed()):
            self._ends.said(f"instance {key} has asked for {what} and is not answered")

    def _owed(self) -> set[tuple[int, str]]:
        """What instances of the leader have asked for and what should be answered at once, or should have been."""
        leading = [a.engine._leadership for a in self.engines if a is not None and not a.dead and a.engine is not None]
        late_us = self.server.now_us() - int(PATIENCE_SECONDS * 1_000_000)
        return {
            (live.key, str(effect))
            for leadership in leading
            if leadership is not None
            for live in leadership.book.instances.values()
            for effect in machine.outstanding(live.subject, live.state)
            if isinstance(effect, Execute | CancelStep) or (isinstance(effect, StartTimer) and effect.due_us < late_us)
        }

    def _cancel_all(self) -> None:
        """And gives them the signals that some undo may wait for: a cancellation stops no undo."""
        for row in self.server.all("instances"):
            if row["status"] not in rules.FINAL:
                for name in ("", "s", "t"):
                    self._insert_command(row["submitter"], row["id"], name)
        self.loop.after(CANCEL_SECONDS, self._cancel_all)

    # --- what steps do ------------------------------------------------------------------------------------------------------

    def _effects(self, b: Backend, call: dict[str, Any]) -> Work:
        self._visible.ran(b, call)  # type: ignore[attr-defined]
        self._apart.ran(call)  # type: ignore[attr-defined]
        chance = self.chance
        yield chance.choice((0.0005, 0.001, 0.01, 0.3, 1.2)) if self.server.rough else 0.001
        draw = chance.random()
        if draw < 0.04 and self.server.rough:
            raise ServerFailure("40001", "could not serialize access")
        if draw < 0.12:
            raise ServerFailure("P0001", "boom")
        self._ledger += 1
        effect = {
            "role": b.role,
            "key": call["key"],
            "step": call["step"],
            "attempt": call["attempt"],
            "query": call["query"],
        }
        b.server.tables["ledger"].put(b.transaction, self._ledger, effect)
        tag = call["query"].split("'")[1] if "'" in call["query"] else ""
        rows = chance.choice(([{"x": tag, "n": 1}], [{"x": True}], [{"x": False}], [], [{"x": tag}, {"x": tag}]))
        return json.dumps({"rows": rows, "row_count": len(rows)})

    # --- faults -------------------------------------------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        if not self._quiet:
            FAULT_OF[fault.kind](self, fault)

    def _target(self, fault: Fault) -> Actor | None:
        """A leader where there is one: there is more to break."""
        leading = [a for a in self.engines if a is not None and not a.dead and a.life]
        if leading and fault.amount < 0.8:
            return max(leading, key=lambda a: a.life)
        return self.engines[fault.engine % len(self.engines)]

    def _number(self, actor: Actor) -> int:
        return self.engines.index(actor)

    def _kill_now(self, fault: Fault) -> None:
        actor = self._target(fault)
        if actor is not None:
            self._kill(self._number(actor))

    def _kill_soon(self, fault: Fault) -> None:
        """Between two actions of it."""
        actor = self._target(fault)
        if actor is not None and not actor.dead:
            number = self._number(actor)
            actor.dies_after = actor.actions + 1 + int(fault.amount * 60)
            actor.on_death = lambda: self._kill(number)

    def _freeze(self, fault: Fault) -> None:
        actor = self._target(fault)
        if actor is not None and not actor.dead and not actor.frozen:
            self.note(f"{actor.name} is frozen")
            self.loop.freeze(actor)
            self.loop.after(0.1 + fault.amount * 3, self._give_up, actor)
            self.loop.after(fault.amount * 20, self._thaw, actor)

    def _give_up(self, actor: Actor) -> None:
        """The server does, on a reader that does not answer; its other connections stay as they are."""
        backends = [connection.backend for connection in actor.host.connections]
        for slot in self.server.slots.values():
            if actor.frozen and slot.reader in backends and slot.reader is not None:
                slot.reader.terminate()

    def _hold_checkpoint(self, fault: Fault) -> None:
        """Somebody locks its row: everything goes on but checkpoints. Then the leader dies, and perhaps the slot with it."""
        row = self.server.now("checkpoint", 1)
        locker = self.server.new_transaction()
        if row is None or self.server.tables["checkpoint"].holder(1, locker) is not None:
            self.server.abort(locker)
            return
        self.note("the checkpoint is locked")
        self.server.tables["checkpoint"].put(locker, 1, row)
        self.loop.after(fault.amount * 6, self.server.abort, locker)
        follows = "kill" if fault.amount < 0.3 else "drop_slot_and_kill"
        self.loop.after(fault.amount * 5, self._strike, replace(fault, kind=follows))

    def _thaw(self, actor: Actor) -> None:
        self.note(f"{actor.name} goes on")
        self.loop.thaw(actor)

    def _lose_stream(self, fault: Fault) -> None:
        """The server gives up on a reader; the reader may hear of it late, and goes on writing meanwhile."""
        for slot in self.server.slots.values():
            reader = slot.reader
            if reader is not None and reader.work is None:
                self.note("the stream is lost")
                if fault.amount < 0.7:
                    told, reader.on_end = reader.on_end, lambda: None
                    self.loop.after(fault.amount * 15, told)
                reader.terminate()

    def _cut(self, fault: Fault) -> None:
        """Connections of one engine are gone; the server notices later than the engine."""
        actor = self._target(fault)
        if actor is None or actor.dead:
            return
        self.note(f"{actor.name} is cut off")
        for connection in list(actor.host.connections):
            told = connection.backend.on_end
            connection.backend.on_end = lambda: None
            self.loop.after(self.chance.random() * 0.1, told)
            self.loop.after(self.chance.random() * fault.amount * 10, connection.backend.terminate)

    def _crash_server(self, fault: Fault) -> None:
        self.note("the server crashes")
        self.server.crash(fault.amount * 3)

    def _drop_slot(self, fault: Fault) -> None:
        self.note("the slot is dropped")
        for slot in list(self.server.slots.values()):
            if slot.reader is not None:
                slot.reader.terminate()
        self.server.slots.pop(SLOT, None)

    def _drop_slot_and_kill(self, fault: Fault) -> None:
        self._kill_now(fault)
        self._drop_slot(fault)

    def _foreign_slot(self, fault: Fault) -> None:
        """Somebody makes one of the same name."""
        self._drop_slot(fault)
        self.server.slots[SLOT] = Slot(self.server.lsn)

    def _invalidate_slot(self, fault: Fault) -> None:
        slot = self.server.slots.get(SLOT)
        if slot is not None:
            self.note("the slot is invalidated")
            slot.invalidated = True
            if slot.reader is not None:
                slot.reader.terminate()

    def _restore(self, fault: Fault) -> None:
        """The server is back at an older position; not from before the instances, or there would be none."""
        positions = [logged.end_lsn for logged in self.server.log]
        if len(self.started) < len(self.plan.starts) or not positions:
            return
        first = max(t.end_lsn for t in self.server.transactions.values() if any("graph" in r for _, r in t.rows))
        older = [p for p in positions if p >= first]
        position = older[int(len(older) * max(0.0, 1 - fault.amount / 3)) - 1] if older else first
        self.restored = True
        self.note(f"the server is restored to {position:x}")
        self.server.restore(max(first, position), "7000000000000000002" if fault.amount < 0.3 else None)

    def _jump_clock(self, fault: Fault) -> None:
        self.note("the server's clock jumps")
        self.server.clock_offset_us += int((fault.amount - 0.5) * 20_000_000)

    def _long_transaction(self, fault: Fault) -> None:
        """Somebody's, which only the making of a slot waits for."""
        transaction = self.server.new_transaction()
        self.loop.after(fault.amount * 5, self.server.abort, transaction)

    def _calm(self) -> None:
        """The faults are over."""
        self.note("from here on nothing goes wrong")
        self._quiet = True
        self.server.rough = False
        self.server.break_chance = 0.0
        for number, actor in enumerate(self.engines):
            if actor is not None:
                actor.dies_after = None
                if actor.frozen:
                    self._thaw(actor)
                if actor.dead:
                    self.loop.after(0, self._revive, number, actor)

    def _revive(self, number: int, actor: Actor) -> None:
        if self.engines[number] is actor:
            self.loop.after(7, self._boot_again, number, actor)

    def _boot_again(self, number: int, actor: Actor) -> None:
        if self.engines[number] is actor:
            self._boot(number)


FAULT_OF: Final = {
    "kill_soon": Simulation._kill_soon,
    "kill": Simulation._kill_now,
    "freeze": Simulation._freeze,
    "lose_stream": Simulation._lose_stream,
    "cut": Simulation._cut,
    "crash_server": Simulation._crash_server,
    "drop_slot": Simulation._drop_slot,
    "drop_slot_and_kill": Simulation._drop_slot_and_kill,
    "foreign_slot": Simulation._foreign_slot,
    "invalidate_slot": Simulation._invalidate_slot,
    "restore": Simulation._restore,
    "jump_clock": Simulation._jump_clock,
    "hold_checkpoint": Simulation._hold_checkpoint,
    "long_transaction": Simulation._long_transaction,
}


@contextmanager
def folds_told_to(trace: Trace) -> Iterator[None]:
    """Every fold of the real machine is told."""
    fold = machine.fold

    def told(subject: Any, state: Any, event: Any) -> Any:
        after, effects = fold(subject, state, event)
        trace.folded(subject, state, event, after, effects)
        return after, effects

    machine.fold = told
    try:
        yield
    finally:
        machine.fold = fold


class _Words(logging.Handler):
    """What the engines log, as part of the history."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self._simulation.complain(record.getMessage())
        actor = ACTOR.get()
        said = f"{record.getMessage()} {getattr(record, 'fields', None) or ''}"
        self._simulation.note(f"{actor.name if actor is not None else '-'}: {said}")


@contextmanager
def engines_words(simulation: Simulation, wanted: bool) -> Iterator[None]:
    """Takes the engines' logs into the history, or silences them."""
    logger, words = logging.getLogger("walflow"), _Words(simulation)
    before = logger.level, logger.propagate
    logger.propagate = False
    logger.setLevel(logging.INFO if wanted else logging.ERROR)
    logger.addHandler(words)
    try:
        yield
    finally:
        logger.removeHandler(words)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextmanager
def nothing_collected() -> Iterator[None]:
    """A history is short, and all that it made can go at its end: looking for garbage meanwhile takes a seventh of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def simulate(seed: int, plan: Plan | None = None, *, in_detail: bool = False) -> Outcome:
    """Runs a seed. `in_detail`: with every row and every word of the engines in the history."""
    given = draw(seed) if plan is None else plan
    simulation = Simulation(seed, given, in_detail=in_detail)
    with engines_words(simulation, in_detail), nothing_collected():
        violations = simulation.run()
    history = [f"{at:10.4f}  {what}" for at, what in simulation.history]
    return Outcome(seed, given, violations, history, simulation.loop.time())


def shrink(failed: Outcome) -> Outcome:
    """With fewer faults, commands and instances, as long as it still fails by one of the same rules."""
    best, again = failed, True
    rules_broken = {violation.split(":")[0] for violation in failed.violations}
    while again:
        again = False
        for smaller in _smaller(best.plan):
            tried = simulate(best.seed, smaller)
            if rules_broken & {violation.split(":")[0] for violation in tried.violations}:
                best, again = tried, True
                break
    return best


def _smaller(plan: Plan) -> Iterator[Plan]:
    for place in range(len(plan.faults)):
        yield replace(plan, faults=plan.faults[:place] + plan.faults[place + 1 :])
    for place in range(len(plan.commands)):
        yield replace(plan, commands=plan.commands[:place] + plan.commands[place + 1 :])
    for start in plan.starts if len(plan.starts) > 1 else ():
        commands = tuple(c for c in plan.commands if c.number != start.number)
        yield replace(plan, starts=tuple(s for s in plan.starts if s is not start), commands=commands)
    if plan.engines > 1:
        yield replace(plan, engines=plan.engines - 1)
    if plan.breaks:
        yield replace(plan, breaks=0.0)
