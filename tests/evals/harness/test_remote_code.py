"""A model folder with modeling code of its own: evaluated where the code is trusted, without a question, refused in one line where not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from data_contracts.errors import CheckpointError
from evals.config import EvaluationConfig, ModelUse, SuiteConfig
from evals.harness.run import evaluate_checkpoint

CODE = {
    "configuration_own.py": "from transformers import LlamaConfig\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own_llama'\n",
    "modeling_own.py": (
        "from transformers import LlamaForCausalLM\n\nfrom .configuration_own import OwnConfig\n\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    ),
}
AUTO_MAP = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


def test_code_of_a_models_own_runs_only_where_it_is_trusted(tiny_model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny_model, own)
    for name, text in CODE.items():
        (own / name).write_text(text)
    config = json.loads((own / "config.json").read_text())
    changed = {"model_type": "own_llama", "auto_map": AUTO_MAP, "architectures": ["OwnForCausalLM"]}
    (own / "config.json").write_text(json.dumps(config | changed))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"q{n}", "choices": ["red", "blue"], "gold": n % 2}) + "\n" for n in range(6)))
    suites = [SuiteConfig(name="colours", chat=True, source=str(rows))]

    def score(model: Path, name: str, *, trust: bool) -> float:
        use, settings = ModelUse(trust_remote_code=trust), EvaluationConfig(device="cpu", num_threads=1)
        report = evaluate_checkpoint(model, suites, tmp_path / name, config=settings, cache_dir=tmp_path / f"{name}-items", use=use)
        return report.suites[0].score

    assert score(own, "trusted", trust=True) == score(tiny_model, "plain", trust=False), "the same weights under another class"
    with pytest.raises(CheckpointError, match=r"brings its own Python code .*set trust_remote_code: true"):
        score(own, "refused", trust=False)
