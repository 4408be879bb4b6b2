"""A round is the same row of the audit whoever asks: its own round's page, the audit of the lineage, and explore."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from data_contracts.manifests import CheckpointManifest, Decision, read_manifest
from evals.audit.forgetting import AuditRound
from evals.audit.weights import measure_round_drift
from evals.items import load_evaluation
from flows.explore.views.matrix import view_lineage
from flows.lineage import Lineage, approve_version, promote_on_approval, read_ancestry, read_history, roll_back
from flows.lineage.audit_rows import audit_row, recorded_row, round_label
from flows.review.audit import audit_rounds
from flows.round import decide


def _judged_again(lineage: Lineage) -> tuple[AuditRound, ...]:
    """What the round of version 3 audited: its ancestors, and itself as the candidate that it was."""
    records = read_history(lineage)
    chain, newest = read_ancestry(lineage, 2), records[-1]
    round: Any = SimpleNamespace(
        lineage=lineage,
        chain=chain,
        champion=chain[-1],
        skill=newest.skill,
        run=SimpleNamespace(round=newest.round, attempt=newest.attempt),
    )
    candidate: Any = SimpleNamespace(folder=newest.checkpoint, manifest=read_manifest(newest.checkpoint, CheckpointManifest))
    reports: Any = SimpleNamespace(
        new=newest.skill, candidate=SimpleNamespace(folder=newest.evaluation), base=SimpleNamespace(folder=records[0].evaluation)
    )
    return decide.audit.fn(round, candidate, reports, measure_round_drift(chain[-1].checkpoint, newest.checkpoint)).rounds


def test_the_audit_explore_and_the_round_itself_make_equal_rows(grown: Lineage) -> None:
    workspace: Any = SimpleNamespace(lineage=grown)
    audited = audit_rounds(workspace)
    shown = view_lineage(read_history(grown)).audit
    assert audited.rounds == shown.rounds
    assert audited.matrix == shown.matrix
    assert [entry.label for entry in audited.rounds] == ["round 0 base", "round 1 first (osft)", "round 2 second (osft)"]
    judged = _judged_again(grown)
    assert judged[:2] == audited.rounds[:2]
    assert judged[2].weights, "how far the weights moved is on the round's own page only"
    decided = {"decision": Decision.PASS, "approved": True, "weights": ()}
    assert judged[2].model_copy(update=decided) == audited.rounds[2], "only the verdict came later"


def test_a_round_that_is_no_ancestor_is_rolled_back_only_if_it_had_passed(grown: Lineage, register: Callable[..., Any]) -> None:
    register(grown, "third", 3, parent=read_ancestry(grown, 3)[-1].model_sha256, decision=Decision.BLOCK)
    line = {1, 2}
    rows = [recorded_row(record, line) for record in read_history(grown)]
    assert [(row.approved, row.rolled_back, row.in_lineage) for row in rows if row is not None] == [
        (True, False, True),
        (True, False, True),
        (False, True, False),
        (False, False, False),
    ]


def test_a_blocked_round_that_an_override_made_champion_was_rolled_back_not_never_promoted(
    grown: Lineage, register: Callable[..., Any]
) -> None:
    blocked = register(grown, "third", 3, parent=read_ancestry(grown, 3)[-1].model_sha256, decision=Decision.BLOCK)[1].version
    approve_version(grown, blocked, reviewer="bob", reason="needed", override=True)
    promote_on_approval(grown, blocked)
    roll_back(grown, reason="too bad after all", actor="bob")
    row = audit_rounds(SimpleNamespace(lineage=grown)).rounds[-1]
    assert (row.decision, row.approved, row.rolled_back, row.in_lineage) == (Decision.BLOCK, False, True, False)


def test_a_later_report_is_part_of_the_row(grown: Lineage, tmp_path) -> None:
    record = read_history(grown)[1]
    later = shutil.copytree(record.evaluation, tmp_path / "later")
    row = recorded_row(record.model_copy(update={"reevaluation": later}), {2})
    assert row is not None
    assert [evaluation.report for evaluation in row.also] == [load_evaluation(record.evaluation).report]
    seen: list[object] = []
    other = recorded_row(record, {2}, reports=[later], load=lambda folder: seen.append(folder) or load_evaluation(folder))
    assert other is not None
    assert (seen, other.also) == ([later], [])


def test_a_round_without_version_or_evaluation_is_no_row(grown: Lineage) -> None:
    record = read_history(grown)[1]
    assert recorded_row(record.model_copy(update={"version": None}), {2}) is None
    assert recorded_row(record.model_copy(update={"evaluation": None}), {2}) is None
    bare = recorded_row(record.model_copy(update={"checkpoint": None}), {2})
    assert bare is not None
    assert bare.layers == {}


def test_a_candidate_without_a_verdict_waits_in_the_lineage(grown: Lineage) -> None:
    evaluation = load_evaluation(read_history(grown)[1].evaluation)
    row = audit_row(number=4, skill="s", suite="s.2", method="lora", attempt=2, reports=[evaluation, evaluation], layers={})
    assert (row.label, row.skill, row.attempts, row.in_lineage, row.rolled_back) == ("round 4 s (lora)", "s.2", 2, True, False)
    assert len(row.also) == 1
    assert round_label(0, None, "base") == "round 0 base"
    assert replace(row, decision=Decision.BLOCK).in_lineage is False
