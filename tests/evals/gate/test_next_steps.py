"""Every verdict that does not promote ends with what to try next, from the evidence at hand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from data_contracts.manifests import Decision
from evals.gate.decide import GateEvidence, decide
from evals.gate.next_steps import Situation, next_steps
from osft_engine.config import TrainConfig

SITUATION = Situation(version=5, drop="tickets.jsonl", calibrated=True, epochs=3, learning_rate=2.5e-3, steps=41, last_loss=3.3)
DECIDE = re.compile(r'skillstack approve 5( --override)? --reviewer NAME --reason "..." or skillstack reject 5')


def test_a_pass_needs_nothing(evidence, asked) -> None:
    assert next_steps(decide(evidence(), asked()), SITUATION) == ()


@pytest.mark.parametrize(
    ("changes", "policy", "words"),
    [
        ({"gain": 0}, {}, "Train longer: train.num_epochs 30 (now 3, 41 steps, last loss 3.30)"),
        ({"gain": 60}, {}, "Train longer: train.num_epochs 9"),
        ({"gain": 3}, {}, "Train longer: train.num_epochs 9"),
        ({"gain": 26}, {"min_learned": 0.0}, "held-out items: raise contract.heldout_fraction"),
        ({"old": (60, 0)}, {}, "skillstack round tickets.jsonl --skill new --scale 0.75"),
        ({"old": (60, 0)}, {}, "train.learning_rate 0.00083 (now 0.0025)"),
        ({"old": (60, 60), "older": (60, 60)}, {}, "items (`skillstack items FILE --skill NAME` adds them), or widen the margin"),
        ({}, {"accept_unmeasured": ()}, "gate: {accept_unmeasured: [safety]}"),
    ],
)
def test_the_hint_fits_the_evidence(evidence, changes: dict, policy: dict, words: str, asked) -> None:
    verdict = decide(evidence(**changes), asked(**policy))
    steps = next_steps(verdict, SITUATION)
    assert any(words in step for step in steps), steps
    decision = DECIDE.search(steps[-1])
    assert decision
    assert bool(decision.group(1)) is (verdict.decision is Decision.BLOCK)


def test_a_loss_that_had_settled_asks_for_other_rows_and_one_that_still_fell_for_more_passes(evidence, asked) -> None:
    verdict = decide(evidence(gain=0), asked())
    settled, falling = (next_steps(verdict, replace(SITUATION, settled=known))[0] for known in (True, False))
    assert settled.startswith("The loss had settled (now 3, 41 steps, last loss 3.30), so more passes over the same rows teach little")
    assert falling.startswith("Train longer: train.num_epochs 30 (now 3, 41 steps, last loss 3.30). The loss was still falling")


def test_a_gain_that_no_number_of_items_makes_useful_asks_for_training_and_not_for_items(evidence, asked) -> None:
    """1.3 points, as a real drop left after 520 steps, are proven by some thousand items and remain 1.3 points."""
    verdict = decide(evidence(gain=5), asked())
    situation = replace(SITUATION, settled=False, examples=408)
    assert verdict.decision is Decision.INCONCLUSIVE
    steps = next_steps(verdict, situation)
    assert steps[0].startswith("Train until the loss has settled: leave train.num_epochs out (now 3, 41 steps, last loss 3.30)")
    assert "items" not in " ".join(steps)
    few, watched = (next_steps(verdict, replace(situation, **change))[0] for change in ({"examples": 150}, {"watched": True}))
    assert few.startswith("Train longer: train.num_epochs 9")
    assert watched.startswith("Train longer: train.num_epochs 9")


def test_a_measured_loss_of_half_a_margin_is_lowered_before_items_are_asked_for(evidence, asked) -> None:
    verdict = decide(evidence(old=(44, 38), older=(44, 38)), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    held = next(check for check in verdict.checks if check.outcome == "inconclusive")
    assert held.margin is not None
    assert held.margin / 2 <= -(held.effect or 0.0) < held.margin
    steps = next_steps(verdict, SITUATION)
    places = [next(place for place, step in enumerate(steps) if words in step) for words in ("lower rate", "--scale", "Give each of the")]
    assert places == sorted(places)
    assert "train.learning_rate 0.00083 (now 0.0025) and train.num_epochs 9 (now 3)" in steps[places[0]]
    assert "num_epochs" not in next_steps(verdict, replace(SITUATION, watched=True))[places[0]]


def test_a_loss_of_the_base_asks_for_more_of_the_calibration_text_first(evidence, asked) -> None:
    verdict = decide(evidence(piqa=(60, 0)), asked())
    measured = replace(SITUATION, moment_tokens=4096, first_round=True)
    step = next_steps(verdict, measured)[0]
    assert step.startswith("Protect more of what the base knew: train.moment_tokens 20000 (now 4096)")
    assert "new state_dir" not in step
    assert "new state_dir" in next_steps(verdict, replace(measured, first_round=False))[0]
    for other in (SITUATION, replace(measured, moment_tokens=20000), replace(measured, calibrated=False)):
        assert not any("moment_tokens" in step for step in next_steps(verdict, other))
    of_a_skill = decide(evidence(old=(60, 0)), asked())
    assert "old" in of_a_skill.lost
    assert not any("moment_tokens" in step for step in next_steps(of_a_skill, replace(measured, skills=frozenset({"old"}))))


def test_a_loss_of_general_text_asks_for_text_of_its_kind(evidence, asked) -> None:
    verdict, measured = decide(evidence(drift=1.02), asked()), replace(SITUATION, first_round=True)
    step = next_steps(verdict, measured)[0]
    assert step.startswith("Add text of the kind of text to `calibration`, but none of the suite's own")
    assert "new state_dir" not in step
    assert "new state_dir" in next_steps(verdict, SITUATION)[0]
    of_a_suite, uncalibrated = decide(evidence(piqa=(60, 0)), asked()), replace(SITUATION, calibrated=False)
    for steps in (next_steps(of_a_suite, SITUATION), next_steps(verdict, uncalibrated)):
        assert not any("text of the kind" in step for step in steps), steps


def test_a_loss_of_the_base_asks_to_count_general_text_before_a_lower_rate(evidence, asked) -> None:
    verdict, at_zero = decide(evidence(piqa=(60, 0)), asked()), replace(SITUATION, keep_general=0.0)
    steps = next_steps(verdict, at_zero)
    places = [next(place for place, step in enumerate(steps) if words in step) for words in ("train.keep_general 10 (now 0)", "lower rate")]
    assert places == sorted(places)
    for other in (SITUATION, replace(SITUATION, keep_general=10.0)):
        assert not any("keep_general" in step for step in next_steps(verdict, other))
    of_a_skill = decide(evidence(old=(60, 0)), asked())
    assert not any("keep_general" in step for step in next_steps(of_a_skill, replace(at_zero, skills=frozenset({"old"}))))


@pytest.mark.parametrize("gain", [0, 3])
def test_what_keeps_more_by_learning_less_is_not_named_where_too_little_was_learned(evidence, asked, gain: int) -> None:
    """On nano a third of the rate kept general text, and took the new skill from 45.8 to 18.3 of the 50 that were asked for."""
    lost = {"old": (60, 0), "piqa": (60, 0)}
    situation = replace(SITUATION, watched=True, settled=True)
    steps = next_steps(decide(evidence(**lost, gain=gain), asked()), situation)
    assert not any("lower rate" in step or "--scale" in step for step in steps), steps
    assert any("train.learning_rate" in step for step in next_steps(decide(evidence(**lost), asked()), situation))


def test_no_items_are_asked_for_where_a_loss_is_proven(evidence, asked) -> None:
    verdict = decide(evidence(piqa=(60, 0), old=(60, 60), older=(60, 60)), asked())
    assert verdict.decision is Decision.BLOCK
    assert any(check.outcome == "inconclusive" and check.items_needed for check in verdict.checks), "more items would decide one of them"
    assert not any("Give" in step for step in next_steps(verdict, SITUATION))


def test_a_loss_of_an_earlier_skill_asks_for_its_rows_first_where_the_lineage_keeps_some(evidence, asked) -> None:
    verdict = decide(evidence(old=(60, 0)), asked())
    kept = replace(SITUATION, replay_share=0.0, skills=frozenset({"old", "older"}))
    step = next_steps(verdict, kept)[0]
    assert step.startswith("Practise the earlier skills beside the new one: train.replay_share 0.25 (now 0)")
    for other in (SITUATION, replace(kept, replay_share=0.25)):
        assert not any("replay_share" in step for step in next_steps(verdict, other))
    of_the_base = decide(evidence(piqa=(60, 0)), asked())
    assert not any("replay_share" in step for step in next_steps(of_the_base, kept))


def test_without_calibration_that_is_the_first_hint_on_a_loss(evidence, asked) -> None:
    verdict = decide(evidence(piqa=(60, 0)), asked())
    assert "calibration" in next_steps(verdict, replace(SITUATION, calibrated=False))[0]
    assert not any("calibration" in step for step in next_steps(verdict, SITUATION))


def test_a_command_names_the_drop_as_the_shell_reads_it(evidence, asked) -> None:
    steps = next_steps(decide(evidence(old=(60, 0)), asked()), replace(SITUATION, drop="my drops/may.jsonl"))
    assert any("skillstack round 'my drops/may.jsonl' --skill new --scale 0.75" in step for step in steps)


def test_no_scale_where_the_training_kept_no_update(evidence, asked) -> None:
    """`round --scale` needs the update that osft keeps; a round by full or lora ends that command with an error."""
    verdict = decide(evidence(old=(60, 0)), asked())
    offered, not_offered = (next_steps(verdict, replace(SITUATION, scalable=scalable)) for scalable in (True, False))
    assert [step for step in offered if "--scale" not in step] == list(not_offered)
    assert len(offered) == len(not_offered) + 1


def test_no_scale_where_nothing_was_gained(evidence, asked) -> None:
    assert not any("--scale" in step for step in next_steps(decide(evidence(old=(60, 0), gain=0), asked()), SITUATION))


def test_what_may_be_measured_wrongly_is_not_trained_again(evidence, asked) -> None:
    made = evidence(gain=0)
    items = made.candidate.suites["new"]
    doubted = replace(items, result=items.result.model_copy(update={"doubt": "training rows are reproduced"}))
    made = replace(made, candidate=replace(made.candidate, suites={**made.candidate.suites, "new": doubted}))
    steps = next_steps(decide(made, asked()), SITUATION)
    assert steps[0].startswith("Do not train again yet: look at the answers to new")
    assert not any("Train longer" in step for step in steps)


def test_more_items_are_asked_for_only_where_they_would_help(evidence, asked) -> None:
    """A measured loss of the margin itself: no number of items rules it out, a smaller change may."""
    verdict = decide(evidence(old=(48, 40), older=(48, 40)), asked())
    steps = " ".join(next_steps(verdict, SITUATION))
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "items" not in steps.replace("skillstack", "")
    assert "Train with a lower rate" in steps


def test_a_category_that_cannot_show_anything_asks_for_another_suite(make_suite, make_evaluation, asked) -> None:
    guess = make_suite("coin", [1.0, 0.0] * 200, gold=["yes", "no"] * 200, prediction=["yes"] * 400, category="general")
    model = make_evaluation("champion", guess)
    verdict = decide(GateEvidence(model, model, {"coin": model}, None, bootstrap=True), asked())
    assert any("on which this model is better than guessing" in step for step in next_steps(verdict, SITUATION))


def test_an_error_says_to_correct_and_run_again(evidence, asked) -> None:
    assert next_steps(decide(replace(evidence(), anchors={}), asked()), SITUATION) == (
        "Correct what is named above and run the same command again: what is finished is not done again.",
    )


def test_a_small_suite_through_its_floor_asks_for_items(make_suite, make_evaluation, asked) -> None:
    champion = make_evaluation("champion", make_suite("tiny", np.ones(12)), make_suite("real", np.r_[np.ones(300), np.zeros(100)]))
    lost = np.ones(12)
    lost[0] = 0
    candidate = make_evaluation("candidate", make_suite("tiny", lost), make_suite("real", np.r_[np.ones(300), np.zeros(100)]))
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("tiny", "real"), champion), None), asked())
    assert any("Give tiny at least 30 items" in step for step in next_steps(verdict, SITUATION))


@pytest.mark.parametrize(
    "changes", [{"gain": 0}, {"gain": 3}, {"gain": 60}, {"old": (60, 0)}, {"piqa": (60, 0)}, {"old": (44, 38), "older": (44, 38)}]
)
@pytest.mark.parametrize("watched", [False, True])
def test_every_setting_that_is_named_with_a_value_is_one_that_training_takes(evidence, asked, changes: dict, watched: bool) -> None:
    """What a reader copies from a hint into skillstack.yaml: the name exists, the value is legal, and it is not what was set already."""
    was = {"learning_rate": 1e-3, "num_epochs": 3, "moment_tokens": 4096, "replay_share": 0.0, "keep_general": 0.0}
    facts = {"learning_rate": 1e-3, "epochs": 3, "moment_tokens": 4096, "replay_share": 0.0, "keep_general": 0.0}
    situation = replace(SITUATION, **facts, watched=watched, first_round=True, skills=frozenset({"old", "older", "new"}))
    steps = next_steps(decide(evidence(**changes), asked()), situation)
    named = re.findall(r"train\.(\w+) (-?[\d.,]+\d|\d)", " ".join(steps))
    assert named or not any("train." in step for step in steps)
    for name, value in named:
        taken = TrainConfig.model_validate({name: yaml.safe_load(value)})
        assert getattr(taken, name) != was[name], steps


def test_items_are_asked_of_the_suites_that_the_check_reads(evidence, asked) -> None:
    """Spare items of a general suite do not help a mean of skills, and those of a suite with a margin of its own help only that suite."""
    categories = {"old": "skill", "older": "skill", "new": "skill", "piqa": "general", "text": "drift"}
    known = replace(SITUATION, categories=categories, skills=frozenset({"old", "older", "new"}))
    of_skills = decide(evidence(old=(60, 60), older=(60, 60)), asked())
    for spare, words in (
        ({"piqa": 300, "text": 40, "new": 9}, "items (`skillstack items FILE --skill NAME` adds them)"),
        ({"piqa": 300, "older": 80}, "items (there are more in older: raise their `items`)"),
    ):
        assert any(words in step for step in next_steps(of_skills, replace(known, spare=spare))), spare
    alone = decide(evidence(piqa=(60, 60), margins={"piqa": 0.02}), asked())
    for spare, words in (({"old": 80}, "items, or widen"), ({"piqa": 300}, "items (there are more in piqa: raise its `items`)")):
        steps = next_steps(alone, replace(known, spare=spare))
        assert any(step.startswith("Give piqa about") and words in step for step in steps), steps


@pytest.mark.parametrize("margin", [None, 0.05])
def test_a_suite_that_only_lacks_items_is_not_called_one_of_guessing(make_suite, make_evaluation, asked, margin: float | None) -> None:
    old = make_suite("old", np.r_[np.ones(300), np.zeros(100)])
    model = make_evaluation("m", old, make_suite("safe", np.ones(12), category="safety", margin=margin))
    verdict = decide(GateEvidence(model, model, {"old": model, "safe": model}, None), asked(accept_unmeasured=("general", "drift")))
    assert verdict.decision is Decision.INCONCLUSIVE
    known = replace(SITUATION, categories={"old": "skill", "safe": "safety"}, skills=frozenset({"old"}))
    for situation in (SITUATION, known):
        steps = next_steps(verdict, situation)
        assert steps[0] == "Give safe at least 30 items.", steps
        assert not any("guessing" in step for step in steps)


def test_nobody_is_told_to_name_other_earlier_skills(make_suite, make_evaluation, asked) -> None:
    """Skills are what rounds have taught: a config cannot name others."""
    coin = make_suite("coin", [1.0, 0.0] * 200, gold=["yes", "no"] * 200, prediction=["yes"] * 400)
    model = make_evaluation("m", coin)
    verdict = decide(GateEvidence(model, model, {"coin": model}, None), asked())
    steps = next_steps(verdict, replace(SITUATION, categories={"coin": "skill"}, skills=frozenset({"coin"})))
    assert "no better than guessing on the earlier skills" in steps[0]
    assert not any(step.startswith("Name") for step in steps)


def test_too_few_texts_ask_for_texts_and_not_for_another_training(make_suite, make_evaluation, asked) -> None:
    """Twelve texts, a rise of 0.02 % where 1 % is allowed: no rate changes that there are twelve."""
    old, texts = make_suite("old", np.r_[np.ones(300), np.zeros(100)]), np.linspace(0.8, 1.2, 12)
    champion, candidate = (
        make_evaluation(f"m{scale}", old, make_suite("prose", texts * scale, category="drift")) for scale in (1.0, 1.0002)
    )
    policy = asked(accept_unmeasured=("general", "safety"))
    steps = next_steps(decide(GateEvidence(candidate, champion, {"old": champion}, None), policy), SITUATION)
    assert steps[0] == "Give prose at least 30 items."
    assert not any("learning_rate" in step for step in steps)


def test_a_small_suite_of_a_skill_keeps_its_items(make_suite, make_evaluation, asked) -> None:
    """`skillstack items` adds a suite beside it: the suite that is held would be held again."""
    right = np.r_[np.ones(300), np.zeros(100)]
    champion = make_evaluation("champion", make_suite("tiny", np.ones(12)), make_suite("real", right))
    candidate = make_evaluation("candidate", make_suite("tiny", np.r_[0.0, np.ones(11)]), make_suite("real", right))
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("tiny", "real"), champion), None), asked())
    steps = next_steps(verdict, replace(SITUATION, categories={"tiny": "skill", "real": "skill"}, skills=frozenset({"tiny", "real"})))
    assert any("tiny keeps its 12 items" in step and "gate.floors" in step for step in steps), steps
    assert not any("Give tiny" in step for step in steps)


def test_a_command_names_the_held_out_items_of_the_round(evidence, asked) -> None:
    """Without them the same drop is carved: other rows are trained and other items judged."""
    verdict = decide(evidence(old=(60, 0)), asked())
    steps = next_steps(verdict, replace(SITUATION, heldout="my drops/may.heldout.jsonl"))
    assert any("--skill new --heldout 'my drops/may.heldout.jsonl' --scale 0.75" in step for step in steps)
