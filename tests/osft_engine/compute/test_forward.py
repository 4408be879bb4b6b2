"""Logits where the loss needs them are those of the complete pass, and reading a text leaves the model as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from osft_engine.compute.forward import head_sees_only, read_batches, run_model, summed_loss
from osft_engine.data.batches import micro_batches
from osft_engine.data.examples import Example

EXAMPLES = [
    Example((5, 6, 7, 8, 9), (False, False, True, True, False), "a"),
    Example((10, 11, 12), (False, True, True), "b"),
]


@pytest.fixture(scope="module")
def model(base_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base_folder).eval()


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_logits_and_loss_are_those_of_each_example_alone(model: Any, layout: Any) -> None:
    [batch] = micro_batches(EXAMPLES, max_tokens=64, layout=layout)
    logits, targets = [], []
    with torch.no_grad():
        for example in sorted(EXAMPLES, key=lambda each: -len(each.ids)):
            own = model(torch.tensor([example.ids])).logits[0]
            places = [at - 1 for at, learned in enumerate(example.learn) if learned]
            logits.append(own[places])
            targets += [example.ids[at + 1] for at in places]
        torch.testing.assert_close(run_model(model, batch), torch.cat(logits), rtol=1e-4, atol=1e-4)
        expected = torch.nn.functional.cross_entropy(torch.cat(logits), torch.tensor(targets), reduction="sum")
        torch.testing.assert_close(summed_loss(model, batch), expected, rtol=1e-4, atol=1e-4)
    assert batch.targets.tolist() == targets


def test_the_head_is_itself_again_afterwards(model: Any) -> None:
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = model(ids).logits
        with head_sees_only(model, torch.tensor([1])):
            assert model(ids).logits.shape[1] == 1
        with pytest.raises(KeyError), head_sees_only(model, torch.tensor([1])):
            raise KeyError
        torch.testing.assert_close(model(ids).logits, before)


def test_reading_runs_in_eval_mode_and_puts_everything_back(model: Any) -> None:
    seen: list[tuple[bool, int]] = []
    masks: list[torch.Tensor | None] = []
    target = model.model.layers[0].mlp
    hook = target.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, inputs[0].shape[1])))
    model.train()
    try:
        padded = micro_batches(EXAMPLES, max_tokens=64, layout="padded")
        assert read_batches(model, padded, [hook], masks.append) == 5 + 3
        assert model.training
    finally:
        model.eval()
    assert seen == [(False, 5)]
    assert [mask.tolist() if mask is not None else None for mask in masks] == [[True] * 5 + [True] * 3 + [False] * 2]
    model(torch.tensor([[5]]))
    assert len(seen) == 1, "the hook is removed"
