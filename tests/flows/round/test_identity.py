"""Which two starts are the same round, and that only one of them runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.errors import SkillstackError
from flows.config.model import load_config
from flows.round.identity import _skill_policies, one_first_start, one_start, round_key

_ROW = '{"prompt": "q", "answer": "a"}\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that reads every kind of file a config can name."""
    folder = tmp_path / "project"
    for name in ("plain.jsonl", "shots.jsonl", "parts/one.jsonl", "parts/two.jsonl", "task/data.jsonl", "general.jsonl", "drop.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(_ROW)
    (folder / "task" / "task.yaml").write_text("task: t\ninclude: base.yaml\n")
    (folder / "task" / "base.yaml").write_text("dataset_path: json\n")
    (folder / "task" / "scoring.py").write_text("RIGHT = 1\n")
    (folder / "contract.yaml").write_text("version: 1\n")
    suites: list[dict[str, Any]] = [
        {"name": "plain", "source": "plain.jsonl", "few_shot": 1, "few_shot_source": "shots.jsonl"},
        {"name": "parts", "source": "parts/*.jsonl"},
        {"name": "task", "source": "task/task.yaml", "data": {"test": "task/data.jsonl"}},
    ]
    values = {"calibration": "general.jsonl", "contract": {"path": "contract.yaml"}, "evaluation": {"suites": suites}}
    (folder / "skillstack.yaml").write_text(yaml.safe_dump(values))
    return folder


def key_of(project: Path) -> str:
    return round_key(load_config(project / "skillstack.yaml"), project / "drop.jsonl", "sums", None)


CONTENTS = (
    "plain.jsonl", "shots.jsonl", "parts/one.jsonl", "task/data.jsonl", "task/task.yaml", "task/base.yaml", "task/scoring.py",
    "general.jsonl", "contract.yaml", "drop.jsonl",
)  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_changed_makes_another_attempt(project: Path, name: str) -> None:
    before = key_of(project)
    (project / name).write_text((project / name).read_text() + "# more\n")
    assert key_of(project) != before


def test_a_file_that_joins_a_pattern_makes_another_attempt(project: Path) -> None:
    before = key_of(project)
    (project / "parts" / "three.jsonl").write_text(_ROW)
    assert key_of(project) != before


def test_the_place_of_a_project_makes_no_difference(project: Path, tmp_path: Path) -> None:
    before = key_of(project)
    assert key_of(Path(shutil.copytree(project, tmp_path / "elsewhere"))) == before


def test_a_setting_and_a_scale_make_another_attempt(project: Path) -> None:
    config = load_config(project / "skillstack.yaml")
    slower = config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": 1e-5})})
    keys = {round_key(each, project / "drop.jsonl", "sums", None, scale) for each in (config, slower) for scale in (1.0, 0.5)}
    assert len(keys) == 4


def test_a_drop_that_cannot_be_read_still_has_a_key(project: Path) -> None:
    (project / "drop.jsonl").unlink()
    assert len(key_of(project)) == 64


def test_a_second_start_of_a_running_round_ends_in_one_line(tmp_path: Path) -> None:
    with (
        one_start(tmp_path, "a" * 64, "this round of sums"),
        pytest.raises(SkillstackError, match=rf"this round of sums: is running already \(process {os.getpid()} on .*\).*wait for it"),
        one_start(tmp_path, "a" * 64, "this round of sums"),
    ):
        pass
    with one_start(tmp_path, "a" * 64, "this round of sums"), one_start(tmp_path, "b" * 64, "another round"):
        pass


_HOLD = """
import os, sys
from pathlib import Path
from flows.round.identity import one_first_start, one_start
with one_start(Path(sys.argv[1]), "a" * 64, "round"), one_first_start(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SkillstackError, match=f"process {holder.pid}"), one_start(tmp_path, "a" * 64, "round"):
            pass
        holder.kill()
    with one_start(tmp_path, "a" * 64, "round"), one_first_start(tmp_path):
        pass


def test_further_items_are_in_the_key_by_their_content_and_a_config_without_them_has_the_key_of_before(project: Path) -> None:
    path = project / "skillstack.yaml"
    plain = key_of(project)
    values = yaml.safe_load(path.read_text())
    assert "more_items" not in str(_skill_policies(load_config(path).evaluation))
    keys = set()
    for name in ("plain.jsonl", "parts/one.jsonl"):
        path.write_text(yaml.safe_dump(values | {"evaluation": values["evaluation"] | {"skills": {"sums": {"more_items": name}}}}))
        keys.add(key_of(project))
    assert len(keys) == 1  # two files of one content
    assert plain not in keys
    (project / "parts" / "one.jsonl").write_text(_ROW + '{"prompt": "r", "answer": "a"}\n')
    assert key_of(project) not in keys


def test_a_refresh_is_another_round_than_the_first_teaching(project: Path) -> None:
    config, drop = load_config(project / "skillstack.yaml"), project / "drop.jsonl"
    assert round_key(config, drop, "sums", None, refresh=True) != round_key(config, drop, "sums", None)
