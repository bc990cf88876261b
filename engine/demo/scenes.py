"""The five scenes: the SQL that a user types, what becomes of it, and what must hold in the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from engine.demo.screen import Screen
from engine.demo.stage import NotAsItMust, Stage, until
from engine.demo.story import Story, draw_all, story

PATIENCE_SECONDS: Final = 30.0
"""For what takes well under a second on an idle machine."""
LATE_SECONDS: Final = 1.5
"""How far a moment may be off on a busy machine; on an idle one it is some milliseconds."""
AFTER_SECONDS: Final = 0.5
"""How long after the last moment at which it could have happened we look whether it has not."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long the scenes wait, in seconds."""

    signal_after: int
    signal_timeout: int
    sleep: int
    unanswered: int
    short_step: float
    long_step: float
    iterations: int


DEFAULT: Final = Pace(
    signal_after=4, signal_timeout=20, sleep=15, unanswered=3, short_step=0.5, long_step=4.0, iterations=8
)
FAST: Final = Pace(signal_after=1, signal_timeout=8, sleep=3, unanswered=1, short_step=0.4, long_step=1.5, iterations=4)


@dataclass(frozen=True, slots=True)
class Flight:
    """A step that is under way."""

    backend: int
    seconds: float
    iteration: int


class Play:
    """The scenes in order, on one stage."""

    def __init__(self, stage: Stage, screen: Screen, pace: Pace) -> None:
        self._stage = stage
        self._screen = screen
        self._pace = pace
        self._later: list[tuple[float, Callable[[], None]]] = []

    def run(self) -> None:
        """Shows everything. Raises NotAsItMust where nothing sensible could follow."""
        for scene in (self._order, self._approval, self._loops, self._crash, self._thousand):
            scene()
        self._end()

    # --- the means ----------------------------------------------------------------------------------------------------

    def _type(self, text: str) -> None:
        """Shows a script and runs it, exactly as shown."""
        self._screen.sql(text)
        table = self._stage.type(text)
        if table is not None:
            self._screen.table(table)

    def _follow(self, *ids: str, timeout_seconds: float = PATIENCE_SECONDS) -> list[Story]:
        """Draws instances until all of them have ended."""
        told: list[Story] = []

        def draw() -> tuple[RenderableType, bool]:
            told[:] = [found for i in ids if (found := story(self._stage, i)) is not None]
            return draw_all(told), len(told) == len(ids) and all(one.over for one in told)

        self._screen.watch(draw, timeout_seconds, f"{', '.join(ids)} ended")
        for one in told:
            if one.status != "completed":
                raise NotAsItMust(f"{one.id} is {one.status}: {self._error(one.id)}")
        return told

    def _error(self, instance_id: str) -> object:
        return self._stage.look("select error from df.instances where id = %s", instance_id)[0][0]

    def _same(self, what: str, query: str, wanted: object) -> None:
        """A claim about the only value of a query."""
        seen = self._stage.value(query)
        self._screen.check(what, seen == wanted, seen)

    # --- 1 -----------------------------------------------------------------------------------------------------------------

    def _order(self) -> None:
        self._screen.scene("1. An order", "The business row and its workflow are written in one transaction.")
        self._stage.type(_SHOP)
        self._type(_ORDER.replace(":id", "1001").replace(":end", "commit"))
        self._follow("order-1001")
        self._type("select status, result -> 'rows' -> 0 as result\n  from df.instances where id = 'order-1001';")
        self._same("the order is shipped", "select status from orders where id = 1001", "shipped")
        self._same("it was paid once", "select count(*) from payments where order_id = 1001", 1)
        self._same("two lamps left the stock", "select pieces from stock where item = 'lamp'", 38)

        self._screen.aside("The same, rolled back:")
        self._type(_ORDER.replace(":id", "1002").replace(":end", "rollback"))
        nothing = """
            select (select count(*) from orders where id = 1002) + (select count(*) from payments where order_id = 1002)
                 + (select count(*) from df.instances where id = 'order-1002')
        """
        self._same("nothing is there, and nothing runs", nothing, 0)
        self._at_the_end(0, "the order that was rolled back has never run", nothing, 0)

    # --- 2 -----------------------------------------------------------------------------------------------------------------

    def _approval(self) -> None:
        pace = self._pace
        self._screen.scene(
            "2. Approve or expire", "Two branches race; whoever finishes first wins, the other is stopped."
        )
        self._stage.type("create table decisions (request int, what text);")
        race = _RACE.replace(":timeout", str(pace.signal_timeout)).replace(":sleep", str(pace.sleep))
        began = time.monotonic()
        self._type(_ONE_REQUEST.replace(":race", race.replace(":n", "1")))
        self._wait_and_signal()
        (told,) = self._follow("request-1")
        on_time = pace.signal_after <= told.seconds <= pace.signal_after + LATE_SECONDS
        self._screen.check(f"the signal won, {pace.signal_after} s after the start", on_time, f"{told.seconds:.3f} s")
        self._same("maria approved", "select what from decisions where request = 1", "approved by maria")
        self._at_the_end(
            began + pace.sleep + AFTER_SECONDS,
            f"{pace.sleep} s after the start the other branch has written nothing",
            "select string_agg(what, ', ') from decisions where request = 1",
            "approved by maria",
        )

        self._screen.aside("The signal in the very transaction that starts the workflow:")
        self._type(_SIGNAL_AT_ONCE.replace(":race", race.replace(":n", "2")))
        (told,) = self._follow("request-2")
        self._screen.check("it was not lost", told.seconds < pace.sleep, f"{told.seconds:.3f} s")
        self._same("jo approved", "select string_agg(what, ', ') from decisions where request = 2", "approved by jo")

        self._screen.aside("Decide first and act afterwards: what loses cannot have written anything.")
        self._type(_DECIDE.replace(":patience", str(pace.unanswered)))
        self._follow("request-3", "request-4")
        self._same("one was approved", "select string_agg(what, ', ') from decisions where request = 3", "approved")
        self._same("one expired", "select string_agg(what, ', ') from decisions where request = 4", "expired")

    def _wait_and_signal(self) -> None:
        """Draws the waiting instance for a while, then types the signal in its time."""
        send_at = time.monotonic() + self._pace.signal_after - self._elapsed("request-1")

        def draw() -> tuple[RenderableType, bool]:
            told = story(self._stage, "request-1")
            assert told is not None
            return told.draw(), time.monotonic() >= send_at

        self._screen.watch(draw, PATIENCE_SECONDS, "time passes")
        self._screen.aside(f"{self._pace.signal_after} s after the start, from any session:")
        self._type(_SIGNAL)

    def _elapsed(self, instance_id: str) -> float:
        query = "select extract(epoch from clock_timestamp() - created_at)::float8 from df.instances where id = %s"
        return float(self._stage.look(query, instance_id)[0][0])

    # --- 3 -----------------------------------------------------------------------------------------------------------------

    def _loops(self) -> None:
        self._screen.scene("3. Loops in loops", "prefix ~> loop(a nested loop, then a join) ~> suffix")
        self._stage.type("create table trail (what text, at timestamptz default clock_timestamp());")
        self._type(_NESTED)
        self._follow("nested")
        self._type(_TRAIL)
        table = self._stage.type(_TRAIL)
        assert table is not None
        seen = {row[0]: row[1] for row in table.rows}
        self._screen.check("the prefix ran once", seen.get("prefix") == 1, seen)
        self._screen.check("the body ran three times, and the loop in it three times each", _bodies(seen), seen)
        self._screen.check("the suffix ran once", seen.get("suffix") == 1, seen)
        self._same("and last", "select what from trail order by at desc limit 1", "suffix")

    # --- 4 -----------------------------------------------------------------------------------------------------------------

    def _crash(self) -> None:
        pace = self._pace
        self._screen.scene("4. kill -9", "A loop writes 1, 2, 3 … into a table without any key; the engine dies twice.")
        self._stage.type("create table ledger (n int, backend int);")
        short, long = 2, pace.iterations - 1
        text = _LEDGER.replace(":last", str(pace.iterations)).replace(":slow", str(long))
        self._type(text.replace(":long", f"{pace.long_step:g}").replace(":short", f"{pace.short_step:g}"))
        for iteration in (short, long):
            self._kill_in(iteration)
        self._follow("ledger")
        self._type("select string_agg(n::text, ' ' order by n) as ledger, count(*) from ledger;")
        numbers = f"select array_agg(n order by n) = array(select generate_series(1, {pace.iterations})) from ledger"  # noqa: S608
        self._same("no step ran twice, and none is missing", numbers, True)

    def _kill_in(self, iteration: int) -> None:
        """Kills the engine while a step is in flight, of this iteration or a later one, and starts another."""
        flight = self._follow_until_in_flight(iteration)
        pid = self._stage.engine_pid
        self._stage.kill_engine()
        killed = time.monotonic()
        told = f"the step of iteration {flight.iteration} has been in flight for {flight.seconds:.1f} s"
        self._screen.line(f"$ kill -9 {pid}    # {told}", "bold red")
        self._stage.start_engine()
        away = time.monotonic() - killed
        self._screen.line(f"$ walflow run      # leads {away:.1f} s after the kill", "bold green")
        self._tell_what_became_of(flight)

    def _tell_what_became_of(self, flight: Flight) -> None:
        """The backend of a dead engine ends by itself, or is ended by the new engine; either way the key decides."""
        gone = f"select count(*) = 0 from pg_stat_activity where pid = {flight.backend}"  # noqa: S608  # a number
        until(lambda: bool(self._stage.value(gone)), PATIENCE_SECONDS, f"backend {flight.backend} is gone")
        written = f"select count(*) from ledger where (n, backend) = ({flight.iteration}, {flight.backend})"  # noqa: S608
        if self._stage.value(written):
            self._screen.line("  it had still committed, and its completion with it: it is not run again", "dim")
        else:
            self._screen.line("  it was rolled back with its connection, and is run again from its beginning", "dim")
        self._screen.gap()

    def _follow_until_in_flight(self, iteration: int) -> Flight:
        """Draws until a step has been in flight for a moment."""
        found: list[Flight] = []

        def draw() -> tuple[RenderableType, bool]:
            done = self._stage.value("select count(*) from ledger")
            if done >= iteration - 1:
                found.extend(
                    Flight(int(pid), float(seconds), done + 1) for pid, seconds in self._stage.look(_IN_FLIGHT)
                )
            told = story(self._stage, "ledger")
            assert told is not None
            if not found or found[-1].seconds < self._pace.short_step / 4:
                return told.draw(), False
            return told.draw(), True

        self._screen.watch(draw, PATIENCE_SECONDS, f"step {iteration} is in flight")
        return found[-1]

    # --- 5 -----------------------------------------------------------------------------------------------------------------

    def _thousand(self) -> None:
        self._screen.scene(
            "5. A thousand at once", "Starting workflows is an INSERT, so a thousand are INSERT … SELECT."
        )
        self._stage.type("create table bulk (n int, part int);")
        began = time.monotonic()
        self._type(_THOUSAND)
        self._count()
        seconds = time.monotonic() - began
        self._screen.line(
            f"1000 workflows of three steps in {seconds:.2f} s: "
            f"{1000 / seconds:,.0f} workflows, {3000 / seconds:,.0f} steps a second",
            "bold",
        )
        self._same(
            "all of them completed",
            "select count(*) from df.instances where label = 'bulk' and status = 'completed'",
            1000,
        )
        self._same(
            "each step of each exactly once",
            "select (count(*), count(distinct (n, part)))::text from bulk",
            "(3000,3000)",
        )

    def _count(self) -> None:
        """Draws a bar until none of them is under way."""

        def draw() -> tuple[RenderableType, bool]:
            done, going = self._stage.look(_PROGRESS)[0]
            grid = Grid.grid(padding=(0, 2))
            grid.add_row(ProgressBar(total=1000, completed=done, width=50), Text(f"{done} of 1000"))
            return grid, not going

        self._screen.watch(draw, PATIENCE_SECONDS, "a thousand workflows ended")

    # --- the end ---------------------------------------------------------------------------------------------------------

    def _at_the_end(self, when: float, what: str, query: str, wanted: object) -> None:
        """A claim that has to wait, until `when` at least (by the monotonic clock)."""
        self._later.append((when, lambda: self._same(what, query, wanted)))

    def _end(self) -> None:
        self._screen.scene("In the end", "What had to be waited for, and an orderly stop.")
        for when, check in self._later:
            time.sleep(max(0.0, when - time.monotonic()))
            check()
        left = self._stage.look("select count(*) from df.instances where status <> 'completed'")[0][0]
        self._screen.check("every workflow has completed", left == 0, left)
        code = self._stage.stop_engine()
        self._screen.check("the engine stopped as asked", code == 0, f"exit code {code}")


def _bodies(seen: dict[str, int]) -> bool:
    return [seen.get(name) for name in ("outer", "inner", "left", "right")] == [3, 9, 3, 3]


_SHOP: Final = """
create table stock (item text, pieces int);
create table orders (id int, item text, quantity int, status text default 'new');
create table payments (order_id int, cents int);
insert into stock values ('lamp', 40);
"""

_ORDER: Final = """
begin;
insert into orders (id, item, quantity) values (:id, 'lamp', 2);
insert into df.instances (id, label, input, graph) values (
  'order-:id', 'order', '{"order": :id, "item": "lamp", "quantity": 2}',
  $$update stock set pieces = pieces - $input.quantity
     where item = $input.item returning pieces$$ |=> 'stock'
  ~> $$insert into payments values ($input.order, $input.quantity * 1999)
       returning cents$$ |=> 'paid'
  ~> $$update orders set status = 'shipped' where id = $input.order
       returning id, $paid as cents, $stock as left_in_stock$$
);
:end;
"""

_RACE: Final = """df.race(
    df.seq(df.wait_for_signal('approve', :timeout) |=> 'answer',
           $$insert into decisions select :n,
               'approved by ' || ($answer::json -> 'data' ->> 'by')$$),
    df.seq(df.sleep(:sleep),
           $$insert into decisions values (:n, 'expired')$$))"""

_ONE_REQUEST: Final = """
insert into df.instances (id, label, graph) values (
  'request-1', 'approval',
  :race
);
"""

_SIGNAL: Final = """
insert into df.signals (instance_id, name, data)
values ('request-1', 'approve', '{"by": "maria"}');
"""

_SIGNAL_AT_ONCE: Final = """
begin;
insert into df.instances (id, label, graph) values (
  'request-2', 'approval',
  :race
);
insert into df.signals (instance_id, name, data)
values ('request-2', 'approve', '{"by": "jo"}');
commit;
"""

_DECIDE: Final = """
insert into df.instances (id, label, graph)
select 'request-' || n, 'approval',
       df.wait_for_signal('approve', :patience)
         ?> format($$insert into decisions values (%s, 'approved')$$, n)
         !> format($$insert into decisions values (%s, 'expired')$$, n)
  from generate_series(3, 4) as n;

select df.signal('request-3', 'approve');
"""

_NESTED: Final = """
insert into df.instances (id, label, graph) values (
  'nested', 'loops',
  $$insert into trail values ('prefix')$$
  ~> df.loop(
       $$insert into trail values ('outer')$$
       ~> df.loop(
            $$insert into trail values ('inner')$$,
            $$select count(*) % 3 > 0 from trail where what = 'inner'$$)
       ~> ($$insert into trail values ('left')$$
           & $$insert into trail values ('right')$$),
       $$select count(*) < 3 from trail where what = 'outer'$$)
  ~> $$insert into trail values ('suffix')$$
);
"""

_TRAIL: Final = """
select what, count(*) as times, to_char(min(at), 'MI:SS.MS') as first
  from trail group by what order by min(at);
"""

_LEDGER: Final = """
insert into df.instances (id, label, graph) values (
  'ledger', 'crash',
  'select 0 as i' |=> 'i'
  ~> df.loop(
       'select $i + 1 as i' |=> 'i'
       ~> $$insert into ledger select $i, pg_backend_pid()
              from pg_sleep(case $i when :slow then :long else :short end)$$,
       'select $i < :last')
);
"""

_IN_FLIGHT: Final = """
select pid, extract(epoch from clock_timestamp() - query_start)::float8
  from pg_stat_activity
 where datname = current_database()
   and application_name = 'walflow'
   and wait_event = 'PgSleep'
"""

_THOUSAND: Final = """
insert into df.instances (label, input, graph)
select 'bulk', jsonb_build_object('n', n),
       'insert into bulk values ($input.n, 1)'
         ~> 'insert into bulk values ($input.n, 2)'
         ~> 'insert into bulk values ($input.n, 3)'
  from generate_series(1, 1000) as n;
"""

_PROGRESS: Final = """
select count(*) filter (where status = 'completed'), count(*) filter (where status in ('pending', 'running'))
  from df.instances
 where label = 'bulk'
"""
