"""What surrounds an engine: the server's connections, its log, the steps' logins, a clock, chance.

Theory of operation. Everything that an engine asks of the world it asks of its `Host`, and nothing else of it opens a connection,
reads a clock or draws a number. `engine.postgres` is the host that is a PostgreSQL server.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any, Protocol

from cdc.lsn import Lsn
from cdc.progress import Progress
from cdc.slot import CreatedSlot, SlotState, SystemIdentity
from cdc.stream import StreamMessage
from engine.doctor.findings import Finding
from engine.executors.login import Logins
from engine.store import Store
from engine.story import Told
from engine.upkeep import Leader


class Stream(Protocol):
    """A stream of the log that is read: `cdc.stream.Stream` is one."""

    @property
    def position(self) -> Lsn:
        """Everything before it was delivered."""

    @property
    def progress(self) -> Progress: ...

    @property
    def in_transaction(self) -> bool: ...

    def start(self) -> None: ...

    def send_status(self, reply_wanted: bool = False) -> None: ...

    def confirm(self, position: Lsn) -> None:
        """A checkpoint at `position` has committed."""

    async def close(self) -> bool: ...


class Started(Protocol):
    """START_REPLICATION was answered, and nobody reads yet."""

    def holding(self) -> AbstractAsyncContextManager[None]:
        """Keeps it alive meanwhile, confirming nothing."""

    def stream(
        self, stored: Lsn, *, on_message: Callable[[StreamMessage], None], on_end: Callable[[BaseException], None]
    ) -> Stream:
        """What reads it from now on, once it is started. `stored`: the position of the last checkpoint."""


class Replication(Protocol):
    """A connection that understands replication commands. Raises cdc's errors, and Lost."""

    @property
    def pid(self) -> int: ...

    async def identify_system(self) -> SystemIdentity: ...

    async def slot(self, name: str) -> SlotState | None: ...

    async def drop_slot(self, name: str) -> bool:
        """Whether it existed. Raises SlotInUse."""

    async def create_slot(self, name: str) -> CreatedSlot:
        """With a snapshot that ends exactly where the slot starts. Raises SlotNotCreated."""

    async def start(self, slot: str, publication: str) -> Started:
        """Raises SlotInUse, SlotLost, StreamEnded."""

    async def close(self) -> None: ...


class Host(Protocol):
    """See the module's docstring."""

    @property
    def chance(self) -> Random:
        """Where jitter comes from."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def diagnose(self) -> Sequence[Finding]:
        """Whether the database is fit to run on."""

    async def store(self, name: str, *, lock_timeout_ms: int | None = None) -> Store:
        """A connection of the engine's role, under this application name. Raises Lost."""

    async def replication(self, name: str) -> Replication:
        """Raises Lost."""

    def logins(self, lookup: Store) -> Logins:
        """How submitting roles are logged in; their names are found on `lookup`."""

    def told(self, system: str) -> Told | None:
        """Who is told the story of instances, if anybody is. `system`: the database system's identifier."""

    def upkeep(self, leader: Leader) -> Coroutine[Any, Any, None]:
        """What removes what is over, for as long as it runs."""
