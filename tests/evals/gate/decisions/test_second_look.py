"""The second look: which suites it reads, how many items, at which level, and what forbids it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from data_contracts.manifests import Category, Decision, Verdict, manifest_text, write_manifest
from evals.gate.decide import GateEvidence, GatePolicy, decide, items_wanted
from evals.gate.policy import Sizes
from evals.gate.replay import replay
from evals.items import load_evaluation

POLICY = GatePolicy(accept_unmeasured=("general", "safety", "drift"))
AVAILABLE = 1600


@pytest.fixture
def looks(make_suite, make_evaluation):
    """Evidence of one look: `items` of two skills and a general suite, of which so many flip each way; `lost` is (lost, won) by suite."""

    def build(
        items: dict[str, int], flips: dict[str, tuple[int, int]], first_look: dict[str, int] | None = None, **fields: object
    ) -> GateEvidence:
        def suites(flipped: bool) -> list[object]:
            made = []
            for name, n in items.items():
                category: Category = "general" if name == "piqa" else "skill"
                score = np.r_[np.ones(3 * n // 4), np.zeros(n - 3 * n // 4)]
                lost, won = flips.get(name, (0, 0)) if flipped else (0, 0)
                score[:lost] = 0.0
                score[n - won :] = 1.0
                made.append(make_suite(name, score, category=category, available=AVAILABLE))
            return made

        candidate, champion = make_evaluation("candidate", *suites(True)), make_evaluation("champion", *suites(False))
        evidence = GateEvidence(candidate, champion, dict.fromkeys(items, champion), None, first_look=first_look or {})
        return replace(evidence, **fields)

    return build


FIRST = {"old": 400, "older": 400, "piqa": 400}


def _check(verdict: Verdict, check: str, subject: str):
    [found] = [each for each in verdict.checks if (each.check, each.subject) == (check, subject)]
    return found


def test_only_the_suites_of_what_is_held_are_read_further_and_as_far_as_was_fixed(looks) -> None:
    held = looks(FIRST, {"piqa": (20, 20), "old": (2, 2), "older": (2, 2)})
    verdict = decide(held, POLICY)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert items_wanted(verdict, held.candidate) == {"piqa": 1600}
    worse = decide(looks(FIRST, {"piqa": (21, 20)}), POLICY)
    assert items_wanted(worse, held.candidate) == {"piqa": 1600}, "what the first look found does not change the number"
    assert items_wanted(decide(looks(FIRST, {}), POLICY), held.candidate) == {}
    skills = looks(FIRST, {"old": (40, 40), "older": (40, 40)})
    assert items_wanted(decide(skills, POLICY), skills.candidate) == {"old": 1600, "older": 1600}


def test_there_is_no_second_look_that_could_not_promote(looks) -> None:
    def wanted(evidence: GateEvidence, policy: GatePolicy = POLICY) -> dict[str, int]:
        return items_wanted(decide(evidence, policy), evidence.candidate)

    assert wanted(looks(FIRST, {"piqa": (20, 20)}), GatePolicy(accept_unmeasured=("safety",))) == {}, "drift stays unmeasured"
    assert wanted(looks(FIRST, {"piqa": (20, 20)}), POLICY.model_copy(update={"second_look": 1.0})) == {}
    full = {"old": 1600, "older": 1600, "piqa": 400}
    held_without_spare = looks(full, {"old": (400, 400), "older": (400, 400), "piqa": (20, 20)})
    assert decide(held_without_spare, POLICY).decision is Decision.INCONCLUSIVE
    assert wanted(held_without_spare) == {}, "the skills would be held again, on the same items"


def test_each_check_has_the_level_of_the_items_that_it_read(looks) -> None:
    """The level is found again from the interval, which says it (scipy's bivariate normal)."""
    first = decide(looks(FIRST, {"piqa": (20, 20)}), POLICY)
    assert [_check(first, "non_inferiority", each).confidence for each in ("earlier skills", "general suites")] == [0.92, 0.92]
    second = decide(looks({**FIRST, "piqa": 1600}, {"piqa": (80, 80)}, FIRST), POLICY)
    assert _check(second, "non_inferiority", "earlier skills") == _check(first, "non_inferiority", "earlier skills")
    level = (1.0 - (_check(second, "non_inferiority", "general suites").confidence or 0.0)) / 2
    rho = np.sqrt(400 / 1600)
    neither = stats.multivariate_normal.cdf([stats.norm.isf(0.04), stats.norm.isf(level)], cov=[[1, rho], [rho, 1]])
    assert 1.0 - neither == pytest.approx(0.05, abs=1e-6)
    assert second.decision is Decision.PASS
    assert second.attempts == 1
    assert second.first_look == FIRST
    alone = decide(looks(FIRST, {}), POLICY.model_copy(update={"second_look": 1.0}))
    assert _check(alone, "non_inferiority", "general suites").confidence == 0.9, "one look has all of it"


@pytest.mark.parametrize("now", [401, 1000, 1599])
def test_a_number_of_items_that_was_not_fixed_before_is_an_error(looks, now: int) -> None:
    verdict = decide(looks({**FIRST, "piqa": now}, {"piqa": (20, 20)}, FIRST), POLICY)
    assert verdict.decision is Decision.ERROR
    assert f"piqa has {now:,} items at the second look, and 400 or 1,600 were fixed before it." in verdict.reasons


def test_a_suite_that_comes_or_goes_between_the_looks_is_an_error(looks) -> None:
    come = decide(looks(FIRST, {}, {"old": 400, "piqa": 400}), POLICY)
    gone = decide(looks(FIRST, {}, {**FIRST, "boolq": 400}), POLICY)
    assert come.decision is gone.decision is Decision.ERROR
    assert "older was not evaluated at the first look." in come.reasons
    assert "boolq has 400 items of a first look and is not here." in gone.reasons


def test_after_a_second_look_there_is_none(looks) -> None:
    again = looks({**FIRST, "piqa": 1600}, {"piqa": (300, 300)}, FIRST)
    verdict = decide(again, POLICY)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert items_wanted(verdict, again.candidate) == {}


def test_a_retry_has_its_own_two_looks_at_its_own_level(looks) -> None:
    verdicts = [decide(looks(FIRST, {}, attempts=attempt), POLICY) for attempt in (1, 2, 3)]
    levels = [_check(verdict, "non_inferiority", "general suites").confidence for verdict in verdicts]
    assert levels == pytest.approx([1 - 2 * 0.8 * 0.05 * share for share in (1, 0.1, 1 / 30)])
    [one, two] = (POLICY.level(2, [Sizes(400, 1600, now)]) for now in (400, 1600))
    assert one.alpha < POLICY.level(1, [Sizes(400, 1600, 1600)]).alpha, "what the first attempt left unspent is not there any more"
    assert one.again == two.alpha


def test_the_verdict_of_a_second_look_is_replayed_byte_for_byte(tmp_path, looks, store_evaluation) -> None:
    made = looks({**FIRST, "piqa": 1600}, {"piqa": (80, 80)}, FIRST)
    folders = {who: store_evaluation(getattr(made, who), tmp_path / who) for who in ("candidate", "champion")}
    loaded = {who: load_evaluation(folder) for who, folder in folders.items()}
    evidence = replace(made, **loaded, anchors=dict.fromkeys(FIRST, loaded["champion"]))
    stored = write_manifest(tmp_path / "verdict", decide(evidence, POLICY)).read_text()
    roles = folders | {f"anchor:{name}": folders["champion"] for name in FIRST}
    assert manifest_text(replay(tmp_path / "verdict", roles)) == stored
    assert '"first_look":{"old":400,"older":400,"piqa":400}' in stored
    assert "first_look" not in manifest_text(decide(replace(evidence, first_look={}), POLICY)), "as verdicts were before there was one"


def test_a_sealed_split_has_no_look(looks, make_suite) -> None:
    plain = looks(FIRST, {})
    sealed = make_suite("old.sealed", np.ones(50), sealed=True)
    more = replace(plain.candidate, suites={**plain.candidate.suites, "old.sealed": sealed})
    again = replace(plain, candidate=more, first_look=FIRST)
    assert decide(again, POLICY).decision is Decision.PASS
