"""What is brought into memory, in which order, and what is asked of the tables for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from engine.admission import Arrivals
from engine.backlog import Backlog
from engine.instance import Live
from engine.rows import CompletionRow, InstanceRow, WaitRow
from engine.store.rows import CompletionKey, Recorded, SetAside, StoredInstance
from tests.engine.logbook import ALICE, BOB, Log, cancel, done, signal, start
from tests.engine.machinery import sleep


@dataclass
class Tables:
    """As much of the tables as is asked for what is not in memory. `asked` is what was asked, in order."""

    rows: dict[int, StoredInstance] = field(default_factory=dict)
    wakes: list[tuple[int, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def instances(self, keys: Sequence[int]) -> list[StoredInstance]:
        self.asked.append("instances")
        return [self.rows[key] for key in keys if key in self.rows]

    async def waiting(self, submitter: int, after: int, last: int, limit: int) -> list[StoredInstance]:
        self.asked.append("waiting")
        found = [r for k, r in sorted(self.rows.items()) if after < k <= last and r.row.submitter == submitter]
        return found[:limit]

    async def named(self, names: Sequence[tuple[int, str]]) -> list[tuple[int, str, int]]:
        known = {(r.row.submitter, r.row.id): key for key, r in self.rows.items()}
        return [(*name, known[name]) for name in names if name in known]

    async def next_wake(self, after_us: int = 0) -> int | None:
        return min((at for at, _ in self.wakes if at > after_us), default=None)

    async def sleepers(self, after: tuple[int, int], upto_us: int, limit: int) -> list[tuple[int, int]]:
        return [wake for wake in sorted(self.wakes) if wake > after and wake[0] <= upto_us][:limit]

    async def with_inbox(self, keys: Sequence[int]) -> list[int]:
        return []

    async def set_aside(self, after: int, limit: int) -> list[int]:
        return []

    async def shown_of(self, keys: Sequence[int]) -> list[tuple[int, str]]:
        return []

    async def waits_of(self, keys: Sequence[int]) -> list[WaitRow]:
        return []

    async def children_of(self, keys: Sequence[int]) -> list[tuple[int, str, int]]:
        return []

    async def results(self, wanted: Sequence[tuple[int, int, str]]) -> list[tuple[int, str, str | None]]:
        return []

    async def signal_data(self, wanted: Sequence[tuple[int, int, str]]) -> list[tuple[int, str, str]]:
        return []

    async def inbox(self, key: int) -> list[SetAside]:
        return []

    async def completion(self, key: CompletionKey) -> Recorded[CompletionRow] | None:
        return None

    async def start_of(self, key: int) -> str | None:
        return None

    async def signals(self, keys: Sequence[tuple[int, str]]) -> list[tuple[int, str, str, str]]:
        return []

    async def cancellation(self, owner: int, event_id: str) -> tuple[str, str] | None:
        return None


def stored(key: int, status: str = "pending", state: str | None = None, graph: str = "select 1") -> StoredInstance:
    row = InstanceRow(key, ALICE, f"w{key}", graph, None, None, None, None, f"e{key}")
    return StoredInstance(
        row=row,
        status=status,
        quarantined=None,
        started_us=None,
        recorded_us=1_000_000 * key,
        submitted_by="alice",
        version=None if state is None else 1,
        state=state,
        asleep=False,
    )


class Bringing:
    """A book and what brings into it; `passed` notes when it was waited for a checkpoint."""

    def __init__(self, log: Log, tables: Tables, now_us: int = 0) -> None:
        self.log, self.tables = log, tables
        self.turn = 0
        """Of the event loop, for a task that wants every one."""
        self.now_us = now_us

    async def _run(self) -> None:
        async def passed() -> None:
            self.tables.asked.append("passed")

        self.arrivals = Arrivals(
            self.log.book, self.tables, passed=passed, brought=lambda: None, now_us=lambda: self.now_us
        )
        self.log.book.on_absent = self.arrivals.poke
        task = asyncio.get_running_loop().create_task(self.arrivals.run())
        for self.turn in range(200):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def run(self) -> None:
        asyncio.run(self._run())


def full() -> Log:
    """Six starts, of which four had room; these have ended since."""
    log = Log(admission=5)
    log.transaction(*(start(key=n, id_=f"w{n}") for n in (11, 12, 13, 14, 15, 16)))
    log.transaction(*(done(key=n) for n in (11, 12, 13, 14)))
    log.checkpoint()
    seen(log)
    assert log.book.instances == {}
    return log


def seen(log: Log) -> None:
    """Every snapshot shows what was folded so far."""
    log.book.visibility.proven(log.book.visibility.unproven())


def test_a_row_seen_in_the_table_begins_only_after_a_checkpoint_has_passed_and_it_was_looked_at_again() -> None:
    log, tables = full(), Tables({key: stored(key) for key in (15, 16)})
    Bringing(log, tables).run()
    assert tables.asked[:3] == ["waiting", "passed", "instances"]
    assert log.asked(15) == log.asked(16) == ["select 1"]
    assert log.book.backlog == {}


@pytest.mark.parametrize("now", [stored(16, status="cancelled"), stored(16, state="[]")], ids=["ended", "begun"])
def test_a_row_that_moved_while_it_was_waited_for_the_checkpoint_does_not_begin(now: StoredInstance) -> None:
    log, tables = full(), Tables({key: stored(key) for key in (15, 16)})

    async def instances(keys: Sequence[int]) -> list[StoredInstance]:
        return [stored(15), now]

    tables.instances = instances  # type: ignore[method-assign]
    Bringing(log, tables).run()
    assert log.asked(15) == ["select 1"]
    assert log.asked(16) == []
    assert log.book.absent == {}


def test_a_lower_key_that_comes_while_others_are_admitted_is_not_passed_over() -> None:
    log = full()
    log.book.look_for_waiting(ALICE)
    log.transaction(start(key=3, id_="late"))  # its key was given earlier
    log.book.admitted(ALICE, upto=16, count=2)
    assert log.book.backlog[ALICE] == Backlog(after=2, last=16, count=1)


def test_a_key_between_others_that_comes_while_these_are_admitted_is_not_passed_over() -> None:
    log = Log(admission=5)
    log.transaction(*(start(key=n, id_=f"w{n}") for n in (1, 2, 3, 4, 11, 13)))
    seen(log)
    log.book.look_for_waiting(ALICE)
    log.transaction(start(key=12, id_="w12"))
    assert log.book.admitted(ALICE, upto=13, count=2)
    assert log.book.backlog[ALICE] == Backlog(after=11, last=13, count=1)
    assert not log.book.admitted(ALICE, upto=13, count=0), "not before somebody has looked who can see it"
    seen(log)
    log.book.look_for_waiting(ALICE)
    assert log.book.admitted(ALICE, upto=13, count=1)
    assert log.book.backlog == {}


def test_a_start_that_waits_and_cannot_be_seen_yet_is_looked_for_until_it_is() -> None:
    log = full()
    log.transaction(start(key=17, id_="w17"))
    tables = Tables({key: stored(key) for key in (15, 16)})
    Bringing(log, tables).run()
    assert log.asked(15) == log.asked(16) == ["select 1"]
    assert log.book.backlog[ALICE] == Backlog(after=16, last=17, count=1)
    tables.rows[17] = stored(17)
    seen(log)
    Bringing(log, tables).run()
    assert log.asked(17) == ["select 1"]
    assert log.book.backlog == {}


def test_what_is_not_there_is_nobodys_once_all_that_was_folded_can_be_seen() -> None:
    log = full()
    log.transaction(signal(key=99, id_="gone"))
    tables = Tables({key: stored(key) for key in (15, 16)})
    Bringing(log, tables).run()
    assert list(log.book.absent) == [99], "its row may only not be visible yet"
    seen(log)
    Bringing(log, tables).run()
    assert log.book.absent == {}
    assert log.book.is_known(99)


def test_what_becomes_visible_while_it_is_looked_for_is_not_nobodys() -> None:
    """The answer of the tables is as old as the question."""
    log = full()
    log.transaction(start(key=17, id_="w17"), signal(key=17, id_="w17", event_id="go"))
    tables = Tables({key: stored(key) for key in (15, 16)})
    asked = tables.instances

    async def instances(keys: Sequence[int]) -> list[StoredInstance]:
        found = await asked(keys)
        seen(log)
        tables.rows[17] = stored(17)
        return found

    tables.instances = instances  # type: ignore[method-assign]
    Bringing(log, tables).run()
    assert log.asked(17) == ["select 1"]
    assert not log.book.is_known(17) or 17 in log.book.instances


def test_a_command_known_by_its_id_only_is_set_aside_for_the_instance_that_the_table_says() -> None:
    log = full()
    log.book.admission = 0
    log.transaction(signal(key=None, id_="w16"), signal(key=None, id_="nobody"))
    log.book.visibility.proven(log.book.visibility.unproven())
    Bringing(log, Tables({16: stored(16)})).run()
    assert log.book.strays == []
    cut = log.checkpoint()
    assert [(key, held.kind) for key, _, held in cut.inbox] == [(16, "signal")]
    assert len(cut.marks.signal) == 2


def test_a_cancelled_start_ends_without_waiting_for_room_and_nothing_of_it_begins() -> None:
    log = full()
    log.book.admission = 0
    log.transaction(cancel(key=16, id_="w16"), cancel(key=15, id_="w15", owner=BOB))
    Bringing(log, Tables({key: stored(key) for key in (15, 16)})).run()
    assert log.asked(16) == []
    log.transaction(done(key=16, outcome="cancelled", result=None))
    assert log.live(16).status == "cancelled"
    assert 15 not in log.book.instances, "a stranger's cancellation is none"


def test_a_sleeper_is_loaded_ten_seconds_before_its_timer_is_due() -> None:
    log = Log(admission=10)
    log.transaction(start(sleep(60)))
    cut = log.checkpoint(now_us=log.at_us)
    ((_, text, wake_us),) = cut.states
    assert wake_us is not None
    live: Live = log.book.instances[1]
    log.book.complete = False
    log.book._put_out(live)
    graph = '{"node_type":"SLEEP","query":"60"}'
    tables = Tables({1: stored(1, "running", text, graph)}, wakes=[(wake_us, 1)])
    Bringing(log, tables, now_us=wake_us - 11_000_000).run()
    assert log.book.instances == {}
    Bringing(log, tables, now_us=wake_us - 9_000_000).run()
    assert list(log.book.instances) == [1]


def test_of_a_batch_of_starts_a_few_begin_at_a_time() -> None:
    """A start takes some tenths of a millisecond: whoever asks for something else is not to wait for all of them."""
    log = Log(admission=0)
    log.transaction(*(start(key=key, id_=f"w{key}") for key in range(1, 51)))
    seen(log)
    log.book.admission = 1_000
    turns: list[int] = []
    log.book.on_started = lambda _live: turns.append(bringing.turn)
    bringing = Bringing(log, Tables({key: stored(key) for key in range(1, 51)}))
    bringing.run()
    assert len(turns) == 50
    assert max(Counter(turns).values()) <= 25
