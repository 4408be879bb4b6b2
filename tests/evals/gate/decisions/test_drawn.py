"""A suite drawn by margin, through the whole gate: counted by its chances, promoted, blocked, looked at twice, replayed, refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from data_contracts.digests import text_digest
from data_contracts.manifests import Decision, Verdict, manifest_text, write_manifest
from evals.gate.decide import GateEvidence, decide, items_wanted
from evals.gate.replay import replay
from evals.gate.validity import registered_faults
from evals.items import Evaluation, load_evaluation

POOL = 1000
MARGIN = np.random.default_rng(1).exponential(1.0, POOL)
BASE = (np.random.default_rng(2).random(POOL) < 0.75).astype(float)
Build = Callable[..., GateEvidence]


def _after(lost: float = 0.0, flips: float = 0.04, seed: int = 3) -> np.ndarray:
    """The candidate's scores: items flip where margins are small, as often right as wrong, and this share of all items is lost besides."""
    generator = np.random.default_rng(seed)
    near = 0.2 * (np.quantile(MARGIN, flips / 0.2) > MARGIN) * np.where(BASE == 1.0, 0.5 / 0.75, 0.5 / 0.25)
    changed = np.where(generator.random(POOL) < near, 1.0 - BASE, BASE)
    return np.where((generator.random(POOL) < lost / 0.75) & (BASE == 1.0), 0.0, changed)


@pytest.fixture
def drawn(make_suite, make_evaluation, draw_items) -> Build:
    def build(after: np.ndarray, n: int = 400, by: str = "base", **fields: object) -> GateEvidence:
        champion, candidate = (
            make_evaluation(name, draw_items(make_suite("piqa", score, category="general"), MARGIN, n, by))
            for name, score in (("base", BASE), ("candidate", after))
        )
        return replace(GateEvidence(candidate, champion, {"piqa": champion}, None, bootstrap=True), **fields)

    return build


def _of(verdict: Verdict, check: str) -> list:
    return [each for each in verdict.checks if each.check == check and each.subject != "earlier skills"]


def test_the_change_is_the_difference_of_the_weighted_scores(drawn: Build, asked) -> None:
    evidence = drawn(_after(0.02))
    mine, theirs = evidence.candidate.suites["piqa"], evidence.champion.suites["piqa"]
    by_hand = np.average(mine.score, weights=mine.weight) - np.average(theirs.score, weights=mine.weight)
    [check] = _of(decide(evidence, asked()), "non_inferiority")
    assert check.effect == pytest.approx(by_hand, abs=1e-9)
    assert check.n == 400
    assert "drawn by margin from 1,000 items" in check.sentence
    truth = float((_after(0.02) - BASE).mean())
    assert check.effect == pytest.approx(truth, abs=0.02)


@pytest.mark.parametrize(("lost", "decision"), [(0.0, Decision.PASS), (0.12, Decision.BLOCK)])
def test_a_round_that_lost_nothing_passes_and_a_real_loss_is_blocked(drawn: Build, asked, lost: float, decision: Decision) -> None:
    verdict = decide(drawn(_after(lost)), asked())
    assert verdict.decision is decision
    assert verdict.lost == (("piqa",) if decision is Decision.BLOCK else ())


def test_losses_among_confident_answers_count_by_their_weight(drawn: Build, asked) -> None:
    """6 % of all items are lost, all of them in the upper half of the margins, where fewer items are read."""
    sure = np.quantile(MARGIN, 0.5) < MARGIN
    after = np.where(sure & (np.random.default_rng(4).random(POOL) < 0.16) & (BASE == 1.0), 0.0, BASE)
    evidence = drawn(after)
    verdict = decide(evidence, asked())
    suite = evidence.candidate.suites["piqa"]
    unweighted = float((suite.score - evidence.champion.suites["piqa"].score).mean())
    [check] = _of(verdict, "non_inferiority")
    assert check.effect is not None
    assert check.effect < unweighted - 0.01, "without weights the loss would look smaller"
    assert verdict.decision is Decision.BLOCK


def test_the_second_look_reads_what_was_fixed_and_keeps_the_drawn_level(drawn: Build, asked) -> None:
    flips = _after(flips=0.12, seed=6)
    policy = asked(floor=0.3)
    first = decide(drawn(flips, n=150), policy)
    assert first.decision is Decision.INCONCLUSIVE
    evidence = drawn(flips, n=150)
    assert items_wanted(first, evidence.candidate) == {"piqa": 600}
    second = decide(drawn(flips, n=600, first_look={"piqa": 150}), policy)
    [before], [after] = _of(first, "non_inferiority"), _of(second, "non_inferiority")
    levels = [(1.0 - (each.confidence or 0.0)) / 2 for each in (before, after)]
    assert levels[0] == pytest.approx(0.04)
    # 0.05 over both looks at a correlation of sqrt(0.5 x 150 / 1000), by simulation of two normals
    z = np.random.default_rng(5).standard_normal((2, 4_000_000))
    rho = np.sqrt(0.5 * 150 / 1000)
    one, two = z[0], rho * z[0] + np.sqrt(1 - rho**2) * z[1]
    bounds = [float(-np.quantile(z[0], level)) for level in levels]
    assert float(((one > bounds[0]) | (two > bounds[1])).mean()) == pytest.approx(0.05, abs=4e-4)
    assert set(evidence.candidate.suites["piqa"].doc_hash) < set(drawn(flips, n=600).candidate.suites["piqa"].doc_hash)


def test_all_items_read_count_alike(drawn: Build, asked, make_suite, make_evaluation) -> None:
    after = _after(0.01)
    whole = decide(drawn(after, n=POOL), asked())
    plain = [make_evaluation(name, make_suite("piqa", score, category="general")) for name, score in (("base", BASE), ("candidate", after))]
    even = decide(GateEvidence(plain[1], plain[0], {"piqa": plain[0]}, None, bootstrap=True), asked())
    assert [(each.effect, each.p_value, each.low) for each in whole.checks] == [
        (each.effect, each.p_value, each.low) for each in even.checks
    ]


def test_a_verdict_on_drawn_items_is_replayed_to_the_byte(drawn: Build, asked, tmp_path, store_evaluation) -> None:
    made = drawn(_after(0.01))
    folders = {"candidate": store_evaluation(made.candidate, tmp_path / "candidate")}
    folders |= dict.fromkeys(("champion", "anchor:piqa"), store_evaluation(made.champion, tmp_path / "champion"))
    champion = load_evaluation(folders["champion"])
    loaded = replace(made, candidate=load_evaluation(folders["candidate"]), champion=champion, anchors={"piqa": champion})
    stored = write_manifest(tmp_path / "verdict", decide(loaded, asked())).read_text()
    assert '"rules":6' in stored
    assert manifest_text(replay(tmp_path / "verdict", folders)) == stored


def _with(evidence: GateEvidence, **changes: object) -> GateEvidence:
    suite = replace(evidence.candidate.suites["piqa"], **changes)
    return replace(evidence, candidate=Evaluation(evidence.candidate.report, {"piqa": suite}))


def test_weights_and_items_that_the_draw_does_not_give_are_errors(drawn: Build, asked) -> None:
    evidence = drawn(_after())
    suite = evidence.candidate.suites["piqa"]
    assert suite.pool is not None
    lighter = suite.weight.copy()
    lighter[np.argmax(lighter)] = 1.0
    nearer = replace(suite.pool, margin=suite.pool.margin * np.linspace(0.1, 1.0, POOL))
    cases = {
        "the weights of its items are not those that the draw gives": {"weight": lighter},
        "the items that were read are not those that the draw gives": {"pool": nearer},
        "disagree on whether they were drawn": {"pool": None},
        "some items of its pool have no margin": {"pool": replace(suite.pool, margin=np.full(POOL, np.nan))},
        "some of its scores are neither right nor wrong": {"score": suite.score * 0.5},
        "its pool has 999 items": {"pool": replace(suite.pool, doc_hash=suite.pool.doc_hash[:-1])},
    }
    for words, changes in cases.items():
        verdict = decide(_with(evidence, **changes), asked())
        assert verdict.decision is Decision.ERROR
        assert any(words in reason for reason in verdict.reasons), (words, verdict.reasons)


def test_weights_without_a_draw_are_an_error(make_suite, make_evaluation, asked) -> None:
    plain = make_evaluation("base", make_suite("piqa", BASE, category="general", weight=np.r_[0.5, np.ones(POOL - 1)]))
    verdict = decide(GateEvidence(plain, plain, {"piqa": plain}, None, bootstrap=True), asked())
    assert verdict.decision is Decision.ERROR
    assert "have weights and were not drawn" in verdict.reasons[1]


def test_the_margins_must_be_those_of_the_anchor(drawn: Build, asked) -> None:
    verdict = decide(drawn(_after(), by="candidate"), asked())
    assert verdict.decision is Decision.ERROR
    assert any("drawn by the margins of another model" in reason for reason in verdict.reasons)


def test_a_new_skill_is_read_with_equal_chances(drawn: Build, asked) -> None:
    verdict = decide(drawn(_after(), new_skill="piqa"), asked())
    assert verdict.decision is Decision.ERROR
    assert any("a new skill is read with equal chances" in reason for reason in verdict.reasons)


def test_registered_items_that_had_a_chance_to_be_read_are_not_missed(drawn: Build, make_suite, make_evaluation) -> None:
    evidence = drawn(_after())
    scored = {"scorer": "today's"}  # from then on an item is known by its digest
    even = make_evaluation("base", make_suite("piqa", BASE[:300], category="general"), settings=scored)
    assert list(registered_faults(evidence.candidate, {"piqa": even}, ())) == []
    other = make_suite("piqa", BASE[:1], category="general")
    other = replace(other, doc_hash=(text_digest("no item of the pool"),))
    [(name, fault)] = registered_faults(evidence.candidate, {"piqa": make_evaluation("base", other, settings=scored)}, ())
    assert (name, "lacks 1 of its 1 items" in fault) == ("piqa", True)
