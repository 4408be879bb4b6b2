"""Model folders in and out: round zero, and what is carried over from the base."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_contracts.errors import ConfigError
from data_contracts.manifests import CheckpointManifest, read_manifest
from osft_engine.checkpoint.read import describe_base, load_model, model_file_refs, other_file_refs, pick_device, pick_dtype, write_model
from osft_engine.config import TrainConfig
from osft_engine.rescale import scale_candidate
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeRun = Callable[..., TrainRun]


def test_describe_base_makes_round_zero(base_folder: Path, tmp_path: Path) -> None:
    manifest = describe_base(base_folder, tmp_path / "round-0")
    assert manifest.method == "base"
    assert read_manifest(tmp_path / "round-0", CheckpointManifest).model_sha256 == manifest.model_sha256
    assert not any(path.is_symlink() for path in (tmp_path / "round-0" / "model").iterdir())


def test_every_model_that_a_run_writes_keeps_the_template_it_learned(make_run: MakeRun, tmp_path: Path) -> None:
    template = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
    run = make_run(chat_template=template, checkpoint_at_epoch=True)
    train_candidate(run)
    scale_candidate(run.out_dir, run.base, tmp_path / "half", 0.5)
    for folder in (run.out_dir / "model", run.out_dir / "epochs" / "epoch-1", tmp_path / "half" / "model"):
        assert (folder / "chat_template.jinja").read_text() == template


def test_device_and_dtype_follow_the_config_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device(TrainConfig(device="cpu")) == torch.device("cpu")
    with pytest.raises(ConfigError, match="'gpu' is no torch device"):
        pick_device(TrainConfig(device="gpu"))
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert (pick_dtype(TrainConfig(), cpu), pick_dtype(TrainConfig(), cuda)) == (torch.float32, torch.bfloat16)
    assert pick_dtype(TrainConfig(dtype="float32"), cuda) == torch.float32


def test_a_written_model_replaces_the_one_before_and_leaves_no_partial_one(base_folder: Path, tmp_path: Path) -> None:
    config = TrainConfig(device="cpu")
    model = load_model(base_folder, config)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "left_over.txt").write_text("of an earlier attempt")
    state = {name: value + 1.0 for name, value in model.state_dict().items()}
    write_model(model, base_folder, folder, config, state)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (folder / "left_over.txt").exists()
    assert (folder / "tokenizer.json").read_bytes() == (base_folder / "tokenizer.json").read_bytes()
    written = load_model(folder, config).state_dict()
    torch.testing.assert_close(written["model.norm.weight"], state["model.norm.weight"])


def test_a_checkpoint_does_not_change_with_the_folder_it_was_copied_from(base_folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    digest = describe_base(base, tmp_path / "round-0").model_sha256
    (base / "tokenizer.json").write_text("edited")
    refs, now = model_file_refs(tmp_path / "round-0")
    assert now == digest
    assert {"model/config.json", "model/model.safetensors"} <= refs.keys()
    assert other_file_refs(tmp_path / "round-0", {"update": "update.safetensors"}) == {}
