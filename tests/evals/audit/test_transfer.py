"""Average accuracy, backward transfer, forgetting and forward transfer against a matrix worked out by hand."""

from __future__ import annotations

import pytest

from evals.audit.forgetting import audit_forgetting


def test_transfer_equals_the_hand_computed_matrix(hand_made) -> None:
    transfer = audit_forgetting(hand_made).transfer
    assert transfer.average_accuracy.value == pytest.approx((0.85 + 0.70 + 0.90) / 3)
    assert transfer.average_accuracy_base.value == pytest.approx((0.20 + 0.30 + 0.40) / 3)
    assert transfer.bwt.value == pytest.approx(((0.85 - 0.90) + (0.70 - 0.80)) / 2)
    assert transfer.forgetting.value == pytest.approx(((0.95 - 0.85) + (0.80 - 0.70)) / 2)
    assert transfer.forward_transfer.value == pytest.approx(((0.35 - 0.30) + (0.42 - 0.40)) / 2)


def test_intervals_hold_their_values(hand_made) -> None:
    audit = audit_forgetting(hand_made)
    estimates = [audit.transfer.average_accuracy, audit.transfer.bwt, audit.transfer.forgetting, *(skill.change for skill in audit.skills)]
    assert all(each.low <= each.value <= each.high for each in estimates)
    assert audit.transfer.bwt.high < 0 < audit.transfer.forgetting.low


def test_one_round_has_no_backward_transfer(hand_made) -> None:
    transfer = audit_forgetting(hand_made[:2], base_skills=()).transfer
    assert transfer.bwt is None
    assert transfer.forgetting is None
    assert transfer.average_accuracy.value == pytest.approx(0.9)
