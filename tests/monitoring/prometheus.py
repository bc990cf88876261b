"""A real Prometheus that scrapes real engines under a load in which everything happens that the dashboard shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import pytest
import yaml

from engine.embedded import free_port
from tests.monitoring.test_rules import RULES
from tests.servers import PATIENCE_SECONDS, EngineProcess, wait_until
from tests.workflows import World

JOB: Final = "walflow"
RATE_INTERVAL: Final = "15s"
"""What Grafana would put for $__rate_interval: some scrapes."""
Line = tuple[dict[str, str], list[tuple[float, float]]]


def program(name: str) -> str:
    """Where it is. Where it is missing the test is left out, loudly; CI has it."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is missing, so alerts and dashboard are NOT tested: apt-get install prometheus"
        if os.environ.get("CI") or os.environ.get("LEAVE_NO_TEST_OUT"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class Prometheus:
    """Scrapes engines every second and evaluates the alerts as often."""

    def __init__(self, directory: Path, engines: Sequence[EngineProcess]) -> None:
        self._directory = directory
        self._engines = engines
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {
                    "job_name": JOB,
                    "static_configs": [{"targets": [f"{engine.host}:{engine.port}" for engine in self._engines]}],
                }
            ],
        }
        path = self._directory / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={path}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self._ready, 2 * PATIENCE_SECONDS, "Prometheus is ready")
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """What the API answers. AssertionError with its message when it refuses."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def values(self, query: str) -> list[float]:
        """The values of an instant query, without those that are no numbers."""
        found = [float(one["value"][1]) for one in self.ask("query", query=filled_in(query))["result"]]
        return [value for value in found if value == value]

    def lines(self, query: str, start: float, end: float, step: float) -> list[Line]:
        """Labels and points of each line of a range query."""
        answer = self.ask("query_range", query=filled_in(query), start=str(start), end=str(end), step=str(step))
        return [(one["metric"], [(float(at), float(value)) for at, value in one["values"]]) for one in answer["result"]]


def filled_in(query: str) -> str:
    """A query with Grafana's variables as Grafana fills them in."""
    return query.replace("$__rate_interval", RATE_INTERVAL).replace("$job", ".*")


# --- load ---------------------------------------------------------------------------------------------------------------

CONFLICTS: Final = """
create sequence public.conflicts;
create function public.conflicts_sometimes() returns integer language plpgsql as $$
begin
  if nextval('public.conflicts') % 4 = 0 then raise exception 'conflict' using errcode = '40001'; end if;
  return 1;
end $$;
grant all on sequence public.conflicts to public
"""
MANY: Final = 50
"""Unfinished workflows at which the load waits."""
FAILS_EVERY: Final = 20
GRAPHS: Final = (
    "select df.seq_all('select 1', 'select 2', 'select pg_sleep(random() * 0.05)')",
    "select df.\"join\"('select 1', df.sleep(interval '0.05 s'))",
    "select df.seq('select public.conflicts_sometimes()', 'select 2')",
    "select df.call_child('select 1')",
    "select df.sql('vacuum public.plain')",
)


class Load:
    """Workflows of two roles, a few with each call, of every kind; signals and cancellations for those that wait."""

    def __init__(self, here: World) -> None:
        self.here = here
        self._count = 0
        here.run("create table public.plain (n int)", role="alice")
        here.run(CONFLICTS, role="alice")
        self._graphs = [here.build(graph) for graph in GRAPHS]
        self._waits = here.build("select df.seq(df.wait_for_signal('go'), 'select 1')")
        self._fails = here.build("select df.sql('select 1/0')")

    def some(self) -> None:
        """Start a few, unless many are under way: what is shown is an engine that keeps up."""
        here = self.here
        if here.value("select unfinished from df.health") >= MANY:
            return
        self._count += 1
        number = self._count
        role = ("alice", "alice", "bob")[number % 3]
        graphs = [*self._graphs, self._waits] if role == "alice" else self._graphs[:4]
        if number % FAILS_EVERY == 0:
            graphs.insert(0, self._fails)
        query = (
            "insert into df.instances (graph, id) select g, %s || n from unnest(%s::text[]) with ordinality as x(g, n)"
        )
        here.run(query, [f"load-{number}-", graphs], role)
        if role == "alice":
            here.run("select df.signal(%s, 'go')", [f"load-{number}-{len(graphs)}"], role)
            here.start(self._waits, id=f"given-up-{number}")
            here.run("select df.cancel(%s)", [f"given-up-{number}"], role)

    def until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Go on until something holds."""

        def look() -> bool:
            self.some()
            return condition()

        wait_until(look, timeout, what)
