"""Long work says how far it is, once it has taken long, and not at every turn."""

from __future__ import annotations

from engine.longwork import LongWork


def test_it_is_told_after_a_second_and_then_once_a_second() -> None:
    now, told = 100.0, list[tuple[float, str]]()
    work = LongWork(lambda where: told.append((now, where)), lambda: now)
    for tenth in range(31):
        now = 100 + tenth / 10
        work.at(f"{tenth} tenths")
    assert [where for _, where in told] == ["10 tenths", "20 tenths", "30 tenths"]


def test_what_is_done_by_then_is_not_worth_a_word() -> None:
    now, told = 0.0, list[str]()
    work = LongWork(told.append, lambda: now, every_seconds=10)
    now = 9.9
    work.at("nearly done")
    assert told == []
