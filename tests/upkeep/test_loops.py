"""Early iterations of a loop that goes on: their history goes, and the loop goes on as if it were there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine.codec import encode
from tests.engine.machinery import Run, cell, loop, seq, sql
from tests.faults.test_slot_loss import drop, scanned
from tests.servers import Database, wait_until
from tests.upkeep.shelf import EPOCH, Shelf
from tests.upkeep.test_retention import PATIENCE, heartbeat, look_and_confirm, upkeep
from tests.workflows import World, world

# --- by hand ----------------------------------------------------------------------------------------------------------

GRAPH = "select df.seq('select 1', df.loop(df.seq('select 2', df.loop('select 3', 'select false')), 'select true'))"
"""Nodes: 1 THEN, 2 SQL, 3 LOOP, 4 THEN, 5 SQL, 6 LOOP, 7 SQL, 8 its condition, 9 the outer condition."""


class Looping:
    """An instance in iteration 10 of its outer loop, and 6 of its inner one, with a completion of each step so far."""

    def __init__(self, shelf: Shelf, kept: str = "4") -> None:
        self.shelf = shelf
        self.key = shelf.start("loop", shelf.value(GRAPH))
        shelf.run("update df.instances set status = 'running'")
        shelf.run("update df.settings set value = %s where name = 'loop_history'", [kept])
        self.state('{"f":["loop",3,[],10,0]},{"f":["loop",6,[10],6,0]}')
        steps = ["2", *(f"{node}.{outer}" for node in (3, 5, 9) for outer in range(1, 11))]
        steps += [f"{node}.{outer}.{inner}" for node in (6, 7, 8) for outer in range(1, 11) for inner in range(1, 7)]
        for step in steps:
            self.complete(step)

    def state(self, text: str) -> None:
        self.shelf.run(
            "insert into df.states (instance_key, version, state) values (%s, 1, %s) "
            "on conflict (instance_key) do update set state = excluded.state",
            [self.key, text],
        )

    def complete(self, step: str, role: str = "alice", attempt: int = 1) -> None:
        self.shelf.run(
            "insert into df.completions (run_as, instance_key, step, attempt, outcome) "
            "values (%s::regrole, %s, %s, %s, 'completed')",
            [role, self.key, step, attempt],
        )

    def find(
        self, *, after: int = 0, limit: int = 1000
    ) -> tuple[int | None, list[str], int, bool, str, str, list[int]]:
        query = "select key, steps, after, ended, seen, xid::text, backends from df.find_old_iterations(%s, 1000, %s)"
        key, steps, *rest = self.shelf.run(query, [after, limit])[0]
        return key, sorted(steps or []), *rest

    def remove(self, found: Any = None) -> int:
        """Removes what was found, as upkeep does: again, where the answer is *not now*."""
        removed: int | None = None

        def tried() -> bool:
            nonlocal removed
            removed = self.try_to_remove(found)
            return removed is not None

        wait_until(tried)
        assert removed is not None
        return removed

    def try_to_remove(
        self, found: Any = None, *, epoch: int = EPOCH, confirm: bool = True, slot: str = ""
    ) -> int | None:
        key, steps, _, _, seen, xid, backends = found or self.find()
        if confirm:
            self.shelf.confirm()
        query = "select df.remove_old_iterations(%s, %s, %s, %s, %s::pg_lsn, %s::xid8, %s, '{}')"
        parameters = [epoch, slot or self.shelf.database.slot, key, steps, seen, xid, backends]
        removed = self.shelf.value(query, parameters)
        return None if removed is None else int(removed)

    def steps(self) -> set[str]:
        return {step for (step,) in self.shelf.run("select step from df.completions")}


@pytest.fixture
def looping(shelf: Shelf) -> Looping:
    return Looping(shelf)


def old(*, outer: int = 6, inner: int = 2) -> set[str]:
    """What is more than four iterations behind."""
    steps = {f"{node}.{i}" for node in (3, 5, 9) for i in range(1, outer + 1)}
    steps |= {f"{node}.{i}.{j}" for node in (6, 7, 8) for i in range(1, outer + 1) for j in range(1, 7)}
    return steps | {f"{node}.10.{j}" for node in (6, 7, 8) for j in range(1, inner + 1)}


def test_what_is_so_many_iterations_behind_its_loop_goes_and_no_more(looping: Looping) -> None:
    before = looping.steps()
    key, steps, *_ = looping.find()
    assert (key, set(steps)) == (looping.key, old())
    assert looping.remove() == len(old())
    assert looping.steps() == before - old()
    assert looping.find()[0] is None
    assert looping.shelf.value("select pruned from df.instances") == len(old())


def test_every_attempt_and_whatever_the_engine_itself_did_goes(looping: Looping) -> None:
    looping.complete("5.1", attempt=2)
    looping.shelf.answer(looping.key, "5.1.1")
    assert looping.remove() == len(old()) + 2


@pytest.mark.parametrize("kept", ["0", "all", "", "-1", "10", "99999999999999999999"])
def test_a_limit_that_is_not_reached_or_is_none_removes_nothing(shelf: Shelf, kept: str) -> None:
    assert Looping(shelf, kept).find()[0] is None


def test_a_state_is_looked_through_in_pieces(looping: Looping) -> None:
    total = 0
    while (found := looping.find(limit=50))[0] is not None:
        assert len(found[1]) <= 50
        total += looping.remove(found)
    assert total == len(old())


@pytest.mark.parametrize(
    "named",
    ['{"r":"%s"}', '[["%s",1,null]]', '["e",1,0,"%s",1,"completed",null,null]', '"x","%s"'],
    ids=["a result", "an abandoned step", "a completion kept for later", "anything"],
)
@pytest.mark.parametrize("late", [False, True], ids=["when looking", "when removing"])
def test_a_step_that_the_state_names_stays(looping: Looping, named: str, late: bool) -> None:
    found = looping.find()
    looping.state('{"f":["loop",3,[],10,0]},{"f":["loop",6,[10],6,0]},' + named % "7.3.4")
    assert looping.remove(found if late else None) == len(old()) - 1
    assert "7.3.4" in looping.steps()
    assert looping.find()[0] is None


def test_steps_of_strangers_of_other_nodes_and_such_as_are_none_stay(looping: Looping) -> None:
    for step in ("5.1", "x", "5.1.", "5..1", "5.01", "5.1.1.1e3", "99999999999.1", "2.1", "10.1"):
        looping.complete(step, "bob")
        if step != "5.1":
            looping.complete(step)
    assert looping.remove() == len(old())


def test_taken_signals_and_answered_waits_of_these_iterations_go_and_no_others(looping: Looping) -> None:
    shelf, key = looping.shelf, looping.key
    other = shelf.start("other")
    for step in ("5.1", "5.9", None):
        shelf.database.run("insert into df.signals (instance_id, name) values ('loop', 'go')", role="alice")
        shelf.run("update df.signals set folded = true, taken_by = %s where not folded", [step])
    shelf.database.run("insert into df.signals (instance_id, name) values ('loop', 'go')", role="alice")
    shelf.run("update df.signals set taken_by = '5.4' where not folded")
    for step, folded in (("5.2", True), ("5.3", False), ("5.8", True)):
        shelf.wait(other, key, step=step, folded=folded)
    looping.remove()
    assert shelf.run("select taken_by from df.signals order by taken_by") == [("5.4",), ("5.9",), (None,)]
    assert shelf.run("select waiter_step from df.waits order by waiter_step") == [("5.3",), ("5.8",)]


def test_a_signal_that_the_state_names_stays(looping: Looping) -> None:
    shelf = looping.shelf
    shelf.database.run("insert into df.signals (instance_id, name) values ('loop', 'go')", role="alice")
    shelf.run("update df.signals set folded = true, taken_by = '5.1'")
    event = shelf.value("select event_id::text from df.signals")
    looping.state(f'{{"f":["loop",3,[],10,0]}},[["{event}",1,"go",null]]')
    looping.remove()
    assert shelf.value("select count(*) from df.signals") == 1


def test_a_signal_taken_by_a_step_without_a_completion_is_found(looping: Looping) -> None:
    shelf = looping.shelf
    shelf.run("delete from df.completions")
    shelf.database.run("insert into df.signals (instance_id, name) values ('loop', 'go')", role="alice")
    shelf.run("update df.signals set folded = true, taken_by = '5.1'")
    assert looping.find()[1] == ["5.1"]
    assert looping.remove() == 1


KEPT = {
    "it is quarantined": ("update df.instances set quarantined = 'why'", "update df.instances set quarantined = null"),
    "it has ended": ("update df.instances set status = 'completed'", "update df.instances set status = 'running'"),
    "an event of it waits": (
        "insert into df.inbox select key, '0/1', 1, 'completion', '[]', now(), '3' from df.instances",
        "delete from df.inbox",
    ),
    "its state is gone": (
        "create table public.away as select * from df.states; delete from df.states",
        "insert into df.states select * from public.away",
    ),
}


@pytest.mark.parametrize("why", KEPT)
def test_all_is_kept_while(looping: Looping, why: str) -> None:
    found, before = looping.find(), looping.steps()
    keeps, lets_go = KEPT[why]
    looping.shelf.run(keeps)
    assert looping.try_to_remove(found) is None
    assert looping.steps() == before
    looping.shelf.run(lets_go)
    assert looping.remove(found) == len(old())


def test_all_is_kept_before_the_position_is_confirmed_and_for_another_slot(looping: Looping) -> None:
    found = looping.find()
    assert looping.try_to_remove(found, confirm=False) is None
    assert looping.try_to_remove(found, slot="another") is None
    assert looping.remove(found) == len(old())


def test_all_is_kept_while_an_old_backend_may_run_a_step(looping: Looping) -> None:
    with psycopg.connect(looping.shelf.database.dsn("alice"), application_name="walflow"):
        found = looping.find()
        assert looping.try_to_remove(found) is None
    assert looping.remove(found) == len(old())


def test_an_engine_that_does_not_lead_removes_nothing(looping: Looping) -> None:
    with pytest.raises(psycopg.DatabaseError) as caught:
        looping.try_to_remove(epoch=EPOCH + 1)
    assert caught.value.sqlstate == "DF001"


def test_an_open_loop_stands_in_the_stored_state_as_it_is_looked_for(shelf: Shelf) -> None:
    """The one thing that the schema knows of how states are written."""
    run = Run(seq(sql(), loop(seq(sql(), loop(sql(), sql())), sql()))).start().done("2").done("5.1")
    for inner in range(1, 4):
        run.done(f"7.1.{inner}").done(f"8.1.{inner}", cell(True))
    text = encode(run.state, run.subject.scope)
    loops = shelf.run(r"""select regexp_matches(%s, '\["loop",([0-9]+),\[([0-9,]*)\],([0-9]+),', 'g')""", [text])
    assert sorted(found for (found,) in loops) == [["3", "", "1"], ["6", "1", "4"]]


def test_one_look_removes_all_of_it_a_little_at_a_time(looping: Looping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.upkeep.STEPS", 10)
    before = looping.steps()
    asyncio.run(look_and_confirm(upkeep(looping.shelf), looping.shelf))
    assert looping.steps() == before - old()


# --- with an engine ---------------------------------------------------------------------------------------------------

LOOKING_OFTEN = "2400ms"
"""A retention that makes upkeep look ten times a second."""
TABLES = """
create table public.done (i int generated always as identity, at timestamptz default clock_timestamp());
create table public.stop (i int)
"""
GO_ON = "'select not exists (select from public.stop)'"
DO = "'insert into public.done default values returning i, repeat(''x'', 2000) as long'"


def setting(here: World, kept: int) -> None:
    here.run("update df.settings set value = %s where name = 'loop_history'", [str(kept)])


def pruned(here: World, id: str, more_than: int = 0) -> int:
    def removed() -> int:
        heartbeat(here)
        found = here.value("select coalesce(pruned, 0) from df.instances where id = %s", [id])
        return int(found) if found > more_than else 0

    return wait_until(removed, PATIENCE, "history is removed")


def iterations(here: World, id: str) -> int:
    """How many there were: those of the last ones are kept."""
    query = (
        "select max(split_part(step, '.', 2)::int) from df.completions where instance_key = %s and step like '%%.%%'"
    )
    return int(here.value(query, [here.key(id)]))


def test_a_loop_goes_on_exactly_once_while_its_history_is_removed(database: Database, tmp_path: Path) -> None:
    """A result of the first iteration, too long for the state, is read in the last ones."""
    engine = database.engine(tmp_path, retention=LOOKING_OFTEN).start()
    with world(database, engine) as here:
        here.run(TABLES, role="alice")
        setting(here, 5)
        graph = here.build(
            "select df.loop(df.seq_all("
            f"df.as({DO}, 'now'), df.if('select $now.i = 1', df.as({DO}, 'first'), 'select 1'), "
            f"'select 1 / ($first.i - 1), length($first.long)'), {GO_ON}, every => '10 milliseconds')"
        )
        id = here.start(graph)
        before = pruned(here, id)
        engine.kill()
        engine.start()
        pruned(here, id, more_than=before + 100)
        here.run("insert into public.stop values (1)", role="alice")
        outcome = here.end(id, PATIENCE)
        assert outcome.status == "completed", outcome
        assert here.value("select count(*) from public.done") == iterations(here, id) + 1


def test_a_slot_that_is_lost_after_history_was_removed_loses_and_repeats_nothing(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path, retention=LOOKING_OFTEN).start()
    with world(database, engine) as here:
        here.run(TABLES, role="alice")
        setting(here, 3)
        body = f"df.seq_all(df.race({DO}, df.sleep(60)), df.wait_for_signal('go', 0.02), df.join({DO}, 'select 1'))"
        id = here.start(here.build(f"select df.loop({body}, {GO_ON})"))
        before = 0
        for round in range(1, 4):
            here.run("insert into df.signals (instance_id, name) values (%s, 'go')", [id], role="alice")
            before = pruned(here, id, more_than=before + 20)
            if round == 2:
                engine.kill()
                drop(here)
                engine.start()
            else:
                drop(here)
            wait_until(lambda: scanned(engine) > round, PATIENCE)  # noqa: B023 (called here)
        engine.wait_ready()
        pruned(here, id, more_than=before + 20)
        here.run("insert into public.stop values (1)", role="alice")
        outcome = here.end(id, PATIENCE)
        assert outcome.status == "completed", outcome
        assert here.value("select count(*) from public.done") == 2 * iterations(here, id)


def test_the_history_and_the_generations_show_what_is_left_and_say_so(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, retention=LOOKING_OFTEN).start()
    with world(database, engine) as here:
        setting(here, 3)
        id = here.start(here.build("select df.loop(df.seq('select 1', df.sleep('0.02')))"))
        wait_until(lambda: here.value("select df.generations(key, graph, started_at) from df.instances") > 30, PATIENCE)
        pruned(here, id, more_than=30)
        engine.terminate()
        generations = here.run("select execution_id, event_count from df.instance_executions(%s, 100)", [id], "alice")
        assert len(generations) < generations[0][0]
        assert all(count > 0 for _, count in generations[1:])
        note = here.value("select note from df.history(%s) where event = 'pruned'", [id], "alice")
        count = here.value("select pruned from df.instances")
        assert note == f"{count} rows of early iterations were removed (df.settings, loop_history)"
        first = here.value(
            "select min(split_part(step, '.', 2)::int) from df.history(%s) where step <> ''", [id], "alice"
        )
        assert first > 3
