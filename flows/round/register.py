"""Register the candidate with its verdict, and make it the champion if the gate passed it."""

from __future__ import annotations

from data_contracts.manifests import CheckpointManifest, Decision, DropManifest, Verdict
from evals.audit.forgetting import ForgettingAudit
from flows.lineage import finish_round, promote_version, register_candidate, was_champion, write_card
from flows.round.context import Round, stage_task
from flows.round.reports import Evaluated
from flows.workspace.outcome import RoundOutcome, outcome_of
from flows.workspace.pages import not_vital, publish_verdict
from flows.workspace.round_page import write_page
from flows.workspace.stages import Stage


@stage_task("register")
def register(
    round: Round,
    clean: Stage[DropManifest],
    candidate: Stage[CheckpointManifest],
    reports: Evaluated,
    forgetting: ForgettingAudit,
    verdict: Stage[Verdict],
    sources: str,
) -> RoundOutcome:
    """Every candidate becomes a version with its verdict; PASS moves the alias `champion`, if it has not been moved meanwhile.

    `sources`: the user's files as they were when the round began."""
    lineage, decided = round.lineage, verdict.manifest
    version = register_candidate(
        lineage,
        round.run,
        candidate.folder,
        candidate.manifest,
        evaluation=reports.candidate.folder,
        report=reports.candidate.manifest,
        verdict=decided,
        verdict_folder=verdict.folder,
        drop=clean.folder,
        sources=sources,
    )
    if decided.decision is Decision.PASS and not was_champion(lineage, version.version):
        expected, reason = round.champion.version, decided.reasons[0]
        promote_version(lineage, version.version, expected_champion=expected, reason=reason, actor="gate", verdict=decided)
    if decided.decision is Decision.PASS and (card := write_card(lineage, version.version, candidate.folder / "model")) is not None:
        round.attach(card)
    finish_round(lineage, round.run)
    outcome = outcome_of(round.workspace, round.run, version, decided, verdict.folder, reports.champion.manifest)
    # The digest of the verdict covers its own page. This page adds what to try next, which names the version to approve or reject.
    page = write_page(round.workspace, version, forgetting)
    round.attach(page)
    with not_vital(f"version {version.version}"):
        publish_verdict(decided, forgetting, page, reports.candidate.manifest, reports.champion.manifest, version, outcome.next)
    return outcome
