"""Where the trainer runs: as a process here, as one process a GPU under torchrun, or as a Kubernetes job. One setting chooses.

Every launcher is a command line that lives as long as the training, writes what happened to the run's folder, and exits 0 or with the
engine's own one-line error; so the flow that follows it does not know which one it is.
"""

from __future__ import annotations

import sys
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


def trainer_command(config: LaunchConfig, run_file: Path, *, parent: int) -> list[str]:
    """The command line that trains `run_file`. It ends by itself when the process `parent` is gone."""
    engine = ["-m", "osft_engine", str(run_file)]
    if config.kind == "local":
        return [sys.executable, *engine, "--parent", str(parent)]
    keeper = [sys.executable, "-m", "flows.training.keeper", "--parent", str(parent)]
    if config.kind == "torchrun":
        return [*keeper, "--", sys.executable, *torchrun(config.processes), *engine]
    return [*keeper, "--", sys.executable, "-m", "flows.training.kubernetes_job", config.model_dump_json(), str(run_file)]


def torchrun(processes: int) -> list[str]:
    """Arguments to Python that start the engine once a GPU of this machine; --standalone picks a free port for the rendezvous."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
