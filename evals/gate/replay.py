"""Recompute a stored verdict from stored items, by the rules that made it: equal inputs give an equal manifest.

again = replay(verdict_folder, {"candidate": folder, "champion": folder, "anchor:agnews": folder, "registered:piqa": folder})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from data_contracts.errors import EvaluationError
from data_contracts.manifests import CheckOutcome, Decision, Verdict, manifest_digest, read_manifest
from evals.gate import decide as gate
from evals.gate.policy import GatePolicy
from evals.gate.rules2 import decide as rules2
from evals.gate.rules2.policy import GatePolicy as PolicyOfRules2
from evals.gate.rules3 import decide as rules3
from evals.gate.rules3.policy import GatePolicy as PolicyOfRules3
from evals.gate.rules3.words import CATEGORY_WORDS
from evals.gate.rules4 import decide as rules4
from evals.gate.rules4.drift import EXPONENTS, flag, harder_text, less_likely
from evals.gate.rules4.policy import GatePolicy as PolicyOfRules4
from evals.gate.rules5.policy import GatePolicy as PolicyOfRules5
from evals.items import Evaluation, load_evaluation
from evals.numbers import with_exponent

#: (the last words of rules 3, those before a revision of their language). They decided the same, and a verdict keeps its words.
_SECOND_REVISION = ((" of the way from chance to a perfect score", " of the way from guessing to all right"),)
_FIRST_REVISION = (
    ("items per suite would decide it", "items a suite would decide it"),
    ("nats per item (", "nats an item ("),
    (": none was measured, so nothing", ": none was asked, so nothing"),
    ("none of them was measured, so nothing", "none of them was asked, so nothing"),
    (" lost on average", " lost as a whole"),
    (" is required, and not shown", " is asked for, and not shown"),
    ("The new skill was learned (required: ", "The new skill was learned (asked for: "),
    ("Pass: nothing was measured.", "Pass: nothing was asked."),
    (" is no longer measured; put it back", " is not asked any more; put it back"),
    *((f"it is not shown that {words} were kept", f"it is not shown that {words} was kept") for words in CATEGORY_WORDS.values()),
)
HEADLINE = (("no other loss is proven on ", "nothing else was lost on "), ("no loss is proven on ", "nothing was lost on "))
"""(The words of rules 4, those of their first release) in the headline of a PASS."""
REVISIONS = (_SECOND_REVISION, _FIRST_REVISION)
"""The newest first: a verdict of before the first revision is also of before the second."""


def replay(verdict_folder: Path, reports: Mapping[str, Path]) -> Verdict:
    """`reports` gives the folder of every report that the verdict names, by its role in `Verdict.inputs`.

    Raises EvaluationError where a folder holds another report than the one that the verdict names, and for rules that are not kept.
    """
    stored = read_manifest(verdict_folder, Verdict)
    rules = stored.policy.get("rules")
    if rules not in (2, 3, 4, 5, 6):
        what = f"was decided by rules {rules}, this release has rules 2 to 6"
        raise EvaluationError(f"verdict {verdict_folder}", what, "replay it with the release that decided it")
    loaded = {folder: load_evaluation(folder) for folder in set(reports.values())}
    by_role = {role: loaded[folder] for role, folder in reports.items()}
    for role in sorted(stored.inputs.keys() | by_role.keys()):
        found = manifest_digest(by_role[role].report) if role in by_role else None
        if stored.inputs.get(role) != found:
            what = f"its {role} report is not the one given"
            raise EvaluationError(f"verdict {verdict_folder}", what, "give the folders that the verdict names")
    verdict = _recomputed(stored, by_role).model_copy(update={"files": stored.files})
    if rules == 4:
        first = as_first_worded(verdict)
        return first if first == stored else verdict
    if rules != 3:
        return verdict
    earlier = (in_earlier_words(verdict, undone) for undone in range(1, len(REVISIONS) + 1))
    return next((each for each in earlier if each == stored), verdict)


def in_earlier_words(verdict: Verdict, undone: int = len(REVISIONS)) -> Verdict:
    """The verdict as rules 3 worded it before the newest `undone` revisions; by default as they worded it at first."""

    def earlier(sentence: str) -> str:
        for now, then in (words for revision in REVISIONS[:undone] for words in revision):
            sentence = sentence.replace(now, then)
        return sentence

    checks = tuple(check.model_copy(update={"sentence": earlier(check.sentence)}) for check in verdict.checks)
    return verdict.model_copy(update={"reasons": tuple(map(earlier, verdict.reasons)), "checks": checks})


def as_first_worded(verdict: Verdict) -> Verdict:
    """The verdict as rules 4 worded it at first: "nothing was lost" in the headline of a PASS, and numbers near zero as 7.2e-05."""

    def earlier(check: CheckOutcome) -> str:
        if check.effect is None or check.low is None or check.high is None or check.confidence is None or check.p_value is None:
            return check.sentence
        facts = (check.subject, check.n or 0, (check.effect, check.low, check.high), check.confidence, check.p_value)
        if check.check == "early_warning":
            return less_likely(*facts, numbers=EXPONENTS)
        return harder_text(*facts, check.margin or 0.0, numbers=EXPONENTS) if check.check == "drift_warning" else check.sentence

    flagged = dict(zip(flag(verdict.checks), flag(verdict.checks, with_exponent), strict=True))
    checks = tuple(check.model_copy(update={"sentence": earlier(check)}) for check in verdict.checks)
    reasons = [flagged.get(each, each) for each in verdict.reasons]
    if verdict.decision is Decision.PASS:
        for now, then in HEADLINE:
            reasons[0] = reasons[0].replace(now, then)
    return verdict.model_copy(update={"reasons": tuple(reasons), "checks": checks})


def _recomputed(stored: Verdict, reports: Mapping[str, Evaluation]) -> Verdict:
    evidence = gate.GateEvidence(
        candidate=reports["candidate"],
        champion=reports["champion"],
        anchors=_named(reports, "anchor:"),
        new_skill=stored.new_skill,
        attempts=stored.attempts,
        bootstrap=stored.bootstrap,
        registered=_named(reports, "registered:"),
        first_look=stored.first_look,
    )
    if stored.policy["rules"] == 2:
        older = rules2.GateEvidence(**{each.name: getattr(evidence, each.name) for each in fields(rules2.GateEvidence)})
        return rules2.decide(older, PolicyOfRules2.model_validate(stored.policy))
    if stored.policy["rules"] == 3:
        old = rules3.GateEvidence(**{each.name: getattr(evidence, each.name) for each in fields(rules3.GateEvidence)})
        return rules3.decide(old, PolicyOfRules3.model_validate(stored.policy))
    if stored.policy["rules"] == 4:
        before = rules4.GateEvidence(**{each.name: getattr(evidence, each.name) for each in fields(rules4.GateEvidence)})
        return rules4.decide(before, PolicyOfRules4.model_validate(stored.policy))
    policy = PolicyOfRules5 if stored.policy["rules"] == 5 else GatePolicy
    return gate.decide(evidence, policy.model_validate(stored.policy))


def _named(reports: Mapping[str, Evaluation], prefix: str) -> dict[str, Evaluation]:
    return {role.removeprefix(prefix): report for role, report in reports.items() if role.startswith(prefix)}
