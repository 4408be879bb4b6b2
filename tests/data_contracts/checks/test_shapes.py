"""A drop of one shape says nothing; one that mixes them says how many rows of each, the commonest first."""

from __future__ import annotations

from data_contracts.checks.shapes import Shapes
from data_contracts.rows.findings import Batch, WholeDrop
from data_contracts.rows.records import Row, Shape

NO_ROWS = WholeDrop(bytearray(), (), lambda ordinal: {})


def _observed(*shapes: Shape) -> Shapes:
    check = Shapes()
    list(check.observe(Batch([Row(line, shape, {}) for line, shape in enumerate(shapes, 1)], 0)))
    return check


def test_one_shape_is_no_finding() -> None:
    check = _observed("chat", "chat")
    assert list(check.conclude(NO_ROWS)) == []
    assert check.summary() == {"shapes": {"chat": 2}}


def test_a_mix_is_about_the_drop_and_counts_each_shape() -> None:
    check = _observed("document", "chat", "chat", "completion", "chat", "document")
    [(ordinal, finding)] = check.conclude(NO_ROWS)
    assert (ordinal, finding.check, finding.line) == (-1, "mixed_shapes", 0)
    assert finding.reason == "mixes rows of different shapes: 3 chat, 2 document, 1 completion"
