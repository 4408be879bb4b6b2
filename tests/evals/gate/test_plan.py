"""The plan keeps its word: what it promises is what simulated rounds then do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr

from data_contracts.errors import ConfigError
from evals.designs import MarginDraw
from evals.gate.plan import chance_of_proven_loss, measure_churn, plan_round
from evals.gate.policy import GatePolicy, Sizes
from evals.statistics import null_item_variance, p_above, paired_difference, pool, with_null_variance


def _p(draws: list[np.ndarray], margin: float) -> float:
    pooled = with_null_variance(pool([paired_difference(d) for d in draws]), draws, [None] * len(draws), margin)
    return p_above(pooled, -margin)


@pytest.mark.parametrize(("items", "churn"), [(200, 0.05), (400, 0.05), (400, 0.15)])
def test_the_chance_is_the_chance(items: int, churn: float) -> None:
    policy, generator = GatePolicy(), np.random.default_rng(0)
    promised = plan_round(policy, {"skill": 3}, items, churn).categories[0].chance_shown
    shown = []
    for _ in range(400):
        draws = [generator.choice([-1.0, 0.0, 1.0], p=[churn / 2, 1 - churn, churn / 2], size=items) for _ in range(3)]
        shown.append(_p(draws, policy.margin_skill) <= policy.alpha)
    assert np.mean(shown) == pytest.approx(promised, abs=0.07)


def test_the_chance_over_two_looks_is_that_of_two_looks() -> None:
    policy, generator, churn = GatePolicy(), np.random.default_rng(1), 0.12
    [plan] = plan_round(policy, {"general": 2}, 300, churn, available={"general": 900}).categories
    assert (plan.items, plan.second_look_items) == (300, 900)
    level = policy.level(1, [Sizes(300, 900, 300)])
    first, both = [], []
    for _ in range(600):
        draws = [generator.choice([-1.0, 0.0, 1.0], p=[churn / 2, 1 - churn, churn / 2], size=900) for _ in range(2)]
        first.append(_p([d[:300] for d in draws], policy.margin_general) <= level.alpha)
        both.append(first[-1] or _p(draws, policy.margin_general) <= level.again)
    assert np.mean(first) == pytest.approx(plan.chance_first, abs=0.07)
    assert np.mean(both) == pytest.approx(plan.chance_shown, abs=0.07)
    assert plan.chance_shown > plan.chance_first + 0.3


@pytest.mark.parametrize(("churn", "age"), [(0.05, 0), (0.12, 0), (0.12, 4)])
def test_the_chance_of_drawn_items_is_that_of_drawn_items(churn: float, age: int) -> None:
    """Items are drawn here by an implementation of its own, by margins that have moved `age` times since."""
    policy, generator, pool_size, n, suites = GatePolicy(), np.random.default_rng(2), 800, 300, 2
    margin = generator.exponential(1.0, pool_size)
    draws, pools = {"general": [MarginDraw(tuple(margin), age)] * suites}, {"general": pool_size}
    [plan] = plan_round(policy, {"general": suites}, n, churn, available=pools, draws=draws).categories
    assert (plan.drawn, plan.items, plan.second_look_items) == (2, n, pool_size)
    level, chance = policy.level(1, [Sizes(n, 2 * pool_size, n)]), _read_with(margin, n)
    before = _spread(margin, churn)
    after = _spread(margin + np.sqrt(age) * before * generator.standard_normal((500, pool_size)), churn)
    shown, both = [], []
    for _ in range(800):
        now = np.abs(margin + np.sqrt(age) * before * generator.standard_normal((suites, pool_size)))
        flipped = now + after * generator.standard_normal(now.shape) < 0
        d = np.where(flipped, generator.choice([-1.0, 1.0], now.shape), 0.0)
        number = generator.random(d.shape) / chance
        weight = np.where(number <= np.sort(number, axis=1)[:, n - 1 : n], 1.0 / chance, 0.0)
        weight *= pool_size / weight.sum(1, keepdims=True)
        shown.append(_p_of_rows(weight * d, float(weight.max()), n) <= level.alpha)
        both.append(shown[-1] or _p_of_rows(d, 1.0, pool_size) <= level.again)
    assert np.mean(shown) == pytest.approx(plan.chance_first, abs=0.08)
    assert np.mean(both) == pytest.approx(plan.chance_shown, abs=0.08)
    even = plan_round(policy, {"general": suites}, n, churn, available=pools).categories[0]
    assert (plan.chance_first > even.chance_first + 0.05) == (age == 0), "new margins are worth more than even items, old ones are not"


def _spread(distance: np.ndarray, churn: float) -> float:
    """The spread of a normal shift that turns so many items over."""
    return float(brentq(lambda spread: ndtr(-np.abs(distance) / spread).mean() - churn, 1e-3, 1e3))


def _read_with(margin: np.ndarray, n: int) -> np.ndarray:
    """The chances of the draw, from its description: in proportion to a size, at most 1, n in all."""
    size = np.sqrt(ndtr(-margin / _spread(margin, 0.15)))
    for _ in range(200):
        size = np.maximum(size, size.mean() / 2)
    return np.minimum(1.0, size * brentq(lambda scale: np.minimum(1.0, size * scale).sum() - n, 1e-6, 1e6))


def _p_of_rows(rows: np.ndarray, largest: float, n: int) -> float:
    """The gate's p for a loss of 2 points, from its formulas; the rows (suites x pool) that are 0 are counted together."""
    suites, pool_size = rows.shape
    moved = rows[rows != 0.0]
    value, mass = np.append(moved, 0.0), np.append(np.full(len(moved), 1.0 / rows.size), 1.0 - len(moved) / rows.size)
    null = null_item_variance(value / largest, mass, 0.02 / largest)
    if null is None:
        return 1.0
    null *= largest**2
    plain = rows.var(axis=1, ddof=1).sum() / pool_size / suites**2
    variance = max(plain + (null - rows.var()) / rows.size, null / rows.size)
    return float(stats.t.sf((rows.mean() + 0.02) / np.sqrt(variance), suites * (n - 1)))


def test_without_churn_the_plan_reckons_with_a_loss_that_was_not_seen() -> None:
    """The gate asks 2 / 0.0196 x 1.645^2 items or more where nothing flips, and then rules the loss out."""
    few, enough = (plan_round(GatePolicy(), {"general": 1}, n, 0.0).categories[0].chance_shown for n in (100, 140))
    assert (few, enough) == (0.0, 1.0)
    for n, shown in ((100, False), (140, True)):
        assert (_p([np.zeros(n)], 0.02) <= 0.05) == shown


def test_a_plan_of_two_looks_says_both_and_needs_fewer_items_at_first() -> None:
    policy = GatePolicy()
    plan = plan_round(policy, {"general": 1}, {"general": 300}, 0.1, available={"general": 600})
    [general] = plan.categories
    assert general.chance_shown < policy.power
    enough = plan_round(
        policy, {"general": 1}, {"general": max(300, -(-general.items_needed // 4))}, 0.1, available={"general": general.items_needed}
    )
    assert enough.categories[0].chance_shown >= policy.power
    assert f"{plan.chance_first:.0%} at the first look" in plan.sentence()
    assert f"general: {general.items_needed:,} items per suite" in plan.sentence()
    assert "at the first look" not in plan_round(policy, {"general": 1}, 600, 0.1).sentence()
    assert "the items suffice" in enough.sentence()


def test_the_items_needed_give_the_power_and_one_less_does_not() -> None:
    policy = GatePolicy()
    needed = plan_round(policy, {"safety": 1}, 100, 0.05).categories[0].items_needed
    assert plan_round(policy, {"safety": 1}, needed, 0.05).categories[0].chance_shown >= policy.power - 1e-6
    assert plan_round(policy, {"safety": 1}, needed - 1, 0.05).categories[0].chance_shown < policy.power + 1e-6


def test_more_suites_need_fewer_items_each_and_retries_more() -> None:
    def needed(suites: int, attempts: int = 1) -> int:
        return plan_round(GatePolicy(), {"skill": suites}, 100, 0.05, attempts).categories[0].items_needed

    assert needed(1) > needed(5) > 0
    assert needed(5, attempts=4) > needed(5)


def test_sentence_names_what_is_short() -> None:
    plan = plan_round(GatePolicy(), {"skill": 5, "safety": 1}, {"skill": 1000, "safety": 100}, 0.05)
    assert "safety" in plan.sentence()
    assert "skill:" not in plan.sentence()
    assert 0 < plan.chance_all_shown < 1


def test_a_suite_with_a_margin_of_its_own_is_planned_by_itself() -> None:
    plan = plan_round(GatePolicy(), {"skill": 4}, 400, 0.05, own_margins={"gsm8k": ("general", 0.1), "text": ("drift", 0.02)})
    skills, gsm8k = plan.categories
    assert (gsm8k.subject, gsm8k.suites, gsm8k.margin) == ("gsm8k", 1, 0.1)
    assert gsm8k.items_needed < plan_round(GatePolicy(), {"general": 1}, 400, 0.05).categories[0].items_needed
    assert gsm8k.chance_of_floor < skills.chance_of_floor / 4, "its floor is its margin"
    alone = plan_round(GatePolicy(), {}, 400, 0.05, own_margins={"gsm8k": ("general", 0.1)})
    assert alone.categories[0].items_needed == gsm8k.items_needed


def test_churn_is_read_off_two_evaluations(make_suite, make_evaluation, flip) -> None:
    score = np.tile([1.0, 0.0], 100)
    before = make_evaluation("a", make_suite("x", score), make_suite("text", [1.0] * 30, category="drift"))
    after = make_evaluation("b", make_suite("x", flip(score, lost=6, won=4)), make_suite("text", [2.0] * 30, category="drift"))
    assert measure_churn(after, before) == pytest.approx(0.05)


def test_the_next_rounds_churn_is_that_of_the_newest_two_champions(tmp_path, make_suite, make_evaluation, store_evaluation, flip) -> None:
    from flows.lineage import VersionRef
    from flows.round.planning import USUAL_CHURN, measure_lineage_churn

    score = np.tile([1.0, 0.0], 100)
    made = [make_evaluation(f"m{n}", make_suite("x", flip(score, lost=6 * n, won=4 * n))) for n in range(3)]
    plain = {"method": "osft", "decision": "PASS", "manifest_sha256": "", "parent_version": None, "run_id": "", "model_id": ""}
    chain = [
        VersionRef(
            version=n + 1, round=n, skill=f"s{n}", model_sha256=each.model_sha256, checkpoint=tmp_path,
            evaluation=store_evaluation(each, tmp_path / f"e{n}"), **plain,
        )
        for n, each in enumerate(made)
    ]  # fmt: skip
    churn, rounds = measure_lineage_churn(chain)
    assert (churn, rounds) == (pytest.approx(0.05), "rounds 1 and 2")
    assert measure_lineage_churn(chain[:1]) == (USUAL_CHURN, "")
    assert "measured on rounds 1 and 2" in plan_round(GatePolicy(), {"skill": 2}, 400, churn, churn_from=rounds).sentence()


def test_the_plan_has_the_margins_that_will_draw(tmp_path, make_suite, make_evaluation, store_evaluation, draw_items) -> None:
    """Of the newest report that drew the suite, as old as the rounds promoted since the model that has them; none before it was read."""
    from flows.lineage import VersionRef
    from flows.workspace.draws import drawing_margins

    margin = np.random.default_rng(0).exponential(1.0, 200)
    piqa, own = make_suite("piqa", np.tile([1.0, 0.0], 100), category="general"), make_suite("s1", np.ones(40), category="skill")
    reports = [
        make_evaluation("base", draw_items(piqa, margin, 80, "base")),
        make_evaluation("v1", draw_items(piqa, margin, 80, "base"), replace(own, margin=(0.5, -0.25) * 20)),
    ]
    plain = {"method": "osft", "decision": "PASS", "manifest_sha256": "", "parent_version": None, "run_id": "", "model_id": ""}
    chain = [
        VersionRef(
            version=n + 1, round=n, skill=f"s{n}" if n else None, model_sha256=each.model_sha256, checkpoint=tmp_path,
            evaluation=store_evaluation(each, tmp_path / f"e{n}"), **plain,
        )
        for n, each in enumerate(reports)
    ]  # fmt: skip
    for length in (1, 2):
        found = drawing_margins(chain[:length], "piqa")
        assert found is not None
        assert found.margin == pytest.approx(margin)
        assert found.age == length - 1
    learned = drawing_margins(chain, "s1")  # read evenly by the version that learned it: these margins are a sample
    assert learned == MarginDraw((0.5, 0.25) * 20, 0)
    assert drawing_margins(chain, "unknown") is None
    assert drawing_margins([], "piqa") is None


@pytest.mark.parametrize(
    ("n", "suites", "churn", "loss"), [(400, 5, 0.05, 0.0), (2000, 5, 0.05, 0.0), (400, 1, 0.1, 0.03), (60, 2, 0.2, 0.0)]
)
def test_the_chance_of_a_proven_loss_is_that_of_mcnemars_test(n: int, suites: int, churn: float, loss: float) -> None:
    """By simulation with scipy's binomtest; over suites without a loss Holm's first step decides."""
    generator, level = np.random.default_rng(3), 0.05 / suites
    changes = generator.multinomial(n, [churn / 2 + loss, churn / 2, 1 - churn - loss], size=4000)[:, :2]
    found = {pair: stats.binomtest(pair[0], sum(pair), alternative="greater").pvalue for pair in map(tuple, changes.tolist()) if sum(pair)}
    shown = np.mean([found.get((lost, won), 1.0) <= level for lost, won in changes.tolist()])
    chance = chance_of_proven_loss(n, churn, level, loss)
    assert shown == pytest.approx(chance, abs=4 * np.sqrt(chance / 4000))
    if not loss:
        [plan] = plan_round(GatePolicy(), {"skill": suites}, n, churn).categories
        assert plan.chance_of_proven == pytest.approx(1 - (1 - chance) ** suites)


def test_an_honest_round_may_be_blocked_however_many_items_there_are() -> None:
    """Holm at 5 % is the price of proving a loss: no number of items makes the chance to pass 100 %."""
    plan = plan_round(GatePolicy(), {"skill": 5}, 4000, 0.05)
    assert plan.categories[0].chance_shown > 0.999
    assert 0.95 <= plan.chance_all_shown < 0.97
    own = plan_round(GatePolicy(), {}, 4000, 0.05, own_margins={"x": ("general", 0.02)})
    assert own.chance_all_shown > 0.999, "a suite with a margin of its own may lose that much"


def test_the_floors_of_a_plan_are_those_of_its_suites() -> None:
    """Of 35 items one honest round in nine loses two; a floor of its own lets it."""
    singly = {"general": [("a", 400), ("b", 400), ("short", 35)]}
    churn, policy = 0.05, GatePolicy()

    def chance(policy: GatePolicy) -> float:
        return plan_round(policy, {"general": 3}, 93, churn, singly=singly).categories[0].chance_of_floor

    generator = np.random.default_rng(4)
    changes = generator.multinomial(35, [churn / 2, churn / 2, 1 - churn], size=20000)
    through = float(((changes[:, 0] - changes[:, 1]) / 35 >= policy.floor).mean())
    assert chance(policy) == pytest.approx(through, abs=0.012)
    assert chance(policy) > 2 * plan_round(policy, {"general": 3}, 93, churn).categories[0].chance_of_floor
    assert chance(GatePolicy(floors={"short": 0.15})) < 0.01


def test_fewer_items_than_the_gate_judges_show_nothing() -> None:
    policy = GatePolicy()
    [plan] = plan_round(policy, {}, 29, 0.01, own_margins={"x": ("general", 0.3)}).categories
    assert (plan.chance_shown, plan.items_needed) == (0.0, policy.min_items)
    [plan] = plan_round(policy, {}, 20, 0.01, own_margins={"x": ("general", 0.3)}, available={"x": 80}).categories
    assert plan.chance_first == 0.0
    assert plan.chance_shown > 0.9


def test_nonsense_is_refused(make_evaluation) -> None:
    for arguments in (({"skill": 1}, 100, 1.5), ({}, 100, 0.1), ({"skill": 1}, 1, 0.1), ({"skill": 1}, {"general": 50}, 0.1)):
        with pytest.raises(ConfigError):
            plan_round(GatePolicy(), *arguments)
    with pytest.raises(ConfigError, match="share no suite"):
        measure_churn(make_evaluation("a"), make_evaluation("b"))
