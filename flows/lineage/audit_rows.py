"""A round as a row of the audit of forgetting: the only place that makes one, for a round's own page, the audit, the month and explore."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from data_contracts.manifests import CheckpointManifest, Decision, DropManifest, LayerCapacity, read_manifest
from data_contracts.skill_names import suite_name
from evals.audit.forgetting import RoundEvaluation, WeightDrift
from evals.items import Evaluation, load_evaluation
from flows.lineage.storage.records import RoundRecord


def own_suite(skill: str | None, drop: Path | None) -> str | None:
    """Name of the suite that a round's drop brought: the skill's, or `<skill>.2` where the round refreshed it. None for the base model."""
    if skill is None or drop is None:
        return skill
    return suite_name(skill, read_manifest(drop, DropManifest, verify=False).teaching)


def round_label(number: int, skill: str | None, method: str | None) -> str:
    """A round's name in tables and figures."""
    return f"round {number} " + (f"{skill} ({method})" if skill else "base")


def audit_row(
    *,
    number: int,
    skill: str | None,
    suite: str | None,
    method: str | None,
    attempt: int,
    reports: Sequence[Evaluation],
    layers: Mapping[str, LayerCapacity],
    decision: str | None = None,
    promoted: bool = False,
    once: bool = False,
    weights: Sequence[WeightDrift] = (),
) -> RoundEvaluation:
    """One round. suite: what its drop brought. reports: its evaluations, at least one; a later one replaces the suites of an earlier one.

    decision: its verdict; None for the base and for a candidate without one. promoted: it is the champion or an ancestor of it. once: it
    was the champion, by whatever decision.
    """
    first, *more = reports
    return RoundEvaluation(
        number=number,
        skill=suite,
        evaluation=first,
        decision=Decision(decision) if decision else None,
        approved=promoted,
        rolled_back=(once or decision == Decision.PASS.value) and not promoted,
        label=round_label(number, skill, method),
        attempts=attempt,
        also=more,
        layers=layers,
        weights=weights,
    )


def recorded_row(
    record: RoundRecord, line: Collection[int], *, load: Callable[[Path], Evaluation] = load_evaluation, reports: Sequence[Path] = ()
) -> RoundEvaluation | None:
    """A recorded round; None without a version or an evaluation. line: the versions of the champion's ancestry.

    `reports` replaces the reports that the record names; `load` reads them.
    """
    named = [folder for folder in (record.evaluation, record.reevaluation) if folder is not None]
    folders = list(reports) or named
    if record.version is None or not folders:
        return None
    manifest = None if record.checkpoint is None else read_manifest(record.checkpoint, CheckpointManifest, verify=False)
    return audit_row(
        number=record.round,
        skill=record.skill,
        suite=own_suite(record.skill, record.drop),
        method=record.method,
        attempt=record.attempt,
        reports=[load(folder) for folder in folders],
        layers={} if manifest is None else manifest.layers,
        decision=record.decision,
        promoted=record.version in line,
        once=record.was_champion,
    )
