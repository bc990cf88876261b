"""What a scan makes of events that an earlier leader had set aside: they are marked, so nothing else brings them."""

from __future__ import annotations

import json

import pytest

from engine.codec import VERSION, encode
from tests.engine.machinery import run, seq, sql, wait
from tests.engine.test_scan import scanned
from tests.servers import ENGINE_ROLE, Database

GRAPH = seq(wait("go"), sql("select 2"))


@pytest.fixture
def key(database: Database) -> int:
    """An instance that slept when its signal came, and then its slot was lost."""
    database.run("select df.start(%s, id => 'slept')", [json.dumps(GRAPH)], role="alice")
    ((key,),) = database.run("select key from df.instances where id = 'slept'")
    begun = run(GRAPH)
    state = encode(begun.state, begun.subject.scope)
    database.run("insert into df.states values (%s, %s, %s, 'infinity')", [key, VERSION, state], role=ENGINE_ROLE)
    database.run("update df.instances set status = 'running'", role=ENGINE_ROLE)
    database.run("insert into df.signals (instance_id, name) values ('slept', 'go')", role="alice")
    database.run("update df.signals set folded = true", role=ENGINE_ROLE)
    database.run(
        "insert into df.inbox (instance_key, lsn, ordinal, kind, row_key, commit_time, xid) "
        "select %s, '0/10', 1, 'signal', json_build_array(owner::bigint, event_id)::text, recorded_at, '7' from df.signals",
        [key],
        role=ENGINE_ROLE,
    )
    return int(key)


def test_a_scan_folds_what_was_set_aside_while_an_instance_slept(database: Database, key: int) -> None:
    book, _ = scanned(database)
    cut = book.collect()
    assert cut.inbox_done == ((key, 0x10, 1),)
    assert [taken for _, taken in cut.marks.taken.items()] == ["2"]


def test_a_scan_folds_a_completion_that_was_set_aside_once(database: Database, key: int) -> None:
    """It is met in its table, too."""
    database.run(
        "insert into df.completions (run_as, instance_key, step, attempt, outcome, result) "
        "select submitter, key, '3', 1, 'completed', '{}' from df.instances",
        role=ENGINE_ROLE,
    )
    database.run(
        "insert into df.inbox (instance_key, lsn, ordinal, kind, row_key, commit_time, xid) "
        "select key, '0/20', 1, 'completion', json_build_array(submitter::bigint, '3', 1)::text, now(), '8' from df.instances",
        role=ENGINE_ROLE,
    )
    book, _ = scanned(database)
    cut = book.collect()
    assert cut.inbox_done == ((key, 0x20, 1),)
    assert [change.status for change in cut.changes] == ["completed"]
