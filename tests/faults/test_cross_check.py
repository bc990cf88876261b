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


def test_a_start_and_its_signal_that_the_publication_left_out_are_folded_once(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path).start()
    database.run("alter publication walflow drop table df.instances, df.signals")
    with database.connect("alice", autocommit=False) as alice:
        alice.execute("select df.start(df.seq(df.wait_for_signal('go'), df.wait_for_signal('go')), id => 'twice')")
        alice.execute("select df.signal('twice', 'go')")
        alice.commit()
    with database.connect() as connection:
        connection.execute(repair_statement("walflow").encode())
    engine.kill()
    engine.start()
    wait_until(lambda: engine.metric("walflow_recovered_total", how="scan") == 2, timeout=40)
    wait_until(lambda: database.run("select 1 from df.states"))
    assert database.run("select status from df.instances") == [("running",)], "one signal is no two"
    database.run("select df.signal('twice', 'go')", role="alice")
    wait_until(lambda: database.run("select 1 from df.instances where status = 'completed'"))


def test_children_and_waits_that_the_publication_left_out_are_folded_from_the_tables(
    database: Database, tmp_path: Path
) -> None:
    engine = database.engine(tmp_path).start()
    begin = "select df.start(df.seq(df.wait_for_signal('go'), {}), id => '{}')"
    database.run(begin.format("df.call_child('select 1')", "parent"), role="alice")
    database.run(begin.format("df.await_instance('parent')", "waiter"), role="alice")
    wait_until(lambda: len(database.run("select 1 from df.instances where status = 'running'")) == 2)

    database.run("alter publication walflow drop table df.instances, df.waits")
    database.run("select df.signal(id, 'go') from unnest(array['parent', 'waiter']) as id", role="alice")
    wait_until(lambda: database.run("select 1 from df.waits, df.instances where parent_key is not null"))
    with database.connect() as connection:
        connection.execute(repair_statement("walflow").encode())
    engine.kill()
    engine.start()
    wait_until(
        lambda: database.run("select 1 where not exists (select from df.instances where status <> 'completed')"),
        timeout=40,
    )
    assert engine.metric("walflow_recovered_total", how="scan") == 2


def test_completions_that_the_publication_left_out_are_folded_from_the_tables(
    database: Database, tmp_path: Path
) -> None:
    """Of steps, timers and children: each is there, is never made again, and would be waited for without end."""
    engine = database.engine(tmp_path).start()
    database.run("create table done (what text)", role="alice")
    begin = "select df.start(df.seq(df.wait_for_signal('go'), {}), id => '{}')"
    step = "insert into done values (''step'')"
    database.run(begin.format(f"df.seq('{step}', '{step}')", "step"), role="alice")
    database.run(begin.format("df.seq(df.sleep('0.1'), 'select 1')", "timer"), role="alice")
    database.run(begin.format("df.seq(df.call_child('select 1'), 'select 2')", "child"), role="alice")
    wait_until(lambda: len(database.run("select 1 from df.instances where status = 'running'")) == 3)

    database.run("alter publication walflow drop table df.completions")
    database.run("select df.signal(id, 'go') from unnest(array['step', 'timer', 'child']) as id", role="alice")
    wait_until(lambda: database.run("select 1 from df.completions having count(*) = 3"), what="their first steps end")
    with database.connect() as connection:
        connection.execute(repair_statement("walflow").encode())
    engine.kill()
    engine.start()
    wait_until(
        lambda: database.run("select 1 where not exists (select from df.instances where status <> 'completed')"),
        timeout=40,
    )
    assert database.run("select count(*) from done") == [(2,)]
    assert (engine.metric("walflow_recovered_total", how="scan") or 0) >= 3
