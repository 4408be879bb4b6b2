"""Plots as SVG: text is escaped, and any numbers can be drawn."""

from __future__ import annotations

from data_contracts.report.charts import Bar, bar_chart, histogram


def test_plots_escape_what_they_are_given_and_take_any_numbers() -> None:
    assert "<b>" not in bar_chart([Bar("<b>", 0), Bar("x" * 99, 10**9)], "rows")
    assert "limit 512" in histogram([(1.0, 1.1, 5), (800.0, 900.0, 1)], "tokens", 512)
    assert histogram([(1.0, 1.1, 1)], "words", None).startswith("<svg")
