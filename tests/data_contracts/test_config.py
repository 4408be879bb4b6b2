"""The section `contract`: defaults that leave rows to train on, and values that cannot be meant are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from data_contracts.config import ContractConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"severity": {"secret": "fatal"}},
        {"max_bad_fraction": 1.1},
        {"max_dropped_fraction": float("nan")},
        {"heldout_fraction": 0.6},
        {"sealed_fraction": -0.1},
        {"min_rows": 0},
        {"max_depth": 3},
        {"max_line_bytes": 10},
        {"heldout_share": 0.1},
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ContractConfig(**wrong)


def test_the_defaults_are_strict_and_leave_most_rows_for_training() -> None:
    config = ContractConfig()
    assert config.max_bad_fraction == 0.0
    assert config.heldout_fraction + config.sealed_fraction <= 0.25
    assert config.heldout_min_rows <= config.heldout_max_rows
    assert config.sealed_min_rows <= config.sealed_max_rows
    with pytest.raises(ValidationError):
        config.min_rows = 5  # type: ignore[misc]
