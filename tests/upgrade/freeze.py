"""Freezes a release: its schema, and rows of instances in flight in every kind of node, as SQL that any server restores.

    python -m tests.upgrade.freeze

Writes `tests/upgrade/<version>/database.sql`, and the stored states of the same instances to `tests/golden/states/`. Run it when
a release is made, and never again for that release; before the first one, whenever a migration of it was edited.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from engine.codec import VERSION, Stored
from engine.embedded import available_versions
from sql.migrate import migrate
from tests.servers import Cluster, Database, wait_until
from tests.upgrade.inflight import FINISHED, HELD, LATE, LOCK, SENT
from tests.workflows import World, world

RELEASE: Final = "0.1.0"
MIGRATIONS: Final = 11
"""Of the release: later ones are what a database is upgraded with."""
HERE: Final = Path(__file__).parent
STATES: Final = HERE.parent / "golden" / "states" / f"version{VERSION}.json"
OF_THE_SCHEMA: Final = ("df.migrations", "df.settings")
"""Tables whose rows the migrations make."""
EPOCH: Final = "df.epoch"
"""A later migration gave it a column, which the release's has not."""


def dump(database: Database, *arguments: str) -> str:
    """What pg_dump writes."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    program = str(database.cluster.server.bin_dir / "pg_dump")
    done = subprocess.run(
        [program, *arguments, "--dbname", database.dsn()], env=clean, check=True, capture_output=True, text=True
    )
    # newer ones write psql's commands against a dump that was tampered with; older psql do not know them
    return "".join(
        line for line in done.stdout.splitlines(keepends=True) if not line.startswith(("\\restrict", "\\unrestrict"))
    )


def stand_still(here: World) -> None:
    """Starts all, and returns when each stands where it is held, as a checkpoint says."""
    here.run("create table public.ledger (id text, word text)", role="alice")
    here.run(f"select pg_advisory_lock({LOCK})")
    here.start("select 'so it was' as it", id=FINISHED)
    for id, one in HELD.items():
        here.start(here.build(f"select {one.graph}"), id=id)
    for id, data in SENT.items():
        here.run("insert into df.signals (instance_id, name, data) values (%s, 'gate', %s)", [id, data], "alice")
    wait_until(lambda: all(standing(here, id) for id in HELD), what="all stand still")
    here.end(FINISHED)


def standing(here: World, id: str) -> bool:
    query = "select s.state from df.states s join df.instances i on i.key = s.instance_key where i.id = %s"
    found = here.run(query, [id])
    if not found or not HELD[id].frames <= tags(found[0][0]):
        return False
    return id not in SENT or '"gate"' in found[0][0]


def tags(state: str) -> set[str]:
    """The kinds of open frames in the text of a state."""
    return set(re.findall(r'\{"f":\["([a-z]+)"', state))


def late(here: World) -> None:
    """What happens when no engine is there."""
    for id, one in LATE.items():
        here.start(here.build(f"select {one.graph}"), id=id)
    here.run("insert into df.cancellations (instance_id) values ('cancelled')", role="alice")


def stored(here: World) -> list[dict[str, Any]]:
    """States with what is needed to read them and to go on."""
    rows = here.run(
        """
        select i.id, i.key, i.submitter::bigint, i.graph, i.input::text, i.vars::text, s.version, s.state
          from df.states s join df.instances i on i.key = s.instance_key
         where i.parent_key is null
         order by i.key
        """
    )
    found = []
    for id, key, submitter, graph, given, variables, version, state in rows:
        one_stored = Stored(version, state)
        query = "select result::text from df.completions where instance_key = %s and step = %s and run_as = %s"
        results = {step: here.value(query, [key, step, submitter]) for step in sorted(one_stored.references)}
        query = "select data::text from df.signals where event_id = %s::uuid"
        results |= {event: here.value(query, [event]) for event in sorted(one_stored.signals)}
        one = {"id": id, "key": key, "submitter": submitter, "graph": graph, "input": given, "vars": variables}
        found.append({**one, "version": version, "state": state, "results": results})
    return found


def freeze() -> None:
    """Makes the files."""
    cluster = Cluster(available_versions()[0]).start()
    try:
        with tempfile.TemporaryDirectory() as directory:
            database, schema = cluster.database(), cluster.database(migrated=False)
            engine = database.engine(Path(directory)).start()
            with world(database, engine) as here:
                stand_still(here)
                engine.kill()
                late(here)
                states = stored(here)
            migrate(schema.engine_dsn, target=MIGRATIONS)
            schema.run("select df.grant_usage('alice'), df.grant_usage('bob')")
            write(database, schema, states)
    finally:
        cluster.close()


def write(database: Database, schema: Database, states: list[dict[str, Any]]) -> None:
    """The schema of the release, and the rows, its own and those of the instances."""
    own = [argument for table in OF_THE_SCHEMA for argument in ("--table", table)]
    others = [argument for table in (*OF_THE_SCHEMA, EPOCH) for argument in ("--exclude-table-data", table)]
    ((epoch,),) = database.run("select epoch from df.epoch")
    text = "".join(
        [
            dump(schema, "--section=pre-data"),
            "create table public.ledger (id text, word text);\nalter table public.ledger owner to alice;\n",
            dump(schema, "--section=data", *own),
            dump(database, "--section=data", *others),
            f"insert into {EPOCH} (epoch) values ({epoch});\n",
            dump(schema, "--section=post-data"),
        ]
    )
    target = HERE / RELEASE / "database.sql"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    STATES.parent.mkdir(exist_ok=True)
    STATES.write_text(json.dumps(states, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    freeze()
