"""A story is a project that the flow accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import ConfigError
from flows.demo.story import write_story


@pytest.mark.parametrize("model", ["nano", "smollm2"])
def test_a_story_is_a_config_that_the_flow_accepts(tmp_path: Path, model: str) -> None:
    from flows.config.model import parse_config

    story = write_story(model, tmp_path)
    for chapter in story.chapters:
        values = {**story.config, "train": {**story.config["train"], **chapter.train}}
        config = parse_config(values, where=chapter.title, folder=tmp_path)
        assert chapter.drop.is_file()
        assert all(Path(suite.source).is_file() for suite in config.evaluation.suites)
        assert config.calibration is not None
        assert config.calibration.is_file()


def test_a_story_nobody_wrote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nano, smollm2"):
        write_story("gpt-9", tmp_path)
