"""What a new leader begins: nothing before it has read what was asked for and taken back meanwhile, and nothing a second time.

A sequence tells whether a statement ran at all: no transaction takes it back.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers import Database, wait_until
from tests.workflows import World, world

MANY: Final = 10_000
CALLED: Final = """
select pid from pg_stat_activity
 where usename = %s and application_name = 'walflow' and state = 'idle' and query like 'select df.step%%'
"""


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A backend that holds its connection and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def begun(here: World) -> int:
    """How often the statement ran, whatever became of it."""
    return int(here.value("select case when is_called then last_value else 0 end from public.ran"))


def test_a_step_that_commits_after_the_takeover_is_not_begun_a_second_time(database: Database, tmp_path: Path) -> None:
    """The log has not told of it yet when the new leader comes to the step: it looks at the key first."""
    role = database.new_role("slow")
    with world(database, database.engine(tmp_path).start()) as here, database.connect() as gate:
        here.run("create sequence public.ran", role=role)
        gate.execute("select pg_advisory_lock(1)")
        id = here.start("select nextval('public.ran'), pg_advisory_xact_lock(1)", role=role)
        wait_until(lambda: begun(here) == 1)
        before = here.backends(role)
        here.engine.kill()
        here.run(f"alter role {role} connection limit 0")  # so the new leader does not end that backend
        here.engine.start()
        with frozen(here.sender()):
            gate.execute("select pg_advisory_unlock(1)")
            wait_until(lambda: here.history(id) == [("1", "completed")])
            here.run(f"alter role {role} connection limit -1")
            wait_until(lambda: {pid for (pid,) in here.run(CALLED, [role])} - before)
            assert begun(here) == 1
        assert here.end(id).status == "completed"
        assert begun(here) == 1


def test_what_was_asked_for_and_taken_back_while_no_engine_ran_never_begins(database: Database, tmp_path: Path) -> None:
    """The log is long: an effect that did not wait for its end would be begun before the cancellation is read."""
    with world(database, database.engine(tmp_path).start()) as here:
        here.run("create sequence public.ran", role="alice")
        sleeper = here.start(here.build("select df.wait_for_signal('go')"))
        here.wait_for(sleeper, "running")
        here.engine.kill()
        id = here.start("select nextval('public.ran')")
        signals = "insert into df.signals (instance_id, name) select %s, 'other' from generate_series(1, %s)"
        here.run(signals, [sleeper, MANY], role="alice")
        here.run("select df.cancel(%s)", [id], role="alice")
        here.engine.start()
        assert here.end(id).status == "cancelled"
        assert begun(here) == 0
