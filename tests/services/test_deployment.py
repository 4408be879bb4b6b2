"""`skillstack deploy` on a real server: the deployments are there, schedules have runs, limits hold, a second time changes nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from flows.service.deployments import PREFECT_FILE

pytestmark = pytest.mark.services


def deployment(project: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = project.get(f"/deployments/name/{name}")
    return found


def test_every_deployment_of_the_file_is_on_the_server(deployed: Any) -> None:
    file = yaml.safe_load(PREFECT_FILE.read_text())
    there = {each["name"]: each for each in deployed.post("/deployments/filter")}
    assert set(there) == {each["name"] for each in file["deployments"]}
    for name, each in there.items():
        assert each["parameters"]["config"] == str(deployed.config), name
        assert each["work_pool_name"] in ("gpu", "cpu")
        assert each["pull_steps"] == []


def test_the_monthly_cron_has_scheduled_runs_on_the_first_at_six_in_its_time_zone(deployed: Any) -> None:
    monthly = deployment(deployed, "watch/monthly")

    def scheduled() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = deployed.post(
            "/flow_runs/filter",
            deployments={"id": {"any_": [monthly["id"]]}},
            flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}},
            sort="EXPECTED_START_TIME_ASC",
        )
        return found

    for run in deployed.wait_for(scheduled, "a run of watch/monthly that is Scheduled", 120):
        start = datetime.fromisoformat(run["expected_start_time"]).astimezone(ZoneInfo("Europe/Berlin"))
        assert (start.day, start.hour, start.minute) == (1, 6, 0)


def test_the_gpu_pool_and_its_limit_have_one_slot(deployed: Any) -> None:
    pool = deployed.get("/work_pools/gpu")
    limit = deployed.get("/v2/concurrency_limits/skillstack-gpu")
    assert (pool["concurrency_limit"], limit["limit"], limit["active"]) == (1, 1, True)


def test_the_webhook_is_a_secret_of_the_block_and_in_no_file(deployed: Any, messages: Any) -> None:
    block = deployed.post("/block_documents/filter", block_documents={"name": {"any_": ["skillstack-notify"]}}, include_secrets=False)[0]
    assert "secret-path" not in str(block)
    assert not [path for path in deployed.folder.rglob("*") if path.is_file() and b"secret-path" in path.read_bytes()]


def test_deploying_again_changes_nothing(deployed: Any, messages: Any) -> None:
    def everything() -> tuple[Any, ...]:
        automations = sorted(each["name"] for each in deployed.post("/automations/filter"))
        return automations, {each["name"]: each["id"] for each in deployed.post("/deployments/filter")}

    before = everything()
    deployed.answer("deploy", SKILLSTACK_WEBHOOK_URL=messages[0])
    deployed.watch(False)
    assert everything() == before
    assert before[0] == ["skillstack-failed", "skillstack-held", "skillstack-validated-drop", "skillstack-zombie"]


@pytest.mark.parametrize(
    ("changes", "variables", "words"),
    [
        ({"service": {"timezone": "Mars/Olympus"}}, {}, ["Mars/Olympus", "time zone"]),
        ({"service": {"cron": "every month"}}, {}, ["service.cron='every month'", "five fields"]),
        ({"service": {"watch_cron": "61 * * * *"}}, {}, ["service.watch_cron"]),
        ({}, {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, ["127.0.0.1:9", "no Prefect server answers"]),
        ({}, {"PREFECT_API_AUTH_STRING": "admin:guessed"}, ["refuses these credentials", "PREFECT_API_AUTH_STRING"]),
    ],
)
def test_what_cannot_be_deployed_is_one_line(deployed: Any, changes: Any, variables: dict[str, str], words: list[str]) -> None:
    config = deployed.write_config("wrong.yaml", **changes)
    done = deployed.command("deploy", "--config", str(config), "--json", **variables)
    assert done.returncode == 1, done.stdout
    for word in words:
        assert word in done.stdout, done.stdout + done.stderr
    configs = {each["parameters"]["config"] for each in deployed.post("/deployments/filter")}
    assert configs == {str(deployed.config)}, "what was refused left half of itself on the server"


def test_wrong_credentials_for_mlflow_are_one_line(deployed: Any) -> None:
    done = deployed.command("history", "--json", MLFLOW_TRACKING_PASSWORD="not the password")
    assert done.returncode == 1
    assert "refuses these credentials" in done.stdout, done.stdout


def test_a_wrong_password_for_the_database_is_one_line(deployed: Any, services: Any) -> None:
    """A lineage kept in PostgreSQL directly, without MLflow's server in front."""
    done = deployed.command("history", "--json", MLFLOW_TRACKING_URI=services.postgres.url("mlflow"), PGPASSWORD="guessed")
    assert done.returncode == 1
    assert "password authentication failed" in done.stdout, done.stdout
    assert "guessed" not in done.stdout + done.stderr


@pytest.mark.slow
def test_it_deploys_on_a_server_with_sqlite_too(deployed: Any, parts: Any, tmp_path: Path) -> None:
    server, url = parts.prefect_server(tmp_path, None, "another-password")
    try:
        done = deployed.answer("deploy", PREFECT_API_URL=url, PREFECT_API_AUTH_STRING="admin:another-password")
    finally:
        server.stop()
    assert not done["webhook"]
    assert done["automations"] == ["skillstack-zombie"]
