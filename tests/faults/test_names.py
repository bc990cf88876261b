"""The server's name stops resolving: the engine says so, keeps trying, and goes on when it is known again."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path
from typing import Final

import pytest

from tests.faults.harness import NOISE, fault, times
from tests.faults.network import may_make_namespaces
from tests.servers import ENGINE_OPTIONS, ENGINE_ROLE, Database, EngineProcess, wait_until
from tests.workflows import world

pytestmark = pytest.mark.skipif(not may_make_namespaces(), reason="needs root, to mount another /etc/hosts")

NAME: Final = "database.walflow.test"
KNOWN: Final = f"127.0.0.1 localhost {NAME}\n"
UNKNOWN: Final = "127.0.0.1 localhost\n"
GOES_ON_SECONDS: Final = 2.0
END_STEPS: Final = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'walflow'"


class Names:
    """What an engine takes for /etc/hosts and /etc/resolv.conf: no name server answers it."""

    def __init__(self, directory: Path) -> None:
        self.hosts = directory / "hosts"
        self.resolver = directory / "resolv.conf"
        self.hosts.write_text(KNOWN)
        self.resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")

    def put(self, engine: EngineProcess) -> EngineProcess:
        """An engine that was not started yet sees these files."""
        mounts = [f"mount --bind {shlex.quote(str(self.hosts))} /etc/hosts"]
        mounts.append(f"mount --bind {shlex.quote(str(self.resolver))} /etc/resolv.conf")
        script = " && ".join([*mounts, 'exec "$@"'])
        unshare = shutil.which("unshare")
        assert unshare is not None
        engine.prefix = (unshare, "--mount", "sh", "-c", script, "sh")
        return engine


@pytest.mark.timeout(1800)
def test_a_name_that_stops_resolving_is_waited_for_and_said(database: Database, tmp_path: Path) -> None:
    dsn = database.dsn(ENGINE_ROLE, host=NAME, options=ENGINE_OPTIONS)
    names = Names(tmp_path)
    engine = names.put(database.engine(tmp_path, dsn=dsn)).start()
    with world(database, engine) as here, fault("the server's name stops resolving", here) as seen:
        for _ in range(times(3, 30)):
            seen.load.start()
            names.hosts.write_text(UNKNOWN)
            here.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'walflow%%'")
            wait_until(lambda: said(engine))
            assert engine.get("/healthz")[0] == 200
            seen.load.start()
            names.hosts.write_text(KNOWN)
            seen.goes_on(time.monotonic())
        assert engine.returncode is None
    assert max(seen.seconds) < NOISE * GOES_ON_SECONDS, seen.seconds


@pytest.mark.timeout(600)
def test_a_name_that_only_steps_need_and_that_stops_resolving_fails_no_step(database: Database, tmp_path: Path) -> None:
    """For a while: a role without any connection gives up after as many tries as a step has."""
    names = Names(tmp_path)
    steps = f"host={NAME} port={database.cluster.server.port} dbname={database.name}"
    engine = names.put(database.engine(tmp_path, step_dsn=steps)).start()
    with world(database, engine) as here, fault("the name in step_dsn stops resolving", here) as seen:
        for _ in range(times(3, 10)):
            seen.load.start()
            names.hosts.write_text(UNKNOWN)
            seen.load.start()
            wait_until(lambda: not here.run(END_STEPS))  # one that has its address already may still come
            time.sleep(2)  # the length of the fault
            names.hosts.write_text(KNOWN)
            seen.goes_on(time.monotonic())
    assert max(seen.seconds) < NOISE * GOES_ON_SECONDS, seen.seconds


def said(engine: EngineProcess) -> bool:
    """Whether /readyz says that the name is unknown."""
    code, reason = engine.get("/readyz")
    return code == 503 and NAME in reason
