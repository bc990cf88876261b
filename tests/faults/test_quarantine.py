"""One workflow's trouble stays its own: a fold that raises quarantines its instance, until a release lets it go on."""

from __future__ import annotations

import time
from pathlib import Path

from engine.limits import STASH_COMPLETIONS
from tests.servers import Database, wait_until
from tests.workflows import World, world

TWO_WAITS = (
    "select df.seq_all('select 1', df.wait_for_signal('go'), 'select 2', df.wait_for_signal('on'), 'select 3 as last')"
)
FLOOD = """
insert into df.completions (instance_key, step, attempt, outcome, result)
select %s, '8.' || i, 1, 'completed', '{"rows":[],"row_count":0}' from generate_series(1, %s) i
"""


def quarantined(here: World, id: str) -> str | None:
    reason: str | None = here.value("select quarantined from df.instances where id = %s", [id])
    return reason


def waiting(here: World, id: str) -> str:
    here.start(here.build(TWO_WAITS), id=id)
    wait_until(lambda: here.history(id))
    return id


def corrupt(here: World, id: str) -> str:
    """Spoil the stored state of an instance; returns what it was."""
    state: str = here.value("select state from df.states where instance_key = %s", [here.key(id)])
    here.run("update df.states set state = left(state, -10) where instance_key = %s", [here.key(id)])
    return state


def test_an_instance_whose_state_cannot_be_read_is_quarantined_and_others_go_on(
    database: Database, tmp_path: Path
) -> None:
    with world(database, database.engine(tmp_path).start()) as here:
        bad, good = waiting(here, "bad"), waiting(here, "good")
        wait_until(lambda: here.value("select count(*) from df.states") == 2)
        here.kill()
        state = corrupt(here, bad)
        here.run("select df.signal('bad', 'go'), df.signal('good', 'go')", role="alice")
        here.engine.start()
        reason = wait_until(lambda: quarantined(here, bad))
        assert "not readable" in reason
        assert here.status(bad) == "running"
        here.run("select df.signal('good', 'on')", role="alice")
        assert here.end(good).rows == [{"last": 3}]
        assert here.outcome("select 1").status == "completed"
        assert here.engine.metric("walflow_quarantined_total") == 1

        # nothing is written over what could not be read; repaired, it is read again, and released it goes on
        here.run("select df.signal('bad', 'on')", role="alice")
        assert here.outcome("select 1").status == "completed"
        here.kill()
        here.run("update df.states set state = %s where instance_key = %s", [state, here.key(bad)])
        here.engine.start()
        assert here.outcome("select 1").status == "completed"
        assert quarantined(here, bad) == reason
        here.run("insert into df.releases (instance_id) values ('bad')", role="alice")
        wait_until(lambda: quarantined(here, bad) is None)
        assert here.end(bad).rows == [{"last": 3}]
        assert [outcome for _, outcome in here.history(bad)] == ["completed"] * 3
        assert not here.run("select 1 from df.inbox")


def test_a_fold_that_raises_quarantines_its_instance_and_a_release_folds_what_was_set_aside(
    database: Database, tmp_path: Path
) -> None:
    """A role that forges completions for steps not reached yet, more than are kept."""
    graph = (
        "select df.seq_all(df.wait_for_signal('go'), 'select 1', "
        "df.loop('select 2', 'select false'), df.wait_for_signal('on'), 'select 3 as last')"
    )
    with world(database, database.engine(tmp_path).start()) as here:
        here.start(here.build(graph), id="flooded")
        here.wait_for("flooded", "running")
        before = time.monotonic()
        here.run(FLOOD, [here.key("flooded"), STASH_COMPLETIONS + 5], role="alice")
        reason = wait_until(lambda: quarantined(here, "flooded"))
        assert f"more than {STASH_COMPLETIONS} completions" in reason
        assert time.monotonic() - before < 15
        assert here.status("flooded") == "running"
        assert here.outcome("select 1", role="bob").status == "completed"
        here.run("select df.signal('flooded', 'go')", role="alice")
        here.run("select df.cancel('flooded')", role="alice")
        here.kill()
        here.engine.start()  # what was set aside is in df.inbox
        assert quarantined(here, "flooded") == reason
        wait_until(lambda: here.value("select count(*) from df.inbox") == 7)

        # released while the cause is still there, it is quarantined again
        here.run("insert into df.releases (instance_id) values ('flooded')", role="alice")
        wait_until(lambda: here.value("select count(*) from df.releases where folded") == 1)
        wait_until(lambda: quarantined(here, "flooded") == reason)
        assert here.status("flooded") == "running"

        # without it, everything is folded in the order in which it came
        here.run("delete from df.completions where step like '8.%%'")
        here.run("insert into df.releases (instance_id) values ('flooded')", role="alice")
        wait_until(lambda: quarantined(here, "flooded") is None)
        assert here.end("flooded").status == "cancelled"
        assert not here.run("select 1 from df.inbox")


def test_a_release_of_an_instance_that_is_not_quarantined_does_nothing(database: Database, tmp_path: Path) -> None:
    with world(database, database.engine(tmp_path).start()) as here:
        waiting(here, "fine")
        here.run("insert into df.releases (instance_id) values ('fine')", role="alice")
        wait_until(lambda: here.value("select count(*) from df.releases where folded") == 1)
        here.run("select df.signal('fine', 'go'), df.signal('fine', 'on')", role="alice")
        assert here.end("fine").rows == [{"last": 3}]


def test_a_quarantined_instance_survives_the_loss_of_the_slot(database: Database, tmp_path: Path) -> None:
    with world(database, database.engine(tmp_path).start()) as here:
        waiting(here, "bad")
        wait_until(lambda: here.value("select count(*) from df.states") == 1)
        here.kill()
        state = corrupt(here, "bad")
        here.run(
            "select df.signal('bad', 'go')", role="alice"
        )  # it sleeps, and is only read when something comes for it
        here.engine.start()
        wait_until(lambda: quarantined(here, "bad"))
        assert here.outcome("select 1").status == "completed"
        here.kill()
        here.run("update df.states set state = %s where instance_key = %s", [state, here.key("bad")])
        wait_until(
            lambda: here.value("select not active from pg_replication_slots where slot_name = %s", [database.slot])
        )
        here.run("select pg_drop_replication_slot(%s)", [database.slot])
        here.run("select df.signal('bad', 'on')", role="alice")
        here.engine.start()
        assert quarantined(here, "bad")
        here.run("insert into df.releases (instance_id) values ('bad')", role="alice")
        wait_until(lambda: quarantined(here, "bad") is None)
        assert here.end("bad").rows == [{"last": 3}]


def test_a_row_that_somebody_removed_takes_its_state_with_it(database: Database, tmp_path: Path) -> None:
    """A truncate by an administrator: checkpoints go on, states of what is gone are dropped."""
    with world(database, database.engine(tmp_path).start()) as here:
        waiting(here, "gone")
        waiting(here, "stays")
        wait_until(lambda: here.value("select count(*) from df.states") == 2)
        key = here.key("gone")
        here.run("delete from df.instances where id = 'gone'")
        here.run(
            "insert into df.completions (run_as, instance_key, step, attempt, outcome, written_by) "
            "select submitter, %s, '9', 1, 'completed', submitter from df.instances limit 1",
            [key],
        )
        with here.connection().transaction():  # the log brings it, and no checkpoint ever finds its row
            here.run("set local role alice")
            here.start(here.build(TWO_WAITS), id="never", role="postgres")
            here.run("reset role")
            here.run("delete from df.instances where id = 'never'")
        here.run("select df.signal('stays', 'go'), df.signal('stays', 'on')", role="alice")
        assert here.end("stays").rows == [{"last": 3}]
        assert here.outcome("select 1").status == "completed"
        assert here.engine.returncode is None
        assert here.run("select instance_key from df.states where instance_key <> %s", [key]) == []
