"""Where the training runs: the section `launch`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class KubernetesConfig(BaseModel):
    """The job of `launch.kind: kubernetes` or `trainjob`. The state directory must be on a volume that worker and job share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str = Field("skillstack", description="namespace of the job")
    image: str = Field("skillstack-trainer:0.1.0", description="image with the engine (infra/images/trainer.Containerfile)")
    claim_name: str = Field("skillstack-state", description="persistent volume claim that holds the state directory")
    mount_path: Path = Field(Path("/state"), description="path at which the claim is mounted, the same in worker and job")
    service_account: str = Field("skillstack-trainer", description="service account of the job's pod; it needs no permissions")
    memory: str = Field("32Gi", description="memory request and limit of a pod")
    active_deadline_seconds: int = Field(86_400, ge=60, description="time after which Kubernetes stops the job (seconds)")
    runtime: str = Field("skillstack-osft", description="TrainingRuntime (infra/kubernetes/training-runtime.yaml; trainjob only)")


class LaunchConfig(BaseModel):
    """How the processes of a training are started."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["local", "torchrun", "kubernetes", "trainjob"] = Field(
        "local", description="one process here, torchrun here, a Kubernetes job, or a TrainJob of Kubeflow Trainer over several nodes"
    )
    processes: int = Field(1, ge=1, description="training processes, one per GPU; of each node for trainjob (not local)")
    nodes: int = Field(1, ge=1, description="nodes of a TrainJob (trainjob)")
    kubernetes: KubernetesConfig = Field(default_factory=KubernetesConfig)
