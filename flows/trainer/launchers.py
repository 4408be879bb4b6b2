"""How a training is started (`launch.kind`): as a local process, as one process per GPU under torchrun, or as a Kubernetes job.

Each launcher is a command that runs as long as the training, writes its events to the run's folder, and exits with 0 or with the engine's
one-line error; so the flow treats all of them alike.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flows.config.launch import LaunchConfig


def trainer_command(config: LaunchConfig, run_file: Path, *, parent: int) -> list[str]:
    """The command that trains `run_file`. It stops when the process `parent` has ended."""
    engine = ["-m", "osft_engine", str(run_file)]
    if config.kind == "local":
        return [sys.executable, *engine, "--parent", str(parent)]
    keeper = [sys.executable, "-m", "flows.trainer.keeper", "--parent", str(parent)]
    if config.kind == "torchrun":
        return [*keeper, "--", sys.executable, *torchrun(config.processes), *engine]
    return [*keeper, "--", sys.executable, "-m", "flows.trainer.kubernetes_job", config.model_dump_json(), str(run_file)]


def torchrun(processes: int) -> list[str]:
    """Arguments of Python that start one engine process per GPU of this machine; --standalone chooses a free port for the rendezvous."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
