"""View 5: scores after each round on each suite, forgetting, and the single items that were lost, with their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import plotly.graph_objects as go

from data_contracts.errors import LineageError, SkillstackError
from data_contracts.manifests import MANIFEST_NAME
from evals.audit.churn import RIGHT
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, audit_forgetting
from evals.items import Evaluation, SuiteItems, load_evaluation
from evals.report.scores import percent, score_text
from evals.report.view import estimate_words
from flows.explore.views.figures import GREEN, ORANGE, cells, styled
from flows.lineage.audit_rows import recorded_row, round_label
from flows.lineage.storage.records import RoundRecord


@dataclass(frozen=True)
class LineageView:
    """The audit, the items of each suite behind each of its rows, and in words what was left out."""

    audit: ForgettingAudit
    measured: tuple[Mapping[str, SuiteItems], ...]
    left_out: tuple[str, ...]

    @property
    def rows(self) -> list[str]:
        return [entry.label for entry in self.audit.rounds]

    @property
    def suites(self) -> list[str]:
        return [suite.name for suite in self.audit.suites]


@dataclass(frozen=True)
class ChangedItem:
    """An item that was right and is wrong (lost), or the other way round (gained)."""

    fate: str
    prompt: str
    gold: str
    before: str
    after: str


def alive_versions(records: Sequence[RoundRecord]) -> set[int]:
    """The champion and the versions that it was built on."""
    parents = {record.version: record.parent_version for record in records if record.version is not None}
    at = next((record.version for record in records if record.champion), None)
    alive: set[int] = set()
    while at is not None and at in parents and at not in alive:
        alive.add(at)
        at = parents[at]
    return alive


def view_lineage(records: Sequence[RoundRecord]) -> LineageView:
    """Audit the rounds with readable evaluations. Raises LineageError if there is none."""
    alive = alive_versions(records)
    rows: list[RoundEvaluation] = []
    left_out: list[str] = []
    for record in records:
        label = round_label(record.round, record.skill, record.method)
        if record.evaluation is None or record.version is None:
            left_out.append(f"{label}: {record.error or 'has no evaluation yet'}")
            continue
        if record.status in ("deleted", "missing"):
            left_out.append(f"{label}: its run is {record.status} in MLflow; shown from the files that it left")
        try:
            row = recorded_row(record, alive, load=lambda folder: _evaluation(folder, _stamp(folder)))
            rows += [row] if row is not None else []
        except SkillstackError as error:
            left_out.append(f"{label}: {error}")
    if not rows:
        raise LineageError("lineage", "no round has an evaluation that can be read", "; ".join(left_out) or "run a round first")
    return LineageView(audit_forgetting(rows), tuple(map(_suites, rows)), tuple(left_out))


def _suites(row: RoundEvaluation) -> dict[str, SuiteItems]:
    """Suite -> its items; a later report replaces the suites of an earlier one, as in the audit."""
    return {name: items for evaluation in (row.evaluation, *row.also) for name, items in evaluation.suites.items()}


def _stamp(folder: Path) -> int:
    manifest = folder / MANIFEST_NAME
    return manifest.stat().st_mtime_ns if manifest.is_file() else 0


@lru_cache(maxsize=64)
def _evaluation(folder: Path, stamp: int) -> Evaluation:
    """Verified once per change: `stamp` changes with the manifest."""
    return load_evaluation(folder)


def matrix_figure(view: LineageView) -> go.Figure:
    """A row per round, a column per suite, with the scores in the cells. Drift, where lower is better, is in the table only."""
    shown = [index for index, suite in enumerate(view.audit.suites) if suite.higher_is_better]
    values = [[row[index] for index in shown] for row in view.audit.matrix]
    texts = [["" if value is None else percent(value) for value in row] for row in values]
    figure = go.Figure(cells(values, [view.suites[index] for index in shown], view.rows, texts=texts, legend="score"))
    figure.data[0].update(zmin=0, zmax=1)
    styled(figure, x="suite", y="", height=120 + 46 * len(view.rows))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, tickangle=-40)
    return figure


def matrix_rows(view: LineageView) -> list[dict[str, str]]:
    """The matrix as a table, with the scores as every page and the terminal write them."""
    return [
        {"round": label} | {suite.name: score_text(value, suite.category) for suite, value in zip(view.audit.suites, row, strict=True)}
        for label, row in zip(view.rows, view.audit.matrix, strict=True)
    ]


def reference_row(view: LineageView, row: int, suite: str) -> int | None:
    """The row with which a cell is compared: the newest earlier row of the lineage that has the suite."""
    earlier = [each for each in view.audit.lineage_rows if each < row and suite in view.measured[each]]
    return earlier[-1] if earlier else None


def changed_items(view: LineageView, row: int, suite: str) -> tuple[ChangedItem, ...]:
    """Items of a suite that changed between its reference row and `row`, losses first; empty if there is nothing to compare.

    The text of a sealed split is not shown, so that nobody can write it into the next drop.
    """
    reference = reference_row(view, row, suite)
    after = view.measured[row].get(suite)
    if reference is None or after is None or after.result.sealed or after.category == "drift":
        return ()
    return compare_items(view.measured[reference][suite], after)


def compare_items(before: SuiteItems, after: SuiteItems) -> tuple[ChangedItem, ...]:
    """Paired by doc_hash; items that only one side has do not count."""
    position = {doc: index for index, doc in enumerate(before.doc_hash)}
    found: list[ChangedItem] = []
    for index, doc in enumerate(after.doc_hash):
        at = position.get(doc)
        if at is None or (before.score[at] >= RIGHT) == (after.score[index] >= RIGHT):
            continue
        fate = "lost" if before.score[at] >= RIGHT else "gained"
        found.append(ChangedItem(fate, after.prompt[index], after.gold[index], before.prediction[at], after.prediction[index]))
    return tuple(sorted(found, key=lambda item: item.fate != "lost"))


def worst_cell(view: LineageView) -> tuple[str, str]:
    """(row, suite) with the largest loss, which the page shows first."""
    falls = {
        (row, suite): before - now
        for row in range(len(view.rows))
        for suite in view.suites
        if (reference := reference_row(view, row, suite)) is not None
        and (before := view.audit.score(reference, suite)) is not None
        and (now := view.audit.score(row, suite)) is not None
        and changed_items(view, row, suite)
    }
    row, suite = max(falls, key=lambda cell: falls[cell], default=(len(view.rows) - 1, view.suites[0]))
    return view.rows[row], suite


def cell_of(points: object, view: LineageView) -> tuple[str, str] | None:
    """The clicked cell, from the figure's selection; None if there is none."""
    if not isinstance(points, list) or not points or not isinstance(points[0], Mapping):
        return None
    row, suite = str(points[0].get("y")), str(points[0].get("x"))
    return (row, suite) if row in view.rows and suite in view.suites else None


def cell_sentence(view: LineageView, row: int, suite: str, items: Sequence[ChangedItem]) -> str:
    """What happened in a cell, in words."""
    reference = reference_row(view, row, suite)
    if reference is None:
        return f"{suite} at {view.rows[row]}: no earlier round of the lineage has it, so there is nothing to compare."
    described = next(each for each in view.audit.suites if each.name == suite)
    if described.sealed:
        return f"{suite} is a sealed split: its score is shown, its items are not."
    if described.category == "drift":
        return f"{suite} measures bits per byte: it has no right and wrong items."
    lost = sum(item.fate == "lost" for item in items)
    return (
        f"{suite} at {view.rows[row]}: {lost} lost and {len(items) - lost} gained of {described.n} items, against {view.rows[reference]}."
    )


def item_rows(items: Sequence[ChangedItem]) -> list[dict[str, str]]:
    return [{"fate": item.fate, "prompt": item.prompt, "should be": item.gold, "was": item.before, "is now": item.after} for item in items]


def forgetting_figure(view: LineageView) -> go.Figure:
    """Each skill's score when it was learned and now, with the interval of the change."""
    skills = [skill for skill in view.audit.skills if not skill.sealed]
    names = [skill.suite for skill in skills]
    figure = go.Figure()
    figure.add_bar(x=names, y=[skill.learned for skill in skills], name="when learned", marker={"color": GREEN})
    figure.add_bar(
        x=names, y=[skill.now for skill in skills], name="now (lineage of the champion)", marker={"color": ORANGE},
        error_y={
            "type": "data", "symmetric": False, "color": "#8a8f98",
            "array": [max(0.0, skill.change.high - skill.change.value) for skill in skills],
            "arrayminus": [max(0.0, skill.change.value - skill.change.low) for skill in skills],
        },
    )  # fmt: skip
    styled(figure, x="skill", y="score", height=320)
    figure.update_yaxes(range=[0, 1.05], tickformat=".0%")
    return figure


def summary_sentences(view: LineageView) -> list[str]:
    """Average accuracy, backward transfer and forgetting, in the words of the reports."""
    transfer = view.audit.transfer
    average = estimate_words(transfer.average_accuracy, plain=True)
    return [
        f"Average over the learned skills, %: {average}",
        f"Backward transfer, points (higher is better): {estimate_words(transfer.bwt)}",
        f"Forgetting, points (positive is worse): {estimate_words(transfer.forgetting)}; in brackets a {view.audit.interval}.",
    ]
