"""Points 2, 3 and 4 of the gate: each function checks one thing on paired items and returns a CheckOutcome with a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from data_contracts.manifests import Category, CheckOutcome
from evals.gate.pairing import Pair, why_uninformative
from evals.gate.rules3.words import CATEGORY_WORDS, Against, Outcome, interval_words, outcome, p_words, points, size
from evals.gate.rules4.policy import GatePolicy, Level
from evals.statistics import (
    Difference,
    holm,
    items_needed,
    minimum_detectable_effect,
    not_below_null_variance,
    p_above,
    p_below,
    pool,
    with_null_variance,
)


def non_inferiority(
    category: Category, pairs: Sequence[Pair], margin: float, level: Level, policy: GatePolicy, against: Against
) -> CheckOutcome:
    """Is the mean loss over a category's suites shown to be smaller than the margin? H0: mean_j D_j <= -margin."""
    check, words = ("non_inferiority" if against == "champion" else "anchor"), CATEGORY_WORDS[category]
    since = ", counted from where each was learned" if category == "skill" else ", counted from the base"
    what = "" if against == "champion" else since
    left_out = {pair.name: why for pair in pairs if (why := left_out_because(pair, policy))}
    used = [pair for pair in pairs if pair.name not in left_out]
    aside = "".join(f" {name} is left out: {why}." for name, why in left_out.items())
    if not used:
        return outcome(check, words, "inconclusive", f"{words.capitalize()}: no suite can show that nothing was lost{what}.{aside}")
    difference = pool([pair.difference for pair in used])
    difference = _under_the_margin(difference, used, margin)
    opening = f"{words.capitalize()}{what}: mean change {points(difference.mean)} over {_suites(len(used))}"
    return _rule_out(check, words, opening, difference, margin, level, policy, suites=len(used), aside=aside)


def own_margin(pair: Pair, level: Level, policy: GatePolicy, against: Against) -> CheckOutcome:
    """Is a suite's own margin kept? Its owner set it (SuiteConfig.margin), so it answers alone and lends its leniency to no other."""
    check, margin = ("margin", pair.margin or 0.0) if against == "champion" else ("anchor", policy.budget_of(pair.margin))
    what = "" if against == "champion" else ", counted from its anchor"
    if why := left_out_because(pair, policy):
        sentence = f"{pair.name}, which has a margin of its own, cannot show that nothing was lost{what}: {why}."
        return outcome(check, pair.name, "inconclusive", sentence, margin=margin)
    difference = _under_the_margin(pair.difference, [pair], margin)
    opening = f"{pair.name}, by its own margin{what}: change {points(difference.mean)}"
    return _rule_out(check, pair.name, opening, difference, margin, level, policy)


def _under_the_margin(difference: Difference, pairs: Sequence[Pair], margin: float) -> Difference:
    """The difference with the noise that it would have if the true loss were the margin: what is to be ruled out says how sure to be."""
    if all(pair.binary for pair in pairs):
        difference = not_below_null_variance(difference, [pair.draws for pair in pairs], margin)
    return with_null_variance(difference, [pair.d for pair in pairs], [pair.candidate.cluster for pair in pairs], margin)


def _rule_out(
    check: str,
    subject: str,
    opening: str,
    difference: Difference,
    margin: float,
    level: Level,
    policy: GatePolicy,
    *,
    suites: int = 1,
    aside: str = "",
) -> CheckOutcome:
    """Is a loss of the margin ruled out (pass), proven and beyond it (block), or neither?"""
    shown, lost = p_above(difference, -margin), p_below(difference, 0.0)
    facts = f"{opening} ({difference.n:,} items, {interval_words(difference, level.alpha)})"
    result: Outcome
    needed: int | None = None
    if shown <= level.alpha:
        result, tail = "pass", f"a loss of {size(margin)} or more is ruled out, {p_words(shown)}"
    elif lost <= policy.alpha and difference.mean <= -margin:
        result, tail = "block", f"a loss is proven ({p_words(lost)}) and it is beyond the margin of {size(margin)}"
    else:
        result = "inconclusive"
        needed = items_needed(difference, -margin, level.again, policy.power)
        needed = math.ceil(needed / suites) if needed else None
        more = f"about {needed:,} items per suite would decide it" if needed else "more items are not expected to change that"
        tail = f"a loss of {size(margin)} is not ruled out, {p_words(shown)}; {more}"
    return outcome(
        check, subject, result, f"{facts}; {tail}.{aside}",
        difference=difference, alpha=level.alpha, power=policy.power, p=shown, margin=margin, needed=needed,
    )  # fmt: skip


def left_out_because(pair: Pair, policy: GatePolicy) -> str | None:
    """Why a suite is left out of its category's mean, or None."""
    if pair.candidate.result.doubt:
        return f"it may be measured wrongly ({pair.candidate.result.doubt})"
    if pair.n < policy.min_items:
        return f"it has {pair.n} items, fewer than {policy.min_items}"
    return why_uninformative(pair.reference, policy.alpha, policy.rules)


def _suites(count: int) -> str:
    return f"{count} suite{'' if count == 1 else 's'}"


def regressions(pairs: Sequence[Pair], policy: GatePolicy, against: Against) -> list[CheckOutcome]:
    """For each suite: is a loss proven (Holm over the suites), or so large that it blocks whatever its p-value?

    Against the anchor a proven loss blocks only beyond the cumulative budget: small honest losses are what the budget is for. A suite with
    a margin of its own may lose that much, so there a proven loss blocks only beyond it.
    """
    small = [pair for pair in pairs if pair.n < policy.min_items]
    judged = [pair for pair in pairs if pair.n >= policy.min_items]
    adjusted = _adjusted(judged) | _adjusted(small)
    found: list[CheckOutcome] = []
    for pair in pairs:
        if pair in small:
            found.append(_few_items(pair, adjusted[pair.name], policy, against))
            continue
        found.append(_regression(pair, adjusted[pair.name], len(judged), policy, against))
        if pair.difference.mean <= -policy.floor_of(pair.name, pair.margin) + 1e-12:
            found.append(_floor(pair, policy, against))
    return found


def _adjusted(pairs: Sequence[Pair]) -> dict[str, float]:
    return dict(zip((pair.name for pair in pairs), holm([pair.p_loss() for pair in pairs]), strict=True))


def _few_items(pair: Pair, p: float, policy: GatePolicy, against: Against) -> CheckOutcome:
    """A suite of few items shows nothing kept. Its floor holds all the same: a fall through it blocks where proven, and holds where not."""
    floor, mean = policy.floor_of(pair.name, pair.margin), pair.difference.mean
    since = "the champion" if against == "champion" else "its anchor"
    facts = f"{pair.name}: {points(mean)} against {since} on {pair.n} items (the policy asks for {policy.min_items})"
    result: Outcome
    if mean > -floor + 1e-12:
        result, tail = "n/a", "too few to show that nothing was lost"
    elif p <= policy.alpha:
        result, tail = "block", f"through the floor of {size(floor)}, and the loss is proven ({p_words(p)})"
    else:
        result, tail = "inconclusive", f"through the floor of {size(floor)}, and too few to tell a loss from noise ({p_words(p)})"
    return outcome(
        "regression" if against == "champion" else "anchor", pair.name, result, f"{facts}: {tail}.",
        difference=pair.difference, alpha=policy.alpha, power=policy.power, p=p, margin=floor,
    )  # fmt: skip


def _regression(pair: Pair, p: float, family: int, policy: GatePolicy, against: Against) -> CheckOutcome:
    since = "the champion" if against == "champion" else "its anchor"
    proven, mean = p <= policy.alpha, pair.difference.mean
    limit, whose = (pair.margin or 0.0, "its own margin") if against == "champion" else (policy.budget_of(pair.margin), "the budget")
    beyond = limit == 0.0 or mean < -limit
    moved = f"{pair.lost} of {pair.n} items became worse and {pair.won} better"
    facts = f"{moved}, {interval_words(pair.difference, policy.alpha)}, {p_words(p)} after Holm over {_suites(family)}"
    detectable = minimum_detectable_effect(pair.difference, policy.alpha / family, policy.power)
    if proven and beyond:
        past = f", beyond {whose} of {size(limit)}" if limit else ""
        sentence = f"{pair.name} lost {size(mean)} against {since}{past}: {facts}. This is a real loss, not noise."
    elif proven:
        sentence = f"{pair.name} lost {size(mean)} against {since}, within {whose} of {size(limit)}: {facts}."
    else:
        seen = f"No loss is proven; one of {size(detectable)} would have been seen"
        sentence = f"{pair.name}: {points(mean)} against {since}: {facts}. {seen}."
    return outcome(
        "regression" if against == "champion" else "anchor", pair.name, "block" if proven and beyond else "pass", sentence,
        difference=pair.difference, alpha=policy.alpha, detect_alpha=policy.alpha / family, power=policy.power, p=p, margin=limit,
    )  # fmt: skip


def _floor(pair: Pair, policy: GatePolicy, against: Against) -> CheckOutcome:
    floor, since = policy.floor_of(pair.name, pair.margin), "the champion" if against == "champion" else "its anchor"
    sentence = (
        f"{pair.name} dropped {size(pair.difference.mean)} against {since}, through the floor of {size(floor)}: "
        f"{pair.lost} of {pair.n} items became worse and {pair.won} better. A drop of this size blocks whatever its p-value."
    )
    check = "floor" if against == "champion" else "anchor"
    return outcome(check, pair.name, "block", sentence, difference=pair.difference, alpha=policy.alpha, power=policy.power, margin=floor)
