"""What `skillstack deploy` refuses before anything is sent. What it sends is tested on a real server: tests/services/test_deployment.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from data_contracts.errors import ConfigError, SkillstackError
from flows.config.model import SkillstackConfig
from flows.config.service import ServiceConfig
from flows.review.monthly import Month
from flows.service import deployments


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"timezone": "Mars/Olympus"}, "service.timezone='Mars/Olympus': is no time zone"),
        ({"cron": "every month"}, "service.cron='every month': is no cron expression"),
        ({"watch_cron": "61 * * * *"}, r"service.watch_cron='61 \* \* \* \*': is no cron expression"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused_before_anything_is_sent(
    wrong: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    config = SkillstackConfig(service=ServiceConfig(**wrong))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words):
        deployments.deploy(config, tmp_path / "skillstack.yaml", None)


def test_a_server_of_another_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.workspace.server.prefect_api", lambda *_: "2.20.3")
    with pytest.raises(SkillstackError, match=r"the server runs Prefect 2\.20\.3, this client is 3\.") as refused:
        deployments.check_server("http://somebody:secret@host:4200/api")
    assert "secret" not in str(refused.value)


def test_the_scheduled_audit_reports_the_month_that_has_ended() -> None:
    """At six on 1 December it is about November. Months are counted in UTC: midnight of the first in Berlin is still the month before."""
    file = yaml.safe_load(Path("flows/service/prefect.yaml").read_text())
    [audit] = [each for each in file["deployments"] if each["name"] == "audit"]
    assert TypeAdapter(Month).validate_python(audit["parameters"]["month"]) == "previous"
    assert [each["timezone"] for each in audit["schedules"]] == ["UTC"]
