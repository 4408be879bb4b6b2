"""The shipped model nano: it loads as any Hugging Face folder does, is as small as promised, and can do what it is said to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.base_models.resolve import NANO
from flows.demo.skills import BASE_SKILLS, NEW_SKILLS
from flows.demo.train_nano import CLAIMED, score_skills


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((NANO / "nano.json").read_text(encoding="utf-8"))
    return content


def test_it_is_a_llama_of_about_a_million_parameters_in_five_megabytes(loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    assert model.config.model_type == "llama"
    assert 0.5e6 < sum(weight.numel() for weight in model.parameters()) < 2e6
    assert (NANO / "model.safetensors").stat().st_size <= 5_000_000


@pytest.mark.parametrize("name", BASE_SKILLS)
def test_it_has_the_skills_that_its_card_claims(loaded: tuple[Any, Any], card: dict[str, Any], name: str) -> None:
    assert card["heldout_exact_match"][name] >= CLAIMED
    measured = score_skills(*loaded, [BASE_SKILLS[name]], items=60, seed=99)  # other items than the card's
    assert measured[name] >= CLAIMED - 0.05


def test_it_cannot_do_yet_what_the_drops_will_teach(loaded: tuple[Any, Any]) -> None:
    scores = score_skills(*loaded, NEW_SKILLS.values(), items=40)
    assert all(score <= 0.6 for score in scores.values()), scores


def test_nothing_but_safetensors_and_text_is_shipped() -> None:
    assert {path.suffix for path in Path(NANO).iterdir()} <= {".safetensors", ".json", ".jinja", ".md"}
