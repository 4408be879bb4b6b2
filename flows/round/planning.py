"""What the next round can decide with the present suites, learned skills and held-out rows.

`skillstack gate plan` prints the plan; `validate` and `round` print before training what is missing.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from pydantic import Field

from data_contracts.errors import ConfigError
from data_contracts.manifests import Category, DropManifest, Record
from data_contracts.rows.jsonl import is_jsonl, read_raw
from data_contracts.skill_names import MORE_SUFFIX, suite_name
from evals.config import SkillPolicy, SuiteConfig
from evals.designs import MarginDraw
from evals.gate.pairing import why_uninformative
from evals.gate.plan import CategoryPlan, RoundPlan, margin_shown_by, measure_churn, plan_round
from evals.gate.policy import GatePolicy
from evals.gate.words import CATEGORY_WORDS
from evals.items import load_evaluation
from evals.suites.resolve import resolve_suites
from flows.config.model import SkillstackConfig
from flows.lineage import VersionRef, current_champion, read_ancestry
from flows.lineage.audit_rows import own_suite
from flows.round.reports import registered_suites
from flows.workspace.draws import drawing_margins
from flows.workspace.workspace import has_lineage, open_workspace

USUAL_CHURN = 0.05
"""Churn if it cannot be measured: higher than in two real rounds (docs/results/gate.md)."""
USUAL_ITEMS = 400
"""Items of a suite of unknown size: an lm-eval task before its first evaluation."""
LIKELY = 0.5  # a check with a smaller chance of success is named before training


@dataclass(frozen=True)
class PlannedSuite:
    """A suite of the next round, with the number of its items: in all, and at the first look.

    `limited`: the config says how many the first look reads, so that items which are added are for a second look. `draw`: by which margins
    fewer than all are drawn; None where they are drawn evenly, or the model that draws them has not been read yet.
    """

    name: str
    category: Category
    margin: float | None
    items: int
    first: int
    limited: bool = False
    draw: MarginDraw | None = None

    def drawn(self, items: int | None) -> MarginDraw | None:
        """The margins that draw `items` of the suite (None: the first look's); None where all of them are read, or drawn evenly."""
        return self.draw if (items or self.first) < self.items else None

    def a_round_later(self) -> PlannedSuite:
        return self if self.draw is None else replace(self, draw=replace(self.draw, age=self.draw.age + 1))


def plan_next_round(config: SkillstackConfig, items: int | None, churn: float | None) -> RoundPlan:
    """Plan the next round. Raises ConfigError if there is no suite.

    `items` None: as many as the suites have. `churn` None: measured on the newest two champions, if there are two.
    """
    lineage = open_workspace(config).lineage if has_lineage(config) else None
    champion = current_champion(lineage, verify=False) if lineage else None
    chain = read_ancestry(lineage, champion.version) if lineage and champion else []
    return plan_suites(config, planned_suites(config, chain), items, *(measure_lineage_churn(chain) if churn is None else (churn, "")))


class DropPlan(Record):
    """What a drop's own held-out rows can show: in its round, and in later rounds, in which its skill must not be lost."""

    skill: str
    heldout: int = Field(description="rows of the drop that the gate reads")
    coming: RoundPlan | None = Field(description="the drop's own round; null where there is no suite to lose yet")
    later: RoundPlan = Field(description="the round after it, once the skill is learned")
    notes: tuple[str, ...] = Field(description="what may keep the gate from deciding, each with what to do")


def plan_with_drop(
    config: SkillstackConfig, chain: Sequence[VersionRef], drop: DropManifest, churn: float | None = None, attempt: int = 1
) -> DropPlan:
    """Plan the drop's round and the one after it with the drop's real numbers; before the first round `chain` is empty.

    `attempt`: the number of the judgement that the coming round would be, which decides how sure it has to be.

    Raises ConfigError where the drop has fewer than two held-out rows.
    """
    if drop.rows_heldout < 2:
        what = f"has {drop.rows_heldout} held-out rows"
        raise ConfigError(drop.source, what, "set contract.heldout_fraction, or give items with --heldout")
    noise = measure_lineage_churn(chain) if churn is None else (churn, "")
    suites, policy = planned_suites(config, chain), config.evaluation.policy_for(drop.skill)
    n = drop.rows_heldout
    first, name = min(policy.items or n, n), suite_name(drop.skill, drop.teaching)
    new = PlannedSuite(name, "skill", policy.margin, n, first, limited=policy.items is not None)
    planned = [suite for suite in suites if suite.category != "drift"]
    return DropPlan(
        skill=drop.skill,
        heldout=n,
        coming=plan_suites(config, planned, None, *noise, attempt) if planned else None,
        later=plan_suites(config, [*(suite.a_round_later() for suite in planned), new], None, *noise),
        notes=what_is_missing(config, chain, drop, noise, attempt),
    )


def planned_suites(config: SkillstackConfig, chain: Sequence[VersionRef]) -> list[PlannedSuite]:
    """The suites of the config and of the champion's skills."""
    registered = {name: known.result for name, known in registered_suites(chain).items()}
    counted = {name: known.available or known.n for name, known in registered.items()}

    def planned(name: str, category: Category, rules: SuiteConfig | SkillPolicy, every: int) -> PlannedSuite:
        known = registered.get(name)
        first = max(min(rules.items or every, every), known.n if known else 0)
        draw = drawing_margins(chain, name) if rules.draw == "margin" else None
        return PlannedSuite(name, category, rules.margin, every, first, limited=rules.items is not None, draw=draw)

    asked = [suite for suite in config.evaluation.suites if not suite.sealed]
    suites = [planned(each.name, each.category, each, counted.get(each.name) or _rows(each.source) or USUAL_ITEMS) for each in asked]
    named = {suite.name for suite in suites}
    learned = {own_suite(version.skill, version.drop) or version.skill: version.skill for version in chain if version.skill}
    more = {skill: path for skill, path in config.evaluation.more_items.items() if skill in learned}
    items = {name: counted.get(name, USUAL_ITEMS) for name in learned if name not in named}
    items |= {skill + MORE_SUFFIX: _rows(str(path)) or 0 for skill, path in more.items()}
    learned |= {skill + MORE_SUFFIX: skill for skill in more}
    return suites + [planned(name, "skill", config.evaluation.policy_for(learned[name]), count) for name, count in items.items()]


def _rows(source: str) -> int | None:
    path = Path(source)
    return sum(1 for _ in read_raw(path)) if is_jsonl(source) and path.is_file() else None


def plan_suites(
    config: SkillstackConfig, suites: Sequence[PlannedSuite], items: int | None, churn: float, rounds: str, attempt: int = 1
) -> RoundPlan:
    """The gate's plan; `items` None: the first look's items and then as many as the suites have, else so many in one look.

    Fewer items than a suite has are drawn from all of them where it draws by margin. The suites of a category are averaged; the precision
    of this mean depends on the harmonic mean of their sizes. The gate leaves suites of too few items out of it, and so does the plan; their
    floors hold all the same.
    """
    together, sizes = dict[Category, int](), dict[Category, int]()
    singly: dict[Category, list[tuple[str, int]]] = {}
    available: dict[str, int] = {}
    draws: dict[str, list[MarginDraw]] = {}
    pools: dict[str, int] = {}
    for category in get_args(Category):
        every = [suite for suite in suites if suite.category == category and suite.margin is None]
        singly[category] = [(suite.name, items or max(2, suite.first)) for suite in every]
        mine = [suite for suite in every if (items or suite.items) >= config.gate.min_items] or every
        if mine:
            together[category] = len(mine)
            sizes[category] = items or _harmonic_mean([suite.first for suite in mine])
            if any(suite.limited for suite in mine):
                available[category] = items or _harmonic_mean([suite.items for suite in mine])
            draws[category] = [draw for suite in mine if (draw := suite.drawn(items))]
            pools |= {category: _harmonic_mean([suite.items for suite in mine])} if items else {}
    alone = [suite for suite in suites if suite.margin is not None]
    own: dict[str, tuple[Category, float]] = {suite.name: (suite.category, suite.margin or 0.0) for suite in alone}
    own_items = {suite.name: items or max(2, suite.first) for suite in alone}
    available |= {suite.name: items or max(2, suite.items) for suite in alone if suite.limited}
    draws |= {suite.name: [draw] for suite in alone if (draw := suite.drawn(items))}
    pools |= {suite.name: suite.items for suite in alone} if items else {}
    return plan_round(
        config.gate, together, sizes, churn, attempt,
        own_margins=own, own_items=own_items, available=available, draws=draws, pools=pools, singly=singly, churn_from=rounds,
    )  # fmt: skip


def _harmonic_mean(sizes: Sequence[int]) -> int:
    return max(2, round(len(sizes) / sum(1.0 / max(1, count) for count in sizes)))


def measure_lineage_churn(chain: Sequence[VersionRef]) -> tuple[float, str]:
    """(share of items that changed between the newest two champions, the names of these rounds)."""
    kept = [version for version in chain if version.evaluation is not None]
    if len(kept) >= 2:
        before, after = (load_evaluation(version.evaluation) for version in kept[-2:] if version.evaluation is not None)
        with contextlib.suppress(ConfigError):  # they share no suite
            return measure_churn(after, before), f"rounds {kept[-2].round} and {kept[-1].round}"
    return USUAL_CHURN, ""


def check_names(config: SkillstackConfig, skills: Sequence[str], registered: Mapping[str, object]) -> None:
    """Raise ConfigError for an unknown suite in the gate's settings: a misspelt floor would protect nothing."""
    known = {suite.name for suite in config.evaluation.suites} | set(skills) | set(registered)
    for key in ("floors", "required_suites", "retired_suites", "min_scores"):
        for name in getattr(config.gate, key):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                way_out = f"did you mean {near[0]!r}?" if near else f"suites and skills here: {', '.join(sorted(known)) or 'none'}"
                raise ConfigError(f"gate.{key}", f"names {name!r}, which is neither a suite nor a skill", way_out)


def no_longer_asked(config: SkillstackConfig, skills: Collection[str], registered: Mapping[str, object]) -> list[str]:
    """Suites of earlier champions that this round would not measure. `skills`: the suites of learned skills."""
    asked = {suite.name for suite in resolve_suites(config.evaluation.suites, Path.cwd()) if not suite.sealed}
    gone = sorted(set(registered) - asked - set(skills) - set(config.gate.retired_suites))
    way_out = "put it back, or retire it on record (gate.retired_suites: {name: reason})"
    before = "which an earlier champion was registered with, would not be measured, and the verdict would be ERROR"
    return [f"{name}, {before}: {way_out}." for name in gone]


def what_is_missing(
    config: SkillstackConfig, chain: Sequence[VersionRef], drop: DropManifest, noise: tuple[float, str] | None = None, attempt: int = 1
) -> tuple[str, ...]:
    """What may keep the gate from deciding this round, each with what to do. Raises ConfigError for unknown names.

    `noise`: churn and the rounds that it was measured on; None: it is measured on the chain. `attempt` as in plan_with_drop.
    """
    registered = registered_suites(chain)
    check_names(config, [*(version.skill for version in chain if version.skill), drop.skill], registered)
    suites = planned_suites(config, chain)
    churn, rounds = measure_lineage_churn(chain) if noise is None else noise
    return (
        *no_longer_asked(config, {suite.name for suite in suites if suite.category == "skill"}, registered),
        *_new_skill(config, drop, sum(_is_averaged(config.gate, suite) for suite in suites), churn),
        *unmeasured_categories(config, first_round=len(chain) <= 1),
        *_short_suites(config.gate, plan_suites(config, suites, None, churn, rounds, attempt) if suites else None),
        *_uninformative(config.gate, chain),
        *without_calibration(config),
    )


def _is_averaged(policy: GatePolicy, suite: PlannedSuite) -> bool:
    """Whether a suite is part of the mean of all skills: one with a margin of its own is asked by itself, a short one not at all."""
    return suite.category == "skill" and suite.margin is None and suite.items >= policy.min_items


def _new_skill(config: SkillstackConfig, drop: DropManifest, earlier: int, churn: float) -> list[str]:
    """Whether the drop's held-out rows suffice to decide its gain, and later to notice its loss."""
    skill, n, policy = drop.skill, drop.rows_heldout, config.gate
    rows = drop.rows_clean + drop.rows_heldout + drop.rows_sealed
    if n < policy.min_items:
        return [f"{skill} has {n} held-out items, but a gain needs at least {policy.min_items}: {_hold_out(policy.min_items, rows)}."]
    margin = config.evaluation.policy_for(skill).margin
    suites = 1 if margin is not None else earlier + 1
    needed = _items_needed(policy, margin, suites, n, churn)
    if n >= needed:
        return []
    shown, asked = margin_shown_by(policy, n, churn), 100 * (margin or policy.margin_skill)
    return [
        f"{skill} has {n} held-out items: enough to decide whether it is learned. Later rounds need about {needed:,} to rule out a loss of "
        f"{asked:.1f} points: {_hold_out(needed, rows)}, or once it is learned with `skillstack items FILE --skill {skill}`; or set a "
        f"margin that {n} items can show: evaluation.skills: {{{skill}: {{margin: {shown:.2f}}}}}."
    ]


def _items_needed(policy: GatePolicy, margin: float | None, suites: int, n: int, churn: float) -> int:
    """Items that the new skill needs, for its own margin or as part of the mean of all skills."""
    own: dict[str, tuple[Category, float]] = {} if margin is None else {"new": ("skill", margin)}
    together: dict[Category, int] = {"skill": suites} if margin is None else {}
    return plan_round(policy, together, n, churn, own_margins=own).categories[0].items_needed


def _hold_out(needed: int, rows: int) -> str:
    share = math.ceil(100 * needed / max(rows, 1)) / 100
    if share <= 0.5:
        return f"set contract.heldout_fraction: {share:.2f}, or give more items with --heldout"
    return f"give more items with --heldout (half of these {rows:,} rows would not be enough)"


def unmeasured_categories(config: SkillstackConfig, *, first_round: bool) -> list[str]:
    """Categories without a suite that gate.accept_unmeasured does not list: such a round is held, whatever it learned."""
    asked = {suite.category for suite in config.evaluation.suites if not suite.sealed} | ({"skill"} if first_round else set())
    missing = [each for each in get_args(Category) if each not in asked and each not in config.gate.accept_unmeasured and each != "skill"]
    if not missing:
        return []
    words = " and ".join(CATEGORY_WORDS[category] for category in missing)
    return [
        f"evaluation.suites has no {words}, so a round is held for a person: add some (`skillstack init` writes them), or accept it in the "
        f"config: gate: {{accept_unmeasured: [{', '.join(missing)}]}}."
    ]


def _short_suites(policy: GatePolicy, plan: RoundPlan | None) -> list[str]:
    return [_short_sentence(each, plan.churn, policy) for each in plan.categories if each.chance_shown < LIKELY] if plan else []


def _short_sentence(each: CategoryPlan, churn: float, policy: GatePolicy) -> str:
    who = CATEGORY_WORDS[each.category] if each.subject == each.category else each.subject
    have = f"{each.suites} suite{'' if each.suites == 1 else 's'} of about {each.second_look_items:,} items"
    return (
        f"{who} ({have}): if nothing is lost, the chance to show a loss below {100 * each.margin:.1f} points is {each.chance_shown:.0%} "
        f"(with {churn:.1%} of the items changing by chance); about {each.items_needed:,} items per suite make it {policy.power:.0%}."
    )


def _uninformative(policy: GatePolicy, chain: Sequence[VersionRef]) -> list[str]:
    """Suites on which the champion does no better than guessing: they cannot show a loss."""
    if not chain or chain[-1].evaluation is None:
        return []
    suites = load_evaluation(chain[-1].evaluation).suites.values()
    asked = [suite for suite in suites if not suite.result.sealed and suite.category != "drift"]
    why = {suite.name: reason for suite in asked if (reason := why_uninformative(suite, policy.alpha, policy.rules))}
    return [f"{name} cannot show a loss: {reason}. Choose a suite that this model can do." for name, reason in why.items()]


def without_calibration(config: SkillstackConfig) -> list[str]:
    if config.calibration is not None or config.train.method != "osft":
        return []
    return [
        "`calibration` is not set, so the general abilities of the base model are not protected. `skillstack init` writes such a text; it "
        "is used from round 1 on."
    ]
