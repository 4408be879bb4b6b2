"""The story of a round: a drop goes in, a promoted or refused model version with its reasons comes out, and the next round builds on it.

    skillstack round DROP --skill NAME

Each stage is one file of this folder: a task over a function of one of the packages. One value (context.py) goes from stage to stage,
and what a stage hands on is a manifest and its folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from rich.markup import escape

from data_contracts.manifests import CheckpointManifest, DropManifest, Verdict
from evals.audit.forgetting import ForgettingAudit
from flows.config.parameters import ConfigParameter, DropAddress, Heldout, Scale, SkillName, named, this_month
from flows.lineage import VersionRef, find_version, open_round, read_ancestry
from flows.machine.progress import say
from flows.round.base import find_champion
from flows.round.context import Round
from flows.round.decide import audit, decide, items_to_add
from flows.round.evaluate import evaluate
from flows.round.failure import failure_recorded
from flows.round.identity import one_start, round_key
from flows.round.planning import what_is_missing
from flows.round.register import register
from flows.round.reports import Evaluated
from flows.round.train import rescale, train
from flows.round.validate import validate
from flows.workspace.drop_address import local_drop
from flows.workspace.outcome import RoundOutcome, past_outcome
from flows.workspace.pages import ended_as, tag_flow_run
from flows.workspace.server import announce_outcome, gpu_slot
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace, open_workspace

logger = logging.getLogger(__name__)


def _name_of_round() -> str:
    return named("round")


@flow(name="continual-round", flow_run_name=_name_of_round, persist_result=False)
def continual_round(
    drop: DropAddress, skill: SkillName, config: ConfigParameter, heldout: Heldout = None, scale: Scale = 1.0
) -> RoundOutcome:
    """One round. Raises SkillstackError where it cannot be finished: the round is then recorded as failed and the champion stays.

    A round that was killed continues after its last finished stage when it is started again with the same drop and config; one that
    has ended returns its recorded outcome. `scale` below 1 offers the trained update times that number: another attempt at the round,
    which trains nothing.
    """
    local = local_drop(config, drop)
    items = local_drop(config, heldout) if heldout is not None else None
    workspace = open_workspace(config)
    key = round_key(config, local, skill, items, scale)
    with one_start(config.state_dir, key, f"this round of {skill}"):
        return _run_round(workspace, key, local, skill, items, scale)


def _run_round(workspace: Workspace, key: str, drop: Path, skill: str, heldout: Path | None, scale: float) -> RoundOutcome:
    """The round itself. The caller holds its lock."""
    round = begin_round(workspace, find_champion(workspace), key, drop, skill, heldout=heldout, scale=scale)
    if round.run.finished:
        return ended_as(past_outcome(workspace, round.run))
    with failure_recorded(workspace, round.run):
        clean = validate(round)
        say_what_is_missing(what_is_missing(round.config, round.chain, skill, clean.manifest))
        with gpu_slot(round.config.service):
            candidate = train(round, clean)
            if scale < 1.0:
                candidate = rescale(round, candidate)
            reports, forgetting, verdict = judge(round, clean, candidate)
        outcome = register(round, clean, candidate, reports, forgetting, verdict)
        tag_flow_run(f"skill:{skill}", f"round:{round.run.round}", f"month:{this_month()}", outcome.decision.value)
    announce_outcome(outcome, round.config.tracking.model_name)
    return ended_as(outcome)


def say_what_is_missing(notes: Sequence[str]) -> None:
    """Before anything is trained, to the person at the terminal and in Prefect's log."""
    for note in notes:
        say(escape(f"before training: {note}"))
        logger.warning("before training: %s", note)


def judge(
    round: Round, clean: Stage[DropManifest], candidate: Stage[CheckpointManifest]
) -> tuple[Evaluated, ForgettingAudit, Stage[Verdict]]:
    """Evaluate, audit, decide; where that is inconclusive and suites have items to spare, once more with those, under a stricter alpha."""
    wanted: dict[str, int] = {}
    for look in (1, 2):
        reports = evaluate(round, clean, candidate, wanted)
        forgetting = audit(round, candidate, reports)
        verdict = decide(round, reports, forgetting, look)
        wanted = items_to_add(verdict, reports)
        if not wanted:
            break
    return reports, forgetting, verdict


def begin_round(
    workspace: Workspace, champion: VersionRef, key: str, drop: Path, skill: str, *, heldout: Path | None = None, scale: float = 1.0
) -> Round:
    """Open the round's parent run, or find the one that an earlier start of the same round left; with the ancestry of the champion that
    the round starts from, which is not today's where the round's own version has become champion since."""
    lineage = workspace.lineage
    chain = read_ancestry(lineage, champion.version)
    tags = {"skillstack.drop_name": drop.name, "skillstack.method": workspace.config.train.method}
    tags |= {"skillstack.scale": str(scale)} if scale < 1.0 else {}
    run = open_round(lineage, champion.round + 1, skill, key=key, tags=tags, chain=chain)
    if not run.finished and run.parent_version not in (None, champion.version):
        chain = read_ancestry(lineage, find_version(lineage, run.parent_version, verify=True).version)
    return Round(workspace=workspace, run=run, chain=tuple(chain), drop=drop, skill=skill, heldout=heldout, scale=scale)
