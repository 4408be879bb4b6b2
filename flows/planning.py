"""`skillstack gate plan`: what to expect of the gate in the next round, from the config's suites and the skills learned so far."""

from __future__ import annotations

from collections import Counter

from data_contracts.manifests import Category
from evals.plan import RoundPlan, plan_round
from flows.house import open_house
from flows.settings import SkillstackConfig


def plan_next_round(config: SkillstackConfig, items: int, churn: float) -> RoundPlan:
    """Plan with as many suites a category as the next round will be held to. Raises ConfigError where there is none."""
    house = open_house(config)
    champion = house.lineage.champion(verify=False)
    learned = [version for version in house.lineage.ancestry(champion.version) if version.skill] if champion else []
    suites: Counter[Category] = Counter(suite.category for suite in config.evaluation.suites if not suite.sealed)
    suites["skill"] += len(learned)
    return plan_round(config.gate, {category: count for category, count in suites.items() if count}, items, churn)
