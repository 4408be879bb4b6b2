"""Rules 4 decide as they did: the same evidence gives the bytes that they wrote, and replay asks them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import manifest_digest, manifest_text, write_manifest
from evals.gate.replay import replay
from evals.gate.rules4 import decide as rules4
from evals.gate.rules4.policy import GatePolicy
from evals.items import load_evaluation

# sha256 of the manifests that the gate wrote for the same evidence while rules 4 were its rules (commit c0c3c70).
GOLDEN: dict[str, str] = {
    "pass": "3c15fa79e0fec5529387edfaaf201fbbfa53f12d038f5ce7ba53e8afbff6cb7f",
    "loss": "bce089650d4fa02063ec2fda8c8aadfc6421d4bdc96a78bae2a5f5409aadbd0b",
    "hold": "b1c341b6e1ebeae2e85c7a4d3b958689d5858d39653752a6ac75a861abb3a406",
    "own margin": "d607c4bb8ce03e0980b436cd699c34e97c5e037d334f3104db30afecec9e871c",
    "no gain": "9b950ebd268b33e28d7f77b16beb33b4449230791a3738441dab215f8cf35069",
    "error": "6239963c18d1b30b2dccfbd6f487e361a86e8ab3e8b2263fff13ae0a57d0d3db",
    "passages": "42a0859a50a8abfbbf0e4fa95ffbaad55ea9380c967985359652869f21380075",
    "second look": "d28da842aca2adbfe2bf4a5c696b78d29b05088e9c9dbc1c2416a5823a6c8629",
    "drift alone": "d09b9df07811d82fe5eca064d5a53f8410e450c4b253b683f3a41ec7e9ba053b",
}


@pytest.mark.parametrize("case", GOLDEN)
def test_rules_4_write_the_bytes_that_they_wrote(evidence, make_suite, make_evaluation, case: str) -> None:
    right, passages = np.r_[np.ones(300), np.zeros(100)], [str(index // 4) for index in range(400)]
    champion = make_evaluation("d", make_suite("tiny", np.ones(29)), make_suite("read", right, cluster=passages))
    lost = np.r_[np.zeros(4), np.ones(296), np.zeros(100)]
    candidate = make_evaluation("c", make_suite("tiny", np.zeros(29)), make_suite("read", lost, cluster=passages))
    text = make_evaluation("champion", make_suite("text", np.linspace(0.8, 1.2, 60), category="drift"))
    looked = dict.fromkeys(("old", "older", "new", "piqa"), 400) | {"text": 60}
    made, policy = {
        "pass": (evidence(), GatePolicy(accept_unmeasured=("safety",))),
        "loss": (evidence(old=(30, 2), since={"old": 5}, attempts=2), GatePolicy()),
        "hold": (evidence(old=(60, 60), older=(60, 60), gain=3), GatePolicy()),
        "own margin": (evidence(old=(24, 2), drift=1.004, margins={"old": 0.1, "text": 0.05}), GatePolicy()),
        "no gain": (evidence(gain=0), GatePolicy()),
        "error": (replace(evidence(), anchors={}), GatePolicy()),
        "passages": (rules4.GateEvidence(candidate, champion, dict.fromkeys(("tiny", "read"), champion), None), GatePolicy()),
        "second look": (evidence(old=(9, 9), first_look=looked), GatePolicy(accept_unmeasured=("safety",))),
        "drift alone": (rules4.GateEvidence(text, text, {}, None, bootstrap=True), GatePolicy(accept_unmeasured=("general", "safety"))),
    }[case]
    assert manifest_digest(rules4.decide(made, policy)) == GOLDEN[case]


def test_replay_asks_the_rules_that_made_the_verdict(tmp_path, evidence, store_evaluation) -> None:
    made = evidence(old=(60, 60), older=(60, 60))
    folders = {who: store_evaluation(getattr(made, who), tmp_path / who) for who in ("candidate", "champion")}
    folders |= {f"anchor:{name}": store_evaluation(each, tmp_path / f"anchor-{name}") for name, each in made.anchors.items()}
    anchors = {role.removeprefix("anchor:"): load_evaluation(folder) for role, folder in folders.items() if role.startswith("anchor:")}
    loaded = rules4.GateEvidence(load_evaluation(folders["candidate"]), load_evaluation(folders["champion"]), anchors, "new")
    verdict = rules4.decide(loaded, GatePolicy())
    stored = write_manifest(tmp_path / "verdict", verdict).read_text()
    assert '"rules":4' in stored
    assert manifest_text(replay(tmp_path / "verdict", folders)) == stored
