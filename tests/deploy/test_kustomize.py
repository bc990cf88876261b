"""Kubernetes' manifests: each kustomization builds, is valid, and says what matters."""

from __future__ import annotations

import base64
import re
import shutil
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kubernetes_validate import latest_version, validate  # type: ignore[import-untyped]  # it has no types
from kubernetes_validate.utils import all_versions  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from engine.config import BY_NAME, Settings, load
from metrics.exposition import HttpServer, Readiness, Request
from tests.deploy.manifests import (
    KUSTOMIZE,
    OPERATORS,
    ROOT,
    Installation,
    build,
    installation,
    selects,
    why_no_kustomize,
)
from tests.deploy.rules import OBJECT, RULES, as_object

pytestmark = pytest.mark.skipif(why_no_kustomize() is not None, reason=f"Kubernetes: {why_no_kustomize()}")

BUILT: Final = ("overlays/single", "overlays/ha", "example")
API_VERSIONS: Final = (str(all_versions()[0]), str(latest_version()))
SPARE: Final = timedelta(seconds=15)
"""After the engine's own grace period, what is in flight is cancelled, checkpointed and confirmed: seconds, on a busy server."""

each = pytest.mark.parametrize("name", BUILT)


def settings_of(found: Installation, tmp_path: Path) -> Settings:
    """The engine's settings as it would read them; a variable that is none is an error."""
    passfile = tmp_path / "passfile"
    passfile.touch(mode=0o600)
    given = {**found.variables, "WALFLOW_STEP_PASSFILE": str(passfile)}
    secret = {name: "host=db" for name in found.from_secret(found.engine)}
    return load({}, {**given, **secret}, terminal=False).settings


@each
@pytest.mark.parametrize("version", API_VERSIONS)
def test_each_object_is_valid_in_the_oldest_and_the_newest_api(name: str, version: str) -> None:
    checked = [found for found in installation(name).objects if found["apiVersion"] != OPERATORS]
    assert {found["kind"] for found in checked} >= {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    for found in checked:
        assert validate(dict(found), version, strict=True) == version.rpartition(".")[0]


@each
def test_every_object_is_in_the_namespace_of_the_installation(name: str) -> None:
    assert {found["metadata"]["namespace"] for found in installation(name).objects} == {"walflow"}


# -- the pod ----------------------------------------------------------------------------------------------------------


@each
def test_probes_ask_what_the_engine_serves(name: str) -> None:
    engine = installation(name).engine
    server = HttpServer(CollectorRegistry(), lambda: Readiness(ready=True, reason="leader"), dict)
    paths = {}
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        asked = engine[probe]["httpGet"]
        paths[probe] = asked["path"]
        assert asked["port"] in {port["name"] for port in engine["ports"]}
        assert server.answer(Request("GET", asked["path"], "*/*")).status == 200
    assert paths == {"livenessProbe": "/healthz", "readinessProbe": "/readyz", "startupProbe": "/healthz"}


@each
def test_the_pod_listens_where_it_is_asked(name: str, tmp_path: Path) -> None:
    found = installation(name)
    address = settings_of(found, tmp_path).listen_address
    assert address is not None
    host, port = address
    assert host == "0.0.0.0"
    assert [one["containerPort"] for one in found.engine["ports"]] == [port]


@each
def test_kubernetes_waits_longer_than_the_engine(name: str, tmp_path: Path) -> None:
    found = installation(name)
    patience = timedelta(seconds=found.pod["terminationGracePeriodSeconds"])
    assert patience >= settings_of(found, tmp_path).grace + SPARE


@each
def test_no_container_is_root_or_can_become_so_or_writes_to_its_image(name: str) -> None:
    found = installation(name)
    pod = found.pod["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in found.containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        assert shared not in found.pod


@each
def test_the_user_is_the_images(name: str) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    context = installation(name).pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (
        int(user[1]),
        int(user[2]),
        int(user[2]),
    )
    assert context["runAsUser"] != 0


@each
def test_every_container_says_what_it_needs_and_the_engine_is_never_throttled(name: str) -> None:
    found = installation(name)
    for container in found.containers:
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}


@each
def test_the_pod_has_an_identity_without_rights_and_without_a_token(name: str) -> None:
    found = installation(name)
    account = found.one("ServiceAccount")
    assert found.pod["serviceAccountName"] == account["metadata"]["name"]
    assert found.pod["automountServiceAccountToken"] is False
    assert account["automountServiceAccountToken"] is False
    assert not {one["kind"] for one in found.objects} & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}


@each
def test_the_schema_is_migrated_before_the_engine_runs(name: str) -> None:
    found = installation(name)
    assert [one["name"] for one in found.pod["initContainers"]] == ["passfile", "migrate"]
    migrate = found.pod["initContainers"][1]
    assert (migrate["args"], found.engine["args"]) == (["migrate"], ["run"])
    assert found.from_secret(migrate)["WALFLOW_DSN"] == found.from_secret(found.engine)["WALFLOW_DSN"]


@each
def test_passwords_come_from_the_secret_and_stand_nowhere_else(name: str) -> None:
    found = installation(name)
    keys = {variable: ref["key"] for variable, ref in found.from_secret(found.engine).items()}
    assert keys == {"WALFLOW_DSN": "dsn", "WALFLOW_REPLICATION_DSN": "replication-dsn"}
    assert "optional" not in found.from_secret(found.engine)["WALFLOW_DSN"]
    public = [one for one in found.objects if one["kind"] != "Secret"]
    assert "password" not in yaml.safe_dump(public).replace("passwords", "")


@each
def test_the_passfile_is_given_to_the_engine_as_libpq_wants_it(name: str) -> None:
    """A copy that its owner alone may read: a secret's own files are a group's, and such a passfile is ignored."""
    found = installation(name)
    copy = found.pod["initContainers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in copy["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in found.pod["volumes"]}
    [item] = volumes["secret"]["secret"]["items"]
    target = found.variables["WALFLOW_STEP_PASSFILE"]
    assert copy["command"] == ["install", "-m", "0600", f"{mounts['secret']}/{item['path']}", target]
    assert volumes["run"]["emptyDir"]["medium"] == "Memory"
    assert target.startswith(f"{mounts['run']}/")
    assert {"name": "run", "mountPath": mounts["run"], "readOnly": True} in found.engine["volumeMounts"]


@each
def test_a_service_of_that_name_does_not_pass_for_settings(name: str) -> None:
    assert installation(name).pod["enableServiceLinks"] is False


@pytest.mark.parametrize("name", ["overlays/single", "overlays/ha"])
def test_all_containers_run_the_image_of_this_version(name: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {container["image"] for container in installation(name).containers} == {f"walflow:{version}"}


# -- how many, and where ----------------------------------------------------------------------------------------------


@each
def test_a_new_pod_is_ready_before_the_old_one_goes(name: str) -> None:
    strategy = installation(name).one("Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_one_engine_or_a_leader_and_a_standby() -> None:
    replicas = {name: installation(name).one("Deployment")["spec"]["replicas"] for name in BUILT}
    assert replicas == {"overlays/single": 1, "overlays/ha": 2, "example": 2}


@each
def test_a_drain_takes_one_engine_at_a_time_and_is_never_stopped(name: str) -> None:
    found = installation(name)
    budget = found.one("PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert selects(budget["selector"]["matchLabels"], found.pod_labels)


def test_leader_and_standby_are_not_on_one_node() -> None:
    found = installation("overlays/ha")
    spread = {one["topologyKey"]: one for one in found.pod["topologySpreadConstraints"]}
    assert spread["kubernetes.io/hostname"]["whenUnsatisfiable"] == "DoNotSchedule"
    assert spread["topology.kubernetes.io/zone"]["whenUnsatisfiable"] == "ScheduleAnyway"
    for one in spread.values():
        assert one["maxSkew"] == 1
        assert selects(one["labelSelector"]["matchLabels"], found.pod_labels)


# -- the network ------------------------------------------------------------------------------------------------------


@each
def test_the_network_lets_in_who_monitors_and_out_to_names_and_the_server(name: str, tmp_path: Path) -> None:
    found = installation(name)
    policy = found.one("NetworkPolicy")["spec"]
    assert selects(policy["podSelector"]["matchLabels"], found.pod_labels)
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    [let_in] = policy["ingress"]
    assert let_in["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    address = settings_of(found, tmp_path).listen_address
    assert address is not None
    assert [port["port"] for port in let_in["ports"]] == [address[1]]
    out = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
    assert out == {("UDP", 53), ("TCP", 53), ("TCP", 5432)}


@each
def test_the_service_finds_the_pods_and_their_port(name: str) -> None:
    found = installation(name)
    service = found.one("Service")["spec"]
    assert selects(service["selector"], found.pod_labels)
    assert {port["targetPort"] for port in service["ports"]} == {port["name"] for port in found.engine["ports"]}


# -- the example ------------------------------------------------------------------------------------------------------


def test_the_example_makes_a_secret_with_every_key_that_is_asked_for(tmp_path: Path) -> None:
    found = installation("example")
    secret = found.one("Secret")
    asked = [*found.from_secret(found.engine).values(), *found.from_secret(found.pod["initContainers"][1]).values()]
    assert {ref["name"] for ref in asked} == {secret["metadata"]["name"]}
    volumes = {volume["name"]: volume for volume in found.pod["volumes"]}
    assert volumes["secret"]["secret"]["secretName"] == secret["metadata"]["name"]
    keys = {ref["key"] for ref in asked} | {item["key"] for item in volumes["secret"]["secret"]["items"]}
    assert secret["data"].keys() == keys
    dsn = base64.b64decode(secret["data"]["dsn"]).decode()
    assert BY_NAME["dsn"].parse(dsn) == dsn
    assert settings_of(found, tmp_path).step_connections == 32


def test_a_changed_password_and_a_changed_setting_are_rolling_restarts(tmp_path: Path) -> None:
    shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")
    example = tmp_path / "kustomize" / "example"
    with (example / "secrets" / "dsn").open("a") as file:
        file.write(" connect_timeout=5")
    other_password = Installation(build(example)).one("Deployment")
    text = (example / "kustomization.yaml").read_text()
    (example / "kustomization.yaml").write_text(text.replace("CONNECTIONS=32", "CONNECTIONS=33"))
    other_setting = Installation(build(example)).one("Deployment")
    templates = [installation("example").one("Deployment"), other_password, other_setting]
    assert len({yaml.safe_dump(one["spec"]["template"]) for one in templates}) == 3


def test_an_authority_of_the_servers_own_reaches_whatever_connects(tmp_path: Path) -> None:
    shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")
    own = tmp_path / "kustomize" / "own"
    own.mkdir()
    (own / "ca.crt").write_text("a certificate")
    more = {
        "namespace": "walflow",
        "resources": ["../overlays/single"],
        "components": ["../components/database-ca"],
        "configMapGenerator": [{"name": "walflow-database-ca", "files": ["ca.crt"]}],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(more))
    found = Installation(build(own))
    maps = {one["metadata"]["name"]: one["data"] for one in found.of_kind("ConfigMap")}
    volumes = {volume["name"]: volume for volume in found.pod["volumes"]}
    assert maps[volumes["database-ca"]["configMap"]["name"]] == {"ca.crt": "a certificate"}
    connecting = [container for container in found.containers if container["name"] != "passfile"]
    assert [container["name"] for container in connecting] == ["migrate", "engine"]
    for container in connecting:
        [mount] = [one for one in container["volumeMounts"] if one["name"] == "database-ca"]
        assert {"name": "PGSSLROOTCERT", "value": f"{mount['mountPath']}/ca.crt"} in container["env"]
        assert "WALFLOW_DSN" in found.from_secret(container)
    for one in found.objects:
        validate(dict(one), API_VERSIONS[-1], strict=True)


def test_the_example_says_where_the_image_is() -> None:
    images = {container["image"] for container in installation("example").containers}
    assert images == {"registry.example.com/walflow:0.1.0"}


def test_prometheus_finds_every_pod() -> None:
    found = installation("example")
    monitor = found.one("PodMonitor")
    assert monitor["apiVersion"] == OPERATORS
    assert selects(monitor["spec"]["selector"]["matchLabels"], found.pod_labels)
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in found.engine["ports"]}
    assert endpoint["path"] == "/metrics"


def test_the_operators_rules_are_those_of_prometheus() -> None:
    assert OBJECT.read_text() == as_object(RULES.read_text()), "python -m tests.deploy.rules"
    groups: Any = yaml.safe_load(RULES.read_text())["groups"]
    rules = installation("example").one("PrometheusRule")
    assert rules["apiVersion"] == OPERATORS
    assert rules["spec"]["groups"] == groups
