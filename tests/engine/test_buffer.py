"""Buffered signals: a value, and cheap however many there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import buffer, machine
from engine.buffer import DEEPEST, NAMES_IN_A_LEAF, NO_SIGNALS, Signals, buffered
from engine.codec import VERSION, Stored, encode
from engine.errors import MachineError
from engine.events import Signalled, Started
from engine.machine import NEW
from tests.engine.machinery import loop, seq, sql, subject_of, wait

MANY = 5_000


def signal(number: int, name: str = "s") -> Signalled:
    return Signalled(f"event-{number}", number, name, "{}")


def many(names: int) -> Signals:
    return buffered(signal(n, f"s{n % names}") for n in range(MANY))


NAMES = st.sampled_from([None, "a", "b", "c"]) | st.integers(0, 99).map(str)
OPERATIONS = st.lists(st.tuples(st.integers(0, 2), NAMES), min_size=10)


@given(OPERATIONS)
def test_every_version_stays_what_it_was_whatever_comes_of_it(operations: list[tuple[int, str | None]]) -> None:
    """Each goes on from any version that there is: the youngest, or one that others went on from before."""
    versions: list[tuple[Signals, list[Signalled]]] = [(NO_SIGNALS, [])]
    for number, (back, name) in enumerate(operations):
        signals, model = versions[max(0, len(versions) - 1 - back)]
        oldest = model[0].name if model and name is None else name or "a"
        expected = next((s for s in model if s.name == oldest), None)
        assert signals.oldest(oldest) == expected
        if expected is not None and name in (None, "c"):
            versions.append((signals.without_oldest(oldest), [s for s in model if s is not expected]))
        else:
            versions.append((signals.put(signal(number, oldest)), [*model, signal(number, oldest)]))
    for signals, model in versions:
        assert list(signals) == model
        assert len(signals) == len(model)
        assert signals == buffered(model)


def test_what_differs_is_not_equal() -> None:
    assert buffered([signal(1)]) != buffered([signal(2)])
    assert buffered([signal(1)]) != NO_SIGNALS
    assert buffered([signal(1), signal(2)]) != buffered([signal(2), signal(1)])
    assert NO_SIGNALS != ()
    assert hash(buffered([signal(1)])) == hash(buffered([signal(1)]))
    assert repr(buffered([signal(1)])) == f"Signals([{signal(1)!r}])"


def test_names_whose_hashes_are_the_same_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "hash", lambda _: 7, raising=False)
    signals = many(100)
    assert [signals.oldest(f"s{n}") for n in range(100)] == [signal(n, f"s{n}") for n in range(100)]
    assert _depth(signals._tree) == DEEPEST


def _depth(tree: buffer._Tree) -> int:
    return 1 + max(map(_depth, tree)) if isinstance(tree, tuple) else 0


def _leaves(tree: buffer._Tree) -> list[dict[str, buffer._Queue]]:
    return [leaf for part in tree for leaf in _leaves(part)] if isinstance(tree, tuple) else [tree]


def test_thousands_of_names_cost_each_of_them_little() -> None:
    signals = many(MANY)
    assert max(map(len, _leaves(signals._tree))) <= NAMES_IN_A_LEAF
    assert _depth(signals._tree) <= DEEPEST // 2


@pytest.mark.parametrize("names", [1, 3])
def test_thousands_of_one_name_are_put_in_and_taken_out_without_copying_each_time(
    monkeypatch: pytest.MonkeyPatch, names: int
) -> None:
    copied = 0
    copy = buffer._Queue._copied

    def counting(queue: buffer._Queue) -> buffer._Queue:
        nonlocal copied
        copied += queue.end - queue.start
        return copy(queue)

    monkeypatch.setattr(buffer._Queue, "_copied", counting)
    signals = many(names)
    assert copied == 0
    for n in range(MANY):
        assert signals.oldest(f"s{n % names}") == signal(n, f"s{n % names}")
        signals = signals.without_oldest(f"s{n % names}")
    assert signals is NO_SIGNALS
    assert copied <= MANY


def test_what_was_taken_is_not_held_on_to() -> None:
    signals = many(1)
    for _ in range(MANY - 10):
        signals = signals.without_oldest("s0")
    (leaf,) = _leaves(signals._tree)
    assert len(leaf["s0"].entries) <= 10 + buffer.FEWEST_DROPPED


def test_a_fold_that_raises_has_buffered_nothing() -> None:
    subject = subject_of(loop(seq(wait("go"), sql())))
    state, _ = machine.fold(subject, NEW, Started("start", 1))
    state, _ = machine.fold(subject, state, signal(2))
    before = encode(state, subject.scope)
    other, _ = machine.fold(subject, state, signal(3))
    with pytest.raises(MachineError):
        machine.fold(subject, state, Started("again", 4))
    again, _ = machine.fold(subject, state, signal(5))
    assert encode(state, subject.scope) == before
    assert [list(s.signals) for s in (state, other, again)] == [
        [signal(2)],
        [signal(2), signal(3)],
        [signal(2), signal(5)],
    ]


def test_thousands_of_buffered_signals_come_back_in_their_order() -> None:
    subject = subject_of(loop(seq(wait("go"), sql())))
    state = machine.State(signals=many(70))
    text = encode(state, subject.scope)
    again = Stored(VERSION, text).state(subject.scope, {})
    assert again == state
    assert encode(again, subject.scope) == text
