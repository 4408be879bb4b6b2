"""A verdict that lies finished on the disk, and its page, are used again only where they still are what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from data_contracts.errors import LineageError
from data_contracts.manifests import Decision, EvalReport, Verdict, read_manifest, write_manifest
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, audit_forgetting
from evals.gate.policy import GatePolicy
from evals.items import load_evaluation
from flows.config.model import SkillstackConfig
from flows.lineage import Lineage, current_champion, register_candidate, verify_lineage
from flows.round import decide as stage
from flows.round.context import Round
from flows.round.flow import begin_round
from flows.round.reports import Evaluated
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace


@dataclass(frozen=True)
class Judged:
    """A round whose stage `decide` can be run as often as a test likes."""

    round: Round
    reports: Evaluated
    forgetting: ForgettingAudit
    folders: Any

    def decide(self) -> Stage[Verdict]:
        return stage.decide.fn(self.round, self.reports, self.forgetting, {})


@pytest.fixture
def judged(grown: Lineage, make_folders: Callable[..., Any]) -> Judged:
    champion = current_champion(grown)
    assert champion is not None
    folders = make_folders("third", skill="third", parent=champion.model_sha256, decision=Decision.BLOCK)
    workspace = Workspace(SkillstackConfig(state_dir=grown.state_dir, gate={"accept_unmeasured": ("safety", "drift")}), grown)
    round = begin_round(workspace, champion, "contents of third", grown.state_dir.parent / "third.jsonl", "third")
    folder = workspace.stages / "evaluate" / "third-champion"
    before = Stage(folder, read_manifest(folder, EvalReport), reused=True)
    reports = Evaluated(
        Stage(folders.evaluation, folders.report, reused=True), before, before, {"old": before}, {}, first_skill=False, new="third"
    )
    rows = [RoundEvaluation(number=0, skill=None, evaluation=load_evaluation(folder))]
    rows.append(RoundEvaluation(number=3, skill="third", evaluation=load_evaluation(folders.evaluation)))
    return Judged(round, reports, audit_forgetting(rows), folders)


def test_a_verdict_that_lies_there_is_used_while_it_is_what_the_gate_says(judged: Judged) -> None:
    first, again = judged.decide(), judged.decide()
    assert (first.reused, again.reused) == (False, True)
    assert again.manifest == first.manifest


@pytest.mark.parametrize("edit", [{"decision": Decision.PASS}, {"reasons": ("Pass: nothing was lost.",)}, {"lost": ()}])
def test_an_edited_verdict_stops_the_round(judged: Judged, edit: dict[str, Any]) -> None:
    first = judged.decide()
    assert first.manifest.decision is Decision.BLOCK
    assert first.manifest.lost
    write_manifest(first.folder, first.manifest.model_copy(update=edit))
    with pytest.raises(LineageError, match=r"the gate decides BLOCK.*edited.*delete this folder") as refused:
        judged.decide()
    assert refused.value.where == str(first.folder)


def test_an_edited_page_is_set_aside_and_made_again(judged: Judged) -> None:
    first = judged.decide()
    page = first.folder / "report.html"
    written = page.read_text(encoding="utf-8")
    page.write_text(written.replace("Blocked", "Passed"), encoding="utf-8")
    again = judged.decide()
    assert not again.reused
    assert page.read_text(encoding="utf-8") == written
    aside = first.folder.with_suffix(".damaged-1") / "report.html"
    assert aside.read_text(encoding="utf-8") == written.replace("Blocked", "Passed")


def test_an_edited_page_of_a_registered_version_is_found(judged: Judged) -> None:
    decided, folders = judged.decide(), judged.folders
    register_candidate(
        judged.round.lineage, judged.round.run, folders.checkpoint, folders.manifest,
        evaluation=folders.evaluation, report=folders.report, verdict=decided.manifest, verdict_folder=decided.folder, drop=folders.drop,
    )  # fmt: skip
    page = decided.folder / "report.html"

    def about_the_page() -> list[str]:
        found = verify_lineage(judged.round.lineage).findings
        return [finding.problem for finding in found if "report.html" in f"{finding.where} {finding.problem}"]

    assert about_the_page() == []
    page.write_text(page.read_text(encoding="utf-8").replace("Blocked", "Passed"), encoding="utf-8")
    assert len(about_the_page()) == 1


def test_limits_of_a_skill_hold_for_the_suite_of_its_refresh_unless_that_is_named() -> None:
    policy = GatePolicy(min_scores={"tickets": 0.7}, floors={"tickets": 0.1, "other": 0.2})
    assert stage.policy_of(policy, "tickets", "tickets") is policy, "the first teaching changes nothing"
    again = stage.policy_of(policy, "tickets", "tickets.2")
    assert again.min_scores == {"tickets": 0.7, "tickets.2": 0.7}
    assert again.floors == {"tickets": 0.1, "tickets.2": 0.1, "other": 0.2}
    named = policy.model_copy(update={"min_scores": {"tickets": 0.7, "tickets.2": 0.9}})
    assert stage.policy_of(named, "tickets", "tickets.2").min_scores["tickets.2"] == 0.9
    assert stage.policy_of(policy, "poems", "poems.2") == policy
