"""The six points of the gate and its edge cases, on evaluations made for the purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import CheckOutcome, Decision, Verdict, manifest_text, write_manifest
from evals.gate.decide import GateEvidence, GatePolicy, decide, items_wanted
from evals.gate.replay import replay
from evals.items import Evaluation


def asked(**fields: object) -> GatePolicy:
    """The default policy for evidence that leaves categories out on purpose."""
    return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})


RIGHT = np.r_[np.ones(300), np.zeros(100)]
"""A suite that the champion answers at 75 %."""
UNLEARNED = np.r_[np.ones(100), np.zeros(300)]


def _with(evaluation: Evaluation, name: str, **changes: object) -> Evaluation:
    suites = dict(evaluation.suites)
    suites[name] = replace(suites[name], **changes)
    return replace(evaluation, suites=suites)


def _checks(verdict: Verdict, check: str, subject: str) -> list[CheckOutcome]:
    return [each for each in verdict.checks if each.check == check and each.subject == subject]


def test_a_kept_past_and_a_gain_pass(evidence) -> None:
    verdict = decide(evidence(), asked())
    assert verdict.decision is Decision.PASS
    assert verdict.lost == ()
    assert "nothing was lost on 3 suites and new was learned" in verdict.reasons[0]
    assert {check.outcome for check in verdict.checks} <= {"pass", "n/a"}


def test_a_proven_loss_names_the_suite_and_its_numbers(evidence) -> None:
    verdict = decide(evidence(old=(18, 1)), asked(floor=0.5))
    assert verdict.decision is Decision.BLOCK
    assert verdict.lost == ("old",)
    [check] = _checks(verdict, "regression", "old")
    assert check.effect == pytest.approx(-17 / 400)
    assert check.low is not None
    assert check.high is not None
    assert check.low < check.effect < check.high < 0
    assert check.p_value is not None
    assert check.p_value < 0.05
    for words in ("old lost 4.2 points", "18 of 400", "Holm over 3 suites", "not noise"):
        assert words in check.sentence
    assert check.sentence in verdict.reasons


def test_a_large_drop_blocks_whatever_its_p_value(evidence, make_suite, make_evaluation, flip) -> None:
    score = np.tile([1.0, 0.0], 20)
    champion = make_evaluation("champion", make_suite("small", score))
    candidate = make_evaluation("candidate", make_suite("small", flip(score, lost=5, won=3)))
    verdict = decide(GateEvidence(candidate, champion, {"small": champion}, None), asked())
    assert _checks(verdict, "regression", "small")[0].outcome == "pass"
    assert _checks(verdict, "floor", "small")[0].outcome == "block"
    assert verdict.decision is Decision.BLOCK
    assert verdict.lost == ("small",)


def test_a_floor_is_reached_at_exactly_five_points(evidence) -> None:
    assert _checks(decide(evidence(old=(20, 0)), asked()), "floor", "old")
    assert not _checks(decide(evidence(old=(19, 0)), asked()), "floor", "old")


def test_no_gain_blocks(evidence) -> None:
    verdict = decide(evidence(gain=0), asked())
    assert verdict.decision is Decision.BLOCK
    assert verdict.lost == ()
    assert "new was not learned" in verdict.reasons[0]


def test_a_gain_that_may_be_luck_is_held(evidence) -> None:
    verdict = decide(evidence(gain=3), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    [check] = _checks(verdict, "gain", "new")
    assert check.outcome == "inconclusive"
    assert check.items_needed is not None
    assert check.items_needed > 400


def test_a_minimum_gain_can_be_asked_for(evidence) -> None:
    assert decide(evidence(gain=40), asked(min_gain=0.05, min_learned=0)).decision is Decision.PASS
    assert decide(evidence(gain=40), asked(min_gain=0.2, min_learned=0)).decision is Decision.INCONCLUSIVE


def test_not_shown_is_not_passed(evidence) -> None:
    """Many items flip both ways: no loss, but a loss of two points is not ruled out either."""
    verdict = decide(evidence(old=(60, 60), older=(60, 60)), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    [check] = _checks(verdict, "non_inferiority", "earlier skills")
    assert check.items_needed is not None
    assert f"{check.items_needed:,} items" in check.sentence
    assert check.minimum_detectable_effect is not None
    assert check.minimum_detectable_effect > 0.02


def test_items_wanted_names_the_suites_that_are_too_small(evidence) -> None:
    held = evidence(old=(60, 60), older=(60, 60), gain=3)
    verdict = decide(held, asked())
    wanted = items_wanted(verdict, held.candidate)
    assert set(wanted) == {"old", "older", "new"}
    assert all(count > 400 for count in wanted.values())
    assert items_wanted(decide(evidence(), asked()), held.candidate) == {}


def test_a_small_loss_on_every_skill_is_a_loss_as_a_whole(evidence) -> None:
    verdict = decide(evidence(old=(12, 1), older=(12, 1)), asked(alpha=0.01, margin_skill=0.02))
    [check] = _checks(verdict, "non_inferiority", "earlier skills")
    assert check.outcome == "block"
    assert "earlier skills lost on average" in verdict.reasons[0]


def test_the_cumulative_loss_is_seen_where_the_last_step_is_not(evidence) -> None:
    """One point a round against the champion, but 14 items (3.5 points) since the anchors."""
    quiet = evidence(old=(2, 1), older=(2, 1))
    assert decide(quiet, asked()).decision is Decision.PASS
    verdict = decide(evidence(old=(2, 1), older=(2, 1), since={"old": 14, "older": 14}), asked())
    assert verdict.decision is Decision.BLOCK
    assert _checks(verdict, "non_inferiority", "earlier skills")[0].outcome == "pass"
    assert verdict.lost == ("old", "older")
    assert "budget of 3.0 points" in " ".join(verdict.reasons)


def test_a_proven_but_small_cumulative_loss_is_what_the_budget_is_for(evidence) -> None:
    verdict = decide(evidence(old=(0, 0), older=(0, 0), piqa=(0, 0), since={"old": 8}), asked())
    [check] = _checks(verdict, "anchor", "old")
    assert check.p_value is not None
    assert check.p_value < 0.05
    assert check.outcome == "pass"
    assert "within the budget" in check.sentence


@pytest.mark.parametrize(("drift", "outcome"), [(1.0, "pass"), (1.005, "pass"), (1.02, "block")])
def test_drift_in_bits_per_byte(evidence, drift: float, outcome: str) -> None:
    [check] = _checks(decide(evidence(drift=drift), asked()), "drift", "text")
    assert check.outcome == outcome
    assert check.effect == pytest.approx(1 - drift, abs=2e-4)


def test_improved_text_is_not_drift(evidence) -> None:
    assert decide(evidence(drift=0.9), asked()).decision is Decision.PASS


def test_drift_is_counted_over_all_rounds_too(evidence) -> None:
    """A rise of 0.5 % passes against the champion; against a base that was 4 % better it does not."""
    made = evidence(drift=1.005)
    text = made.champion.suites["text"]
    better = replace(text, score=text.score * 0.96)
    base = replace(made.anchors["old"], suites={**made.anchors["old"].suites, "text": better})
    verdict = decide(replace(made, anchors={**made.anchors, "text": base}), asked())
    assert _checks(verdict, "drift", "text")[0].outcome == "pass"
    assert _checks(verdict, "anchor_drift", "text")[0].outcome == "block"
    assert verdict.lost == ("text",)


def test_without_an_earlier_skill_only_a_first_round_is_judged(make_suite, make_evaluation, flip) -> None:
    base = make_evaluation("base", make_suite("new", UNLEARNED), make_suite("piqa", RIGHT, category="general"))
    candidate = make_evaluation("m1", make_suite("new", flip(UNLEARNED, won=150)), make_suite("piqa", RIGHT, category="general"))
    first = GateEvidence(candidate, base, {"piqa": base}, "new")
    refused = decide(first, asked())
    assert refused.decision is Decision.ERROR
    assert "none of them was measured" in " ".join(refused.reasons)
    verdict = decide(replace(first, bootstrap=True), asked())
    assert verdict.decision is Decision.PASS
    assert _checks(verdict, "non_inferiority", "earlier skills")[0].outcome == "n/a"


def test_a_model_against_its_copy_is_never_blocked(evidence) -> None:
    champion = evidence().champion
    same = GateEvidence(champion, champion, dict.fromkeys(champion.suites, champion), None)
    verdict = decide(same, asked())
    assert verdict.decision is Decision.PASS
    assert all(check.p_value == 1.0 for check in verdict.checks if check.check == "regression")


def test_an_uninformative_suite_shows_nothing(make_suite, make_evaluation) -> None:
    gold = ["yes", "no"] * 200
    guess = make_suite("coin", [1.0, 0.0] * 200, gold=gold, prediction=["yes"] * 400)
    model = make_evaluation("champion", guess)
    verdict = decide(GateEvidence(model, model, {"coin": model}, None), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "coin is left out: the reference answers 'yes' to every item" in " ".join(verdict.reasons)


def test_an_uninformative_suite_does_not_dilute_the_mean(make_suite, make_evaluation, flip) -> None:
    champion = make_evaluation("champion", make_suite("coin", [1.0, 0.0] * 200, gold=["a", "b"] * 200), make_suite("real", RIGHT))
    candidate = make_evaluation(
        "candidate", make_suite("coin", [1.0, 0.0] * 200, gold=["a", "b"] * 200), make_suite("real", flip(RIGHT, 10, 0))
    )
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("coin", "real"), champion), None), asked())
    assert _checks(verdict, "non_inferiority", "earlier skills")[0].effect == pytest.approx(-10 / 400)


def test_few_items_show_nothing(make_suite, make_evaluation) -> None:
    champion = make_evaluation("champion", make_suite("tiny", np.ones(29)), make_suite("real", RIGHT))
    verdict = decide(GateEvidence(champion, champion, dict.fromkeys(("tiny", "real"), champion), None), asked())
    assert verdict.decision is Decision.PASS
    assert _checks(verdict, "regression", "tiny")[0].outcome == "n/a"
    assert verdict.reasons[0] == "Pass: nothing was lost on 1 suite. tiny: too few items to say."
    alone = GateEvidence(
        make_evaluation("c", make_suite("tiny", np.ones(29))), make_evaluation("d", make_suite("tiny", np.ones(29))), {}, None
    )
    alone = replace(alone, anchors={"tiny": alone.champion})
    assert decide(alone, asked()).decision is Decision.INCONCLUSIVE


def test_retries_tighten_what_promotes_and_nothing_else(evidence) -> None:
    once, often = decide(evidence(old=(8, 4)), asked()), decide(evidence(old=(8, 4), attempts=1000), asked())
    assert once.decision is Decision.PASS
    assert often.decision is Decision.INCONCLUSIVE
    assert _checks(once, "regression", "old") == _checks(often, "regression", "old")
    levels = [asked().level(attempt) for attempt in range(1, 200)]
    assert sum(level.alpha for level in levels) < 1.65 * 0.05, "however often a round is tried"
    assert [level.again for level in levels[:-1]] == [level.alpha for level in levels[1:]], (
        "items are asked for at the level of the next look"
    )
    blocked = [decide(evidence(old=(30, 2), drift=1.02, attempts=attempts), asked()) for attempts in (1, 9)]
    assert [set(verdict.lost) for verdict in blocked] == [{"old", "text"}] * 2, "a loss is as easy to prove the ninth time"


def test_sealed_splits_are_not_read(evidence, make_suite) -> None:
    plain = evidence()
    sealed = make_suite("old.sealed", np.full(50, np.nan), sealed=True)
    more = replace(plain, candidate=replace(plain.candidate, suites={**plain.candidate.suites, "old.sealed": sealed}))
    assert decide(more, asked()) == decide(plain, asked())


def test_falling_log_probabilities_warn_and_do_not_decide(make_suite, make_evaluation) -> None:
    likely = np.random.default_rng(0).normal(-1, 0.5, 400)
    champion = make_evaluation("champion", make_suite("old", RIGHT, logprob=likely))
    candidate = make_evaluation("candidate", make_suite("old", RIGHT, logprob=likely - 0.05 - 0.1 * np.random.default_rng(1).random(400)))
    verdict = decide(GateEvidence(candidate, champion, {"old": champion}, None), asked())
    assert verdict.decision is Decision.PASS
    [warning] = _checks(verdict, "early_warning", "old")
    assert "less likely" in warning.sentence


def _spoil(evidence: GateEvidence, who: str, name: str, **changes: object) -> GateEvidence:
    return replace(evidence, **{who: _with(getattr(evidence, who), name, **changes)})


def _drop(evidence: GateEvidence, who: str, name: str) -> GateEvidence:
    evaluation: Evaluation = getattr(evidence, who)
    return replace(evidence, **{who: replace(evaluation, suites={k: v for k, v in evaluation.suites.items() if k != name})})


def _nan_at_3(score: np.ndarray) -> np.ndarray:
    spoiled = score.copy()
    spoiled[3] = np.nan
    return spoiled


SPOILED: dict[str, tuple[Callable[[GateEvidence], GateEvidence], str]] = {
    "suite missing on the candidate": (lambda e: _drop(e, "candidate", "old"), "The candidate was not evaluated on old"),
    "suite missing on the champion": (lambda e: _drop(e, "champion", "old"), "The champion was not evaluated on old"),
    "new skill not evaluated": (lambda e: _drop(e, "candidate", "new"), "the skill that this round adds"),
    "no anchor": (lambda e: replace(e, anchors={}), "old has no anchor evaluation"),
    "NaN score": (lambda e: _spoil(e, "candidate", "old", score=_nan_at_3(RIGHT)), "1 of 400 scores are not finite"),
    "NaN score of the champion": (lambda e: _spoil(e, "champion", "old", score=_nan_at_3(RIGHT)), "1 of 400 scores are not finite"),
    "infinite score": (lambda e: _spoil(e, "candidate", "piqa", score=np.full(400, np.inf)), "400 of 400 scores are not finite"),
    "score above one": (lambda e: _spoil(e, "candidate", "old", score=RIGHT * 100), "outside 0 to 1"),
    "infinite log-probability": (
        lambda e: _spoil(e, "candidate", "old", gold_logprob=np.full(400, -np.inf)),
        "log-probabilities are infinite",
    ),
    "log-probabilities gone": (
        lambda e: _spoil(e, "champion", "old", gold_logprob=np.full(400, -1.0)),
        "400 log-probabilities of the candidate",
    ),
    "duplicate items": (lambda e: _spoil(e, "candidate", "old", doc_hash=("same",) * 400), "399 items appear twice"),
    "other items": (lambda e: _spoil(e, "candidate", "old", doc_hash=tuple(map(str, range(400)))), "400 items that the champion never saw"),
    "other prompts": (lambda e: _spoil(e, "candidate", "old", prompt_hash=tuple(map(str, range(400)))), "had another prompt"),
    "drift without bytes": (lambda e: _spoil(e, "candidate", "text", weight=np.zeros(60)), "no bytes to weigh"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_evidence_that_cannot_be_compared_is_an_error(evidence, case: str) -> None:
    spoil, words = SPOILED[case]
    verdict = decide(spoil(evidence()), asked())
    assert verdict.decision is Decision.ERROR
    assert words in " ".join(verdict.reasons)
    assert {check.check for check in verdict.checks} == {"validity"}


def test_changed_suite_digest_is_an_error(evidence, make_suite, make_evaluation) -> None:
    plain = evidence()
    changed = make_suite("old", RIGHT, suite_sha256="0" * 64)
    verdict = decide(replace(plain, champion=replace(plain.champion, suites={**plain.champion.suites, "old": changed})), asked())
    assert verdict.decision is Decision.ERROR
    assert "old has changed since the champion was evaluated" in " ".join(verdict.reasons)


def test_other_settings_are_an_error_that_says_which(evidence, make_evaluation) -> None:
    plain = evidence()
    other = make_evaluation("champion", *plain.champion.suites.values(), settings={"backend": "vllm", "dtype": "float32"})
    verdict = decide(replace(plain, champion=other), asked())
    assert verdict.decision is Decision.ERROR
    assert "backend: 'vllm', now 'hf'" in " ".join(verdict.reasons)


def test_an_empty_suite_is_an_error(make_suite, make_evaluation) -> None:
    empty = make_evaluation("m", make_suite("old", []))
    verdict = decide(GateEvidence(empty, empty, {"old": empty}, None), asked())
    assert verdict.decision is Decision.ERROR
    assert "no items" in " ".join(verdict.reasons)


def test_suites_of_one_item_are_reported_and_decide_nothing(make_suite, make_evaluation) -> None:
    before = [make_suite("old", [1.0]), make_suite("new", [0.0]), make_suite("text", [1.0], category="drift")]
    after = [make_suite("old", [0.0]), make_suite("new", [1.0]), make_suite("text", [1.1], category="drift")]
    champion, candidate = make_evaluation("champion", *before), make_evaluation("candidate", *after)
    verdict = decide(GateEvidence(candidate, champion, {"old": champion}, "new"), asked())
    assert verdict.decision is Decision.INCONCLUSIVE
    assert manifest_text(verdict)
    assert all(check.low is None and check.minimum_detectable_effect is None for check in verdict.checks)


def test_graded_scores_that_share_passages(make_suite, make_evaluation) -> None:
    """Half a point lost on every item of every passage: exact tests do not apply, and the loss is found all the same."""
    cluster = [f"passage {index // 4}" for index in range(200)]
    before = np.random.default_rng(0).uniform(0.5, 0.9, 200)
    champion = make_evaluation("champion", make_suite("f1", before, cluster=cluster))
    candidate = make_evaluation("candidate", make_suite("f1", before - np.linspace(0.02, 0.06, 200), cluster=cluster))
    verdict = decide(GateEvidence(candidate, champion, {"f1": champion}, None), asked())
    assert verdict.decision is Decision.BLOCK
    assert verdict.lost == ("f1",)


def test_a_corrupt_item_file_is_an_error_with_the_way_out(tmp_path, make_suite, make_evaluation, store_evaluation) -> None:
    from data_contracts.errors import ManifestError
    from evals.items import load_evaluation

    folder = store_evaluation(make_evaluation("m", make_suite("a", RIGHT)), tmp_path / "e")
    path = folder / "items" / "a.parquet"
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    with pytest.raises(ManifestError, match="has changed since its manifest was written"):
        load_evaluation(folder)


def test_required_suites(evidence) -> None:
    verdict = decide(evidence(), asked(required_suites=("ifeval",)))
    assert verdict.decision is Decision.ERROR
    assert "ifeval, which the policy requires" in " ".join(verdict.reasons)


def test_no_suites_at_all_is_an_error(make_evaluation) -> None:
    empty = make_evaluation("m")
    assert decide(GateEvidence(empty, empty, {}, None, bootstrap=True), asked()).decision is Decision.ERROR


def test_order_of_suites_does_not_change_a_byte(evidence) -> None:
    plain = evidence(old=(30, 2), drift=1.02)
    turned = replace(plain, candidate=replace(plain.candidate, suites=dict(reversed(plain.candidate.suites.items()))))
    assert manifest_text(decide(turned, asked())) == manifest_text(decide(plain, asked()))


@pytest.mark.parametrize("policy", [asked(), asked(alpha=0.2, floor=0.3, floors={"old": 0.4})])
def test_replay_gives_the_same_bytes(tmp_path, evidence, store_evaluation, policy: GatePolicy) -> None:
    from evals.items import load_evaluation

    made = evidence(old=(30, 2), since={"old": 5}, attempts=2)
    folders = {who: store_evaluation(getattr(made, who), tmp_path / who) for who in ("candidate", "champion")}
    anchors = {name: store_evaluation(each, tmp_path / f"anchor-{name}") for name, each in made.anchors.items()}
    loaded = replace(
        made,
        candidate=load_evaluation(folders["candidate"]),
        champion=load_evaluation(folders["champion"]),
        anchors={name: load_evaluation(folder) for name, folder in anchors.items()},
    )
    verdict = decide(loaded, policy)
    stored = write_manifest(tmp_path / "verdict", verdict).read_text()
    assert manifest_text(replay(tmp_path / "verdict", folders | {f"anchor:{name}": folder for name, folder in anchors.items()})) == stored


def test_a_suite_named_like_a_category_is_a_suite(make_suite, make_evaluation, flip) -> None:
    champion = make_evaluation("champion", make_suite("general", RIGHT, category="general"), make_suite("skill", RIGHT))
    candidate = make_evaluation("candidate", make_suite("general", RIGHT, category="general"), make_suite("skill", flip(RIGHT, lost=40)))
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(("general", "skill"), champion), None), asked())
    assert verdict.lost == ("skill",)
    assert verdict.reasons[0] == "Blocked: lost skill; earlier skills lost on average."


@pytest.mark.parametrize("lost", [0, 12, 40])
def test_every_verdict_prints_what_could_have_been_seen(evidence, lost: int) -> None:
    reasons = decide(evidence(old=(lost, 0)), asked()).reasons
    assert any(reason.startswith("Minimum detectable effect: with these items a mean loss of ") for reason in reasons)


def test_replay_refuses_another_report(tmp_path, evidence, store_evaluation) -> None:
    from data_contracts.errors import EvaluationError
    from evals.items import load_evaluation

    made = evidence()
    candidate, champion = (store_evaluation(getattr(made, who), tmp_path / who) for who in ("candidate", "champion"))
    anchors = {name: store_evaluation(each, tmp_path / "anchor") for name, each in made.anchors.items()}
    loaded = replace(
        made,
        candidate=load_evaluation(candidate),
        champion=load_evaluation(champion),
        anchors={name: load_evaluation(folder) for name, folder in anchors.items()},
    )
    write_manifest(tmp_path / "verdict", decide(loaded, asked()))
    with pytest.raises(EvaluationError, match="its champion report is not the one given"):
        replay(
            tmp_path / "verdict",
            {"candidate": candidate, "champion": candidate} | {f"anchor:{name}": folder for name, folder in anchors.items()},
        )
