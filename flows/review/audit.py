"""The audit of forgetting over the lineage, or over any list of checkpoints, trained by any tool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_contracts.digests import model_digest, model_files
from data_contracts.errors import CheckpointError, LineageError
from data_contracts.manifests import Record
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, WeightDrift, audit_forgetting
from evals.audit.weights import measure_weight_drift
from evals.config import SuiteConfig
from evals.items import load_evaluation
from evals.report.render import render_lineage
from evals.report.scores import score_text
from evals.suites.resolve import resolve_suites
from flows.base_models.resolve import resolve_base_model
from flows.config.model import SkillstackConfig
from flows.lineage import current_champion, read_ancestry, read_history
from flows.lineage.audit_rows import recorded_row
from flows.lineage.registry.history import read_lineage
from flows.workspace.draws import drawn_evenly
from flows.workspace.round_facts import events_of, round_costs
from flows.workspace.workspace import Workspace, evaluate_model, open_workspace


class AuditResult(Record):
    """An audit and the page that shows it."""

    audit: ForgettingAudit
    report: Path


def audit_lineage(config: SkillstackConfig, out: Path | None = None) -> AuditResult:
    """Audit all decided rounds, rejected ones included, from stored evaluations: no model is loaded."""
    workspace = open_workspace(config)
    audit, (records, ledger) = audit_rounds(workspace), read_lineage(workspace.lineage)
    known = {"rounds": tuple(round_costs(records)), "events": events_of(ledger), "policy": config.gate.model_dump(mode="json")}
    return _report(audit, out or config.state_dir / "reports" / "lineage.html", **known)


def score_table(audit: ForgettingAudit) -> tuple[list[str], list[list[str]]]:
    """(names of the suites without sealed ones, a row per round: label, scores as text, verdict), for terminal and Markdown."""
    shown = [index for index, suite in enumerate(audit.suites) if not suite.sealed]
    rows = [
        [
            entry.label or f"round {entry.number}",
            *(score_text(row[index], audit.suites[index].category) for index in shown),
            entry.decision.value if entry.decision else "-",
        ]
        for entry, row in zip(audit.rounds, audit.matrix, strict=True)
    ]
    return [audit.suites[index].name for index in shown], rows


def audit_rounds(workspace: Workspace) -> ForgettingAudit:
    """The audit of the lineage without its page. Raises LineageError before the first promotion."""
    champion = current_champion(workspace.lineage, verify=False)
    if champion is None:
        raise LineageError(workspace.lineage.where, "has no champion yet, so there is nothing to audit", "run a round first")
    alive = {version.version for version in read_ancestry(workspace.lineage, champion.version)}
    rounds = [row for record in read_history(workspace.lineage) if (row := recorded_row(record, alive)) is not None]
    return audit_forgetting(rounds)


def audit_checkpoints(config: SkillstackConfig, models: Sequence[str], suites: Sequence[str], out: Path | None = None) -> AuditResult:
    """Audit models given by folder or Hugging Face id, oldest first. The registry is neither read nor written.

    `suites`: names of the config's suites, or sources as in the config; none: all of the config's. A suite file that the config names is
    evaluated as the config says.
    """
    workspace = open_workspace(config)
    wanted = suites_named(config, suites) if suites else config.evaluation.suites
    rounds: list[RoundEvaluation] = []
    before: Path | None = None
    for number, name in enumerate(models):
        folder = resolve_base_model(name, workspace.models)
        stage = evaluate_model(workspace, folder, model_digest(model_files(folder)), drawn_evenly(wanted), name)
        weights = () if before is None else _drift(before, folder)
        rounds.append(RoundEvaluation(number=number, skill=None, evaluation=load_evaluation(stage.folder), label=name, weights=weights))
        before = folder
    return _report(audit_forgetting(rounds), out or config.state_dir / "reports" / "audit.html")


def suites_named(config: SkillstackConfig, sources: Sequence[str]) -> list[SuiteConfig]:
    """The suites that names or sources mean, each once. Raises ConfigError for a source that is none."""
    found: dict[str, SuiteConfig] = {}
    for source in sources:
        path = (Path.cwd() / source).resolve()
        known = [suite for suite in config.evaluation.suites if source == suite.name or Path(suite.source) == path]
        found |= {suite.name: suite for suite in known or resolve_suites([SuiteConfig(source=source)], Path.cwd())}
    return list(found.values())


def _drift(before: Path, after: Path) -> tuple[WeightDrift, ...]:
    """How far each matrix is from one checkpoint to the next; nothing where they are of two architectures."""
    try:
        return measure_weight_drift(before, after)
    except CheckpointError:
        return ()


def _report(audit: ForgettingAudit, out: Path, **known: Any) -> AuditResult:
    """`known`: what `render_lineage` knows of the lineage besides its scores."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return AuditResult(audit=audit, report=render_lineage(audit, out, **known))
