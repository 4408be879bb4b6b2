"""Point 5 of the gate, and what is flagged: text that became harder to predict, right answers that became less likely."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from data_contracts.manifests import CheckOutcome
from evals.gate.pairing import Pair, reference_order
from evals.gate.policy import GatePolicy, Level
from evals.gate.words import Against, Outcome, outcome, p_words, possible, signed
from evals.items import SuiteItems
from evals.numbers import rounded, size_of, with_exponent
from evals.statistics import Difference, interval, items_needed, p_above, p_below, paired_difference, relative_change
from evals.weighted import weighted_difference

FLAGGED = "Flagged: "


def relative_drift(candidate: SuiteItems, reference: SuiteItems) -> Difference:
    """Relative change of bits per byte, positive is better, with the ratio's paired variance."""
    before = reference.score[reference_order(candidate, reference)]
    return relative_change(before, candidate.score, candidate.weight, candidate.cluster)


def drift(pair: Pair, limit: float, level: Level, policy: GatePolicy, against: Against) -> CheckOutcome:
    """Has text become harder to predict? Passes where a rise of `limit` is ruled out, blocks where a rise is proven and beyond it."""
    difference, since = relative_drift(pair.candidate, pair.reference), "the champion" if against == "champion" else "its anchor"
    shown, worse = p_above(difference, -limit), p_below(difference, 0.0)
    rise, (low, high) = -difference.mean, possible(interval(difference, level.alpha), worst=-math.inf)
    reach = f"{100 * (1 - 2 * level.alpha):.3g} % interval {signed(-high)} to {signed(-low)} %" if math.isfinite(low) else "no interval"
    facts = f"bits per byte on {pair.name} changed by {signed(rise)} % against {since} ({pair.n} texts, {reach})"
    result: Outcome
    needed: int | None = None
    if pair.n < policy.min_items:
        result, tail = (
            "inconclusive",
            f"that is too few texts to rule out a rise of {100 * limit:.3g} % (the policy asks for {policy.min_items})",
        )
    elif shown <= level.alpha:
        result, tail = "pass", f"a rise of {100 * limit:.3g} % or more is ruled out, {p_words(shown)}"
    elif worse <= policy.alpha and rise >= limit:
        result, tail = "block", f"a rise is proven ({p_words(worse)}) and it is beyond {100 * limit:.3g} %"
    else:
        needed = items_needed(difference, -limit, level.again, policy.power)
        more = f"about {needed:,} texts would decide it" if needed else "more texts are not expected to change that"
        result, tail = "inconclusive", f"a rise of {100 * limit:.3g} % is not ruled out, {p_words(shown)}; {more}"
    return outcome(
        "drift" if against == "champion" else "anchor_drift", pair.name, result, f"General text: {facts}; {tail}.",
        difference=difference, alpha=level.alpha, power=policy.power, p=shown, margin=limit, needed=needed, ends=(low, high),
    )  # fmt: skip


def early_warning(pair: Pair, alpha: float, rules: int) -> CheckOutcome | None:
    """Gold answers became less likely although the score may not show it yet. It decides nothing; it says where to look.

    Before rules 6 items of one passage counted as independent, and a suite that is better when lower was warned of like the others.
    """
    if rules >= 6 and not pair.candidate.result.higher_is_better:
        return None
    before = pair.reference.gold_logprob[reference_order(pair.candidate, pair.reference)]
    d = pair.candidate.gold_logprob - before
    known = np.isfinite(d)
    d = d[known]
    if len(d) < 2 or not (d != 0).any():
        return None
    passages = tuple(name if rules >= 6 else None for name, is_known in zip(pair.candidate.cluster, known, strict=True) if is_known)
    difference = paired_difference(d, passages, prior=False)
    if pair.drawn_from is not None:
        difference = weighted_difference(d, pair.candidate.weight[known], passages, pair.drawn_from, prior=False)
    p = p_below(difference, 0.0)
    if not p <= alpha:
        return None
    low, high = interval(difference, alpha)
    sentence = less_likely(pair.name, len(d), (difference.mean, low, high), 1 - 2 * alpha, p)
    return outcome("early_warning", pair.name, "n/a", sentence, difference=difference, alpha=alpha, p=p, ends=(low, high))


def drift_warning(pair: Pair, alpha: float, limit: float) -> CheckOutcome | None:
    """Text became harder to predict, beyond noise and by less than blocks. It decides nothing; it says that the weights have moved."""
    difference = relative_drift(pair.candidate, pair.reference)
    p, rise = p_below(difference, 0.0), -difference.mean
    if not (p <= alpha and rise < limit):
        return None
    low, high = possible(interval(difference, alpha), worst=-math.inf)
    sentence = harder_text(pair.name, pair.n, (difference.mean, low, high), 1 - 2 * alpha, p, limit)
    return outcome("drift_warning", pair.name, "n/a", sentence, difference=difference, alpha=alpha, p=p, margin=limit, ends=(low, high))


Number = Callable[[float, int], str]
EXPONENTS: tuple[Number, Number] = (with_exponent, with_exponent)


def less_likely(
    name: str, n: int, ends: tuple[float, float, float], level: float, p: float, numbers: tuple[Number, Number] = (size_of, rounded)
) -> str:  # fmt: skip
    """The sentence of an early warning. `ends`: mean change in nats and its interval, negative is worse; `numbers` write mean and ends."""
    (mean, low, high), (size, end) = ends, numbers
    reach = f"{100 * level:.3g} % interval {end(-high, 3)} to {end(-low, 3)}"
    facts = f"right answers became less likely by {size(-mean, 3)} nats per item ({n} items, {reach}, {p_words(p)})"
    return f"{name}: {facts}. The score decides; this is an early warning."


def harder_text(
    name: str, n: int, ends: tuple[float, float, float], level: float, p: float, limit: float,
    numbers: tuple[Number, Number] = (size_of, rounded),
) -> str:  # fmt: skip
    """The same of a warning about general text; `ends` are relative changes of bits per byte."""
    (mean, low, high), (size, end) = ends, numbers
    reach = f"{100 * level:.3g} % interval {end(-100 * high, 2)} to {end(-100 * low, 2)} %"
    facts = f"bits per byte on {name} rose by {size(-100 * mean, 2)} % ({n} texts, {reach}, {p_words(p)})"
    return f"General text: {facts}. That is real and below the limit of {100 * limit:.3g} %, so it decides nothing: an early warning."


def early_warnings(pairs: Sequence[Pair], policy: GatePolicy) -> list[CheckOutcome]:
    """What is flagged, whatever the decision: the level is shared among the suites of one question."""
    texts = [pair for pair in pairs if pair.category == "drift"]
    scored = [pair for pair in pairs if pair.category != "drift"]
    found = [drift_warning(pair, policy.alpha / len(texts), policy.drift_limits(pair.margin)[0]) for pair in texts]
    found += [early_warning(pair, policy.alpha / len(scored), policy.rules) for pair in scored]
    return [warning for warning in found if warning]


def flag(checks: Sequence[CheckOutcome], size: Number = size_of) -> list[str]:
    """One sentence that names what is flagged and not blocked anyway; none where nothing is."""
    harder = [f"{check.subject} by {size(-100 * (check.effect or 0.0), 2)} %" for check in checks if check.check == "drift_warning"]
    blocked = {check.subject for check in checks if check.outcome == "block"}
    unlikely = [check.subject for check in checks if check.check == "early_warning" and check.subject not in blocked]
    parts = [f"general text became harder to predict, beyond noise and below the limit ({', '.join(harder)})"] if harder else []
    parts += [f"right answers became less likely on {', '.join(unlikely)}, beyond noise"] if unlikely else []
    return [f"{FLAGGED}{'; '.join(parts)}. It decides nothing; look before you rely on this model."] if parts else []
