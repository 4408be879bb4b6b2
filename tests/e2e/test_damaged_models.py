"""A model folder that is not one whole model, given to each command that loads one: exit 1 and one line that says what and the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from flows.base_models.resolve import NANO
from flows.cli.app import app
from flows.cli.errors import run

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
NORM = "model.norm.weight"


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def rewritten(folder: Path, change: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
    """One tensor changed, or left out."""
    tensors = load_file(weights(folder))
    value = tensors.pop(NORM)
    save_file(tensors if change is None else tensors | {NORM: change(value)}, weights(folder), metadata={"format": "pt"})


def cut(folder: Path) -> None:
    weights(folder).write_bytes(weights(folder).read_bytes()[:-100])


def one_shard_less(folder: Path) -> None:
    weights(folder).unlink()
    config = AutoConfig.from_pretrained(folder)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, max_shard_size="1MB")
    max(folder.glob("model-*.safetensors")).unlink()


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a Git LFS pointer": (lambda folder: weights(folder).write_bytes(POINTER), "model.safetensors is a Git LFS pointer", "git lfs pull"),
    "a cut file": (cut, "it was cut off or written over", "download or write it again"),
    "an absent shard": (one_shard_less, ".safetensors, which is not there", "download the missing shard"),
    "no tokenizer": (no_tokenizer, "has no tokenizer files", "copy them from the model's source"),
    "a missing tensor": (lambda folder: rewritten(folder, None), f"lacks the tensor {NORM}", "give all weights of the model"),
    "not a number": (lambda folder: rewritten(folder, lambda t: t * torch.nan), f"{NORM} holds numbers that are not finite", "damaged"),
}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process, in a project whose base model is the folder `base`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/.skillstack/mlflow.db")
    rows = [json.dumps({"prompt": f"What is {number} and 2?", "answer": str(number + 2)}) + "\n" for number in range(44)]
    (tmp_path / "drop.jsonl").write_text("".join(rows[4:]))
    (tmp_path / "suite.jsonl").write_text("".join(rows[:4]))
    (tmp_path / "skillstack.yaml").write_text(
        "base_model: base\nbootstrap: true\nevaluation: {suites: [{name: sums, source: suite.jsonl}]}\n"
        "gate: {accept_unmeasured: [safety, drift]}\n"
    )

    def run_line(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(app, arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_line


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_command_refuses_a_damaged_model_in_one_line(damage: str, command: Any, tmp_path: Path) -> None:
    spoil, what, way_out = DAMAGE[damage]
    spoil(Path(shutil.copytree(NANO, tmp_path / "base")))

    code, out, _ = command("doctor")
    wrong = [line for line in out.splitlines() if line.startswith("wrong")]
    assert code == 1, out
    assert len(wrong) == 1, wrong
    for line in (
        wrong[0],
        refusal(command("round", "drop.jsonl", "--skill", "sums")),
        refusal(command("audit", "--checkpoints", "base", "--out", "audit.html")),
    ):
        assert what in line
        assert way_out in line
        assert "base" in line
    assert not list(tmp_path.glob(".skillstack/stages/*/*/manifest.json"))
    assert not (tmp_path / "audit.html").exists()


def refusal(ended: tuple[int, str, str]) -> str:
    code, out, err = ended
    lines = [line for line in err.splitlines() if line.startswith("error: ")]  # a progress bar may stand before it
    assert code == 1, out + err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]
