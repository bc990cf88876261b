"""Every limit of this package: its unit and its reason."""

from typing import Final

OLDEST_SERVER_VERSION: Final = 150_000
"""In libpq's notation. 15 skips empty transactions and has column lists in publications."""

WAL_SENDER_TIMEOUT_SECONDS: Final = 20
"""After this long without a status the server gives the slot free: how long a takeover from a frozen reader takes."""

CONNECT_TIMEOUT_SECONDS: Final = 10
"""For a server to take a connection: a host that is gone refuses nothing."""

UNACKNOWLEDGED_SECONDS: Final = WAL_SENDER_TIMEOUT_SECONDS
"""What was sent and never acknowledged ends a connection after this long: by then the server has given the slot free."""

KEEPALIVE_IDLE_SECONDS: Final = 10
KEEPALIVE_INTERVAL_SECONDS: Final = 5
KEEPALIVE_PROBES: Final = 2
"""A connection on which nothing is sent is found dead in the same time: 10 s of silence, and two probes."""

STATUSES_PER_TIMEOUT: Final = 3
"""Statuses sent per `wal_sender_timeout`: two may be late or lost before the server loses patience."""

UNANSWERED_STATUSES: Final = 9
"""Periodic statuses, each of which asks for a reply, before a silent server counts as gone: three timeouts.
The server may be busy decoding for one of them; a vanished host never closes the socket by itself."""

SLICE_SECONDS: Final = 0.005
"""How long messages are handled in one turn of the event loop: the latency that a flood adds to everything else."""

CONFIRM_SPACING_SECONDS: Final = 0.02
"""Checkpoints are confirmed at most this often. Each status costs both sides a system call and a wakeup."""

LOOK_AGAIN_SECONDS: Final = 0.01
"""After the last frame of a burst a status leaves, whatever else was sent. From 16 on a walsender looks for WAL and only then
enlists to be woken: what is flushed in between it sends with the next flush, or at our next status, 6.7 s later (measured:
once in some thousand commits on an otherwise idle server). Any status makes it look again."""

CLOSE_TIMEOUT_SECONDS: Final = 5.0
"""How long an orderly end may take. The server finishes a transaction it is sending before it looks at our wish."""

CREATE_SLOT_LOCK_TIMEOUT_SECONDS: Final = 60
"""Creating a slot waits for every running transaction of the server, and only lock_timeout ends that wait."""
