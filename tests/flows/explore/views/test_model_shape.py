"""Shapes of models are read from their config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_contracts.errors import CheckpointError
from flows.explore.views.model_shape import read_shape, shape_of_config


def test_bad_configs_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not JSON"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="causal language model"):
        read_shape(tmp_path)
    with pytest.raises(CheckpointError, match="causal language model"):
        shape_of_config({}, "nothing")
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError):
        read_shape(tmp_path)
