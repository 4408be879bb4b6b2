"""State of a run that may be killed at any moment: out_dir/.resume, whose files are replaced atomically.

    run.json            digest of the run it belongs to, and its config for the error when another run finds it
    bases.safetensors   the allowed directions, so that a resumed run trains in bit-identical ones
    ledger.safetensors  the subspace memory before this round, calibrated once
    state.safetensors   parameters, optimiser state, random state; metadata: step, losses, seconds

No pickle: safetensors and JSON only. Where `state_url` is set, each file is copied there when it is written (state_copy.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_contracts.errors import TrainingError
from data_contracts.files import write_atomically
from osft_engine.files import read_tensors, save_tensors
from osft_engine.loop.state_copy import CLAIM, StateCopy
from osft_engine.memory.subspace_memory import SubspaceMemory, load_memory, save_memory
from osft_engine.method.bases import load_bases, save_bases
from osft_engine.subspace.protection import AllowedUpdate


@dataclass
class Progress:
    """How far a run has come. losses: nats per loss token of each step."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    loss_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int = 0
    counted_loss: float | None = None
    """The validation loss that the next one is held against: the last that was lower by more than `early_stop_gain`."""
    validations_without_gain: int = 0
    stopped: bool = False


class ResumeFolder:
    """out_dir/.resume of one run. Raises TrainingError where it belongs to another run.

    changed: settings that differ from those the run began with and do not change its outcome (size of passes, how often it saves).
    copy: where the state is kept besides; a folder without work takes what lies there.
    """

    def __init__(self, out_dir: Path, digest: str, config: Mapping[str, Any], *, claim: bool = True, copy: StateCopy | None = None) -> None:
        self.folder = out_dir / ".resume"
        self._claim = self.folder / CLAIM
        self._copy = copy
        if copy is not None and not (self._claim.is_file() and self._holds_work()):
            copy.restore(self.folder)
        self.changed: dict[str, Any] = {}
        if self._claim.is_file():
            claimed = json.loads(self._claim.read_text(encoding="utf-8"))
            self.changed = {key: value for key, value in config.items() if claimed["config"].get(key) != value}
            if claimed["digest"] != digest and self._holds_work():
                differs = ", ".join(sorted(self.changed)) or "its base, drop, parent or calibration"
                what = f"holds the state of another run, which differs in {differs}"
                raise TrainingError(str(self.folder), what, "run it as it was, remove the folder, or give another out_dir")
        if claim and (not self._claim.is_file() or claimed["digest"] != digest):
            write_atomically(self._claim, json.dumps({"digest": digest, "config": dict(config)}, sort_keys=True))
        if copy is not None:
            copy.claim(self._claim)
            for path in self.folder.glob("*.safetensors"):  # what a run wrote before it was given a place for copies
                copy.store(path)

    def _holds_work(self) -> bool:
        """Whether it holds more than run.json. A run that was refused for its config or its rows left only that, and may be corrected."""
        return any(path.suffix == ".safetensors" for path in self.folder.iterdir())

    def save_bases(self, allowed: Mapping[str, AllowedUpdate]) -> None:
        path = self.folder / "bases.safetensors"
        save_bases(allowed, path)
        self._keep(path)

    def load_bases(self) -> dict[str, AllowedUpdate] | None:
        path = self.folder / "bases.safetensors"
        return load_bases(path) if path.is_file() else None

    def save_memory(self, memory: SubspaceMemory) -> None:
        path = self.folder / "ledger.safetensors"
        save_memory(memory, path)
        self._keep(path)

    def load_memory(self) -> SubspaceMemory | None:
        path = self.folder / "ledger.safetensors"
        return load_memory(path) if path.is_file() else None

    def save_state(
        self, parameters: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], progress: Progress, *, leads: bool = True
    ) -> None:
        """Write the state. Processes that do not lead only took part in gathering it."""
        if not leads:
            return
        tensors = {f"parameter:{name}": value for name, value in parameters.items()}
        tensors |= {f"optimizer:{name}": value for name, value in optimizer.items()}
        tensors["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        path = self.folder / "state.safetensors"
        save_tensors(tensors, path, {"progress": json.dumps(asdict(progress))})
        self._keep(path)

    def save_best(self, parameters: Mapping[str, Tensor], *, leads: bool = True) -> None:
        """Keep the parameters of the best validation so far."""
        if leads:
            path = self.folder / "best.safetensors"
            save_tensors(parameters, path)
            self._keep(path)

    def load_best(self) -> dict[str, Tensor] | None:
        path = self.folder / "best.safetensors"
        return read_tensors(path)[0] if path.is_file() else None

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Tensor], Progress] | None:
        """Parameters, optimiser state and progress of the last save, with the random state set; None before the first."""
        path = self.folder / "state.safetensors"
        if not path.is_file():
            return None
        tensors, facts = read_tensors(path)
        torch.set_rng_state(tensors.pop("random"))
        if "random_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random_cuda"])
        parameters = {name.removeprefix("parameter:"): value for name, value in tensors.items() if name.startswith("parameter:")}
        optimizer = {name.removeprefix("optimizer:"): value for name, value in tensors.items() if name.startswith("optimizer:")}
        return parameters, optimizer, Progress(**json.loads(facts["progress"]))

    def _keep(self, path: Path) -> None:
        if self._copy is not None:
            self._copy.store(path)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._copy is not None:
            self._copy.remove()


LOCK_NAME = ".trainer.lock"
WAIT_SECONDS = 60.0
"""Longer than a trainer that was stopped needs to save its state."""


@contextmanager
def only_trainer(out_dir: Path, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a run's folder. A retried flow may come while the trainer of the one before still saves: it waits, then goes on from there.

    Raises TrainingError where the other does not end in time. Of several processes of one run the leading one holds it.
    """
    if int(os.environ.get("RANK", "0")) != 0:
        yield
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / LOCK_NAME
    with path.open("a+") as stream:
        _lock(stream.fileno(), path, wait_seconds)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
        path.unlink(missing_ok=True)  # a run that ended well leaves no lock; a process that waits finds its manifest


def _lock(file: int, path: Path, wait_seconds: float) -> None:
    """The system's own lock, which ends with its process however that ends."""
    end = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                owner = path.read_text(encoding="utf-8").strip() or "unknown"
                way_out = "let it end, or end it; then run the same round again"
                raise TrainingError(str(path.parent), f"another trainer is running here (process {owner})", way_out) from None
        time.sleep(0.2)
