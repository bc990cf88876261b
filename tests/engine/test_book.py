"""The book, driven with the messages of a log: who gets which row, what a checkpoint has to write, what is set aside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc.lsn import Lsn
from cdc.messages import Insert, Value
from cdc.relations import Relation
from engine import machine
from engine.book import Book, Cut, HeldEvent, Live, Marks
from engine.codec import VERSION, Stored
from engine.effects import CancelStep, Effect, Execute, Finish
from engine.errors import MachineError
from engine.rows import CompletionRow
from engine.visibility import Visibility
from sql.publication import PUBLISHED
from tests.engine.machinery import Json, cell, join, race, seq, sql, wait

ALICE, BOB = 16_385, 16_386
NEXT_XID = 1_000


class Log:
    """A log, and the book that reads it. Each call of `transaction` is one."""

    def __init__(self, *, stored: int = 0) -> None:
        self.effects: list[tuple[int, Effect]] = []
        self.book = Book(
            visibility=Visibility(NEXT_XID),
            dispatch=lambda live, effect: self.effects.append((live.key, effect)),
            stored=Lsn(stored),
        )
        self.position = 100
        self.xid = NEXT_XID
        self.at_us = 1_700_000_000_000_000
        self._relations = {name: relation(name, oid) for oid, name in enumerate(PUBLISHED, 1)}
        self._ids = 0

    def transaction(self, *rows: tuple[str, dict[str, Value]]) -> Lsn:
        self.begin()
        for table, values in rows:
            self.insert(table, values)
        return self.commit()

    def begin(self) -> None:
        self.position += 100
        self.xid += 1
        self.at_us += 1_000_000
        self.book.begin(self.xid, self.at_us, Lsn(self.position))

    def insert(self, table: str, values: dict[str, Value]) -> None:
        of = self._relations[f"df.{table}"]
        self._ids += 1
        given: dict[str, Value] = {"event_id": f"e{self._ids}", **values}
        self.book.insert(Insert(of, tuple(given.get(column) for column in of.columns)))

    def commit(self) -> Lsn:
        end = Lsn(self.position + 50)
        self.book.commit(end)
        return end

    # --- what came of it ------------------------------------------------------------------------------------------

    def live(self, key: int = 1) -> Live:
        return self.book.instances[key]

    def asked(self, key: int = 1) -> list[str]:
        return [effect.query for k, effect in self.effects if k == key and isinstance(effect, Execute)]

    def checkpoint(self) -> Cut:
        cut = self.book.collect()
        self.book.stored(cut)
        return cut


def relation(name: str, oid: int) -> Relation:
    return Relation(oid=oid, schema="df", name=name.removeprefix("df."), columns=tuple(PUBLISHED[name]))


Row = tuple[str, dict[str, Value]]


def start(graph: Json | str = "select 1", key: int = 1, id_: str = "w1", owner: int = ALICE, **more: Value) -> Row:
    text = graph if isinstance(graph, str) else json.dumps(graph)
    return "instances", {"key": str(key), "submitter": str(owner), "id": id_, "graph": text, **more}


def signal(
    name: str = "s", data: Value = "{}", *, key: int | None = 1, id_: str = "w1", owner: int = ALICE, **more: Value
) -> Row:
    return "signals", {**command(key, id_, owner), "name": name, "data": data, **more}


def cancel(reason: str = "why", *, key: int | None = 1, id_: str = "w1", owner: int = ALICE) -> Row:
    return "cancellations", {**command(key, id_, owner), "reason": reason}


def release(*, key: int | None = 1, owner: int = ALICE) -> Row:
    return "releases", {**command(key, "w1", owner), "reason": "repaired"}


def command(key: int | None, id_: str, owner: int) -> dict[str, Value]:
    return {"owner": str(owner), "instance_id": id_, "instance_key": None if key is None else str(key)}


def done(step: str = "1", result: Value = '{"rows":[]}', *, key: int = 1, run_as: int = ALICE, **more: Value) -> Row:
    values: dict[str, Value] = {
        "run_as": str(run_as), "instance_key": str(key), "step": step, "attempt": "1", "written_by": str(run_as),
        "outcome": "completed", "result": result, **more,
    }  # fmt: skip
    return "completions", values


# --- starting, going on, ending -----------------------------------------------------------------------------------------


def test_an_inserted_row_runs_its_first_step_at_once() -> None:
    log = Log()
    log.begin()
    log.insert(*start())
    assert log.asked() == ["select 1"]


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


def test_completions_heartbeats_and_waits_for_nobody_are_passed_over() -> None:
    log = Log()
    log.transaction(done(key=99), ("heartbeats", {"epoch": "3"}), ("waits", {"instance_key": "1"}), signal(key=99))
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
    ((key, text),) = cut.states
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
    assert [key for key, _ in cut.states] == [1, 2, 3]
    assert not log.book.dirty
    log.transaction(signal(key=2))
    cut = log.checkpoint()
    assert cut.changes == (), "the status is what it was"
    assert [key for key, _ in cut.states] == [2]


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
    assert [key for key, _ in cut.states] == [2]
    assert cut.marks.signal == [("s1", ALICE), ("s2", ALICE)]


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
    assert len(cut.inbox_done) == 3
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
    ((_, text),) = log.checkpoint().states
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
