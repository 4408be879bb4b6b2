"""A model folder with modeling code of its own: trained, continued and exported where the code is trusted, refused in one line where not.

Every call runs in a process of its own without a terminal: transformers asks whether to trust, and waits for the answer, unless it is told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_contracts.manifests import CheckpointManifest, read_manifest

CODE = {
    "configuration_own.py": "from transformers import LlamaConfig\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own_llama'\n",
    "modeling_own.py": (
        "from transformers import LlamaForCausalLM\n\nfrom .configuration_own import OwnConfig\n\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    ),
}
AUTO_MAP = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
CALL = "import json, sys\nfrom osft_engine import osft\nosft(**json.loads(sys.argv[1]))"
LINEAGE = """
import json, sys
from pathlib import Path
from osft_engine import osft
from osft_engine.checkpoint.adapter import export_adapter
from osft_engine.checkpoint.read import load_model
from osft_engine.config import TrainConfig
from osft_engine.rescale import scale_candidate

june, july = map(json.loads, sys.argv[1:3])
out = Path(sys.argv[3])
osft(**june)
osft(**july)
export_adapter(Path(july["ckpt_output_dir"]), out / "adapter", base=july["model_path"])
scale_candidate(Path(july["ckpt_output_dir"]), Path(july["model_path"]), out / "half", 0.5)
for folder in (june["model_path"], july["model_path"], july["ckpt_output_dir"] + "/model", out / "half" / "model"):
    model = load_model(Path(folder), TrainConfig(trust_remote_code=True, device="cpu"))
    print(type(model).__name__, sum(float(value.abs().sum()) for value in model.parameters()))
"""


@pytest.fixture(scope="module")
def own_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(7)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=257, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, text in CODE.items():
        (folder / name).write_text(text)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "own_llama", "auto_map": AUTO_MAP, "architectures": ["OwnForCausalLM"]})
    )
    return folder


def _run(tmp_path: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    cache = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        env=cache,
        check=False,
    )


def _call(tmp_path: Path, model: Path, name: str, *, trust: bool) -> str:
    rows = [{"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": name}]} for n in range(4)]
    data = tmp_path / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = {
        "model_path": str(model),
        "data_path": str(data),
        "ckpt_output_dir": str(tmp_path / name),
        "trust_remote_code": trust,
        "num_epochs": 1,
    }
    return json.dumps(call | {"protect": "weights", "max_seq_len": 64, "learning_rate": 0.01})


def test_trusted_code_is_trained_continued_and_exported_with_its_files(own_base: Path, tmp_path: Path) -> None:
    calls = [_call(tmp_path, base, name, trust=True) for base, name in ((own_base, "june"), (tmp_path / "june" / "model", "july"))]
    done = _run(tmp_path, LINEAGE, *calls, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "Do you wish to run" not in done.stdout + done.stderr
    models = [line.split() for line in done.stdout.splitlines() if line.startswith("OwnForCausalLM ")]
    assert len({size for _, size in models}) == 4, "a round changed nothing"
    assert (tmp_path / "out" / "adapter" / "adapter_config.json").is_file()
    for name in ("june", "july", "out/half"):
        assert {file: (tmp_path / name / "model" / file).read_text() for file in CODE} == CODE
        assert {f"model/{file}" for file in CODE} <= read_manifest(tmp_path / name, CheckpointManifest).files.keys()


def test_code_that_is_not_trusted_is_refused_in_one_line(own_base: Path, tmp_path: Path) -> None:
    done = _run(tmp_path, CALL, _call(tmp_path, own_base, "june", trust=False))
    assert done.returncode == 1
    assert "Do you wish to run" not in done.stdout + done.stderr
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith(f"data_contracts.errors.CheckpointError: {own_base}: brings its own Python code"), error
    assert "set trust_remote_code" in error
    assert not (tmp_path / "june" / "model").exists()
