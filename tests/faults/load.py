"""A mixed load of every kind of node, each of whose steps leaves a row in a table without keys: what is lost or doubled
can be counted when all has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.servers import wait_until
from tests.workflows import World

MARK: Final = "insert into public.ledger select ''{sys_instance_id}'', ''%s''"
ROUNDS: Final = 4

Bounds = Mapping[tuple[str, ...], tuple[int, int]]
"""How many rows the given words have together, at least and at most; words that are not named have none."""


def mark(word: str) -> str:
    """A step that leaves a row, quoted as an argument of a builder."""
    return f"'{MARK % word}'"


def counted(word: str) -> str:
    """A condition: fewer than ROUNDS rows of this word."""
    return f"'select count(*) < {ROUNDS} from public.ledger where id = ''{{sys_instance_id}}'' and word = ''{word}'''"


LOOP: Final = f"df.seq_all({mark('before')}, df.loop({mark('body')}, {counted('body')}), {mark('after')})"
ODD: Final = "'select count(*) % 2 = 1 from public.ledger where id = ''{sys_instance_id}'' and word = ''inner'''"
NESTED: Final = f"""
df.seq_all({mark("before")},
  df.loop(df.seq(df.loop({mark("inner")}, {ODD}), df.join({mark("left")}, df.seq({mark("right")}, df.sleep('0.01')))),
          {counted("left")}),
  {mark("after")})
"""
JOIN: Final = (
    f"df.seq(df.join3({mark('one')}, df.seq({mark('two')}, {mark('three')}), {mark('four')}), {mark('after')})"
)
RACE: Final = f"""
df.seq_all(
  df.race(df.seq(df.sleep('0.05'), {mark("timer")}), df.seq('select pg_sleep(0.05)', {mark("step")})), {mark("after")})
"""
LOSER: Final = (
    f"df.seq(df.race(df.seq({mark('quick')}, 'select 1'), {mark('slow')[:-1]} from pg_sleep(60)'), {mark('after')})"
)
TIMER: Final = f"df.seq_all(df.sleep('0.1'), {mark('first')}, df.sleep('0.2'), {mark('second')})"
SIGNAL: Final = f"""
df.seq_all({mark("before")}, df.as(df.wait_for_signal('go'), 'a'), {mark("middle")},
  df.join(df.wait_for_signal('go'), {mark("beside")}), {mark("after")})
"""
APPROVAL: Final = f"df.if(df.wait_for_signal('go', 600), {mark('approved')}, {mark('rejected')})"
OPTIONS: Final = '{"vars":{"of":"{sys_instance_id}"}}'
CHILD: Final = """df.call_child(df.seq(%s, %s), options => '%s')"""


def child(first: str, second: str) -> str:
    """A child of two steps that leave rows in the name of their parent."""
    marks = (mark(word).replace("{sys_instance_id}", "{of}") for word in (first, second))
    return CHILD % (*marks, OPTIONS)


FAMILY: Final = f"""
df.seq_all({mark("before")}, df.join({child("one", "two")}, {child("three", "four")}),
  df.map('select g from generate_series(1, {ROUNDS}) as g', {child("many", "more")}), {mark("after")})
"""
WAITER: Final = f"""
df.seq_all(df.as('select replace(''{{sys_instance_id}}'', ''waiter'', ''timer'') as id', 'other'), {mark("before")},
  df.join(df.await_instance('$other'), df.await_instance('$other')), {mark("after")},
  df.await_instance('$other'), {mark("again")})
"""

UNDONE: Final = f"""
df.seq(df.catch(
    df.seq_all(df.with_undo({mark("pay")}, {mark("refund")}), df.with_undo({mark("book")}, {mark("unbook")}), 'select 1/0'),
    {mark("handled")}), {mark("after")})
"""
TRIES: Final = "'select 1 / (count(*) / 3) from public.ledger where id = ''{sys_instance_id}'' and word = ''tried'''"
RETRIED: Final = f"""
df.seq(df.retry(df.seq(df.with_undo({mark("tried")}, {mark("untried")}), {TRIES}), 9, '0.05'), {mark("after")})
"""
TIMED: Final = f"""
df.seq(
  df.catch(df.timeout(df.join({mark("quick")}, {mark("slow")[:-1]} from pg_sleep(60)'), '0.3'), {mark("late")}),
  {mark("after")})
"""

TICK: Final = f"""
df.seq(df.race(df.seq(df.wait_for_schedule('* * * * *'), {mark("tick")}), df.seq(df.sleep('0.1'), {mark("nap")})),
  {mark("after")})
"""
BREAK: Final = f"""
df.seq(df.loop(df.seq_all({mark("body")}, df.as({counted("body")}, 'more'),
    df.if('select $more', df.sleep('0'), df.break('"enough"'))), every => '0'), {mark("after")})
"""
ROWS: Final = f"""
df.seq_all({mark("before")}, df.as('select word from public.ledger where id = ''{{sys_instance_id}}''', 'rows'),
  df.if_rows('rows', {mark("some")}, {mark("none")}))
"""


def exactly(**words: int) -> Bounds:
    """So many rows of each word."""
    return {(word,): (count, count) for word, count in words.items()}


KINDS: Final[Mapping[str, tuple[str, Bounds]]] = {
    "undone": (UNDONE, exactly(pay=1, book=1, unbook=1, refund=1, handled=1, after=1)),
    "retried": (RETRIED, exactly(tried=3, untried=2, after=1)),
    # without an engine for a while the quick one may come too late
    "timed": (TIMED, {**exactly(late=1, after=1), ("quick",): (0, 1)}),
    "loop": (LOOP, exactly(before=1, body=ROUNDS, after=1)),
    "nested": (NESTED, exactly(before=1, inner=2 * ROUNDS, left=ROUNDS, right=ROUNDS, after=1)),
    "break": (BREAK, exactly(body=ROUNDS, after=1)),
    "rows": (ROWS, exactly(before=1, some=1)),
    "join": (JOIN, exactly(one=1, two=1, three=1, four=1, after=1)),
    # either branch may win, and the loser's step may have been first to its own key
    "race": (RACE, {**exactly(after=1), ("timer",): (0, 1), ("step",): (0, 1), ("timer", "step"): (1, 2)}),
    "tick": (TICK, {**exactly(after=1), ("tick",): (0, 1), ("nap",): (0, 1), ("tick", "nap"): (1, 2)}),
    "loser": (LOSER, exactly(quick=1, after=1)),
    "timer": (TIMER, exactly(first=1, second=1)),
    "signal": (SIGNAL, exactly(before=1, middle=1, beside=1, after=1)),
    "approval": (APPROVAL, exactly(approved=1)),
    "family": (FAMILY, exactly(before=1, one=1, two=1, three=1, four=1, many=ROUNDS, more=ROUNDS, after=1)),
    "waiter": (WAITER, exactly(before=1, after=1, again=1)),
}
SIGNALS: Final = {"signal": 2, "approval": 1}
PROBE: Final = "probe"
PROBE_BOUNDS: Final = exactly(probed=1)


@dataclass(frozen=True, slots=True)
class Tally:
    """Rows too few, and rows too many; an instance without an end is lost as well."""

    lost: int
    doubled: int


class Load:
    """Instances named `<kind>-<number>`; probes of one step among them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._numbers: Counter[str] = Counter()
        world.run("create table public.ledger (id text, word text)", role="alice")
        world.run("create index on public.ledger (id)", role="alice")
        self._graphs = {kind: world.build(f"select {graph}") for kind, (graph, _) in KINDS.items()}
        self._graphs[PROBE] = MARK.replace("''", "'") % "probed"

    def start(self, *kinds: str) -> None:
        """One instance of each kind (all without arguments), and the signals that each wants, in transactions of their own."""
        for kind in kinds or KINDS:
            id = self._start(kind)
            for _ in range(SIGNALS.get(kind, 0)):
                self.world.run("insert into df.signals (instance_id, name) values (%s, 'go')", [id], role="alice")

    def probe(self) -> str:
        """Start an instance of one step; returns its id."""
        return self._start(PROBE)

    def _start(self, kind: str) -> str:
        self._numbers[kind] += 1
        return self.world.start(self._graphs[kind], id=f"{kind}-{self._numbers[kind]}")

    def unfinished(self) -> list[str]:
        """Ids of instances that have not ended."""
        rows = self.world.run("select id from df.instances where status in ('pending', 'running')")
        return [id for (id,) in rows]

    def check(self, timeout: float = 40) -> None:
        """Wait for all ends; none may be lost, none doubled."""
        try:
            wait_until(lambda: not self.unfinished(), timeout, "all workflows end")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.describe()}; the log:\n{self.world.engine.log()[-3000:]}") from None
        bad = self.world.run(
            "select id, status, error::text, quarantined from df.instances where status <> 'completed'"
        )
        assert not bad, bad[:5]
        wrong = {id: words for id, words in self._found().items() if deviation(id, words) != (0, 0)}
        assert not wrong, f"lost or doubled: {wrong}"

    def tally(self) -> Tally:
        """What is lost and what is doubled, as of now."""
        found = self._found()
        deviations = [deviation(id, words) for id, words in found.items()]
        completed = "select count(*) from df.instances where status = 'completed' and id = any(%s)"
        lost = sum(lost for lost, _ in deviations) + len(found) - self.world.value(completed, [list(found)])
        return Tally(lost, sum(doubled for _, doubled in deviations))

    def _found(self) -> dict[str, Counter[str]]:
        found = {f"{kind}-{n}": Counter[str]() for kind, count in self._numbers.items() for n in range(1, count + 1)}
        for id, word in self.world.run("select id, word from public.ledger"):
            found[id][word] += 1
        return found

    def describe(self) -> str:
        """What the unfinished ones have done and wait for."""
        ids = self.unfinished()
        return str({id: (self.world.status(id), self.world.history(id)) for id in ids[:10]})


def deviation(id: str, words: Counter[str]) -> tuple[int, int]:
    """By how many rows an instance has too few and too many."""
    kind = id.split("-")[0]
    bounds = PROBE_BOUNDS if kind == PROBE else KINDS[kind][1]
    counts = {group: sum(words[word] for word in group) for group in bounds}
    known = {word for group in bounds for word in group}
    lost = sum(max(0, bounds[group][0] - count) for group, count in counts.items())
    doubled = sum(max(0, count - bounds[group][1]) for group, count in counts.items())
    return lost, doubled + sum(count for word, count in words.items() if word not in known)
