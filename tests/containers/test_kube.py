"""The Kubernetes manifests through `podman kube play`: the job's pod trains on a claimed volume, MLflow's Deployment reads its Secret.

podman plays pods, deployments, secrets and claims; a Job is played as the pod of its template. GPUs, probes, services, roles and network
policies are the cluster's business and are not seen here.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from data_contracts.validate import validate_drop
from flows.base_models.resolve import NANO
from flows.config.launch import LaunchConfig
from flows.config.model import SkillstackConfig
from flows.demo.materials import write_drop
from flows.text.renderer import TokenizerRenderer
from flows.trainer.kubernetes_job import job_manifest
from osft_engine.run import TrainRun

CLAIM = "skillstack-state"
POD = "skillstack-test-job"
SECONDS = 900.0


@pytest.fixture
def claim(containers: Any) -> Iterator[Path]:
    """The claim of infra/kubernetes/state.yaml as a volume; gives its folder on this machine."""
    if not containers.ENGINE[0].endswith("podman"):
        pytest.skip("kube play is podman's")
    containers.engine("volume", "rm", "-f", CLAIM, check=False)
    containers.engine("kube", "play", str(containers.REPOSITORY / "infra/kubernetes/state.yaml"))
    folder = Path(containers.inspect("volume", CLAIM)["Mountpoint"])
    yield folder
    containers.engine("pod", "rm", "-f", POD, check=False)
    containers.engine("volume", "rm", "-f", CLAIM, check=False)


def test_the_pod_of_the_training_job_trains_on_its_claim(
    containers: Any, images: dict[str, str], claim: Path, tmp_path: Path, measured: dict[str, str]
) -> None:
    settings = {"num_epochs": 1, "effective_batch_size": 16, "num_threads": 1, "protect": "weights"}
    config = SkillstackConfig.model_validate({"train": settings})
    drop = write_drop("route", tmp_path / "route.jsonl", rows=80)
    validate_drop(drop, claim / "drop", skill="route", config=config.contract, renderer=TokenizerRenderer(NANO, config.train))
    shutil.copytree(NANO, claim / "base")
    state = Path("/state")
    run = TrainRun(base=state / "base", drop=state / "drop", skill="route", out_dir=state / "out", config=config.train)
    (claim / "run.json").write_text(run.model_dump_json())
    for path in (claim, *claim.rglob("*")):
        os.chown(path, containers.USER, containers.USER)
    job = job_manifest(LaunchConfig(kind="kubernetes"), state / "run.json")
    template = job["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == images["trainer"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": POD}, "spec": template["spec"]}
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    containers.engine("kube", "play", "--network", "none", str(tmp_path / "pod.yaml"))
    name = f"{POD}-trainer"
    containers.wait_for(lambda: not containers.inspect("container", name)["State"]["Running"], "the pod to end", SECONDS)
    found = containers.inspect("container", name)
    log = containers.engine("logs", name, check=False)
    assert found["State"]["ExitCode"] == 0, log.stdout + log.stderr
    assert found["Config"]["User"].startswith("10001")
    assert (claim / "out/manifest.json").exists()
    measured["kube play of the job's pod"] = "trained on the claim's volume, exit 0"


def secret_of(stack: Any) -> dict[str, Any]:
    """The secret that docs/guides/service.md makes with kubectl, for the servers of the stack."""
    values = stack.environment
    literal = {
        "postgres-password": values["POSTGRES_PASSWORD"],
        "mlflow-admin-password": values["MLFLOW_ADMIN_PASSWORD"],
        "mlflow-flask-key": values["MLFLOW_FLASK_SERVER_SECRET_KEY"],
        "s3-access-key": values["MINIO_ROOT_USER"],
        "s3-secret-key": values["MINIO_ROOT_PASSWORD"],
        "s3-endpoint": "http://minio:9000",
    }
    data = {name: base64.b64encode(value.encode()).decode() for name, value in literal.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "skillstack"}, "data": data}


@pytest.fixture
def mlflow(containers: Any, stack: Any, tmp_path: Path) -> Iterator[str]:
    """MLflow's Deployment and its Secret on the stack's network, where its PostgreSQL and its store are; the id of its container."""
    if not containers.ENGINE[0].endswith("podman"):
        pytest.skip("kube play is podman's")
    network = next(iter(containers.inspect("container", stack.container("postgres"))["NetworkSettings"]["Networks"]))
    documents = list(yaml.safe_load_all((containers.REPOSITORY / "infra/kubernetes/mlflow.yaml").read_text()))
    for container in documents[0]["spec"]["template"]["spec"]["containers"]:
        del container["ports"]  # podman would take them on this machine too, where the stack has them
    manifest = tmp_path / "mlflow.yaml"
    manifest.write_text(yaml.safe_dump_all(documents))
    secret = secret_of(stack)
    (tmp_path / "secret.yaml").write_text(yaml.safe_dump(secret))
    play = ("kube", "play", "--network", network, str(manifest))
    try:
        containers.engine("kube", "play", str(tmp_path / "secret.yaml"))
        done = containers.engine(*play, check=False)
        if "secret skillstack is not valid JSON" in done.stderr:  # podman 4.3 keeps a Secret as YAML and reads it as JSON
            containers.engine("kube", "down", str(manifest), check=False)
            containers.engine("secret", "rm", "skillstack")
            containers.engine("secret", "create", "skillstack", "-", given=json.dumps(secret["data"]))
            done = containers.engine(*play, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        pod = containers.engine("pod", "ps", "--filter", "label=app.kubernetes.io/name=mlflow", "--format", "{{.Name}}").stdout.split()
        assert len(pod) == 1
        yield f"{pod[0]}-mlflow"
    finally:
        containers.engine("kube", "down", str(manifest), check=False)
        containers.engine("secret", "rm", "skillstack", check=False)


def test_the_deployment_of_mlflow_reads_its_secret_and_serves(containers: Any, mlflow: str, stack: Any, measured: dict[str, str]) -> None:
    found = containers.inspect("container", mlflow)
    assert found["Config"]["User"].startswith("10001")
    assert not found.get("EffectiveCaps")
    infra = containers.engine("pod", "inspect", "--format", "{{.InfraContainerID}}", found["Pod"]).stdout.strip()
    address = next(iter(containers.inspect("container", infra)["NetworkSettings"]["Networks"].values()))["IPAddress"]
    # A name that the manifest allows, as a client in the cluster would use.
    headers, person = {"Host": "mlflow.skillstack:5000"}, ("admin", stack.environment["MLFLOW_ADMIN_PASSWORD"])

    def ask(path: str, auth: tuple[str, str] | None = person, host: dict[str, str] = headers) -> int:
        try:
            return httpx.get(f"http://{address}:5000{path}", auth=auth, headers=host, timeout=20).status_code
        except httpx.TransportError:
            return 0

    containers.wait_for(lambda: ask("/health") == 200, "MLflow to answer", SECONDS)
    listing = "/api/2.0/mlflow/experiments/search?max_results=5"
    assert [ask(listing), ask(listing, None), ask(listing, ("admin", "another"))] == [200, 401, 401]
    assert ask(listing, host={"Host": "elsewhere.example"}) == 403
    path = f"http://{address}:5000/api/2.0/mlflow-artifacts/artifacts/kube/hello.txt"
    assert httpx.put(path, auth=person, headers=headers, content=b"hello", timeout=60).status_code == 200
    assert httpx.get(path, auth=person, headers=headers, timeout=60).content == b"hello", "by way of the S3-type store"
    measured["kube play of MLflow's Deployment"] = "answers with the Secret's password only; an artifact went through the store and back"
