"""View 5: the free dimensions over the champion's rounds."""

from __future__ import annotations

import pytest

from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing
from flows.explore.views import capacity
from osft_engine.subspace.counts import trainable_count

LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj")


def test_capacity_over_the_champions_rounds(explored: SkillstackConfig) -> None:
    now = scene.look()
    assert not isinstance(now.records, Missing)
    view = capacity.view_capacity(now.records)
    assert len(view.rounds) == 2  # the blocked round is no part of the line
    newest = view.layers[-1]
    for ratio in (0.05, 0.25, 0.5):
        count, tightest = capacity.rounds_left(newest, ratio)
        assert count == min(layer.free // trainable_count(layer.shape[1], ratio) for layer in newest.values())
        assert tightest in newest
    shares = dict(zip(capacity.layer_names(view), capacity.free_shares(view)[-1], strict=True))
    assert shares == {LAYERS[0]: pytest.approx(60 / 160), LAYERS[1]: pytest.approx(60 / 416)}
    assert "1 more round at ratio 0.10 fit" in capacity.sentence(view, 0.1)
    assert len(capacity.trend_figure(view, 0.25).data) == 2
