"""A year's first two months over a mixture of experts, by the commands that a user types: two rounds, the second on top of the first, the
audit of both, and an export of the newest as an adapter that gives the candidate's own logits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig, MixtralForCausalLM

from data_contracts.manifests import CheckpointManifest, read_manifest
from flows.base_models.resolve import NANO
from flows.demo.materials import write_drop
from osft_engine.memory.subspace_memory import load_memory

pytestmark = pytest.mark.slow


def _mixture(folder: Path) -> Path:
    """An untrained Mixtral of two layers that reads nano's tokens."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 256}
    ids = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    MixtralForCausalLM(MixtralConfig(**shape, **ids)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _run(workspace: Any, *words: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if name not in {"MLFLOW_TRACKING_URI", "PREFECT_API_URL"}}
    command = [sys.executable, "-m", "flows.cli.app", *words]
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2, 3), done.stderr[-2000:] + done.stdout[-500:]
    return json.loads(done.stdout)


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model.eval()(torch.arange(5, 45).unsqueeze(0), use_cache=False).logits
    return logits


def test_two_rounds_the_audit_and_an_export(workspace: Any) -> None:
    """The base knows nothing and learns nothing in so few steps, so a reviewer promotes the first round."""
    base = _mixture(workspace.folder / "mixture")
    drops = [workspace.drop, write_drop("mood", workspace.folder / "mood.jsonl")]
    for drop in drops:
        drop.write_text("".join(drop.read_text().splitlines(keepends=True)[:80]))
    train = {"unfreeze_rank_ratio": 0.5, "num_epochs": 2, "learning_rate": 3e-3, "num_threads": 1}
    changes = {
        "train": train,
        "evaluation": {"suites": [], "num_threads": 1},
        "gate": {"accept_unmeasured": ["general", "safety", "drift"]},
    }
    config = ("--config", str(workspace.write_config(base_model=str(base), **changes)), "--json")
    first = _run(workspace, "round", str(drops[0]), "--skill", "route", *config)
    override = () if first["decision"] == "PASS" else ("--override",)
    if first["champion"] != first["version"]:
        _run(workspace, "approve", str(first["version"]), *override, "--reviewer", "test", "--reason", "to go on", *config)
    second = _run(workspace, "round", str(drops[1]), "--skill", "mood", *config)

    one, two = (read_manifest(Path(answer["checkpoint"]), CheckpointManifest) for answer in (first, second))
    assert two.parent_sha256 == one.model_sha256
    experts = {name for name in two.layers if ".experts." in name}
    assert len(experts) == 2 * 2 * 4
    assert all(two.layers[name].leak < 1e-5 for name in experts)
    memory = load_memory(Path(second["checkpoint"]) / "ledger.safetensors")
    assert memory.rounds == ("base", "route", "mood")
    assert not memory.lacking(two.layers)
    assert experts <= memory.reached.keys()

    audit = _run(workspace, "audit", *config)
    assert audit
    exported = workspace.folder / "adapter"
    _run(workspace, "export", str(second["version"]), str(exported), "--as", "lora", *config)
    below, above = (AutoModelForCausalLM.from_pretrained(folder) for folder in (base, Path(second["checkpoint"]) / "model"))
    moved = _logits(above)
    assert float((moved - _logits(below)).abs().max()) > 1e-3
    both = PeftModel.from_pretrained(below, exported)  # of both rounds, for the base
    torch.testing.assert_close(_logits(both), moved, rtol=1e-4, atol=1e-4)
