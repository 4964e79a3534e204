"""The manifests of deploy/: valid, hardened, and of one piece with the settings."""

import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from service.settings import GatewaySettings
from tests.deploy.manifests import DEPLOY, OVERLAYS, Manifest, containers, kustomize, rendered, written
from tests.packaging.files import commands, image_environment, variables
from worker.settings import WorkerSettings

KUBERNETES = "1.34"  # the oldest that the manifests are written for: it has preStop's sleep
OF_OTHERS = ("keda.sh/v1alpha1",)
RESOURCES = [*written()]
NAMES = [f"{path.parent.name}/{manifest['kind']}/{manifest['metadata']['name']}" for path, manifest in RESOURCES]


def check(manifest: Manifest) -> None:
    """Assert that Kubernetes would take a manifest, and that it says nothing that Kubernetes would ignore."""
    if manifest["apiVersion"] not in OF_OTHERS:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def named(kind: str, name: str) -> Manifest:
    return next(each for _, each in RESOURCES if (each["kind"], each["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize(("path", "manifest"), RESOURCES, ids=NAMES)
def test_every_manifest_meets_kubernetes_schema(path: Path, manifest: Manifest) -> None:
    del path
    check(manifest)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_to_what_kubernetes_takes(overlay: str) -> None:
    command = kustomize()
    if command is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    found = rendered(command, DEPLOY / "overlays" / overlay)
    for manifest in found:
        check(manifest)
        assert manifest["metadata"]["namespace"] == "ovam"
    images = {container["image"] for manifest in found for container in containers(manifest)}
    assert not [image for image in images if "/" not in image], "an image has no registry"
    secrets = {source["secretRef"]["name"] for each in found for box in containers(each) for source in box.get("envFrom", ())[1:]}
    assert ("ovam-redis" in secrets) == (overlay != "cpu"), "either a Redis of one's own, or the one in the cluster"


@pytest.mark.parametrize(("path", "manifest"), RESOURCES, ids=NAMES)
def test_every_container_is_locked_down_and_bounded(path: Path, manifest: Manifest) -> None:
    del path
    for container in containers(manifest):
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert {"startupProbe", "livenessProbe"} <= set(container)


@pytest.mark.parametrize("name", ["ovam-gateway", "ovam-worker"])
def test_a_disruption_budget_and_a_network_policy_select_the_pods(name: str) -> None:
    labels = named("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    assert named("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    allowed = named("NetworkPolicy", "ovam-needs")["spec"]["podSelector"]["matchExpressions"][0]["values"]
    assert name in allowed
    base = yaml.safe_load((DEPLOY / "base/kustomization.yaml").read_text())
    denied = named("NetworkPolicy", "ovam-nothing")["spec"]["podSelector"]["matchLabels"]
    assert base["labels"][0]["pairs"] == denied
    assert base["labels"][0]["includeTemplates"] is True


@pytest.mark.parametrize(("name", "kind"), [("ovam-gateway", GatewaySettings), ("ovam-worker", WorkerSettings)])
def test_a_process_gets_settings_that_it_has(name: str, kind: type[GatewaySettings | WorkerSettings]) -> None:
    (container,) = containers(named("Deployment", name))
    given = {each["name"].removeprefix("OVAM_").lower(): each.get("value", "x") for each in container["env"]}
    assert set(given) <= set(kind.model_fields)
    kind.model_validate(given)
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert given.get("metrics_port", given.get("port")) in ports.values()


def test_a_worker_that_is_stopped_has_more_time_than_its_jobs() -> None:
    pod = named("Deployment", "ovam-worker")["spec"]["template"]["spec"]
    grace = next(each["value"] for each in pod["containers"][0]["env"] if each["name"] == "OVAM_GRACE_SECONDS")
    assert pod["terminationGracePeriodSeconds"] > float(grace) + 5


def test_our_containers_run_commands_and_a_user_of_the_image() -> None:
    for name in ("ovam-gateway", "ovam-worker"):
        manifest = named("Deployment", name)
        (container,) = containers(manifest)
        assert container["command"] in (["ovam", "serve"], ["python", "-m", "worker"])
        assert manifest["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 10001  # as in the Dockerfile
        assert image_environment()["OVAM_DATA_DIR"] in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert "serve" in commands()


def test_the_scaled_object_scales_what_is_there() -> None:
    scaled = named("ScaledObject", "ovam-worker")
    assert named("Deployment", scaled["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in named("Deployment", "ovam-worker")["spec"], "each apply would undo what KEDA did"
    assert 1 <= scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]
    (trigger,) = scaled["spec"]["triggers"]
    assert int(trigger["metadata"]["threshold"]) == WorkerSettings.model_fields["long_jobs"].default


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("**/kustomization.yaml")), ids=lambda path: path.parent.name)
def test_settings_in_kustomizations_are_settings(path: Path) -> None:
    named_there = set(re.findall(r"\bOVAM_[A-Z]+(?:_[A-Z]+)*\b", path.read_text()))
    assert named_there <= set(variables())
    for generator in yaml.safe_load(path.read_text()).get("configMapGenerator", ()):
        for literal in generator.get("literals", ()):
            name, _, value = literal.partition("=")
            if name == "OVAM_MODELS":
                assert WorkerSettings.model_validate({"models": json.loads(value)})
