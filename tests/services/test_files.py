"""What is deployed but could not be started here keeps the schemas of those who read it, and holds no secret and no root."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.config.launch import LaunchConfig
from flows.trainer.kubernetes_job import job_manifest
from flows.trainer.train_job import train_job_manifest

pytestmark = pytest.mark.services

INFRA = Path(__file__).parents[2] / "infra"
KUBERNETES = "1.33"
CUSTOM = {"TrainJob", "TrainingRuntime"}  # Kubeflow's: their schema are the models of its SDK


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


def assert_kubeflow_knows(manifest: dict[str, Any]) -> None:
    """Read by the models of Kubeflow's SDK and written again, nothing is lost: they drop a field that they do not know."""
    import kubeflow_trainer_api.models as kubeflow

    assert manifest["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    model = getattr(kubeflow, f"TrainerV1alpha1{manifest['kind']}")
    assert model.from_dict(manifest).to_dict() == manifest


def test_the_train_job_is_one_that_kubeflow_knows() -> None:
    config = LaunchConfig(kind="trainjob", nodes=3, processes=8)
    job = train_job_manifest(config, Path("/state/stages/train/k.partial/run.json"), "skillstack-train-0123456789ab")
    assert_kubeflow_knows(job)
    runtimes = {each["metadata"]["name"]: each for each in manifests() if each["kind"] == "TrainingRuntime"}
    runtime = runtimes[job["spec"]["runtimeRef"]["name"]]
    assert job["metadata"]["namespace"] == runtime["metadata"]["namespace"], "a runtime serves its own namespace only"
    step = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["metadata"]["labels"]
    assert step["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer", "Trainer replaces command and image of this pod"
    assert (job["spec"]["trainer"]["numNodes"], job["spec"]["trainer"]["numProcPerNode"]) == (3, 8)
    rules = [rule for each in manifests() if each["kind"] == "Role" for rule in each["rules"]]
    assert any("trainjobs" in rule["resources"] and "create" in rule["verbs"] for rule in rules)
    job["spec"]["trainer"]["numProc"] = 8
    with pytest.raises(AssertionError):
        assert_kubeflow_knows(job)


@pytest.mark.parametrize("manifest", list(manifests()), ids=lambda each: f"{each['kind']}-{each['metadata'].get('name', 'job')}")
def test_kubernetes_manifests_keep_their_schema(manifest: dict[str, Any]) -> None:
    import kubernetes_validate

    if manifest["kind"] in CUSTOM:
        assert_kubeflow_knows(manifest)
        for each in manifest["spec"]["template"]["spec"]["replicatedJobs"]:
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


def test_the_helm_values_name_the_version_that_was_tested_and_keep_the_rules_of_the_namespace() -> None:
    """Where each value stands is what test_helm.py checks against the charts themselves."""
    pinned = re.search(r"(?m)^prefect==(.*)$", (INFRA / "constraints.txt").read_text())
    assert pinned is not None
    server, worker = (yaml.safe_load((INFRA / "kubernetes" / f"prefect-{each}-values.yaml").read_text()) for each in ("server", "worker"))
    for image in (server["global"]["prefect"]["image"], worker["worker"]["image"]):
        assert image["prefectTag"].startswith(pinned[1])
    for values in (server["server"], worker["worker"]):
        assert values["containerSecurityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_kustomize_builds_the_whole(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(["kubectl", "kustomize", str(INFRA / "kubernetes")], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert {each["metadata"]["namespace"] for each in yaml.safe_load_all(built.stdout) if each["kind"] != "Namespace"} == {"skillstack"}


def test_the_trial_of_the_guide_serves_its_pages_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    """Started with SIGINT ignored, as a script starts it in the background, where Ctrl-C's signal must end it all the same."""
    line = ["bash", "-c", "trap '' INT; exec \"$@\"", "bash", sys.executable, "infra/services.py", str(tmp_path / "service")]
    with subprocess.Popen(line, cwd=INFRA.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            printed = [process.stdout.readline().split() for _ in range(5)]
            assert [words[:1] for words in printed] == [["export"]] * 5, printed
            given = dict(words[1].split("=", 1) for words in printed)
            api = given["PREFECT_API_URL"]
            page = httpx.get(api.removesuffix("/api"), headers={"Accept": "text/html"}, follow_redirects=True)
            assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
            settings = httpx.get(f"{api.removesuffix('/api')}/ui-settings").json()
            assert (settings["api_url"], settings["default_ui"]) == ("/api", "v1"), (
                "the address that the page came from, asking no other host"
            )
            user, _, password = given["PREFECT_API_AUTH_STRING"].partition(":")
            assert [httpx.get(f"{api}/admin/version", auth=auth).status_code for auth in (None, (user, password))] == [401, 200]
            assert httpx.get(f"{given['MLFLOW_TRACKING_URI']}/health").text == "OK"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                status = process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()  # or the test would wait for it for ever
                raise
        assert status == 0
