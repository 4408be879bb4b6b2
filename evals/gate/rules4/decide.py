"""The gate: a pure function from stored items and a policy to a verdict with its reasons.

    verdict = decide(GateEvidence(candidate, champion, anchors, "agnews"), GatePolicy())

PASS needs every non-inferiority shown and a gain that is of use; BLOCK is a proven loss, a drop through the floor, or no gain; ERROR is
evidence that cannot be compared; everything else is INCONCLUSIVE, and so is what was not measured. The same evidence and policy give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from data_contracts.manifests import Category, CheckOutcome, Decision, Verdict, manifest_digest
from evals.gate.pairing import Pair, pair_suite
from evals.gate.rules3.validity import find_faults, gate_suites, registered_faults
from evals.gate.rules3.words import CATEGORY_WORDS, outcome
from evals.gate.rules4 import checks as gate_checks
from evals.gate.rules4 import drift as gate_drift
from evals.gate.rules4.gain import gain
from evals.gate.rules4.policy import GatePolicy, Level, Sizes
from evals.gate.rules4.reasons import state_reasons
from evals.items import Evaluation

__all__ = ["GateEvidence", "GatePolicy", "decide", "items_wanted"]


@dataclass(frozen=True)
class GateEvidence:
    """What the gate reads.

    `anchors` gives each earlier skill's suite the evaluation of the checkpoint that learned it, and each general and safety suite the
    base's. `attempts` counts how often this round has been tried (1 = the first). `first_look` gives each suite's items at the first look
    where this is the second, and is empty where this is the first. `bootstrap` says that there are no earlier skills, as in
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
    first_look: Mapping[str, int] = field(default_factory=dict)


def decide(evidence: GateEvidence, policy: GatePolicy) -> Verdict:
    """Judge a candidate. Never raises for bad evidence: that is the decision ERROR, with the faults as reasons."""
    faults = find_faults(evidence.candidate, evidence.champion, evidence.anchors, evidence.new_skill, policy.required_suites)
    faults += registered_faults(evidence.candidate, evidence.registered, policy.retired_suites)
    faults += _lineage_faults(evidence, policy)
    faults += _second_look_faults(evidence, policy)
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
        first_look=dict(sorted(evidence.first_look.items())),
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


def _second_look_faults(evidence: GateEvidence, policy: GatePolicy) -> list[tuple[str, str]]:
    """A second look reads what was fixed before the first: a number of items chosen after it would void the levels."""
    if not evidence.first_look:
        return []
    now = gate_suites(evidence.candidate)
    faults = [
        (name, f"{name} has {evidence.first_look[name]:,} items of a first look and is not here")
        for name in evidence.first_look
        if name not in now
    ]
    for name, items in now.items():
        first = evidence.first_look.get(name, 0)
        if first < 1:
            faults.append((name, f"{name} was not evaluated at the first look"))
        elif items.result.n not in (first, planned := policy.planned_items(first, items.result.available)):
            faults.append(
                (name, f"{name} has {items.result.n:,} items at the second look, and {first:,} or {planned:,} were fixed before it")
            )
    return faults


def sizes_of(pairs: Sequence[Pair], first_look: Mapping[str, int], policy: GatePolicy) -> list[Sizes]:
    """The items of each pair's suite at both looks and now."""
    results = [pair.candidate.result for pair in pairs]
    firsts = [first_look.get(result.name, result.n) for result in results]
    return [Sizes(first, policy.planned_items(first, result.available), result.n) for first, result in zip(firsts, results, strict=True)]


def ask_everything(evidence: GateEvidence, policy: GatePolicy) -> list[CheckOutcome]:
    """Points 2 to 6, in the order in which a reader wants the answers."""

    def level(asked: Sequence[Pair]) -> Level:
        return policy.level(evidence.attempts, sizes_of(asked, evidence.first_look, policy))

    pairs = _pairs(evidence.candidate, dict.fromkeys(evidence.candidate.suites, evidence.champion))
    anchored = _pairs(evidence.candidate, evidence.anchors)
    kept = [pair for pair in pairs if pair.name != evidence.new_skill]
    since = [pair for pair in anchored if pair.name != evidence.new_skill]
    checks = [gain(pair, level([pair]), policy) for pair in pairs if pair.name == evidence.new_skill]
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
    checks += [gate_drift.drift(pair, policy.drift_limits(pair.margin)[0], level([pair]), policy, "champion") for pair in texts]
    checks += [gate_drift.drift(pair, policy.drift_limits(pair.margin)[1], level([pair]), policy, "anchor") for pair in texts_since]
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
    category: Category,
    kept: list[Pair],
    since: list[Pair],
    champion_sha256: str,
    level: Callable[[Sequence[Pair]], Level],
    policy: GatePolicy,
) -> list[CheckOutcome]:
    """Non-inferiority of one category: its suites together, and each suite that has a margin of its own by itself.

    `kept` pairs with the champion, `since` with the anchors; `level` gives the level of a check by the suites that it reads.
    """
    together, own = [pair for pair in kept if pair.margin is None], [pair for pair in kept if pair.margin is not None]
    checks: list[CheckOutcome] = []
    if together:
        checks.append(gate_checks.non_inferiority(category, together, policy.margin(category), level(together), policy, "champion"))
    checks += [gate_checks.own_margin(pair, level([pair]), policy, "champion") for pair in own]
    moved = [pair for pair in since if pair.margin is None]
    if any(pair.reference_sha256 != champion_sha256 for pair in moved):
        checks.append(gate_checks.non_inferiority(category, moved, policy.anchor_budget, level(moved), policy, "anchor"))
    older = [pair for pair in since if pair.margin is not None and pair.reference_sha256 != champion_sha256]
    return checks + [gate_checks.own_margin(pair, level([pair]), policy, "anchor") for pair in older]


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
    """Suite -> items of the second look; empty after it, and where it could not promote.

    How many is fixed by the policy and by what there is (`GatePolicy.planned_items`); what the first look found only says whether there
    is a second, and for which checks.
    """
    held = [check for check in verdict.checks if check.outcome == "inconclusive"]
    if verdict.first_look or any(check.items_needed is None for check in held):
        return {}
    policy = GatePolicy.model_validate(verdict.policy)
    wanted: dict[str, int] = {}
    for check in held:
        more: dict[str, int] = {}
        for name, items in gate_suites(candidate).items():
            pooled = name != verdict.new_skill and items.result.margin is None
            planned = policy.planned_items(items.result.n, items.result.available)
            read = check.subject == name or (pooled and check.subject == CATEGORY_WORDS[items.category])
            if read and planned > items.result.n:
                more[name] = planned
        if not more:
            return {}  # this check would be held again, on the same items
        wanted |= more
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
