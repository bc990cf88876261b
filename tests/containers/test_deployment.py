"""docs/deployment.md is so: its commands for a container are run, and the pod of the manifests is run as Kubernetes would."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from engine.embedded import free_port
from tests.containers.engine import inside_dsn, passwords
from tests.containers.server import ContainerServer
from tests.deploy.manifests import Installation, installation, why_no_kustomize
from tests.images.build import ROOT, docker, engine_image, postgres_image
from tests.servers import ENGINE_ROLE, READER_ROLE, Database, wait_until

pytestmark = pytest.mark.timeout(600)  # the first test to run makes the images

DOCUMENT: Final = ROOT / "docs" / "deployment.md"
SECTION: Final = re.compile(r"^## A container, step by step$(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUILD: Final = "docker build -f deploy/Dockerfile -t walflow:try ."
NAME: Final = "walflow-try"
SCRIPT_SECONDS: Final = 200.0


@pytest.fixture
def name() -> Iterator[str]:
    """What everything is called in this run; whatever is left of it is removed."""
    name = f"{NAME}-{os.getpid()}"
    yield name
    left = docker("container", "ls", "--all", "--quiet", "--filter", f"name={name}").split()
    if left:
        docker("rm", "--force", *left)
    for kind in ("volume", "network"):
        left = docker(kind, "ls", "--quiet", "--filter", f"name={name}").split()
        if left:
            docker(kind, "rm", *left)


def script(name: str) -> str:
    """The commands of the document, with names of this run's own, and images that are here."""
    section = SECTION.search(DOCUMENT.read_text())
    assert section is not None
    text = "".join(BLOCK.findall(section[1]))
    image = engine_image()  # built as the document says, but on a base that can be had here
    replaced = {
        BUILD: f"docker tag {image} walflow:try",
        NAME: name,
        "walflow:try": f"{name}-image:try",
        "postgres:18": postgres_image(18),
        "127.0.0.1:9464": f"127.0.0.1:{free_port()}",
    }
    for shown, real in replaced.items():
        assert shown in text, shown
        text = text.replace(shown, real)
    return f"{text}docker image rm {name}-image:try\n"


def test_the_commands_of_the_document_run_a_workflow_and_leave_nothing(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script(name)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SCRIPT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fit to run on" in done.stdout
    assert 'INSERT 0 1\ncompleted\n{"rows":[{"answer":42}],"row_count":1}\n' in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert docker("container", "ls", "--all", "--quiet", "--filter", f"name={name}") == ""


class Pod:
    """The pod of a manifest, run by Docker as the kubelet would run it: one container after the other, with the manifest's own
    variables, volumes, user and restrictions.
    """

    def __init__(self, found: Installation, name: str, network: str, secret: Mapping[str, str]) -> None:
        self.found = found
        self.name = name
        self.network = network
        self.secret = secret
        self.port = free_port()
        self.group = found.pod["securityContext"]["fsGroup"]
        for volume in found.pod["volumes"]:
            self._fill(volume)

    def _fill(self, volume: Any) -> None:
        """A volume as the kubelet makes one: root's and the group's, a secret's files with the mode that is asked for."""
        script = f"chown root:{self.group} /volume && chmod 2777 /volume"
        text = ""
        if "secret" in volume:
            [item] = volume["secret"]["items"]
            path, text = f"/volume/{item['path']}", self.secret[item["key"]]
            script = f"cat > {path}; chown root:{self.group} {path}; chmod {volume['secret']['defaultMode']:o} {path}"
        mounted = f"{self.name}-{volume['name']}:/volume"
        run = ["run", "--rm", "--interactive", "--user=root", "--entrypoint=sh", "--volume", mounted]
        docker(*run, engine_image(), "-c", script, given=text.encode())

    def environment(self, container: Any) -> dict[str, str]:
        """The variables of a container, those of the secret as well."""
        given = dict(self.found.variables) if "envFrom" in container else {}
        given |= {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}
        return given | {name: self.secret[ref["key"]] for name, ref in self.found.from_secret(container).items()}

    def run(self, container: Any, *options: str) -> str:
        """Run a container of the pod; returns what Docker prints."""
        context, own = self.found.pod["securityContext"], container["securityContext"]
        assert own["readOnlyRootFilesystem"]
        command = ["run", "--read-only", f"--user={context['runAsUser']}:{context['runAsGroup']}"]
        command += [f"--group-add={self.group}", f"--network={self.network}", "--security-opt=no-new-privileges"]
        command += [f"--cap-drop={dropped}" for dropped in own["capabilities"]["drop"]]
        command.append(f"--memory={container['resources']['limits']['memory'].removesuffix('i').lower()}")
        for mount in container.get("volumeMounts", ()):
            only = ":ro" if mount.get("readOnly") else ""
            command.append(f"--volume={self.name}-{mount['name']}:{mount['mountPath']}{only}")
        for variable, value in self.environment(container).items():
            command += ["--env", f"{variable}={value}"]
        entry = container.get("command", ())
        command += [*options, *(["--entrypoint", entry[0]] if entry else [])]
        return docker(*command, engine_image(), *entry[1:], *container.get("args", ()))

    def probe(self, name: str) -> int:
        """The status that a probe of the engine is answered with; 0 when nobody answers."""
        path = self.found.engine[name]["httpGet"]["path"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0


@pytest.mark.skipif(why_no_kustomize() is not None, reason=f"Kubernetes: {why_no_kustomize()}")
@pytest.mark.parametrize("database", ["unmigrated"], indirect=True)
def test_the_pod_of_the_manifest_migrates_runs_a_workflow_and_stops_in_good_order(
    name: str, database: Database
) -> None:
    server = database.cluster.server
    assert isinstance(server, ContainerServer)
    secret = {
        "dsn": inside_dsn(database, ENGINE_ROLE),
        "replication-dsn": inside_dsn(database, READER_ROLE),
        "step-passfile": passwords(),
    }
    pod = Pod(installation("overlays/single"), name, server.network.name, secret)
    for container in pod.found.pod["initContainers"]:
        pod.run(container, "--rm")
    database.run("select df.grant_usage('alice')")
    engine = f"{name}-engine"
    pod.run(pod.found.engine, "--detach", f"--name={engine}", f"--publish=127.0.0.1:{pod.port}:9464")
    wait_until(lambda: pod.probe("startupProbe") == 200, what="it has started")
    wait_until(lambda: pod.probe("readinessProbe") == 200, what="it is ready")
    [(id,)] = database.run("insert into df.instances (graph) values ('select 1') returning id", role="alice")
    database.run("select df.wait_for_completion(%s)", [id], role="alice")
    assert pod.probe("livenessProbe") == 200
    docker("stop", "--time", str(pod.found.pod["terminationGracePeriodSeconds"]), engine)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", engine).strip() == "0", docker("logs", engine)
