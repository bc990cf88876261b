"""*Confirm only what is durable*, against every interleaving that Hypothesis can think of."""

import struct

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cdc.errors import ProtocolError
from cdc.lsn import NO_LSN, Lsn
from cdc.progress import Progress
from cdc.protocol import ReplicationProtocol
from tests.cdc import wire


def test_nothing_is_reported_before_the_first_checkpoint() -> None:
    progress = Progress()
    progress.receive(Lsn(500))
    assert progress.flush_to_report() == NO_LSN


def test_what_an_earlier_life_stored_is_reported_at_once() -> None:
    assert Progress(Lsn(100)).flush_to_report() == 100


def test_what_was_received_is_not_reported_until_a_checkpoint_holds_it() -> None:
    progress = Progress(Lsn(100))
    progress.receive(Lsn(500))
    assert progress.flush_to_report() == 100
    progress.checkpointed(Lsn(300))
    assert progress.flush_to_report() == 300


def test_redelivery_takes_nothing_back() -> None:
    progress = Progress(Lsn(100))
    progress.receive(Lsn(40))
    assert progress.received == 100


def test_the_same_checkpoint_again_is_welcome() -> None:
    progress = Progress(Lsn(100))
    progress.checkpointed(Lsn(100))
    assert progress.durable == 100


@pytest.mark.parametrize("position", [99, 501])
def test_a_checkpoint_backwards_or_beyond_what_was_received_raises_and_changes_nothing(position: int) -> None:
    progress = Progress(Lsn(100))
    progress.receive(Lsn(500))
    with pytest.raises(AssertionError):
        progress.checkpointed(Lsn(position))
    assert (progress.durable, progress.received, progress.flush_to_report()) == (100, 500, 100)


class ConfirmOnlyWhatIsDurable(RuleBasedStateMachine):
    """A server, an engine with a stored checkpoint, and crashes of either, around the real protocol."""

    @initialize()
    def begin_with_a_new_slot(self) -> None:
        self.stored = NO_LSN  # what the last committed checkpoint holds
        self.end_of_wal = 1_000  # everything before it is committed or no transaction
        self.delivered = NO_LSN  # the furthest commit's end, or keepalive outside a transaction, on any connection
        self.commits: list[tuple[int, int]] = []
        self.confirmed = NO_LSN  # what the server holds of us
        self.open: tuple[int, int] | None = None
        self.connect()

    def connect(self) -> None:
        """A new connection: the server sends again what was not confirmed."""
        self.progress = Progress(self.stored)
        self.protocol = ReplicationProtocol(self.progress, now_us=0)
        self.open = None
        self.to_send = [commit for commit in self.commits if commit[1] > self.confirmed]

    @rule(size=st.integers(1, 50))
    def commit_a_transaction(self, size: int) -> None:
        commit = (self.end_of_wal + size, self.end_of_wal + size + 8)
        self.commits.append(commit)
        self.to_send.append(commit)
        self.end_of_wal = commit[1]

    @precondition(lambda self: self.open is None and self.to_send)
    @rule()
    def send_begin(self) -> None:
        self.open = self.to_send.pop(0)
        self.protocol.receive(wire.wal_data(wire.begin(self.open[0])))

    @precondition(lambda self: self.open is not None)
    @rule()
    def send_commit(self) -> None:
        assert self.open is not None
        self.protocol.receive(wire.wal_data(wire.commit(*self.open)))
        self.delivered = Lsn(max(self.delivered, self.open[1]))
        self.open = None

    @rule(reply_wanted=st.booleans())
    def send_keepalive(self, reply_wanted: bool) -> None:
        """Outside a transaction it stands before the next undelivered commit; inside it may be anywhere."""
        if self.open is not None:
            position = self.end_of_wal
        else:
            position = self.to_send[0][0] if self.to_send else self.end_of_wal
            self.delivered = Lsn(max(self.delivered, position))
        self.protocol.receive(wire.keepalive(position, reply_wanted))

    @rule(share=st.floats(0, 1))
    def commit_a_checkpoint(self, share: float) -> None:
        position = Lsn(self.stored + int((self.protocol.position - self.stored) * share))
        self.stored = position
        self.progress.checkpointed(position)

    @rule()
    def fail_a_checkpoint(self) -> None:
        """It rolls back: nobody tells anybody anything."""

    @rule(reply_wanted=st.booleans())
    def send_status(self, reply_wanted: bool) -> None:
        _, written, flushed, applied, _, reply = struct.unpack(">BQQQqB", self.protocol.status(0, reply_wanted))
        assert flushed == applied <= self.stored
        assert written <= max(self.delivered, self.stored)
        assert reply == reply_wanted
        assert flushed == NO_LSN or flushed >= self.confirmed
        self.confirmed = Lsn(max(flushed, self.confirmed))  # the server ignores 0

    @rule()
    def crash_and_connect_again(self) -> None:
        self.connect()

    @rule(back=st.floats(0, 1))
    def crash_the_server(self, back: float) -> None:
        """The slot's position may fall back: it is written to disk now and then only."""
        self.confirmed = Lsn(int(self.confirmed * back))
        self.connect()

    @rule(garbage=st.binary(min_size=1, max_size=3))
    def send_garbage(self, garbage: bytes) -> None:
        position = self.progress.received
        with pytest.raises(ProtocolError):
            self.protocol.receive(b"w" + garbage)
        assert self.progress.received == position
        self.connect()

    @invariant()
    def only_what_is_stored_is_reported(self) -> None:
        if hasattr(self, "progress"):
            assert self.progress.flush_to_report() == self.stored

    @invariant()
    def no_undelivered_commit_lies_before_what_was_received(self) -> None:
        if hasattr(self, "progress"):
            waiting = [*([self.open] if self.open else []), *self.to_send]
            assert all(end > self.progress.received or end <= self.stored for _, end in waiting)


TestConfirmOnlyWhatIsDurable = ConfirmOnlyWhatIsDurable.TestCase
