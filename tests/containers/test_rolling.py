"""A rolling deployment as Kubernetes does one: the new pod migrates, stands by and is ready; then the old one is told to stop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.containers.conftest import NewEngine
from tests.containers.engine import inside_dsn
from tests.containers.server import ContainerServer
from tests.faults.harness import fault, times
from tests.faults.load import KINDS
from tests.faults.test_takeover import MINUTES
from tests.faults.trickle import trickle
from tests.images.build import docker, engine_image
from tests.servers import ENGINE_ROLE, Database
from tests.workflows import world

pytestmark = pytest.mark.timeout(600)  # the first test to run makes the images

NAME = "rolling deployment of containers"
SOON_DONE = [kind for kind in KINDS if kind not in MINUTES]


def migrate(database: Database) -> None:
    """As the init container does, while the old engine leads."""
    server = database.cluster.server
    assert isinstance(server, ContainerServer)
    dsn = inside_dsn(database, ENGINE_ROLE)
    confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    network = ["--network", server.network.name]
    docker("run", "--rm", *confined, *network, "--env", f"WALFLOW_DSN={dsn}", engine_image(), "migrate")


def test_a_rolling_deployment_loses_nothing_and_says_how_long_work_stood_still(
    database: Database, new_engine: NewEngine, record_property: Callable[[str, object], None]
) -> None:
    old = new_engine(database).start()
    with world(database, old) as here:
        with fault(NAME, here) as seen, trickle(here) as trickling:
            for _ in range(times(2, 20)):
                seen.load.start(*SOON_DONE)
                migrate(database)
                new = new_engine(database).start(leading=False)
                since = here.value("select clock_timestamp()")
                assert old.terminate() == 0, old.log()
                here.engine = new
                new.wait_ready()
                assert here.end(seen.load.probe()).status == "completed"
                seen.took(trickling.gap_seconds(since))
                old = new
        tally = seen.load.tally()
    gaps = ", ".join(f"{seconds:.2f} s" for seconds in seen.seconds)
    record_property("seen", f"{NAME}: {tally.lost} lost, {tally.doubled} doubled, longest gaps between steps {gaps}")
