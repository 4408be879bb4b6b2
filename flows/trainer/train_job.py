"""The TrainJob of Kubeflow Trainer: one training over several nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.config.launch import LaunchConfig


def train_job_manifest(config: LaunchConfig, run_file: Path, name: str) -> dict[str, Any]:
    """A TrainJob of `launch.nodes` nodes with `launch.processes` processes and GPUs each.

    The pods (user, volumes, labels) are those of the TrainingRuntime. Trainer tells torchrun number and address of the nodes in PET_*
    variables, so that its command line needs none. Its fields are those of `trainer.kubeflow.org/v1alpha1` in Kubeflow Trainer 2.3
    (package kubeflow-trainer-api, which the tests compare them with).
    """
    where = config.kubernetes
    resources = {"limits": {"nvidia.com/gpu": str(config.processes), "memory": where.memory}, "requests": {"memory": where.memory}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "namespace": where.namespace, "labels": {"app.kubernetes.io/name": "skillstack"}},
        "spec": {
            "activeDeadlineSeconds": where.active_deadline_seconds,
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": where.runtime},
            "trainer": {
                "image": where.image,
                "command": ["torchrun", "-m", "osft_engine", str(run_file)],
                "numNodes": config.nodes,
                "numProcPerNode": config.processes,
                "resourcesPerNode": resources,
            },
        },
    }
