"""The loss is a mean over the tokens of the whole step: how the step is cut into passes changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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
