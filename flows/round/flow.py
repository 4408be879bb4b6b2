"""One round: from a drop to a version that is promoted or not, with the reasons. The next round starts from the champion.

    skillstack round DROP --skill NAME

Each stage is one file in this folder: a Prefect task that calls one of the packages. The context (context.py) is passed from stage to
stage; the result of a stage is a manifest and its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, get_run_logger
from rich.markup import escape

from data_contracts.logs.lines import about
from data_contracts.manifests import CheckpointManifest, DropManifest, Verdict
from evals.audit.forgetting import ForgettingAudit
from evals.audit.weights import measure_round_drift
from flows.config.parameters import ConfigParameter, DropAddress, Heldout, Refresh, Scale, SkillName, named, this_month
from flows.lineage import VersionRef, find_version, judgements, open_round, read_ancestry
from flows.lineage.storage.facts import describe_sources
from flows.machine.progress import say
from flows.round.base import find_champion
from flows.round.context import Round
from flows.round.decide import audit, decide, items_of, items_to_add
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
from flows.workspace.workspace import Workspace, open_workspace, round_sources


@flow(name="continual-round", flow_run_name=named("round"), persist_result=False)
def continual_round(
    drop: DropAddress, skill: SkillName, config: ConfigParameter, heldout: Heldout = None, scale: Scale = 1.0, refresh: Refresh = False
) -> RoundOutcome:
    """Run one round. Raises SkillstackError if it cannot be finished: it is recorded as failed and the champion does not change.

    The same call continues a killed round after its last finished stage, and returns the recorded outcome of one that has ended. `scale`
    below 1 multiplies the trained update by this number: another attempt at the round, which trains nothing. `refresh` teaches a skill
    again that was promoted before: its old suites must be kept, and the drop's held-out rows, a suite `<skill>.2`, must improve.
    """
    with about(round=None, stage="begin", skill=skill):
        local = local_drop(config, drop)
        items = local_drop(config, heldout) if heldout is not None else None
        workspace = open_workspace(config)
        key = round_key(config, local, skill, items, scale, refresh=refresh)
        with one_start(config.state_dir, key, f"this round of {skill}"):
            champion = find_champion(workspace)
            round = begin_round(workspace, champion, key, local, skill, heldout=items, scale=scale, refresh=refresh)
            with about(round=round.run.round):
                return _run_round(round)


def _run_round(round: Round) -> RoundOutcome:
    """The round itself; the caller holds its lock."""
    workspace, skill, scale = round.workspace, round.skill, round.scale
    if round.run.finished:
        return ended_as(past_outcome(workspace, round.run))
    with failure_recorded(workspace, round.run):
        sources = describe_sources(round.lineage, round_sources(round.config, round.drop, round.heldout))
        clean = validate(round)
        attempt = judgements(round.lineage, round.run.round, skill) + 1
        say_what_is_missing(what_is_missing(round.config, round.chain, clean.manifest, attempt=attempt))
        with gpu_slot(round.config.service):
            candidate = train(round, clean)
            if scale < 1.0:
                candidate = rescale(round, candidate)
            reports, forgetting, verdict = judge(round, clean, candidate)
        outcome = register(round, clean, candidate, reports, forgetting, verdict, sources)
        tag_flow_run(f"skill:{skill}", f"round:{round.run.round}", f"month:{this_month()}", outcome.decision.value)
    announce_outcome(outcome, round.config.tracking.model_name)
    return ended_as(outcome)


def say_what_is_missing(notes: Sequence[str]) -> None:
    """Print the notes at the terminal and in Prefect's log, before the training. Only the run's own log reaches the
    server, and a terminal does not print it a second time."""
    for note in notes:
        say(escape(f"before training: {note}"))
        get_run_logger().warning("before training: %s", note)


def judge(
    round: Round, clean: Stage[DropManifest], candidate: Stage[CheckpointManifest]
) -> tuple[Evaluated, ForgettingAudit, Stage[Verdict]]:
    """Evaluate, audit, decide. If it is inconclusive and suites have more items, once more with the number that was fixed before."""
    wanted: dict[str, int] = {}
    first_look: dict[str, int] = {}
    moved = measure_round_drift(round.champion.checkpoint, candidate.folder)
    while True:
        reports = evaluate(round, clean, candidate, wanted)
        forgetting = audit(round, candidate, reports, moved)
        verdict = decide(round, reports, forgetting, first_look)
        wanted = items_to_add(verdict, reports)
        if not wanted:  # as after every second look
            return reports, forgetting, verdict
        first_look = items_of(reports)


def begin_round(
    workspace: Workspace,
    champion: VersionRef,
    key: str,
    drop: Path,
    skill: str,
    *,
    heldout: Path | None = None,
    scale: float = 1.0,
    refresh: bool = False,
) -> Round:
    """Open the round's parent run, or find that of an earlier start of the same round, with the ancestry of the champion that the round
    started from. After the round's own version became champion, this is not the present champion."""
    lineage = workspace.lineage
    chain = read_ancestry(lineage, champion.version)
    tags: dict[str, str] = {"skillstack.method": workspace.config.train.method}
    tags |= {"skillstack.scale": str(scale)} if scale < 1.0 else {}
    tags |= {"skillstack.refresh": "true"} if refresh else {}
    run = open_round(lineage, champion.round + 1, skill, key=key, tags=tags, chain=chain)
    if not run.finished and run.parent_version not in (None, champion.version):
        chain = read_ancestry(lineage, find_version(lineage, run.parent_version, verify=True).version)
    return Round(workspace=workspace, run=run, chain=tuple(chain), drop=drop, skill=skill, heldout=heldout, scale=scale, refresh=refresh)
