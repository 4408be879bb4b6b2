"""Evaluate the candidate and the models that it is compared with.

    candidate, champion   all general suites, all skills learned so far, the new skill
    base (anchor)         the same, so that row 0 of the accuracy matrix is complete
    learner of a skill    this skill (the learner is its anchor)

Items are cached by (checkpoint, suite, settings), so usually only the candidate, and the new skill on the other models, are computed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from data_contracts.manifests import CheckpointManifest, DropManifest, EvalReport
from data_contracts.skill_names import suite_name
from evals.config import SuiteConfig
from evals.harness.reproduction import Taught
from flows.lineage import VersionRef, read_ledger
from flows.round.context import Round, stage_task
from flows.round.reports import Evaluated, registered_suites, require_registered_scores, require_whole_chain
from flows.workspace.draws import drawn_by
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace, evaluate_model, evaluate_version, suites_of_skill


def _drawn(workspace: Workspace, version: VersionRef, suites: Sequence[SuiteConfig], label: str) -> list[SuiteConfig]:
    return drawn_by(suites, lambda whole: evaluate_version(workspace, version, whole, f"{label}, all items"))


@stage_task("evaluate", "evaluate {round.skill}")
def evaluate(round: Round, clean: Stage[DropManifest], candidate: Stage[CheckpointManifest], wanted: Mapping[str, int]) -> Evaluated:
    """Evaluate candidate, champion and anchors on everything learned so far, with the items of the cache.

    `wanted` raises the item limit of some suites. No suite is evaluated on fewer items than an earlier champion was registered with.
    """
    from evals.harness.plan import more_items  # imports lm-eval

    started, workspace, chain = time.perf_counter(), round.workspace, round.chain
    require_whole_chain(read_ledger(round.lineage), chain)
    registered = registered_suites(chain)
    least = {name: max(known.result.n, wanted.get(name, 0)) for name, known in registered.items()} | {
        name: count for name, count in wanted.items() if name not in registered
    }
    taught_before = [(version, version.skill, version.drop) for version in chain if version.skill and version.drop]
    learned = [  # a refresh brings its own
        (version, _drawn(workspace, version, suites_of_skill(workspace, skill, drop), f"anchor {skill}"))
        for version, skill, drop in taught_before
    ]
    suites = [*_drawn(workspace, chain[0], round.config.evaluation.suites, "base"), *(suite for _, own in learned for suite in own)]
    suites = more_items([*suites, *suites_of_skill(workspace, round.skill, clean.folder, learned=False)], least)

    def on(version: VersionRef, asked: Sequence[SuiteConfig], label: str) -> Stage[EvalReport]:
        return require_registered_scores(version, evaluate_version(workspace, version, asked, label))

    made, new = candidate.manifest, suite_name(round.skill, clean.manifest.teaching)
    taught = Taught(new, clean.folder / clean.manifest.files["clean"].path)
    reports = Evaluated(
        candidate=evaluate_model(workspace, candidate.folder / "model", made.model_sha256, suites, f"{round.skill} candidate", taught),
        champion=on(chain[-1], suites, "champion"),
        base=on(chain[0], suites, "base") if len(chain) > 1 else on(chain[-1], suites, "champion"),
        learners={own[0].name: on(version, more_items(own, least), f"anchor {own[0].name}") for version, own in learned},
        registered=registered,
        first_skill=len(chain) == 1,
        new=new,
    )
    round.record("evaluate", reports.candidate, since=started)
    return reports
