"""The cross-check of the tables with what was folded, between a read and the fold of what it brought."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from cdc.lsn import Lsn
from engine.recovery import fold_missed
from engine.rows import InstanceRow
from engine.store import Scanning
from engine.store.rows import Seen, StoredInstance
from tests.engine.logbook import ALICE, Log, start
from tests.engine.machinery import wait

ROW = InstanceRow(
    1, ALICE, "w1", '{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"s\\"}"}', None, None, None, None, "e1", ""
)
READ = StoredInstance(
    row=ROW, status="pending", quarantined=None, started_us=None, recorded_us=0, submitted_by="alice", version=None, state=None,
    asleep=False,
)  # fmt: skip
SEEN = Seen(Lsn(1), [1], {"signal": [], "cancellation": [], "release": []}, [], [])


class Tables:
    """One instance without a state; `meanwhile` happens while it, or what is found of it, is read."""

    def __init__(self, during: str, meanwhile: Callable[[], None]) -> None:
        self._during = during
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        async def read(*_: object) -> Sequence[object]:
            if name == self._during:
                self._meanwhile()
            return [READ] if name == "unfinished_among" else []

        return read


def missed(log: Log, during: str, meanwhile: Callable[[], None]) -> int:
    tables = cast(Scanning, Tables(during, meanwhile))
    return asyncio.run(fold_missed(tables, log.book, SEEN))


def test_what_the_log_left_out_is_begun() -> None:
    log = Log()
    assert missed(log, "", lambda: None) == 1
    assert 1 in log.book.instances


@pytest.mark.parametrize("during", ["unfinished_among", "completions_of"])
@pytest.mark.parametrize("admission", [1, 10], ids=["and went to sleep", "and runs"])
def test_what_began_meanwhile_is_not_begun_again(during: str, admission: int) -> None:
    log = Log()

    def begins() -> None:
        log.transaction(start(wait("s")))
        log.checkpoint()
        log.checkpoint(now_us=log.at_us + 10_000_000)  # what is shown of it
        log.book.visibility.proven(log.book.visibility.unproven())
        log.book.admission = admission
        log.transaction()
        log.checkpoint()

    assert missed(log, during, begins) == 0
    assert (1 in log.book.instances) == (admission == 10)
    assert not log.book.collect().lives, "nothing was folded again"
