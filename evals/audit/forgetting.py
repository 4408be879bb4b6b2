"""What each round cost the earlier skills: the accuracy matrix of a lineage and everything read off it.

R[t, j] is the score on suite j after round t; row 0 is the base. Differences are paired on items and carry bootstrap intervals, so that a
reader can distinguish a loss from noise. Forgetting is positive where something was lost; BWT (backward transfer) is positive where it
was gained. Works for the registry's lineage and for any list of checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from data_contracts.errors import EvaluationError
from data_contracts.manifests import Category, Decision, LayerCapacity, Record
from data_contracts.skill_names import MORE_SUFFIX
from evals.audit.capacity import directions_of, free_shares, mean_share, rounds_left
from evals.audit.churn import ChurnItem, SuiteChurn, trace_items
from evals.audit.matrix import Estimate, SuiteTable, tabulate_suites
from evals.audit.transfer import Transfer, estimate_change, measure_transfer
from evals.audit.weights import WeightDrift
from evals.items import Evaluation

__all__ = ["AuditRound", "AuditSuite", "Estimate", "ForgettingAudit", "RoundEvaluation", "SkillHistory", "WeightDrift", "audit_forgetting"]


@dataclass(frozen=True)
class RoundEvaluation:
    """One row of the matrix. `also` holds further evaluations of the same checkpoint, for suites that came later."""

    number: int
    skill: str | None
    evaluation: Evaluation
    decision: Decision | None = None
    approved: bool = False
    rolled_back: bool = False
    label: str = ""
    attempts: int = 1
    also: Sequence[Evaluation] = ()
    layers: Mapping[str, LayerCapacity] = field(default_factory=dict)
    weights: Sequence[WeightDrift] = ()

    @property
    def in_lineage(self) -> bool:
        """Whether later rounds build on it: the base, a promoted or approved round, or the candidate that waits for its verdict."""
        return not self.rolled_back and (self.approved or self.decision in (None, Decision.PASS))


class AuditRound(Record):
    number: int
    skill: str | None
    label: str
    decision: Decision | None
    approved: bool
    rolled_back: bool
    in_lineage: bool
    attempts: int
    model_sha256: str
    free_share: float | None = Field(None, description="directions still free over all directions, mean over layers; None where not known")
    trainable_share: float | None = Field(None, description="directions this round could move over all directions, mean over layers")
    rounds_left: int | None = Field(None, description="how many more rounds of this one's size fit into the tightest layer")
    weights: tuple[WeightDrift, ...] = ()


class AuditSuite(Record):
    name: str
    category: Category
    metric: str
    higher_is_better: bool
    sealed: bool
    learned_in: int | None = Field(None, description="row of the round that learned it; None for general, safety and drift suites")
    n: int
    margin: float | None = Field(None, description="the margin that its owner set for it, as the newest evaluation has it")


class SkillHistory(Record):
    """Learned, best and now of one skill (its gate split, or its sealed split); rows are indices into `rounds`."""

    suite: str
    sealed: bool
    learned_row: int
    before: float | None = Field(description="score of the base")
    learned: float
    best: float
    best_row: int
    now: float
    change: Estimate = Field(description="now minus learned")


class SuiteChange(Record):
    """A general, safety or drift suite against the base (in the suite's own unit and direction: candidate minus base)."""

    suite: str
    category: Category
    sealed: bool
    base: float
    now: float
    change: Estimate


class LogprobPoint(Record):
    """Mean log-probability of the gold answers of one suite after one round, and its change since the row before that has it."""

    suite: str
    row: int
    mean: float = Field(description="nats per item")
    change: Estimate | None = None


class ForgettingAudit(Record):
    """The audit of a lineage; plain JSON through `model_dump_json()`."""

    rounds: tuple[AuditRound, ...]
    suites: tuple[AuditSuite, ...]
    matrix: tuple[tuple[float | None, ...], ...] = Field(description="rounds x suites; None where not measured or not comparable")
    intervals: tuple[tuple[tuple[float, float] | None, ...], ...] = Field((), description="90 % interval of each score of the matrix")
    lineage_rows: tuple[int, ...] = Field(description="rows that later rounds build on; the others are shown and left out of every summary")
    transfer: Transfer
    skills: tuple[SkillHistory, ...]
    changes: tuple[SuiteChange, ...]
    logprobs: tuple[LogprobPoint, ...]
    churn: tuple[SuiteChurn, ...]
    churn_items: tuple[ChurnItem, ...]
    gaps: tuple[str, ...] = Field(description="sentences: what could not be compared, and why")
    interval: Literal["90 % paired bootstrap"] = "90 % paired bootstrap"

    def score(self, row: int, suite: str) -> float | None:
        return self.matrix[row][[each.name for each in self.suites].index(suite)]


def audit_forgetting(
    lineage: Sequence[RoundEvaluation], *, base_skills: Sequence[str] | None = None, repeats: int = 1000, items_per_suite: int = 200
) -> ForgettingAudit:
    """Measure a lineage, base first. Raises EvaluationError for an empty lineage or a row made of several checkpoints.

    `base_skills` names the skill suites that the base knew already; None means those that no round trained and every row has, so that a
    plain list of checkpoints is counted from its first. Suites whose digest changed keep only the rows that have the newest digest; `gaps`
    says so. At most `items_per_suite` changed items per suite are kept with their text (the counts are of all of them).
    """
    _check_lineage(lineage)
    tables, gaps = tabulate_suites(
        [(entry.evaluation, *entry.also) for entry in lineage], [entry.label or f"round {entry.number}" for entry in lineage], repeats
    )
    rows = tuple(index for index, entry in enumerate(lineage) if entry.in_lineage)
    learned = _learned_rows(lineage, tables, base_skills)
    from_base = bool(rows) and lineage[rows[0]].skill is None  # else the base was never measured, and no row stands for it
    suites = tuple(_describe_suite(table, learned.get(table.name)) for table in tables)
    churn, churn_items = trace_items(tables, rows, learned, items_per_suite)
    return ForgettingAudit(
        rounds=tuple(_describe_round(entry) for entry in lineage),
        suites=suites,
        matrix=tuple(tuple(table.score(row) for table in tables) for row in range(len(lineage))),
        intervals=tuple(tuple(table.interval(row) for table in tables) for row in range(len(lineage))),
        lineage_rows=rows,
        transfer=measure_transfer([table for table in tables if not table.sealed], rows, learned),
        skills=tuple(history for table in tables if (history := _skill_history(table, rows, learned, from_base)) is not None),
        changes=tuple(change for table in tables if (change := _suite_change(table, rows)) is not None),
        logprobs=tuple(point for table in tables for point in _logprob_points(table, rows)),
        churn=churn,
        churn_items=churn_items,
        gaps=tuple(gaps),
    )


def _check_lineage(lineage: Sequence[RoundEvaluation]) -> None:
    if not lineage:
        raise EvaluationError("audit", "the lineage is empty", "give at least the base")
    for entry in lineage:
        for other in entry.also:
            if other.model_sha256 != entry.evaluation.model_sha256:
                what = f"has evaluations of two checkpoints ({entry.evaluation.model_sha256[:12]} and {other.model_sha256[:12]})"
                raise EvaluationError(f"audit, round {entry.number}", what, "give each checkpoint its own row")


def _learned_rows(lineage: Sequence[RoundEvaluation], tables: Sequence[SuiteTable], base_skills: Sequence[str] | None) -> dict[str, int]:
    """Suite name -> row of the round in the lineage that learned it. Skill s has `s.sealed` and perhaps `s.more` beside `s`."""
    first: dict[str, int] = {}
    for row, entry in enumerate(lineage):
        if entry.skill is not None and entry.in_lineage:
            first.setdefault(entry.skill, row)
    trained = {entry.skill for entry in lineage}
    learned: dict[str, int] = {}
    for table in tables:
        skill = table.name.removesuffix(".sealed").removesuffix(MORE_SUFFIX)
        always = all(table.score(row) is not None for row in range(len(lineage)))
        if table.category == "skill" and skill in first:
            learned[table.name] = first[skill]
        elif table.category == "skill" and skill not in trained and (always if base_skills is None else skill in base_skills):
            learned[table.name] = 0
    return learned


def _describe_suite(table: SuiteTable, learned_in: int | None) -> AuditSuite:
    return AuditSuite(
        name=table.name,
        category=table.category,
        metric=table.metric,
        higher_is_better=table.higher_is_better,
        sealed=table.sealed,
        learned_in=learned_in,
        n=table.n,
        margin=table.newest.result.margin,
    )


def _describe_round(entry: RoundEvaluation) -> AuditRound:
    layers = [layer for layer in entry.layers.values() if min(layer.shape) > 0]
    left = rounds_left(entry.layers, lambda layer: layer.trainable)
    return AuditRound(
        number=entry.number,
        skill=entry.skill,
        label=entry.label or ("base" if entry.skill is None else f"round {entry.number}: {entry.skill}"),
        decision=entry.decision,
        approved=entry.approved,
        rolled_back=entry.rolled_back,
        in_lineage=entry.in_lineage,
        attempts=entry.attempts,
        model_sha256=entry.evaluation.model_sha256,
        free_share=mean_share(list(free_shares(entry.layers).values())),
        trainable_share=mean_share([layer.trainable / directions_of(layer) for layer in layers]),
        rounds_left=left[0] if left is not None else None,
        weights=tuple(entry.weights),
    )


def _skill_history(table: SuiteTable, rows: Sequence[int], learned: Mapping[str, int], from_base: bool) -> SkillHistory | None:
    start = learned.get(table.name)
    measured = [row for row in rows if start is not None and row >= start and table.score(row) is not None]
    if start is None or not measured or measured[0] != start:
        return None
    scores = {row: table.mean(row) for row in measured}
    best = (
        max(measured, key=lambda row: (scores[row], row)) if table.higher_is_better else min(measured, key=lambda row: (scores[row], -row))
    )
    return SkillHistory(
        suite=table.name,
        sealed=table.sealed,
        learned_row=start,
        before=table.score(rows[0]) if from_base else None,
        learned=scores[start],
        best=scores[best],
        best_row=best,
        now=scores[measured[-1]],
        change=estimate_change(table, measured[-1], start),
    )


def _suite_change(table: SuiteTable, rows: Sequence[int]) -> SuiteChange | None:
    measured = [row for row in rows if table.score(row) is not None]
    if table.category == "skill" or not measured or measured[0] != rows[0]:
        return None
    first, last = measured[0], measured[-1]
    return SuiteChange(
        suite=table.name,
        category=table.category,
        sealed=table.sealed,
        base=table.mean(first),
        now=table.mean(last),
        change=estimate_change(table, last, first),
    )


def _logprob_points(table: SuiteTable, rows: Sequence[int]) -> list[LogprobPoint]:
    points: list[LogprobPoint] = []
    previous: int | None = None
    for row in rows:
        if not table.has_logprobs(row):
            continue
        change = None if previous is None else table.logprob_change(row, previous)
        points.append(LogprobPoint(suite=table.name, row=row, mean=table.mean_logprob(row), change=change))
        previous = row
    return points
