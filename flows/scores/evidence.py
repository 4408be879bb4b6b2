"""Which checkpoints are evaluated on which suites in a round, and what of it the gate and the audit are shown.

    candidate, champion   every general suite, every skill learned so far, the new skill
    base (anchor)         the same, so that row 0 of the accuracy matrix has no hole
    each skill's learner  the skill it learned (its anchor)

Items are cached by (checkpoint, suite, settings), so in practice only the candidate, and the new skill on the others, are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_contracts.errors import LineageError
from data_contracts.manifests import CheckpointManifest, DropManifest, EvalReport, SuiteResult, read_manifest
from evals.config import SuiteConfig
from evals.gate.decide import GateEvidence
from evals.harness.reproduction import Taught
from evals.items import Evaluation, load_evaluation
from flows.lineage import VersionRef
from flows.lineage.storage.records import MOVES_CHAMPION
from flows.scores.registered import require_registered_scores
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace, evaluate_model, suites_of_skill


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


def evaluate_round(
    workspace: Workspace,
    chain: Sequence[VersionRef],
    skill: str,
    drop: Stage[DropManifest],
    candidate: Stage[CheckpointManifest],
    wanted: Mapping[str, int],
) -> Evaluated:
    """Evaluate the candidate and what it is compared with. `chain` is the champion's ancestry: base first, champion last.

    `wanted` raises the item limit of single suites; what was computed under a lower one comes from the cache. No suite is asked for fewer
    items than an earlier champion was registered with.
    """
    from evals.harness.plan import more_items  # loads lm-eval

    require_whole_chain(workspace, chain)
    registered = registered_suites(chain)
    least = {name: max(known.result.n, wanted.get(name, 0)) for name, known in registered.items()} | {
        name: count for name, count in wanted.items() if name not in registered
    }
    by_skill = {
        version.skill: suites_of_skill(workspace, version.skill, version.drop) for version in chain if version.skill and version.drop
    }
    suites = [*workspace.config.evaluation.suites, *(suite for own in by_skill.values() for suite in own)]
    suites = more_items([*suites, *suites_of_skill(workspace, skill, drop.folder)], least)
    by_skill = {name: more_items(own, least) for name, own in by_skill.items()}

    def on(version: VersionRef, asked: Sequence[SuiteConfig], label: str) -> Stage[EvalReport]:
        stage = evaluate_model(workspace, version.checkpoint / "model", version.model_sha256, asked, label)
        return require_registered_scores(version, stage)

    taught = Taught(skill, drop.folder / drop.manifest.files["clean"].path)
    return Evaluated(
        candidate=evaluate_model(
            workspace, candidate.folder / "model", candidate.manifest.model_sha256, suites, f"{skill} candidate", taught
        ),
        champion=on(chain[-1], suites, "champion"),
        base=on(chain[0], suites, "base") if len(chain) > 1 else on(chain[-1], suites, "champion"),
        learners={
            version.skill: on(version, by_skill[version.skill], f"anchor {version.skill}") for version in chain if version.skill in by_skill
        },
        registered=registered,
        first_skill=len(chain) == 1,
    )


def require_whole_chain(workspace: Workspace, chain: Sequence[VersionRef]) -> None:
    """Raise LineageError where the champion's ancestry is not whole: a skill that nobody can ask would count as kept.

    That the champion is the base is a fact of the ledger (the version that opened it), not of a tag that somebody may have deleted.
    """
    way_out = "run `skillstack verify`, then restore the registry from backup"
    opened = next((entry.version for entry in workspace.lineage.ledger() if entry.action in MOVES_CHAMPION), None)
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
