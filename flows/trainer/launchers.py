"""Where the trainer runs: as a process here, as one process a GPU under torchrun, or as a Kubernetes job. One setting chooses.

Every launcher is a command line that lives as long as the training, writes what happened to the run's folder, and exits 0 or with the
engine's own one-line error; so the flow that follows it does not know which one it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flows.config.launch import LaunchConfig


def trainer_command(config: LaunchConfig, run_file: Path, *, parent: int) -> list[str]:
    """The command line that trains `run_file`. It ends by itself when the process `parent` is gone."""
    engine = ["-m", "osft_engine", str(run_file)]
    if config.kind == "local":
        return [sys.executable, *engine, "--parent", str(parent)]
    keeper = [sys.executable, "-m", "flows.trainer.keeper", "--parent", str(parent)]
    if config.kind == "torchrun":
        return [*keeper, "--", sys.executable, *torchrun(config.processes), *engine]
    return [*keeper, "--", sys.executable, "-m", "flows.trainer.kubernetes_job", config.model_dump_json(), str(run_file)]


def torchrun(processes: int) -> list[str]:
    """Arguments to Python that start the engine once a GPU of this machine; --standalone picks a free port for the rendezvous."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
