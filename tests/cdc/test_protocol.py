import struct

import pytest

from cdc.errors import ProtocolError
from cdc.lsn import NO_LSN, Lsn
from cdc.messages import Begin, Commit, Insert, Keepalive, RelationMessage
from cdc.pgoutput import POSTGRES_EPOCH_US
from cdc.progress import Progress
from cdc.protocol import ReplicationProtocol
from tests.cdc import wire

SECOND = 1_000_000
ORIGIN = b"O" + struct.pack(">Q", 0) + wire.text("elsewhere")


def protocol(stored: int = NO_LSN, now_us: int = 0, timeout_seconds: int = 30) -> ReplicationProtocol:
    return ReplicationProtocol(Progress(Lsn(stored)), now_us=now_us, wal_sender_timeout_us=timeout_seconds * SECOND)


def feed(side: ReplicationProtocol, *messages: bytes) -> list[type]:
    return [type(side.receive(wire.wal_data(message))) for message in messages]


# --- nesting

MESSAGES = {
    "begin": wire.begin(200),
    "insert": wire.insert(7, b"x"),
    "commit": wire.commit(200, 208),
    "relation": wire.relation(7, "a"),
    "type": b"Y" + struct.pack(">I", 9) + wire.text("df") + wire.text("mood"),
    "origin": ORIGIN,
    "truncate": b"T" + struct.pack(">IBI", 1, 0, 7),
}
ALLOWED = {
    "between": {"begin", "relation", "type"},
    "inside": {"insert", "commit", "relation", "type", "origin", "truncate"},
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("state", ALLOWED)
def test_each_message_is_taken_where_it_belongs_and_refused_elsewhere(state: str, name: str) -> None:
    side = protocol()
    feed(side, wire.begin(100), wire.relation(7, "a"), wire.commit(100, 108))
    if state == "inside":
        feed(side, wire.begin(200))
    if name in ALLOWED[state]:
        feed(side, MESSAGES[name])
        return
    before = (side.position, side.in_transaction)
    with pytest.raises(ProtocolError):
        feed(side, MESSAGES[name])
    assert (side.position, side.in_transaction) == before


def test_a_transaction_comes_out_as_its_messages() -> None:
    side = protocol()
    messages = feed(side, wire.begin(100), wire.relation(7, "a"), wire.insert(7, b"x"), wire.commit(100, 108))
    assert messages == [Begin, RelationMessage, Insert, Commit]
    assert not side.in_transaction


@pytest.mark.parametrize(("commit_lsn", "end_lsn"), [(96, 208), (208, 216), (200, 200), (200, 100)])
def test_a_commit_that_is_not_the_one_announced_is_refused(commit_lsn: int, end_lsn: int) -> None:
    side = protocol()
    feed(side, wire.begin(200))
    with pytest.raises(ProtocolError):
        feed(side, wire.commit(commit_lsn, end_lsn))
    assert side.position == NO_LSN


def test_a_transaction_that_commits_before_the_previous_one_is_refused() -> None:
    side = protocol()
    feed(side, wire.begin(200), wire.commit(200, 208))
    with pytest.raises(ProtocolError, match="before the end of the previous one"):
        feed(side, wire.begin(100))


@pytest.mark.parametrize(
    "frame", [b"", b"w", b"k", b"x", b"w" + b"\0" * 24, wire.keepalive(1)[:-1], wire.keepalive(1) + b"\0", b"r" * 34]
)
def test_a_frame_that_is_none_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol().receive(frame)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_frame_cut_anywhere_is_refused(message: bytes) -> None:
    frame = wire.wal_data(message)
    for length in range(len(frame)):
        side = protocol()
        feed(side, wire.begin(200), wire.relation(7, "a"))
        with pytest.raises(ProtocolError):
            side.receive(frame[:length])


# --- positions


def test_the_position_is_the_end_of_the_last_commit() -> None:
    side = protocol()
    feed(side, wire.begin(100))
    assert side.position == NO_LSN
    feed(side, wire.commit(100, 108))
    assert side.position == 108


def test_a_keepalive_moves_the_position_between_transactions_only() -> None:
    side = protocol()
    side.receive(wire.keepalive(50))
    assert side.position == 50
    feed(side, wire.begin(100))
    side.receive(wire.keepalive(5_000))
    assert side.position == 50
    feed(side, wire.commit(100, 108))
    assert side.position == 108


def test_positions_in_frame_headers_are_not_believed() -> None:
    side = protocol()
    side.receive(b"w" + struct.pack(">QQq", 900, 900, 0) + wire.begin(100))
    side.receive(b"w" + struct.pack(">QQq", 900, 900, 0) + wire.commit(100, 108))
    assert side.position == 108


def test_a_keepalive_behind_the_position_takes_nothing_back() -> None:
    side = protocol(stored=500)
    side.receive(wire.keepalive(50))
    assert side.position == 500


def test_a_keepalive_says_what_the_server_said() -> None:
    message = protocol().receive(wire.keepalive(50, reply_wanted=True, sent_at_us=POSTGRES_EPOCH_US + 3))
    assert message == Keepalive(Lsn(50), POSTGRES_EPOCH_US + 3, True)


# --- statuses


def unpack(status: bytes) -> tuple[int, ...]:
    return struct.unpack(">cQQQqB", status)[1:]


def test_a_status_tells_what_was_received_and_what_is_durable() -> None:
    side = protocol(stored=100)
    feed(side, wire.begin(200), wire.commit(200, 208))
    now = POSTGRES_EPOCH_US + 5
    assert unpack(side.status(now)) == (208, 100, 100, 5, 0)
    side.progress.checkpointed(Lsn(208))
    assert unpack(side.status(now, reply_wanted=True)) == (208, 208, 208, 5, 1)
    assert side.status(now)[:1] == b"r"


def test_nothing_durable_yet_is_reported_as_zero() -> None:
    side = protocol()
    feed(side, wire.begin(200), wire.commit(200, 208))
    assert unpack(side.status(POSTGRES_EPOCH_US))[:3] == (208, 0, 0)


def test_a_status_is_due_every_third_of_the_timeout_also_inside_a_transaction() -> None:
    side = protocol(now_us=1_000 * SECOND, timeout_seconds=30)
    feed(side, wire.begin(100))
    assert not side.status_due(1_000 * SECOND + 10 * SECOND - 1)
    assert side.status_due(1_000 * SECOND + 10 * SECOND)
    side.status(1_010 * SECOND)
    assert not side.status_due(1_020 * SECOND - 1)
    assert side.status_due(1_020 * SECOND)


def test_a_status_is_due_at_once_when_the_server_asks_also_inside_a_transaction() -> None:
    side = protocol(now_us=0)
    feed(side, wire.begin(100))
    side.receive(wire.keepalive(0, reply_wanted=True))
    assert side.reply_owed
    assert side.status_due(0)
    side.status(0)
    assert not side.reply_owed
    assert not side.status_due(0)
