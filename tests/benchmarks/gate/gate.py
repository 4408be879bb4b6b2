"""How often the gate is wrong: its error rates by simulation, and what a small loss a round adds up to.

    python tests/benchmarks/gate/gate.py [--simulations 20000] [--ratchets 300] [--seed 0] [--out docs/results]

Writes gate-*.svg and the numbers between the markers of gate.md; takes some minutes on one core. Another `--seed` draws everything anew.
The rules are vectorised here over simulations; `check_against_gate` runs the real `evals.gate.decide.decide` on a sample of the same draws
and demands the same decision, so what is measured is the gate.

Setting: five earlier skills and three general suites of n items each (and, where said, one safety suite), champion right on 75 % of the
items. `churn` is the share of items that flip although nothing is lost, half of them each way. Gain and drift are taken as passed: they are
other questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gate_looks import look_twice, look_twice_by_rules_3, read_more, size_by_rules_3, size_of_two_looks
from gate_ratchet import LOSS, ROUNDS, ratchet
from gate_rules import BLOCK, HOLD, PASS, Floats, Ints, Scenario, draw, judge
from gate_sizes import hard_sizes
from gate_tables import (
    CHURNS,
    SIZES,
    designs_table,
    hard_table,
    looks_table,
    plot_ratchet,
    plot_rates,
    ratchet_table,
    rates_table,
    sizes_table,
    targets_table,
)

from data_contracts.digests import text_digest
from data_contracts.manifests import Category, Decision, EvalReport, SuiteResult
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.gate.policy import Sizes
from evals.items import Evaluation, SuiteItems

SKILLS_AND_GENERAL: tuple[Category, ...] = ("skill",) * 5 + ("general",) * 3
WITH_SAFETY: tuple[Category, ...] = (*SKILLS_AND_GENERAL, "safety")
BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
DECISIONS = {Decision.PASS: PASS, Decision.BLOCK: BLOCK, Decision.INCONCLUSIVE: HOLD}


def scenarios(categories: Sequence[Category]) -> list[Scenario]:
    none = (0.0,) * len(categories)
    return [
        Scenario("nothing changed", none),
        Scenario("all suites −2 points", (0.02,) * len(categories)),
        Scenario("one skill −5 points", (0.05, *none[1:])),
        Scenario("one skill −10 points", (0.10, *none[1:])),
    ]


# ------------------------------------------------------------------------------------------------ the real gate on some of the same draws


def evaluation(model: str, scores: Sequence[Floats], categories: Sequence[Category], available: int | None = None) -> Evaluation:
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
            available=available,
        )
        ids = tuple(str(item) for item in range(n))
        suites[name] = SuiteItems(result, ids, ids, score, np.full(n, np.nan), np.ones(n), (None,) * n, ids, ids, ids)
    report = EvalReport(
        model_sha256=text_digest(model), settings={}, settings_sha256="0", suites=tuple(each.result for each in suites.values())
    )
    return Evaluation(report, suites)


def decide_for_real(
    lost: Ints,
    won: Ints,
    n: Sequence[int],
    categories: Sequence[Category],
    policy: GatePolicy,
    since: tuple[Ints, Ints] | None = None,
    *,
    available: int | None = None,
    first: int = 0,
) -> int:
    """One draw (arrays over suites, `n` items each) through evals.gate.decide.decide; `first`: items of each suite at the first look."""
    right = [np.r_[np.zeros(size // 4), np.ones(size - size // 4)] for size in n]

    def scores(wrong_to_right: Ints, right_to_wrong: Ints) -> list[Floats]:
        """A reference from which the candidate (right on all but the first quarter) differs by these counts."""
        made = []
        for score, back, forth in zip(right, wrong_to_right, right_to_wrong, strict=True):
            changed = score.copy()
            changed[: int(forth)] = 1.0
            changed[len(changed) - int(back) :] = 0.0
            made.append(changed)
        return made

    candidate = evaluation("candidate", right, categories, available)
    champion = evaluation("champion", scores(won, lost), categories)
    anchor = evaluation("anchor", scores(since[1], since[0]), categories) if since else champion
    looks = dict.fromkeys(candidate.suites, first) if first else {}
    verdict = decide(GateEvidence(candidate, champion, dict.fromkeys(candidate.suites, anchor), None, first_look=looks), policy)
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
                        slow = decide_for_real(lost[row], won[row], [n] * lost.shape[1], WITH_SAFETY, policy, one)
                        if slow != fast[row]:
                            raise AssertionError(f"n={n} churn={churn} {scenario.name}: the gate says {slow}, the simulation {fast[row]}")
                        compared += 1
    return compared + check_second_looks(policy, draws)


def check_second_looks(policy: GatePolicy, draws: int) -> int:
    """The same of second looks, in which some categories were read further and others not."""
    generator = np.random.default_rng(8)
    n, available, compared = 200, 600, 0
    planned = policy.planned_items(n, available)
    level = policy.level(1, [Sizes(n, planned, n)])
    for churn in CHURNS:
        for scenario in scenarios(WITH_SAFETY):
            lost, won = draw(scenario, n, churn, draws // 6, generator)
            for row in range(len(lost)):
                grown = [category for category in dict.fromkeys(WITH_SAFETY) if generator.random() < 0.5]
                more = np.array([planned - n if category in grown else 0 for category in WITH_SAFETY])[None]
                fell, rose = read_more(lost[row : row + 1], won[row : row + 1], more, scenario, churn, generator)
                levels: dict[Category, float | Floats] = {
                    category: level.again if category in grown else level.alpha for category in WITH_SAFETY
                }
                sizes = n + more
                fast = judge(fell, rose, sizes, WITH_SAFETY, policy, levels=levels)[0]
                slow = decide_for_real(
                    fell[0], rose[0], [int(size) for size in sizes[0]], WITH_SAFETY, policy, available=available, first=n
                )  # fmt: skip
                if slow != fast:
                    raise AssertionError(f"second look, churn={churn} {scenario.name} {grown}: the gate says {slow}, the simulation {fast}")
                compared += 1
    return compared


# ------------------------------------------------------------------------------------------------ shares


def error_rates(categories: Sequence[Category], simulations: int, policy: GatePolicy, seed: int) -> dict[tuple[str, int, float], Floats]:
    """(scenario, n, churn) -> shares of PASS, BLOCK, HOLD, of one look."""
    generator = np.random.default_rng([5, seed])
    found = {}
    for scenario in scenarios(categories):
        for n in SIZES:
            for churn in CHURNS:
                decisions = judge(*draw(scenario, n, churn, simulations, generator), n, categories, policy)
                found[scenario.name, n, churn] = np.bincount(decisions, minlength=3) / simulations
    return found


SIZE_CHURNS = (0.0, 0.005, 0.01, *CHURNS)
LOOKS = ((150, 600), (200, 200), (400, 400), (400, 1000), (400, 1600), (1000, 4000))
"""(items at the first look, available) of the table of sizes."""


def pooled_sizes(simulations: int, policy: GatePolicy, seed: int) -> dict[tuple[int, int, int], list[float]]:
    """(suites, n, available) -> P(the category is shown over both looks) at each churn, where its true mean loss is the margin."""
    generator = np.random.default_rng([6, seed])
    return {
        (suites, n, available): [size_of_two_looks(suites, n, available, churn, simulations, policy, generator)[1] for churn in SIZE_CHURNS]
        for suites in (1, 3, 5, 15)
        for n, available in LOOKS
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--ratchets", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args(arguments)
    policy = GatePolicy(accept_unmeasured=("general", "safety", "drift"))  # gain and drift are other questions
    compared = check_against_gate(policy)
    rates = error_rates(SKILLS_AND_GENERAL, options.simulations, policy, options.seed)
    with_safety = error_rates(WITH_SAFETY, options.simulations, policy, options.seed)
    generator = np.random.default_rng([9, options.seed])
    every = [(scenario, churn) for scenario in scenarios(SKILLS_AND_GENERAL) for churn in CHURNS]
    looks = {
        (available, scenario.name, churn): look_twice(
            scenario, 400, available, churn, SKILLS_AND_GENERAL, options.simulations, policy, generator
        )
        for available in (1000, 1600)
        for scenario, churn in every
    }
    old_looks = {
        (scenario.name, churn): look_twice_by_rules_3(
            scenario, 400, 1500, churn, SKILLS_AND_GENERAL, options.simulations, policy, generator
        )
        for scenario, churn in every
    }  # fmt: skip
    old_sizes = {
        (suites, n, churn): size_by_rules_3(suites, n, 4 * n, churn, options.simulations, policy, generator)
        for suites in (1, 3, 5)
        for n in (150, 400)
        for churn in SIZE_CHURNS
    }
    sizes = pooled_sizes(options.simulations, policy, options.seed)
    hard = hard_sizes(max(500, options.simulations // 5), policy, options.seed)
    histories = {
        (mode, n): ratchet(mode, n, 0.05, options.ratchets, policy, options.seed)
        for n in (400, 1000)
        for mode in ("champion", "anchors", "fresh", "joining")
    }
    checked = f"{compared} draws were also judged by `evals.gate.decide.decide`, with equal decisions"
    text = [
        f"{options.simulations:,} draws per cell, {options.ratchets} lineages per row, seed {options.seed}; {checked}.",
        *("", "### Targets", "", *targets_table(rates, looks, sizes, hard)),
        *("", "### The designs", "", *designs_table(rates, looks, old_looks, sizes, old_sizes, hard)),
        *("", "### Five skills, three general suites, one look", "", *rates_table(rates), "", "![P(promote)](gate-rates.svg)"),
        *("", "### The same with one safety suite (margin 1 point)", "", *rates_table(with_safety)),
        *("", "### Size of one category's question", "", *sizes_table(sizes, SIZE_CHURNS)),
        *("", "### Size where items or losses go together", "", *hard_table(hard)),
        *("", "### Two looks", "", *looks_table(looks, old_looks)),
        *("", "### The ratchet", "", *ratchet_table(histories, LOSS, ROUNDS), "", "![The ratchet](gate-ratchet.svg)"),
    ]
    plot_rates(rates, options.out / "gate-rates.svg")
    plot_ratchet(histories, options.out / "gate-ratchet.svg", 400, LOSS)
    page = options.out / "gate.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(text) + f"\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
