"""Killed after any write to MLflow and run again, each command ends as if nothing had happened: one version, the right champion, nothing
for `verify` to find, and the same answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from data_contracts.manifests import Decision, DropManifest, EvalReport, read_manifest
from evals.audit.forgetting import RoundEvaluation, audit_forgetting
from evals.items import load_evaluation
from flows.config.model import SkillstackConfig
from flows.lineage import (
    Lineage,
    approve_version,
    current_champion,
    find_version,
    log_stage,
    open_round,
    promote_on_approval,
    promote_version,
    read_ancestry,
    read_history,
    read_ledger,
    register_candidate,
    reject_version,
    roll_back,
    verify_lineage,
)
from flows.lineage.registry.versions import raw_versions
from flows.round import register as register_stage
from flows.round.context import Round
from flows.round.flow import begin_round
from flows.round.reports import Evaluated
from flows.workspace.outcome import RoundOutcome, past_outcome
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace

from ..made_rounds import read_by


@pytest.fixture
def play(grown: Lineage, make_folders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., RoundOutcome]:
    """One start of a round, from finding the champion to its answer, with stages that are finished."""
    monkeypatch.setattr(register_stage, "publish_verdict", lambda *_: None)
    made: dict[str, Any] = {}

    def start(lineage: Lineage, name: str, decision: Decision) -> RoundOutcome:
        project = lineage.state_dir.parent
        workspace = Workspace(SkillstackConfig(state_dir=lineage.state_dir, calibration=project / "calibration.jsonl"), lineage)
        champion = current_champion(lineage)
        assert champion is not None
        round = begin_round(workspace, champion, f"contents of {name}", project / f"{name}.jsonl", name)
        if round.run.finished:
            return past_outcome(workspace, round.run)
        if name not in made:
            made[name] = make_folders(name, skill=name, parent=round.champion.model_sha256, decision=decision)
        folders = made[name]
        for stage, manifest, folder in (
            ("train", folders.manifest, folders.checkpoint),
            ("evaluate", folders.report, folders.evaluation),
            ("decide", folders.verdict, folders.verdict_folder),
        ):
            log_stage(lineage, round.run, stage, manifest, folder)
        return register_stage.register.fn(round, *_arguments(round, folders))

    return start


def _arguments(round: Round, folders: Any) -> tuple[Any, ...]:
    """What the task `register` is handed, read from a round's folders."""
    before = round.workspace.stages / "evaluate" / f"{round.skill}-champion"
    judged = Stage(before, read_manifest(before, EvalReport), reused=True)
    reports = Evaluated(Stage(folders.evaluation, folders.report, reused=True), judged, judged, {}, {}, first_skill=False, new="third")
    drop = Stage(folders.drop, read_manifest(folders.drop, DropManifest), reused=True)
    candidate = Stage(folders.checkpoint, folders.manifest, reused=True)
    return (
        drop,
        candidate,
        reports,
        audit_forgetting(
            [
                RoundEvaluation(number=0, skill=None, evaluation=load_evaluation(before)),
                RoundEvaluation(number=round.run.round, skill=round.skill, evaluation=load_evaluation(folders.evaluation)),
            ]
        ),
        Stage(folders.verdict_folder, folders.verdict, reused=True),
        read_by(round),
    )


def _check_lineage(lineage: Lineage) -> None:
    """Nothing heals by itself, so that one look at the end sees what any of the kills left."""
    assert verify_lineage(lineage).findings == ()
    records = read_history(lineage)
    assert [record.status for record in records] == ["finished"] * len(records)
    versions = raw_versions(lineage)
    assert [record.version for record in records] == [int(raw.version) for raw in versions], "one version a round"
    models = lineage.client.search_logged_models([lineage.experiment_id])
    assert sorted(model.model_id for model in models) == sorted(raw.tags["skillstack.model_id"] for raw in versions)


def test_a_round_that_passes(grown: Lineage, play: Callable[..., RoundOutcome], kill_everywhere: Callable[..., None]) -> None:
    champion = 3

    def check(after: int, outcome: RoundOutcome) -> None:
        nonlocal champion
        assert (outcome.version, outcome.champion) == (champion + 1, champion + 1)
        assert find_version(grown, outcome.version).parent_version == champion
        assert f"version {outcome.version}" in (outcome.checkpoint / "model" / "README.md").read_text(), "its model card"
        own = [(entry.action, entry.previous) for entry in read_ledger(grown) if entry.version == outcome.version]
        assert own == [("register", champion), ("promote", champion)]
        champion = outcome.version
        if after % 5 == 0:
            assert play(grown, f"skill-{after}", Decision.PASS) == outcome, "a round that has ended answers what it answered"

    kill_everywhere(grown, lambda lineage, after: play(lineage, f"skill-{after}", Decision.PASS), check, least=25)
    _check_lineage(grown)


def test_approval_of_a_held_round(grown: Lineage, play: Callable[..., RoundOutcome], kill_everywhere: Callable[..., None]) -> None:
    held: dict[int, int] = {}

    def approve(lineage: Lineage, after: int) -> Any:
        if after not in held:
            held[after] = play(grown, f"held-{after}", Decision.INCONCLUSIVE).version
        approve_version(lineage, held[after], reviewer="ann", reason="measured by hand")
        return promote_on_approval(lineage, held[after])

    def check(after: int, entry: Any) -> None:
        own = [each for each in read_ledger(grown) if each.version == held[after]]
        assert [each.action for each in own] == ["register", "approve", "promote-approved"]
        assert own[-1] == entry
        assert current_champion(grown).version == held[after]  # type: ignore[union-attr]
        if after == 1:
            again = play(grown, "held-1", Decision.INCONCLUSIVE)
            assert (again.decision, again.champion, again.next) == (Decision.INCONCLUSIVE, held[1], ()), "nothing is left to approve"
            assert again.since == f"promoted on approval on {own[-1].time:%Y-%m-%d} by ann: measured by hand"

    kill_everywhere(grown, approve, check, least=8)
    _check_lineage(grown)


def test_rejection_of_a_held_round(grown: Lineage, play: Callable[..., RoundOutcome], kill_everywhere: Callable[..., None]) -> None:
    version = play(grown, "held", Decision.INCONCLUSIVE).version

    def check(after: int, entry: Any) -> None:
        own = [each for each in read_ledger(grown) if each.version == version and each.action == "reject"]
        assert [each.reason for each in own] == [f"reason {number}" for number in range(1, after + 1)]
        assert own[-1] == entry
        since = play(grown, "held", Decision.INCONCLUSIVE).since
        assert since == f"rejected on {entry.time:%Y-%m-%d} by ann: reason {after}"

    assert play(grown, "held", Decision.INCONCLUSIVE).since == "", "it still waits"
    kill_everywhere(
        grown, lambda lineage, after: reject_version(lineage, version, reviewer="ann", reason=f"reason {after}"), check, least=4
    )
    _check_lineage(grown)


def test_a_rollback_goes_back_one_champion_and_not_two(
    grown: Lineage, play: Callable[..., RoundOutcome], kill_everywhere: Callable[..., None], stride: int
) -> None:
    # A champion to go back from for every kill, and one to end at: each costs a round.
    versions = [1, 2, 3, *(play(grown, f"more-{number}", Decision.PASS).version for number in range(8 if stride == 1 else 1))]

    def check(after: int, entry: Any) -> None:
        assert (entry.action, entry.previous, entry.champion) == ("rollback", versions[-after], versions[-after - 1])
        assert [each.action for each in read_ledger(grown)].count("rollback") == after
        assert current_champion(grown).version == versions[-after - 1]  # type: ignore[union-attr]

    kill_everywhere(grown, lambda lineage, after: roll_back(lineage, reason=f"bad answers {after}", actor="ann"), check, least=5)
    _check_lineage(grown)


def test_what_was_rolled_back_is_not_promoted_by_its_round_that_comes_back(grown: Lineage, play: Callable[..., RoundOutcome]) -> None:
    outcome = play(grown, "late", Decision.PASS)
    run = find_version(grown, outcome.version).run_id
    grown.client.update_run(run, status="RUNNING")  # killed before its end was written
    roll_back(grown, reason="bad answers", actor="ann")
    again = play(grown, "late", Decision.PASS)
    assert (again.version, again.champion) == (outcome.version, 3)
    assert [entry.action for entry in read_ledger(grown)][-1] == "rollback"


def test_a_used_approval_does_not_promote_again_after_a_rollback(grown: Lineage, play: Callable[..., RoundOutcome]) -> None:
    version = play(grown, "held", Decision.INCONCLUSIVE).version
    approve_version(grown, version, reviewer="ann", reason="measured by hand")
    promote_on_approval(grown, version)
    roll_back(grown, reason="bad answers", actor="ann")
    with pytest.raises(Exception, match="was used, and version 3 became champion since"):
        promote_on_approval(grown, version)
    approve_version(grown, version, reviewer="ann", reason="measured by hand")
    assert promote_on_approval(grown, version).champion == version


def test_the_parent_is_the_recorded_champion_where_two_versions_hold_the_same_weights(
    grown: Lineage, play: Callable[..., RoundOutcome], register: Callable[..., Any], judge: Callable[..., Any]
) -> None:
    """A held round judged again with more items is a second version of the same weights; the next round builds on the promoted one."""
    _, held, folders = register(grown, "double", 3, parent=current_champion(grown).model_sha256, decision=Decision.INCONCLUSIVE)  # type: ignore[union-attr]
    chain = read_ancestry(grown, 3)
    second = open_round(grown, 3, "double", key="more items", chain=chain)
    names = {"skill": "double", "decision": Decision.PASS}
    evaluation, passed = judge(grown.state_dir, "double again", held.model_sha256, chain[-1].model_sha256, **names)
    report, verdict_folder = read_manifest(evaluation, EvalReport), grown.state_dir / "rounds" / "double again" / "verdict"
    arguments = {"evaluation": evaluation, "report": report, "verdict_folder": verdict_folder, "drop": folders.drop}
    version = register_candidate(grown, second, folders.checkpoint, folders.manifest, verdict=passed, **arguments)
    assert version.model_sha256 == held.model_sha256
    promote_version(grown, version.version, expected_champion=3, reason="gate", actor="gate", verdict=passed)
    outcome = play(grown, "next", Decision.PASS)
    assert [each.version for each in read_ancestry(grown, outcome.version)] == [1, 2, 3, version.version, outcome.version]
