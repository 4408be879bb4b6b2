"""What is deployed but could not be started here keeps the schemas of those who read it, and holds no secret and no root."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.config.launch import LaunchConfig
from flows.trainer.kubernetes_job import job_manifest

pytestmark = pytest.mark.services

INFRA = Path(__file__).parents[2] / "infra"
KUBERNETES = "1.33"
CUSTOM = {"TrainJob", "TrainingRuntime"}  # Kubeflow's; their schema ships with the cluster only


def manifests() -> Iterator[dict[str, Any]]:
    for path in sorted((INFRA / "kubernetes").glob("*.yaml")):
        if not path.name.endswith("-values.yaml") and path.name != "kustomization.yaml":
            yield from (each for each in yaml.safe_load_all(path.read_text()) if each)


def pods() -> Iterator[dict[str, Any]]:
    """Every pod's spec, in whatever it is wrapped."""
    for each in [*manifests(), job_manifest(LaunchConfig(kind="kubernetes", processes=2), Path("/state/run.json"))]:
        spec = each.get("spec", {})
        for replicated in spec.get("template", {}).get("spec", {}).get("replicatedJobs", []):
            yield replicated["template"]["spec"]["template"]["spec"]
        if each["kind"] in ("Deployment", "Job"):
            yield spec["template"]["spec"]


def test_the_compose_file_is_a_valid_compose_file() -> None:
    from compose_spec import PyCompose

    text = (INFRA / "compose.yaml").read_text()
    # What compose itself does first: anchors, merge keys and variables.
    merged = yaml.safe_dump(yaml.safe_load(re.sub(r"\$\{\w+(:[?-][^}]*)?\}", "value", text)))
    services = PyCompose.from_yaml(merged).services
    assert services is not None
    assert {"postgres", "minio", "mlflow", "prefect", "worker-gpu", "worker-cpu", "deploy"} <= set(services)
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        line = [
            "docker",
            "compose",
            "--env-file",
            str(INFRA / ".env.example"),
            "-f",
            str(INFRA / "compose.yaml"),
            "config",
            "--no-interpolate",
        ]
        assert subprocess.run(line, capture_output=True, check=False).returncode == 0


def test_the_validator_would_find_a_mistake() -> None:
    from compose_spec import PyCompose

    with pytest.raises(Exception, match="imagee"):
        PyCompose.from_yaml("services: {a: {imagee: x}}")


@pytest.mark.parametrize("manifest", list(manifests()), ids=lambda each: f"{each['kind']}-{each['metadata'].get('name', 'job')}")
def test_kubernetes_manifests_keep_their_schema(manifest: dict[str, Any]) -> None:
    import kubernetes_validate

    if manifest["kind"] in CUSTOM:
        assert manifest["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
        job = manifest["spec"].get("template", {}).get("spec", {}).get("replicatedJobs")
        for each in job or []:
            body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, "spec": each["template"]["spec"]}
            kubernetes_validate.validate(body, KUBERNETES, strict=True)
        return
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_training_job_keeps_its_schema() -> None:
    import kubernetes_validate

    job = job_manifest(LaunchConfig(kind="kubernetes", processes=4), Path("/state/stages/train/k.partial/run.json"))
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert "--nproc-per-node" in container["command"]
    broken = {**job, "spec": {**job["spec"], "backofLimit": 0}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_no_pod_and_no_service_runs_as_root() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    assert [name for name, each in services.items() if not re.match(r"[1-9]", each["user"])] == ["owner"]
    for path in (INFRA / "images").glob("*.Containerfile"):
        assert "USER 10001:10001" in path.read_text(), path


def test_every_image_is_pinned() -> None:
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"].values()
    images = [each["image"] for each in services] + [container["image"] for pod in pods() for container in pod["containers"]]
    images += [
        line.split()[1]
        for path in (INFRA / "images").glob("*.Containerfile")
        for line in path.read_text().splitlines()
        if line[:5] == "FROM "
    ]
    for image in images:
        tag = image.partition(":")[2]
        assert re.search(r"\d+[.-]\d+", tag), f"{image} names no version"
        assert "latest" not in tag


def test_no_file_holds_a_secret() -> None:
    settings = dict(line.split("=", 1) for line in (INFRA / ".env.example").read_text().splitlines() if "=" in line and line[0] != "#")
    assert settings
    assert all(value == "" for value in settings.values())
    secret = re.compile(r"(?i)(password|secret_access_key|auth_string|secret_key)['\"]?\s*[:=]\s*(?P<value>[^\s]+)")
    for path in INFRA.rglob("*"):
        if path.suffix in (".yaml", ".ini", ".Containerfile", ".sql"):
            for found in secret.finditer(path.read_text()):
                assert found["value"].startswith(("${", "'${", '"${', "{")), f"{path}: {found[0]}"


def test_the_helm_values_name_the_version_that_was_tested() -> None:
    pinned = re.search(r"(?m)^prefect==(.*)$", (INFRA / "constraints.txt").read_text())
    assert pinned is not None
    for name in ("prefect-server", "prefect-worker"):
        values = yaml.safe_load((INFRA / "kubernetes" / f"{name}-values.yaml").read_text())
        image = (values.get("server") or values.get("worker"))["image"]
        assert image["prefectTag"].startswith(pinned[1])


def test_kustomize_builds_the_whole(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(["kubectl", "kustomize", str(INFRA / "kubernetes")], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert {each["metadata"]["namespace"] for each in yaml.safe_load_all(built.stdout) if each["kind"] != "Namespace"} == {"skillstack"}
