"""A model of a PostgreSQL server as far as walflow leans on it: transactions, visibility, locks, log, slots, backends.

- A transaction's commit reaches the log first; other snapshots include it a little later, and only then are its locks free
  and its client is answered (A row may arrive before it can be seen).
- Whoever inserts under a key that a transaction holds waits until that has ended.
- A statement takes its snapshot when it begins. One whose client is gone goes on; what was not committed when its backend
  ends is rolled back.
- A slot brings every committed transaction after the position that was confirmed to it, and maybe some before, to one reader.

Statements are generators (`engine.store` names what they do, rules.py does it): they yield what they wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from cdc.lsn import Lsn
from cdc.relations import Relation
from sql.publication import PUBLISHED
from tests.simulation.loop import VirtualLoop

BIRTH_US: Final = 1_700_000_000_000_000
"""The database's clock when a simulation begins."""
RELATIONS: Final = {
    table: Relation(oid, "df", table.removeprefix("df."), tuple(columns))
    for oid, (table, columns) in enumerate(PUBLISHED.items(), 20_000)
}

Row = dict[str, Any]
Sees = Callable[["Transaction"], bool]


class ServerFailure(Exception):
    """A statement failed, with an SQLSTATE."""

    def __init__(self, code: str, message: str, constraint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.constraint = constraint


@dataclass(eq=False, slots=True)
class Transaction:
    """`ended`: no lock of it is held any more, and every new snapshot includes it if it was committed."""

    xid: int
    committed: bool = False
    aborted: bool = False
    ended: bool = False
    end_lsn: int = 0
    commit_us: int = 0
    rows: list[tuple[str, Row]] = field(default_factory=list)
    """What it inserted into published tables."""
    waiters: list[Callable[[], None]] = field(default_factory=list)
    wrote: bool = False


@dataclass(slots=True)
class Wait:
    """Until the transaction has ended, for so long at most."""

    transaction: Transaction
    seconds: float | None = None


Work = Generator[float | Wait, None, Any]


class Table:
    """Versions of rows by key, oldest first; None where a row was deleted."""

    __slots__ = ("versions",)

    def __init__(self) -> None:
        self.versions: dict[Any, list[tuple[Transaction, Row | None]]] = {}

    def get(self, key: Any, sees: Sees) -> Row | None:
        for transaction, row in reversed(self.versions.get(key, ())):
            if sees(transaction):
                return row
        return None

    def rows(self, sees: Sees) -> Iterator[Row]:
        for versions in self.versions.values():
            for transaction, row in reversed(versions):
                if sees(transaction):
                    if row is not None:
                        yield row
                    break

    def holder(self, key: Any, mine: Transaction) -> Transaction | None:
        """Whose transaction, that has not ended, has written under the key."""
        for transaction, _ in reversed(self.versions.get(key, ())):
            if transaction is not mine and not transaction.ended:
                return transaction
        return None

    def put(self, transaction: Transaction, key: Any, row: Row | None) -> None:
        transaction.wrote = True
        self.versions.setdefault(key, []).append((transaction, row))

    def forget(self, gone: Callable[[Transaction], bool]) -> None:
        """As if those transactions had never been."""
        for key, versions in list(self.versions.items()):
            kept = [version for version in versions if not gone(version[0])]
            if kept:
                self.versions[key] = kept
            else:
                del self.versions[key]


@dataclass(slots=True)
class Slot:
    confirmed: int
    reader: Backend | None = None
    invalidated: bool = False


class Backend:
    """A session on the server's side. `deaf`: nobody is at the other end any more, which it has not noticed."""

    def __init__(self, server: Server, role: int, name: str) -> None:
        self.server = server
        self.role = role
        self.name = name
        self.pid = server.next_pid()
        self.alive = True
        self.deaf = False
        self.lock_timeout: float | None = None
        self.block: Transaction | None = None
        """A transaction block that is open."""
        self.running: Transaction | None = None
        self.work: Work | None = None
        self.cancelled = False
        self.snapshot: Sees | None = None
        """Of a repeatable-read transaction."""
        self.on_end: Callable[[], object] = lambda: None
        server.backends[self.pid] = self

    def sees(self, transaction: Transaction) -> bool:
        """By a snapshot that is taken now."""
        return (transaction.committed and transaction.ended) or transaction is self.running

    @property
    def transaction(self) -> Transaction:
        assert self.running is not None
        return self.running

    def insert(self, table: str, row: Row) -> None:
        """Into a published table: the log will show it."""
        row.setdefault("event_id", self.server.event_id())
        row.setdefault("recorded_us", self.server.now_us())
        self.transaction.rows.append((table, row))
        self.transaction.wrote = True

    # --- statements -------------------------------------------------------------------------------------------------------

    def execute(self, work: Work, reply: Callable[[Any, ServerFailure | None], None]) -> None:
        """Runs a statement; `reply` is called when it has ended, and never if the backend has."""
        if not self.alive:
            return
        assert self.work is None, "one statement at a time"
        self.work, self.cancelled = work, False
        self.running = self.block or self.server.new_transaction()
        self._go_on(work, reply)

    def _go_on(self, work: Work, reply: Callable[[Any, ServerFailure | None], None]) -> None:
        if not self.alive or self.work is not work:
            return
        try:
            if self.cancelled:
                raise ServerFailure("57014", "canceling statement due to user request")
            wanted = next(work)
        except StopIteration as ended:
            self._finish(reply, ended.value)
        except ServerFailure as failure:
            self.server.abort(self.transaction)
            self.block = None
            self._idle()
            reply(None, failure)
        else:
            if isinstance(wanted, Wait):
                self._wait(work, reply, wanted)
            else:
                self.server.loop.after(wanted, self._go_on, work, reply)

    def _wait(self, work: Work, reply: Callable[[Any, ServerFailure | None], None], wanted: Wait) -> None:
        """For another transaction, up to `lock_timeout`."""
        left = [False]

        def ended() -> None:
            if not left[0]:
                left[0] = True
                self._go_on(work, reply)

        def late() -> None:
            if not left[0] and self.alive and self.work is work:
                left[0] = True
                self.server.abort(self.transaction)
                self.block = None
                self._idle()
                reply(None, ServerFailure("55P03", "canceling statement due to lock timeout"))

        wanted.transaction.waiters.append(ended)
        if self.lock_timeout is not None:
            self.server.loop.after(self.lock_timeout, late)

    def _idle(self) -> None:
        self.work = None
        self.running = self.block

    def _finish(self, reply: Callable[[Any, ServerFailure | None], None], answer: Any) -> None:
        if self.block is not None or not self.transaction.wrote:
            if self.block is None:
                self.transaction.ended = True
            self._idle()
            reply(answer, None)
        else:
            self.server.loop.after(self.server.commit_seconds(), self._commit, self.transaction, reply, answer)

    def _commit(
        self, transaction: Transaction, reply: Callable[[Any, ServerFailure | None], None], answer: Any
    ) -> None:
        if not self.alive or transaction.aborted:
            return
        if self.cancelled:
            self.server.abort(transaction)
            self._idle()
            reply(None, ServerFailure("57014", "canceling statement due to user request"))
            return
        self.server.commit(transaction)

        def visible() -> None:
            self.server.end(transaction)
            if self.alive:
                self._idle()
                reply(answer, None)

        self.server.loop.after(self.server.visible_seconds(), visible)

    def begin(self) -> None:
        """A transaction block, by the statement that is running."""
        self.block = self.transaction

    def commit_block(self, reply: Callable[[Any, ServerFailure | None], None]) -> None:
        if not self.alive:
            return
        transaction, self.block = self.block, None
        assert transaction is not None
        self.running = transaction
        if transaction.aborted:
            reply(None, ServerFailure("25P02", "the transaction was aborted"))
        elif not transaction.wrote:
            transaction.ended = True
            self._idle()
            reply(None, None)
        else:
            self._commit(transaction, reply, None)

    def rollback_block(self) -> None:
        if self.block is not None:
            self.server.abort(self.block)
            self.block = self.running = None

    def cancel(self) -> None:
        """A cancel request has arrived; one that comes between two statements is lost."""
        if self.work is not None:
            self.cancelled = True

    def terminate(self) -> None:
        """Ends it; a commit that has reached the log stays one."""
        if not self.alive:
            return
        if self.running is not None and self.running.committed and not self.running.ended:
            self.running.waiters.append(self.terminate)  # what is in the log becomes visible first
            return
        self.alive = False
        for transaction in (self.running, self.block):
            if transaction is not None and not transaction.committed:
                self.server.abort(transaction)
        self.work = None
        del self.server.backends[self.pid]
        for slot in self.server.slots.values():
            if slot.reader is self:
                slot.reader = None
        if not self.deaf:
            self.on_end()


@dataclass(frozen=True, slots=True)
class Logged:
    """A committed transaction as the log has it."""

    xid: int
    commit_us: int
    final_lsn: int
    end_lsn: int
    rows: tuple[tuple[str, Row], ...]


class Server:
    """See the module's docstring. `chance` decides how long everything takes; `rough` scales how rough the times are."""

    def __init__(self, loop: VirtualLoop, chance: Random) -> None:
        self.loop = loop
        self.chance = chance
        self.identifier = "7000000000000000001"
        self.clock_offset_us = 0
        self.lsn = 0x1000
        self.log: list[Logged] = []
        self.positions: dict[str, int] = {}
        """Where in the log each row came, by event id."""
        self.by_event: dict[str, Transaction] = {}
        self.transactions: dict[int, Transaction] = {}
        self.tables = {name: Table() for name in TABLES}
        self.slots: dict[str, Slot] = {}
        self.backends: dict[int, Backend] = {}
        self.rough = True
        self.over = False
        """Nobody is served any more."""
        self.away_until = 0.0
        self._xid = 700
        self._pid = 100
        self._key = 0
        self._event = 0
        self.on_commit: Callable[[Logged], None] = lambda _: None
        self.senders: list[Callable[[], None]] = []
        self.on_confirm: Callable[[int], None] = lambda _: None
        self.break_chance = 0.0
        self._found()

    def _found(self) -> None:
        """What the migrations leave."""
        first = self.new_transaction()
        self.tables["epoch"].put(first, 1, {"epoch": 0, "fenced": 0})
        self.tables["checkpoint"].put(
            first,
            1,
            {"epoch": 0, "lsn": 0, "system": None, "slot": None, "generation": 0, "scanning": False, "backlog": {}},
        )
        first.committed = first.ended = True

    # --- small things -----------------------------------------------------------------------------------------------------

    def now_us(self) -> int:
        """The database's clock."""
        return BIRTH_US + int(self.loop.time() * 1_000_000) + self.clock_offset_us

    def next_pid(self) -> int:
        self._pid += 1
        return self._pid

    def next_key(self) -> int:
        self._key += 1
        return self._key

    def event_id(self) -> str:
        """Unique, in no order."""
        self._event += 1
        return f"{self.chance.getrandbits(32):08x}-0000-4000-8000-{self._event:012x}"

    def commit_seconds(self) -> float:
        """Between the end of a statement and its commit record."""
        return 0.0005 if not self.rough or self.chance.random() < 0.9 else self.chance.random() * 0.2

    def visible_seconds(self) -> float:
        """Between a commit record and the first snapshot that includes it."""
        if not self.rough or self.chance.random() < 0.8:
            return 0.0
        return self.chance.random() * (0.03 if self.chance.random() < 0.8 else 0.6)

    def network_seconds(self) -> float:
        """One way."""
        return 0.0002 if not self.rough or self.chance.random() < 0.9 else self.chance.random() * 0.05

    def dying_seconds(self) -> float:
        """Until a backend that was told to end has done so: a stale leader may go on writing for a while."""
        return self.chance.random() * 8 if self.rough and self.chance.random() < 0.3 else self.network_seconds()

    @property
    def away(self) -> bool:
        return self.over or self.loop.time() < self.away_until

    # --- transactions -----------------------------------------------------------------------------------------------------

    def new_transaction(self) -> Transaction:
        self._xid += 1
        transaction = Transaction(self._xid)
        self.transactions[self._xid] = transaction
        return transaction

    @property
    def next_xid(self) -> int:
        return self._xid + 1

    def commit(self, transaction: Transaction) -> None:
        """Its commit record is written and flushed."""
        transaction.committed = True
        transaction.commit_us = self.now_us()
        final = self.lsn = self.lsn + 16 * (1 + len(transaction.rows))
        self.lsn += 8
        transaction.end_lsn = self.lsn
        for _, row in transaction.rows:
            self.positions[row["event_id"]] = final
            self.by_event[row["event_id"]] = transaction
        self.log.append(Logged(transaction.xid, transaction.commit_us, final, self.lsn, tuple(transaction.rows)))
        self.on_commit(self.log[-1])
        for sender in self.senders:
            self.loop.after(0, sender)

    def confirm(self, name: str, flushed: int) -> None:
        """A reader of the slot reports what it has flushed."""
        self.on_confirm(flushed)
        slot = self.slots[name]
        slot.confirmed = max(slot.confirmed, flushed)

    def breaks(self) -> bool:
        """Whether a connection breaks now."""
        return self.break_chance > 0 and self.chance.random() < self.break_chance

    def end(self, transaction: Transaction) -> None:
        transaction.ended = True
        waiters, transaction.waiters = transaction.waiters, []
        for waiter in waiters:
            self.loop.after(0, waiter)

    def abort(self, transaction: Transaction) -> None:
        if not transaction.committed and not transaction.aborted:
            transaction.aborted = True
            if transaction.wrote:
                for table in self.tables.values():
                    table.forget(lambda t: t is transaction)
            self.end(transaction)

    def invisible(self, xids: list[int] | tuple[int, ...]) -> list[int]:
        """Those that no snapshot taken now includes."""
        if not xids:
            return []
        return [xid for xid in xids if (t := self.transactions.get(xid)) is None or not t.ended]

    def now(self, table: str, key: Any) -> Row | None:
        """As the last commit left it, visible or not."""
        return self.tables[table].get(key, lambda t: t.committed)

    def all(self, table: str) -> list[Row]:
        """As the last commits left it."""
        return list(self.tables[table].rows(lambda t: t.committed))

    # --- misfortunes ------------------------------------------------------------------------------------------------------

    def crash(self, away_seconds: float) -> None:
        """An immediate shutdown: every backend is gone; the slots may remember older positions."""
        for backend in list(self.backends.values()):
            backend.terminate()
        for transaction in list(self.transactions.values()):
            if transaction.committed and not transaction.ended:
                self.end(transaction)
            self.abort(transaction)
        for slot in self.slots.values():
            slot.confirmed -= self.chance.randrange(0, 200) if slot.confirmed > 0x1000 + 200 else 0
        self.away_until = self.loop.time() + away_seconds

    def restore(self, lsn: int, identifier: str | None) -> None:
        """The server as it was at a position, as after a failover that lost the rest: without its slots."""
        self.crash(0.5)
        lost = {xid for xid, t in self.transactions.items() if t.end_lsn > lsn}
        for table in self.tables.values():
            table.forget(lambda t: t.xid in lost)
        self.log = [logged for logged in self.log if logged.end_lsn <= lsn]
        self.lsn = lsn
        self.slots.clear()
        if identifier is not None:
            self.identifier = identifier


TABLES: Final = (
    "instances", "names", "signals", "cancellations", "completions", "waits", "states", "progress", "epoch", "checkpoint",
    "ledger", "inbox",
)  # fmt: skip


def lsn(position: int) -> Lsn:
    return Lsn(position)
