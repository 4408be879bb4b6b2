"""The settings are documented from the models: for people without the checkout, and on a page that is current."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from data_contracts.errors import ConfigError
from flows.cli.app import app
from flows.cli.errors import run
from flows.config.model import SkillstackConfig
from flows.config.reference import explain, reference_page, settings

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "config.md"


def test_the_reference_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference_page(), "run: python -m flows.config.reference > docs/reference/config.md"


def test_every_setting_says_what_it_does() -> None:
    assert [setting.key for setting in settings() if not setting.about.strip()] == []


def test_the_defaults_are_those_of_an_empty_config() -> None:
    config = SkillstackConfig()
    for setting in settings():
        value: object = config
        if "[]" in setting.key or ".NAME" in setting.key:
            continue
        for name in setting.key.split("."):
            value = getattr(value, name)
        if isinstance(value, (bool, int, float)) or value is None:
            assert yaml.safe_load(setting.default) == value, setting.key


def test_a_setting_or_a_section_is_explained_and_an_unknown_one_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert [setting.key for setting in explain("contract.min_rows")] == ["contract.min_rows"]
    assert {setting.key.split(".")[0] for setting in explain("gate")} == {"gate"}
    with pytest.raises(ConfigError, match=r"the nearest is contract\.min_rows"):
        explain("contract.min_row")
    for old in ("train.ledger_rank", "train.ledgr_rank"):
        with pytest.raises(ConfigError, match=r"the nearest is train\.memory_rank;"):
            explain(old)
    assert run(app, ["config", "--explain", "train.unfreeze_rank_ratio"]) == 0
    assert "share of the directions of each weight that may change" in capsys.readouterr().out
