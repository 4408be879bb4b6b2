"""Verdicts are recomputed byte for byte by the rules that made them (rules 3 in all their wordings); a changed one is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from data_contracts.manifests import Verdict, manifest_digest, manifest_text, write_manifest
from evals.gate import replay as replaying
from evals.gate.decide import GateEvidence, decide
from evals.gate.replay import replay
from evals.gate.rules3 import decide as rules3
from evals.gate.rules3.policy import GatePolicy
from evals.gate.rules4 import decide as rules4
from evals.gate.rules4.policy import GatePolicy as PolicyOfRules4
from evals.items import load_evaluation

# sha256 of the manifests that rules 3 wrote for the same evidence with their first words (commit ceb8562).
GOLDEN: dict[str, str] = {
    "pass": "491e9631006daf4e6e244bd57dea597f0cbda5cc333d784568f721edc98f3f6e",
    "proven and pooled loss": "c065a9c9a8be8724c456b787b84eab503fb2a9acf015ad3fee32087d16c49c15",
    "too few items": "b3254bf8364574463638ef34b8eebbcd9e25c30020f981fb8e6cdceff027e4fa",
    "nothing measured": "b1511fa2b6f0a4deb4038f810230f8378d72899a8a1876241e5d12937138b91d",
    "no earlier skill measured": "704f10bfe702be7af79231659d3bbb3bf5da710e357a711bc99baa1f4d7a9cfd",
    "retired without a reason": "a6cf9f1730352513bfdd18ed8b55ca02f022841f1fa1c7f75b1310aeaa7755ca",
    "early warning": "5313f8320c5455abe86c406bcdb350cd541daf2af3c0d46409df53419899371b",
    "drift alone": "57f387c6ec2e15958b51d310aa6c347445fab9114eb8e130f4f13a3177ebd6d8",
    "small gain": "88ef5b489d3efe947a148dd78951b4532d1379fce6893494e84aad8cfacf936b",
}


# The same with their last words (commit 83a7061).
LAST: dict[str, str] = {
    "pass": "c735451f1cf545c880042df2c043d376d7d086b26a30cfa398511f39f74e0484",
    "proven and pooled loss": "a86fe566d2d2427dae7a93f00c6909486bfc9aa7c0eafea3439a9d64b467d545",
    "too few items": "fcbcf0be18b19db8b0247d1498b6116b665415ed74efa0cda3a9e4285df823bf",
    "nothing measured": "a8bdbf1bbbd65ddd4028eec7772ffc7f3dbceba1df322ebe0834917dac901583",
    "no earlier skill measured": "df333c50ba73a5e89c6b71a630e50bfc998e549b099df63fca807fa345c3429b",
    "retired without a reason": "7d3fbcb86f2d88543be315611f60948469e3c8283814380fd924df0f4bc26751",
    "early warning": "066a4303716a5d0f93d444a3b27096a52d0901f7d7de88820ad35b52dc0b7510",
    "drift alone": "896cb08a952d28d0312343fcabda1f30f408bfe30aef8b5cf690eb39953308cc",
    "small gain": "c758721cdb5e5b83e510d3a9f2c4e4784e8cbacb02566d8bbab2df1493b1f83d",
}


@pytest.fixture
def made(evidence, make_suite, make_evaluation) -> Callable[[str], Verdict]:
    def verdict(case: str) -> Verdict:
        right = np.r_[np.ones(300), np.zeros(100)]
        likely = np.linspace(-2.0, -0.1, 400)
        suites = [make_suite(name, right, logprob=likely) for name in ("kept", "new")]
        unlikely = [make_suite(name, right, logprob=likely - np.linspace(0.1, 0.4, 400)) for name in ("kept", "new")]
        champion = make_evaluation("champion", *suites)
        text = make_evaluation("champion", make_suite("text", np.linspace(0.8, 1.2, 60), category="drift"))
        accepted = GatePolicy(accept_unmeasured=("general", "safety", "drift"))
        cases: dict[str, tuple[rules3.GateEvidence, GatePolicy]] = {
            "pass": (evidence(), GatePolicy(accept_unmeasured=("safety",))),
            "proven and pooled loss": (evidence(old=(60, 0), older=(60, 0), since={"old": 5}, attempts=2), GatePolicy()),
            "too few items": (evidence(old=(60, 60), older=(60, 60)), GatePolicy()),
            "nothing measured": (rules3.GateEvidence(champion, champion, dict.fromkeys(("kept", "new"), champion), None), GatePolicy()),
            "no earlier skill measured": (
                rules3.GateEvidence(make_evaluation("c", suites[1]), make_evaluation("d", suites[1]), {}, "new"),
                accepted,
            ),
            "retired without a reason": (
                replace(evidence(), registered={"gone": make_evaluation("old", make_suite("gone", right))}),
                accepted,
            ),
            "small gain": (evidence(gain=20), GatePolicy(min_scores={"new": 0.25})),
            "drift alone": (rules3.GateEvidence(text, text, {}, None, bootstrap=True), GatePolicy(accept_unmeasured=("general", "safety"))),
            "early warning": (rules3.GateEvidence(make_evaluation("c", *unlikely), champion, {"kept": champion}, "new"), accepted),
        }
        return rules3.decide(*cases[case])

    return verdict


@pytest.mark.parametrize("case", GOLDEN)
def test_the_first_words_of_rules_3_are_known(made: Callable[[str], Verdict], case: str) -> None:
    today, earlier = made(case), replaying.in_earlier_words(made(case))
    assert manifest_digest(earlier) == GOLDEN[case]
    assert [check.outcome for check in today.checks] == [check.outcome for check in earlier.checks]


@pytest.mark.parametrize("case", LAST)
def test_rules_3_write_the_bytes_that_they_wrote(made: Callable[[str], Verdict], case: str) -> None:
    assert manifest_digest(made(case)) == LAST[case]


def test_every_revised_sentence_occurs_in_a_case(made: Callable[[str], Verdict]) -> None:
    said = "\n".join(text for case in GOLDEN for text in (*made(case).reasons, *(check.sentence for check in made(case).checks)))
    others = ("general suites", "safety suites", "drift suites")  # the same sentence as of the earlier skills
    unseen = [now for revision in replaying.REVISIONS for now, _ in revision if now not in said]
    assert unseen == [f"it is not shown that {words} were kept" for words in others]


@pytest.mark.parametrize("tampered", [False, True])
@pytest.mark.parametrize("undone", [0, 1, 2])
def test_a_verdict_is_replayed_in_the_words_that_it_was_stored_in(
    tmp_path, evidence, store_evaluation, tampered: bool, undone: int
) -> None:
    built = evidence(old=(60, 60), older=(60, 60))
    folders = {who: store_evaluation(getattr(built, who), tmp_path / who) for who in ("candidate", "champion")}
    anchors = {f"anchor:{name}": store_evaluation(each, tmp_path / name) for name, each in built.anchors.items()}
    loaded = replace(
        built,
        candidate=load_evaluation(folders["candidate"]),
        champion=load_evaluation(folders["champion"]),
        anchors={role.removeprefix("anchor:"): load_evaluation(folder) for role, folder in anchors.items()},
    )
    verdict = replaying.in_earlier_words(rules3.decide(loaded, GatePolicy()), undone)
    if tampered:
        verdict = verdict.model_copy(update={"reasons": (verdict.reasons[0].replace("not shown", "shown"), *verdict.reasons[1:])})
    stored = write_manifest(tmp_path / "verdict", verdict).read_text()
    again = manifest_text(replaying.replay(tmp_path / "verdict", folders | anchors))
    assert ("items a suite would decide it" in stored) is (undone == 2)
    assert ("from guessing to all right" in stored) is (undone >= 1)
    assert (again == stored) is not tampered


def test_a_verdict_with_own_margins_is_replayed_to_the_byte(tmp_path, evidence, store_evaluation, asked) -> None:
    from evals.items import load_evaluation

    made = evidence(old=(24, 2), drift=1.004, margins={"old": 0.1, "text": 0.05}, since={"old": 5})
    folders = {who: store_evaluation(getattr(made, who), tmp_path / who) for who in ("candidate", "champion")}
    anchors = {name: store_evaluation(each, tmp_path / f"anchor-{name}") for name, each in made.anchors.items()}
    loaded = {who: load_evaluation(folder) for who, folder in folders.items()}
    verdict = decide(replace(made, **loaded, anchors={name: load_evaluation(folder) for name, folder in anchors.items()}), asked())
    stored = write_manifest(tmp_path / "verdict", verdict).read_text()
    assert '"check":"margin"' in stored
    assert manifest_text(replay(tmp_path / "verdict", folders | {f"anchor:{name}": folder for name, folder in anchors.items()})) == stored


@pytest.mark.parametrize("policy", [{}, {"alpha": 0.2, "floor": 0.3, "floors": {"old": 0.4}}])
def test_replay_gives_the_same_bytes(tmp_path, evidence, store_evaluation, asked, policy: dict[str, object]) -> None:
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
    verdict = decide(loaded, asked(**policy))
    stored = write_manifest(tmp_path / "verdict", verdict).read_text()
    assert manifest_text(replay(tmp_path / "verdict", folders | {f"anchor:{name}": folder for name, folder in anchors.items()})) == stored


def test_replay_refuses_another_report(tmp_path, evidence, store_evaluation, asked) -> None:
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


# sha256 of the manifest that rules 4 wrote for the evidence below before numbers near zero lost their exponents (commit 3f2639f).
WITH_EXPONENTS = "76022b21160d3f47b30aeb54a97b3607d30352c9255729b2a5e80890d59a3f8d"


@pytest.fixture
def near_zero(make_suite, make_evaluation) -> GateEvidence:
    """Answers that became less likely by about 7e-5 nats, and text that became harder to predict by about 5e-7."""
    right, likely = np.r_[np.ones(300), np.zeros(100)], np.linspace(-2.0, -0.1, 400)
    text = np.linspace(0.8, 1.2, 60)

    def suites(less: float, more: float) -> list:
        spread = np.linspace(0.5, 1.5, 400)
        return [
            make_suite("kept", right, logprob=likely - less * spread),
            make_suite("text", text * (1.0 + more * np.linspace(0.5, 1.5, 60)), category="drift"),
        ]

    champion = make_evaluation("champion", *suites(0.0, 0.0))
    return GateEvidence(make_evaluation("candidate", *suites(7e-5, 5e-7)), champion, {"kept": champion}, None)


def test_numbers_near_zero_have_no_exponent_in_new_verdicts_and_keep_it_in_old_ones(near_zero, asked) -> None:
    verdict = decide(near_zero, asked())
    said = [*verdict.reasons, *(check.sentence for check in verdict.checks)]
    assert verdict.reasons[0] == "Pass: no loss is proven on 1 suite."
    assert any("less likely by less than 0.0001 nats per item" in text for text in said)
    assert any("harder to predict" in text and "by less than 0.0001 %" in text for text in said)
    assert not any(re.search(r"\d[eE][-+−]?\d", text) for text in said)
    before = rules4.decide(near_zero, PolicyOfRules4(accept_unmeasured=("general", "safety", "drift")))
    assert manifest_digest(replaying.as_first_worded(before)) == WITH_EXPONENTS


@pytest.mark.parametrize("stored_with_exponents", [True, False])
def test_a_verdict_of_rules_4_is_replayed_with_the_numbers_that_it_was_stored_with(
    tmp_path, near_zero, store_evaluation, stored_with_exponents: bool
) -> None:
    folders = {who: store_evaluation(getattr(near_zero, who), tmp_path / who) for who in ("candidate", "champion")}
    folders["anchor:kept"] = store_evaluation(near_zero.anchors["kept"], tmp_path / "anchor")
    loaded = {role: load_evaluation(folder) for role, folder in folders.items()}
    made = rules4.GateEvidence(loaded["candidate"], loaded["champion"], {"kept": loaded["anchor:kept"]}, None)
    verdict = rules4.decide(made, PolicyOfRules4(accept_unmeasured=("general", "safety", "drift")))
    kept = replaying.as_first_worded(verdict) if stored_with_exponents else verdict
    stored = write_manifest(tmp_path / "verdict", kept).read_text()
    assert ("e-05 nats per item" in stored) is stored_with_exponents
    assert manifest_text(replay(tmp_path / "verdict", folders)) == stored
