"""A mixed load whose every step leaves a row in a table without keys, and what must be in it when all has ended."""

from __future__ import annotations

from collections import Counter
from typing import Final

from tests.servers import wait_until
from tests.workflows import World

MARK: Final = "insert into public.ledger select ''{sys_instance_id}'', ''%s''"
ROUNDS: Final = 4


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

KINDS: Final = {
    "loop": (LOOP, Counter(before=1, body=ROUNDS, after=1)),
    "nested": (NESTED, Counter(before=1, inner=2 * ROUNDS, left=ROUNDS, right=ROUNDS, after=1)),
    "join": (JOIN, Counter(one=1, two=1, three=1, four=1, after=1)),
    "race": (RACE, None),
    "loser": (LOSER, Counter(quick=1, after=1)),
    "timer": (TIMER, Counter(first=1, second=1)),
    "signal": (SIGNAL, Counter(before=1, middle=1, beside=1, after=1)),
    "approval": (APPROVAL, Counter(approved=1)),
}
SIGNALS: Final = {"signal": 2, "approval": 1}


class Load:
    """Instances named `<kind>-<number>`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = 0
        world.run("create table public.ledger (id text, word text)", role="alice")
        world.run("create index on public.ledger (id)", role="alice")
        self.graphs = {kind: world.build(f"select {graph}") for kind, (graph, _) in KINDS.items()}

    def start(self, *kinds: str) -> None:
        """One instance of each kind (all without arguments), and the signals that each wants, in transactions of their own."""
        self.number += 1
        for kind in kinds or KINDS:
            id = f"{kind}-{self.number}"
            self.world.start(self.graphs[kind], id=id)
            for _ in range(SIGNALS.get(kind, 0)):
                self.world.run("insert into df.signals (instance_id, name) values (%s, 'go')", [id], role="alice")

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
        ids = self.world.run("select id from df.instances where id ~ '^[a-z]+-[0-9]+$'")
        found: dict[str, Counter[str]] = {id: Counter() for (id,) in ids}
        for id, word in self.world.run("select id, word from public.ledger"):
            found[id][word] += 1
        wrong = {id: words for id, words in found.items() if not right(id.split("-")[0], words)}
        assert not wrong, f"lost or doubled: {wrong}"
        assert len(found) == self.number * len(KINDS)

    def describe(self) -> str:
        """What the unfinished ones have done and wait for."""
        ids = self.unfinished()
        return str({id: (self.world.status(id), self.world.history(id)) for id in ids[:10]})


def right(kind: str, words: Counter[str]) -> bool:
    """Whether an instance of a kind did what it should, exactly once."""
    expected = KINDS[kind][1]
    if expected is not None:
        return words == expected
    # either branch may win; the loser's step may have been first to its own key
    return words["after"] == 1 and max(words.values()) == 1 and (words["timer"] == 1 or words["step"] == 1)
