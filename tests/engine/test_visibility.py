"""A row may arrive before it can be seen: the transactions that an effect has to wait for, none forgotten and none mistaken."""

from __future__ import annotations

import pytest

from engine.book import MANY_XIDS
from engine.visibility import Visibility
from tests.engine.logbook import Log, signal, start
from tests.engine.machinery import wait

ROUND = 1 << 32


@pytest.mark.parametrize(
    ("near", "xid", "meant"),
    [
        (5 * ROUND + 10, 7, 5 * ROUND + 7),
        (5 * ROUND + 2, ROUND - 1, 5 * ROUND - 1),
        (5 * ROUND + ROUND - 2, 3, 6 * ROUND + 3),
    ],
)
def test_a_transaction_id_of_32_bits_is_that_of_the_round_it_is_nearest_to(near: int, xid: int, meant: int) -> None:
    visibility = Visibility(near)
    assert visibility.folded(xid) == meant
    assert visibility.unproven() == [meant]


def test_an_effect_waits_for_however_many_transactions_cannot_be_seen_yet() -> None:
    log = Log()
    log.transaction(start(wait("s")))
    for _ in range(2 * MANY_XIDS):
        log.transaction(signal("other"))
    live = log.live()
    assert log.book.visibility.still_unproven(live.xids) == tuple(sorted(log.book.visibility.unproven()))
    assert len(live.xids) == 1 + 2 * MANY_XIDS


def test_what_is_known_to_be_visible_is_waited_for_no_more() -> None:
    log = Log()
    log.transaction(start(wait("s")))
    log.book.visibility.proven(log.live().xids)
    log.transaction(signal("other"))
    assert log.book.visibility.still_unproven(log.live().xids) == (log.xid,)
