"""Examples as forward passes: every example once an epoch, and one loss whatever the layout."""

from __future__ import annotations

import pytest

from data_contracts.errors import TrainingError
from osft_engine.data.batches import epoch_steps, micro_batches
from osft_engine.data.examples import Example


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
