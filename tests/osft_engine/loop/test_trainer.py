"""The loss is a mean over the tokens of the whole step: how the step is cut into passes changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from data_contracts.errors import ConfigError, TrainingError
from osft_engine.config import TrainConfig
from osft_engine.data.batches import epoch_steps, micro_batches
from osft_engine.data.examples import Example
from osft_engine.loop.optim import step_sizes
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


def _losses(run: TrainRun) -> list[float]:
    found: list[float] = []
    train_candidate(run, on_event=lambda event: found.append(event["loss"]) if event["event"] == "step" else None)
    return found


def test_cutting_a_step_into_more_passes_changes_nothing(make_run: MakeRun) -> None:
    common: dict[str, Any] = {"protect": "weights", "learning_rate": 1e-2, "num_epochs": 2}
    whole = _losses(make_run(out="whole", max_tokens_per_batch=2048, batch_layout="packed", **common))
    for name, settings in {"few": {"max_tokens_per_batch": 64}, "packed": {"max_tokens_per_batch": 100, "batch_layout": "packed"}}.items():
        assert _losses(make_run(out=name, max_seq_len=64, **settings, **common)) == pytest.approx(whole, rel=1e-4)


def test_every_example_comes_once_an_epoch_in_an_order_of_the_seed() -> None:
    first = epoch_steps(23, 5, seed=1, epoch=0)
    assert sorted(index for step in first for index in step) == list(range(23))
    assert [len(step) for step in first] == [5, 5, 5, 5, 3]
    assert first == epoch_steps(23, 5, seed=1, epoch=0)
    assert first != epoch_steps(23, 5, seed=1, epoch=1)
    assert first != epoch_steps(23, 5, seed=2, epoch=0)


def test_an_example_that_no_pass_can_hold_is_named() -> None:
    with pytest.raises(TrainingError, match=r"row:7: has 30 tokens, more than the 16 of one batch"):
        micro_batches([Example((1,) * 30, (False, *[True] * 29), "row:7")], max_tokens=16, layout="packed")


def test_step_sizes_warm_up_from_the_first_step_and_refuse_foreign_settings() -> None:
    sizes = step_sizes(TrainConfig(learning_rate=1.0, warmup_steps=4, lr_scheduler="linear"), 12)
    assert sizes(0) == pytest.approx(0.25)
    assert sizes(3) == pytest.approx(1.0)
    assert sizes(11) < sizes(5) < 1.0
    floor = step_sizes(
        TrainConfig(learning_rate=1.0, warmup_steps=0, lr_scheduler="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.3}), 10
    )
    assert min(floor(step) for step in range(10)) >= 0.3
    with pytest.raises(ConfigError, match="do not fit linear"):
        step_sizes(TrainConfig(lr_scheduler="linear", lr_scheduler_kwargs={"min_lr_rate": 0.3}), 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unfreeze_rank_ratio": 0.0}, "greater than 0"),
        ({"rank_policy": "energy", "protect": "weights"}, "needs protect to be activations"),
        ({"compact": True}, "compact does not apply here: set protect to weights"),
        ({"target_patterns": ["("]}, "is not a regular expression"),
        ({"rank_overrides": {"q_proj": 0.0}}, r"not in \(0, 1\]"),
        ({"keep_best": True}, "keep_best does not apply here: set validation_share above 0"),
        ({"checkpoint_at_epoch": True, "method": "lora"}, "merged once, at the end"),
        ({"learning_rates": 1.0}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_every_setting_has_a_description_and_a_default() -> None:
    assert all(field.description and not field.is_required() for field in TrainConfig.model_fields.values())
    assert torch.isfinite(torch.tensor(TrainConfig().peak_learning_rate))
