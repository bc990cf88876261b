"""Disk full (53100) and out of memory (53200): a step fails with it, for its workflow to decide; what the engine writes is
written when there is room again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.harness import NOISE, fault, times
from tests.servers import Database, wait_until
from tests.workflows import World, world

RAISE = "do $$ begin if nextval(''public.tries'') % 3 <> 0 then raise ''no room'' using errcode = ''{code}''; end if; end $$"
"""Fails twice, and then does not."""
FULL = """
create table public.room (enough boolean);
insert into public.room values (true);
grant select on public.room to public;
create function public.needs_room() returns trigger language plpgsql as $$
begin
  if not (select r.enough from public.room r) then
    raise 'could not extend file' using errcode = 'disk_full';
  end if;
  return new;
end $$;
create trigger needs_room before insert or update on df.states for each row execute function public.needs_room();
create trigger needs_room before insert on df.completions
  for each row when (new.run_as = 0) execute function public.needs_room();
"""
ONCE = """
create sequence public.troubles;
grant usage on sequence public.troubles to public;
create function public.fails_once() returns trigger language plpgsql as $$
begin
  if nextval('public.troubles') = 1 then
    raise 'trouble' using errcode = '{code}';
  end if;
  return new;
end $$;
create trigger fails_once before insert on df.completions
  for each row when (new.run_as <> new.written_by) execute function public.fails_once();
"""


@pytest.mark.parametrize(("code", "what"), [("53100", "disk full"), ("53200", "out of memory")])
def test_a_step_without_room_fails_with_that_and_its_workflow_decides(
    database: Database, tmp_path: Path, code: str, what: str
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault(f"a step meets {what} ({code})", here) as seen:
        here.run("create sequence public.tries", role="alice")
        step = RAISE.format(code=code)
        caught = here.build(f"select df.catch('{step}', 'select $error.code as code')")
        retried = here.build(f"select df.retry('{step}', 2, '0.01') ~> 'select 1 as n'")
        for _ in range(times(2, 20)):
            seen.load.start()
            assert here.outcome(caught).rows == [{"code": code}]
            assert here.outcome(retried).rows == [{"n": 1}]
            seen.goes_on()


def test_a_step_that_meets_a_full_device_fails_with_53100(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    writer = database.new_role("writer")
    with world(database, engine) as here, fault("a step writes to a full device", here) as seen:
        here.run(f"grant pg_write_server_files to {writer}")
        step = "copy (select repeat('x', 100000)) to '/dev/full'"
        [(graph,)] = here.run("select df.catch(%s, 'select $error.code as code')", [step])
        for _ in range(times(2, 20)):
            seen.load.start()
            assert here.outcome(graph, role=writer).rows == [{"code": "53100"}]
            seen.goes_on()


def test_without_room_for_what_the_engine_writes_it_waits_and_goes_on(database: Database, tmp_path: Path) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here, fault("no room for the engine's own rows (disk full)", here) as seen:
        here.run(FULL)
        for _ in range(times(2, 10)):
            before = engine.log().count("could not extend file")
            with full(here):
                seen.load.start()
                wait_until(lambda: engine.log().count("could not extend file") > before)  # noqa: B023 (called here)
            assert seen.goes_on() < NOISE * 10
        assert engine.returncode is None


@pytest.mark.parametrize("code", ["53100", "57014", "58030"])
def test_an_outcome_whose_row_meets_trouble_of_the_servers_is_recorded_later_as_it_was(
    database: Database, tmp_path: Path, code: str
) -> None:
    engine = database.engine(tmp_path, log_level="info").start()
    with world(database, engine) as here:
        here.run("create table public.swept (i int)", role="alice")
        for graph in ("vacuum public.swept", "select 1/0", here.build("select df.sleep('0.01')")):
            here.run(ONCE.format(code=code))
            outcome = here.outcome(graph)
            assert outcome.status == "completed" or outcome.code == "22012", outcome
            assert here.value("select last_value from public.troubles") > 1, "there was trouble, and another try"
            here.run("drop function public.fails_once() cascade; drop sequence public.troubles")


@contextmanager
def full(here: World) -> Iterator[None]:
    here.run("update public.room set enough = false")
    yield
    here.run("update public.room set enough = true")
