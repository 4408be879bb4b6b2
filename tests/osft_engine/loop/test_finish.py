"""What a finished run says of itself."""

from __future__ import annotations

import pytest
import torch

from data_contracts.errors import TrainingError
from data_contracts.manifests import LayerCapacity
from osft_engine.data.examples import ExampleSet
from osft_engine.loop.finish import Outcome, has_settled, summarise
from osft_engine.loop.probe import ChosenLayout
from osft_engine.loop.resume import Progress


@pytest.mark.parametrize(
    ("losses", "settled"),
    [
        ([8.0 * 0.99**step for step in range(100)], False),
        ([max(2.0, 8.0 - 0.2 * step) for step in range(100)], True),
        ([8.0 * 0.8**step for step in range(100)], True),  # next to nothing is left, however steep the curve
        ([3.0] * 7, None),
    ],
)
def test_settled_is_read_from_the_last_half_of_the_curve(losses: list[float], settled: bool | None) -> None:
    assert has_settled(losses) is settled


def test_the_summary_is_that_of_the_steps_that_were_made() -> None:
    progress = Progress(step=20, losses=[2.0] * 18 + [1.0, 0.5], loss_tokens=400, tokens=1000, seconds=4.0)
    layers = {name: LayerCapacity(shape=(4, 4), protected=3, trainable=1, free=1, leak=leak) for name, leak in (("a", 1e-8), ("b", 3e-7))}
    examples = ExampleSet((), dropped_too_long=2, dropped_without_loss=1)
    made = summarise(progress, examples, Outcome(layers, 12), ChosenLayout("packed", "probed"), torch.device("cpu"))
    assert (made.steps, made.loss_tokens, made.tokens_per_second) == (20, 400, 250.0)
    assert (made.first_loss, made.final_loss) == (2.0, 0.75), "the mean of the last tenth"
    assert (made.max_leak, made.trainable_parameters, made.batch_layout) == (3e-7, 12, "packed")
    assert (made.dropped_too_long, made.dropped_without_loss) == (2, 1)
    assert summarise(progress, examples, Outcome({}, 12), ChosenLayout("packed", ""), torch.device("cpu")).max_leak is None


def test_a_run_without_a_step_has_no_summary() -> None:
    with pytest.raises(TrainingError, match="took no step"):
        summarise(Progress(), ExampleSet((), 0, 0), Outcome({}, 0), ChosenLayout("packed", ""), torch.device("cpu"))
