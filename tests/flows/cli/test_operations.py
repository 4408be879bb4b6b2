"""Ranges of numbers on the command line."""

from __future__ import annotations

import pytest

from data_contracts.errors import ConfigError
from flows.cli.operations import parse_range


def test_ranges_include_both_ends() -> None:
    assert parse_range("--ratios", "0.10:0.40:0.05") == (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
    assert parse_range("--scales", "0.5,1") == (0.5, 1.0)
    assert parse_range("--scales", "1,1") == (1.0,)


@pytest.mark.parametrize(
    "text", ["0.4:0.1:0.1", "0.1:0.4:0", "0.1:0.4:-0.1", "0:0.4:0.1", "0.5,1.5", "a:b:c", "0.1:0.2", "", "nan", "0.1:0.9:1e-9"]
)
def test_what_is_no_range_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write 0\.10:0\.40:0\.05"):
        parse_range("--ratios", text)
