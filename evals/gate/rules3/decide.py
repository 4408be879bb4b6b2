"""The gate: a pure function from stored items and a policy to a verdict with its reasons.

    verdict = decide(GateEvidence(candidate, champion, anchors, "agnews"), GatePolicy())

PASS needs every non-inferiority shown and a gain that is of use; BLOCK is a proven loss, a drop through the floor, or no gain; ERROR is
evidence that cannot be compared; everything else is INCONCLUSIVE, and so is what was not measured. The same evidence and policy give the
same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from data_contracts.manifests import Category, CheckOutcome, Decision, Verdict, manifest_digest
from evals.gate.pairing import Pair, pair_suite
from evals.gate.rules3 import checks as gate_checks
from evals.gate.rules3 import drift as gate_drift
from evals.gate.rules3.gain import gain
from evals.gate.rules3.policy import GatePolicy, Level
from evals.gate.rules3.reasons import state_reasons
from evals.gate.rules3.validity import find_faults, gate_suites, registered_faults
from evals.gate.rules3.words import CATEGORY_WORDS, outcome
from evals.items import Evaluation
from evals.statistics import reach

__all__ = ["GateEvidence", "GatePolicy", "decide", "items_wanted"]

SECOND_LOOK_POWER = 0.95


@dataclass(frozen=True)
class GateEvidence:
    """What the gate reads.

    `anchors` gives each earlier skill's suite the evaluation of the checkpoint that learned it, and each general and safety suite the
    base's. `attempts` counts how often this round has been tried (1 = the first). `bootstrap` says that there are no earlier skills, as in
    the first round. `new_skill` is None where nothing new was trained (a model against a copy of itself). `registered` gives each suite
    that an earlier champion was held to the evaluation that this champion was registered with.
    """

    candidate: Evaluation
    champion: Evaluation
    anchors: Mapping[str, Evaluation]
    new_skill: str | None
    attempts: int = 1
    bootstrap: bool = False
    registered: Mapping[str, Evaluation] = field(default_factory=dict)


def decide(evidence: GateEvidence, policy: GatePolicy) -> Verdict:
    """Judge a candidate. Never raises for bad evidence: that is the decision ERROR, with the faults as reasons."""
    faults = find_faults(evidence.candidate, evidence.champion, evidence.anchors, evidence.new_skill, policy.required_suites)
    faults += registered_faults(evidence.candidate, evidence.registered, policy.retired_suites)
    faults += _lineage_faults(evidence, policy)
    checks = [outcome("validity", suite, "error", f"{_sentence(fault)}.") for suite, fault in faults]
    if not checks:
        checks = ask_everything(evidence, policy)
    decision = decide_from(checks)
    losses = {check.subject for check in checks if check.outcome == "block" and check.check != "gain"}
    lost = tuple(sorted(losses & set(evidence.candidate.suites)))
    return Verdict(
        decision=decision,
        reasons=tuple(state_reasons(decision, checks, lost, evidence.new_skill, evidence.registered, policy)),
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


def _lineage_faults(evidence: GateEvidence, policy: GatePolicy) -> list[tuple[str, str]]:
    if evidence.attempts < 1:
        return [("attempts", f"attempts is {evidence.attempts}; the first attempt is 1")]
    earlier = [name for name, items in gate_suites(evidence.candidate).items() if items.category == "skill" and name != evidence.new_skill]
    if not earlier and not evidence.bootstrap and "skill" not in policy.accept_unmeasured:
        return [("skill", "there are earlier skills and none of them was measured, so nothing shows that they were kept")]
    return []


def ask_everything(evidence: GateEvidence, policy: GatePolicy) -> list[CheckOutcome]:
    """Points 2 to 6, in the order in which a reader wants the answers."""
    level = policy.level(evidence.attempts)
    pairs = _pairs(evidence.candidate, dict.fromkeys(evidence.candidate.suites, evidence.champion))
    anchored = _pairs(evidence.candidate, evidence.anchors)
    kept = [pair for pair in pairs if pair.name != evidence.new_skill]
    since = [pair for pair in anchored if pair.name != evidence.new_skill]
    checks = [gain(pair, level, policy) for pair in pairs if pair.name == evidence.new_skill]
    checks += unmeasured({pair.category for pair in kept}, evidence.bootstrap, policy)
    for category in get_args(Category)[:3]:
        mine, moved = ([pair for pair in each if pair.category == category] for each in (kept, since))
        if not mine:
            continue
        checks += ask_category(category, mine, moved, evidence.champion.model_sha256, level, policy)
    checks += gate_checks.regressions([pair for pair in kept if pair.category != "drift"], policy, "champion")
    # Where the anchor is the champion itself the stricter check was made above.
    older = [pair for pair in since if pair.reference_sha256 != evidence.champion.model_sha256]
    checks += gate_checks.regressions([pair for pair in older if pair.category != "drift"], policy, "anchor")
    texts, texts_since = ([pair for pair in each if pair.category == "drift"] for each in (kept, older))
    checks += [gate_drift.drift(pair, policy.drift_limits(pair.margin)[0], level, policy, "champion") for pair in texts]
    checks += [gate_drift.drift(pair, policy.drift_limits(pair.margin)[1], level, policy, "anchor") for pair in texts_since]
    doubted = [pair for pair in pairs if pair.candidate.result.doubt]
    return [*doubt_measurements(checks, doubted), *gate_drift.early_warnings(kept, policy)]


def unmeasured(measured: set[Category], bootstrap: bool, policy: GatePolicy) -> list[CheckOutcome]:
    """Missing evidence never passes: a category that was not measured is held, unless the policy accepts that by name."""
    checks = []
    for category in get_args(Category):
        if category in measured:
            continue
        words = CATEGORY_WORDS[category]
        if category == "skill" and bootstrap:
            sentence = "Earlier skills: there are none yet, so there is nothing to lose."
            checks.append(outcome("non_inferiority", words, "n/a", sentence))
        elif category in policy.accept_unmeasured:
            checks.append(outcome("unmeasured", words, "n/a", f"{words.capitalize()}: not measured; gate.accept_unmeasured accepts that."))
        else:
            sentence = f"{words.capitalize()}: none was measured, so nothing shows what the round cost them."
            checks.append(outcome("unmeasured", words, "inconclusive", sentence))
    return checks


def doubt_measurements(checks: list[CheckOutcome], doubted: Sequence[Pair]) -> list[CheckOutcome]:
    """A suite that may be measured wrongly proves nothing, neither a loss nor that nothing was learned."""
    why = {pair.name: pair.candidate.result.doubt for pair in doubted}
    held = [
        check.model_copy(update={"outcome": "inconclusive", "items_needed": None})
        if check.subject in why and check.outcome in ("block", "inconclusive")
        else check
        for check in checks
    ]
    sentences = {name: f"{name} may be measured wrongly: {phrase}." for name, phrase in why.items()}
    return [*(outcome("measurement", name, "inconclusive", sentence) for name, sentence in sentences.items()), *held]


def ask_category(
    category: Category, kept: list[Pair], since: list[Pair], champion_sha256: str, level: Level, policy: GatePolicy
) -> list[CheckOutcome]:
    """Non-inferiority of one category: its suites together, and each suite that has a margin of its own by itself.

    `kept` pairs with the champion, `since` with the anchors.
    """
    together, own = [pair for pair in kept if pair.margin is None], [pair for pair in kept if pair.margin is not None]
    checks: list[CheckOutcome] = []
    if together:
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


def items_wanted(verdict: Verdict, candidate: Evaluation) -> dict[str, int]:
    """Suite -> how many items a second look should read; empty where more items are not expected to help.

    The verdict says how many decide with the policy's power. Evaluating items costs less than a person's time, and after this look a
    person decides, so the look gets enough for a chance of `SECOND_LOOK_POWER`. A second look counts as another attempt.
    """
    policy = GatePolicy.model_validate(verdict.policy)
    again = policy.level(verdict.attempts).again
    factor = (reach(again, SECOND_LOOK_POWER) / reach(again, policy.power)) ** 2
    wanted: dict[str, int] = {}
    held = [check for check in verdict.checks if check.outcome == "inconclusive"]
    if any(check.items_needed is None for check in held):
        return {}  # a second look could not promote, whatever its items say
    for check in held:
        if check.items_needed is None:
            continue
        for name, items in gate_suites(candidate).items():
            of_its_category = check.subject == CATEGORY_WORDS[items.category] and name != verdict.new_skill
            if check.subject != name and not of_its_category:
                continue
            wanted[name] = max(wanted.get(name, 0), math.ceil(max(1.0, factor) * check.items_needed))
    return wanted


def _input_digests(evidence: GateEvidence) -> dict[str, str]:
    anchors = {f"anchor:{name}": manifest_digest(evidence.anchors[name].report) for name in sorted(evidence.anchors)}
    registered = {f"registered:{name}": manifest_digest(evidence.registered[name].report) for name in sorted(evidence.registered)}
    return {
        "candidate": manifest_digest(evidence.candidate.report),
        "champion": manifest_digest(evidence.champion.report),
        **anchors,
        **registered,
    }
