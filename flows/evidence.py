"""Which checkpoints are evaluated on which suites in a round, and what of it the gate and the audit are shown.

    candidate, champion   every general suite, every skill learned so far, the new skill
    base (anchor)         the same, so that row 0 of the accuracy matrix has no hole
    each skill's learner  the skill it learned (its anchor)

Items are cached by (checkpoint, suite, settings), so in practice only the candidate, and the new skill on the others, are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_contracts.manifests import CheckpointManifest, DropManifest, EvalReport
from evals.config import SuiteConfig
from evals.gate import GateEvidence
from evals.items import Evaluation, load_evaluation
from flows.house import House, evaluate_model, suites_of_skill
from flows.lineage import VersionRef
from flows.registered_scores import require_registered_scores
from flows.stages import Stage


@dataclass(frozen=True)
class Evaluated:
    """The reports of one round. `learners` holds, for each earlier skill, the report of the version that learned it."""

    candidate: Stage[EvalReport]
    champion: Stage[EvalReport]
    base: Stage[EvalReport]
    learners: Mapping[str, Stage[EvalReport]]


def evaluate_round(
    house: House,
    chain: Sequence[VersionRef],
    skill: str,
    drop: Stage[DropManifest],
    candidate: Stage[CheckpointManifest],
    wanted: Mapping[str, int],
) -> Evaluated:
    """Evaluate the candidate and what it is compared with. `chain` is the champion's ancestry: base first, champion last.

    `wanted` raises the item limit of single suites; what was computed under a lower one comes from the cache.
    """
    from evals.harness_plan import more_items  # loads lm-eval

    by_skill = {version.skill: suites_of_skill(house, version.skill, version.drop) for version in chain if version.skill and version.drop}
    suites = [*house.config.evaluation.suites, *(suite for own in by_skill.values() for suite in own)]
    suites = more_items([*suites, *suites_of_skill(house, skill, drop.folder)], wanted)
    by_skill = {name: more_items(own, wanted) for name, own in by_skill.items()}

    def on(version: VersionRef, wanted: Sequence[SuiteConfig], label: str) -> Stage[EvalReport]:
        stage = evaluate_model(house, version.checkpoint / "model", version.model_sha256, wanted, label)
        return require_registered_scores(version, stage)

    return Evaluated(
        candidate=evaluate_model(house, candidate.folder / "model", candidate.manifest.model_sha256, suites, f"{skill} candidate"),
        champion=on(chain[-1], suites, "champion"),
        base=on(chain[0], suites, "base") if len(chain) > 1 else on(chain[-1], suites, "champion"),
        learners={
            version.skill: on(version, by_skill[version.skill], f"anchor {version.skill}") for version in chain if version.skill in by_skill
        },
    )


def gate_evidence(reports: Evaluated, skill: str, attempts: int) -> GateEvidence:
    """Load the items behind the reports and name each suite's anchor: a skill's learner, and the base for everything else."""
    base = load_evaluation(reports.base.folder)
    anchors: dict[str, Evaluation] = {name: base for name, items in base.suites.items() if items.category != "skill"}
    for stage in reports.learners.values():
        learner = load_evaluation(stage.folder)
        anchors.update({name: learner for name, items in learner.suites.items() if not items.result.sealed})
    return GateEvidence(
        candidate=load_evaluation(reports.candidate.folder),
        champion=load_evaluation(reports.champion.folder),
        anchors=anchors,
        new_skill=skill,
        attempts=attempts,
        bootstrap=not reports.learners,
    )
