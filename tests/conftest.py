"""Fixtures that need a server. `server18` and `database` for most; `server` and `each_database` run once a version."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from engine.embedded import Version, available_versions
from tests.servers import Cluster, Database

ClusterFor = Callable[[Version], Cluster]


@pytest.fixture(scope="session")
def clusters() -> Iterator[ClusterFor]:
    """The cluster of a version, started when first asked for and kept for the session."""
    running: dict[Version, Cluster] = {}

    def cluster_for(version: Version) -> Cluster:
        if version not in running:
            running[version] = Cluster(version)
            running[version].start()
        return running[version]

    yield cluster_for
    for cluster in running.values():
        cluster.close()


@pytest.fixture(scope="session", params=available_versions(), ids=lambda version: f"pg{version}")
def server(request: pytest.FixtureRequest, clusters: ClusterFor) -> Cluster:
    """A cluster of each version that can be had: for what differs between versions."""
    return clusters(request.param)


@pytest.fixture(scope="session")
def server18(clusters: ClusterFor) -> Cluster:
    """A cluster of the newest version: for everything else."""
    return clusters(18)


@pytest.fixture
def database(server18: Cluster) -> Iterator[Database]:
    """A fresh migrated database on the newest version."""
    made = server18.database()
    yield made
    made.drop()


@pytest.fixture
def each_database(server: Cluster) -> Iterator[Database]:
    """A fresh migrated database on each version."""
    made = server.database()
    yield made
    made.drop()


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """A temporary directory that a server running as somebody else can reach, unlike tmp_path."""
    path = Path(tempfile.mkdtemp(prefix="walflow-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Say last, and loudly, what was left out here and why; and what tests have seen that a reader should know."""
    yield
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("LEFT OUT HERE", sep="!", red=True, bold=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count} {'test' if count == 1 else 'tests'}: {reason}", red=True, bold=True)
    passed = terminalreporter.stats.get("passed", [])
    seen = {str(value) for report in passed for name, value in report.user_properties if name == "seen"}
    if seen:
        terminalreporter.section("seen", sep="-")
        for line in sorted(seen):
            terminalreporter.line(line)
