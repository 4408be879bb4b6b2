"""The Kubernetes manifests through `podman kube play`: the job's pod trains on a claimed volume, MLflow's Deployment reads its Secret.

podman plays pods, deployments, secrets and claims; a Job is played as the pod of its template. GPUs, probes, roles and network policies are
the cluster's business and are not seen here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
