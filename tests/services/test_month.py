"""A month without a human hand: a drop in the inbox becomes a promoted version; one that forgets is held until a person decides."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.services


def newest(project: Any) -> Any:
    """The newest attempt that is on record, or None."""
    records = project.lineage.history()
    return max(records, key=lambda record: (record.round, record.attempt)) if records else None


@pytest.fixture(scope="module")
def promoted(deployed: Any, workers: Any) -> Any:
    """A drop was put in the inbox; the scheduled watcher, the GPU's worker and the gate did the rest."""
    deployed.drop("route", to="inbox")
    return deployed.wait_for(
        lambda: (record := newest(deployed)) and record.round == 1 and record.status in ("finished", "failed") and record, "round 1 to end"
    )


def test_a_drop_in_the_inbox_becomes_a_promoted_version(deployed: Any, promoted: Any) -> None:
    assert promoted.status == "finished", promoted.error
    assert (promoted.decision, promoted.skill, promoted.champion) == ("PASS", "route", True), promoted.reasons
    assert [entry.actor for entry in deployed.lineage.ledger()] == ["bootstrap", "gate"]
    runs = deployed.post("/flow_runs/filter", flows={"name": {"any_": ["continual-round"]}})
    assert [run["work_pool_name"] for run in runs] == ["gpu"], "it ran once, on the GPU's pool"
    assert deployed.ended(runs[0]["id"])["state_type"] == "COMPLETED"
    artifacts = {each["key"] for each in deployed.post("/artifacts/filter")}
    assert {"verdict", "gate-checks"} <= artifacts


def test_its_artifacts_lie_in_the_object_store(deployed: Any, promoted: Any, services: Any, parts: Any) -> None:
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    url = f"http://127.0.0.1:{services.store.command[-1]}"
    found = boto3.client("s3", endpoint_url=url, **keys).list_objects_v2(Bucket=parts.BUCKET)["Contents"]
    names = [each["Key"].rsplit("/", 1)[-1] for each in found]
    assert "manifest.json" in names
    assert "report.html" in names
    assert "ledger.jsonl" in names
    assert deployed.answer("verify")["ok"]


@pytest.fixture(scope="module")
def blocked(deployed: Any, workers: Any, promoted: Any) -> Any:
    """The next drop is announced, and trained so that it forgets: every weight, at a high rate."""
    forgetful = deployed.write_config(train={"method": "full", "learning_rate": 5e-3, "num_epochs": 2})
    try:
        drop = deployed.drop("shift", rows=300)
        assert deployed.answer("announce", str(drop), "--skill", "shift", "--config", str(forgetful))["announced"]
        return deployed.wait_for(
            lambda: (record := newest(deployed)) and record.round == 2 and record.status in ("finished", "failed") and record,
            "round 2, started by the event, to end",
        )
    finally:
        deployed.write_config()


def test_a_forgetting_drop_is_blocked_and_the_champion_stays(deployed: Any, blocked: Any, promoted: Any) -> None:
    assert blocked.status == "finished", blocked.error
    assert blocked.decision == "BLOCK", blocked.reasons
    assert blocked.lost
    champion = deployed.lineage.champion()
    assert champion is not None
    assert champion.version == promoted.version


def test_people_are_told_of_the_blocked_round(deployed: Any, blocked: Any, messages: Any) -> None:
    told = deployed.wait_for(
        lambda: [each for each in messages[1] if "BLOCK" in each["subject"]], "the message about the blocked round", 60
    )
    assert f"version {blocked.version}" in told[0]["body"]
    assert blocked.reasons[0] in told[0]["body"]


def test_a_person_rejects_and_another_overrides_from_processes_of_their_own(deployed: Any, blocked: Any) -> None:
    version = str(blocked.version)
    plain = deployed.command("approve", version, "--reviewer", "ana", "--reason", "needed now", "--json")
    assert plain.returncode == 1, "a blocked version needs an override"
    assert "--override" in plain.stdout
    refused = deployed.answer("reject", version, "--reviewer", "ben", "--reason", "it lost copy")
    assert refused["action"] == "reject"
    deployed.answer("approve", version, "--reviewer", "ana", "--reason", "needed now", "--override")
    actions = [(entry.action, entry.actor) for entry in deployed.lineage.ledger()][2:]
    assert actions == [("reject", "ben"), ("approve", "ana"), ("override", "ana")]
    deployed.answer("rollback", "--reason", "it is too bad after all", "--actor", "ana")
    champion = deployed.lineage.champion()
    assert champion is not None
    assert champion.version == 2


def test_rejecting_works_as_a_deployment_too(deployed: Any, blocked: Any) -> None:
    run = deployed.submit("reject/reject", version=blocked.version, reviewer="ben", reason="from the page of the deployment")
    assert deployed.ended(run)["state_type"] == "COMPLETED"
    assert deployed.lineage.ledger()[-1].reason == "from the page of the deployment"
