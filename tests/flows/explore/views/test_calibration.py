"""Estimates are near what was measured, and the error shown is the error."""

from __future__ import annotations

import pytest

from flows.explore.views.calibration import calibrated, error_rows, load_measured
from flows.explore.views.cost import estimate
from flows.explore.views.model_shape import known_shapes, read_shape


def test_estimates_are_near_the_measured_table() -> None:
    shape = read_shape(known_shapes()["SmolLM2-135M"])
    facts, rows = load_measured()
    tokens = min(row.tokens for row in rows)
    speeds = calibrated(shape, rows, tokens)
    by_method = {row.method: row for row in rows if row.tokens == tokens}
    assert estimate(shape, "full", 1.0, tokens, speeds).trainable == by_method["full"].trainable
    for name, method in (("full", "full"), ("lora r=16", "lora")):
        cost = estimate(shape, method, 1.0, tokens, speeds)  # type: ignore[arg-type]
        assert cost.step_seconds == pytest.approx(by_method[name].cpu_seconds, rel=1e-6)
    predicted = estimate(shape, "activations", facts["ratio"], tokens, speeds)
    measured = by_method["osft activations"]
    assert predicted.trainable == measured.trainable
    assert predicted.memory_bytes == pytest.approx(measured.memory_bytes, rel=0.25)
    assert predicted.step_seconds == pytest.approx(measured.cpu_seconds, rel=0.5)
    shown = {row["method"]: row for row in error_rows(shape, rows, facts["ratio"]) if row["tokens"] == str(tokens)}
    assert f"{predicted.memory_bytes / measured.memory_bytes - 1:+.0%}" in shown["osft activations"]["memory over bare"]
    assert [name for name, row in shown.items() if row["used to calibrate"] == "yes"] == ["full", "lora r=16"]
