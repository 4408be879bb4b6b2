"""Rules 5 decide as they did: the same evidence gives the bytes that they wrote, and replay asks them. What rules 6 do differently."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import manifest_digest, manifest_text, write_manifest
from evals.gate.decide import GateEvidence, decide
from evals.gate.policy import GatePolicy as PolicyOfToday
from evals.gate.replay import replay
from evals.gate.rules5.policy import GatePolicy
from evals.items import load_evaluation

# sha256 of the manifests that the gate wrote for the same evidence while rules 5 were its rules (commit 09f2ed9).
GOLDEN: dict[str, str] = {
    "pass": "2c89b0d47feba58e9628f1763b306c0e3ec0c9c51c7f6855460400c4bd979063",
    "loss": "738af0c87061d69149a4dadcccad9d658fbe3967dd3dc6f3a2cd82b3db0946d6",
    "hold": "28b620f552bebf22eb2023b50ef7428ea77f4d1eea2f9da736f1f613f151a735",
    "no gain": "2d6f2e3a1ca0d079e7ca10610dc59be48bcd0bcee89d9b8ed811a48f2c0e7b2a",
    "error": "c1c66733f08912540dc0b415ef18f536871f1cb146ddc57c864b56c4d2de9534",
    "second look": "f1ead35a8aa3a33aaa91efe032892c979c976ef25885bdf655dc803cdb9fadc2",
    "near chance": "0f13822179dc20eb85bdb5f8dd1b4fe93dabb071a4b9d71f2fd35e05c82fbe91",
}

PASSAGES = [str(index // 10) for index in range(200)]
YES_NO = ["yes", "no"] * 100


@pytest.fixture
def near_chance(make_suite, make_evaluation):
    """A reference that is luckily above its majority class where items of a passage count as independent, and answers that became less
    likely in a few passages: 11 of 20 passages right; and one of partial scores that are above it by nothing."""
    right = np.repeat(np.r_[np.ones(11), np.zeros(9)], 10)
    right[110:118] = 1.0
    partial = np.where(np.arange(200) % 2, 0.99, 0.03)
    likely = np.repeat(np.random.default_rng(3).normal(-1.0, 0.5, 20), 10)
    fallen = likely - np.repeat(np.r_[np.full(2, 0.3), np.zeros(18)], 10)
    suites = [
        [
            make_suite("read", right, cluster=PASSAGES, gold=YES_NO, logprob=logprob, category="general"),
            make_suite("part", partial, gold=YES_NO, prediction=YES_NO[::-1], category="general"),
        ]
        for logprob in (likely, fallen)
    ]
    champion, candidate = (make_evaluation(name, *each) for name, each in zip(("champion", "candidate"), suites, strict=True))
    return GateEvidence(candidate, champion, dict.fromkeys(("read", "part"), champion), None, bootstrap=True)


@pytest.fixture
def cases(evidence, near_chance):
    looked = dict.fromkeys(("old", "older", "new", "piqa"), 400) | {"text": 60}
    waived = {"accept_unmeasured": ("safety",)}
    return {
        "pass": (evidence(), waived),
        "loss": (evidence(old=(30, 2), since={"old": 5}, attempts=2), {}),
        "hold": (evidence(old=(60, 60), older=(60, 60), gain=3), {}),
        "no gain": (evidence(gain=0), {}),
        "error": (replace(evidence(), anchors={}), {}),
        "second look": (evidence(old=(9, 9), first_look=looked), waived),
        "near chance": (near_chance, {"accept_unmeasured": ("safety", "drift")}),
    }


@pytest.mark.parametrize("case", GOLDEN)
def test_rules_5_write_the_bytes_that_they_wrote(cases, case: str) -> None:
    made, policy = cases[case]
    assert manifest_digest(decide(made, GatePolicy(**policy))) == GOLDEN[case]


def test_replay_asks_the_rules_that_made_the_verdict(tmp_path, near_chance, store_evaluation) -> None:
    folders = {who: store_evaluation(getattr(near_chance, who), tmp_path / who) for who in ("candidate", "champion")}
    candidate, champion = (load_evaluation(folders[who]) for who in ("candidate", "champion"))
    folders |= dict.fromkeys(("anchor:read", "anchor:part"), folders["champion"])
    loaded = replace(near_chance, candidate=candidate, champion=champion, anchors=dict.fromkeys(("read", "part"), champion))
    for policy in (GatePolicy(), PolicyOfToday()):
        place = tmp_path / f"verdict-{policy.rules}"
        stored = write_manifest(place, decide(loaded, policy)).read_text()
        assert f'"rules":{policy.rules}' in stored
        assert manifest_text(replay(place, folders)) == stored


def test_rules_6_take_no_luck_of_a_few_passages_for_knowledge(near_chance) -> None:
    def told(policy) -> tuple[str, set[str]]:
        checks = decide(near_chance, policy).checks
        [pooled] = [check.sentence for check in checks if check.check == "non_inferiority" and check.subject == "general suites"]
        return pooled, {check.subject for check in checks if check.check == "early_warning"}

    before, warned = told(GatePolicy())
    assert "left out" not in before
    assert warned == {"read"}
    now, warned = told(PolicyOfToday())
    assert "read is left out: the reference scores 59.0 %, not above its majority class (50.0 %)" in now
    assert "part is left out: the reference scores 51.0 %, not above its majority class (50.0 %)" in now
    assert warned == set(), "two of twenty passages moved"
