"""Running what repairs: one statement at a time, by the engine's role, or by an administrator where that one may not.

Only what a finding holds as `statements` is ever run: nothing that drops what may be somebody's, and nothing of which there is
more than one way. What a statement leaves to do (a restart, say) the next look finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import psycopg

from engine.config import Settings
from engine.doctor.findings import MIGRATE, logged_in, one_line
from engine.threads import in_thread
from sql.migrate import MigrateError, migrate


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was run, as whom, and what came of it."""

    condition: str
    statement: str
    role: str
    """Who ran it."""
    error: str
    """Empty: it is done."""

    @property
    def done(self) -> bool:
        """Whether it went through."""
        return not self.error


async def repair(settings: Settings, condition: str, statement: str, admin_dsn: str | None) -> Repair:
    """Run one statement. Raises nothing for what is wrong with the world."""
    made = partial(Repair, condition=condition, statement=statement)
    if statement == MIGRATE:
        try:
            await in_thread(migrate, settings.dsn)
        except MigrateError as error:
            return made(role="", error=f"{one_line(error)} ({error.hint})")
        return made(role="", error="")
    role, wrong, refused = await _run(settings.dsn, statement)
    if refused and admin_dsn is not None:
        role, wrong, _ = await _run(admin_dsn, statement)
    elif refused:
        wrong += f"; role {role} may not do that: run it as a superuser, or give --admin-dsn"
    return made(role=role, error=wrong)


async def _run(dsn: str, statement: str) -> tuple[str, str, bool]:
    """Who ran it, what went wrong, and whether for want of rights."""
    try:
        async with logged_in(dsn) as conn:
            try:
                await conn.execute(statement.encode())
            except psycopg.Error as error:
                return conn.info.user, one_line(error), isinstance(error, psycopg.errors.InsufficientPrivilege)
            return conn.info.user, "", False
    except psycopg.OperationalError as error:
        return "", one_line(error), False
