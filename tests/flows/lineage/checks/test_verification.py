"""`verify` finds what is missing, changed or out of place, and nothing where all is well."""

from __future__ import annotations

from datetime import timedelta

import pytest

from data_contracts.manifests import Decision
from flows.lineage import current_champion, find_version, read_ledger, verify_lineage
from flows.lineage.checks import verification
from flows.lineage.registry import entries, ledger
from flows.lineage.storage.records import FIRST_PRIOR


def test_a_whole_lineage_has_no_findings_and_every_file_is_counted(grown, register):
    register(grown, "bad", 3, parent=current_champion(grown).model_sha256, decision=Decision.BLOCK)
    result = verify_lineage(grown)
    assert (result.findings, result.rounds) == ((), 4)
    weights, rows = list(grown.state_dir.rglob("model.safetensors")), list(grown.state_dir.glob("rounds/*/drop/*.jsonl"))
    items = list(grown.state_dir.glob("stages/evaluate/*-candidate/items/*.parquet"))
    assert (len(weights), len(rows), len(items)) == (4, 6, 11)
    assert (result.files, result.bytes) == (21, sum(path.stat().st_size for path in (*weights, *rows, *items)))


@pytest.mark.parametrize("role", ["checkpoint", "evaluation", "verdict"])
@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_manifest_that_changed_or_went_is_found_in_any_round(grown, role, damage):
    manifest = getattr(find_version(grown, 2), role) / "manifest.json"
    if damage == "remove":
        manifest.unlink()
    else:
        text = manifest.read_text()
        manifest.write_text(
            text.replace('"schema_version":1', '"schema_version": 1')
            if role == "checkpoint"
            else text.replace("0.5", "0.6").replace("PASS", "BLOCK")
        )
    findings = verify_lineage(grown).findings
    if role == "checkpoint" and damage == "change":
        assert findings == ()  # another spelling of the same values
    else:
        assert {(finding.version, finding.round) for finding in findings} == {(2, 1)}
        assert any(str(getattr(find_version(grown, 2), role)) in finding.where for finding in findings)


def test_every_bad_file_is_named_not_only_the_first(grown):
    for version in (1, 3):
        (find_version(grown, version).checkpoint / "model" / "model.safetensors").write_bytes(b"short")
    assert [(finding.version, finding.round) for finding in verify_lineage(grown).findings] == [(1, 0), (3, 2)]


def test_moved_alias_deleted_run_and_edited_copy_are_found(grown):
    client = grown.client
    client.set_registered_model_alias("tiny", "champion", "2")
    client.delete_run(find_version(grown, 2).run_id)
    client.log_text(ledger.ledger_run(grown), "{}\n", ledger.LEDGER_FILE)
    problems = {finding.where: finding.problem for finding in verify_lineage(grown).findings}
    assert "moved by hand" in problems["alias champion"]
    assert "mlflow runs restore" in problems[find_version(grown, 2).run_id]
    assert "differs from the ledger" in problems["ledger.jsonl"]


def test_a_broken_ledger_is_a_finding_not_a_crash(grown):
    grown.client.set_registered_model_tag("tiny", ledger.HEAD_TAG, "2:0000")
    [finding] = verify_lineage(grown).findings
    assert finding.where == "ledger"


def test_a_clock_that_went_back_is_found(grown):
    entry = read_ledger(grown)[-1]
    earlier = entry.model_copy(
        update={"sequence": 6, "action": "reject", "previous": 3, "time": entry.time - timedelta(days=1), "prior": entry.digest}
    )
    assert entry.prior != FIRST_PRIOR
    entries.carry_out(grown, earlier)
    [finding] = verification.verify_lineage(grown).findings
    assert "a clock was wrong" in finding.problem
