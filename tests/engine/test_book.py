"""The book, driven with the messages of a log: who gets which row, what a checkpoint has to write, what is set aside."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest

from cdc.lsn import Lsn
from engine import machine
from engine.codec import VERSION, Stored
from engine.cut import PROGRESS_US, Counts, Cut, Marks
from engine.effects import AwaitInstance, CancelChild, CancelStep, Effect, Execute, Finish
from engine.errors import MachineError
from engine.instance import HeldEvent, Live
from engine.rows import CompletionRow, WaitRow
from tests.engine.logbook import ALICE, BOB, NEXT_XID, Log, Row, cancel, command, done, release, signal, start, wait_for
from tests.engine.machinery import (
    Json,
    await_,
    brk,
    cell,
    child,
    join,
    loop,
    race,
    seq,
    sleep,
    sql,
    timeout,
    undo,
    wait,
)

# --- starting, going on, ending -----------------------------------------------------------------------------------------


def test_an_inserted_row_runs_its_first_step_at_its_commit() -> None:
    log = Log()
    log.begin()
    log.insert(*start())
    assert log.effects == []
    log.commit()
    assert log.asked() == ["select 1"]


def test_of_a_step_that_is_asked_for_and_cancelled_in_one_transaction_only_the_cancelling_is_handed_out() -> None:
    log = Log()
    log.transaction(start(seq(sql("a"), sql("b"))), start("other", key=2, id_="w2"), cancel())
    assert log.effects == [(2, Execute("1", 1, "other", False, "e2")), (1, CancelStep("2", "e3"))]


def test_a_cancelling_keeps_no_other_instances_step_of_that_transaction_from_beginning() -> None:
    log = Log()
    log.transaction(start("a"), start("b", key=2, id_="w2"), cancel(key=2, id_="w2"))
    assert log.asked(1) == ["a"]
    assert log.asked(2) == []


def test_a_step_that_an_earlier_transaction_asked_for_is_handed_out_and_cancelled() -> None:
    log = Log()
    log.transaction(start())
    log.transaction(cancel())
    assert [type(effect) for _, effect in log.effects] == [Execute, CancelStep]


def test_a_completion_moves_the_instance_that_it_is_for() -> None:
    log = Log()
    log.transaction(start(seq(sql("a"), sql("b"))), start(seq(sql("a"), sql("b")), key=2, id_="w2"))
    log.transaction(done("2", key=2))
    assert log.asked(1) == ["a"]
    assert log.asked(2) == ["a", "b"]


def test_an_instance_ends_with_its_result() -> None:
    log = Log()
    log.transaction(start())
    log.transaction(done("1", cell(5)))
    assert log.effects[-1] == (1, Finish("completed", cell(5), None))
    assert (log.live().status, log.live().result) == ("completed", cell(5))


def test_the_cause_of_an_effect_is_the_row_that_led_to_it() -> None:
    log = Log()
    log.transaction(start(seq(sql("a"), sql("b")), event_id="the-start"))
    log.transaction(done("2", event_id="the-completion"))
    assert [effect.cause for _, effect in log.effects if isinstance(effect, Execute)] == ["the-start", "the-completion"]


def test_input_variables_id_and_label_are_what_the_row_says() -> None:
    log = Log()
    log.transaction(start("{v} {sys_instance_id} {sys_label} $input", input='{"a":1}', vars='{"v":"x"}', label="l"))
    assert log.asked() == ["x w1 l '{\"a\":1}'"]


def test_a_start_that_is_known_already_changes_nothing() -> None:
    log = Log()
    log.transaction(start())
    log.transaction(start())
    assert len(log.effects) == 1


def test_two_roles_may_have_instances_of_one_id() -> None:
    log = Log()
    log.transaction(start(wait("s")), start(wait("s"), key=2, owner=BOB))
    log.transaction(signal(key=None, owner=BOB), signal(key=2, owner=BOB))
    assert log.live(1).status == "running"
    log.transaction(signal(key=None, owner=ALICE))
    assert log.live(1).status == "completed"


def test_completions_heartbeats_and_waits_for_nobody_are_passed_over() -> None:
    log = Log()
    log.transaction(done(key=99), ("heartbeats", {"epoch": "3"}), wait_for(2, 1, "1"), signal(key=99))
    assert log.effects == []


def test_heartbeats_and_settled_keys_are_reported() -> None:
    log = Log()
    beats: list[tuple[int, int]] = []
    settled: list[tuple[int, str]] = []
    log.book.on_heartbeat = lambda row, at_us: beats.append((row.epoch, at_us))
    log.book.on_settled = lambda key, step, _row: settled.append((key, step))
    log.transaction(start(), ("heartbeats", {"epoch": "3"}), done(key=7))
    assert beats == [(3, log.at_us)]
    assert settled == [(7, "1")]


def test_a_key_is_settled_before_what_follows_it_is_asked_for() -> None:
    log = Log()
    log.transaction(start(seq(sql("a"), sql("b"))))
    seen: list[int] = []
    log.book.on_settled = lambda _key, _step, _row: seen.append(len(log.effects))
    log.transaction(done("2"))
    assert seen == [1]


# --- commands -------------------------------------------------------------------------------------------------------------


def test_a_signal_in_the_transaction_of_the_start_is_delivered() -> None:
    log = Log()
    log.transaction(start(wait("s")), signal(data="5", key=None))
    assert json.loads(log.live().result or "")["data"] == 5


def test_a_signal_that_stands_before_its_instance_is_delivered() -> None:
    log = Log()
    log.transaction(signal(data="5", key=None), start(wait("s")))
    assert json.loads(log.live().result or "")["data"] == 5


def test_signals_before_and_after_their_instance_keep_their_order() -> None:
    log = Log()
    log.transaction(
        signal(data="1", key=None),
        signal(data="2", key=None),
        start(join(wait("s"), wait("s"), wait("s"))),
        signal(data="3"),
    )
    assert [part["data"] for part in json.loads(log.live().result or "")] == [1, 2, 3]


def test_a_cancellation_that_stands_before_its_instance_is_not_lost() -> None:
    log = Log()
    log.transaction(cancel(key=None), start())
    assert isinstance(log.effects[-1][1], CancelStep)


def test_a_command_for_an_instance_of_a_later_transaction_is_for_nobody() -> None:
    log = Log()
    log.transaction(signal(key=None))
    log.transaction(start(wait("s")))
    assert log.live().status == "running"


def test_a_command_before_another_roles_instance_of_that_id_is_for_nobody() -> None:
    log = Log()
    log.transaction(signal(key=None, owner=BOB), start(wait("s")))
    assert log.live().status == "running"


@pytest.mark.parametrize("row", [signal(owner=BOB), cancel(owner=BOB), signal(id_="w1", key=None, owner=BOB)])
def test_a_command_under_a_foreign_owner_is_ignored(row: Row) -> None:
    log = Log()
    log.transaction(start(wait("s")))
    log.transaction(row)
    assert log.live().status == "running"


def test_a_command_without_a_key_finds_the_owners_instance_by_its_id() -> None:
    log = Log()
    log.transaction(start(wait("s")))
    log.transaction(signal(key=None))
    assert log.live().status == "completed"


def test_every_command_is_marked_with_the_checkpoint_that_passes_it_also_one_for_nobody() -> None:
    log = Log()
    log.transaction(
        start(wait("other")),
        signal(event_id="s1"),
        signal(key=99, event_id="s2"),
        signal(key=None, id_="x", event_id="s3"),
    )
    log.transaction(("cancellations", {**command(99, "x", BOB), "reason": "", "event_id": "c1"}))
    log.transaction(("releases", {**command(1, "w1", ALICE), "reason": "", "event_id": "r1"}))
    assert log.checkpoint().marks == Marks(
        signal=[("s1", ALICE), ("s2", ALICE), ("s3", ALICE)], cancellation=[("c1", BOB)], release=[("r1", ALICE)]
    )
    assert log.checkpoint().marks == Marks()


# --- redelivery -------------------------------------------------------------------------------------------------------------


def test_a_transaction_that_the_checkpoint_holds_is_passed_over_whole() -> None:
    log = Log(stored=250)
    assert log.transaction(start(), signal(), done()) == Lsn(250)
    assert (log.book.instances, log.effects, log.book.dirty) == ({}, [], False)
    assert log.book.lsn == Lsn(250)
    assert log.book.collect().marks == Marks()
    log.transaction(start())
    assert log.asked() == ["select 1"]


def test_a_transaction_whose_commit_record_begins_where_the_checkpoint_ends_is_new() -> None:
    log = Log(stored=200)
    log.transaction(start())
    assert log.asked() == ["select 1"]


def test_an_instance_of_a_checkpoint_is_gone_on_with() -> None:
    first = Log()
    first.transaction(start(seq(sql("a", "x"), sql("$x"))))
    cut = first.checkpoint()
    ((key, text, _),) = cut.states
    second = Log(stored=cut.lsn)
    subject = first.live().subject
    live = Live(subject, Stored(VERSION, text).state(subject.scope, {}), status="running", in_states=True)
    second.book.adopt(live)
    second.transaction(start(seq(sql("a", "x"), sql("$x"))))
    assert second.effects == []
    second.transaction(done("2", cell(5), key=key))
    assert second.asked() == ["5"]


# --- rows that no trigger let through ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "graph", ['{"node_type":"THEN"}', '{"node_type":', '{"node_type":"BREAK"}', '{"node_type":"WHAT"}', "", "  "]
)
def test_a_graph_that_cannot_run_fails_its_instance_alone(graph: str) -> None:
    log = Log()
    log.transaction(start(), start(graph, key=2, id_="bad"), start(key=3, id_="w3"))
    assert [log.live(key).status for key in (1, 2, 3)] == ["running", "failed", "running"]
    assert "Invalid durable function" in json.loads(log.live(2).error or "")["message"]
    change = next(change for change in log.checkpoint().changes if change.key == 2)
    assert change.status == "failed"
    assert change.finished_us == log.at_us
    assert 2 not in log.book.instances


def test_rows_for_an_instance_that_failed_at_its_start_are_ignored() -> None:
    log = Log()
    log.transaction(signal(key=None), start("", key=1), signal(), done(), cancel())
    assert log.live().status == "failed"


@pytest.mark.parametrize("column", ["graph", "input", "vars"])
def test_bytes_that_are_no_text_fail_the_instance_where_they_would_change_its_meaning(column: str) -> None:
    log = Log()
    table, values = start()
    log.transaction((table, {**values, column: b"\xff"}), start(key=2, id_="w2"))
    assert log.live(2).status == "running"
    assert f"{column} is not valid UTF-8" in json.loads(log.live(1).error or "")["message"]


def test_bytes_in_a_label_a_reason_or_a_signal_are_made_readable() -> None:
    log = Log()
    log.transaction(start(seq(wait("s"), sql("{sys_label}")), label=b"caf\xe9"), signal(data=b'"\xff"'))
    assert log.asked() == ["caf\ufffd"]
    table, values = cancel()
    log.transaction((table, {**values, "reason": b"\xff"}))
    log.transaction(done("3"))
    assert json.loads(log.live().error or "")["message"] == "\ufffd"


def test_bytes_in_a_result_fail_the_step() -> None:
    log = Log()
    log.transaction(start())
    log.transaction(done("1", b'{"x":"\xff"}'))
    error = json.loads(log.live().error or "")
    assert (error["code"], error["node"]) == ("22021", 1)


def test_what_an_administrator_mistyped_in_the_settings_stops_nobody() -> None:
    log = Log()
    log.book.settings = {"loop_iterations": "many", "composite_result_bytes": ""}
    log.transaction(start())
    assert log.live().subject.loop_iterations == 0
    assert log.live().subject.composite_bytes == 16_777_216


def test_settings_are_those_of_the_moment_of_the_start() -> None:
    log = Log()
    log.book.settings = {"loop_iterations": "7", "composite_result_bytes": "5"}
    log.transaction(start())
    log.book.settings = {}
    assert (log.live().subject.loop_iterations, log.live().subject.composite_bytes) == (7, 5)


# --- checkpoints ------------------------------------------------------------------------------------------------------------


def test_a_cut_holds_what_changed_since_the_last_and_nothing_else() -> None:
    log = Log()
    log.transaction(start(), start(key=2, id_="w2"))
    end = log.transaction(start(key=3, id_="w3"))
    cut = log.checkpoint()
    assert cut.lsn == end
    assert [change.key for change in cut.changes] == [1, 2, 3]
    assert [key for key, _, _ in cut.states] == [1, 2, 3]
    assert not log.book.dirty
    log.transaction(signal(key=2))
    cut = log.checkpoint()
    assert cut.changes == (), "the status is what it was"
    assert [key for key, _, _ in cut.states] == [2]


def test_a_status_says_since_when_and_how_it_ended() -> None:
    log = Log()
    log.transaction(start())
    started_us = log.at_us
    (change,) = log.checkpoint().changes
    assert (change.status, change.started_us, change.finished_us) == ("running", started_us, None)
    log.transaction(done("1", "5"))
    (change,) = log.checkpoint().changes
    assert (change.status, change.result, change.error) == ("completed", "5", None)
    assert (change.started_us, change.finished_us) == (started_us, log.at_us)


def test_an_instance_that_ends_before_its_first_checkpoint_leaves_no_state() -> None:
    log = Log()
    log.transaction(start())
    log.transaction(done())
    cut = log.checkpoint()
    assert (cut.states, cut.dropped) == ((), ())
    assert log.book.instances == {}


def test_a_finished_instance_leaves_the_memory_only_when_its_checkpoint_is_stored() -> None:
    log = Log()
    log.transaction(start())
    log.checkpoint()
    log.transaction(done())
    cut = log.book.collect()
    assert cut.dropped == (1,)
    assert 1 in log.book.instances
    log.book.stored(cut)
    assert log.book.instances == {}
    log.transaction(signal(key=None), done("1"))
    assert log.book.instances == {}


def test_what_happens_while_a_checkpoint_is_written_belongs_to_the_next() -> None:
    log = Log()
    log.transaction(start())
    cut = log.book.collect()
    log.transaction(done())
    log.book.stored(cut)
    assert 1 in log.book.instances
    cut = log.checkpoint()
    assert [change.status for change in cut.changes] == ["completed"]
    assert cut.dropped == (1,)


def test_a_checkpoint_that_was_not_written_loses_nothing() -> None:
    log = Log()
    log.transaction(start(), start(seq(wait("s"), wait("s")), key=2, id_="w2"), signal(key=2, event_id="s1"))
    lost = log.book.collect()
    log.transaction(done(), signal("t", key=2, event_id="s2"))
    log.book.restore(lost)
    cut = log.checkpoint()
    assert {change.key: change.status for change in cut.changes} == {1: "completed", 2: "running"}
    assert [key for key, _, _ in cut.states] == [2]
    assert cut.marks.signal == [("s1", ALICE), ("s2", ALICE)]


def test_a_checkpoint_given_back_says_what_it_said() -> None:
    log = Log()
    log.transaction(start(seq(wait("s"), wait("s"))), signal(event_id="s1"))
    lost = log.book.collect()
    log.book.restore(lost)
    log.transaction(signal(event_id="s2"))
    assert lost.marks.signal == [("s1", ALICE)], "the server may be busy with it: its client is gone, nothing else"


def test_a_checkpoint_that_was_not_written_twice_loses_nothing() -> None:
    log = Log()
    log.transaction(start())
    for _ in range(2):
        log.book.restore(log.book.collect())
        assert log.book.dirty
    assert [change.key for change in log.checkpoint().changes] == [1]


def test_an_instance_whose_row_somebody_removed_is_no_more() -> None:
    log = Log()
    log.transaction(start())
    log.book.stored(log.book.collect(), gone=[1])
    assert log.book.instances == {}
    log.transaction(start(key=5))
    log.transaction(signal(key=None))
    assert list(log.book.instances) == [5]


def test_a_position_alone_is_worth_a_checkpoint() -> None:
    log = Log()
    end = log.transaction(("heartbeats", {"epoch": "1"}))
    assert log.book.dirty
    cut = log.checkpoint()
    assert (cut.lsn, cut.lives, cut.states) == (end, (), ())
    assert not log.book.dirty


def test_a_cut_is_never_taken_inside_a_transaction() -> None:
    log = Log()
    log.begin()
    with pytest.raises(AssertionError):
        log.book.collect()


def test_a_cut_names_the_transactions_that_are_not_known_to_be_visible() -> None:
    log = Log()
    log.transaction(start())
    log.transaction(done())
    assert sorted(log.book.collect().xids) == [NEXT_XID + 1, NEXT_XID + 2]
    log.book.visibility.proven([NEXT_XID + 1])
    assert log.book.collect().xids == [NEXT_XID + 2]


def test_an_instance_knows_the_transactions_that_its_next_effect_may_have_to_wait_for() -> None:
    log = Log()
    log.transaction(start(wait("go")), signal("s"))
    for _ in range(100):
        log.transaction(signal("s"))
        log.book.visibility.proven(log.book.visibility.unproven())
    assert len(log.live().xids) < 40
    log.transaction(signal("s"))
    assert log.live().xids[-1] == log.xid


# --- quarantine -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Ids of rows at whose folding the machine breaks."""
    ids: set[str] = set()
    fold = machine.fold

    def breaking(subject: Any, state: Any, event: Any) -> Any:
        if event.event_id in ids:
            raise MachineError(f"cannot fold {event.event_id}")
        return fold(subject, state, event)

    monkeypatch.setattr(machine, "fold", breaking)
    return ids


def places(cut: Cut) -> list[tuple[str, str]]:
    return [(held.kind, held.row_key) for _, _, held in cut.inbox]


def test_an_instance_whose_row_cannot_be_folded_is_set_aside_and_the_others_go_on(broken: set[str]) -> None:
    log = Log()
    log.transaction(start(), start(key=2, id_="w2"))
    log.checkpoint()
    broken.add("bad")
    log.transaction(done("1", event_id="bad"), done("1", key=2))
    assert log.live(1).quarantined == "MachineError: cannot fold bad"
    assert log.live(2).status == "completed"
    cut = log.checkpoint()
    assert {c.key: (c.status, c.quarantined) for c in cut.changes} == {
        1: ("running", "MachineError: cannot fold bad"),
        2: ("completed", None),
    }
    assert places(cut) == [("completion", json.dumps([ALICE, "1", 1]))]


def test_everything_that_comes_for_a_quarantined_instance_is_set_aside_in_order(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(start(join(wait("s"), sql("a"))))
    log.transaction(signal(event_id="bad"), signal(event_id="s2"))
    log.transaction(done("3"), cancel())
    cut = log.checkpoint()
    assert [kind for kind, _ in places(cut)] == ["signal", "signal", "completion", "cancellation"]
    assert [key for key, _, _ in cut.inbox] == [1] * 4
    found = [(held.lsn, held.ordinal) for _, _, held in cut.inbox]
    assert found == sorted(set(found))
    assert log.checkpoint().inbox == ()


def test_an_instance_that_cannot_begin_is_set_aside_with_the_commands_that_stood_before_it(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(signal(key=None), signal(key=None), start(event_id="bad"), signal())
    cut = log.checkpoint()
    found = [(held.lsn, held.ordinal) for _, _, held in cut.inbox]
    assert len(set(found)) == 4, "each event has a place of its own in the inbox"
    assert sorted(kind for kind, _ in places(cut)) == ["instance", "signal", "signal", "signal"]
    assert cut.changes[0].status == "pending"


def inbox(*cuts: Cut) -> list[HeldEvent]:
    return [held for cut in cuts for _, _, held in cut.inbox]


def test_a_release_folds_what_was_set_aside_in_the_order_of_the_log(broken: set[str]) -> None:
    log = Log()
    released: list[int] = []
    log.book.on_release = lambda live: released.append(live.key)
    broken.add("bad")
    log.transaction(start(join(wait("s"), wait("s"), wait("s"))))
    log.transaction(signal(data="1", event_id="bad"), signal(data="2"))
    first = log.checkpoint()
    log.transaction(release())
    assert released == [1]
    log.transaction(signal(data="3"))
    second = log.checkpoint()
    broken.clear()
    log.book.release(log.live(), reversed(inbox(first, second)))
    assert [part["data"] for part in json.loads(log.live().result or "")] == [1, 2, 3]
    cut = log.checkpoint()
    last = inbox(second)[-1]
    assert cut.inbox_done == ((1, last.lsn, last.ordinal),), "of thousands the last is enough"
    assert [(c.status, c.quarantined) for c in cut.changes] == [("completed", None)]


def test_events_that_arrive_while_a_release_reads_are_folded_once_and_after_it(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(start(seq(wait("s"), wait("s"), wait("never"))))
    log.transaction(signal(data="1", event_id="bad"))
    first = log.checkpoint()
    log.transaction(release())
    log.transaction(signal(data="2"))
    second = log.checkpoint()  # the inbox is read after this, and has both
    log.transaction(signal(data="3"))  # and this one only waits in memory
    broken.clear()
    log.book.release(log.live(), inbox(first, second))
    assert [signal.data for signal in log.live().state.signals] == ["3"]
    cut = log.checkpoint()
    assert cut.inbox == (), "what is folded need not be set aside"


def test_a_release_is_marked_only_when_it_has_been_carried_out(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(start(seq(wait("s"), wait("s"))))
    log.transaction(signal(event_id="bad"))
    first = log.checkpoint()
    log.transaction(release())
    assert log.checkpoint().marks.release == [], "a leader that comes after a crash must find it again"
    broken.clear()
    log.book.release(log.live(), inbox(first))
    assert len(log.checkpoint().marks.release) == 1


def test_a_release_that_breaks_again_sets_aside_the_rest_again(broken: set[str]) -> None:
    log = Log()
    broken.update({"bad", "worse"})
    log.transaction(start(seq(wait("s"), wait("s"), wait("s"))))
    log.transaction(signal(event_id="bad"), signal(event_id="worse"), signal(event_id="fine"))
    first = log.checkpoint()
    log.transaction(release())
    broken.remove("bad")
    log.book.release(log.live(), inbox(first))
    assert log.live().quarantined == "MachineError: cannot fold worse"
    cut = log.checkpoint()
    assert [held.event.event_id for held in inbox(cut)] == ["worse", "fine"]
    log.transaction(release())
    broken.clear()
    log.book.release(log.live(), inbox(cut))
    assert log.live().status == "completed"


def test_a_checkpoint_given_back_does_not_set_aside_again_what_was_released_meanwhile(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(start(seq(wait("s"), wait("s"))))
    log.transaction(signal(event_id="bad"))
    cut = log.book.collect()
    log.transaction(release())
    broken.clear()
    log.book.release(log.live(), inbox(cut))
    log.book.restore(cut)
    again = log.checkpoint()
    assert again.inbox == ()
    assert len(again.inbox_done) == 1


def test_what_was_set_aside_by_a_checkpoint_that_was_not_written_is_in_the_next_in_order(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(start(wait("s")))
    log.transaction(signal(event_id="bad"))
    lost = log.book.collect()
    log.transaction(signal(event_id="more"))
    log.book.restore(lost)
    assert [held.event.event_id for held in inbox(log.checkpoint())] == ["bad", "more"]


def test_what_was_taken_back_by_a_checkpoint_that_was_not_written_is_taken_back_by_the_next(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(start(seq(wait("s"), wait("s"))))
    log.transaction(signal(event_id="bad"))
    held = inbox(log.checkpoint())
    log.transaction(release())
    broken.clear()
    log.book.release(log.live(), held)
    log.book.restore(log.book.collect())
    assert [done[0] for done in log.checkpoint().inbox_done] == [1]


def test_a_release_takes_up_the_log_where_it_was(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(start(seq(wait("s"), wait("s"))))
    log.transaction(signal(event_id="bad"))
    held = inbox(log.checkpoint())
    log.begin()
    log.insert(*release())
    at_us = log.book.at_us
    broken.clear()
    log.book.release(log.live(), held)
    assert log.book.at_us == at_us
    log.insert(*signal(event_id="next"))
    log.commit()
    assert log.live().status == "completed"


def test_releases_for_an_instance_that_is_not_quarantined_or_foreign_do_nothing(broken: set[str]) -> None:
    log = Log()
    released: list[Live] = []
    log.book.on_release = released.append
    log.transaction(start(wait("s")))
    log.transaction(release())
    broken.add("bad")
    log.transaction(signal(event_id="bad"))
    log.transaction(release(owner=BOB))
    assert released == []
    log.transaction(release(), release())
    assert len(released) == 1, "one release at a time"


def test_a_state_that_this_engine_cannot_read_is_kept_as_it_is(broken: set[str]) -> None:
    log = Log()
    log.transaction(start(wait("s")))
    live = Live(log.live().subject, machine.NEW, status="running", in_states=True)
    live.quarantined, live.unread = "CodecError: state of version 9", True
    other = Log()
    released: list[Live] = []
    other.book.on_release = released.append
    other.book.adopt(live)
    other.transaction(signal(), release())
    cut = other.checkpoint()
    assert cut.states == ()
    assert cut.dropped == ()
    assert places(cut) == [("signal", json.dumps([ALICE, "e1"]))]
    assert released == []


def test_a_state_from_before_the_quarantine_is_still_written(broken: set[str]) -> None:
    log = Log()
    broken.add("bad")
    log.transaction(start(seq(sql("a"), wait("s"), sql("b"))))
    log.transaction(done("3"), signal(event_id="bad"))
    ((_, text, _),) = log.checkpoint().states
    subject = log.live().subject
    assert Stored(VERSION, text).state(subject.scope, {}) == log.live().state


def test_an_effect_that_cannot_be_dispatched_quarantines_its_instance(broken: set[str]) -> None:
    log = Log()

    def dispatch(live: Live, effect: Effect) -> None:
        raise ValueError("no room")

    log.book.dispatch = dispatch
    log.transaction(start())
    assert log.live().quarantined == "ValueError: no room"
    assert machine.outstanding(log.live().subject, log.live().state) != ()


def test_want_of_memory_is_the_trouble_of_the_engine_and_of_no_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    log.transaction(start(wait("s")))

    def starving(*_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(machine, "progress", starving)
    with pytest.raises(MemoryError):
        log.book.collect(10**18)
    monkeypatch.setattr(machine, "fold", starving)
    with pytest.raises(MemoryError):
        log.transaction(start(key=2))
    assert {live.quarantined for live in log.book.instances.values()} == {None}


def test_a_bug_in_the_machine_is_the_trouble_of_one_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()

    def recursing(subject: Any, state: Any, event: Any) -> Any:
        return recursing(subject, state, event)

    monkeypatch.setattr(machine, "fold", recursing)
    log.transaction(start())
    assert (log.live().quarantined or "").startswith("RecursionError")


def test_an_events_place_of_a_scan_does_not_stay() -> None:
    log = Log()
    log.transaction(start(race(wait("s"), sql("a"))))
    before = log.book.at_us
    with log.book.elsewhere() as at:
        at(0, 5, Lsn(7), 1)
        log.book.completion(CompletionRow(ALICE, 1, "3", 1, "completed", None, "e", "1", None))
    assert log.book.at_us == before
    assert log.live().status == "completed"
    assert log.live().xids == (log.xid,)


# --- children and waits for instances ---------------------------------------------------------------------------------------


def child_of(parent: int, step: str, graph: Json | str, key: int) -> Row:
    return start(graph, key, f"~{parent}/{step}", parent_key=str(parent), parent_step=step, status="pending")


def test_a_child_that_was_inserted_cancelled_never_begins() -> None:
    log = Log()
    log.transaction(start("a", key=2, id_="~1/1", parent_key="1", parent_step="1", status="cancelled"))
    assert (log.effects, log.book.instances) == ([], {})
    counts = log.checkpoint().counts
    assert (counts.started, counts.cancelled) == (1, 1)


def test_of_a_child_that_is_asked_for_and_cancelled_in_one_transaction_only_the_cancelling_is_handed_out() -> None:
    log = Log()
    log.transaction(start(child(sql("a"))), cancel())
    assert log.effects == [(1, CancelChild("1", "e2"))]


def test_a_wait_is_marked_with_the_checkpoint_that_passes_it_whoever_waits() -> None:
    log = Log()
    log.transaction(wait_for(8, 9, "1"))
    assert log.book.dirty
    assert log.checkpoint().marks.wait == [(9, "1")]


class Deadlocks(Log):
    """A log whose book tells of waits that would never end."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str, str]] = []
        self.book.rings.on_deadlock = lambda live, step, why: self.found.append((live.key, step, why))


def test_the_wait_that_closes_a_ring_is_the_one_that_is_told() -> None:
    log = Deadlocks()
    for key, awaited in ((1, "w2"), (2, "w3"), (3, "w1")):
        log.transaction(start(await_(awaited), key, f"w{key}"))
    log.transaction(wait_for(2, 1, "1"))
    log.transaction(wait_for(3, 2, "1"))
    assert log.found == []
    log.transaction(wait_for(1, 3, "1"))
    assert log.found == [
        (3, "1", "Waiting for w1 would never end: w1 waits for w2, w2 waits for w3, w3 waits for w1"),
    ]


def test_a_child_that_waits_for_its_grandparent_closes_a_ring() -> None:
    log = Deadlocks()
    log.transaction(start(child(child(await_("w1")))))
    log.transaction(child_of(1, "1", child(await_("w1")), 2))
    log.transaction(child_of(2, "1", await_("w1"), 3))
    log.transaction(wait_for(1, 3, "1"))
    assert [(key, step) for key, step, _ in log.found] == [(3, "1")]


@pytest.mark.parametrize(
    "other",
    [
        await_("w1", 60),
        race(await_("w1"), sleep()),
        timeout(await_("w1"), 60),
        loop(join(await_("w1"), brk())),
        sql(),
    ],
    ids=["timeout of its own", "race", "timeout", "break beside it", "not begun"],
)
def test_a_ring_with_a_way_out_is_not_told(other: Json) -> None:
    log = Deadlocks()
    log.transaction(start(await_("w2")), start(other, key=2, id_="w2"))
    step = next((e.step for key, e in log.effects if key == 2 and isinstance(e, AwaitInstance)), "1")
    log.transaction(wait_for(1, 2, step))
    log.transaction(wait_for(2, 1, "1"))
    assert log.found == []


def test_a_child_with_a_timeout_is_a_way_out() -> None:
    log = Deadlocks()
    log.transaction(start(child(await_("w1"), timeout_seconds=60)))
    log.transaction(child_of(1, "1", await_("w1"), 2))
    log.transaction(wait_for(1, 2, "1"))
    assert log.found == []


UNDOING = seq(undo(sql(), await_("w1")), sleep())
"""Cancelled while it sleeps, it waits for w1 in its undo, as step 4."""


def undoing() -> Deadlocks:
    """A parent, for a minute at most, and a child that was cancelled by somebody and undoes."""
    log = Deadlocks()
    log.transaction(start(child(UNDOING, timeout_seconds=60)))
    log.transaction(child_of(1, "1", UNDOING, 2))
    log.transaction(done("3", key=2))
    log.transaction(cancel(key=2, id_="~1/1"))
    assert [effect for key, effect in log.effects if key == 2][-1] == AwaitInstance("4", "w1", f"e{log._ids}")
    return log


def test_an_undo_that_waits_for_a_parent_who_waits_for_its_end_is_told() -> None:
    log = undoing()
    log.transaction(cancel())
    assert log.found == []
    log.transaction(wait_for(1, 2, "4"))
    assert [(key, step) for key, step, _ in log.found] == [(2, "4")]


def test_an_undo_that_waits_for_its_parent_is_told_when_that_gives_it_up() -> None:
    log = undoing()
    log.transaction(wait_for(1, 2, "4"))
    assert log.found == [], "the parent waits for a minute at most"
    log.transaction(cancel())
    assert [(key, step) for key, step, _ in log.found] == [(2, "4")]


def test_a_child_that_has_not_heard_that_it_is_cancelled_may_do_nothing_but_end() -> None:
    log = Deadlocks()
    log.transaction(start(child(await_("w1"), timeout_seconds=60)))
    log.transaction(child_of(1, "1", await_("w1"), 2))
    log.transaction(wait_for(1, 2, "1"))
    log.transaction(cancel())
    assert log.found == []


def test_an_undo_that_is_away_and_waits_for_its_parent_is_told_when_it_comes_for_its_cancellation() -> None:
    log = undoing()
    log.transaction(wait_for(1, 2, "4"))
    away = log.live(2)
    log.book._send_to_sleep(away)
    log.transaction(cancel())
    assert log.found == []
    log.book.arrive(away, [], [WaitRow(1, 2, "4")])
    assert [(key, step) for key, step, _ in log.found] == [(2, "4")]


def test_a_child_of_an_undo_that_waits_for_the_parent_is_told_when_that_gives_it_up() -> None:
    log = Deadlocks()
    calls = seq(undo(sql(), child(await_("w1"))), sleep())
    log.transaction(start(child(calls, timeout_seconds=60)))
    log.transaction(child_of(1, "1", calls, 2))
    log.transaction(done("3", key=2))
    log.transaction(cancel(key=2, id_="~1/1"))
    log.transaction(child_of(2, "4", await_("w1"), 3))
    log.transaction(wait_for(1, 3, "1"))
    assert log.found == [], "the parent waits for a minute at most"
    log.transaction(cancel())
    assert [(key, step) for key, step, _ in log.found] == [(3, "1")]


def test_what_a_parent_gave_up_and_is_away_is_looked_for_as_a_link_of_a_ring() -> None:
    log = undoing()
    given_up = log.live(2)
    log.book._send_to_sleep(given_up)
    log.transaction(cancel())
    log.transaction(start(await_("w1"), key=50, id_="w50"))
    assert 2 not in log.book.absent
    log.transaction(wait_for(1, 50, "1"))
    assert 2 in log.book.absent


def test_a_wait_that_was_answered_is_no_link_of_a_ring() -> None:
    log = Deadlocks()
    log.transaction(start(seq(await_("w2"), sleep())), start(await_("w1"), key=2, id_="w2"))
    log.transaction(wait_for(2, 1, "2"))
    log.transaction(done("2", '{"instance_id":"w2"}', run_as=machine.ENGINE))
    log.transaction(wait_for(1, 2, "1"))
    assert log.found == []


def test_a_ring_that_is_looked_for_later_is_found() -> None:
    """As a new leader does, of whom nobody knows whether the last one has said it."""
    log = Deadlocks()
    log.transaction(start(await_("w2")), start(await_("w1"), key=2, id_="w2"))
    log.book.adopt_wait(WaitRow(2, 1, "1"))
    log.book.adopt_wait(WaitRow(1, 2, "1"))
    assert log.book.rings.waits(1, "1")
    log.book.rings.check(log.live(1), "1")
    assert [(key, step) for key, step, _ in log.found] == [(1, "1")]


# --- what a checkpoint says besides -----------------------------------------------------------------------------------------


def test_a_signal_says_which_step_took_it() -> None:
    log = Log()
    log.transaction(start(wait("s")), signal(event_id="s1"))
    assert log.checkpoint().marks.taken == {("s1", ALICE): "1"}


def test_progress_is_written_when_it_has_been_out_of_date_for_a_quarter_of_a_second() -> None:
    log = Log()
    log.transaction(start(wait("s")))
    log.checkpoint()
    assert log.book.progress_due_us() == log.at_us + PROGRESS_US
    assert log.book.collect(log.at_us + PROGRESS_US - 1).shown == ()
    cut = log.book.collect(log.at_us + PROGRESS_US)
    ((key, owner, text),) = cut.shown
    assert (key, owner) == (1, ALICE)
    assert json.loads(text)[0]["step"] == "1"
    log.book.restore(cut)
    cut = log.book.collect(log.at_us)
    assert [key for key, _, _ in cut.shown] == [1], "it was not written"
    log.book.stored(cut)
    assert log.book.progress_due_us() is None
    log.transaction(signal("other"))
    assert log.book.collect(log.at_us + PROGRESS_US).shown == (), "it says the same"


def test_progress_of_what_ends_is_removed_if_it_was_ever_shown() -> None:
    log = Log()
    log.transaction(start(wait("s")), start(wait("s"), key=2, id_="w2"))
    log.transaction(signal(key=2))
    log.book.stored(log.book.collect(log.at_us + PROGRESS_US))
    log.transaction(signal())
    assert log.book.progress_due_us() is None
    assert log.checkpoint().hidden == ((1, ALICE),)


def test_a_cut_counts_what_happened_and_one_that_was_not_written_is_counted_with_the_next() -> None:
    log = Log()
    log.transaction(start(seq(sql("a"), sql("b"))), start(key=2, id_="w2"), ("heartbeats", {"epoch": "3"}))
    log.transaction(done("2"), done("1", key=2))
    log.book.restore(log.book.collect())
    log.transaction(cancel())
    log.transaction(done("3", outcome="cancelled", error='{"message":"x"}'))
    counts = log.checkpoint().counts
    assert counts == Counts(started=2, completed=1, failed=0, cancelled=1, executions=3, events=6)
    assert log.checkpoint().counts == Counts()
