"""A mixed load whose every step leaves a row in a table without any key, so that a lost or doubled step can be counted."""

from __future__ import annotations

from typing import Final

from tests.servers import Database, wait_until

TABLES: Final = "create table trail (workflow text, what text)"

# Each shape writes a known number of rows, whatever happens; `w` is the workflow's name.
SHAPES: Final = """
insert into df.instances (id, graph)
select shape || '-' || n, df.seq(graph, format('insert into trail values (%%L, ''end'')', shape || '-' || n))
  from generate_series(%(first)s::int, %(last)s::int) as n,
       lateral (values
         ('chain',
          df.seq_all(variadic array(
            select format('insert into trail values (%%L, ''step'')', 'chain-' || n) from generate_series(1, 6)))),
         ('loop',
          df.loop(format('insert into trail values (%%L, ''step'')', 'loop-' || n),
                  format('select count(*) < 6 from trail where workflow = %%L', 'loop-' || n))),
         ('join',
          df.join_all(variadic array(
            select df.seq(df.sleep((k %% 2)::bigint), format('insert into trail values (%%L, ''step'')', 'join-' || n))
              from generate_series(1, 6) as k))),
         ('signal',
          df.seq(
            df.join3(df.wait_for_signal('go'), df.wait_for_signal('go'), df.wait_for_signal('go')),
            df.seq_all(variadic array(
              select format('insert into trail values (%%L, ''step'')', 'signal-' || n) from generate_series(1, 6))))),
         ('race',
          df.seq(
            df.race(df.sleep(1), format('insert into trail select %%L, ''lost'' from pg_sleep(30)', 'race-' || n)),
            df.seq_all(variadic array(
              select format('insert into trail values (%%L, ''step'')', 'race-' || n) from generate_series(1, 6)))))
       ) as shapes(shape, graph)
"""
SIGNALS: Final = """
select df.signal('signal-' || n, 'go') from generate_series(%(first)s::int, %(last)s::int) as n, generate_series(1, 3)
"""
PER_SHAPE: Final = 5
STEPS: Final = 6


class Load:
    """Starts workflows in batches and, at the end, counts every step of each."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.workflows = 0
        database.run(TABLES, role="alice")

    def start(self, count: int) -> None:
        """Starts `count` workflows of each shape, with the signals that they wait for."""
        bounds = {"first": self.workflows + 1, "last": self.workflows + count}
        self.workflows += count
        self.database.run(SHAPES, bounds, role="alice")
        self.database.run(SIGNALS, bounds, role="alice")

    @property
    def ended(self) -> int:
        return int(self.database.run("select count(*) from df.instances where finished_at is not null")[0][0])

    def check(self, timeout: float = 60) -> None:
        """Waits until all have ended: each step of each exactly once, nothing of a loser, nothing failed."""
        total = PER_SHAPE * self.workflows
        wait_until(lambda: self.ended == total, timeout, f"{total} workflows end; open: {self._open()}")
        assert self.database.run("select status, count(*) from df.instances group by status") == [("completed", total)]
        wrong = self.database.run(
            """
            select workflow, count(*) filter (where what = 'step'), count(*) filter (where what = 'end'),
                   count(*) filter (where what = 'lost')
              from trail
             group by workflow
            having (count(*) filter (where what = 'step'), count(*) filter (where what = 'end')) <> (%s, 1)
                or bool_or(what = 'lost')
            """,
            [STEPS],
        )
        assert wrong == [], "workflow, steps, ends, steps of losers"
        assert self.database.run("select count(distinct workflow) from trail") == [(total,)]

    def _open(self) -> object:
        return self.database.run(
            "select id, status, quarantined from df.instances where finished_at is null order by id limit 5"
        )
