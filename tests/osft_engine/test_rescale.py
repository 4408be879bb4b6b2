"""A smaller update without training lies between base and candidate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data_contracts.errors import CheckpointError, ConfigError
from data_contracts.manifests import CheckpointManifest, read_manifest
from osft_engine.checkpoint.adapter import export_adapter
from osft_engine.rescale import scale_candidate
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


def _trained(make_run: MakeRun, protect: str) -> TrainRun:
    run = make_run(protect=protect, learning_rate=1e-2, warmup_steps=0)
    train_candidate(run)
    return run


def test_a_smaller_scale_lies_between_base_and_candidate(make_run: MakeRun, tmp_path: Path) -> None:
    run = _trained(make_run, "activations")
    half = scale_candidate(run.out_dir, run.base, tmp_path / "half", 0.5)
    assert read_manifest(tmp_path / "half", CheckpointManifest) == half
    assert half.config["update_scale"] == 0.5
    base, whole, scaled = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (run.base, run.out_dir / "model", tmp_path / "half" / "model")
    )
    for name, value in scaled.items():
        torch.testing.assert_close(value, (base[name] + whole[name]) / 2, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match=r"scale: is 1.5, not in \(0, 1\]"):
        scale_candidate(run.out_dir, run.base, tmp_path / "other", 1.5)
    with pytest.raises(CheckpointError, match="is not the model that this checkpoint was trained from"):
        scale_candidate(run.out_dir, run.out_dir / "model", tmp_path / "other", 0.5)


def test_what_was_trained_outside_the_targets_is_scaled_too_and_no_adapter_hides_it(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(train_other=("norm",), learning_rate=1e-2, warmup_steps=0)
    whole = train_candidate(run)
    assert scale_candidate(run.out_dir, run.base, tmp_path / "same", 1.0).model_sha256 == whole.model_sha256
    scale_candidate(run.out_dir, run.base, tmp_path / "half", 0.5)
    base, trained, half = (
        load_file(folder / "model.safetensors") for folder in (run.base, run.out_dir / "model", tmp_path / "half" / "model")
    )
    norm = "model.norm.weight"
    assert not torch.equal(trained[norm], base[norm])
    torch.testing.assert_close(half[norm], (base[norm] + trained[norm]) / 2)
    assert scale_candidate(tmp_path / "half", run.base, tmp_path / "again", 1.0).model_sha256 == _model_of(tmp_path / "half")
    with pytest.raises(CheckpointError, match=r"also trained .*norm\.weight.* which a LoRA adapter cannot hold"):
        export_adapter(run.out_dir, tmp_path / "adapter", base=str(run.base))


def _model_of(checkpoint: Path) -> str:
    return read_manifest(checkpoint, CheckpointManifest).model_sha256
