"""`skillstack doctor` on the real servers: all well, and for each thing that is not, where and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.config.model import load_config
from flows.service.doctor import diagnose

pytestmark = pytest.mark.services


@pytest.fixture
def diagnoses(services: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, tuple[bool, str]]]:
    """check -> (well, detail), with the service's variables and those that the test gives instead."""

    def diagnose_with(config: Path, **variables: str) -> dict[str, tuple[bool, str]]:
        with monkeypatch.context() as patch:
            for name, value in {**services.environment, **variables}.items():
                patch.setenv(name, value)
            return {each.check: (each.ok, each.detail) for each in diagnose(load_config(config))}

    return diagnose_with


def test_everything_is_well(deployed: Any, workers: Any, diagnoses: Any) -> None:
    found = diagnoses(deployed.config)
    late = found.pop("deployments")  # the watcher runs every minute, and a busy test machine may be late for it
    assert late[0] or "late" in late[1]
    wrong = {check: detail for check, (ok, detail) in found.items() if not ok}
    assert not wrong
    assert "gpu-1" in found["work pools"][1]
    assert "cpu-1" in found["work pools"][1]
    assert "of 1 slots in use" in found["GPU slots"][1]
    assert "written, read and deleted" in found["artifact store"][1]


def test_an_artifact_store_that_is_away_is_named(deployed: Any, artifact_front: Any, diagnoses: Any) -> None:
    with artifact_front.closed():
        ok, detail = diagnoses(deployed.config, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")["artifact store"]
    assert not ok
    assert "start the S3 store" in detail


def test_a_pool_without_a_worker_and_one_that_is_not_there(deployed: Any, diagnoses: Any) -> None:
    deployed.post("/work_pools/", name="lonely", type="process")
    lonely = deployed.write_config("lonely.yaml", service={"gpu_pool": "lonely"})
    ok, detail = diagnoses(lonely)["work pools"]
    assert not ok
    assert "prefect worker start --type process --pool lonely" in detail
    absent = deployed.write_config("absent.yaml", service={"gpu_pool": "absent", "gpu_limit": "absent"})
    found = diagnoses(absent)
    assert "skillstack deploy" in found["work pools"][1]
    assert "no round would start" in found["GPU slots"][1]


@pytest.mark.parametrize(
    ("variables", "check", "words"),
    [
        ({"MLFLOW_TRACKING_PASSWORD": "guessed"}, "MLflow", "refuses these credentials"),
        ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "MLflow", "no MLflow server answers"),
        ({"PREFECT_API_AUTH_STRING": "admin:guessed"}, "Prefect", "refuses these credentials"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "Prefect", "no Prefect server answers"),
    ],
)
def test_a_wrong_address_or_password_is_one_line(deployed: Any, diagnoses: Any, variables: dict[str, str], check: str, words: str) -> None:
    ok, detail = diagnoses(deployed.config, **variables)[check]
    assert not ok
    assert words in detail
    assert "guessed" not in detail


def test_a_window_that_does_not_fit_the_heartbeat_is_named(deployed: Any, diagnoses: Any) -> None:
    slow = deployed.write_config("slow.yaml", service={"heartbeat_timeout_seconds": 600})
    ok, detail = diagnoses(slow)["crashed rounds"]
    assert not ok
    assert "waits 75 s, service.heartbeat_timeout_seconds is 600" in detail
    assert "skillstack deploy" in detail
