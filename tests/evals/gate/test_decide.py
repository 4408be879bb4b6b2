"""The six points of the gate and its edge cases, on evaluations made for the purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import Decision, manifest_text
from evals.gate.decide import GateEvidence, decide

RIGHT = np.r_[np.ones(300), np.zeros(100)]
"""A suite that the champion answers at 75 %."""
UNLEARNED = np.r_[np.ones(100), np.zeros(300)]


def test_a_kept_past_and_a_gain_pass(evidence, asked) -> None:
    verdict = decide(evidence(), asked())
    assert verdict.decision is Decision.PASS
    assert verdict.lost == ()
    assert "no loss is proven on 3 suites and new was learned" in verdict.reasons[0]
    assert {check.outcome for check in verdict.checks} <= {"pass", "n/a"}


def test_a_proven_loss_names_the_suite_and_its_numbers(evidence, asked, checks_of) -> None:
    verdict = decide(evidence(old=(18, 1)), asked(floor=0.5))
    assert verdict.decision is Decision.BLOCK
    assert verdict.lost == ("old",)
    [check] = checks_of(verdict, "regression", "old")
    assert check.effect == pytest.approx(-17 / 400)
    assert check.low is not None
    assert check.high is not None
    assert check.low < check.effect < check.high < 0
    assert check.p_value is not None
    assert check.p_value < 0.05
    for words in ("old lost 4.2 points", "18 of 400", "Holm over 3 suites", "not noise"):
        assert words in check.sentence
    assert check.sentence in verdict.reasons


def test_no_gain_blocks(evidence, asked) -> None:
    verdict = decide(evidence(gain=0), asked())
    assert verdict.decision is Decision.BLOCK
    assert verdict.lost == ()
    assert "new was not learned" in verdict.reasons[0]


def test_a_gain_that_may_be_luck_is_held(evidence, asked, checks_of) -> None:
    verdict = decide(evidence(gain=3), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    [check] = checks_of(verdict, "gain", "new")
    assert check.outcome == "inconclusive"
    assert check.items_needed is None, "three items of 400 are less than the gain that is asked for: more of the same would not decide it"
    [check] = checks_of(decide(evidence(gain=3), asked(min_gain=0.0)), "gain", "new")
    assert check.items_needed is not None
    assert check.items_needed > 400


def test_a_minimum_gain_can_be_asked_for(evidence, asked) -> None:
    assert decide(evidence(gain=40), asked(min_gain=0.05, min_learned=0)).decision is Decision.PASS
    assert decide(evidence(gain=40), asked(min_gain=0.2, min_learned=0)).decision is Decision.INCONCLUSIVE


def test_not_shown_is_not_passed(evidence, asked, checks_of) -> None:
    """Many items flip both ways: no loss, but a loss of two points is not ruled out either."""
    verdict = decide(evidence(old=(60, 60), older=(60, 60)), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    [check] = checks_of(verdict, "non_inferiority", "earlier skills")
    assert check.items_needed is not None
    assert f"{check.items_needed:,} items" in check.sentence
    assert check.minimum_detectable_effect is not None
    assert check.minimum_detectable_effect > 0.02


def test_a_small_loss_on_every_skill_is_a_loss_as_a_whole(evidence, asked, checks_of) -> None:
    verdict = decide(evidence(old=(12, 1), older=(12, 1)), asked(alpha=0.01, margin_skill=0.02))
    [check] = checks_of(verdict, "non_inferiority", "earlier skills")
    assert check.outcome == "block"
    assert "earlier skills lost on average" in verdict.reasons[0]


def test_the_cumulative_loss_is_seen_where_the_last_step_is_not(evidence, asked, checks_of) -> None:
    """One point a round against the champion, but 14 items (3.5 points) since the anchors."""
    quiet = evidence(old=(2, 1), older=(2, 1))
    assert decide(quiet, asked()).decision is Decision.PASS
    verdict = decide(evidence(old=(2, 1), older=(2, 1), since={"old": 14, "older": 14}), asked())
    assert verdict.decision is Decision.BLOCK
    assert checks_of(verdict, "non_inferiority", "earlier skills")[0].outcome == "pass"
    assert verdict.lost == ("old", "older")
    assert "budget of 3.0 points" in " ".join(verdict.reasons)


def test_a_proven_but_small_cumulative_loss_is_what_the_budget_is_for(evidence, asked, checks_of) -> None:
    verdict = decide(evidence(old=(0, 0), older=(0, 0), piqa=(0, 0), since={"old": 8}), asked())
    [check] = checks_of(verdict, "anchor", "old")
    assert check.p_value is not None
    assert check.p_value < 0.05
    assert check.outcome == "pass"
    assert "within the budget" in check.sentence


def test_without_an_earlier_skill_only_a_first_round_is_judged(make_suite, make_evaluation, flip, asked, checks_of) -> None:
    base = make_evaluation("base", make_suite("new", UNLEARNED), make_suite("piqa", RIGHT, category="general"))
    candidate = make_evaluation("m1", make_suite("new", flip(UNLEARNED, won=150)), make_suite("piqa", RIGHT, category="general"))
    first = GateEvidence(candidate, base, {"piqa": base}, "new")
    refused = decide(first, asked())
    assert refused.decision is Decision.ERROR
    assert "none of them was measured" in " ".join(refused.reasons)
    verdict = decide(replace(first, bootstrap=True), asked())
    assert verdict.decision is Decision.PASS
    assert checks_of(verdict, "non_inferiority", "earlier skills")[0].outcome == "n/a"


def test_a_model_against_its_copy_is_never_blocked(evidence, asked) -> None:
    champion = evidence().champion
    same = GateEvidence(champion, champion, dict.fromkeys(champion.suites, champion), None)
    verdict = decide(same, asked())
    assert verdict.decision is Decision.PASS
    assert all(check.p_value == 1.0 for check in verdict.checks if check.check == "regression")


def test_an_uninformative_suite_shows_nothing(make_suite, make_evaluation, asked) -> None:
    gold = ["yes", "no"] * 200
    guess = make_suite("coin", [1.0, 0.0] * 200, gold=gold, prediction=["yes"] * 400)
    model = make_evaluation("champion", guess)
    verdict = decide(GateEvidence(model, model, {"coin": model}, None), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "coin is left out: the reference answers 'yes' to every item" in " ".join(verdict.reasons)


def test_an_uninformative_suite_does_not_dilute_the_mean(make_suite, make_evaluation, flip, asked, checks_of) -> None:
    champion = make_evaluation("champion", make_suite("coin", [1.0, 0.0] * 200, gold=["a", "b"] * 200), make_suite("real", RIGHT))
    candidate = make_evaluation(
        "candidate", make_suite("coin", [1.0, 0.0] * 200, gold=["a", "b"] * 200), make_suite("real", flip(RIGHT, 10, 0))
    )
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("coin", "real"), champion), None), asked())
    assert checks_of(verdict, "non_inferiority", "earlier skills")[0].effect == pytest.approx(-10 / 400)


def test_few_items_show_nothing(make_suite, make_evaluation, asked, checks_of) -> None:
    champion = make_evaluation("champion", make_suite("tiny", np.ones(29)), make_suite("real", RIGHT))
    verdict = decide(GateEvidence(champion, champion, dict.fromkeys(("tiny", "real"), champion), None), asked())
    assert verdict.decision is Decision.PASS
    assert checks_of(verdict, "regression", "tiny")[0].outcome == "n/a"
    assert verdict.reasons[0] == "Pass: no loss is proven on 1 suite. tiny: too few items to say."
    alone = GateEvidence(
        make_evaluation("c", make_suite("tiny", np.ones(29))), make_evaluation("d", make_suite("tiny", np.ones(29))), {}, None
    )
    alone = replace(alone, anchors={"tiny": alone.champion})
    assert decide(alone, asked()).decision is Decision.INCONCLUSIVE


def test_retries_tighten_what_promotes_and_nothing_else(evidence, asked, checks_of) -> None:
    once, often = decide(evidence(old=(8, 4)), asked()), decide(evidence(old=(8, 4), attempts=1000), asked())
    assert once.decision is Decision.PASS
    assert often.decision is Decision.INCONCLUSIVE
    assert checks_of(once, "regression", "old") == checks_of(often, "regression", "old")
    blocked = [decide(evidence(old=(30, 2), drift=1.02, attempts=attempts), asked()) for attempts in (1, 9)]
    assert [set(verdict.lost) for verdict in blocked] == [{"old", "text"}] * 2, "a loss is as easy to prove the ninth time"


def test_sealed_splits_are_not_read(evidence, make_suite, asked) -> None:
    plain = evidence()
    sealed = make_suite("old.sealed", np.full(50, np.nan), sealed=True)
    more = replace(plain, candidate=replace(plain.candidate, suites={**plain.candidate.suites, "old.sealed": sealed}))
    assert decide(more, asked()) == decide(plain, asked())


def test_suites_of_one_item_are_reported_and_decide_nothing(make_suite, make_evaluation, asked) -> None:
    before = [make_suite("old", [1.0]), make_suite("new", [0.0]), make_suite("text", [1.0], category="drift")]
    after = [make_suite("old", [0.0]), make_suite("new", [1.0]), make_suite("text", [1.1], category="drift")]
    champion, candidate = make_evaluation("champion", *before), make_evaluation("candidate", *after)
    verdict = decide(GateEvidence(candidate, champion, {"old": champion}, "new"), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert manifest_text(verdict)
    assert all(check.low is None and check.minimum_detectable_effect is None for check in verdict.checks)


def test_a_corrupt_item_file_is_an_error_with_the_way_out(tmp_path, make_suite, make_evaluation, store_evaluation) -> None:
    from data_contracts.errors import ManifestError
    from evals.items import load_evaluation

    folder = store_evaluation(make_evaluation("m", make_suite("a", RIGHT)), tmp_path / "e")
    path = folder / "items" / "a.parquet"
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    with pytest.raises(ManifestError, match="has changed since its manifest was written"):
        load_evaluation(folder)


def test_no_suites_at_all_is_an_error(make_evaluation, asked) -> None:
    empty = make_evaluation("m")
    assert decide(GateEvidence(empty, empty, {}, None, bootstrap=True), asked()).decision is Decision.ERROR


def test_order_of_suites_does_not_change_a_byte(evidence, asked) -> None:
    plain = evidence(old=(30, 2), drift=1.02)
    turned = replace(plain, candidate=replace(plain.candidate, suites=dict(reversed(plain.candidate.suites.items()))))
    assert manifest_text(decide(turned, asked())) == manifest_text(decide(plain, asked()))


def test_a_suite_named_like_a_category_is_a_suite(make_suite, make_evaluation, flip, asked) -> None:
    champion = make_evaluation("champion", make_suite("general", RIGHT, category="general"), make_suite("skill", RIGHT))
    candidate = make_evaluation("candidate", make_suite("general", RIGHT, category="general"), make_suite("skill", flip(RIGHT, lost=40)))
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("general", "skill"), champion), None), asked())
    assert verdict.lost == ("skill",)
    assert verdict.reasons[0] == "Blocked: lost skill; earlier skills lost on average."
