"""How often the gate is wrong: its error rates by simulation, and what a small loss a round adds up to.

    python tests/benchmarks/gate.py [--simulations 20000] [--ratchets 300] [--out docs/results]

Writes gate-*.svg and the numbers between the markers of gate.md; takes some minutes on one core. The rules are vectorised here over
simulations; `check_against_gate` runs the real `evals.gate.decide` on a sample of the same draws and demands the same decision, so what is
measured is the gate.

Setting: five earlier skills and three general suites of n items each (and, where said, one safety suite), champion right on 75 % of the
items. `churn` is the share of items that flip although nothing is lost, half of them each way. Gain and drift are taken as passed: they are
other questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gate_tables import CHURNS, SIZES, plot_ratchet, plot_rates, ratchet_table, rates_table, sizes_table, targets_table
from numpy.typing import NDArray
from scipy import stats

from data_contracts.digests import text_digest
from data_contracts.manifests import Category, Decision, EvalReport, SuiteResult
from evals.gate import GateEvidence, GatePolicy, decide
from evals.items import Evaluation, SuiteItems
from evals.statistics import mcnemar_p

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LOSS, ROUNDS = 0.009, 15
RIGHT = 0.75
SKILLS_AND_GENERAL: tuple[Category, ...] = ("skill",) * 5 + ("general",) * 3
WITH_SAFETY: tuple[Category, ...] = (*SKILLS_AND_GENERAL, "safety")
PASS, BLOCK, HOLD = 0, 1, 2
BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
DECISIONS = {Decision.PASS: PASS, Decision.BLOCK: BLOCK, Decision.INCONCLUSIVE: HOLD}


@dataclass(frozen=True)
class Scenario:
    """`losses` is the true loss of each suite, in score units."""

    name: str
    losses: tuple[float, ...]


def scenarios(categories: Sequence[Category]) -> list[Scenario]:
    none = (0.0,) * len(categories)
    return [
        Scenario("nothing changed", none),
        Scenario("all suites −2 points", (0.02,) * len(categories)),
        Scenario("one skill −5 points", (0.05, *none[1:])),
        Scenario("one skill −10 points", (0.10, *none[1:])),
    ]


# ------------------------------------------------------------------------------------------------ the gate's rules, over many draws at once


def moments(lost: Ints, won: Ints, n: int) -> tuple[Floats, Floats]:
    """(mean, variance of the mean) of paired differences, as statistics.paired_difference has them."""
    mean = (won - lost) / n
    per_item = ((won + lost) - n * mean**2) / (n - 1)
    return mean, (n * per_item + 1.0) / (n + 2.0) / n


def pooled_outcome(mean: Floats, variance: Floats, n: int, margin: float, alpha: float) -> Ints:
    """PASS, BLOCK or HOLD for one category; arrays are draws x suites."""
    suites = mean.shape[1]
    centre, spread = mean.mean(1), variance.sum(1) / suites**2
    spread = np.maximum(spread, (margin - margin**2) / (n * suites))
    degrees = variance.sum(1) ** 2 / (variance**2 / (n - 1)).sum(1)
    shown = stats.t.sf((centre + margin) / np.sqrt(spread), degrees) <= alpha
    worse = (stats.t.sf(-centre / np.sqrt(spread), degrees) <= alpha) & (centre <= -margin)
    return np.where(shown, PASS, np.where(worse, BLOCK, HOLD))


def holm_rejects(p: Floats, alpha: float) -> NDArray[np.bool_]:
    """Which p-values (draws x suites) Holm rejects."""
    order = np.argsort(p, axis=1)
    ranked = np.take_along_axis(p, order, axis=1)
    factors = p.shape[1] - np.arange(p.shape[1])
    adjusted = np.minimum(1.0, np.maximum.accumulate(ranked * factors, axis=1))
    rejected = np.empty_like(p, dtype=bool)
    np.put_along_axis(rejected, order, adjusted <= alpha, axis=1)
    return rejected


def judge(
    lost: Ints, won: Ints, n: int, categories: Sequence[Category], policy: GatePolicy, since: tuple[Ints, Ints] | None = None
) -> Ints:
    """The decision for every draw; `since` is (lost, won) against the anchors."""
    blocked = np.zeros(len(lost), dtype=bool)
    held = np.zeros(len(lost), dtype=bool)
    for (losses, gains), anchored in [((lost, won), False)] + ([(since, True)] if since else []):
        mean, variance = moments(losses, gains, n)
        for category in dict.fromkeys(categories):
            columns = [index for index, each in enumerate(categories) if each == category]
            margin = policy.anchor_budget if anchored else policy.margin(category)
            outcome = pooled_outcome(mean[:, columns], variance[:, columns], n, margin, policy.alpha)
            blocked |= outcome == BLOCK
            held |= outcome == HOLD
        proven = holm_rejects(mcnemar_p(losses, gains), policy.alpha)
        if anchored:
            proven &= mean < -policy.anchor_budget
        blocked |= (proven | (mean <= -policy.floor + 1e-12)).any(1)
    return np.where(blocked, BLOCK, np.where(held, HOLD, PASS))


def draw(scenario: Scenario, n: int, churn: float, simulations: int, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """(lost, won) item counts, draws x suites."""
    columns = []
    for loss in scenario.losses:
        columns.append(generator.multinomial(n, [churn / 2 + loss, churn / 2, 1 - churn - loss], size=simulations))
    counts = np.stack(columns, axis=1)
    return counts[..., 0], counts[..., 1]


# ------------------------------------------------------------------------------------------------ the real gate on some of the same draws


def evaluation(model: str, scores: Sequence[Floats], categories: Sequence[Category]) -> Evaluation:
    suites: dict[str, SuiteItems] = {}
    for index, (score, category) in enumerate(zip(scores, categories, strict=True)):
        n, name = len(score), f"{category}-{index}"
        result = SuiteResult(
            name=name,
            category=category,
            metric="acc",
            higher_is_better=True,
            n=n,
            score=float(score.mean()),
            suite_sha256=text_digest(name),
            seconds=0,
        )
        ids = tuple(str(item) for item in range(n))
        suites[name] = SuiteItems(result, ids, ids, score, np.full(n, np.nan), np.ones(n), (None,) * n, ids, ids, ids)
    report = EvalReport(
        model_sha256=text_digest(model), settings={}, settings_sha256="0", suites=tuple(each.result for each in suites.values())
    )
    return Evaluation(report, suites)


def decide_for_real(
    lost: Ints, won: Ints, n: int, categories: Sequence[Category], policy: GatePolicy, since: tuple[Ints, Ints] | None = None
) -> int:
    """One draw (arrays over suites) through evals.gate.decide."""

    def scores(wrong_to_right: Ints, right_to_wrong: Ints) -> list[Floats]:
        """A reference from which the candidate (right on all but the first quarter) differs by these counts."""
        made = []
        for back, forth in zip(wrong_to_right, right_to_wrong, strict=True):
            score = candidate_score.copy()
            score[: int(forth)] = 1.0
            score[n - int(back) :] = 0.0
            made.append(score)
        return made

    candidate_score = np.ones(n)
    candidate_score[: n // 4] = 0.0
    candidate = evaluation("candidate", [candidate_score] * len(categories), categories)
    champion = evaluation("champion", scores(won, lost), categories)
    anchor = evaluation("anchor", scores(since[1], since[0]), categories) if since else champion
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(candidate.suites, anchor), None), policy)
    return DECISIONS[verdict.decision]


def check_against_gate(policy: GatePolicy, draws: int = 60) -> int:
    """Raise unless the vectorised rules and the gate agree on every sampled draw; returns how many were compared."""
    generator = np.random.default_rng(7)
    compared = 0
    for n in SIZES[:3]:
        for churn in (0.0, 0.05):
            for scenario in scenarios(WITH_SAFETY):
                lost, won = draw(scenario, n, churn, max(1, draws // 8), generator)
                more = generator.binomial(n, 0.015, size=lost.shape)
                for since in (None, (lost + more, won)):
                    fast = judge(lost, won, n, WITH_SAFETY, policy, since)
                    for row in range(len(lost)):
                        one = None if since is None else (since[0][row], since[1][row])
                        slow = decide_for_real(lost[row], won[row], n, WITH_SAFETY, policy, one)
                        if slow != fast[row]:
                            raise AssertionError(f"n={n} churn={churn} {scenario.name}: the gate says {slow}, the simulation {fast[row]}")
                        compared += 1
    return compared


# ------------------------------------------------------------------------------------------------ the ratchet


def ratchet(mode: str, n: int, churn: float, loss: float, rounds: int, simulations: int, policy: GatePolicy) -> Floats:
    """True loss in the lineage after each round (simulations x rounds), where every candidate truly loses `loss` on every suite.

    A round that does not pass leaves the champion as it is, and the next one tries again. `champion`: compared with the champion only;
    `anchors`: also with where the lineage started, on the same items every round; `fresh`: the same, on items drawn anew every round.
    """
    generator = np.random.default_rng(11)
    shape = (simulations, len(SKILLS_AND_GENERAL), n)
    anchor = generator.random(shape, dtype=np.float32) < RIGHT
    champion = anchor.copy()
    promoted = np.zeros(simulations, dtype=np.int64)
    history = np.empty((simulations, rounds))
    for round_number in range(rounds):
        if mode == "fresh":
            anchor = generator.random(shape, dtype=np.float32) < RIGHT
            champion = anchor.copy()
            for step in range(int(promoted.max(initial=0))):
                active = promoted > step
                champion[active] = _one_round(champion[active], np.full(int(active.sum()), step), churn, loss, generator)
        candidate = _one_round(champion, promoted, churn, loss, generator)
        since = None if mode == "champion" else _counts(candidate, anchor)
        passed = judge(*_counts(candidate, champion), n, SKILLS_AND_GENERAL, policy, since) == PASS
        champion[passed] = candidate[passed]
        promoted += passed
        history[:, round_number] = promoted * loss
    return history


def _one_round(
    state: NDArray[np.bool_], rounds_before: Ints, churn: float, loss: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Flip items so that `loss` of them are lost on balance and churn / 2 flip each way besides."""
    accuracy = (RIGHT - loss * rounds_before)[:, None, None]
    flip = np.where(state, (churn / 2 + loss) / accuracy, (churn / 2) / (1 - accuracy)).astype(np.float32)
    return state ^ (generator.random(state.shape, dtype=np.float32) < flip)


def _counts(candidate: NDArray[np.bool_], reference: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    return (reference & ~candidate).sum(2), (candidate & ~reference).sum(2)


# ------------------------------------------------------------------------------------------------ shares


def error_rates(categories: Sequence[Category], simulations: int, policy: GatePolicy) -> dict[tuple[str, int, float], Floats]:
    """(scenario, n, churn) -> shares of PASS, BLOCK, HOLD."""
    generator = np.random.default_rng(5)
    found = {}
    for scenario in scenarios(categories):
        for n in SIZES:
            for churn in CHURNS:
                decisions = judge(*draw(scenario, n, churn, simulations, generator), n, categories, policy)
                found[scenario.name, n, churn] = np.bincount(decisions, minlength=3) / simulations
    return found


def pooled_sizes(simulations: int, policy: GatePolicy) -> dict[tuple[int, int], list[float]]:
    """(suites, n) -> P(the category is shown), without churn and with each, where its true mean loss is the margin."""
    generator = np.random.default_rng(6)
    margin = policy.margin("skill")
    found: dict[tuple[int, int], list[float]] = {}
    for suites in (1, 3, 5, 15):
        for n in SIZES:
            found[suites, n] = []
            for churn in (0.0, *CHURNS):
                lost, won = draw(Scenario("at the margin", (margin,) * suites), n, churn, simulations, generator)
                shown = pooled_outcome(*moments(lost, won, n), n, margin, policy.alpha) == PASS
                found[suites, n].append(float(shown.mean()))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--ratchets", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args(arguments)
    policy = GatePolicy()
    compared = check_against_gate(policy)
    rates = error_rates(SKILLS_AND_GENERAL, options.simulations, policy)
    with_safety = error_rates(WITH_SAFETY, options.simulations, policy)
    histories = {
        (mode, n): ratchet(mode, n, 0.05, LOSS, ROUNDS, options.ratchets, policy)
        for n in (400, 1000)
        for mode in ("champion", "anchors", "fresh")
    }
    checked = f"{compared} draws were also judged by `evals.gate.decide`, with equal decisions"
    text = [
        f"{options.simulations:,} draws a cell, {options.ratchets} lineages a row; {checked}.",
        *("", "### Targets", "", *targets_table(rates)),
        *("", "### Five skills, three general suites", "", *rates_table(rates), "", "![P(promote)](gate-rates.svg)"),
        *("", "### The same with one safety suite (margin 1 point)", "", *rates_table(with_safety)),
        *("", "### Size of one category's question", "", *sizes_table(pooled_sizes(options.simulations, policy))),
        *("", "### The ratchet", "", *ratchet_table(histories, LOSS, ROUNDS), "", "![The ratchet](gate-ratchet.svg)"),
    ]
    plot_rates(rates, options.out / "gate-rates.svg")
    plot_ratchet(histories, options.out / "gate-ratchet.svg", 400, LOSS)
    page = options.out / "gate.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(text) + f"\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
