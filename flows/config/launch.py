"""Where the trainer runs: the section `launch`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class KubernetesConfig(BaseModel):
    """The job of `launch.kind: kubernetes`. The state directory has to be a volume that worker and job share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str = Field("skillstack", description="namespace of the job")
    image: str = Field("skillstack-trainer:0.1.0", description="image with the engine (infra/images/trainer.Containerfile)")
    claim: str = Field("skillstack-state", description="persistent volume claim that holds the state directory")
    mount: Path = Field(Path("/state"), description="where the claim is mounted, in the worker and in the job alike")
    service_account: str = Field("skillstack-trainer", description="service account of the job's pod; it needs no rights")
    memory: str = Field("32Gi", description="memory that the job asks for")
    deadline_seconds: int = Field(86_400, ge=60, description="the job is ended after so long (seconds)")


class LaunchConfig(BaseModel):
    """How one training becomes processes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["local", "torchrun", "kubernetes"] = Field("local", description="a process here, torchrun here, or a Kubernetes job")
    processes: int = Field(1, ge=1, description="training processes, one a GPU (torchrun and kubernetes)")
    kubernetes: KubernetesConfig = Field(default_factory=KubernetesConfig)
