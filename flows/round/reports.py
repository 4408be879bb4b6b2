"""The reports that the gate compares: which there are, and what of their items it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_contracts.errors import EvaluationError, LineageError
from data_contracts.manifests import EvalReport, SuiteResult, read_manifest
from evals.gate.decide import GateEvidence
from evals.items import Evaluation, SuiteItems, load_evaluation
from flows.lineage import LedgerEntry, VersionRef
from flows.lineage.storage.records import MOVES_CHAMPION
from flows.workspace.stages import Stage


@dataclass(frozen=True)
class Registered:
    """A suite as an earlier champion was registered with it: its result, and the folder of the report that has its items."""

    result: SuiteResult
    folder: Path


@dataclass(frozen=True)
class Evaluated:
    """The reports of one round. `learners` holds, for each earlier skill, the report of the version that learned it.

    `registered` holds every suite that the champions so far were held to; `first_skill` says that by the ledger no skill came before.
    """

    candidate: Stage[EvalReport]
    champion: Stage[EvalReport]
    base: Stage[EvalReport]
    learners: Mapping[str, Stage[EvalReport]]
    registered: Mapping[str, Registered]
    first_skill: bool


def require_whole_chain(entries: Sequence[LedgerEntry], chain: Sequence[VersionRef]) -> None:
    """Raise LineageError where the champion's ancestry is not whole: a skill that nobody can ask would count as kept.

    That the champion is the base is a fact of the ledger (the version that opened it), not of a tag that somebody may have deleted.
    """
    way_out = "run `skillstack verify`, then restore the registry from backup"
    opened = next((entry.version for entry in entries if entry.action in MOVES_CHAMPION), None)
    if chain[0].version != opened:
        what = f"is where the champion's ancestry begins, but the ledger was opened by version {opened}: a version has lost its parent"
        raise LineageError(f"version {chain[0].version}", what, way_out)
    for version in chain[1:]:
        if not (version.skill and version.drop):
            lost = "drop" if version.skill else "skill"
            what = f"has lost its {lost} in the registry, so what it taught cannot be asked any more"
            raise LineageError(f"version {version.version}", what, way_out)


def registered_suites(chain: Sequence[VersionRef]) -> dict[str, Registered]:
    """Every suite, sealed ones aside, that a champion in the ancestry was registered with; the newest registration of a name counts."""
    found: dict[str, Registered] = {}
    for version in chain:
        if version.evaluation is not None:
            report = read_manifest(version.evaluation, EvalReport, verify=False)
            found |= {suite.name: Registered(suite, version.evaluation) for suite in report.suites if not suite.sealed}
    return found


def gate_evidence(reports: Evaluated, skill: str, attempts: int) -> GateEvidence:
    """Load the items behind the reports and name each suite's anchor: a skill's learner, and the base for everything else."""
    base = load_evaluation(reports.base.folder)
    anchors: dict[str, Evaluation] = {name: base for name, items in base.suites.items() if items.category != "skill"}
    for stage in reports.learners.values():
        learner = load_evaluation(stage.folder)
        anchors.update({name: learner for name, items in learner.suites.items() if not items.result.sealed})
    before = {folder: load_evaluation(folder) for folder in {known.folder for known in reports.registered.values()}}
    return GateEvidence(
        candidate=load_evaluation(reports.candidate.folder),
        champion=load_evaluation(reports.champion.folder),
        anchors=anchors,
        new_skill=skill,
        attempts=attempts,
        bootstrap=reports.first_skill,
        registered={name: before[known.folder] for name, known in reports.registered.items()},
    )


def require_registered_scores(version: VersionRef, stage: Stage[EvalReport]) -> Stage[EvalReport]:
    """Give the stage back. A version's scores may come from a cache: they must be the ones that it was registered with.

    Raises EvaluationError where an item that both know has another score under the same settings."""
    if version.evaluation is None:
        return stage
    then, now = load_evaluation(version.evaluation), load_evaluation(stage.folder)
    if then.report.settings_sha256 != now.report.settings_sha256:
        return stage
    for name in then.suites.keys() & now.suites.keys():
        mine, registered = now.suites[name], then.suites[name]
        if mine.result.suite_sha256 != registered.result.suite_sha256:
            continue  # other items, or another release's way of scoring them
        if changed := _changed(registered, mine):
            what = f"{changed} items of {name} have other scores than version {version.version} was registered with"
            way_out = "the cached scores were changed: delete state_dir/items and this folder, then run the round again"
            raise EvaluationError(str(stage.folder), what, way_out)
    return stage


def _changed(then: SuiteItems, now: SuiteItems) -> int:
    """Items with the same text and prompt, and another score."""
    known = {pair: number for number, pair in enumerate(zip(then.doc_hash, then.prompt_hash, strict=True))}
    pairs = ((known.get(pair), number) for number, pair in enumerate(zip(now.doc_hash, now.prompt_hash, strict=True)))
    both = [(before, after) for before, after in pairs if before is not None]
    return sum(1 for before, after in both if not np.isclose(then.score[before], now.score[after], rtol=0.0, atol=1e-9, equal_nan=True))
