"""What cannot be trained ends with one line that says where, what and the way out, and leaves nothing that passes for a checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_contracts.errors import CheckpointError, SkillstackError, TrainingError
from osft_engine.loop import trainer
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


def _fails(run: TrainRun, error: type[SkillstackError], message: str) -> None:
    with pytest.raises(error, match=message):
        train_candidate(run)
    assert not (run.out_dir / "manifest.json").exists()


def test_out_of_memory_says_what_to_lower(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer, "summed_loss", no_room)
    _fails(make_run(), TrainingError, r"step 1: out of memory in a batch of \d+ tokens.*lower max_tokens_per_batch")


def test_weights_that_are_not_safetensors_are_never_loaded(make_run: MakeRun, base_folder: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(base_folder, pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    _fails(make_run(base=pickled), CheckpointError, "pickled")


def test_a_file_that_changed_after_its_manifest_is_refused(make_run: MakeRun, make_drop: Callable[..., Path]) -> None:
    drop = make_drop(name="changed")
    (drop / "clean.jsonl").write_text((drop / "clean.jsonl").read_text().replace("1", "2", 1))
    _fails(make_run(drop=drop), SkillstackError, r"clean\.jsonl: has changed since its manifest was written")


def test_rows_in_which_nothing_is_learned_are_refused(make_run: MakeRun, make_drop: Callable[..., Path]) -> None:
    silent = make_drop([{"messages": [{"role": "user", "content": "only a question"}]}] * 3, name="silent")
    _fails(make_run(drop=silent), TrainingError, "nothing to train on: 0 examples are longer")
