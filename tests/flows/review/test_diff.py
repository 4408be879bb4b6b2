"""`skillstack diff` on a lineage in MLflow: every number is that of the files, and a round is named by its number and attempt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import load_file
from typer.testing import CliRunner

from data_contracts.digests import text_digest
from data_contracts.errors import LineageError, SkillstackError
from data_contracts.manifests import Decision
from flows.cli.app import app
from flows.lineage import RoundRecord, current_champion, find_version
from flows.lineage.storage.connection import PREFIX
from flows.review.diff import find_round


@pytest.fixture
def diff(grown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    config = tmp_path / "skillstack.yaml"
    config.write_text(f"state_dir: {grown.state_dir}\ntracking: {{model_name: tiny, experiment: rounds}}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{grown.state_dir}/mlflow.db")
    return lambda *arguments: CliRunner().invoke(app, ["diff", *arguments, "--config", str(config)])


def weights(lineage: Any, version: int) -> dict[str, np.ndarray]:
    return load_file(find_version(lineage, version).checkpoint / "model" / "model.safetensors")


def test_data_settings_scores_and_weights_are_those_of_the_files(diff, grown) -> None:
    found = json.loads(diff("1", "2", "--json").stdout)
    assert (found["one"]["version"], found["other"]["version"]) == (2, 3)
    data = {each["name"]: (each["one"], each["other"]) for each in found["data"]}
    assert data["drop"] == ("first.jsonl", "second.jsonl")
    assert data["drop sha256"] == (text_digest("first"), text_digest("second"))
    assert not [name for name in data if name.startswith("suite")], "both rounds read the same suite"
    assert [(each["name"], each["one"], each["other"]) for each in found["config"]] == [("train.learning_rate", "0.005", "0.006")]
    suites = {each["suite"]: each for each in found["scores"]}
    assert (suites["old"]["change"]["value"], suites["old"]["worse"], suites["old"]["better"]) == (0.0, 0, 0)
    assert (suites["second"]["one"], suites["second"]["other"], suites["second"]["change"]) == (None, 1.0, None)
    one, other = weights(grown, 2), weights(grown, 3)
    expected = np.linalg.norm(other["model.q_proj.weight"] - one["model.q_proj.weight"]) / np.linalg.norm(one["model.q_proj.weight"])
    assert [each["layer"] for each in found["weights"]] == ["model.q_proj", "model.norm"]
    assert found["weights"][0]["relative_change"] == pytest.approx(expected, rel=1e-6)
    assert found["weights"][1]["relative_change"] == 0.0


def test_a_terminal_of_80_columns_shows_what_differs(diff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.cli.console._out.width", 80)
    printed = diff("1", "2").stdout
    assert max(map(len, printed.splitlines())) <= 80
    assert re.search(r"train\.learning_rate +│ 0\.005 +│ 0\.006", printed)
    assert "1 of 2 tensors are the same in both" in printed


def test_the_base_has_no_settings_of_a_training_to_differ(diff) -> None:
    found = json.loads(diff("0", "1", "--json").stdout)
    assert not [each for each in found["config"] if each["name"].startswith(("train.", "gate."))]
    assert found["weights"], "weights are compared all the same"


def test_a_blocked_round_is_compared_too(diff, grown, register) -> None:
    parent = current_champion(grown).model_sha256
    blocked = register(grown, "third", 3, parent=parent, decision=Decision.BLOCK)[1].version
    found = json.loads(diff("2", "3", "--json").stdout)
    assert found["other"]["version"] == blocked
    assert {each["suite"]: each["worse"] for each in found["scores"]}["old"] == 360, "the share of 400 that was right"


def test_of_several_attempts_the_promoted_one_is_meant_and_each_has_a_name(tmp_path: Path) -> None:
    def attempt(number: int, version: int | None, **more: Any) -> RoundRecord:
        about = {"round": 2, "skill": "x", "status": "finished", "run_id": str(number), "checkpoint": tmp_path}
        return RoundRecord.model_validate({**about, "attempt": number, "version": version, **more})

    tries = [attempt(1, 4), attempt(2, 5, was_champion=True), attempt(3, 6), attempt(4, None)]
    assert [find_round(tries, name).version for name in ("2", "2.1", "2.2", "2.3")] == [5, 4, 5, 6]
    assert find_round([tries[0], tries[2]], "2").version == 6, "without a promoted one the newest"
    with pytest.raises(LineageError, match=r"rounds with a version: 2, 2\.2, 2\.3"):
        find_round(tries, "2.4")


def test_the_source_of_a_stage_is_compared(diff, grown) -> None:
    runs = grown.client.search_runs([grown.experiment_id], f"tags.`{PREFIX}stage` = 'train'")
    for number, run in enumerate(sorted(runs, key=lambda run: run.info.start_time)):
        grown.client.set_tag(run.info.run_id, PREFIX + "code_sha256", text_digest(str(number // 2)))
    code = json.loads(diff("0", "1", "--json").stdout)
    later = json.loads(diff("1", "2", "--json").stdout)
    assert [each["name"] for each in code["code"]] == []
    assert [(each["name"], each["one"]) for each in later["code"]] == [("source of train", text_digest("0"))]


def test_weights_that_gc_deleted_are_a_note(diff, grown) -> None:
    grown.client.set_model_version_tag("tiny", "2", PREFIX + "collected", "2026-11-26T07:00:00+00:00")
    found = json.loads(diff("1", "2", "--json").stdout)
    assert found["weights"] == []
    assert "skillstack rebuild 2" in found["notes"][0]


@pytest.mark.parametrize(
    ("name", "said"), [("9", r"rounds with a version: 0, 1, 2"), ("two", "is not the number of a round"), ("2.7", "has no version")]
)
def test_a_round_that_is_not_there_is_one_plain_error(diff, name: str, said: str) -> None:
    result = diff("1", name)
    assert isinstance(result.exception, SkillstackError)
    assert re.search(said, str(result.exception))
