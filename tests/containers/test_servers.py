"""What matters most, on servers and engines in containers: the image as it is deployed, passwords, a network between the two."""

from __future__ import annotations

import random
import time

import pytest

from tests.containers.conftest import NewEngine
from tests.faults.harness import fault, times
from tests.servers import Database
from tests.workflows import world

pytestmark = pytest.mark.timeout(600)  # the first test to run makes the images


def test_steps_run_in_order_as_the_role_that_submitted_them(each_database: Database, new_engine: NewEngine) -> None:
    with world(each_database, new_engine(each_database).start()) as here:
        here.run("create table public.steps (n int generated always as identity, word text, who text)", role="alice")
        step = "'insert into public.steps (word, who) values (''%s'', current_user)'"
        id = here.start(here.build(f"select {step % 'one'} ~> ({step % 'two'} & {step % 'too'}) ~> {step % 'three'}"))
        assert here.end(id).status == "completed"
        rows = here.run("select word, who from public.steps order by n")
        assert [word for word, _ in rows][::3] == ["one", "three"]
        assert sorted(rows[1:3]) == [("too", "alice"), ("two", "alice")]


def test_a_signal_sent_before_the_wait_and_one_sent_after_it_are_both_delivered(
    each_database: Database, new_engine: NewEngine
) -> None:
    with world(each_database, new_engine(each_database).start()) as here:
        id = here.start(here.build("select df.wait_for_signal('first') ~> df.wait_for_signal('second')"))
        send = "insert into df.signals (instance_id, name, data) values (%s, %s, %s)"
        here.run(send, [id, "first", "1"], "alice")
        here.wait_for(id, "running")
        here.run(send, [id, "second", '{"n": 2}'], "alice")
        outcome = here.end(id)
        assert outcome.result is not None
        assert '"n": 2' in outcome.result


def test_each_step_runs_exactly_once_though_the_engine_is_killed(
    each_database: Database, new_engine: NewEngine
) -> None:
    engine = new_engine(each_database).start()
    chance = random.Random(30)
    with world(each_database, engine) as here, fault("the engine's container is killed", here) as seen:
        for _ in range(times(2, 20)):
            seen.load.start()
            time.sleep(chance.uniform(0, 0.4))  # the random moment; nothing waits for it
            engine.kill()
            seen.load.start()  # nobody listens
            began = time.monotonic()
            engine.start()
            seen.goes_on(began)
