"""The tables are compared with what was folded: rows that the log never brought are found (Losing the slot loses nothing)."""

from __future__ import annotations

from pathlib import Path

from sql.publication import repair_statement
from tests.servers import Database, wait_until


def test_rows_that_the_publication_left_out_for_a_while_are_folded_from_the_tables(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path).start()
    database.run("select df.start(df.wait_for_signal('go'), id => 'waits')", role="alice")
    wait_until(lambda: database.run("select 1 from df.instances where id = 'waits' and status = 'running'"))

    database.run("alter publication walflow drop table df.instances, df.signals")
    database.run("select df.start('select 1', id => 'unheard')", role="alice")
    database.run("select df.signal('waits', 'go')", role="alice")
    with database.connect() as connection:
        connection.execute(repair_statement("walflow").encode())
    database.run("select df.start('select 1', id => 'heard')", role="alice")
    wait_until(lambda: database.run("select 1 from df.instances where id = 'heard' and status = 'completed'"))
    assert database.run("select id from df.instances where status <> 'completed' order by id") == [
        ("unheard",),
        ("waits",),
    ]

    engine.kill()
    engine.start()  # a new leader compares soon after it began
    wait_until(
        lambda: database.run("select 1 where not exists (select from df.instances where status <> 'completed')"),
        timeout=40,
    )
    assert engine.metric("walflow_recovered_total", how="scan") == 2
