"""Points 2 to 6 of the gate: each function asks one question of paired items and answers with a CheckOutcome and a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from data_contracts.manifests import Category, CheckOutcome
from evals.items import SuiteItems
from evals.pairing import Pair, reference_order, why_uninformative
from evals.policy import GatePolicy
from evals.statistics import (
    Difference,
    holm,
    interval,
    items_needed,
    minimum_detectable_effect,
    not_below_null_variance,
    p_above,
    p_below,
    paired_difference,
    pool,
)

Against = Literal["champion", "anchor"]
Outcome = Literal["pass", "block", "inconclusive", "error", "n/a"]
CATEGORY_WORDS: dict[Category, str] = {
    "skill": "earlier skills",
    "general": "general suites",
    "safety": "safety suites",
    "drift": "drift suites",
}
"""Also the subject of a category's check: the space keeps it apart from any suite's name."""


def points(effect: float) -> str:
    """0.012 -> '+1.2 points', with a real minus sign."""
    return f"{signed(effect)} point{'' if f'{abs(100 * effect):.1f}' == '1.0' else 's'}"


def size(effect: float) -> str:
    """-0.05 -> '5.0 points'."""
    return points(abs(effect)).lstrip("+")


def signed(effect: float) -> str:
    text = f"{100 * effect:+.1f}"
    return ("0.0" if float(text) == 0 else text).replace("-", "−")


def p_words(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def tidy(value: float | None) -> float | None:
    """Ten significant digits: far more than matters, fewer than machines disagree about. Not a finite number: None."""
    return float(f"{value:.10g}") if value is not None and math.isfinite(value) else None


def outcome(
    check: str,
    subject: str,
    result: Outcome,
    sentence: str,
    *,
    difference: Difference | None = None,
    alpha: float = 0.05,
    detect_alpha: float | None = None,
    power: float = 0.8,
    p: float | None = None,
    margin: float | None = None,
    needed: int | None = None,
) -> CheckOutcome:
    """One answer with its numbers; the interval is the one whose ends are the one-sided bounds at `alpha`."""
    low, high = interval(difference, alpha) if difference else (None, None)
    detectable = minimum_detectable_effect(difference, detect_alpha or alpha, power) if difference else None
    return CheckOutcome(
        check=check,
        subject=subject,
        outcome=result,
        sentence=sentence,
        n=difference.n if difference else None,
        effect=tidy(difference.mean if difference else None),
        low=tidy(low),
        high=tidy(high),
        p_value=tidy(p),
        margin=tidy(margin),
        minimum_detectable_effect=tidy(detectable),
        items_needed=needed,
    )


def interval_words(difference: Difference, alpha: float) -> str:
    low, high = interval(difference, alpha)
    if not math.isfinite(low):
        return "no interval"
    return f"{100 * (1 - 2 * alpha):.3g} % interval {signed(low)} to {signed(high)}"


def non_inferiority(
    category: Category, pairs: Sequence[Pair], margin: float, alpha: float, policy: GatePolicy, against: Against
) -> CheckOutcome:
    """Is the mean loss over a category's suites shown to be smaller than the margin? H0: mean_j D_j <= -margin."""
    check, words = ("non_inferiority" if against == "champion" else "anchor"), CATEGORY_WORDS[category]
    since = ", counted from where each was learned" if category == "skill" else ", counted from the base"
    what = "" if against == "champion" else since
    if not pairs:
        return outcome(check, words, "n/a", f"{words.capitalize()}: there are none, so there is nothing to lose.")
    left_out = {pair.name: why for pair in pairs if (why := left_out_because(pair, policy))}
    used = [pair for pair in pairs if pair.name not in left_out]
    aside = "".join(f" {name} is left out: {why}." for name, why in left_out.items())
    if not used:
        return outcome(check, words, "inconclusive", f"{words.capitalize()}: no suite can show that nothing was lost{what}.{aside}")
    difference = pool([pair.difference for pair in used])
    if all(pair.binary for pair in used):
        difference = not_below_null_variance(difference, [pair.n for pair in used], margin)
    shown, lost = p_above(difference, -margin), p_below(difference, 0.0)
    facts = f"mean change {points(difference.mean)} over {_suites(len(used))} ({difference.n:,} items, {interval_words(difference, alpha)})"
    result: Outcome
    needed: int | None = None
    if shown <= alpha:
        result, tail = "pass", f"a loss of {size(margin)} or more is ruled out, {p_words(shown)}"
    elif lost <= alpha and difference.mean <= -margin:
        result, tail = "block", f"a loss is proven ({p_words(lost)}) and it is beyond the margin of {size(margin)}"
    else:
        result = "inconclusive"
        needed = items_needed(difference, -margin, alpha, policy.power)
        needed = math.ceil(needed / len(used)) if needed else None
        more = f"about {needed:,} items a suite would decide it" if needed else "more items are not expected to change that"
        tail = f"a loss of {size(margin)} is not ruled out, {p_words(shown)}; {more}"
    return outcome(
        check, words, result, f"{words.capitalize()}{what}: {facts}; {tail}.{aside}",
        difference=difference, alpha=alpha, power=policy.power, p=shown, margin=margin, needed=needed,
    )  # fmt: skip


def left_out_because(pair: Pair, policy: GatePolicy) -> str | None:
    """Why a suite has no say in its category's mean, or None."""
    if pair.n < policy.min_items:
        return f"it has {pair.n} items, fewer than {policy.min_items}"
    return why_uninformative(pair.reference, policy.alpha)


def _suites(count: int) -> str:
    return f"{count} suite{'' if count == 1 else 's'}"


def regressions(pairs: Sequence[Pair], policy: GatePolicy, against: Against) -> list[CheckOutcome]:
    """For each suite: is a loss proven (Holm over the suites), or so large that it blocks whatever its p-value?

    Against the anchor a proven loss blocks only beyond the cumulative budget: small honest losses are what the budget is for.
    """
    judged = [pair for pair in pairs if pair.n >= policy.min_items]
    adjusted = dict(zip((pair.name for pair in judged), holm([pair.p_loss() for pair in judged]), strict=True))
    found: list[CheckOutcome] = []
    for pair in pairs:
        if pair.name not in adjusted:
            asked = f"too few to decide anything (the policy asks for {policy.min_items})"
            sentence = f"{pair.name}: {points(pair.difference.mean)} on {pair.n} items, {asked}."
            check = "regression" if against == "champion" else "anchor"
            found.append(outcome(check, pair.name, "n/a", sentence, difference=pair.difference, alpha=policy.alpha, power=policy.power))
            continue
        found.append(_regression(pair, adjusted[pair.name], len(judged), policy, against))
        if pair.difference.mean <= -policy.floor_of(pair.name) + 1e-12:
            found.append(_floor(pair, policy, against))
    return found


def _regression(pair: Pair, p: float, family: int, policy: GatePolicy, against: Against) -> CheckOutcome:
    since = "the champion" if against == "champion" else "its anchor"
    proven, mean = p <= policy.alpha, pair.difference.mean
    beyond = against == "champion" or mean < -policy.anchor_budget
    moved = f"{pair.lost} of {pair.n} items became worse and {pair.won} better"
    facts = f"{moved}, {interval_words(pair.difference, policy.alpha)}, {p_words(p)} after Holm over {_suites(family)}"
    detectable = minimum_detectable_effect(pair.difference, policy.alpha / family, policy.power)
    if proven and beyond:
        budget = "" if against == "champion" else f", beyond the budget of {size(policy.anchor_budget)}"
        sentence = f"{pair.name} lost {size(mean)} against {since}{budget}: {facts}. This is a real loss, not noise."
    elif proven:
        sentence = f"{pair.name} lost {size(mean)} against {since}, within the budget of {size(policy.anchor_budget)}: {facts}."
    else:
        seen = f"No loss is proven; one of {size(detectable)} would have been seen"
        sentence = f"{pair.name}: {points(mean)} against {since}: {facts}. {seen}."
    return outcome(
        "regression" if against == "champion" else "anchor", pair.name, "block" if proven and beyond else "pass", sentence,
        difference=pair.difference, alpha=policy.alpha, detect_alpha=policy.alpha / family, power=policy.power, p=p,
        margin=0.0 if against == "champion" else policy.anchor_budget,
    )  # fmt: skip


def _floor(pair: Pair, policy: GatePolicy, against: Against) -> CheckOutcome:
    floor, since = policy.floor_of(pair.name), "the champion" if against == "champion" else "its anchor"
    sentence = (
        f"{pair.name} dropped {size(pair.difference.mean)} against {since}, through the floor of {size(floor)}: "
        f"{pair.lost} of {pair.n} items became worse and {pair.won} better. A drop of this size blocks whatever its p-value."
    )
    check = "floor" if against == "champion" else "anchor"
    return outcome(check, pair.name, "block", sentence, difference=pair.difference, alpha=policy.alpha, power=policy.power, margin=floor)


def relative_drift(candidate: SuiteItems, reference: SuiteItems) -> Difference:
    """Relative change of bits per byte, positive is better: -(sum w (c - r)) / (sum w r), with the ratio's paired variance."""
    before = reference.score[reference_order(candidate, reference)]
    weight = candidate.weight
    base = float((weight * before).sum())
    change = float((weight * (candidate.score - before)).sum()) / base
    n = len(before)
    # Linearised ratio: the per-item influence has mean zero, so its spread is that of the estimate.
    influence = -(weight * (candidate.score - before) - change * weight * before) * n / base
    spread = paired_difference(influence, candidate.cluster, prior=False)
    return Difference(-change, spread.variance, spread.degrees, n)


def drift(pair: Pair, limit: float, alpha: float, policy: GatePolicy, against: Against) -> CheckOutcome:
    """Has text become dearer to the model? Passes where a rise of `limit` is ruled out, blocks where a rise is proven and beyond it."""
    difference, since = relative_drift(pair.candidate, pair.reference), "the champion" if against == "champion" else "its anchor"
    shown, worse = p_above(difference, -limit), p_below(difference, 0.0)
    rise, (low, high) = -difference.mean, interval(difference, alpha)
    reach = f"{100 * (1 - 2 * alpha):.3g} % interval {signed(-high)} to {signed(-low)} %" if math.isfinite(low) else "no interval"
    facts = f"bits per byte on {pair.name} changed by {signed(rise)} % against {since} ({pair.n} texts, {reach})"
    result: Outcome
    needed: int | None = None
    if pair.n < policy.min_items:
        result, tail = (
            "inconclusive",
            f"that is too few texts to rule out a rise of {100 * limit:.3g} % (the policy asks for {policy.min_items})",
        )
    elif shown <= alpha:
        result, tail = "pass", f"a rise of {100 * limit:.3g} % or more is ruled out, {p_words(shown)}"
        if worse <= alpha:
            tail += f"; a smaller rise is real ({p_words(worse)})"
    elif worse <= alpha and rise >= limit:
        result, tail = "block", f"a rise is proven ({p_words(worse)}) and it is beyond {100 * limit:.3g} %"
    else:
        needed = items_needed(difference, -limit, alpha, policy.power)
        more = f"about {needed:,} texts would decide it" if needed else "more texts are not expected to change that"
        result, tail = "inconclusive", f"a rise of {100 * limit:.3g} % is not ruled out, {p_words(shown)}; {more}"
    return outcome(
        "drift" if against == "champion" else "anchor_drift", pair.name, result, f"General text: {facts}; {tail}.",
        difference=difference, alpha=alpha, power=policy.power, p=shown, margin=limit, needed=needed,
    )  # fmt: skip


def gain(pair: Pair, alpha: float, policy: GatePolicy) -> CheckOutcome:
    """Did the candidate learn what the round was for, on that skill's own held-out items?"""
    difference = pair.difference
    p = pair.p_gain() if policy.min_gain == 0.0 else p_above(difference, policy.min_gain)
    before, after = float(pair.reference.score.mean()), float(pair.candidate.score.mean())
    moved = f"{points(difference.mean)}, {pair.n} items, {interval_words(difference, alpha)}"
    facts = f"{pair.name} went from {100 * before:.1f} to {100 * after:.1f} ({moved}"
    result: Outcome
    needed: int | None = None
    if not difference.mean > policy.min_gain:
        asked = "it did not improve" if policy.min_gain == 0.0 else f"a gain of more than {size(policy.min_gain)} is asked for"
        result, tail = "block", f"): {asked}."
    elif pair.n < policy.min_items:
        result, tail = "inconclusive", f"): too few items to prove a gain (the policy asks for {policy.min_items})."
    elif p <= alpha:
        result, tail = "pass", f", {p_words(p)}): the new skill was learned."
    else:
        needed = items_needed(difference, policy.min_gain, alpha, policy.power, optimistic=True)
        more = f"; about {needed:,} items would prove it" if needed else ""
        result, tail = "inconclusive", f", {p_words(p)}): the gain is not proven{more}."
    return outcome(
        "gain", pair.name, result, f"New skill: {facts}{tail}",
        difference=difference, alpha=alpha, power=policy.power, p=p, margin=policy.min_gain, needed=needed,
    )  # fmt: skip


def early_warning(pair: Pair, alpha: float) -> CheckOutcome | None:
    """Gold answers became less likely although the score may not show it yet. It decides nothing; it says where to look."""
    before = pair.reference.gold_logprob[reference_order(pair.candidate, pair.reference)]
    d = pair.candidate.gold_logprob - before
    d = d[np.isfinite(d)]
    if len(d) < 2 or not (d != 0).any():
        return None
    difference = paired_difference(d, prior=False)
    p = p_below(difference, 0.0)
    if not p <= alpha:
        return None
    low, high = interval(difference, alpha)
    reach = f"{100 * (1 - 2 * alpha):.3g} % interval {-high:.3g} to {-low:.3g}"
    facts = f"right answers became less likely by {-difference.mean:.3g} nats an item ({len(d)} items, {reach}, {p_words(p)})"
    sentence = f"{pair.name}: {facts}. The score decides; this is an early warning."
    return outcome("early_warning", pair.name, "n/a", sentence, difference=difference, alpha=alpha, p=p)
