"""What a page says about a round besides its verdict, as words and numbers for people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from data_contracts.manifests import CheckpointManifest, TrainingSummary
from evals.report.facts import Difference, Event, RoundCost, RoundFacts, number, passes_made, schedule_words, setting_differences


def trained(method: str = "osft", versions: dict[str, str] | None = None, **config: object) -> CheckpointManifest:
    settings = {"num_epochs": 5, "effective_batch_size": 32, "learning_rate": 3e-4, "lr_scheduler": "cosine", "unfreeze_rank_ratio": 0.25}
    return CheckpointManifest(method=method, model_sha256="0", config=settings | config, versions=versions or {})


@pytest.mark.parametrize(
    ("value", "words"),
    [(3e-4, "0.0003"), (3.5e-05, "0.000035"), (2.5e-3, "0.0025"), (0.0, "0"), (True, "yes"), (None, "–"), (12, "12"), ("cosine", "cosine"),
     (1 / 3, "0.333")],
)  # fmt: skip
def test_a_setting_is_written_for_people(value: object, words: str) -> None:
    assert number(value) == words


def test_the_schedule_in_words() -> None:
    assert schedule_words(trained()) == "5 passes of 32 examples, learning rate 0.0003 (cosine), osft, 25 % of the directions may move"
    assert schedule_words(trained("full", update_scale=0.5)).endswith("(cosine), full, offered at scale 0.5")


@pytest.mark.parametrize(("steps", "made"), [(900, 26.5), (2040, 60), (340, 10)])  # of 34 a pass; at most 60 passes were set
def test_passes_are_those_that_were_made_not_the_most_that_were_allowed(steps: int, made: float) -> None:
    summary = TrainingSummary(
        steps=steps, examples=268, loss_tokens=1, dropped_too_long=0, first_loss=6.6, final_loss=0.0, seconds=1.0, tokens_per_second=1.0,
        peak_memory_bytes=1, trainable_parameters=1,
    )  # fmt: skip
    early = trained(num_epochs=60, effective_batch_size=8).model_copy(update={"summary": summary})
    assert passes_made(early) == made
    assert schedule_words(early).startswith(f"{made:g} passes, {steps:,} steps of 8 examples")


def test_what_changed_since_the_last_round() -> None:
    before = trained(versions={"torch": "2.12"}, run_sha256="a", num_threads=1)
    now = trained("full", versions={"torch": "2.13"}, learning_rate=1e-4, run_sha256="b", num_threads=8)
    assert setting_differences(before, now) == (
        Difference("learning rate", "0.0003", "0.0001"),
        Difference("version of torch", "2.12", "2.13"),
    )
    assert setting_differences(before, before) == ()
    assert setting_differences(None, now) == ()


def test_a_second_attempt_is_named_as_one() -> None:
    cost = RoundCost(3, 2, "sql", 5, "PASS", "promoted", "gate", None, None, None, None, "")
    assert cost.label == "round 3, attempt 2 sql"


def test_the_last_decision_of_a_person_counts() -> None:
    when = datetime(2026, 11, 3, tzinfo=UTC)
    gate = Event(when, "promote", 2, "gate", "Pass")
    ana, ben = (Event(when, what, 2, who, "why", person=True) for what, who in (("approve", "ana"), ("rollback", "ben")))
    assert RoundFacts(events=(gate,)).decided is None
    assert RoundFacts(events=(gate, ana, ben)).decided is ben
