"""The tasks of a round. Each one finds or does its stage, records it in the lineage, and hands on a manifest with its folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_contracts.digests import file_digest
from data_contracts.errors import DropError, LineageError
from data_contracts.manifests import MANIFEST_NAME, CheckpointManifest, Decision, DropManifest, Verdict, file_ref, write_manifest
from data_contracts.validate import validate_drop
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, audit_forgetting
from evals.audit.weights import measure_round_drift
from evals.gate.decide import decide as decide_gate
from evals.gate.decide import items_wanted
from evals.items import load_evaluation
from evals.report.render import render_round
from flows.lineage import RoundRun, VersionRef
from flows.machine.progress import bar
from flows.machine.retrying import retry_if_it_may_pass
from flows.round.base import ensure_champion
from flows.round.drop_page import publish_drop_report
from flows.scores.audit_rows import lineage_rounds
from flows.scores.evidence import Evaluated, evaluate_round, gate_evidence
from flows.text.facts import FACTS_NAME, write_facts
from flows.text.held_out import suite_files
from flows.text.renderer import TokenizerRenderer
from flows.text.template_facts import text_facts
from flows.trainer.process import run_trainer
from flows.workspace import decompositions
from flows.workspace.outcome import RoundOutcome, outcome_of
from flows.workspace.pages import not_vital, publish_verdict, shown_progress
from flows.workspace.stages import Stage, digest_or_none, discard_partial, run_stage
from flows.workspace.workspace import Workspace
from osft_engine.config import TrainConfig
from osft_engine.run import TrainRun

# Results are found by content (stages.py) and verified, which Prefect's cache of pickled results could not do.
ours: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [5, 60],
    "retry_condition_fn": retry_if_it_may_pass,
}


DECIDE_CODE = ("evals.audit.forgetting", "evals.gate.decide", "evals.report.render", "flows.scores.evidence")


@task(name="find champion", **ours)
def find_champion(workspace: Workspace) -> VersionRef:
    return ensure_champion(workspace)


@task(name="validate", task_run_name="validate {skill}", **ours)
def validate(
    workspace: Workspace, run: RoundRun, chain: Sequence[VersionRef], drop: Path, skill: str, heldout: Path | None
) -> Stage[DropManifest]:
    """drop -> clean, held-out, sealed and quarantined rows."""
    started = time.perf_counter()

    def on_refusal(folder: Path, error: DropError) -> None:
        publish_drop_report(folder, error)
        workspace.lineage.attach(run, folder / "report.html")

    stage = validate_stage(workspace, chain, drop, skill, heldout, on_refusal)
    publish_drop_report(stage.folder)
    pages = [path for name in ("report.html", FACTS_NAME) if (path := stage.folder / name).is_file()]
    workspace.lineage.log_stage(run, "validate", stage.manifest, stage.folder, artifacts=pages, seconds=time.perf_counter() - started)
    return stage


def validate_stage(
    workspace: Workspace,
    chain: Sequence[VersionRef],
    drop: Path,
    skill: str,
    heldout: Path | None,
    on_refusal: Callable[[Path, DropError], None] = lambda _folder, _error: None,
) -> Stage[DropManifest]:
    """The validated drop, made once. A drop that is refused is never a stage: `on_refusal` is shown the folder that says why."""
    config, model = workspace.config, chain[-1].checkpoint / "model"
    earlier = [version.drop for version in chain if version.drop is not None]
    suites = suite_files(config.evaluation, config.state_dir)
    suite_names = [suite.name for suite in config.evaluation.suites]
    inputs = {
        "suite_names": suite_names,
        "drop": file_digest(drop) if drop.is_file() else str(drop),
        "name": drop.name,
        "heldout": file_digest(heldout) if heldout and heldout.is_file() else str(heldout),
        "skill": skill,
        "contract": config.contract.model_dump(mode="json") | {"path": digest_or_none(config.contract.path)},
        "tokenizer": chain[-1].model_sha256,
        "text": config.train.model_dump(mode="json", include={"max_seq_len", "chat_template", "chat_template_kwargs"}),
        "earlier": [file_digest(folder / "manifest.json") for folder in earlier],
        "suites": [file_digest(path) if path.is_file() else str(path) for path in suites],
    }

    def build(folder: Path) -> None:
        discard_partial(folder)
        facts = text_facts(model, config.train)  # refuses a template under which training would read another text than evaluation asks
        try:
            with bar(f"validate {skill}") as advance:
                validate_drop(
                    drop,
                    folder,
                    skill=skill,
                    config=config.contract,
                    renderer=TokenizerRenderer(model, config.train),
                    heldout=heldout,
                    earlier=earlier,
                    suites=suites,
                    suite_names=suite_names,
                    progress=lambda done, total: advance(done, total, "bytes"),
                )
        except DropError as error:
            on_refusal(folder, error)
            raise
        write_facts(folder / FACTS_NAME, facts)

    return run_stage(workspace.stages, "validate", inputs, DropManifest, build, code=("data_contracts.validate", "flows.text.renderer"))


@task(name="train", task_run_name="train {skill}", tags=["gpu"], **ours)
def train(workspace: Workspace, run: RoundRun, champion: VersionRef, drop: Stage[DropManifest], skill: str) -> Stage[CheckpointManifest]:
    """champion + clean rows -> candidate, in a process of its own that resumes by itself; its curve is in MLflow while it runs."""
    started = time.perf_counter()
    stage = train_stage(workspace, champion, drop, skill, workspace.config.train, run)
    workspace.lineage.log_stage(run, "train", stage.manifest, stage.folder, seconds=time.perf_counter() - started)
    return stage


def train_stage(
    workspace: Workspace,
    champion: VersionRef,
    drop: Stage[DropManifest],
    skill: str,
    training: TrainConfig,
    run: RoundRun | None = None,
    *,
    of_a_sweep: bool = False,
) -> Stage[CheckpointManifest]:
    """The trained checkpoint, made once. `run` is the round whose page shows the training while it runs."""
    config = workspace.config
    inputs = {
        "champion": champion.manifest_sha256,
        "drop": drop.manifest.files["clean"].sha256,
        "skill": skill,
        "calibration": digest_or_none(config.calibration),
        "config": training.model_dump(mode="json"),
    }

    def build(folder: Path) -> None:
        order = TrainRun(
            base=champion.checkpoint / "model",
            parent=champion.checkpoint,
            drop=drop.folder,
            calibration=config.calibration,
            skill=skill,
            out_dir=folder,
            cache_dir=decompositions.folder_of(workspace),
            keep_whole=of_a_sweep,
            config=training,
        )
        with ExitStack() as shown:
            advance = shown.enter_context(bar(f"train {skill}"))
            show = shown.enter_context(shown_progress(f"train {skill}"))
            live = workspace.lineage.live_stage(run, "train", every=config.tracking.live_seconds) if run is not None else None
            if live is not None:
                shown.enter_context(live)

            def on_event(event: dict[str, Any]) -> None:
                if event.get("event") == "step":
                    advance(event["step"], event["steps"], f"loss {event['loss']:.3f}  {event['tokens_per_second']:.0f} tokens/s")
                    show(event["step"], event["steps"])
                    if live is not None:
                        live.add(event["step"], event)

            run_trainer(order, on_event, config.launch, config.trainer)

    return run_stage(workspace.stages, "train", inputs, CheckpointManifest, build, code=("osft_engine.__main__",))


@task(name="rescale", task_run_name="rescale {skill} by {scale}", **ours)
def rescale(
    workspace: Workspace, run: RoundRun, champion: VersionRef, candidate: Stage[CheckpointManifest], skill: str, scale: float
) -> Stage[CheckpointManifest]:
    """A finished update times `scale`: the update is linear, so this trains nothing."""
    stage = scale_stage(workspace, champion, candidate, scale)
    workspace.lineage.log_stage(run, "train", stage.manifest, stage.folder)
    return stage


def scale_stage(
    workspace: Workspace, champion: VersionRef, candidate: Stage[CheckpointManifest], scale: float
) -> Stage[CheckpointManifest]:
    """The scaled checkpoint, made once."""
    from osft_engine.rescale import scale_candidate  # loads torch

    def build(folder: Path) -> None:
        discard_partial(folder)
        scale_candidate(candidate.folder, champion.checkpoint / "model", folder, scale)

    inputs = {"candidate": candidate.digest, "scale": scale}
    return run_stage(workspace.stages, "rescale", inputs, CheckpointManifest, build, code=("osft_engine.rescale",))


@task(name="evaluate", task_run_name="evaluate {skill}", **ours)
def evaluate(
    workspace: Workspace,
    run: RoundRun,
    chain: Sequence[VersionRef],
    drop: Stage[DropManifest],
    candidate: Stage[CheckpointManifest],
    skill: str,
    wanted: Mapping[str, int],
) -> Evaluated:
    """Candidate, champion and anchors on everything learned so far; only what no cache holds is computed."""
    started = time.perf_counter()
    reports = evaluate_round(workspace, chain, skill, drop, candidate, wanted)
    workspace.lineage.log_stage(
        run, "evaluate", reports.candidate.manifest, reports.candidate.folder, seconds=time.perf_counter() - started
    )
    return reports


@task(name="audit", task_run_name="audit {skill}", **ours)
def audit(
    workspace: Workspace, run: RoundRun, chain: Sequence[VersionRef], candidate: Stage[CheckpointManifest], reports: Evaluated, skill: str
) -> ForgettingAudit:
    """What every earlier round cost, this candidate included."""
    newest = RoundEvaluation(
        number=run.round,
        skill=skill,
        evaluation=load_evaluation(reports.candidate.folder),
        attempts=run.attempt,
        layers=candidate.manifest.layers,
        weights=measure_round_drift(chain[-1].checkpoint, candidate.folder),
    )
    return audit_forgetting([*lineage_rounds(chain, reports.base), newest])


@task(name="decide", task_run_name="decide {skill}", **ours)
def decide(workspace: Workspace, run: RoundRun, reports: Evaluated, forgetting: ForgettingAudit, skill: str, look: int) -> Stage[Verdict]:
    """Evidence -> verdict, with the report that explains it. A second look at more items counts as another attempt."""
    attempts = run.judged_before + look
    inputs = {
        "candidate": reports.candidate.digest,
        "champion": reports.champion.digest,
        "base": reports.base.digest,
        "learners": {name: stage.digest for name, stage in reports.learners.items()},
        "registered": {name: file_digest(known.folder / MANIFEST_NAME) for name, known in reports.registered.items()},
        "first_skill": reports.first_skill,
        "policy": workspace.config.gate.model_dump(mode="json"),
        "attempts": attempts,
        "skill": skill,
    }

    def build(folder: Path) -> None:
        evidence = gate_evidence(reports, skill, attempts)
        verdict = decide_gate(evidence, workspace.config.gate)
        page = render_round(verdict, forgetting, evidence, out=folder / "report.html")
        write_manifest(folder, verdict.model_copy(update={"files": {"report": file_ref(folder, page)}}))

    stage = run_stage(workspace.stages, "decide", inputs, Verdict, build, code=DECIDE_CODE)
    if stage.reused:
        again = decide_gate(gate_evidence(reports, skill, attempts), workspace.config.gate)
        require_same_verdict(stage, again)
    workspace.lineage.log_stage(run, "decide", stage.manifest, stage.folder, artifacts=[stage.folder / "report.html"])
    return stage


def require_same_verdict(stage: Stage[Verdict], again: Verdict) -> None:
    """A verdict that lay on the disk is what the gate says of this evidence under this policy, or nothing is decided."""
    if again.model_copy(update={"files": stage.manifest.files}) != stage.manifest:
        what = (
            f"holds the verdict {stage.manifest.decision.value}, of the same evidence the gate says {again.decision.value}: it was edited"
        )
        raise LineageError(str(stage.folder), what, "delete this folder and run the round again")


def items_to_add(verdict: Stage[Verdict], reports: Evaluated) -> dict[str, int]:
    """Suite -> items, where more items are likely to decide an inconclusive verdict and the suite has more than were evaluated."""
    wanted = items_wanted(verdict.manifest, load_evaluation(reports.candidate.folder))
    spare = {suite.name: suite.available for suite in reports.candidate.manifest.suites if suite.available and suite.available > suite.n}
    return {name: min(count, spare[name]) for name, count in wanted.items() if name in spare}


@task(name="register", **ours)
def register(
    workspace: Workspace,
    run: RoundRun,
    champion: VersionRef,
    drop: Stage[DropManifest],
    candidate: Stage[CheckpointManifest],
    reports: Evaluated,
    forgetting: ForgettingAudit,
    verdict: Stage[Verdict],
    sources: Mapping[str, Path],
) -> RoundOutcome:
    """Every candidate becomes a version with its verdict; only PASS moves the alias `champion`, and only if nobody moved it meanwhile."""
    version = workspace.lineage.register_candidate(
        run,
        candidate.folder,
        candidate.manifest,
        evaluation=reports.candidate.folder,
        report=reports.candidate.manifest,
        verdict=verdict.manifest,
        verdict_folder=verdict.folder,
        drop=drop.folder,
        sources=sources,
    )
    if verdict.manifest.decision is Decision.PASS and not workspace.lineage.was_champion(version.version):
        workspace.lineage.promote(
            version.version, expected_champion=champion.version, reason=verdict.manifest.reasons[0], actor="gate", verdict=verdict.manifest
        )
    workspace.lineage.finish_round(run)
    outcome = outcome_of(workspace, run, version, verdict.manifest, verdict.folder, reports.champion.manifest)
    evidence = gate_evidence(reports, version.skill or "", verdict.manifest.attempts)
    # The verdict's own page is covered by its digest. This one adds what to try next: only now is there a version to approve or reject.
    page = render_round(verdict.manifest, forgetting, evidence, steps=outcome.next, out=outcome.report)
    workspace.lineage.attach(run, page)
    with not_vital(f"version {version.version}"):
        publish_verdict(verdict.manifest, forgetting, page, reports.candidate.manifest, reports.champion.manifest, version, outcome.next)
    return outcome
