"""Figures and table of costs."""

from __future__ import annotations

from flows.explore.views.calibration import calibrated, load_measured
from flows.explore.views.cost_views import COLOURS, QUANTITIES, cost_figure, cost_rows
from flows.explore.views.model_shape import known_shapes, read_shape


def test_figures_and_table() -> None:
    shape = read_shape(known_shapes()["SmolLM2-135M"])
    _, rows = load_measured()
    speeds = calibrated(shape, rows, rows[0].tokens)
    for quantity in QUANTITIES:
        assert len(cost_figure(shape, quantity, 0.25, 512, speeds).data) == len(COLOURS) + 2
    assert len(cost_rows(shape, 0.25, 512, speeds)) == 6
