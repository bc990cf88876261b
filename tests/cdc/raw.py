"""Frames as they come from a server, without a stream around them: for captures and for facts about the protocol."""

import select
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from psycopg.pq.abc import PGconn

PATIENCE_SECONDS = 20.0
_SIZE = struct.Struct(">I")


def read_frames(pgconn: PGconn, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Frames of a started replication connection until `enough` of them have come."""
    frames: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not enough(frames):
        size, frame = pgconn.get_copy_data(1)
        if size > 0:
            frames.append(bytes(frame))
        elif size < 0:
            raise AssertionError("the server ended the copy")
        else:
            if time.monotonic() > deadline:
                raise AssertionError(f"only {len(frames)} frames came")
            select.select([pgconn.socket], [], [], 1.0)
            pgconn.consume_input()
    return frames


def save_frames(path: Path, frames: list[bytes]) -> None:
    path.write_bytes(b"".join(_SIZE.pack(len(frame)) + frame for frame in frames))


def load_frames(path: Path) -> list[bytes]:
    return list(_split(path.read_bytes()))


def _split(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        yield data[at : at + size]
        at += size
