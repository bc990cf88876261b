"""A row may arrive before it can be seen: no effect runs before what caused it is visible.

A commit that waits for a synchronous standby which never answers is in the log, and decoded, and invisible to every other
session, for as long as a test wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.standby import LOCAL, standby
from tests.servers import Cluster, Database, wait_until
from tests.workflows import World, world


@pytest.fixture(scope="module")
def lasting(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An engine whose own commits wait for no standby, and a sequence that tells whether a statement ran at all."""
    database = server18.database()
    try:
        database.run("alter role engine set synchronous_commit = local")
        with world(database, database.engine(tmp_path_factory.mktemp("engine")).start()) as made:
            made.run(LOCAL)
            made.run("create sequence public.ran", role="alice")
            made.run("create table public.kept (word text)", role="alice")
            # a connection of alice's is open: what follows is about visibility alone
            assert made.outcome("select 1").status == "completed"
            yield made
    finally:
        database.run("alter role engine reset synchronous_commit")
        database.drop()


@pytest.fixture
def here(lasting: World) -> World:
    """The same, as if nothing had run."""
    lasting.run("alter sequence public.ran restart", role="alice")
    lasting.run("truncate public.kept", role="alice")
    return lasting


@contextmanager
def checkpoint_held_up(here: World, table: str) -> Iterator[None]:
    """A checkpoint has come to the point where it writes this table, and waits there."""
    waiting = "select 1 from pg_stat_activity where application_name = 'walflow-leader' and wait_event_type = 'Lock'"
    with here.database.connect(autocommit=False) as holder, ThreadPoolExecutor() as pool:
        # the commit that hangs may have the table locked itself: then this lock waits, and the checkpoint behind it
        lock = pool.submit(holder.execute, f"lock table {table} in share mode".encode())
        wait_until(lambda: here.run(waiting))
        yield
        lock.result()
        holder.rollback()


def ran(here: World) -> bool:
    return bool(here.value("select is_called from public.ran"))


def tried_again_and_again(here: World, times: int = 4, role: str = "alice") -> None:
    """Wait until the wrapper was called that often on connections of the role, or the statement ran after all."""
    seen: set[object] = set()

    def often() -> bool:
        for row in here.run(
            "select pid, query_start from pg_stat_activity where usename = %s and query like 'select df.step%%'", [role]
        ):
            seen.add(row)
        return ran(here) or len(seen) > times

    wait_until(often)


def asked_again_and_again(here: World, function: str, times: int = 4) -> None:
    """Wait until the engine has called a function of its own that often."""
    seen: set[object] = set()

    def often() -> bool:
        query = "select query_start from pg_stat_activity where application_name = 'walflow-leader' and query like %s"
        seen.update(here.run(query, [f"%{function}%"]))
        return len(seen) > times

    wait_until(often)


def folded(here: World, kind: str, count: float) -> None:
    """Wait until the engine has folded that many events of a kind."""
    wait_until(lambda: (here.engine.metric("walflow_events_total", kind=kind) or 0) >= count, what=f"{count} {kind}")


def events(here: World, kind: str) -> float:
    return here.engine.metric("walflow_events_total", kind=kind) or 0


def test_a_step_does_not_run_before_its_instance_is_visible(here: World) -> None:
    before = events(here, "start")
    with standby(here) as replica:
        replica.commit(
            here, "insert into df.instances (id, graph) values ('unseen-start', 'select nextval(''public.ran'')')"
        )
        folded(here, "start", before + 1)
        tried_again_and_again(here)
        assert not here.run("select 1 from df.instances where id = 'unseen-start'")
        assert not ran(here)
    assert here.end("unseen-start").rows == [{"nextval": 1}]
    assert here.value("select max(repetitions) from df.completions") == 0


def test_a_step_does_not_run_before_the_step_before_it_is_visible(here: World) -> None:
    first = "insert into public.kept values ('first')"
    id = here.value(
        "select df.seq(df.wait_for_signal('go'), df.seq(%s, %s))",
        [first, "select nextval('public.ran'), (select count(*) from public.kept) as seen"],
    )
    id = here.start(id)
    here.wait_for(id, "running")
    before = events(here, "completion")
    with standby(here) as replica:
        with here.database.connect("alice") as sender:
            sender.execute(LOCAL)
            sender.execute("select df.signal(%s, 'go')", [id])
        wait_until(lambda: replica.hanging(here, "alice"))  # the first step's commit
        folded(here, "completion", before + 1)
        tried_again_and_again(here)
        assert not here.run("select 1 from public.kept")
        assert not ran(here)
    assert here.end(id).rows == [{"nextval": 1, "seen": 1}]


def test_a_step_does_not_run_before_the_signal_that_let_it_is_visible(here: World) -> None:
    id = here.start(here.run("select df.seq(df.wait_for_signal('go'), %s)", ["select nextval('public.ran')"])[0][0])
    here.wait_for(id, "running")
    before = events(here, "signal")
    with standby(here) as replica:
        replica.commit(here, f"select df.signal('{id}', 'go')")
        folded(here, "signal", before + 1)
        tried_again_and_again(here)
        assert not ran(here)
    assert here.end(id).rows == [{"nextval": 1}]


def test_a_timer_does_not_fire_before_its_instance_is_visible(here: World) -> None:
    before = events(here, "start")
    with standby(here) as replica:
        replica.commit(here, "select df.start(df.sleep('0'), id => 'unseen-timer')")
        folded(here, "start", before + 1)
        asked_again_and_again(here, "df.record_completions")
        assert not here.run("select 1 from df.completions where run_as = 0")
    assert here.end("unseen-timer").status == "completed"


def test_a_child_does_not_start_before_what_its_parent_was_started_with_is_visible(here: World) -> None:
    before = events(here, "start")
    with standby(here) as replica:
        replica.commit(here, "select df.start(df.call_child('select 7 as n'), id => 'unseen-parent')")
        folded(here, "start", before + 1)
        asked_again_and_again(here, "df.start_children")
        assert not here.run("select 1 from df.instances where parent_key is not null")
    assert here.end("unseen-parent").rows == [{"n": 7}]


def test_a_wait_does_not_begin_before_its_cause_is_visible(here: World) -> None:
    here.end(here.start("select 7 as n", id="seen"))
    before = events(here, "start")
    with standby(here) as replica:
        replica.commit(here, "select df.start(df.await_instance('seen'), id => 'unseen-waiter')")
        folded(here, "start", before + 1)
        asked_again_and_again(here, "df.begin_waits")
        assert not here.run("select 1 from df.waits")
    assert here.end("unseen-waiter").status == "completed"


def test_an_outcome_is_not_recorded_before_its_cause_is_visible(here: World) -> None:
    """The cancellation is invisible: so is its effect."""
    id = here.start("select pg_advisory_xact_lock(hashtext('unseen')), pg_sleep(3600)")
    wait_until(lambda: here.running("unseen"))
    before = events(here, "cancellation")
    with standby(here) as replica:
        replica.commit(here, f"select df.cancel('{id}')")
        folded(here, "cancellation", before + 1)
        asked_again_and_again(here, "df.record_completions")
        assert here.history(id) == []
        assert here.status(id) == "running"
    assert here.end(id).status == "cancelled"
    assert here.history(id) == [("1", "cancelled")]


@pytest.mark.parametrize(
    ("id", "query"),
    [
        ("start", "insert into df.instances (id, graph) values ('start-unseen', 'select 1')"),
        ("signal", "select df.signal('signal', 'go')"),
        ("cancel", "select df.cancel('cancel')"),
    ],
)
def test_a_checkpoint_does_not_pass_a_row_that_it_cannot_see(here: World, id: str, query: str) -> None:
    here.start(here.build("select df.wait_for_signal('go')"), id=id)
    here.wait_for(id, "running")
    with standby(here) as replica:
        position = here.value("select pg_current_wal_insert_lsn()")
        replica.commit(here, query)
        asked_again_and_again(here, "df.write_checkpoint")
        assert here.value("select lsn <= %s from df.checkpoint", [position])
        confirmed = "select confirmed_flush_lsn <= %s from pg_replication_slots where slot_name = %s"
        assert here.value(confirmed, [position, here.database.slot])
        here.engine.kill()
        here.engine.start()
        assert here.value("select lsn <= %s from df.checkpoint", [position])
    if id == "start":
        assert here.end("start-unseen").status == "completed"
        here.run("select df.signal('start', 'go')", role="alice")
    assert here.end(id).status == ("cancelled" if id == "cancel" else "completed")


def test_a_status_is_not_written_before_the_steps_that_led_to_it_are_visible(here: World) -> None:
    with standby(here) as replica:
        with here.database.connect("alice") as starter:
            starter.execute(LOCAL)
            starter.execute(
                "insert into df.instances (id, graph) values ('done-unseen', 'insert into public.kept values (''done'')')"
            )
        wait_until(lambda: replica.hanging(here, "alice"))  # the step's commit
        asked_again_and_again(here, "df.write_checkpoint")
        assert here.status("done-unseen") != "completed"
        assert here.history("done-unseen") == []
    assert here.end("done-unseen").status == "completed"
    assert here.history("done-unseen") == [("1", "completed")]


def test_a_mark_on_a_signal_that_becomes_visible_in_the_middle_of_a_checkpoint_is_not_missed(here: World) -> None:
    """An unmarked signal would be folded again after the loss of the slot."""
    for id in (
        "finished",
        "marked",
    ):  # both have ended: with a status or a state a checkpoint waits before anything else
        here.start("select 1", id=id)
        here.end(id)
    with standby(here) as replica:
        cancel = "insert into df.cancellations (instance_id) values ('finished')"
        signal = "insert into df.signals (instance_id, name) select 'marked', 'other' from c"
        replica.commit(here, f"with c as ({cancel} returning 1) {signal}")
        with checkpoint_held_up(here, "df.cancellations"):  # which are marked after signals
            replica.release()
    wait_until(lambda: here.run("select 1 from df.signals where name = 'other' and folded"))


def test_when_no_commit_of_anybody_is_answered_nothing_runs_and_afterwards_everything_once(
    database: Database, tmp_path: Path
) -> None:
    """The engine's own commits hang as well."""
    with world(database, database.engine(tmp_path).start()) as here:
        here.run(LOCAL)
        here.run("create sequence public.ran", role="alice")
        here.run("create table public.kept (word text)", role="alice")
        assert here.outcome("select 1").status == "completed"
        with standby(here) as replica:
            for number in range(3):
                step = f"insert into public.kept values ({number} + 0 * nextval(''public.ran''))"
                replica.commit(here, f"select df.start(df.seq('{step}', df.sleep('0.1')), id => 'n{number}')")
            wait_until(lambda: here.engine.status()["instances"] == 3)
            tried_again_and_again(here, times=2)
            assert not ran(here)
            assert not here.run("select 1 from public.kept")
            assert here.engine.returncode is None
        for number in range(3):
            assert here.end(f"n{number}").status == "completed"
        assert sorted(here.run("select word from public.kept")) == [("0",), ("1",), ("2",)]


def test_a_scan_waits_for_what_the_new_slot_has_seen_and_nobody_else_can_see_yet(here: World) -> None:
    """The slot comes to be behind two transactions, one after the other; what commits between these is in its snapshot.

    A checkpoint after the scan would take the row for one that somebody removed, and drop the state.
    """
    with standby(here) as replica:
        here.kill()
        here.run("select pg_drop_replication_slot(%s)", [here.database.slot])
        with here.database.connect(autocommit=False) as first, here.database.connect(autocommit=False) as second:
            first.execute("select pg_current_xact_id()")
            here.engine.spawn()
            says(here, f"backend {first.info.backend_pid} ")
            second.execute("select pg_current_xact_id()")
            first.rollback()
            says(here, f"backend {second.info.backend_pid} ")
            query = "insert into df.instances (id, graph) values ('unseen-scan', 'select nextval(''public.ran'')')"
            replica.commit(here, query)
            second.rollback()
        says(here, "waiting until all that is committed can be seen")
        assert not here.run("select 1 from df.instances where id = 'unseen-scan'")
    here.engine.wait_ready()
    assert here.end("unseen-scan").rows == [{"nextval": 1}]


def says(here: World, what: str) -> None:
    """Wait until the engine says what it waits for."""
    wait_until(lambda: what in here.engine.get("/readyz")[1], what=f"{what}: {here.engine.get('/readyz')}")
