"""How many passes a training takes where nobody said so, and whether its loss had settled in the end."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from osft_engine import config
from osft_engine.config import TrainConfig
from osft_engine.train import train_candidate

STEPS, MOST = 500, 40  # as the setting's description says


@pytest.mark.parametrize(
    ("examples", "batch", "passes"), [(100, 8, 39), (500, 8, 8), (2000, 8, 2), (4000, 8, 1), (9000, 8, 1), (10, 8, 40), (1, 1, 40)]
)
def test_passes_follow_the_drop(monkeypatch: pytest.MonkeyPatch, examples: int, batch: int, passes: int) -> None:
    monkeypatch.setattr(config, "STEPS_TO_LEARN", STEPS)
    assert TrainConfig(effective_batch_size=batch).passes(examples) == passes
    assert passes == min(MOST, math.ceil(STEPS / math.ceil(examples / batch)))
    assert TrainConfig(effective_batch_size=batch, num_epochs=3).passes(examples) == 3
    described = TrainConfig.model_fields["num_epochs"].description
    assert described is not None
    assert f"make {STEPS} optimiser steps, at most {MOST}" in described


def test_the_manifest_says_how_many_passes_there_were(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "STEPS_TO_LEARN", 7)  # 24 examples in batches of 8: three steps per pass
    run = make_run()
    manifest = train_candidate(run)
    assert manifest.config["num_epochs"] == 3
    assert manifest.config["learning_rate"] == 1e-3
    assert manifest.summary is not None
    assert manifest.summary.steps == 9
    events = [json.loads(line) for line in (run.out_dir / "metrics.jsonl").read_text().splitlines()]
    assert [event["steps"] for event in events if event["event"] == "step"] == [9] * 9
    assert manifest.summary.settled in (True, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unfreeze_rank_ratio": 0.0}, "greater than 0"),
        ({"rank_policy": "energy", "protect": "weights"}, "needs protect to be activations"),
        ({"compact": True}, "compact does not apply here: set protect to weights"),
        ({"target_patterns": ["("]}, "is not a regular expression"),
        ({"rank_overrides": {"q_proj": 0.0}}, r"not in \(0, 1\]"),
        ({"keep_best": True}, "keep_best does not apply here: set validation_share above 0"),
        ({"checkpoint_at_epoch": True, "method": "lora"}, "merged once, at the end"),
        ({"learning_rates": 1.0}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_every_setting_has_a_description_and_a_default() -> None:
    assert all(field.description and not field.is_required() for field in TrainConfig.model_fields.values())
    assert torch.isfinite(torch.tensor(TrainConfig().peak_learning_rate))


@pytest.mark.parametrize(
    ("examples", "settings", "passes"),
    [
        (199, {}, 20),  # too few to hold 20 out: the passes of 500 steps
        (200, {}, 60),
        (500, {}, 53),  # 57 steps per pass
        (2000, {}, 14),  # 225 steps per pass
        (30000, {}, 1),
        (2000, {"num_epochs": 3}, 3),
        (2000, {"until_settled": False}, 2),
        (2000, {"method": "full"}, 2),
        (2000, {"validation_share": 0.2}, 2),
    ],
)
def test_a_drop_that_is_large_enough_is_watched_until_its_loss_has_settled(
    monkeypatch: pytest.MonkeyPatch, examples: int, settings: dict[str, Any], passes: int
) -> None:
    monkeypatch.setattr(config, "STEPS_TO_LEARN", STEPS)
    given = TrainConfig(**settings)
    ran = given.watched(examples)
    watched = not settings and examples >= 200
    assert ran.passes(examples) == passes
    assert ran == TrainConfig.model_validate(ran.model_dump())  # what ran is a config of its own
    share = min(0.1, config.MOST_WATCHED / examples)
    assert (ran.validation_share, ran.keep_best) == ((share, True) if watched else (given.validation_share, False))
    assert ran.early_stop_after == (STEPS if watched else 0)
    described = TrainConfig.model_fields["until_settled"].description or ""
    numbers = (
        config.FEWEST_WATCHED / config.WATCHED_SHARE,
        config.WATCH_EVERY,
        STEPS,
        STEPS * config.MOST_STEPS,
        config.MOST_PASSES_UNTIL_SETTLED,
    )
    assert all(f"{number:.0f}" in described for number in numbers)


@pytest.mark.parametrize(("examples", "watched"), [(2_000, 200), (5_000, 500), (200_000, 500)])
def test_at_most_five_hundred_rows_are_watched(examples: int, watched: int) -> None:
    """Every look reads all of them: a tenth of a large drop would take many times as long as the training between two looks."""
    ran = TrainConfig().watched(examples)
    assert round(ran.validation_share * examples) == watched
    steps = math.ceil((examples - watched) / 8)
    assert ran.passes(examples - watched) == math.ceil(config.MOST_STEPS * config.STEPS_TO_LEARN / steps)


def test_a_few_long_documents_leave_none_to_watch() -> None:
    assert TrainConfig().watched(300, 3) == TrainConfig()
    assert TrainConfig().watched(300, 5) == TrainConfig(), "a tenth of five rows is none"
    assert TrainConfig().watched(300, 30).validation_share == 0.1


def test_a_lower_rate_is_given_more_steps_before_it_counts_as_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the rate moves the weights a third as far between two looks."""
    monkeypatch.setattr(config, "STEPS_TO_LEARN", STEPS)
    at = {rate: TrainConfig(learning_rate=rate).watched(500) for rate in (1e-3, 2e-3, 5e-4, 1e-3 / 3, 1e-5)}
    assert [at[rate].early_stop_patience for rate in (1e-3, 2e-3, 5e-4, 1e-3 / 3)] == [4, 4, 8, 12]
    assert [at[rate].early_stop_after for rate in (1e-3, 2e-3, 5e-4, 1e-3 / 3)] == [STEPS, STEPS, 2 * STEPS, 3 * STEPS]
    assert at[1e-5].early_stop_after == 53 * 57  # never after the last step of the 53 passes
    assert TrainConfig().watched(500) == at[1e-3].model_copy(update={"learning_rate": None})


def test_what_is_practised_beside_a_drop_leaves_room_for_it() -> None:
    with pytest.raises(ValidationError, match="must leave a part of the training examples to the drop"):
        TrainConfig(replay_share=0.5, calibration_share=0.5)


def test_a_training_that_settles_stops_and_says_so(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a rate that only does harm the first look that counts is the best. A cut run that goes on stops at the same step, equal."""
    monkeypatch.setattr(config, "STEPS_TO_LEARN", 5)
    monkeypatch.setattr(config, "FEWEST_WATCHED", 2)
    monkeypatch.setattr(config, "WATCH_EVERY", 1)
    harm = {"learning_rate": 0.3, "lr_scheduler": "constant", "warmup_steps": 0, "save_every_steps": 2, "save_every_seconds": 1e6}
    whole, cut = make_run("whole", **harm), make_run("cut", **harm)
    manifest = train_candidate(whole)
    assert manifest.summary is not None
    assert (manifest.summary.settled, manifest.config["early_stop_patience"]) == (True, config.PATIENCE)
    assert manifest.summary.steps < config.MOST_STEPS * 5

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "validation" and event["step"] == manifest.summary.steps - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(cut, on_event=stop)
    again = train_candidate(cut)
    assert again.summary is not None
    assert (again.summary.steps, again.model_sha256) == (manifest.summary.steps, manifest.model_sha256)
