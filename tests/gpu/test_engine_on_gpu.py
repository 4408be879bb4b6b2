"""The engine on a CUDA device, for `pytest -m gpu`: the correctness half of engine_on_gpu.py, and whole rounds of every protection."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from data_contracts.manifests import CheckpointManifest, DropManifest, file_ref, write_manifest
from osft_engine.config import TrainConfig
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

NANO = Path(__file__).resolve().parents[2] / "flows" / "base_models" / "nano"
SETTINGS: list[dict[str, Any]] = [
    {"protect": "activations"},
    {"protect": "activations", "execution": "side"},
    {"protect": "weights", "protect_written": True},
    {"protect": "weights", "protect_written": True, "execution": "side"},
    {"protect": "weights_block"},
    {"method": "full"},
    {"method": "lora"},
]


def test_dense_and_side_agree_and_the_leak_is_rounding() -> None:
    spec = importlib.util.spec_from_file_location("engine_on_gpu", Path(__file__).with_name("engine_on_gpu.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.check_correctness(torch.device("cuda"))
    assert found["bf16_leak"] <= 1.01 * found["bf16_rounding"]


def write_drop(folder: Path, first: int) -> Path:
    folder.mkdir(parents=True)
    rows = [
        {"messages": [{"role": "user", "content": f"{first + each} plus {each}"}, {"role": "assistant", "content": str(first + 2 * each)}]}
        for each in range(32)
    ]
    clean = folder / "clean.jsonl"
    clean.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    facts = {"skill": f"plus-{first}", "source": "test", "source_sha256": "0" * 64, "contract": "chat", "contract_version": "1"}
    counts = {"rows_read": 32, "rows_clean": 32, "rows_heldout": 0, "rows_sealed": 0, "rows_quarantined": 0}
    write_manifest(folder, DropManifest(files={"clean": file_ref(folder, clean)}, **facts, **counts))
    return folder


MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {},
    "qwen3_moe": {"head_dim": 16},
    "gpt_oss": {"head_dim": 16, "sliding_window": 32},
    "granitemoe": {"tie_word_embeddings": True},
}


def mixture(kind: str, folder: Path) -> Path:
    """An untrained mixture of experts of two layers that reads nano's tokens."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "max_position_embeddings": 256, "num_local_experts": 4, "num_experts": 4}
    shape |= {"num_experts_per_tok": 2, "moe_intermediate_size": 48, "vocab_size": len(tokenizer)}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **ids, **MIXTURES[kind])).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def two_rounds(base: Path, folder: Path, config: TrainConfig) -> list[CheckpointManifest]:
    """Two rounds on the device, the second from what the first one wrote to disk: its memory lies on the CPU and the model on the GPU."""
    found, parent = [], None
    for number in (1, 2):
        run = TrainRun(
            base=base,
            parent=parent,
            drop=write_drop(folder / f"drop-{number}", 10 * number),
            skill=f"plus-{number}",
            out_dir=folder / f"round-{number}",
            config=config,
        )
        found.append(train_candidate(run))
        base, parent = run.out_dir / "model", run.out_dir
    return found


def check_learned_inside(manifests: list[CheckpointManifest]) -> None:
    for manifest in manifests:
        assert manifest.summary is not None
        assert manifest.summary.device == "cuda:0"
        assert manifest.summary.final_loss < manifest.summary.first_loss
        assert manifest.summary.max_leak is None or manifest.summary.max_leak < 1e-4


STEPS: dict[str, Any] = {"dtype": "float32", "device": "cuda", "effective_batch_size": 8, "num_epochs": 4, "moment_tokens": 256}


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: "-".join(str(value) for value in each.values()))
def test_two_rounds_on_the_device_learn_inside_their_directions(settings: dict[str, Any], tmp_path: Path) -> None:
    check_learned_inside(two_rounds(NANO, tmp_path, TrainConfig(**settings, **STEPS, learning_rate=1e-3)))


@pytest.mark.parametrize("kind", MIXTURES)
def test_two_rounds_of_experts_on_the_device_learn_inside_their_directions(kind: str, tmp_path: Path) -> None:
    manifests = two_rounds(mixture(kind, tmp_path / "base"), tmp_path, TrainConfig(**STEPS, learning_rate=3e-3))
    check_learned_inside(manifests)
    assert all(sum(".experts." in name for name in manifest.layers) == 2 * 2 * 4 for manifest in manifests)
