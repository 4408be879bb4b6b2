"""What init writes is a project that loads, and it overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import ConfigError
from flows.cli.init import write_project
from flows.config.model import load_config


def test_what_init_writes_is_a_config_that_loads_and_names_the_contract_beside_it(tmp_path: Path) -> None:
    config_file, contract, *suites = write_project(tmp_path)
    config = load_config(config_file)
    assert {Path(suite.source) for suite in config.evaluation.suites} | {config.calibration} == set(suites)
    assert config.bootstrap is True
    assert config.contract.path == contract
    assert config.state_dir == tmp_path / ".skillstack"


@pytest.mark.parametrize("base", ["nano", "smollm2"])
def test_later_rounds_practise_the_earlier_skills_and_the_file_says_how_to_turn_it_off(tmp_path: Path, base: str) -> None:
    config_file = write_project(tmp_path, base)[0]
    train = load_config(config_file).train
    assert train.replay_share == 0.25
    assert train.buffer_size > 0
    (line,) = (line for line in config_file.read_text().splitlines() if "replay_share:" in line)
    assert "0 where those must not be used" in line


def test_general_text_counts_on_nano_and_on_no_model_on_which_it_was_not_measured(tmp_path: Path) -> None:
    nano, other = (load_config(write_project(tmp_path / base, base)[0]).train for base in ("nano", "smollm2"))
    assert (nano.keep_general, nano.unfreeze_rank_ratio) == (10.0, 0.5)
    assert (other.keep_general, other.unfreeze_rank_ratio) == (0.0, 0.25)


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "skillstack.yaml"
    mine.write_text("base_model: mine\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="already exists"):
        write_project(tmp_path)
    assert mine.read_text() == "base_model: mine\n"
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize("base", ["nano", "smollm2"])
def test_init_leaves_no_category_unmeasured_and_sizes_the_suites_for_their_margins(tmp_path: Path, base: str) -> None:
    from flows.round.planning import check_names, plan_suites, planned_suites, unmeasured_categories

    config = load_config(write_project(tmp_path, base)[0])
    assert unmeasured_categories(config, first_round=True) == []
    check_names(config, ["tickets"], {})
    plan = plan_suites(config, planned_suites(config, []), None, 0.02, "")
    shown = {each.category: each.chance_shown for each in plan.categories}
    assert shown["general"] > 0.8
    if base != "nano":
        quiet = plan_suites(config, planned_suites(config, []), None, 0.01, "")
        assert {each.category: each.chance_shown for each in quiet.categories}["safety"] > 0.7


def test_a_base_model_with_an_odd_name_is_quoted(tmp_path: Path) -> None:
    assert load_config(write_project(tmp_path, "org/model: 7b #1")[0]).base_model == "org/model: 7b #1"


def test_the_calibration_text_shares_nothing_with_the_suites(tmp_path: Path) -> None:
    import json

    config = load_config(write_project(tmp_path, "smollm2")[0])
    assert config.calibration is not None
    suites = {line for suite in config.evaluation.suites for line in Path(suite.source).read_text().splitlines()}
    texts = [json.loads(line)["text"] for line in suites if "text" in json.loads(line)]
    calibration = config.calibration.read_text()
    assert len(texts) >= 60
    assert not any(json.dumps(text, ensure_ascii=False)[1:-1] in calibration for text in texts)
