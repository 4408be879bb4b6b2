"""The schedules of transformers as pure functions of the step, and their settings refused before a run rather than in it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from data_contracts.errors import ConfigError
from osft_engine.compute.distributed import World
from osft_engine.config import TrainConfig
from osft_engine.loop.optim import NamedOptimizer, step_sizes
from osft_engine.scheduler_settings import Scheduler

NAMES = get_args(Scheduler)
NEEDED = {"cosine_with_min_lr": {"min_lr_rate": 0.1}, "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1}} | {
    "warmup_stable_decay": {"num_decay_steps": 4}
}


def _sizes(name: str, steps: int, warmup: int = 0, rate: float = 2.0, **settings: Any) -> list[float]:
    config = TrainConfig(learning_rate=rate, warmup_steps=warmup, lr_scheduler=name, lr_scheduler_kwargs=settings)  # type: ignore[arg-type]
    size = step_sizes(config, steps)
    return [size(step) for step in range(steps)]


@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_warms_up_from_the_first_step_and_never_passes_the_peak(name: str) -> None:
    sizes = _sizes(name, 12, warmup=0 if name == "constant" else 4, **NEEDED.get(name, {}))
    assert max(sizes) == pytest.approx(2.0)
    assert min(sizes) >= 0.0
    if name != "constant":
        assert sizes[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize("name", ["cosine_with_min_lr", "cosine_warmup_with_min_lr"])
def test_a_smallest_step_size_is_a_step_size(name: str) -> None:
    sizes = _sizes(name, 1000, rate=1e-3, min_lr=1e-4)
    assert min(sizes) == pytest.approx(1e-4, rel=1e-3)
    assert sizes == pytest.approx(_sizes(name, 1000, rate=1e-3, min_lr_rate="0.1"))  # Training Hub's settings are text


def test_the_last_steps_of_a_stable_schedule_decay_as_asked() -> None:
    assert _sizes("warmup_stable_decay", 8, num_decay_steps=4.0, decay_type="linear") == pytest.approx([2.0] * 5 + [1.5, 1.0, 0.5])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("linear", {"min_lr_rate": 0.3}, r"do not fit linear: it has no setting 'min_lr_rate' \(it takes none\)"),
        ("constant", {"anything": 1}, r"do not fit constant: it has no setting 'anything' \(it takes none\)"),
        ("cosine_with_min_lr", {"min_lr_ratio": 0.1}, r"it has no setting 'min_lr_ratio' \(did you mean min_lr_rate\?\)"),
        ("cosine", {"num_warmup_steps": 3}, r"it has no setting 'num_warmup_steps'"),
        ("cosine", {"num_cycles": "many"}, r"do not fit cosine"),
        ("cosine_with_min_lr", {}, r"One of min_lr or min_lr_rate should be set"),
        ("polynomial", {"lr_end": 3.0}, r"lr_end \(3\) must be smaller than initial lr \(2.0\)"),
        ("polynomial", {"lr_end": -3.0}, r"they make the size of step \d+ -"),
        ("warmup_stable_decay", {}, r"num_decay_steps"),
        ("warmup_stable_decay", {"num_decay_steps": 4, "decay_type": "steep"}, r"Unknown decay type: steep"),
        ("warmup_stable_decay", {"num_decay_steps": 40}, r"num_decay_steps is 40 and the run has 12 steps after its warm-up"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_first_step(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^lr_scheduler_kwargs: .*{message}"):
        _sizes(name, 12, **settings)


@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "greedy"])
def test_schedules_that_follow_a_metric_are_refused_as_such(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} follows a metric while it trains"):
        _sizes(name, 12)
    with pytest.raises(ValidationError, match="'nan' is not a finite number"):
        _sizes("polynomial", 12, power="nan")


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


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_parameters_in_bfloat16_lose_no_small_steps(optimizer: str) -> None:
    """Against the same steps in float32, rounded once at the end; one step is far below a unit in the last place of 1.0."""
    config = TrainConfig(optimizer=optimizer, learning_rate=1e-3, weight_decay=0.0)
    exact, rounded = (nn.Parameter(torch.ones(4, 4, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16))
    optimizers = [NamedOptimizer({"w": parameter}, config) for parameter in (exact, rounded)]
    gradient = torch.linspace(0.5, 2.0, 16).reshape(4, 4).bfloat16()
    for step in range(60):
        for parameter, moved in zip((exact, rounded), optimizers, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
            moved.clip(10.0, World())
            moved.step(1e-3)
        if step == 29:  # a new process
            state = {name: value.clone() for name, value in optimizers[1].state().items()}
            optimizers[1] = NamedOptimizer({"w": rounded}, config)
            optimizers[1].restore(state)
    assert torch.equal(rounded, exact.bfloat16())
    assert (rounded < 1.0).any()
