"""A verdict's reasons: a headline that says what was decided and why, then the sentences that carry it. Pure functions of the answers."""

from __future__ import annotations

from collections.abc import Collection

from data_contracts.manifests import CheckOutcome, Decision
from evals.gate.rules3.words import CATEGORY_WORDS, size
from evals.gate.rules4 import drift as gate_drift
from evals.gate.rules4.policy import GatePolicy

RULED_OUT = ("non_inferiority", "margin")  # the checks against the champion that rule a loss out


def state_reasons(
    decision: Decision,
    checks: list[CheckOutcome],
    lost: tuple[str, ...],
    new_skill: str | None,
    registered: Collection[str],
    policy: GatePolicy,
) -> list[str]:
    """A headline, then the sentences that carry the decision: one per lost suite, not one per test."""
    said = _on_record(checks, registered, policy)
    if decision is Decision.PASS:
        shown = [check.sentence for check in checks if check.check in ("gain", *RULED_OUT, "drift") and check.outcome == "pass"]
        return [_pass_headline(checks, new_skill, policy), *shown, *said, *_sensitivity(checks), *gate_drift.flag(checks)]
    wanted = {Decision.ERROR: "error", Decision.BLOCK: "block", Decision.INCONCLUSIVE: "inconclusive"}[decision]
    carrying = [check for check in checks if check.outcome == wanted]
    if decision is Decision.BLOCK:
        # One sentence per subject, and what was lost before the means that moved with it.
        first = {check.subject: check for check in reversed(carrying)}.values()
        wholes = set(CATEGORY_WORDS.values())
        carrying = sorted(first, key=lambda check: (check.subject in wholes, check.check == "gain", check.subject))
    sentences = [_headline(decision, lost, checks, new_skill), *(check.sentence for check in carrying)]
    return [*sentences, *said, *_sensitivity(checks), *gate_drift.flag(checks)]


def _pass_headline(checks: list[CheckOutcome], new_skill: str | None, policy: GatePolicy) -> str:
    asked = [check for check in checks if check.check == "regression"]
    kept, few = [check for check in asked if check.outcome == "pass"], [check.subject for check in asked if check.outcome == "n/a"]
    spent = [check.subject for check in kept if check.p_value is not None and check.p_value <= policy.alpha]
    none = f"{', '.join(spent)} lost something within its own margin; no other loss is proven" if spent else "no loss is proven"
    parts = [f"{none} on {_suites(len(kept))}"] if kept else []  # single items may be lost: "nothing was lost" would deny them
    parts += [f"{new_skill} was learned"] if new_skill else []
    aside = f" {', '.join(few)}: too few items to say." if few else ""
    return f"Pass: {' and '.join(parts) or 'nothing was measured'}.{aside}"


def _suites(count: int) -> str:
    return f"{count} suite{'' if count == 1 else 's'}"


def _on_record(checks: list[CheckOutcome], registered: Collection[str], policy: GatePolicy) -> list[str]:
    """What the config takes out of the gate's sight, repeated in every verdict."""
    accepted = [check.subject for check in checks if check.check == "unmeasured" and check.outcome == "n/a"]
    retired = [f"{name} ({why})" for name, why in sorted(policy.retired_suites.items()) if name in registered]
    said = [f"Not measured, and accepted by gate.accept_unmeasured: {', '.join(accepted)}."] if accepted else []
    return said + ([f"Retired by gate.retired_suites: {', '.join(retired)}."] if retired else [])


def _sensitivity(checks: list[CheckOutcome]) -> list[str]:
    """What these items could have shown: without it, "nothing was lost" means little."""
    seen = [check for check in checks if check.check in RULED_OUT and check.minimum_detectable_effect is not None]
    if not seen:
        return []
    parts = [f"{size(check.minimum_detectable_effect or 0.0)} of {_the(check.subject)}" for check in seen]
    return [f"Minimum detectable effect: with these items a mean loss of {' or '.join(parts)} would probably have been seen."]


def _the(subject: str) -> str:
    return f"the {subject}" if subject in CATEGORY_WORDS.values() else subject


def _headline(decision: Decision, lost: tuple[str, ...], checks: list[CheckOutcome], new_skill: str | None) -> str:
    if decision is Decision.ERROR:
        return "Error: the evidence cannot be compared, so nothing was decided and nothing is promoted."
    if decision is Decision.INCONCLUSIVE:
        return _inconclusive_headline(checks, new_skill)
    blocked = {check.subject for check in checks if check.outcome == "block"}
    pooled = [words for words in CATEGORY_WORDS.values() if words in blocked]
    causes = [f"lost {', '.join(lost)}"] if lost else []
    causes += [f"{' and '.join(pooled)} lost on average"] if pooled else []
    causes += [f"{new_skill} was not learned"] if new_skill in blocked else []
    return f"Blocked: {'; '.join(causes)}."


def _inconclusive_headline(checks: list[CheckOutcome], new_skill: str | None) -> str:
    """What keeps the gate from deciding, in the order in which it should be fixed."""
    held = [check for check in checks if check.outcome == "inconclusive"]
    doubted = sorted({check.subject for check in held if check.check == "measurement"})
    missing = [check.subject for check in held if check.check == "unmeasured"]
    others = sorted({check.subject for check in held} - set(doubted) - set(missing) - {new_skill})
    parts = [f"{', '.join(doubted)} may be measured wrongly"] if doubted else []
    parts += [f"{' and '.join(missing)} were not measured"] if missing else []
    parts += [f"{new_skill} is not shown to be learned"] if any(c.check == "gain" for c in held) and new_skill not in doubted else []
    one = len(others) == 1 and others[0] not in CATEGORY_WORDS.values()
    parts += [f"it is not shown that {', '.join(others)} {'was' if one else 'were'} kept"] if others else []
    return f"Inconclusive: {'; '.join(parts)}."
