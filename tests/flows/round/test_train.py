"""What a round shows of a training that goes on elsewhere."""

from __future__ import annotations

from data_contracts.manifests import TrainingSummary
from flows.round.train import progress_of


def test_a_training_that_ends_early_is_shown_as_complete() -> None:
    """The bar said 3660 of 3660 steps and Prefect's artifact stayed at 15 %, where 550 steps were made."""
    summary = TrainingSummary(
        steps=550, examples=481, loss_tokens=1, dropped_too_long=0, first_loss=2.3, final_loss=0.25, seconds=1.0, tokens_per_second=143.0,
        peak_memory_bytes=1, trainable_parameters=1,
    )  # fmt: skip
    assert progress_of({"event": "end", **summary.model_dump(mode="json")}) == (550, 550, 0.25)
    assert progress_of({"event": "step", "step": 549, "steps": 3660, "loss": 0.5, "tokens_per_second": 143.0}) == (549, 3660, 0.5)
    assert progress_of({"event": "validation", "step": 550, "loss": 0.1, "best": False}) is None
