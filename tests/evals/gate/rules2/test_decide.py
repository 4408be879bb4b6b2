"""Verdicts that rules 2 made are recomputed by rules 2, byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from data_contracts.errors import EvaluationError
from data_contracts.manifests import manifest_digest, manifest_text, write_manifest
from evals.gate.replay import replay
from evals.gate.rules2 import decide as rules2
from evals.gate.rules2.policy import GatePolicy
from evals.items import load_evaluation

# sha256 of the manifests that the last release with rules 2 wrote for the same evidence (commit 20fd20b).
GOLDEN = {
    "pass": "461634e78ed2c67ce0c3fa14dd2517050f0eadc0bdc6ee08780c9556ae89b6ec",
    "loss": "d77b0a7347f0877a5bad699a421f27f11ec7a77c0554a1cf86300ee72bde5bb3",
    "hold": "4fb3b14e9d564fc2d4032172fd22978ff89d23e9959dce25b1d91c2301319eeb",
    "own margin": "6227f331636777f9c9fbc9997acbb247a727d37a1d13c9ea9555b990bb79ecd0",
    "no gain": "193d4a4b7f36d6c42ad1082922851e3f02a333749b9cf9f823eb1d2b047a7f83",
    "error": "6b32f6789dfac30e7377c0f2cb953b4cbe61a2799d96b257421a80c5033a2ac2",
    "small": "6eda1365a215975fd2252bfe0129d806ffdc33a99680470ca09d12101ec76ee4",
}


@pytest.mark.parametrize("case", GOLDEN)
def test_rules_2_write_the_bytes_that_they_wrote(evidence, make_suite, make_evaluation, case: str) -> None:
    right = np.r_[np.ones(300), np.zeros(100)]
    champion = make_evaluation("d", make_suite("tiny", np.ones(29)), make_suite("real", right))
    candidate = make_evaluation("c", make_suite("tiny", np.zeros(29)), make_suite("real", right))
    made = {
        "pass": evidence(),
        "loss": evidence(old=(30, 2), since={"old": 5}, attempts=2),
        "hold": evidence(old=(60, 60), older=(60, 60), gain=3),
        "own margin": evidence(old=(24, 2), drift=1.004, margins={"old": 0.1, "text": 0.05}),
        "no gain": evidence(gain=0),
        "error": replace(evidence(), anchors={}),
        "small": rules2.GateEvidence(candidate, champion, dict.fromkeys(("tiny", "real"), champion), None),
    }[case]
    assert manifest_digest(rules2.decide(made, GatePolicy())) == GOLDEN[case]


def test_replay_asks_the_rules_that_made_the_verdict(tmp_path, evidence, store_evaluation) -> None:
    made = evidence(gain=40)  # rules 2 promote it, rules 3 ask for more
    folders = {who: store_evaluation(getattr(made, who), tmp_path / who) for who in ("candidate", "champion")}
    folders |= {f"anchor:{name}": store_evaluation(each, tmp_path / f"anchor-{name}") for name, each in made.anchors.items()}
    anchors = {role.removeprefix("anchor:"): load_evaluation(folder) for role, folder in folders.items() if role.startswith("anchor:")}
    loaded = rules2.GateEvidence(load_evaluation(folders["candidate"]), load_evaluation(folders["champion"]), anchors, "new")
    verdict = rules2.decide(loaded, GatePolicy())
    assert verdict.decision.value == "PASS"
    stored = write_manifest(tmp_path / "verdict", verdict).read_text()
    assert manifest_text(replay(tmp_path / "verdict", folders)) == stored
    assert "confidence" not in json.loads(stored)["checks"][0], "fields of later releases do not change an old digest"


@pytest.mark.parametrize("rules", [1, 7, None])
def test_rules_that_are_not_kept_are_refused_in_one_line(tmp_path, evidence, rules: int | None) -> None:
    verdict = rules2.decide(evidence(), GatePolicy())
    write_manifest(tmp_path, verdict.model_copy(update={"policy": {**verdict.policy, "rules": rules}}))
    with pytest.raises(EvaluationError, match=f"decided by rules {rules}, this release has rules 2 to 6") as caught:
        replay(tmp_path, {})
    assert "\n" not in str(caught.value)
