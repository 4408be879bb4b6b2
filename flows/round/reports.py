"""The reports that the gate compares, and the evidence that is built from their items."""

from __future__ import annotations

from collections import defaultdict
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
    """A suite that an earlier champion was registered with: its result, and the folder of the report with its items."""

    result: SuiteResult
    folder: Path


@dataclass(frozen=True)
class Evaluated:
    """The reports of one round. `learners`: for each earlier skill (each drop that taught it), the report of the version that learned it.

    `registered`: the suites that all champions so far were registered with; `first_skill`: the ledger has no earlier skill. `new`: the
    suite of the drop's held-out rows, on which the gain is measured; where the drop refreshes a skill, its old suite must not be lost.
    """

    candidate: Stage[EvalReport]
    champion: Stage[EvalReport]
    base: Stage[EvalReport]
    learners: Mapping[str, Stage[EvalReport]]
    registered: Mapping[str, Registered]
    first_skill: bool
    new: str


def require_whole_chain(entries: Sequence[LedgerEntry], chain: Sequence[VersionRef]) -> None:
    """Raise LineageError if the champion's ancestry is incomplete: a skill that cannot be evaluated would count as kept.

    Which version is the base model is taken from the ledger (its first version), not from a tag, which may have been deleted.
    """
    way_out = "run `skillstack verify`, then restore the registry from backup"
    opened = next((entry.version for entry in entries if entry.action in MOVES_CHAMPION), None)
    if chain[0].version != opened:
        what = f"is the first of the champion's ancestors, but the ledger begins with version {opened}: a version has lost its parent"
        raise LineageError(f"version {chain[0].version}", what, way_out)
    for version in chain[1:]:
        if not (version.skill and version.drop):
            lost = "drop" if version.skill else "skill"
            what = f"has lost its {lost} in the registry, so its skill cannot be evaluated any more"
            raise LineageError(f"version {version.version}", what, way_out)


def registered_suites(chain: Sequence[VersionRef]) -> dict[str, Registered]:
    """All suites, except sealed ones, that the champions of the ancestry were registered with; of each name the newest."""
    found: dict[str, Registered] = {}
    for version in chain:
        if version.evaluation is not None:
            report = read_manifest(version.evaluation, EvalReport, verify=False)
            found |= {suite.name: Registered(suite, version.evaluation) for suite in report.suites if not suite.sealed}
    return found


def gate_evidence(reports: Evaluated, attempts: int, first_look: Mapping[str, int]) -> GateEvidence:
    """Load the items of the reports and each suite's anchor: the learner for a skill, the base model for everything else."""
    base = load_evaluation(reports.base.folder)
    anchors: dict[str, Evaluation] = {name: base for name, items in base.suites.items() if items.category != "skill"}
    for stage in reports.learners.values():
        learner = load_evaluation(stage.folder)
        anchors.update({name: learner for name, items in learner.suites.items() if not items.result.sealed})
    held: dict[Path, list[str]] = defaultdict(list)  # folder of a registration -> the suites whose newest it is
    for name, known in reports.registered.items():
        held[known.folder].append(name)
    before = {folder: load_evaluation(folder, names) for folder, names in held.items()}
    return GateEvidence(
        candidate=load_evaluation(reports.candidate.folder),
        champion=load_evaluation(reports.champion.folder),
        anchors=anchors,
        new_skill=reports.new,
        attempts=attempts,
        bootstrap=reports.first_skill,
        registered={name: before[known.folder] for name, known in reports.registered.items()},
        first_look=first_look,
    )


def require_registered_scores(version: VersionRef, stage: Stage[EvalReport]) -> Stage[EvalReport]:
    """Return the stage after a check: scores from the cache must be those that the version was registered with.

    Raises EvaluationError if an item has another score under the same settings."""
    if version.evaluation is None:
        return stage
    before, after = read_manifest(version.evaluation, EvalReport, verify=False), stage.manifest
    if before.settings_sha256 != after.settings_sha256:
        return stage
    known = {suite.name: suite.suite_sha256 for suite in before.suites}  # another digest: other items, or scored by another release
    same = [suite.name for suite in after.suites if known.get(suite.name) == suite.suite_sha256]
    then, now = load_evaluation(version.evaluation, same), load_evaluation(stage.folder, same)  # a late version has many suites
    for name in same:
        if changed := _changed(then.suites[name], now.suites[name]):
            what = f"{changed} items of {name} have other scores than version {version.version} was registered with"
            way_out = "the cached scores were changed: delete state_dir/items and this folder, then run the round again"
            raise EvaluationError(str(stage.folder), what, way_out)
    return stage


def _changed(then: SuiteItems, now: SuiteItems) -> int:
    """Number of items with the same text and prompt, but another score."""
    known = {pair: number for number, pair in enumerate(zip(then.doc_hash, then.prompt_hash, strict=True))}
    pairs = ((known.get(pair), number) for number, pair in enumerate(zip(now.doc_hash, now.prompt_hash, strict=True)))
    both = [(before, after) for before, after in pairs if before is not None]
    return sum(1 for before, after in both if not np.isclose(then.score[before], now.score[after], rtol=0.0, atol=1e-9, equal_nan=True))
