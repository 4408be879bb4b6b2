"""How the shipped model is scored."""

from __future__ import annotations

from typing import Any

import pytest

from flows.demo.train_nano import exact_match


def test_exact_match_wants_the_whole_answer(loaded: tuple[Any, Any]) -> None:
    assert exact_match(*loaded, [("copy kmp", "kmp"), ("copy kmp", "km"), ("copy kmp", "kmpp")]) == pytest.approx(1 / 3)
