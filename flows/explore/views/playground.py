"""View 7: settings of the gate and their effect, from the gate's plan; a button lets the gate decide simulated rounds. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

from data_contracts.digests import text_digest
from data_contracts.manifests import Category, Decision, EvalReport, SuiteResult
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.gate.plan import CategoryPlan, RoundPlan, chance_of_proven_loss, plan_round
from evals.items import Evaluation, SuiteItems
from flows.explore.views.figures import BLUE, ORANGE, PURPLE, line, mark, styled

_RIGHT = 0.75  # share of items that the simulated champion has right
_NORMAL = ndtri((np.arange(4000) + 0.5) / 4000)  # a normal distribution in equal parts


@dataclass(frozen=True)
class Question:
    """A round with `suites` earlier skills of `items` items each; a share `churn` of the items changes by chance."""

    items: int
    suites: int
    margin: float
    churn: float
    alpha: float = 0.05

    @property
    def policy(self) -> GatePolicy:
        return GatePolicy(margin_skill=self.margin, alpha=self.alpha, accept_unmeasured=("general", "safety", "drift"))

    def plan(self) -> RoundPlan:
        """The gate's plan. Raises ConfigError for impossible numbers."""
        return plan_round(self.policy, {"skill": self.suites}, self.items, self.churn)


def standard_error(plan: CategoryPlan, policy: GatePolicy, alpha: float) -> float:
    """Standard error with which the gate asks for the margin of a category's mean, from the detectable effect of the plan."""
    reach = float(stats.norm.isf(alpha)) + float(stats.norm.ppf(policy.power))
    return plan.minimum_detectable_effect / reach


def chance_to_promote(question: Question, loss: float, plan: RoundPlan | None = None) -> float:
    """Probability that non-inferiority is shown, no suite falls below the floor and on none a loss is proven, if every suite has the true
    loss `loss`.

    At loss 0 it is the plan's probability; otherwise the same normal model, shifted by the loss, with more variance by `loss`. A suite's
    distance from the mean of all is independent of that mean.
    """
    policy, plan = question.policy, plan or question.plan()
    category = plan.categories[0]
    if loss == 0.0:
        return plan.chance_all_shown
    n, suites = question.items, question.suites
    # A true loss changes further items: the variance of one difference is churn + loss - loss^2.
    error = math.sqrt((question.churn + loss - loss**2) / (n * suites))
    asked = max(error, standard_error(category, policy, plan.alpha))
    bound = float(stats.norm.isf(plan.alpha)) * asked - category.margin
    alone = error * math.sqrt(suites)
    proven = chance_of_proven_loss(n, question.churn, policy.alpha / suites, loss)
    least = max(-policy.floor + 0.5 / n, -loss + alone * float(ndtri(proven)))  # of one suite's change: below it, it blocks
    means = -loss + error * _NORMAL
    away = alone * math.sqrt(1.0 - 1.0 / suites)
    kept = ndtr((means - least) / away) ** suites if suites > 1 else (means >= least).astype(float)
    return min(float((kept * (means >= bound)).mean()), plan.chance_all_shown)


def promote_figure(question: Question, loss: float) -> go.Figure:
    """Probability of promotion over the true loss, with the margin and the chosen loss."""
    top = max(0.06, 2.0 * question.margin)
    losses = [top * step / 60 for step in range(61)]
    plan = question.plan()
    chances = [chance_to_promote(question, each, plan) for each in losses]
    figure = go.Figure(line("probability of promotion", [100 * each for each in losses], chances, BLUE))
    mark(figure, 100 * question.margin, "margin", ORANGE)
    mark(figure, 100 * loss, "chosen loss", PURPLE, top=0.9)
    styled(figure, x="true loss on every earlier skill (points)", y="probability of promotion", height=340)
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    return figure


def sentences(question: Question, loss: float) -> list[str]:
    """The results in words, also for screen readers."""
    category = question.plan().categories[0]
    return [
        f"Probability to promote a round without a loss: {chance_to_promote(question, 0.0):.1%}.",
        f"Probability to miss a true loss of {100 * loss:.1f} points on every skill: {chance_to_promote(question, loss):.1%}.",
        f"Items per suite for a probability of {question.policy.power:.0%}: {category.items_needed:,} (chosen: {question.items:,}).",
        f"Smallest mean loss that is probably detected: {100 * category.minimum_detectable_effect:.2f} points.",
    ]


# ------------------------------------------------------------------------------------------------ the gate itself, on simulated rounds


@dataclass(frozen=True)
class Simulated:
    """Decisions of `evals.gate.decide.decide` on simulated rounds."""

    counts: Mapping[Decision, int]

    @property
    def rounds(self) -> int:
        return sum(self.counts.values())

    @property
    def promoted(self) -> float:
        return self.counts.get(Decision.PASS, 0) / self.rounds

    def sentence(self) -> str:
        low, high = self.interval()
        parts = ", ".join(f"{decision.value} {count}" for decision, count in self.counts.items() if count)
        return f"The gate decided {self.rounds} simulated rounds: {parts}. Promoted {self.promoted:.1%} ({low:.1%} to {high:.1%}, 95 %)."

    def interval(self) -> tuple[float, float]:
        passed = self.counts.get(Decision.PASS, 0)
        found = stats.binomtest(passed, self.rounds).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


def simulate(question: Question, loss: float, rounds: int = 60, seed: int = 0) -> Simulated:
    """Let the gate decide rounds with random changes of items: `churn` / 2 in each direction, and `loss` more from right to wrong."""
    generator = np.random.default_rng(seed)
    counts = dict.fromkeys(Decision, 0)
    n = question.items
    champion_right = np.zeros(n)
    champion_right[: round(_RIGHT * n)] = 1.0
    champion = _evaluation("champion", [champion_right] * question.suites)
    wrong_from, right_from = question.churn / 2 + loss, question.churn / 2
    for _ in range(rounds):
        scores = []
        for lost, won, _kept in generator.multinomial(n, [wrong_from, right_from, 1.0 - wrong_from - right_from], size=question.suites):
            score = champion_right.copy()
            score[: int(lost)] = 0.0
            score[n - int(won) :] = 1.0
            scores.append(score)
        verdict = decide(
            GateEvidence(_evaluation("candidate", scores), champion, dict.fromkeys(champion.suites, champion), None), question.policy
        )
        counts[verdict.decision] += 1
    return Simulated(counts)


def _evaluation(model: str, scores: list[NDArray[np.float64]]) -> Evaluation:
    category: Category = "skill"
    suites: dict[str, SuiteItems] = {}
    for index, score in enumerate(scores):
        name, n = f"skill-{index + 1}", len(score)
        result = SuiteResult(
            name=name, category=category, metric="acc", higher_is_better=True, n=n, score=float(score.mean()),
            suite_sha256=text_digest(name), seconds=0,
        )  # fmt: skip
        ids = tuple(map(str, range(n)))
        suites[name] = SuiteItems(result, ids, ids, score, np.full(n, np.nan), np.ones(n), (None,) * n, ids, ids, ids)
    report = EvalReport(
        model_sha256=text_digest(model), settings={}, settings_sha256="0", suites=tuple(each.result for each in suites.values())
    )
    return Evaluation(report, suites)
