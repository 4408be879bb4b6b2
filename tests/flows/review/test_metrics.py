"""The lineage as Prometheus metrics: read back by Prometheus' own parser and compared with the rounds that were written."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from data_contracts.errors import ConfigError
from data_contracts.manifests import CheckpointManifest, Decision, LayerCapacity, read_manifest, write_manifest
from flows.cli.app import app
from flows.config.model import SkillstackConfig, parse_config
from flows.lineage import Lineage, current_champion, read_ledger, roll_back
from flows.review.metrics import write_metrics


@pytest.fixture
def config(state_dir: Path) -> SkillstackConfig:
    names = {"model_name": "tiny", "experiment": "rounds"}
    return parse_config({"state_dir": str(state_dir), "tracking": names}, where="test", folder=state_dir)


def read(text: str) -> dict[tuple[str, ...], float]:
    """(name, values of the labels but `model`, by the labels' names in order) -> value."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("model") == "tiny", sample
            found[(sample.name, *(value for _, value in sorted(labels.items())))] = sample.value
    return found


def test_a_lineage_of_promoted_held_and_blocked_rounds(grown: Lineage, config: SkillstackConfig, register: Callable[..., Any]) -> None:
    began = datetime.now(UTC)
    parent = [e for e in read_ledger(grown) if e.action == "promote"][-1].model_sha256
    for name, decision in (("held", Decision.INCONCLUSIVE), ("bad", Decision.BLOCK)):
        register(grown, name, 3, parent=parent, decision=decision)
    found = read(write_metrics(config, None).text)
    counts = {verdict: found["skillstack_rounds_total", verdict] for verdict in ("PASS", "BLOCK", "INCONCLUSIVE", "ERROR")}
    assert counts == {"PASS": 2, "BLOCK": 1, "INCONCLUSIVE": 1, "ERROR": 0}
    assert found["skillstack_champion_version",] == 3
    assert found["skillstack_champion_round",] == 2
    assert found["skillstack_versions_waiting",] == 1, "the held version was trained from the champion"
    promoted = [entry.time for entry in read_ledger(grown) if entry.action == "promote"]
    assert found["skillstack_last_promotion_timestamp_seconds",] == pytest.approx(max(promoted).timestamp())
    blocked = found["skillstack_last_round_timestamp_seconds", "BLOCK"]
    assert began - timedelta(seconds=1) < datetime.fromtimestamp(blocked, UTC) < datetime.now(UTC)
    # The fixture's rounds: a training of 1 s with 100 tokens a second, 400 items of each of three suites.
    assert found["skillstack_round_info", "1", "3", "bad", "BLOCK"] == 1
    assert found["skillstack_round_stage_duration_seconds", "train"] == pytest.approx(1.0, abs=0.002)
    assert found["skillstack_round_training_tokens_per_second",] == 100
    assert found["skillstack_round_items",] == 1200


def test_a_rollback_is_no_promotion(grown: Lineage, config: SkillstackConfig) -> None:
    before = read(write_metrics(config, None).text)["skillstack_last_promotion_timestamp_seconds",]
    roll_back(grown, reason="it was bad", actor="ann")
    found = read(write_metrics(config, None).text)
    assert found["skillstack_champion_version",] == 2
    assert found["skillstack_last_promotion_timestamp_seconds",] == before


def test_the_room_that_the_champion_leaves(grown: Lineage, config: SkillstackConfig) -> None:
    champion = current_champion(grown)
    assert champion is not None
    layers = {
        "wide": LayerCapacity(shape=(8, 16), protected=12, trainable=4, free=4, leak=0.0),  # of 16 inputs
        "by weights": LayerCapacity(shape=(8, 16), protected=6, trainable=2, free=6, leak=0.0),  # of the smaller side, 8
    }
    write_manifest(champion.checkpoint, read_manifest(champion.checkpoint, CheckpointManifest).model_copy(update={"layers": layers}))
    found = read(write_metrics(config, None).text)
    assert found["skillstack_capacity_free_ratio", "least"] == 0.25
    assert found["skillstack_capacity_free_ratio", "mean"] == 0.5


def test_before_the_first_round_every_count_is_there(tmp_path: Path) -> None:
    config = parse_config({"state_dir": str(tmp_path / "none"), "tracking": {"model_name": "tiny"}}, where="test", folder=tmp_path)
    found = read(write_metrics(config, None).text)
    assert [value for (name, *_), value in found.items() if name == "skillstack_rounds_total"] == [0, 0, 0, 0]
    assert not (tmp_path / "none").exists(), "a command that only reads makes nothing"


def test_the_file_for_the_textfile_collector(grown: Lineage, config: SkillstackConfig, tmp_path: Path) -> None:
    out = tmp_path / "skillstack.prom"
    done = write_metrics(config, out)
    assert out.read_text() == done.text
    assert [path.name for path in tmp_path.glob("*.prom*")] == ["skillstack.prom"], "nothing but the whole file is left"
    with pytest.raises(ConfigError, match=r"skillstack\.prom"):
        write_metrics(config, tmp_path / "skillstack.txt")
    with pytest.raises(ConfigError, match="make the folder"):
        write_metrics(config, tmp_path / "no" / "folder.prom")


def test_the_command_prints_the_text_or_json(grown: Lineage, config: SkillstackConfig, tmp_path: Path, invoke: Callable[..., Any]) -> None:
    file = tmp_path / "skillstack.yaml"
    file.write_text(json.dumps({"state_dir": str(config.state_dir), "tracking": {"model_name": "tiny", "experiment": "rounds"}}))
    printed = invoke(app, ["metrics", "--config", str(file)])
    assert read(printed)["skillstack_champion_version",] == 3
    answer = json.loads(invoke(app, ["metrics", "--config", str(file), "--json"]))
    assert {"name": "skillstack_champion_version", "labels": {"model": "tiny"}, "value": 3.0} in answer["samples"]
    invoke(app, ["metrics", "--config", str(file), "--out", str(tmp_path / "skillstack.prom")])
    assert read((tmp_path / "skillstack.prom").read_text())["skillstack_champion_version",] == 3


@pytest.fixture
def invoke() -> Callable[..., str]:
    from typer.testing import CliRunner

    def call(command: Any, arguments: list[str]) -> str:
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    return call
