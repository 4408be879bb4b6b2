"""View 5: the free dimensions over the champion's rounds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evals.report.render import render_lineage
from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing
from flows.explore.reading import open_for_reading
from flows.explore.views import capacity, matrix
from flows.review.metrics import lineage_registry
from osft_engine.subspace.counts import trainable_count

LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj")


def test_capacity_over_the_champions_rounds(explored: SkillstackConfig) -> None:
    now = scene.look()
    assert not isinstance(now.records, Missing)
    view = capacity.view_capacity(now.records)
    assert len(view.rounds) == 2  # the blocked round is no part of the line
    newest = view.layers[-1]
    for ratio in (0.05, 0.25, 0.5):
        fits = {name: layer.free // trainable_count(layer.shape[1], ratio) for name, layer in newest.items()}
        said = re.search(r"average; (\d+) more rounds? at ratio .* fit, limited by (\S+)\.", capacity.sentence(view, ratio))
        assert said is not None
        assert (int(said[1]), fits[said[2]]) == (min(fits.values()), min(fits.values()))
    shares = dict(zip(capacity.layer_names(view), capacity.shares_by_round(view)[-1], strict=True))
    assert shares == {LAYERS[0]: pytest.approx(60 / 160), LAYERS[1]: pytest.approx(60 / 416)}
    assert "1 more round at ratio 0.10 fit" in capacity.sentence(view, 0.1)
    assert len(capacity.trend_figure(view, 0.25).data) == 2
    assert {row["leak"] for row in capacity.capacity_rows(view)} == {"less than 0.0001"}, "the lineage's leak of 1e-7, for people"


def test_report_explorer_and_metrics_say_the_same_free_share(explored: SkillstackConfig, tmp_path: Path) -> None:
    """Under `protect: activations` a layer has as many directions as inputs: 160 and 416 here, 60 of each free."""
    expected = (60 / 160 + 60 / 416) / 2
    now = scene.look()
    assert not isinstance(now.records, Missing)
    view = capacity.view_capacity(now.records)
    assert f"{expected:.1%} free on average" in capacity.sentence(view, 0.1)
    [trend, _] = capacity.trend_figure(view, 0.25).data
    assert trend.y[-1] == pytest.approx(expected)

    audit = matrix.view_lineage(now.records).audit
    assert audit.rounds[2].free_share == pytest.approx(expected)
    text = render_lineage(audit, tmp_path / "audit.html").read_text(encoding="utf-8")
    row = text[text.index(audit.rounds[2].label, text.index("Capacity left")) :]
    shown = dict(reversed(re.findall(r'data-label="(free|could move|rounds left)">([^<]+)<', row)))
    assert shown == {"free": f"{100 * expected:.1f} %", "could move": "25.0 %", "rounds left": "0"}, "a quarter of the inputs of both"

    registry = lineage_registry(open_for_reading(explored), "tiny")
    for layers, value in (("mean", expected), ("least", 60 / 416)):
        assert registry.get_sample_value("skillstack_capacity_free_ratio", {"model": "tiny", "layers": layers}) == pytest.approx(value)
