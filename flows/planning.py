"""`skillstack gate plan`: what to expect of the gate in the next round, from the config's suites and the skills learned so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from data_contracts.errors import ConfigError
from data_contracts.manifests import Category
from evals.items import load_evaluation
from evals.plan import RoundPlan, measure_churn, plan_round
from flows.house import open_house
from flows.lineage import VersionRef
from flows.settings import SkillstackConfig

USUAL_CHURN = 0.05
"""Where there is nothing to measure it on: above what two real rounds showed (docs/results/gate.md)."""


def plan_next_round(config: SkillstackConfig, items: int, churn: float | None) -> RoundPlan:
    """Plan with the suites that the next round will be held to; `churn` None: measured on the newest two champions, where there are two.

    Raises ConfigError where there is no suite.
    """
    house = open_house(config)
    champion = house.lineage.champion(verify=False)
    chain = house.lineage.ancestry(champion.version) if champion else []
    learned = [version.skill for version in chain if version.skill]
    margins: dict[str, tuple[Category, float | None]] = {name: ("skill", config.evaluation.policy_for(name).margin) for name in learned}
    margins |= {suite.name: (suite.category, suite.margin) for suite in config.evaluation.suites if not suite.sealed}
    together: Counter[Category] = Counter(category for category, margin in margins.values() if margin is None)
    own = {name: (category, margin) for name, (category, margin) in margins.items() if margin is not None}
    measured, rounds = measure_lineage_churn(chain) if churn is None else (churn, "")
    return plan_round(config.gate, together, items, measured, own_margins=own, churn_from=rounds)


def measure_lineage_churn(chain: Sequence[VersionRef]) -> tuple[float, str]:
    """(share of items that flipped between the newest two champions, which rounds these are)."""
    kept = [version for version in chain if version.evaluation is not None]
    if len(kept) >= 2:
        before, after = (load_evaluation(version.evaluation) for version in kept[-2:] if version.evaluation is not None)
        try:
            return measure_churn(after, before), f"rounds {kept[-2].round} and {kept[-1].round}"
        except ConfigError:  # they share no suite
            return USUAL_CHURN, ""
    return USUAL_CHURN, ""
