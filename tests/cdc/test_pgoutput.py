import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import ProtocolError
from cdc.lsn import Lsn
from cdc.messages import Begin, Commit, Ignored, IgnoredKind, Insert, RelationMessage, TypeMessage, Value
from cdc.pgoutput import POSTGRES_EPOCH_US, Decoder
from cdc.relations import Relation
from tests.cdc import wire
from tests.cdc.raw import load_frames

CAPTURES = Path(__file__).parent / "captures"
WHOLE = sorted(CAPTURES.glob("pg[0-9][0-9].frames"))
ASCII = sorted(CAPTURES.glob("*-ascii.frames"))
HEADER_BYTES = 25


def captured_messages(path: Path) -> list[bytes]:
    return [frame[HEADER_BYTES:] for frame in load_frames(path) if frame[:1] == b"w"]


def decoder(*columns: str) -> Decoder:
    """A decoder that knows relation 7."""
    made = Decoder()
    made.decode(wire.relation(7, *columns))
    return made


def rows(path: Path) -> list[tuple[str, dict[str, Value]]]:
    decoding = Decoder()
    messages = [decoding.decode(data) for data in captured_messages(path)]
    inserts = [message for message in messages if isinstance(message, Insert)]
    return [(row.relation.name, dict(zip(row.relation.columns, row.values, strict=True))) for row in inserts]


# --- what real servers send


def test_captures_of_the_oldest_and_the_newest_server_are_here() -> None:
    assert {"pg16", "pg18"} <= {path.stem for path in WHOLE}


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_captured_rows_are_what_was_inserted(path: Path) -> None:
    nothing = dict.fromkeys(("note", "doc", "raw", "mood", "who", "at", "big"))
    first, *others = rows(path)
    assert first == (
        "orders",
        {
            "id": "1",
            "note": "Grüße, 世界 🐘",
            "doc": '{"a": [1, null]}',
            "raw": "\\x00ff",
            "mood": "glad",
            "who": "postgres",  # a regrole arrives as a name: publish oids
            "at": "2025-11-21 02:10:56.123456+00",
            "big": "x" * 3000,
        },
    )
    assert others == [
        ("orders", {"id": "2", **nothing, "note": ""}),
        ("orders", {"id": "3", **nothing}),
        ("orders", {"id": "4", **nothing, "extra": "7"}),
        ('Odd "n', {"séléct": "-1", "b": 'tab\t and "quotes"'}),
        ("listed", {"id": "5", "shown": "open"}),
        ("whole", {"a": "1", "b": None}),
        ("orders", {"id": "20", **nothing, "extra": None}),
        ("orders", {"id": "21", **nothing, "note": "the last one", "extra": None}),
    ]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_captured_updates_deletes_truncates_and_origins_are_recognised(path: Path) -> None:
    decoding = Decoder()
    messages = [decoding.decode(data) for data in captured_messages(path)]
    kinds = [message.kind for message in messages if isinstance(message, Ignored)]
    update, delete, truncate = IgnoredKind.UPDATE, IgnoredKind.DELETE, IgnoredKind.TRUNCATE
    assert kinds == [update, update, update, delete, delete, truncate, IgnoredKind.ORIGIN]
    mood = next(message for message in messages if isinstance(message, TypeMessage))
    assert (mood.schema, mood.name) == ("shop", "mood")


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_a_description_repeated_by_a_server_keeps_the_relation_of_its_rows(path: Path) -> None:
    decoding = Decoder()
    messages = [decoding.decode(data) for data in captured_messages(path)]
    described = [m.relation for m in messages if isinstance(m, RelationMessage) and m.relation.name == "orders"]
    before, *after = described
    assert len(after) > 2
    assert before is not after[0]  # a column was added in between
    assert all(relation is after[0] for relation in after)
    in_rows = {id(m.relation) for m in messages if isinstance(m, Insert) and m.relation.name == "orders"}
    assert in_rows == {id(before), id(after[0])}


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_frame_headers_of_descriptions_carry_no_position(path: Path) -> None:
    headers = {frame[1:17] for frame in load_frames(path) if frame[:1] == b"w" and frame[25:26] in (b"R", b"Y")}
    assert headers == {b"\0" * 16}


@pytest.mark.parametrize("path", ASCII, ids=lambda path: path.stem)
def test_text_that_is_not_utf8_stays_bytes(path: Path) -> None:
    notes = [row["note"] for _, row in rows(path)]
    assert notes == [b"caf\xe9", "café", "plain", "the last one"]


@pytest.mark.parametrize("path", WHOLE + ASCII, ids=lambda path: path.stem)
def test_a_captured_message_cut_anywhere_or_with_a_tail_is_refused(path: Path) -> None:
    decoding = Decoder()
    for data in captured_messages(path):
        for length in range(len(data)):
            with pytest.raises(ProtocolError):
                decoding.decode(data[:length])
        for tail in (b"\0", b"n", b"\0\0\0\1"):
            with pytest.raises(ProtocolError):
                decoding.decode(data + tail)
        decoding.decode(data)


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
@given(data=st.data())
def test_a_captured_message_with_changed_bytes_is_decoded_or_refused(path: Path, data: st.DataObject) -> None:
    decoding = Decoder()
    messages = captured_messages(path)
    for message in messages:
        decoding.decode(message)
    damaged = bytearray(data.draw(st.sampled_from(messages)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    decode_or_refuse(decoding, bytes(damaged))


# --- what no real server sends


@given(st.binary(max_size=60), st.sampled_from(b"BCRYIUDTOM"))
def test_random_bytes_are_decoded_or_refused(data: bytes, kind: int) -> None:
    decode_or_refuse(decoder("a"), bytes((kind,)) + data)


def decode_or_refuse(decoding: Decoder, data: bytes) -> None:
    """Anything but ProtocolError fails the test."""
    with contextlib.suppress(ProtocolError):
        decoding.decode(data)


def test_decoding_starts_at_the_offset_and_ends_at_the_end() -> None:
    assert Decoder().decode(b"header" + wire.begin(16, xid=5), 6) == Begin(Lsn(16), POSTGRES_EPOCH_US, 5)


def test_times_count_from_the_unix_epoch() -> None:
    at = 1_763_691_056_123_456  # 2025-11-21 02:10:56.123456 UTC
    assert Decoder().decode(wire.begin(16, commit_time_us=at)) == Begin(Lsn(16), at, 1)
    assert Decoder().decode(wire.commit(16, 24, commit_time_us=0)) == Commit(Lsn(16), Lsn(24), 0)


def test_an_xid_beyond_two_thousand_million_is_not_negative() -> None:
    message = Decoder().decode(wire.begin(16, xid=4_000_000_000))
    assert isinstance(message, Begin)
    assert message.xid == 4_000_000_000


def test_an_empty_schema_means_pg_catalog() -> None:
    message = Decoder().decode(wire.relation(7, "a", schema=""))
    assert message == RelationMessage(Relation(7, "pg_catalog", "t", ("a",)))


def test_a_row_of_no_columns_is_a_row() -> None:
    message = decoder().decode(wire.insert(7))
    assert isinstance(message, Insert)
    assert message.values == ()


def test_null_and_the_empty_string_are_told_apart() -> None:
    message = decoder("a", "b").decode(wire.insert(7, None, b""))
    assert isinstance(message, Insert)
    assert message.values == (None, "")


def test_a_logical_message_is_recognised() -> None:
    data = b"M" + struct.pack(">BQ", 0, 16) + wire.text("prefix") + struct.pack(">I", 3) + b"\0\1\2"
    assert Decoder().decode(data) == Ignored(IgnoredKind.LOGICAL_MESSAGE)


def test_a_row_of_a_relation_that_was_never_described_is_refused() -> None:
    with pytest.raises(ProtocolError, match="never described"):
        decoder("a").decode(wire.insert(8, b"x"))


@pytest.mark.parametrize("values", [(), (b"x", b"y")])
def test_a_row_with_another_number_of_columns_is_refused(values: tuple[bytes, ...]) -> None:
    with pytest.raises(ProtocolError, match="values for 1 columns"):
        decoder("a").decode(wire.insert(7, *values))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"u", "unchanged TOAST"),
        (b"b\0\0\0\1x", "binary value"),
        (b"z", "unknown kind"),
        (b"t\xff\xff\xff\xffx", "cut short"),  # a length of -1
        (b"t\x7f\xff\xff\xffx", "cut short"),
    ],
)
def test_a_value_that_cannot_stand_in_a_new_row_is_refused(value: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        decoder("a").decode(b"I" + struct.pack(">I", 7) + b"N\0\1" + value)


@pytest.mark.parametrize("kind", [b"S", b"E", b"c", b"A", b"b", b"P", b"K", b"r", b"p", b"\0", b"\xff"])
def test_messages_of_later_protocol_versions_are_refused(kind: bytes) -> None:
    with pytest.raises(ProtocolError, match="unknown pgoutput message"):
        Decoder().decode(kind + b"\0" * 40)


def test_an_empty_message_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Decoder().decode(b"")


def test_a_commit_with_flags_is_refused() -> None:
    with pytest.raises(ProtocolError, match="flags"):
        Decoder().decode(wire.commit(16, 24, flags=1))


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not UTF-8"):
        Decoder().decode(wire.relation(7, "a").replace(b"df\0", b"\xff\xfe\0"))


def test_a_refused_description_changes_nothing() -> None:
    decoding = decoder("a")
    with pytest.raises(ProtocolError):
        decoding.decode(wire.relation(7, "a", "b") + b"\0")
    message = decoding.decode(wire.insert(7, b"x"))
    assert isinstance(message, Insert)
    assert message.relation.columns == ("a",)
