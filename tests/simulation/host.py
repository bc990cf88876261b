"""What surrounds one engine: `engine.host.Host` over a `Server`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from engine.doctor.findings import Finding, Severity
from engine.upkeep import Leader
from tests.simulation.clients import OWNER, Client
from tests.simulation.log import Replication
from tests.simulation.steps import Logins
from tests.simulation.store import Store


class Host(Client):
    """See the module's docstring."""

    async def diagnose(self) -> Sequence[Finding]:
        await asyncio.sleep(self.server.network_seconds())
        if self.server.away:
            return [Finding(condition="connection", severity=Severity.ERROR, what="no answer", away=True)]
        return []

    async def store(self, name: str, *, lock_timeout_ms: int | None = None) -> Store:
        store = Store(self, await self.backend(OWNER, name))
        store.backend.lock_timeout = None if lock_timeout_ms is None else lock_timeout_ms / 1000
        return store

    async def replication(self, name: str) -> Replication:
        return Replication(self, await self.backend(OWNER, name))

    def logins(self, lookup: Any) -> Logins:
        return Logins(self)

    def told(self, system: str) -> None:
        """Nobody."""

    async def upkeep(self, leader: Leader) -> None:
        """Nothing is old enough to be removed."""
        await asyncio.get_running_loop().create_future()
