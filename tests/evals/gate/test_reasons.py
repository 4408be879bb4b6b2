"""A verdict's reasons: a headline, the sentences that carry it, and what the config takes out of the gate's sight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_contracts.manifests import Decision
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.items import Evaluation


def _without(evaluation: Evaluation, name: str) -> Evaluation:
    return replace(evaluation, suites={key: items for key, items in evaluation.suites.items() if key != name})


def test_what_is_accepted_by_name_is_repeated_in_every_verdict(evidence) -> None:
    said = "Not measured, and accepted by gate.accept_unmeasured: safety suites."
    policy = GatePolicy(accept_unmeasured=("safety",))
    for made, decision in ((evidence(), Decision.PASS), (evidence(old=(40, 0)), Decision.BLOCK), (evidence(gain=3), Decision.INCONCLUSIVE)):
        verdict = decide(made, policy)
        assert (verdict.decision, said in verdict.reasons) == (decision, True)


def _removed(made: GateEvidence) -> GateEvidence:
    return replace(made, candidate=_without(made.candidate, "old"), champion=_without(made.champion, "old"))


def test_a_suite_is_retired_on_record(evidence, asked) -> None:
    made = evidence()
    made = _removed(replace(made, registered=dict.fromkeys(("old", "older"), made.champion)))
    verdict = decide(made, asked(retired_suites={"old": "its items were published"}))
    assert verdict.decision is Decision.PASS
    assert "Retired by gate.retired_suites: old (its items were published)." in verdict.reasons
    with pytest.raises(ValueError, match="at least 3 characters"):
        GatePolicy(retired_suites={"old": " "})


@pytest.mark.parametrize("lost", [0, 12, 40])
def test_every_verdict_prints_what_could_have_been_seen(evidence, lost: int, asked) -> None:
    reasons = decide(evidence(old=(lost, 0)), asked()).reasons
    assert any(reason.startswith("Minimum detectable effect: with these items a mean loss of ") for reason in reasons)
