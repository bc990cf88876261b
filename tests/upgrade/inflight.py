"""Workflows that stand still in the middle, one in each kind of node: what a release leaves behind when its engine stops.

Each goes on when it gets its signals (`gate`), or when the lock is free that its statement waits for, or when its time has come.
The steps leave rows in public.ledger, which has no keys: what is lost or doubled can be counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.faults.load import mark

LOCK: Final = 7
"""The advisory lock that the freezing session holds."""
GATE: Final = "df.wait_for_signal('gate')"
BLOCKED: Final = (
    f"'insert into public.ledger select ''{{sys_instance_id}}'', ''slow'' from pg_advisory_xact_lock_shared({LOCK})'"
)
BLOCKED_CHILD: Final = BLOCKED.replace("{sys_instance_id}", "{of}")
PAUSE: Final = "'5 seconds'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A graph as an expression of builders, the rows that it leaves in the end, and the signals that it still wants."""

    graph: str
    words: Mapping[str, int]
    signals: int = 0
    status: str = "completed"
    frames: frozenset[str] = field(default_factory=frozenset)
    """Tags of frames that stand in its state."""


def held(graph: str, frames: str, *, signals: int = 1, status: str = "completed", **words: int) -> Held:
    return Held(graph=graph, words=words, signals=signals, status=status, frames=frozenset(frames.split()))


HELD: Final[Mapping[str, Held]] = {
    "then": held(f"df.seq_all({mark('one')}, {GATE}, {mark('two')})", "then signal", one=1, two=1),
    "statement": held(f"df.seq_all({mark('one')}, {BLOCKED}, {mark('two')})", "then sql", signals=0, one=1, slow=1, two=1),
    "sleep": held(f"df.seq_all({mark('one')}, df.sleep(5), {mark('two')})", "then sleep", signals=0, one=1, two=1),
    "schedule": held(f"df.seq(df.wait_for_schedule('* * * * *'), {mark('tick')})", "then schedule", signals=0, tick=1),
    "buffered": held(f"df.seq_all({BLOCKED}, {GATE}, {mark('two')})", "then sql", signals=0, slow=1, two=1),
    "stuffed": held(
        f"df.seq_all({BLOCKED}, df.as({GATE}, 'sent'), {mark('two')})", "then sql", signals=0, slow=1, two=1),
    "named": held(
        f"df.seq_all(df.as('select repeat(''x'', 2000) as long, 1 as n', 'big'), {GATE}, 'select 1 / $big.n, length($big.long)', "
        f"{mark('after')})",
        "then signal",
        after=1,
    ),
    "if": held(f"df.if('select true', df.seq({GATE}, {mark('yes')}), {mark('no')})", "if then signal", yes=1),
    "condition": held(f"df.if({GATE}, {mark('yes')}, {mark('no')})", "if signal", yes=1),
    "join": held(f"df.seq(df.join({mark('left')}, df.seq({GATE}, {mark('right')})), {mark('after')})", "join then signal",
                 left=1, right=1, after=1),
    "race": held(f"df.seq(df.race({GATE}, df.sleep(86400)), {mark('after')})", "race signal sleep then", after=1),
    "map": held(f"df.map('select g from generate_series(1, 3) as g', df.seq({GATE}, {mark('row')}), 2)", "map then signal",
                signals=3, row=3),
    "loop": held(f"df.loop(df.seq({mark('body')}, {GATE}), 'select count(*) < 2 from public.ledger where word = ''body''')",
                 "loop then signal", signals=2, body=2),
    "pause": held(
        f"df.loop({mark('again')}, 'select count(*) < 2 from public.ledger where word = ''again''', every => {PAUSE})",
        "loop", signals=0, again=2),
    "break": held(f"df.seq(df.loop(df.seq({GATE}, df.break('1'))), {mark('after')})", "loop then signal", after=1),
    "retry": held(
        f"df.retry(df.seq_all({mark('tried')}, {GATE}, "
        "'select 1 / (count(*) - 1) from public.ledger where word = ''tried'''), 3)",
        "retry then signal", signals=2, tried=2),
    "timeout": held(f"df.timeout(df.seq({GATE}, {mark('in_time')}), '1 day')", "timeout then signal", in_time=1),
    "catch": held(f"df.catch(df.seq({GATE}, 'select 1/0'), {mark('handled')})", "catch then signal", handled=1),
    "handler": held(f"df.catch('select 1/0', df.seq({GATE}, {mark('handled')}))", "catch then signal", handled=1),
    "owed": held(
        f"df.catch(df.seq_all(df.with_undo({mark('pay')}, {mark('refund')}), {GATE}, 'select 1/0'), {mark('handled')})",
        "catch then signal", pay=1, refund=1, handled=1),
    "doing": held(f"df.seq(df.with_undo(df.seq({GATE}, {mark('pay')}), {mark('refund')}), {mark('after')})", "undo then signal",
                  pay=1, after=1),
    "undoing": held(f"df.catch(df.seq(df.with_undo({mark('pay')}, {BLOCKED}), 'select 1/0'), {mark('handled')})", "catch sql",
                    signals=0, pay=1, slow=1, handled=1),
    "child": held(
        f"""df.seq(df.call_child(df.seq({BLOCKED_CHILD}, 'select 1'), options => '{{"vars":{{"of":"{{sys_instance_id}}"}}}}'),
                  {mark('after')})""",
        "child then", signals=0, slow=1, after=1),
    "await": held(f"df.seq(df.await_instance('then'), {mark('after')})", "await then", signals=0, after=1),
    "failing": held(f"df.seq({GATE}, 'select 1/0')", "then signal", status="failed"),
}  # fmt: skip
SENT: Final[Mapping[str, str]] = {"buffered": "{}", "stuffed": f'{{"long": "{"x" * 2000}"}}'}
"""Signals that came before they are waited for, and their data."""
LATE: Final[Mapping[str, Held]] = {
    "unfolded": held(f"df.seq({mark('one')}, {mark('two')})", "", signals=0, one=1, two=1),
    "cancelled": held(f"df.seq({mark('one')}, {mark('two')})", "", signals=0, status="cancelled"),
}
"""Inserted when no engine was there any more; the second with its cancellation."""
FINISHED: Final = "finished"
