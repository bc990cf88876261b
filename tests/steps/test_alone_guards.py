"""Before a statement runs on its own: it has no key of its own to stop it, so it is asked first whether it may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.executors.sql import _BEFORE_ALONE
from tests.servers import ENGINE_ROLE, Cluster, Database


@pytest.fixture(scope="module")
def home(server18: Cluster) -> Iterator[Database]:
    made = server18.database()
    made.run("select df.start('vacuum', id => 'alone')", role="alice")
    yield made
    made.drop()


def asked(home: Database, *, later: int = 0, xids: str | None = None, step: str = "1", attempt: int = 1) -> str:
    """What alice's connection answers, `later` epochs after the present one."""
    ((epoch, key),) = home.run("select e.epoch, i.key from df.epoch e, df.instances i where i.id = 'alone'")
    given = [str(epoch + later), xids, str(key), step, "alone", str(attempt)]
    with home.connect("alice") as alice:
        result = alice.pgconn.exec_params(_BEFORE_ALONE, [None if value is None else value.encode() for value in given])
        return (result.get_value(0, 0) or result.error_message).decode()


@pytest.mark.parametrize("later", [-1, 1])
def test_what_runs_on_its_own_is_not_begun_by_an_engine_that_does_not_lead(home: Database, later: int) -> None:
    assert asked(home) == "go"
    assert asked(home, later=later) == "fenced"


def test_what_runs_on_its_own_is_not_begun_before_its_cause_is_visible(home: Database) -> None:
    with home.connect("bob", autocommit=False) as bob:
        found = bob.execute("select pg_current_xact_id()::text").fetchone()
        assert found is not None
        xids = f"{{3,{found[0]}}}"
        assert asked(home, xids=xids) == "invisible"
        bob.commit()
    assert asked(home, xids=xids) == "go"


def test_what_runs_on_its_own_is_not_begun_when_its_key_is_taken(home: Database) -> None:
    home.run(
        "insert into df.completions (run_as, instance_key, step, attempt, outcome) "
        "select i.submitter, i.key, '7', 1, 'failed' from df.instances i",
        role=ENGINE_ROLE,
    )
    assert asked(home, step="7") == "exists"
    assert asked(home, step="7", attempt=2) == "go"
