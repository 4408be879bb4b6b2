"""Rules 2: from stored items and a policy to a verdict. `evals.gate.decide.replay` calls it for verdicts that say `rules: 2`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from data_contracts.manifests import Category, CheckOutcome, Decision, Verdict, manifest_digest
from evals.gate.pairing import Pair, pair_suite
from evals.gate.rules2 import checks as gate_checks
from evals.gate.rules2 import drift as gate_drift
from evals.gate.rules2.policy import GatePolicy, Level
from evals.gate.rules2.validity import find_faults, gate_suites
from evals.gate.rules2.words import CATEGORY_WORDS, outcome, size
from evals.items import Evaluation

RULED_OUT = ("non_inferiority", "margin")  # the checks against the champion that rule a loss out


@dataclass(frozen=True)
class GateEvidence:
    """What the gate reads.

    `anchors` gives each earlier skill's suite the evaluation of the checkpoint that learned it, and each general and safety suite the
    base's. `attempts` counts how often this round has been tried (1 = the first). `bootstrap` says that there are no earlier skills, as in
    the first round. `new_skill` is None where nothing new was trained (a model against a copy of itself).
    """

    candidate: Evaluation
    champion: Evaluation
    anchors: Mapping[str, Evaluation]
    new_skill: str | None
    attempts: int = 1
    bootstrap: bool = False


def decide(evidence: GateEvidence, policy: GatePolicy) -> Verdict:
    """Judge a candidate. Never raises for bad evidence: that is the decision ERROR, with the faults as reasons."""
    faults = find_faults(evidence.candidate, evidence.champion, evidence.anchors, evidence.new_skill, policy.required_suites)
    faults += _lineage_faults(evidence)
    checks = [outcome("validity", suite, "error", f"{_sentence(fault)}.") for suite, fault in faults]
    if not checks:
        checks = ask_everything(evidence, policy)
    decision = decide_from(checks)
    losses = {check.subject for check in checks if check.outcome == "block" and check.check != "gain"}
    lost = tuple(sorted(losses & set(evidence.candidate.suites)))
    return Verdict(
        decision=decision,
        reasons=tuple(state_reasons(decision, checks, lost, evidence, policy.alpha)),
        checks=tuple(checks),
        lost=lost,
        policy=policy.model_dump(mode="json"),
        candidate_sha256=evidence.candidate.model_sha256,
        champion_sha256=evidence.champion.model_sha256,
        inputs=_input_digests(evidence),
        new_skill=evidence.new_skill,
        attempts=evidence.attempts,
        bootstrap=evidence.bootstrap,
    )


def _sentence(fault: str) -> str:
    """Capitalised, unless it opens with a suite's name."""
    return f"T{fault[1:]}" if fault.startswith(("the ", "there ")) else fault


def _lineage_faults(evidence: GateEvidence) -> list[tuple[str, str]]:
    if evidence.attempts < 1:
        return [("attempts", f"attempts is {evidence.attempts}; the first attempt is 1")]
    earlier = [name for name, items in gate_suites(evidence.candidate).items() if items.category == "skill" and name != evidence.new_skill]
    if not earlier and not evidence.bootstrap:
        return [("skill", "there is no earlier skill to protect; if this really is the first round, say bootstrap: true")]
    return []


def ask_everything(evidence: GateEvidence, policy: GatePolicy) -> list[CheckOutcome]:
    """Points 2 to 6, in the order of interest to a reader."""
    level = policy.level(evidence.attempts)
    pairs = _pairs(evidence.candidate, dict.fromkeys(evidence.candidate.suites, evidence.champion))
    anchored = _pairs(evidence.candidate, evidence.anchors)
    kept = [pair for pair in pairs if pair.name != evidence.new_skill]
    since = [pair for pair in anchored if pair.name != evidence.new_skill]
    checks = [gate_checks.gain(pair, level, policy) for pair in pairs if pair.name == evidence.new_skill]
    for category in get_args(Category)[:3]:
        mine, moved = ([pair for pair in each if pair.category == category] for each in (kept, since))
        checks += ask_category(category, mine, moved, evidence.champion.model_sha256, level, policy)
    checks += gate_checks.regressions([pair for pair in kept if pair.category != "drift"], policy, "champion")
    # Where the anchor is the champion itself the stricter test was just made.
    older = [pair for pair in since if pair.reference_sha256 != evidence.champion.model_sha256]
    checks += gate_checks.regressions([pair for pair in older if pair.category != "drift"], policy, "anchor")
    texts, texts_since = ([pair for pair in each if pair.category == "drift"] for each in (kept, older))
    checks += [gate_drift.drift(pair, policy.drift_limits(pair.margin)[0], level, policy, "champion") for pair in texts]
    checks += [gate_drift.drift(pair, policy.drift_limits(pair.margin)[1], level, policy, "anchor") for pair in texts_since]
    return checks + gate_drift.early_warnings(kept, policy)


def ask_category(
    category: Category, kept: list[Pair], since: list[Pair], champion_sha256: str, level: Level, policy: GatePolicy
) -> list[CheckOutcome]:
    """Non-inferiority of one category: its suites together, and each suite that has a margin of its own by itself.

    `kept` pairs with the champion, `since` with the anchors.
    """
    together, own = [pair for pair in kept if pair.margin is None], [pair for pair in kept if pair.margin is not None]
    checks: list[CheckOutcome] = []
    if together or not own:
        checks.append(gate_checks.non_inferiority(category, together, policy.margin(category), level, policy, "champion"))
    checks += [gate_checks.own_margin(pair, level, policy, "champion") for pair in own]
    moved = [pair for pair in since if pair.margin is None]
    if any(pair.reference_sha256 != champion_sha256 for pair in moved):
        checks.append(gate_checks.non_inferiority(category, moved, policy.anchor_budget, level, policy, "anchor"))
    older = [pair for pair in since if pair.margin is not None and pair.reference_sha256 != champion_sha256]
    return checks + [gate_checks.own_margin(pair, level, policy, "anchor") for pair in older]


def _pairs(candidate: Evaluation, references: Mapping[str, Evaluation]) -> list[Pair]:
    found = []
    for name, items in gate_suites(candidate).items():
        if name in references and name in references[name].suites:
            found.append(pair_suite(items, references[name].suites[name], references[name].model_sha256))
    return found


def decide_from(checks: list[CheckOutcome]) -> Decision:
    """Fails closed: PASS only where every answer is a pass or not applicable."""
    outcomes = {check.outcome for check in checks}
    if not checks or "error" in outcomes:
        return Decision.ERROR
    if "block" in outcomes:
        return Decision.BLOCK
    return Decision.PASS if outcomes <= {"pass", "n/a"} else Decision.INCONCLUSIVE


def state_reasons(decision: Decision, checks: list[CheckOutcome], lost: tuple[str, ...], evidence: GateEvidence, alpha: float) -> list[str]:
    """A headline, then the sentences that carry the decision: one per lost suite, not one per test."""
    if decision is Decision.PASS:
        kept = len({check.subject for check in checks if check.check == "regression"})
        learned = f" and {evidence.new_skill} was learned" if evidence.new_skill else ""
        shown = [check.sentence for check in checks if check.check in ("gain", *RULED_OUT, "drift") and check.outcome == "pass"]
        asked = [check for check in checks if check.check == "regression" and check.outcome == "pass"]
        spent = [check.subject for check in asked if check.p_value is not None and check.p_value <= alpha]
        nothing = f"{', '.join(spent)} lost something within its own margin; nothing else was" if spent else "nothing was"
        headline = f"Pass: {nothing} lost on {kept} suite{'' if kept == 1 else 's'}{learned}."
        return [headline, *shown, *_sensitivity(checks), *gate_drift.flag(checks)]
    wanted = {Decision.ERROR: "error", Decision.BLOCK: "block", Decision.INCONCLUSIVE: "inconclusive"}[decision]
    carrying = [check for check in checks if check.outcome == wanted]
    if decision is Decision.BLOCK:
        # One sentence a subject, and what was lost before the means that moved with it.
        first = {check.subject: check for check in reversed(carrying)}.values()
        wholes = set(CATEGORY_WORDS.values())
        carrying = sorted(first, key=lambda check: (check.subject in wholes, check.check == "gain", check.subject))
    told = [_headline(decision, lost, checks, evidence), *(check.sentence for check in carrying)]
    return [*told, *_sensitivity(checks), *gate_drift.flag(checks)]


def _sensitivity(checks: list[CheckOutcome]) -> list[str]:
    """What these items could have shown: without it, "nothing was lost" means little."""
    seen = [check for check in checks if check.check in RULED_OUT and check.minimum_detectable_effect is not None]
    if not seen:
        return []
    parts = [f"{size(check.minimum_detectable_effect or 0.0)} of {_the(check.subject)}" for check in seen]
    return [f"Minimum detectable effect: with these items a mean loss of {' or '.join(parts)} would probably have been seen."]


def _the(subject: str) -> str:
    return f"the {subject}" if subject in CATEGORY_WORDS.values() else subject


def _headline(decision: Decision, lost: tuple[str, ...], checks: list[CheckOutcome], evidence: GateEvidence) -> str:
    if decision is Decision.ERROR:
        return "Error: the evidence cannot be compared, so nothing was decided and nothing is promoted."
    if decision is Decision.INCONCLUSIVE:
        return "Inconclusive: no loss is proven, but neither is that all was kept and learned. Evaluate more items, or let a person decide."
    blocked = {check.subject for check in checks if check.outcome == "block"}
    pooled = [words for words in CATEGORY_WORDS.values() if words in blocked]
    causes = [f"lost {', '.join(lost)}"] if lost else []
    causes += [f"{' and '.join(pooled)} lost as a whole"] if pooled else []
    causes += [f"{evidence.new_skill} was not learned"] if evidence.new_skill in blocked else []
    return f"Blocked: {'; '.join(causes)}."


def _input_digests(evidence: GateEvidence) -> dict[str, str]:
    anchors = {f"anchor:{name}": manifest_digest(evidence.anchors[name].report) for name in sorted(evidence.anchors)}
    return {"candidate": manifest_digest(evidence.candidate.report), "champion": manifest_digest(evidence.champion.report), **anchors}
