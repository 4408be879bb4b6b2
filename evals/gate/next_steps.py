"""What to try next: the end of every verdict that does not promote, from the evidence at hand. One function for every reader.

for step in next_steps(verdict, Situation(version=5, drop="tickets.jsonl")): print(step)
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from data_contracts.manifests import Category, CheckOutcome, Decision, Verdict
from data_contracts.skill_names import skill_of_suite
from evals.gate.policy import GatePolicy
from evals.gate.words import CATEGORY_WORDS
from evals.numbers import plain

ENOUGH_TO_WATCH = 200  # examples from which train.until_settled applies
ENOUGH_TOKENS = 20_000  # of calibration text: on nano 4,096 let a hard skill take 4 points of a base skill, 20,000 half a point
ENOUGH_REPLAY = 0.25  # of the training rows: on nano a second skill took 13 points of a hard first one without, 4 with them
ENOUGH_KEEPING = 10.0  # on nano a second skill then cost prose 0.2 % where it cost 0.6 to 2.4 % without, and was learned better
NEAR = 0.5  # of a margin: a measured loss of this size is worth lowering, although more items might rule the margin out
LOSSES = ("regression", "floor", "anchor", "margin", "non_inferiority", "drift", "anchor_drift")
CATEGORIES: dict[str, Category] = {words: category for category, words in CATEGORY_WORDS.items()}


@dataclass(frozen=True)
class Situation:
    """What a verdict does not contain: the version, how it was trained, and how many items are left to evaluate."""

    version: int | None = None
    drop: str = "DROP"
    heldout: str = ""
    """The file of held-out items that the round was given; empty: they were carved from the drop."""
    skill: str = ""
    """The skill by name; empty: the one that the verdict names. A refresh names it `tickets`, and its new suite `tickets.2`."""
    refresh: bool = False
    calibrated: bool = False
    scale: float = 1.0
    scalable: bool = True
    """Whether the training kept its update, of which a share can be offered: methods other than osft keep none."""
    epochs: float | None = None
    learning_rate: float | None = None
    steps: int | None = None
    last_loss: float | None = None
    moment_tokens: int | None = None
    """Tokens of general text whose layer inputs were measured for what is protected; None where nothing is."""
    replay_share: float | None = None
    """Share of the training rows that came from earlier rounds; None where the lineage keeps none of them (train.buffer_size 0)."""
    keep_general: float | None = None
    """How heavily the change on general text counted beside the drop's loss; None where it cannot count (another method or protection)."""
    first_round: bool = False
    examples: int | None = None
    watched: bool = False
    """Whether training watched a loss on rows that it was not trained on, and stopped where that had settled (train.until_settled)."""
    settled: bool | None = None
    """Whether the loss had stopped falling when training ended; None where it is not known."""
    skills: frozenset[str] = frozenset()
    """The suites of skills, so that a loss on one of them is not taken for a loss of the base."""
    categories: Mapping[str, Category] = field(default_factory=dict)
    """Category of each suite that the gate read; empty: not known."""
    spare: Mapping[str, int] = field(default_factory=dict)
    """Suite -> number of its items that were not evaluated yet."""


def next_steps(verdict: Verdict, situation: Situation) -> tuple[str, ...]:
    """Sentences in the order in which to try them; the last one is the decision of a person. Empty for PASS."""
    if verdict.decision is Decision.PASS:
        return ()
    if verdict.decision is Decision.ERROR:
        return ("Correct what is named above and run the same command again: what is finished is not done again.",)
    held = [check for check in verdict.checks if check.outcome in ("block", "inconclusive")]
    steps = [*_measure_rightly(held), *_measure_at_all(held), *_learn(held, verdict, situation), *_lose_less(held, verdict, situation)]
    steps += _ask_more(held, verdict, situation)
    return (*dict.fromkeys(steps), _decide(verdict, situation))


def _measure_rightly(held: Collection[CheckOutcome]) -> Iterator[str]:
    for check in held:
        if check.check == "measurement":
            yield (
                f"Do not train again yet: look at the answers to {check.subject} in the report, at the chat template and at the form of "
                "its answers (`skillstack doctor`); correct the suite and run the round again."
            )


def _measure_at_all(held: Collection[CheckOutcome]) -> Iterator[str]:
    for check in held:
        if check.check == "unmeasured":
            category = CATEGORIES.get(check.subject, "general")
            yield (
                f"Name {check.subject} in evaluation.suites (`skillstack init` writes some), or accept on record that there are none: "
                f"gate: {{accept_unmeasured: [{category}]}}."
            )


def _learn(held: Collection[CheckOutcome], verdict: Verdict, situation: Situation) -> Iterator[str]:
    gains = [check for check in held if check.check == "gain"]
    if not gains or any(check.check == "measurement" and check.subject == gains[0].subject for check in held):
        return
    gain, policy = gains[0], _numbers(verdict)
    if (gain.n or 0) < policy.min_items:
        yield f"Give {gain.subject} at least {policy.min_items} held-out items: raise contract.heldout_fraction, or supply --heldout."
        return
    if gain.outcome == "inconclusive" and gain.items_needed and (gain.effect or 0.0) > (gain.margin or 0.0):
        yield f"Give {gain.subject} about {gain.items_needed:,} held-out items: raise contract.heldout_fraction, or supply --heldout."
    if situation.scale < 1.0:
        yield f"The update was offered at scale {situation.scale:g}: offer more of it."
        return
    trained = f" (now {situation.epochs:g}{_outcome_of_training(situation)})" if situation.epochs else ""
    if situation.settled:
        yield (
            f"The loss had settled{trained}, so more passes over the same rows teach little: bring more rows, or rows that are more like "
            f"the held-out ones, or compare rates and sizes of the update with `skillstack sweep`."
        )
        return
    if situation.settled is False and not situation.watched and (situation.examples or 0) >= ENOUGH_TO_WATCH:
        yield (
            f"Train until the loss has settled: leave train.num_epochs out{trained}. It still fell when training ended; then a tenth "
            "of the rows is watched instead of trained on, and as many passes are made as they need."
        )
        return
    nothing = gain.outcome == "block"  # three times of what taught nothing at all is seldom enough
    more = f" {(10 if nothing else 3) * situation.epochs:g}" if situation.epochs else ""
    if situation.settled is False:
        why = "The loss was still falling when training ended"
    elif nothing:
        why = "Where nothing was learned, training was most often far too short"
    else:
        why = "A gain this small often means a short training"
    yield f"Train longer: train.num_epochs{more}{trained}. {why}; `skillstack sweep` compares settings on rows that the gate never reads."


def _outcome_of_training(situation: Situation) -> str:
    steps = f", {situation.steps} steps" if situation.steps else ""
    return steps + (f", last loss {situation.last_loss:.2f}" if situation.last_loss is not None else "")


def _lose_less(held: Collection[CheckOutcome], verdict: Verdict, situation: Situation) -> Iterator[str]:
    few = _numbers(verdict).min_items
    lost = [check for check in held if check.check in LOSSES and (check.outcome == "block" or _is_moving(check, few) or _is_near(check))]
    if not lost:
        return
    if not situation.calibrated:
        yield (
            "Set `calibration` to general text (`skillstack init` writes some): it protects the base's own abilities, which are lost first "
            "without it. It counts from round 0, so begin a new state_dir."
        )
    elif situation.moment_tokens is not None and situation.moment_tokens < ENOUGH_TOKENS and _of_the_base(lost, situation):
        again = "" if situation.first_round else " It is measured in the first round of a lineage, so begin a new state_dir."
        yield (
            f"Protect more of what the base knew: train.moment_tokens {ENOUGH_TOKENS} (now {situation.moment_tokens}) measures that much "
            f"of the calibration text.{again}"
        )
    texts = [check.subject for check in lost if check.check in ("drift", "anchor_drift")]
    if situation.calibrated and texts:
        again = "" if situation.first_round else " It counts from round 0, so begin a new state_dir."
        yield (
            f"Add text of the kind of {' and '.join(dict.fromkeys(texts))} to `calibration`, but none of the suite's own: what is "
            f"in it is kept (maths on SmolLM2: +7.0 % without, +0.1 % with such text).{again}"
        )
    if situation.keep_general is not None and situation.keep_general < ENOUGH_KEEPING and _of_the_base(lost, situation):
        now = plain(situation.keep_general, 2)
        yield (
            f"Count what the update does to general text beside the drop's loss: train.keep_general {ENOUGH_KEEPING:g} (now {now}). It "
            "helped nano and changed nothing in a short training of SmolLM2."
        )
    if situation.replay_share is not None and situation.replay_share < ENOUGH_REPLAY and _of_a_skill(lost, situation):
        now = plain(situation.replay_share, 2)
        yield (
            f"Practise the earlier skills beside the new one: train.replay_share {ENOUGH_REPLAY} (now {now}) mixes in rows of them, of "
            "which the lineage keeps a sample (train.buffer_size)."
        )
    if any(check.check == "gain" and check.outcome != "pass" for check in held):
        return  # what is left of the advice keeps more and learns less, and too little was learned
    rate = f" {plain(situation.learning_rate / 3, 2)} (now {plain(situation.learning_rate, 2)})" if situation.learning_rate else ""
    passes = (
        f" and train.num_epochs {3 * situation.epochs:g} (now {situation.epochs:g})" if situation.epochs and not situation.watched else ""
    )
    yield f"Train with a lower rate and more passes: train.learning_rate{rate}{passes}. Many small steps keep more than few large ones."
    if situation.scalable and any(check.check == "gain" and check.outcome == "pass" for check in verdict.checks):
        scaled = f"{_again(verdict, situation)} --scale {0.75 * situation.scale:.2g}"
        shrinks = "what is lost shrinks with the scale, and what was learned shrinks faster (on one drop, to half at 0.75)"
        yield f"Offer most of the trained update, which trains nothing: {scaled}. But {shrinks}."


def _of_the_base(lost: Collection[CheckOutcome], situation: Situation) -> bool:
    """Whether anything but skills of the lineage is among the losses."""
    return any(check.subject not in {CATEGORY_WORDS["skill"], *situation.skills} for check in lost)


def _of_a_skill(lost: Collection[CheckOutcome], situation: Situation) -> bool:
    """Whether a skill of the lineage is among the losses."""
    return any(check.subject in {CATEGORY_WORDS["skill"], *situation.skills} for check in lost)


def _again(verdict: Verdict, situation: Situation) -> str:
    """The command of the same round."""
    skill = situation.skill or verdict.new_skill
    items = f" --heldout {shlex.quote(situation.heldout)}" if situation.heldout else ""
    return f"skillstack round {shlex.quote(situation.drop)} --skill {skill}{items}{' --refresh' if situation.refresh else ''}"


def _is_moving(check: CheckOutcome, few: int) -> bool:
    """Held, and more items would not help: the measured loss itself is about as large as a limit. Fewer than `few` do not say that."""
    asked = check.check in ("non_inferiority", "margin", "anchor", "drift", "anchor_drift") and check.p_value is not None
    return asked and (check.n or 0) >= few and check.outcome == "inconclusive" and check.items_needed is None and (check.effect or 0.0) < 0


def _is_near(check: CheckOutcome) -> bool:
    """Held, with a measured loss of at least half of the margin: lowering it costs less than the items that would rule the margin out."""
    return check.outcome == "inconclusive" and check.margin is not None and -(check.effect or 0.0) >= NEAR * check.margin


def _ask_more(held: Collection[CheckOutcome], verdict: Verdict, situation: Situation) -> Iterator[str]:
    floor, blocked = _numbers(verdict).min_items, verdict.decision is Decision.BLOCK
    hopeless = {check.subject for check in held if check.check in LOSSES and _is_moving(check, floor)}
    for check in held:
        if check.outcome != "inconclusive" or check.check not in LOSSES or check.subject in hopeless:
            continue
        if blocked and check.effect is not None and (check.n or 0) >= floor:
            continue  # something is lost or was not learned: no number of items changes that
        if check.items_needed:
            where = f"each of the {check.subject}" if check.subject in CATEGORIES else check.subject
            has = _where_from(check.subject, verdict, situation)
            yield f"Give {where} about {check.items_needed:,} items{has}, or widen the margin on record (docs/guides/gate.md)."
        elif check.effect is None:
            yield from _able_to_show(check.subject, verdict, situation)
        elif check.n is not None and check.n < floor:
            yield _enough_items(check, floor, verdict, situation)


def _enough_items(check: CheckOutcome, floor: int, verdict: Verdict, situation: Situation) -> str:
    """One suite that has too few items. That of a learned skill keeps those that it has: `skillstack items` adds a suite beside it."""
    if check.subject not in situation.skills:
        return f"Give {check.subject} at least {floor} items{_where_from(check.subject, verdict, situation)}."
    return (
        f"The suite {check.subject} keeps its {check.n} items, which are too few for its floor: give it one of its own on record "
        f"(gate.floors), and add a suite beside it (`skillstack items FILE --skill {skill_of_suite(check.subject)}`)."
    )


def _read_by(subject: str, verdict: Verdict, situation: Situation) -> set[str]:
    """The suites that a check reads: the one that it is about, or those of its category without a margin of their own."""
    if subject not in CATEGORIES:
        return {subject}
    alone = {check.subject for check in verdict.checks if check.check == "margin"} | {verdict.new_skill}
    return {name for name, category in situation.categories.items() if category == CATEGORIES[subject]} - alone


def _where_from(subject: str, verdict: Verdict, situation: Situation) -> str:
    """Where more items of a suite, or of a category's, come from, as a clause; empty where that is not known. What `skillstack items` adds
    is a suite beside the skill's, so it helps the mean of all skills and no single suite."""
    mine = _read_by(subject, verdict, situation)
    if spare := sorted(name for name in mine if situation.spare.get(name, 0) > 0):
        whose = "its" if subject in spare else "their"
        return f" (there are more in {', '.join(spare)}: raise {whose} `items`)"
    return " (`skillstack items FILE --skill NAME` adds them)" if CATEGORIES.get(subject) == "skill" else ""


def _able_to_show(subject: str, verdict: Verdict, situation: Situation) -> Iterator[str]:
    """What a check needs none of whose suites can show that nothing was lost: they have too few items, or the model guesses on them."""
    floor, mine = _numbers(verdict).min_items, _read_by(subject, verdict, situation)
    small = {check.subject for check in verdict.checks if check.check == "regression" and check.n is not None and check.n < floor}
    few = sorted(small & mine if mine else small)
    if CATEGORIES.get(subject) == "skill" and few:
        yield f"Give one of the earlier skills at least {floor} more held-out items{_where_from(subject, verdict, situation)}."
    elif few:
        yield from (f"Give {name} at least {floor} items{_where_from(name, verdict, situation)}." for name in few)
    if few and mine <= small:
        return
    if CATEGORIES.get(subject) == "skill" or subject in situation.skills:
        which = "the earlier skills" if subject in CATEGORIES else subject
        name = "NAME" if subject in CATEGORIES else skill_of_suite(subject)
        yield (
            f"The champion is no better than guessing on {which}, so no number of items shows that this was kept: a person decides. "
            f"`skillstack round DROP --skill {name} --refresh` teaches it again."
        )
    elif subject in CATEGORIES:
        yield f"Name {subject} on which this model is better than guessing: those that were measured cannot show a loss."
    else:
        yield f"Name a suite on which this model is better than guessing in place of {subject}, which cannot show a loss."


def _decide(verdict: Verdict, situation: Situation) -> str:
    version = situation.version if situation.version is not None else "VERSION"
    override = " --override" if verdict.decision is Decision.BLOCK else ""
    return (
        f'Or decide in your own name: skillstack approve {version}{override} --reviewer NAME --reason "..." or skillstack reject {version} '
        '--reviewer NAME --reason "..."'
    )


def _numbers(verdict: Verdict) -> GatePolicy:
    """The policy's numbers that the steps use; verdicts of earlier rules have them under the same names."""
    known = {name: verdict.policy[name] for name in ("min_items",) if name in verdict.policy}
    return GatePolicy.model_validate(known)
