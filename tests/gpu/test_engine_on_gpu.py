"""The engine on a CUDA device, for `pytest -m gpu`: the correctness half of engine_on_gpu.py, and whole rounds of every protection."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data_contracts.manifests import DropManifest, file_ref, write_manifest
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


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: "-".join(str(value) for value in each.values()))
def test_two_rounds_on_the_device_learn_inside_their_directions(settings: dict[str, Any], tmp_path: Path) -> None:
    """The second round starts from what the first one wrote to disk: its ledger lies on the CPU and the model on the GPU."""
    config = TrainConfig(
        **settings, dtype="float32", device="cuda", learning_rate=1e-3, effective_batch_size=8, num_epochs=4, moment_tokens=256
    )
    base, parent = NANO, None
    for number in (1, 2):
        run = TrainRun(
            base=base,
            parent=parent,
            drop=write_drop(tmp_path / f"drop-{number}", 10 * number),
            skill=f"plus-{number}",
            out_dir=tmp_path / f"round-{number}",
            config=config,
        )
        manifest = train_candidate(run)
        assert manifest.summary is not None
        assert manifest.summary.device == "cuda:0"
        assert manifest.summary.final_loss < manifest.summary.first_loss
        assert manifest.summary.max_leak is None or manifest.summary.max_leak < 1e-4
        base, parent = run.out_dir / "model", run.out_dir
