"""The manifests of deploy/kustomize, as `kubectl kustomize` makes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
KUSTOMIZE: Final = ROOT / "deploy" / "kustomize"
OPERATORS: Final = "monitoring.coreos.com/v1"
"""What only a cluster with the Prometheus operator knows."""
OLDEST_KUSTOMIZE: Final = 4
"""Directories as resources came with 2.1, components with 3.7; kubectl had 2.0 until 1.20, and 4 from 1.21 on."""
COMMAND_SECONDS: Final = 60.0

Object = Mapping[str, Any]


@lru_cache(maxsize=1)
def why_no_kustomize() -> str | None:
    """Why manifests cannot be built here; None when they can."""
    if shutil.which("kubectl") is None:
        return "no kubectl: apt-get install kubernetes-client"
    said = _kubectl("version", "--client").stdout
    version = re.search(r"Kustomize Version: v(\d+)", said)
    if version is None or int(version[1]) < OLDEST_KUSTOMIZE:
        return (
            "kubectl before 1.21, with a kustomize that knows no components (Debian 12's is 1.20, 13's is new enough)"
        )
    return None


def _kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)


def build(directory: Path) -> tuple[Object, ...]:
    """All objects that a kustomization makes, without a warning."""
    done = _kubectl("kustomize", str(directory))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


class Installation:
    """What would be applied to a cluster."""

    def __init__(self, objects: tuple[Object, ...]) -> None:
        self.objects = objects

    def of_kind(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str) -> Any:
        """The only object of a kind."""
        [found] = self.of_kind(kind)
        return found

    @property
    def pod(self) -> Any:
        """The pod's specification."""
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def pod_labels(self) -> dict[str, str]:
        """The pod's labels."""
        labels: dict[str, str] = self.one("Deployment")["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def engine(self) -> Any:
        """The container that runs the engine."""
        [found] = self.pod["containers"]
        return found

    @property
    def containers(self) -> list[Any]:
        """All of the pod's, init containers first."""
        return [*self.pod["initContainers"], self.engine]

    @property
    def variables(self) -> dict[str, str]:
        """What the engine's environment says, secrets left out."""
        named = self.engine["envFrom"][0]["configMapRef"]["name"]
        [settings] = [found["data"] for found in self.of_kind("ConfigMap") if found["metadata"]["name"] == named]
        return {**settings, **{one["name"]: one["value"] for one in self.engine["env"] if "value" in one}}

    def from_secret(self, container: Any) -> dict[str, Any]:
        """Which key of which secret each variable of a container comes from."""
        return {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container.get("env", ()) if "valueFrom" in one}


@lru_cache
def installation(name: str) -> Installation:
    """A directory of deploy/kustomize, built."""
    return Installation(build(KUSTOMIZE / name))


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector finds what has these labels."""
    return bool(selector) and selector.items() <= labels.items()
