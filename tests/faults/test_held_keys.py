"""A role that holds keys of its own steps in an open transaction holds up nobody else."""

from __future__ import annotations

import time
from pathlib import Path

from tests.servers import Database, wait_until

KEYS = 60
HELD = """
insert into df.completions (instance_key, step, attempt, outcome)
select key, '3', 1, 'completed' from df.instances where label = 'held'
"""


def test_a_role_that_holds_many_keys_delays_nobody_elses_timers_and_failures(
    database: Database, tmp_path: Path
) -> None:
    database.engine(tmp_path).start()
    database.run(
        "select df.start(df.sleep(1) ~> 'select 1/0', label => 'held') from generate_series(1, %s)",
        [KEYS],
        role="alice",
    )
    with database.connect("alice", autocommit=False) as alice:
        alice.execute(HELD)
        wait_until(lambda: database.run("select 1 from df.completions where run_as = 0 having count(*) = %s", [KEYS]))
        began = time.monotonic()
        failing = "select df.start('select 1/0' ~> 'select 2', id => 'fails')"
        database.run("select df.start(df.sleep(0.2::text), id => 'sleeps')", role="bob")
        database.run(failing, role="bob")
        ended = (
            "select 1 from df.instances where id in ('sleeps', 'fails') and finished_at is not null having count(*) = 2"
        )
        wait_until(lambda: database.run(ended))
        # one lock_timeout a key would be six seconds
        assert time.monotonic() - began < 3
        alice.rollback()
    still = "select 1 where not exists (select from df.instances where label = 'held' and status <> 'failed')"
    wait_until(lambda: database.run(still), timeout=60)
