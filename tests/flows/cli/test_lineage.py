"""The lineage's commands, through the command line that people use."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from data_contracts.errors import SkillstackError
from data_contracts.manifests import Decision
from flows.cli.app import app
from flows.lineage import current_champion, find_version


@pytest.fixture
def command(grown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """command("verify", "--json") on the grown lineage."""
    config = tmp_path / "skillstack.yaml"
    config.write_text(f"state_dir: {grown.state_dir}\ntracking: {{model_name: tiny, experiment: rounds}}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{grown.state_dir}/mlflow.db")

    def run(name: str, *arguments: str) -> Result:
        return CliRunner().invoke(app, [name, "--config", str(config), *arguments])

    return run


def test_verify_says_what_is_wrong_and_exits_with_one(command, grown):
    whole = command("verify", "--json")
    assert (whole.exit_code, json.loads(whole.stdout)["ok"]) == (0, True)
    (find_version(grown, 2).checkpoint / "model" / "model.safetensors").unlink()
    broken = command("verify", "--json")
    assert broken.exit_code == 1
    [finding] = json.loads(broken.stdout)["findings"]
    assert (finding["version"], finding["where"].endswith("model.safetensors")) == (2, True)
    assert "is missing" in command("verify").stdout.replace("\n", " ")


def test_lineage_prints_a_tree_a_drawing_or_json(command):
    assert "version 3 · round 2 · second · PASS · CHAMPION" in command("lineage").stdout
    assert command("lineage", "--dot").stdout.startswith("digraph")
    assert [record["version"] for record in json.loads(command("lineage", "--json").stdout)["rounds"]] == [1, 2, 3]


def test_a_rollback_stands_beside_both_versions_in_the_tree(command):
    assert command("rollback", "--reason", "it forgot", "--actor", "ann").exit_code == 0
    tree = command("lineage").stdout.splitlines()
    (second,), (third,) = ([number for number, line in enumerate(tree) if f"version {version} · " in line] for version in (2, 3))
    assert any("rollback from version 3 by ann: it forgot" in line for line in tree[second:third])
    assert any("rollback to version 2 by ann: it forgot" in line for line in tree[third:])


def test_pull_and_gc_answer_in_json(command, tmp_path):
    pulled = json.loads(command("pull", str(tmp_path / "serving"), "--json").stdout)
    assert pulled["version"] == 3
    assert (Path(pulled["model"]) / "model.safetensors").is_file()
    planned = json.loads(command("gc", "--dry-run", "--json").stdout)
    assert [item["action"] for item in planned["checkpoints"]] == ["keep", "keep", "keep"]
    assert "base" in command("gc", "--dry-run").stdout


def test_gc_removes_decompositions_of_another_month_only(command, grown):
    kept = Path(grown.state_dir) / "decompositions"
    (kept / "whole-old").mkdir(parents=True)
    for path, days in ((kept / "whole-old" / "q_proj.safetensors", 40), (kept / "directions-old.safetensors", 40), (kept / "new", 1)):
        path.write_bytes(b"12345678")
        then = time.time() - days * 86400
        os.utime(path, (then, then))
    os.utime(kept / "whole-old", (then := time.time() - 40 * 86400, then))
    assert json.loads(command("gc", "--dry-run", "--json").stdout)["decompositions_bytes"] == 16
    assert len(list(kept.iterdir())) == 3, "a dry run removes nothing"
    assert json.loads(command("gc", "--json").stdout)["decompositions_bytes"] == 16
    assert [path.name for path in kept.iterdir()] == ["new"]


def test_approve_promotes_and_reject_does_not(command, grown, register):
    held = [
        register(grown, name, 3, parent=current_champion(grown).model_sha256, decision=Decision.INCONCLUSIVE)[1].version
        for name in ("one", "two")
    ]
    refused = command("reject", str(held[0]), "--reviewer", "ann", "--reason", "not yet", "--json")
    assert json.loads(refused.stdout)["champion"] == 3
    later = command("approve", str(held[1]), "--reviewer", "ann", "--reason", "wide margin", "--wait", "--days", "2", "--json")
    assert json.loads(later.stdout)["action"] == "approve"
    assert current_champion(grown).version == 3
    now = command("approve", str(held[1]), "--reviewer", "ann", "--reason", "wide margin", "--json")
    assert (json.loads(now.stdout)["action"], current_champion(grown).version) == ("promote-approved", held[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rebuild", "1", "--out", "again"), "no stored update"),
        (("approve", "9", "--reviewer", "ann", "--reason", "x"), r"version 9: is not in the registry of tiny \(versions are \[1, 2, 3\]\)"),
        (("reject", "3", "--reviewer", "ann", "--reason", "x"), "is the champion"),
        (("pull", "there", "--alias", "nobody"), "does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_plain_error(command, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = command(*arguments)
    assert isinstance(result.exception, SkillstackError)  # main() prints it and exits with 1
    assert re.search(said, str(result.exception))
    assert list(tmp_path.glob("*there*")) == list(tmp_path.glob("*again*")) == []
