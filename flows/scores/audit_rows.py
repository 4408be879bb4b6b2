"""The rounds of a lineage as rows of the forgetting audit."""

from __future__ import annotations

from collections.abc import Sequence

from data_contracts.manifests import CheckpointManifest, Decision, EvalReport, read_manifest
from evals.audit.forgetting import RoundEvaluation
from evals.items import load_evaluation
from flows.lineage import VersionRef
from flows.workspace.stages import Stage


def round_of(version: VersionRef) -> RoundEvaluation | None:
    """A promoted round as a row of the audit; None where its evaluation was not kept."""
    if version.evaluation is None:
        return None
    return RoundEvaluation(
        number=version.round,
        skill=version.skill,
        evaluation=load_evaluation(version.evaluation),
        decision=Decision(version.decision) if version.decision else None,
        approved=True,  # it is an ancestor of the champion, however it was promoted
        layers=read_manifest(version.checkpoint, CheckpointManifest, verify=False).layers,
    )


def lineage_rounds(chain: Sequence[VersionRef], base: Stage[EvalReport] | None = None) -> list[RoundEvaluation]:
    """The rows for the champion's ancestors. `base` replaces round 0's first report by a later one that has the skills too."""
    if base is None:
        return [row for version in chain if (row := round_of(version)) is not None]
    later = [row for version in chain[1:] if (row := round_of(version)) is not None]
    return [RoundEvaluation(number=0, skill=None, evaluation=load_evaluation(base.folder), approved=True), *later]
