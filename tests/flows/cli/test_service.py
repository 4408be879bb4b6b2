"""What `skillstack deploy` prints when it is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.service import deployments


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines for a config whose pools have other names, without a server."""
    config = tmp_path / "skillstack.yaml"
    config.write_text("service: {gpu_pool: cards, cpu_pool: desks}\n", encoding="utf-8")
    done = deployments.Deployed(
        server="http://x/api", pools={"cards": 1, "desks": None}, limit="", deployments=("round",), automations=("zombie",), webhook=False
    )
    monkeypatch.setattr(deployments, "deploy", lambda *_: done)
    result = CliRunner().invoke(app, ["deploy", "--config", str(config)])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_each_pool_gets_a_worker_and_only_one_needs_the_gpu(said: list[str]) -> None:
    assert said[-2:] == [
        "next, on the machine with the GPU: prefect worker start --type process --pool cards",
        "next, on any machine with the state directory: prefect worker start --type process --pool desks",
    ]


def test_what_is_not_set_is_said_with_its_name(said: list[str]) -> None:
    text = "\n".join(said)
    assert "limit none" in text
    assert "(set SKILLSTACK_WEBHOOK_URL to get messages)" in text
    assert "set inbox.deployment: continual-round/round" in text
