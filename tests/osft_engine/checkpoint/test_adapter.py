"""An update as a LoRA adapter: the same logits as the dense model, and a cut one says its error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from data_contracts.errors import CheckpointError
from osft_engine.checkpoint.adapter import add_updates, export_adapter, truncate_update
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


@pytest.mark.parametrize("ranks", [(3,), (3, 4), (9, 8), (3, None), (None, None)])
def test_updates_of_several_rounds_add_up_and_never_need_more_than_the_layer_has(ranks: tuple[int | None, ...]) -> None:
    """The sum against the dense sum; None is an update without thin factors."""
    generator = torch.Generator().manual_seed(1)

    def made(rank: int | None) -> LayerUpdate:
        left = torch.randn(14, rank or 12, generator=generator)
        return LayerUpdate(left, None if rank is None else torch.randn(12, rank, generator=generator))

    updates = [made(rank) for rank in ranks]
    B, A, missing = truncate_update(add_updates(updates), 1.0)
    torch.testing.assert_close(B @ A, torch.stack([each.dense() for each in updates]).sum(0), rtol=1e-4, atol=1e-4)
    assert missing == pytest.approx(0.0, abs=1e-6)
    assert B.shape[1] <= 12


def test_one_adapter_holds_two_rounds_in_a_row(make_run: MakeRun, tmp_path: Path) -> None:
    first = _trained(make_run, "activations")
    second = make_run(out="second", base=first.out_dir / "model", parent=first.out_dir, learning_rate=1e-2, warmup_steps=0)
    train_candidate(second)
    made = export_adapter([first.out_dir, second.out_dir], tmp_path / "adapter", base=str(first.base))
    dense = _logits(AutoModelForCausalLM.from_pretrained(second.out_dir / "model"))
    base = AutoModelForCausalLM.from_pretrained(first.base)
    plain = _logits(base)
    torch.testing.assert_close(_logits(PeftModel.from_pretrained(base, tmp_path / "adapter")), dense, rtol=1e-4, atol=1e-4)
    assert float((dense - plain).abs().max()) > 0.01
    assert made.relative_error < 1e-6


def test_a_checkpoint_without_an_update_says_which_method_made_it(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(method="full")
    train_candidate(run)
    with pytest.raises(CheckpointError, match="was made by method full and has no osft update"):
        export_adapter(run.out_dir, tmp_path / "adapter", base="base")
