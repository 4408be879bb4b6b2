"""Names and reasons are people's: whatever they hold, every command and page shows it as text, and goes on working."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from data_contracts.escaping import visible
from data_contracts.manifests import Decision
from data_contracts.terminal import PlainConsole
from flows.cli.app import app
from flows.lineage import current_champion


@pytest.fixture
def command(grown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    config = tmp_path / "skillstack.yaml"
    config.write_text(f"state_dir: {grown.state_dir}\ntracking: {{model_name: tiny, experiment: rounds}}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{grown.state_dir}/mlflow.db")
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr("flows.cli.console._out.width", 1000)
    return lambda name, *arguments: CliRunner().invoke(app, [name, "--config", str(config), *arguments], catch_exceptions=False)


def test_every_command_shows_hostile_reasons_as_text(command, grown, register, hostile_texts):
    version = register(grown, "held", 3, parent=current_champion(grown).model_sha256, decision=Decision.INCONCLUSIVE)[1].version
    everything = ""
    for reason in hostile_texts:
        shown = [command("reject", str(version), "--reviewer", f"ann {reason}", "--reason", reason).stdout, command("history").stdout]
        for printed in shown:
            assert first_line(reason) in printed
        everything += "".join(shown)
    tree = command("lineage").stdout
    assert all(first_line(reason) in tree for reason in hostile_texts)
    everything += tree + command("verify").stdout
    assert "\x1b" not in everything
    assert "\u202e" not in everything


def first_line(text: str) -> str:
    """What the terminal shows of it: control characters as what they are."""
    return visible(text.split("\n")[0]).strip()


def test_the_console_takes_no_text_for_markup(hostile, capsys):
    console = PlainConsole()
    assert isinstance(console, Console)
    console.print(hostile, soft_wrap=True)
    assert capsys.readouterr().out.rstrip("\n") == visible(hostile)
