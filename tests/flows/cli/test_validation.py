"""`skillstack validate` reads and says: it leaves no file behind, fetches nothing, and names a drop as it was named."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import CheckpointError
from flows.cli.app import app
from flows.cli.errors import run
from flows.cli.validation import check_drop
from flows.config.model import SkillstackConfig


def rows(count: int) -> str:
    return "".join(
        json.dumps({"messages": [{"role": "user", "content": f"colour of item {n}"}, {"role": "assistant", "content": f"tone {n * 7}"}]})
        + "\n"
        for n in range(count)
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("base", ["nano", "smollm2", "nobody/has-this-model"])
def test_validate_writes_nothing_and_fetches_nothing(base: str, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    drop = tmp_path / "drop.jsonl"
    drop.write_text(rows(60), encoding="utf-8")
    config = SkillstackConfig(base_model=base, state_dir=tmp_path / ".skillstack")
    if base == "nano":
        result = check_drop(config, drop, "colours", None, None)
        assert result.accepted, result.error
    else:
        with pytest.raises(CheckpointError, match="has not been downloaded or converted yet"):
            check_drop(config, drop, "colours", None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["drop.jsonl"]


def test_a_suite_s_name_is_refused_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    suite = tmp_path / "colours.jsonl"
    suite.write_text('{"prompt": "which hue has the old sky over there", "answer": "blue"}\n', encoding="utf-8")
    drop = tmp_path / "drop.jsonl"
    drop.write_text(rows(60), encoding="utf-8")
    config = SkillstackConfig.model_validate(
        {"base_model": "nano", "state_dir": tmp_path / "s", "evaluation": {"suites": [{"name": "colours", "source": str(suite)}]}}
    )
    result = check_drop(config, drop, "Colours", None, None)
    assert not result.accepted
    assert "'Colours' is that of the suite 'colours'" in str(result.error)


def test_a_refused_drop_is_named_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("june").mkdir()
    Path("june/drop.jsonl").write_text(rows(30) + "{oops\n", encoding="utf-8")
    result = check_drop(SkillstackConfig(base_model="nano", state_dir=tmp_path / "s"), Path("june/drop.jsonl"), "colours", None, None)
    assert str(result.error).startswith("june/drop.jsonl:31: is not JSON")


def test_convert_on_the_command_line_needs_no_skill_and_no_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alpaca.json").write_text(json.dumps([{"instruction": "route it", "input": "", "output": "there"}] * 3), encoding="utf-8")
    assert run(app, ["validate", "alpaca.json", "--convert", "new.jsonl"]) == 0
    assert "new.jsonl, 3 rows" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alpaca.json", "new.jsonl"]


def test_gate_plan_with_a_drop_works_before_round_1_and_writes_nothing(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("drop.jsonl").write_text(rows(400), encoding="utf-8")
    assert run(app, ["gate", "plan", "drop.jsonl", "--skill", "colours", "--churn", "0.02", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    kept = check_drop(SkillstackConfig(base_model="nano", state_dir=tmp_path / "s"), Path("drop.jsonl"), "colours", None, None).manifest
    assert kept is not None
    assert answer["heldout"] == kept.rows_heldout > 20
    assert [(each["subject"], each["items"]) for each in answer["later"]["categories"]] == [("skill", kept.rows_heldout)]
    assert answer["later"]["churn"] == 0.02
    assert [path.name for path in tmp_path.iterdir()] == ["drop.jsonl"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--skill", "colours"], "DROP: is missing"),
        (["drop.jsonl"], "--skill: is missing"),
        (["drop.jsonl", "--skill", "colours", "--items", "50"], "--items: cannot stand beside a drop"),
        (["bad.jsonl", "--skill", "colours"], "bad.jsonl: cannot be used: bad.jsonl:31: is not JSON"),
    ],
)
def test_gate_plan_says_what_is_wrong(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("drop.jsonl").write_text(rows(60), encoding="utf-8")
    Path("bad.jsonl").write_text(rows(30) + "{oops\n", encoding="utf-8")
    assert run(app, ["gate", "plan", *words]) == 1
    assert message in capsys.readouterr().err
