"""What happens in one simulation: instances, commands, faults. All of it is drawn beforehand, so that it can be shrunk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.engine.machinery import (
    Json,
    await_,
    brk,
    catch,
    child,
    if_,
    if_rows,
    join,
    loop,
    map_,
    race,
    retry,
    schedule,
    seq,
    sleep,
    sql,
    timeout,
    undo,
    wait,
)

ROLES: Final = (16_385, 16_386)
QUIET_SECONDS: Final = 40.0
"""When the faults are over."""


@dataclass(frozen=True, slots=True)
class Start:
    """An instance; `signals`: names of signals that are inserted by the same transaction."""

    at: float
    number: int
    role: int
    graph: str
    signals: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"i{self.number}"


@dataclass(frozen=True, slots=True)
class Command:
    """A signal or a cancellation for an instance; `name` is empty for a cancellation."""

    at: float
    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` is a method of `Simulation`; `engine` whom it strikes, `amount` how hard."""

    at: float
    kind: str
    engine: int
    amount: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided from outside. `engines`: how many; `breaks`: how often a request finds its connection broken."""

    engines: int
    starts: tuple[Start, ...]
    commands: tuple[Command, ...]
    faults: tuple[Fault, ...]
    breaks: float
    admission: int
    """Instances in memory."""


KINDS: Final = (
    "seq", "seq", "seq", "join", "race", "race", "if", "if_rows", "loop", "map", "retry", "timeout", "catch", "undo", "child",
)  # fmt: skip
FAULTS: Final = (
    "kill_soon", "kill_soon", "kill_soon", "kill", "freeze", "lose_stream", "lose_stream", "cut", "crash_server", "drop_slot",
    "drop_slot", "foreign_slot", "invalidate_slot", "restore", "jump_clock", "long_transaction", "drop_slot_and_kill",
    "hold_checkpoint", "hold_checkpoint",
)  # fmt: skip


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    chance = Random(seed)
    count = chance.choice((1, 2, 2, 3))
    starts = tuple(
        Start(
            at=chance.random() * 3,
            number=number,
            role=chance.choice(ROLES),
            graph=json.dumps(Graphs(chance, number, count).draw(3)),
            signals=("s",) if chance.random() < 0.2 else (),
        )
        for number in range(count)
    )
    commands = tuple(
        Command(chance.random() * 12, chance.randrange(count), chance.choice(("s", "s", "t", "")))
        for _ in range(chance.randrange(3))
    )
    faults = tuple(
        Fault(0.5 + chance.random() ** 2 * 25, chance.choice(FAULTS), chance.randrange(3), chance.random())
        for _ in range(chance.choice((0, 1, 2, 2, 3, 4)))
    )
    return Plan(
        engines=chance.choice((1, 2, 2, 3)),
        starts=starts,
        commands=commands,
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
        breaks=chance.choice((0, 0, 0.003, 0.02)),
        admission=chance.choice((1000, 10, 2)),
    )


class Graphs:
    """Random graphs of every kind of node. Each statement says whose it is: nothing of one instance reaches another."""

    def __init__(self, chance: Random, number: int, count: int) -> None:
        self._chance = chance
        self._number = number
        self._count = count

    def draw(self, depth: int, *, loops: bool = False) -> Json:  # noqa: C901 (one case a kind of node)
        """`loops`: a break has a loop to leave."""
        chance = self._chance
        if depth == 0 or chance.random() < 0.15:
            return self._leaf(loops)
        kind = chance.choice(KINDS)

        def inner(loops: bool = loops) -> Json:
            return self.draw(depth - 1, loops=loops)

        name = chance.choice((None, "a", "b"))
        match kind:
            case "seq":
                return seq(*(inner() for _ in range(chance.choice((2, 2, 3)))))
            case "join":
                return join(inner(loops=False), inner(loops=False), name=name)
            case "race":
                return race(inner(), inner(), name=name)
            case "if":
                return if_(self._sql(), inner(), inner(), name)
            case "if_rows":
                return seq(self._sql("a"), if_rows("a", inner(), inner(), name))
            case "loop":
                body = inner(loops=True)
                return loop(
                    body, self._sql() if chance.random() < 0.7 else None, every=chance.choice((None, 0, 1)), name=name
                )
            case "map":
                return map_(self._sql(), inner(loops=False), chance.choice((1, 2)), name)
            case "retry":
                return retry(inner(), 2, name=name)
            case "timeout":
                return timeout(inner(), chance.choice((0, 1, 3)), name)
            case "catch":
                return catch(inner(), inner(), name)
            case "undo":
                return seq(undo(inner(), self.draw(1), name), inner())
            case _:
                return self._child(depth)

    def _child(self, depth: int) -> Json:
        chance = self._chance
        options: Json = {}
        if chance.random() < 0.3:
            options["timeout_seconds"] = chance.choice((0, 2))
        if chance.random() < 0.2:
            options["detach"] = True
        if chance.random() < 0.3:
            options["on_failure"] = "return"
        return child(self.draw(min(depth - 1, 1)), name=chance.choice((None, "a")), **options)

    def _leaf(self, loops: bool) -> Json:
        chance = self._chance
        kind = chance.choice(("sql", "sql", "sql", "sleep", "signal", "await", "break", "schedule"))
        match kind:
            case "sleep":
                return sleep(chance.choice((0, 1, 2)))
            case "signal":
                timeout_seconds = chance.choice((None, 1, 3))
                return wait(chance.choice("st"), timeout_seconds, fresh=chance.random() < 0.3, name="a")
            case "await" if self._count > 1:
                return await_(f"i{chance.randrange(self._count)}", chance.choice((None, 1, 4)))
            case "break" if loops:
                return brk()
            case "schedule" if chance.random() < 0.1:
                return schedule("* * * * *")
            case _:
                return self._sql(chance.choice((None, "a", "b")))

    def _sql(self, name: str | None = None) -> Json:
        query = self._chance.choice(("select '{}'", "select '{}', $a?", "insert into '{}'"))
        return sql(query.format(f"i{self._number}"), name)
