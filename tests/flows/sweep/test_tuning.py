"""The tuning split is drawn by content: the same rows whatever stands beside them."""

from __future__ import annotations

import pytest

from flows.sweep.tuning import _drawn

LINES = [f'{{"prompt": "question {number}", "answer": "{number}"}}' for number in range(4000)]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_share_is_met(share: float) -> None:
    drawn = sum(_drawn(line, share) for line in LINES) / len(LINES)
    assert drawn == pytest.approx(share, abs=4 * (share * (1 - share) / len(LINES)) ** 0.5)


def test_a_larger_share_keeps_the_rows_of_a_smaller_one() -> None:
    small, large = ({line for line in LINES if _drawn(line, share)} for share in (0.1, 0.3))
    assert small < large


def test_nothing_and_everything() -> None:
    assert not any(_drawn(line, 0.0) for line in LINES)
    assert all(_drawn(line, 1.0) for line in LINES)
