"""What leaves the engine beside the dense model: a LoRA adapter with the same logits, a cut one that says its error, a scaled candidate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data_contracts.errors import CheckpointError, ConfigError
from data_contracts.manifests import CheckpointManifest, read_manifest
from osft_engine.checkpoint.adapter import export_adapter, truncate_update
from osft_engine.rescale import scale_candidate
from osft_engine.run import TrainRun
from osft_engine.subspace.protection import LayerUpdate
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


def _logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(torch.arange(40).reshape(2, 20)).logits
    return result


def _trained(make_run: MakeRun, protect: str) -> TrainRun:
    run = make_run(protect=protect, learning_rate=1e-2, warmup_steps=0)
    train_candidate(run)
    return run


@pytest.mark.parametrize("protect", ["activations", "weights", "weights_block"])
def test_the_exact_adapter_gives_the_logits_of_the_dense_model(make_run: MakeRun, tmp_path: Path, protect: str) -> None:
    run = _trained(make_run, protect)
    made = export_adapter(run.out_dir, tmp_path / "adapter", base=str(run.base))
    dense = _logits(AutoModelForCausalLM.from_pretrained(run.out_dir / "model"))
    plain = _logits(AutoModelForCausalLM.from_pretrained(run.base))
    adapted = _logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(run.base), tmp_path / "adapter"))
    torch.testing.assert_close(adapted, dense, rtol=1e-4, atol=1e-4)
    assert float((dense - plain).abs().max()) > 0.01
    assert made.relative_error < 1e-6


def test_a_cut_adapter_is_smaller_and_reports_its_error() -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(30, 12, generator=generator) * torch.logspace(0, -2, 12)
    right = torch.linalg.qr(torch.randn(20, 12, generator=generator))[0]
    update = LayerUpdate(left, right)
    B, A, missing = truncate_update(update, 0.95)
    dW = update.dense().double()
    error = float((dW - (B @ A).double()).square().sum())
    assert B.shape[1] < 12
    assert error == pytest.approx(missing, rel=1e-3)
    assert error <= 0.05 * float(dW.square().sum())


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


def test_every_model_that_a_run_writes_keeps_the_template_it_learned(make_run: MakeRun, tmp_path: Path) -> None:
    template = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
    run = make_run(chat_template=template, checkpoint_at_epoch=True)
    train_candidate(run)
    scale_candidate(run.out_dir, run.base, tmp_path / "half", 0.5)
    for folder in (run.out_dir / "model", run.out_dir / "epochs" / "epoch-1", tmp_path / "half" / "model"):
        assert (folder / "chat_template.jinja").read_text() == template


def test_a_checkpoint_without_an_update_says_which_method_made_it(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(method="full")
    train_candidate(run)
    with pytest.raises(CheckpointError, match="was made by method full and has no osft update"):
        export_adapter(run.out_dir, tmp_path / "adapter", base="base")
