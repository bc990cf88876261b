"""The image: what is in it, as whom it runs, how it is told to stop."""

from __future__ import annotations

import json
import signal
import tomllib
from collections.abc import Iterator
from typing import Any, Final

import pytest
from testcontainers.core.container import DockerContainer

from tests.containers.conftest import NewEngine
from tests.containers.engine import CONFINED, USER, inside_dsn
from tests.containers.server import ContainerServer
from tests.images.build import ROOT, ImageError, docker, engine_image, python_image, size_bytes
from tests.servers import ENGINE_ROLE, Cluster, Database, wait_until
from tests.workflows import world

pytestmark = pytest.mark.timeout(600)  # the first test to run makes the images

BEYOND_THE_BASE_BYTES: Final = 150_000_000
COMPILERS: Final = "cc gcc c99 g++ clang tcc as ld make cargo rustc go"
TERMINATED: Final = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def image() -> str:
    """walflow's, built from this checkout."""
    return engine_image()


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    """What the image says of itself."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    return found


def in_image(image: str, script: str) -> str:
    """What a shell in it prints, confined as it is deployed."""
    confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"]
    return docker("run", "--rm", *confined, "--entrypoint", "sh", image, "-c", script).strip()


def test_it_adds_less_than_150_mb_to_its_base(image: str) -> None:
    assert size_bytes(image) - size_bytes(python_image()) < BEYOND_THE_BASE_BYTES


def test_there_is_no_compiler_inside(image: str) -> None:
    assert in_image(image, f"for tool in {COMPILERS}; do command -v $tool || true; done") == ""


def test_it_is_not_root_and_can_write_nothing_of_its_own(image: str, config: dict[str, Any]) -> None:
    assert config["User"] == f"{USER}:{USER}"
    own = rf"find /opt/walflow ! -type l \( -perm -002 -o -uid {USER} \)"
    assert in_image(image, f"id -u; id -un; {own}") == f"{USER}\nwalflow"


def test_public_authorities_are_where_libpq_looks_for_them(image: str) -> None:
    assert in_image(image, 'grep -c BEGIN "$SSL_CERT_FILE"') != "0"


def test_its_labels_name_it_and_its_version(config: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["version"]) == (project["name"], project["version"])
    assert (labels["licenses"], labels["description"]) == (project["license"], project["description"])


def test_the_command_line_is_its_entry_point(image: str) -> None:
    assert docker("run", "--rm", "--read-only", "--network=none", image, "--version").startswith("walflow ")


def test_a_setting_that_is_none_is_refused_with_the_exit_code_of_bad_usage(image: str) -> None:
    with pytest.raises(ImageError, match="there is no setting 'slott'"):
        docker("run", "--rm", "--network=none", "--env", "WALFLOW_SLOTT=x", image)


def test_an_engine_in_it_becomes_healthy_and_stops_in_good_order(database: Database, new_engine: NewEngine) -> None:
    engine = new_engine(database).start()
    with world(database, engine) as here:
        assert here.outcome("select 1").status == "completed"
        wait_until(lambda: engine.state["Health"]["Status"] == "healthy", what="the health check passes")
        assert engine.terminate() == 0, engine.log()
        assert '"signal": "SIGTERM"' in engine.log()
        assert here.value("select active from pg_replication_slots where slot_name = %s", [database.slot]) is False


def test_a_second_signal_ends_the_first_process_at_once(database: Database, new_engine: NewEngine) -> None:
    engine = new_engine(database, grace="600s").start()
    with world(database, engine) as here:
        here.start("select pg_advisory_xact_lock(hashtext('long')), pg_sleep(600)")
        wait_until(lambda: here.running("long"))
        engine.send(signal.SIGTERM)
        wait_until(lambda: "stopping" in engine.log())
        engine.send(signal.SIGTERM)
        assert engine.wait() == 0


@pytest.fixture
def silent(container: Cluster) -> Iterator[ContainerServer]:
    """The server, which takes connections and says nothing."""
    server = container.server
    assert isinstance(server, ContainerServer)
    docker("pause", server.id)
    yield server
    docker("unpause", server.id)


def test_a_migration_that_waits_for_its_server_heeds_sigterm_as_the_first_process(
    image: str, database: Database, silent: ContainerServer
) -> None:
    """Without a handler of its own the first process of a container would not notice, and be killed in the end."""
    waits = DockerContainer(
        image,
        command="migrate",
        env={"WALFLOW_DSN": inside_dsn(database, ENGINE_ROLE)},
        network=silent.network,
        **CONFINED,
    )
    with waits:
        wrapped = waits.get_wrapped_container()
        connected = "cat /proc/1/net/tcp | awk '$4 == \"01\"'"
        wait_until(lambda: waits.exec(["sh", "-c", connected]).output, what="it has connected")
        wrapped.kill("SIGTERM")
        assert wrapped.wait(timeout=20)["StatusCode"] == TERMINATED
