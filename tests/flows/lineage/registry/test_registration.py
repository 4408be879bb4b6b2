"""A round's version is registered whatever its verdict, once; a later report stands beside the first."""

from __future__ import annotations

import hashlib

import pytest

from data_contracts.digests import text_digest
from data_contracts.errors import LineageError
from data_contracts.manifests import Decision, manifest_digest, write_manifest
from flows.lineage import current_champion, find_version, read_history, read_ledger, record_reevaluation, verify_lineage
from flows.lineage.registry.registration import record_measurement, record_registration
from flows.lineage.storage.connection import PREFIX
from flows.lineage.storage.facts import describe_sources, read_sources


def test_scores_are_on_the_model_with_the_items_they_came_from(grown):
    model = grown.client.get_logged_model(find_version(grown, 2).model_id)
    scores = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    assert scores["score/old"] == (0.9, "old")
    assert read_history(grown)[1].scores == {
        "old": 0.9,
        "piqa, 0-shot": 0.5,
        "first": 1.0,
    }  # MLflow would refuse that name


def test_a_rejected_round_is_registered_and_does_not_move_the_champion(grown, register):
    champion = current_champion(grown)
    _, rejected, _ = register(grown, "bad", 3, parent=champion.model_sha256, decision=Decision.BLOCK)
    assert current_champion(grown) == champion
    record = read_history(grown)[-1]
    assert (record.version, record.decision, record.was_champion, record.lost) == (rejected.version, "BLOCK", False, ("old",))


def test_a_later_report_is_kept_beside_the_first_and_verified(grown, make_folders):
    reference = find_version(grown, 2)
    folders = make_folders("later")
    with pytest.raises(LineageError, match="about another model"):
        record_reevaluation(grown, 2, folders.report, folders.evaluation)
    added = folders.report.suites[0].model_copy(update={"name": "added", "suite_sha256": text_digest("added"), "score": 0.25})
    report = folders.report.model_copy(update={"model_sha256": reference.model_sha256, "suites": (*folders.report.suites, added)})
    write_manifest(folders.evaluation, report)
    record_reevaluation(grown, 2, report, folders.evaluation)
    record = next(record for record in read_history(grown) if record.version == 2)
    assert record.reevaluation == folders.evaluation
    assert record.scores["added"] == 0.25
    assert record.scores["old"] == 0.9, "what the verdict was decided on stays"
    assert verify_lineage(grown).ok
    better = report.model_copy(update={"suites": (*report.suites[:-1], added.model_copy(update={"score": 1.0}))})
    write_manifest(folders.evaluation, better)
    grown.client.set_model_version_tag("tiny", "2", f"{PREFIX}reevaluation_sha256", manifest_digest(better))
    [forged] = verify_lineage(grown).findings
    assert (forged.version, "none that the ledger records" in forged.problem) == (2, True)
    write_manifest(folders.evaluation, report)
    grown.client.set_model_version_tag("tiny", "2", f"{PREFIX}reevaluation_sha256", manifest_digest(report))
    (folders.evaluation / "manifest.json").write_text("{}")
    [finding] = verify_lineage(grown).findings
    assert (finding.version, finding.where) == (2, str(folders.evaluation / "manifest.json"))


def test_a_file_that_was_replaced_while_the_round_trained_is_not_the_one_that_it_was_made_from(grown, tmp_path):
    path = tmp_path / "current.jsonl"
    path.write_text("July\n")
    told = describe_sources(grown, {"drop": path})
    path.write_text("August\n")
    assert read_sources(grown, told)["drop"] == (path, hashlib.sha256(b"July\n").hexdigest())


def test_registering_or_measuring_again_adds_no_entry(grown, make_folders):
    """A killed round does both again when it continues."""
    version = find_version(grown, 3)
    before = read_ledger(grown)
    assert [entry.reason for entry in before if entry.action == "register"] == [
        "round 0: the base model",
        "round 1: verdict PASS",
        "round 2: verdict PASS",
    ]
    record_registration(grown, version)
    assert read_ledger(grown) == before
    report = make_folders("later").report.model_copy(update={"model_sha256": version.model_sha256})
    for _ in range(2):
        record_measurement(grown, 3, report)
    assert [entry.action for entry in read_ledger(grown)[len(before) :]] == ["reevaluate"]
