"""Memory is bounded: what waits for room, what makes room, and what happens to events for what is not in memory."""

from __future__ import annotations

import json
from typing import Final

import pytest

from cdc.lsn import Lsn
from engine.backlog import Backlog
from engine.book import AT_ONCE, REMEMBERED
from engine.codec import Stored
from engine.cut import HORIZON_US, Cut
from engine.effects import Execute
from engine.events import Signalled, Started
from engine.instance import HeldEvent, Live
from engine.machine import FOREVER, NEW, fold
from engine.rows import InstanceRow, WaitRow
from tests.engine.logbook import ALICE, BOB, Log, cancel, done, release, signal, start, wait_for
from tests.engine.machinery import Json, await_, child, join, seq, sleep, sql, wait


def id_of(key: int) -> str:
    return f"w{key}"


def fill(log: Log, count: int, owner: int = ALICE, graph: Json | str = "select 1", first: int = 1) -> None:
    log.transaction(*(start(graph, key=n, id_=id_of(n), owner=owner) for n in range(first, first + count)))


# --- admission ------------------------------------------------------------------------------------------------------------


def test_a_start_for_which_there_is_no_room_asks_for_nothing_and_is_kept_as_a_range_of_keys() -> None:
    log = Log(admission=5)
    fill(log, 7)
    assert sorted(log.book.instances) == [1, 2, 3, 4]
    assert log.book.backlog == {ALICE: Backlog(after=4, last=7, count=3)}
    assert [key for key, effect in log.effects if isinstance(effect, Execute)] == [1, 2, 3, 4]
    cut = log.checkpoint()
    assert cut.backlog == log.book.backlog
    assert [key for key, _, _ in cut.states] == [1, 2, 3, 4]
    assert log.checkpoint().backlog is None, "only when it has changed"


def test_alone_a_role_has_four_fifths_of_the_room_and_others_the_rest() -> None:
    log = Log(admission=100)
    fill(log, 1_000)
    assert len(log.book.instances) == 80
    fill(log, 10, owner=BOB, first=2_000)
    assert len(log.book.instances) == 90
    assert BOB not in log.book.backlog
    fill(log, 10, owner=BOB, first=3_000)
    assert len(log.book.instances) <= 100
    assert BOB in log.book.backlog or len(log.book.instances) <= 100


def test_a_later_start_does_not_overtake_those_that_wait() -> None:
    log = Log(admission=5)
    fill(log, 6)
    log.transaction(done(key=1))
    log.checkpoint()
    assert log.book.room(ALICE) > 0
    fill(log, 1, first=7)
    assert 7 not in log.book.instances
    assert log.book.backlog[ALICE] == Backlog(after=4, last=7, count=3)


def test_a_key_that_was_given_earlier_and_committed_later_widens_the_range() -> None:
    log = Log(admission=5)
    fill(log, 6, first=11)
    fill(log, 1, first=3)
    assert log.book.backlog[ALICE] == Backlog(after=2, last=16, count=3)


def row_of(key: int, graph: str = "select 1", owner: int = ALICE) -> InstanceRow:
    return InstanceRow(key, owner, id_of(key), graph, None, None, None, None, f"e-of-{key}")


def test_what_waited_begins_at_the_time_at_which_it_was_recorded() -> None:
    log = Log(admission=5)
    fill(log, 6)
    log.book.visibility.proven(log.book.visibility.unproven())
    log.book.look_for_waiting(ALICE)
    log.book.admit(row_of(5), 123_456, [])
    log.book.admitted(ALICE, upto=5, count=1)
    assert log.live(5).started_us == 123_456
    assert (5, Execute("1", 1, "select 1", False, "e-of-5")) in log.effects
    assert log.book.backlog[ALICE] == Backlog(after=5, last=6, count=1)
    log.book.admit(row_of(6), 123_457, [])
    log.book.admitted(ALICE, upto=6, count=1)
    assert log.book.backlog == {}
    assert log.checkpoint().backlog == {}


def test_what_came_for_a_waiting_start_is_set_aside_and_folded_when_it_begins() -> None:
    log = Log(admission=5)
    fill(log, 6, graph='{"node_type":"SIGNAL","query":{"signal_name":"s"},"result_name":null}')
    log.transaction(signal(key=6, id_=id_of(6), event_id="came"))
    assert list(log.book.absent) == [6]
    log.book.stay_away(6)
    cut = log.checkpoint()
    ((key, _, held),) = cut.inbox
    assert (key, held.kind, held.row_key) == (6, "signal", f'[{ALICE}, "came"]')
    assert ("came", ALICE) in cut.marks.signal
    log.book.admit(row_of(6, '{"node_type":"SIGNAL","query":{"signal_name":"s"}}'), 1, [held])
    assert log.live(6).state.finished
    assert log.checkpoint().inbox_done == ((6, held.lsn, held.ordinal),)


def test_a_start_that_ended_lately_does_not_begin_again() -> None:
    log = Log(admission=5)
    fill(log, 1)
    log.transaction(done())
    log.checkpoint()
    assert 1 not in log.book.instances
    fill(log, 1)
    assert 1 not in log.book.instances


def test_of_those_that_ended_lately_only_so_many_are_remembered() -> None:
    log = Log()
    for key in range(REMEMBERED + 10):
        log.book.nobody(key)
    assert not log.book.is_known(0)
    assert log.book.is_known(REMEMBERED + 9)


# --- sleeping outside the memory ------------------------------------------------------------------------------------------


def evicted(log: Log, count: int, graph: Json | None = None) -> tuple[Cut, list[int]]:
    """Starts so many; returns what the checkpoint wrote of them and who left."""
    left: list[int] = []
    log.book.on_evicted = lambda live: left.append(live.key)
    fill(log, count, graph=graph or AWAY)
    log.book.visibility.proven(log.book.visibility.unproven())
    for key in list(log.book.instances):
        log.book._unshown.pop(key, None)  # what live views show has been written
    return log.checkpoint(now_us=log.at_us), left


def test_what_only_waits_leaves_the_memory_once_more_than_half_of_the_room_is_taken_the_longest_idle_first() -> None:
    log = Log(admission=10)
    _, left = evicted(log, 7)
    assert left == [1, 2]
    assert sorted(log.book.instances) == [3, 4, 5, 6, 7]
    assert not log.book.complete
    assert log.book.asleep == 2


def test_what_runs_a_step_stays() -> None:
    log = Log(admission=10)
    _, left = evicted(log, 8, join(sql("a"), wait("s")))
    assert left == []


def test_a_state_says_when_a_new_leader_has_to_load_it() -> None:
    log = Log()
    far, near = HORIZON_US // 1_000_000 + 60, 1
    log.transaction(
        start(wait("s"), key=1, id_="w1"),
        start(sleep(far), key=2, id_="w2"),
        start(sleep(near), key=3, id_="w3"),
        start("a", key=4, id_="w4"),
        start(join(wait("s"), sleep(far)), key=5, id_="w5"),
        start(join(sql("a"), sleep(far)), key=6, id_="w6"),
    )
    cut = log.checkpoint(now_us=log.at_us)
    due = log.at_us + far * 1_000_000
    assert {key: wake for key, _, wake in cut.states} == {1: FOREVER, 2: due, 3: None, 4: None, 5: due, 6: None}


def test_what_waits_for_a_child_or_an_instance_is_busy_until_the_row_that_it_asked_for_has_come() -> None:
    log = Log()
    log.transaction(start(join(child(sql("a")), await_("w2"))), start("b", key=2, id_="w2"))
    assert dict((k, w) for k, _, w in log.checkpoint().states)[1] is None
    log.transaction(wait_for(2, 1, "4"))
    log.transaction(signal("touch"))
    assert dict((k, w) for k, _, w in log.checkpoint().states)[1] is None
    log.transaction(start("a", key=3, id_="~1/2", parent_key="1", parent_step="2"))
    log.transaction(signal("touch"))
    assert dict((k, w) for k, _, w in log.checkpoint().states)[1] == FOREVER


def test_a_child_that_is_not_admitted_is_known_to_its_parent() -> None:
    log = Log(admission=1)
    log.transaction(start(child(sql("a"))))
    log.transaction(start("a", key=3, id_="~1/1", parent_key="1", parent_step="1"))
    assert 3 not in log.book.instances
    log.transaction(signal("touch"))
    assert dict((k, w) for k, _, w in log.checkpoint().states)[1] == FOREVER


AWAY: Final[Json] = seq(wait("s"), sql("after"))


def stored_live(log: Log, cut: Cut, key: int) -> Live:
    """The instance as the checkpoint holds it."""
    text = next(text for k, text, _ in cut.states if k == key)
    subject = log.book.subject(row_of(key, json.dumps(AWAY)))
    live = Live(subject, Stored(1, text).state(subject.scope, {}), status="running", in_states=True)
    live.stored_status = ("running", None)
    return live


@pytest.fixture
def away() -> tuple[Log, Cut]:
    """Instances 1 and 2 wait for a signal, outside the memory."""
    log = Log(admission=10)
    cut, left = evicted(log, 7)
    assert left == [1, 2]
    log.effects.clear()
    return log, cut


def test_an_event_for_what_is_away_is_held_and_folded_when_it_has_arrived(away: tuple[Log, Cut]) -> None:
    log, cut = away
    asked: list[str] = []
    log.book.on_absent = lambda: asked.append("look")
    log.transaction(signal(key=1, id_="w1", event_id="go"))
    assert asked == ["look"]
    assert log.effects == []
    assert list(log.book.absent) == [1]
    log.book.arrive(stored_live(log, cut, 1), [])
    assert log.asked(1) == ["after"]
    after = log.checkpoint(now_us=log.at_us)
    assert after.inbox == (), "it was folded before a checkpoint passed it"
    assert ("go", ALICE) in after.marks.signal


def test_an_event_that_a_checkpoint_passes_before_its_instance_arrives_is_in_the_inbox_until_it_has(
    away: tuple[Log, Cut],
) -> None:
    log, cut = away
    log.transaction(signal(key=1, id_="w1", event_id="go"))
    ((key, _, held),) = log.checkpoint(now_us=log.at_us).inbox
    log.book.arrive(stored_live(log, cut, 1), [held])
    assert log.asked(1) == ["after"], "once, though it is held here and in the inbox"
    assert log.checkpoint(now_us=log.at_us).inbox_done == ((1, held.lsn, held.ordinal),)
    assert key == 1


def test_a_cut_that_is_given_back_forgets_no_event_that_waits_and_brings_back_none_that_was_folded(
    away: tuple[Log, Cut],
) -> None:
    log, stored = away
    log.transaction(signal(key=1, id_="w1", event_id="one"), signal(key=2, id_="w2", event_id="two"))
    cut = log.book.collect(log.at_us)
    assert len(cut.inbox) == 2
    log.book.arrive(stored_live(log, stored, 1), [])
    log.book.restore(cut)
    again = log.checkpoint(now_us=log.at_us)
    assert [key for key, _, _ in again.inbox] == [2]
    assert {key for key, _, _ in again.inbox_done} == {1}


def test_a_strangers_rows_for_what_is_away_are_none_of_its_events(away: tuple[Log, Cut]) -> None:
    log, cut = away
    log.transaction(done("2", key=1, run_as=BOB), signal(key=1, id_="w1", owner=BOB))
    place = Lsn(log.position), 2
    log.book.arrive(stored_live(log, cut, 1), [])
    assert log.effects == []
    assert log.live(1).state.folds == 1
    assert log.checkpoint(now_us=log.at_us).inbox_done == ((1, *place),)


def test_what_is_nobodys_is_struck_off_and_not_looked_for_again(away: tuple[Log, Cut]) -> None:
    log, _ = away
    log.transaction(done("1", key=99))
    assert 99 in log.book.absent
    log.book.nobody(99)
    cut = log.checkpoint(now_us=log.at_us)
    assert cut.inbox == ()
    log.transaction(done("1", key=99))
    assert 99 not in log.book.absent


def test_as_long_as_all_is_in_memory_nothing_is_looked_for() -> None:
    log = Log()
    log.transaction(done("1", key=99), signal(key=98), cancel(key=None, id_="nobody"))
    assert log.book.absent == {}
    assert log.book.strays == []
    cut = log.checkpoint()
    assert len(cut.marks.signal) == len(cut.marks.cancellation) == 1


def test_what_one_held_event_asks_for_and_another_one_answers_is_not_begun(away: tuple[Log, Cut]) -> None:
    """An earlier leader began it, and it committed: both rows are read again."""
    log, stored = away
    log.transaction(signal(key=1, id_="w1"))
    log.transaction(done("3", key=1))
    log.book.arrive(stored_live(log, stored, 1), [])
    assert log.live(1).state.finished
    assert log.asked(1) == []


def test_what_arrives_has_its_timers_back(away: tuple[Log, Cut]) -> None:
    log, _ = away
    graph = join(wait("s"), sleep(60))
    subject = log.book.subject(row_of(30, json.dumps(graph)))
    state, _ = fold(subject, NEW, Started("s", 1))
    log.transaction(signal(key=30, id_="w30"))
    log.book.arrive(Live(subject, state, status="running", in_states=True), [])
    assert [type(effect).__name__ for key, effect in log.effects if key == 30] == ["StartTimer"]


def test_an_instance_with_events_in_the_inbox_is_looked_for_before_anything_else_is_folded_into_it() -> None:
    """A new leader does not load it: what the log brings now is younger."""
    log = Log()
    log.book.hold_for([7])
    log.book.complete = False
    log.transaction(signal("late", key=7, id_="w7"))
    early = HeldEvent(Lsn(1), 1, "signal", "[]", 0, Signalled("early", 1, "s", "{}"), ALICE)
    subject = log.book.subject(row_of(7, json.dumps(seq(wait("s"), sql("after")))))
    state, _ = fold(subject, NEW, Started("s", 1))
    log.book.arrive(Live(subject, state, status="running", in_states=True), [early])
    assert log.asked(7) == ["after"]
    assert log.live(7).state.at_us == log.at_us


def test_a_release_of_what_is_away_is_carried_out_when_it_has_arrived(away: tuple[Log, Cut]) -> None:
    log, stored = away
    released: list[int] = []
    log.book.on_release = lambda live: released.append(live.key)
    log.transaction(release(key=1))
    cut = log.checkpoint(now_us=log.at_us)
    assert cut.marks.release == [], "until it has been done"
    live = stored_live(log, stored, 1)
    live.quarantined = "a bug"
    live.stored_status = ("running", "a bug")
    log.book.arrive(live, [])
    assert released == [1]
    log.book.release(live, [])
    assert len(log.checkpoint(now_us=log.at_us).marks.release) == 1


def test_what_is_quarantined_stays_away_and_its_events_in_the_inbox(away: tuple[Log, Cut]) -> None:
    log, stored = away
    log.transaction(signal(key=1, id_="w1"))
    live = stored_live(log, stored, 1)
    live.quarantined = "a bug"
    live.stored_status = ("running", "a bug")
    log.book.arrive(live, [])
    assert 1 not in log.book.instances
    assert [key for key, _, _ in log.checkpoint(now_us=log.at_us).inbox] == [1]


def test_a_command_that_names_what_is_away_only_by_its_id_is_looked_for_and_marked_when_it_was_found(
    away: tuple[Log, Cut],
) -> None:
    log, stored = away
    log.transaction(signal(key=None, id_="w1", event_id="go"))
    (stray,) = log.book.strays
    assert log.checkpoint(now_us=log.at_us).marks.signal == [], "or a crash would lose it"
    log.book.found(stray, 1)
    assert [held.row_key for held in log.book.absent[1].held] == [f'[{ALICE}, "go"]']
    log.book.arrive(stored_live(log, stored, 1), [])
    assert log.asked(1) == ["after"]
    assert ("go", ALICE) in log.checkpoint(now_us=log.at_us).marks.signal


@pytest.mark.parametrize("first", ["start", "signal"])
def test_a_start_that_waits_and_its_signal_in_one_statement_find_each_other(first: str) -> None:
    """The signal's row knows the start by its id only."""
    log = Log(admission=0)
    rows = [start(key=1, id_="w1"), signal(key=None, id_="w1", event_id="go")]
    log.transaction(*(rows if first == "start" else reversed(rows)))
    assert log.book.strays == []
    assert [held.row_key for held in log.book.absent[1].held] == [f'[{ALICE}, "go"]']
    assert log.checkpoint().marks.signal == [("go", ALICE)]
    log.transaction(signal(key=None, id_="w1", event_id="again"))
    assert len(log.book.strays) == 1, "in another transaction it is looked for"


def test_a_command_whose_instance_is_nowhere_is_marked(away: tuple[Log, Cut]) -> None:
    log, _ = away
    log.transaction(cancel(key=None, id_="nowhere"))
    (stray,) = log.book.strays
    log.book.found(stray, None)
    assert len(log.checkpoint(now_us=log.at_us).marks.cancellation) == 1


def test_what_came_back_and_was_not_changed_may_leave_again(away: tuple[Log, Cut]) -> None:
    log, stored = away
    left: list[int] = []
    log.book.on_evicted = lambda live: left.append(live.key)
    log.transaction(signal("other", key=1, id_="w1", owner=BOB))
    log.book.arrive(stored_live(log, stored, 1), [])
    log.book._unshown.clear()
    log.checkpoint(now_us=log.at_us)
    assert left, "memory is over its half again"


def test_what_arrives_tells_whoever_waits_for_it_when_it_ends(away: tuple[Log, Cut]) -> None:
    log, stored = away
    log.transaction(signal(key=1, id_="w1"))
    log.book.arrive(stored_live(log, stored, 1), [])
    log.transaction(done("3", key=1))
    assert log.checkpoint(now_us=log.at_us).ended == (1,)


def test_what_was_loaded_beside_sleepers_tells_whoever_of_them_waits_for_it_when_it_ends() -> None:
    log = Log()
    log.book.complete = False  # as after `recovery.load`, when some sleep
    log.transaction(start())
    log.transaction(done("1"))
    assert log.checkpoint(now_us=log.at_us).ended == (1,)


def test_after_a_scan_what_sleeps_and_was_not_changed_leaves(away: tuple[Log, Cut]) -> None:
    log, stored = away
    unchanged, changed = stored_live(log, stored, 1), stored_live(log, stored, 2)
    unchanged.wake_us = changed.wake_us = FOREVER
    log.book.adopt(unchanged)
    log.book.adopt(changed)
    log.transaction(signal(key=2, id_="w2"))
    log.book.leave_unchanged([1, 2])
    assert 1 not in log.book.instances
    assert 2 in log.book.instances


def test_what_others_cannot_see_yet_stays_until_they_can() -> None:
    log = Log(admission=10)
    left: list[int] = []
    log.book.on_evicted = lambda live: left.append(live.key)
    fill(log, 7, graph=AWAY)
    log.book._unshown.clear()
    log.checkpoint(now_us=log.at_us)
    assert left == []
    assert log.book.dirty, "another checkpoint looks whether they can be seen"
    log.book.visibility.proven(log.book.visibility.unproven())
    log.checkpoint(now_us=log.at_us)
    assert left == [1, 2]


def test_a_ring_of_waits_through_what_is_away_is_found_when_it_has_arrived(away: tuple[Log, Cut]) -> None:
    log, stored = away
    found: list[str] = []
    log.book.rings.on_deadlock = lambda live, step, why: found.append(why)
    log.transaction(start(await_("w1"), key=50, id_="w50"))
    log.transaction(wait_for(1, 50, "1"))
    assert 1 in log.book.absent
    subject = log.book.subject(row_of(1, json.dumps(await_("w50"))))
    state, _ = fold(subject, NEW, Started("s", 1))
    log.book.arrive(Live(subject, state, status="running", in_states=True), [], [WaitRow(50, 1, "1")])
    assert found == ["Waiting for w1 would never end: w1 waits for w50, w50 waits for w1"]
    assert stored is not None


# --- large transactions -----------------------------------------------------------------------------------------------------


def asked_by(log: Log) -> list[int]:
    return [key for key, effect in log.effects if isinstance(effect, Execute)]


def test_what_a_large_transaction_asks_for_is_handed_out_in_slices_and_in_order() -> None:
    log = Log()
    told: list[str] = []
    log.book.owed.on_first = lambda: told.append("more")
    fill(log, 3 * AT_ONCE)
    assert asked_by(log) == list(range(1, AT_ONCE + 1))
    assert told == ["more"], "once"
    assert log.book.hand_out_owed()
    assert not log.book.hand_out_owed()
    assert asked_by(log) == list(range(1, 3 * AT_ONCE + 1))
    assert len(log.book.owed) == 0


def test_others_do_not_wait_for_what_a_large_transaction_asked_for_and_an_instances_own_effects_keep_their_order() -> (
    None
):
    log = Log()
    fill(log, AT_ONCE)
    log.effects.clear()
    log.transaction(*(cancel(key=n, id_=id_of(n)) for n in range(1, AT_ONCE + 1)), start("a", key=9_998, id_="last"))
    assert asked_by(log) == [], "it is the last of more than go out at once"
    log.transaction(start("b", key=9_999, id_="other"))
    assert asked_by(log) == [9_999]
    log.transaction(cancel(key=9_998, id_="last"))
    assert not log.book.hand_out_owed()
    of_last = [type(effect).__name__ for key, effect in log.effects if key == 9_998]
    assert of_last == ["Execute", "CancelStep"]


def test_a_release_dispatches_what_is_outstanding_and_not_what_is_still_owed_as_well() -> None:
    log = Log()
    fill(log, AT_ONCE + 2)
    live = log.live(AT_ONCE + 1)
    log.book.quarantine(live, "a bug")
    log.book.release(live, [])
    log.book.hand_out_owed()
    assert asked_by(log) == [*range(1, AT_ONCE + 1), AT_ONCE + 2]


def test_an_instance_leaves_no_memory_before_its_effects_were_handed_out() -> None:
    log = Log(admission=10)
    _, left = evicted(log, 7)
    assert left
    for key in list(log.book.instances):
        log.book.owed.add(log.live(key), Execute("1", 1, "q", False, ""))
    left.clear()
    fill(log, 2, graph=AWAY, first=20)
    log.book.visibility.proven(log.book.visibility.unproven())
    for key in (20, 21):
        log.book._unshown.pop(key, None)
    log.checkpoint(now_us=log.at_us)
    assert set(left) <= {20, 21}


def test_commands_by_the_thousand_that_stand_before_their_instances_find_them(away: tuple[Log, Cut]) -> None:
    log, _ = away
    log.begin()
    for n in range(3_000):
        values = signal(key=None, id_=f"n{n}" if n % 3 == 0 else f"stray{n}", event_id=f"s{n}")
        log.insert(*values)
    log.insert(*start(AWAY, key=50, id_="n0"))
    log.commit()
    assert log.asked(50) == ["after"]
    assert len(log.book.strays) == 2_999
    assert [stray.ordinal for stray in log.book.strays] == sorted(stray.ordinal for stray in log.book.strays)
    assert log.checkpoint(now_us=log.at_us).marks.signal == [("s0", ALICE)], (
        "the others are marked when they were found"
    )


def test_a_command_that_stands_before_a_start_without_room_in_one_transaction_is_set_aside_for_it() -> None:
    log = Log(admission=1)
    fill(log, 1)
    log.transaction(signal(key=None, id_="w2", event_id="early"), start(key=2, id_="w2"))
    assert log.book.strays == []
    cut = log.checkpoint()
    assert [(key, held.row_key) for key, _, held in cut.inbox] == [(2, f'[{ALICE}, "early"]')]
    assert ("early", ALICE) in cut.marks.signal
    assert not log.book.is_late("early")


def test_a_stray_is_late_until_its_mark_is_stored(away: tuple[Log, Cut]) -> None:
    log, _ = away
    log.transaction(signal(key=None, id_="w1", event_id="go"))
    (stray,) = log.book.strays
    assert log.book.is_late("go"), "a scan must not take it for missed"
    log.book.found(stray, 1)
    assert log.book.is_late("go")
    log.checkpoint(now_us=log.at_us)
    assert not log.book.is_late("go")


def test_a_transaction_of_very_many_starts_is_not_remembered_start_by_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of the first are; a command in the same statement for one of the others is looked for in the tables."""
    monkeypatch.setattr("engine.backlog.NEWEST", 2)
    log = Log(admission=0)
    log.begin()
    for key in range(1, 6):
        log.insert(*start(wait("s"), key, f"w{key}"))
    assert len(log.book.backlog.newest) == 2
    log.insert(*signal("s", key=None, id_="w5"))
    log.commit()
    assert [stray.row.instance_id for stray in log.book.strays] == ["w5"]
