"""Point 6 of the gate: did the candidate learn what the round was for, well enough to be of use?

Significance is not use: a score that rises from 0 to 22 is a proven gain and no skill. So the new skill must improve by more than
`min_gain`, be better than guessing, and reach the score that the policy requires; what falls short is held, what did not improve blocks.
"""

from __future__ import annotations

from data_contracts.manifests import CheckOutcome
from evals.gate.pairing import Pair, guessing_rate, p_above_rate
from evals.gate.policy import GatePolicy, Level
from evals.gate.words import Outcome, interval_words, outcome, p_words, points, size
from evals.items import SuiteItems
from evals.statistics import items_needed, p_above


def gain(pair: Pair, level: Level, policy: GatePolicy) -> CheckOutcome:
    """The new skill on its own held-out items: before, after, the chance level, and whether that is enough."""
    difference, before, after = pair.difference, float(pair.reference.score.mean()), float(pair.candidate.score.mean())
    moved = f"{points(difference.mean)}, {pair.n} items, {interval_words(difference, level.alpha)}, {p_words(pair.p_gain())}"
    facts = f"{pair.name} went from {100 * before:.1f} to {100 * after:.1f} ({moved}); {guessing_words(pair.candidate)}"
    needed = None
    if pair.n >= policy.min_items:
        # Before rules 6 as many as would prove a gain, of whatever size: the next check then held it for being too small.
        threshold = 0.0 if policy.rules < 6 and not pair.p_gain() <= level.alpha else policy.min_gain
        needed = items_needed(difference, threshold, level.again, policy.power, optimistic=True)
    result, tail, of_use = _judge(pair, after, level, policy, needed)
    return outcome(
        "gain", pair.name, result, f"New skill: {facts}. {tail}",
        difference=difference, alpha=level.alpha, power=policy.power, p=pair.p_gain(), margin=policy.min_gain,
        needed=needed if of_use else None,
    )  # fmt: skip


def _judge(pair: Pair, after: float, level: Level, policy: GatePolicy, needed: int | None) -> tuple[Outcome, str, bool]:
    """(answer, why, whether more items may change it). Fails closed: the pass comes last, when nothing else is left."""
    more = f"; about {needed:,} items would decide it" if needed else ""
    if not pair.difference.mean > 0.0:
        return "block", "It did not improve.", False
    if pair.n < policy.min_items:
        return "inconclusive", f"Too few items to prove a gain (the policy asks for {policy.min_items}).", False
    if not pair.p_gain() <= level.alpha:
        return "inconclusive", f"The gain is not proven{more}.", True
    guessing = guessing_rate(pair.candidate)
    if guessing is None and pair.name not in policy.min_scores:
        return "inconclusive", f"Say what score it must reach: gate.min_scores: {{{pair.name}: ...}}.", False
    target = policy.target_of(pair.name, guessing or 0.0)
    if not after >= target:
        return "inconclusive", f"The gain is real and not enough to be of use: {_asked_for(pair, target, policy)}.", False
    if not p_above(pair.difference, policy.min_gain) <= level.alpha:
        return "inconclusive", f"A gain of more than {size(policy.min_gain)} is required, and not shown{more}.", True
    if not p_above_rate(pair.candidate, guessing or 0.0) <= level.alpha:
        return "inconclusive", "It is not shown to be better than guessing.", True
    return "pass", f"The new skill was learned (required: {100 * target:.1f}).", False


def _asked_for(pair: Pair, target: float, policy: GatePolicy) -> str:
    if pair.name in policy.min_scores:
        return f"gate.min_scores asks for {100 * target:.1f}"
    return f"gate.min_learned asks for {100 * target:.1f}, {100 * policy.min_learned:.0f} % of the way from chance to a perfect score"


def guessing_words(items: SuiteItems) -> str:
    """How good a score is against guessing, as a clause."""
    guessing, score = guessing_rate(items), float(items.score.mean())
    if guessing is None:
        return "what guessing would score is not known"
    if guessing >= 1.0:
        return "every item has the same answer, so guessing scores 100.0"
    way = max(0.0, (score - guessing) / (1.0 - guessing))
    way_words = f"{100 * way:.0f} % of the way from chance to a perfect score"
    return f"always giving the commonest answer would score {100 * guessing:.1f}, so this is {way_words}"
