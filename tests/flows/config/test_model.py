from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from data_contracts.errors import ConfigError
from flows.config.model import RENAMED, SkillstackConfig, load_config
from flows.config.reference import settings


def write(folder: Path, text: str) -> Path:
    path = folder / "skillstack.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_has_a_default_that_validates() -> None:
    assert SkillstackConfig() == SkillstackConfig.model_validate({})


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("base_modell: nano\n", 1, ["base_modell", "base_model"]),
        ("base_model: nano\ntrain:\n  method: osft\n  learning_rat: 0.1\n", 4, ["train.learning_rat", "learning_rate"]),
        ("train:\n  unfreeze_rank_ratio: 1.5\n", 2, ["train.unfreeze_rank_ratio=1.5"]),
        ("evaluation:\n  suites:\n    - source: a.jsonl\n      metrik: acc\n", 4, ["metrik"]),
    ],
)
def test_an_error_names_line_key_and_the_nearest_valid_one(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert f"skillstack.yaml:{line}" in raised.value.where
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_a_renamed_key_is_an_error_that_names_the_new_one(tmp_path: Path, old: str) -> None:
    values: object = 1
    for name in reversed(old.split(".")):
        values = {name: values}
    path = write(tmp_path, yaml.safe_dump(values))
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert f"skillstack.yaml:{len(old.split('.'))}" in raised.value.where
    assert RENAMED[old] in raised.value.way_out
    assert RENAMED[old] in {setting.key for setting in settings()}


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_a_misspelt_old_key_names_the_new_one(tmp_path: Path, old: str) -> None:
    section, _, name = old.rpartition(".")
    values: object = {name[:-2] + name[-1]: 1}  # the last letter but one was forgotten
    for part in reversed(section.split(".")):
        values = {part: values}
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, yaml.safe_dump(values)))
    assert raised.value.way_out == f"did you mean {RENAMED[old].rpartition('.')[2]!r}?"


@pytest.mark.parametrize("text", ["- a\n- b\n", "train: [\n", "just words\n"])
def test_what_is_not_sections_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_section_that_is_written_twice_is_one_line(tmp_path: Path) -> None:
    """YAML takes the last: the learning rate of the first would be forgotten without a word."""
    path = write(tmp_path, "train:\n  learning_rate: 0.01\nevaluation: {}\ntrain:\n  max_seq_len: 256\n")
    with pytest.raises(ConfigError, match=r"skillstack.yaml:4: the key 'train' is on line 1 too \(keep one of the two"):
        load_config(path)


def test_a_named_file_that_is_missing_is_an_error_and_an_unnamed_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None) == SkillstackConfig()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.yaml")


def test_relative_paths_belong_to_the_file_not_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "a.jsonl").write_text('{"prompt": "p", "answer": "a"}\n')
    path = write(
        tmp_path, "state_dir: state\ncalibration: text.jsonl\nevaluation:\n  data_folder: data\n  suites:\n    - source: suites/a.jsonl\n"
    )
    monkeypatch.chdir("/")
    config = load_config(path)
    assert config.state_dir == tmp_path / "state"
    assert config.calibration == tmp_path / "text.jsonl"
    assert config.evaluation.data_folder == str(tmp_path / "data")
    assert SkillstackConfig().evaluation.data_folder == "", "empty stays empty"
    assert Path(config.evaluation.suites[0].source) == tmp_path / "suites" / "a.jsonl"


def test_yaml_that_is_nested_too_deep_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "skillstack.yaml"
    path.write_text("train: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match="nested too deep"):
        load_config(path)


def test_a_lineage_without_its_config_does_not_go_on_with_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None) == SkillstackConfig(), "a new folder needs no config"
    (tmp_path / ".skillstack" / "stages").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds a lineage that was made with a config \(run the command in the config"):
        load_config(None)
