"""Arguments of `osft`: each is described, refused by its own name, and a default is not taken for what was given."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from data_contracts.errors import ConfigError
from osft_engine import osft
from osft_engine.arguments import OsftArguments, describe_argument, read_arguments
from osft_engine.config import TrainConfig

NEEDED = {"model_path": "m", "data_path": "d.jsonl", "ckpt_output_dir": "o"}
SIGNATURE = inspect.signature(osft)


def _given(**arguments: Any) -> OsftArguments:
    return read_arguments(SIGNATURE, (), NEEDED | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rates": 1e-3}, r"learning_rates=...\): is not an argument \(did you mean learning_rate\?\)"),
        ({"max_tokens_per_batch": 9}, r"did you mean max_tokens_per_gpu"),
        ({"model_path": None}, r"model_path=...\): is missing \(folder of the model"),
        ({"ckpt_output_dir": ""}, r"ckpt_output_dir=...\): cannot be ''"),
        ({"unfreeze_rank_ratio": 0.0}, r"unfreeze_rank_ratio=...\): cannot be 0.0: input should be greater than 0"),
        ({"unfreeze_rank_ratio": 1.5}, r"unfreeze_rank_ratio=...\): cannot be 1.5: input should be less than or equal to 1"),
        ({"learning_rate": float("inf")}, r"learning_rate=...\): cannot be inf: input should be a finite number"),
        ({"beta1": 1.5}, r"beta1=...\): cannot be 1.5: input should be less than 1 \(AdamW, decay of the first moment"),
        ({"eps": 0}, r"eps=...\): cannot be 0: input should be greater than 0"),
        ({"weight_decay": -1}, r"weight_decay=...\): cannot be -1"),
        ({"target_patterns": ["("]}, r"target_patterns=...\): cannot be \['\('\]: '\(' is not a regular expression"),
        ({"target_patterns": "q_proj"}, r"target_patterns=...\): cannot be 'q_proj'"),
        ({"lr_scheduler": "greedy"}, r"lr_scheduler=...\): cannot be 'greedy': greedy follows a metric"),
        ({"lr_scheduler": "cosin"}, r"lr_scheduler=...\): cannot be 'cosin': input should be 'linear', 'cosine'"),
        ({"nproc_per_node": "many"}, r"nproc_per_node=...\): cannot be 'many'"),
        ({"use_liger": True}, r"use_liger=...\): does not apply here \(leave it out; .*is_pretraining or unmask_messages"),
        ({"save_final_checkpoint": False}, r"save_final_checkpoint=...\): does not apply here"),
        ({"block_size": 64}, r"block_size=...\): does not apply here \(use max_seq_len, or set is_pretraining\)"),
        ({"block_size": 64, "is_pretraining": True, "max_seq_len": 32}, r"block_size=...\): does not apply here \(pieces over max_seq_len"),
        ({"chat_template": "{{ x }}", "is_pretraining": True}, r"chat_template=...\): does not apply here"),
        ({"save_best_val_loss": True}, r"save_best_val_loss=...\): does not apply here \(set validation_split above 0\)"),
        ({"warmup_steps": 3, "lr_scheduler": "constant"}, r"warmup_steps=...\): does not apply here \(use lr_scheduler='constant_with"),
        ({"compact": True}, r"compact=...\): does not apply here \(set protect to weights\)"),
        (
            {"rank_policy": "energy", "protect": "weights"},
            r"rank_policy=...\): does not apply here \(energy measures layer inputs and needs protect to be",
        ),
        ({"calibration": "g.jsonl", "protect": "weights"}, r"calibration=...\): does not apply here"),
        ({"protect": "weights_block", "nproc_per_node": 2}, r"protect=...\): does not apply here \(weights_block runs in one process"),
        ({"node_rank": 1}, r"node_rank=...\): does not apply here \(set nnodes above 1\)"),
        ({"nnodes": 2, "node_rank": 0}, r"give rdzv_endpoint=host:port too"),
        ({"nnodes": 2, "rdzv_endpoint": "h:1"}, r"nnodes=...\): does not apply here \(give node_rank too"),
        ({"nnodes": 2, "rdzv_endpoint": "h:1", "node_rank": 2}, r"node_rank=...\): does not apply here \(machines count from 0, so to 1\)"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^osft\(.*{message}"):
        _given(**arguments)


def test_every_argument_of_training_hub_is_there_described_and_may_be_none() -> None:
    names = """
        model_path data_path ckpt_output_dir unfreeze_rank_ratio effective_batch_size max_tokens_per_gpu max_seq_len learning_rate
        num_epochs lr_scheduler warmup_steps lr_scheduler_kwargs beta1 beta2 eps weight_decay seed use_liger target_patterns unmask_messages
        use_processed_dataset is_pretraining block_size document_column_name checkpoint_at_epoch save_final_checkpoint validation_split
        save_best_val_loss nproc_per_node nnodes node_rank rdzv_id rdzv_endpoint data_output_dir trust_remote_code
    """.split()  # noqa: SIM905 (a list of words reads better than a list of quotes)
    assert set(names) <= SIGNATURE.parameters.keys()
    assert all(describe_argument(name) for name in SIGNATURE.parameters)
    optional = dict.fromkeys(SIGNATURE.parameters.keys() - NEEDED.keys())
    assert _given(**optional) == _given()


def test_the_signature_shows_types_and_the_defaults_of_a_round() -> None:
    """What help() and an editor show is what runs: TrainConfig's defaults for its settings, the signature's own for the rest."""
    assert [name for name, each in SIGNATURE.parameters.items() if each.default is inspect.Parameter.empty] == list(NEEDED)
    settings, given = TrainConfig(), _given()
    same = {"max_tokens_per_gpu": "max_tokens_per_batch", "unmask_messages": "unmask", "learning_rate": "peak_learning_rate"}
    same |= {"validation_split": "validation_share", "save_best_val_loss": "keep_best"}
    from_settings = set()
    for name, each in SIGNATURE.parameters.items():
        assert each.annotation is not inspect.Parameter.empty, name
        assert f"    {name}: {describe_argument(name)}" in inspect.getdoc(osft).splitlines()  # type: ignore[union-attr]
        if hasattr(settings, same.get(name, name)):
            from_settings.add(name)
            assert each.default == getattr(settings, same.get(name, name)) == getattr(given.config, same.get(name, name)), name
        elif name not in NEEDED:
            assert each.default == getattr(given, name), name
    assert len(from_settings) == 27
    values = {name: each.default for name, each in SIGNATURE.parameters.items()}
    assert (values["unfreeze_rank_ratio"], values["learning_rate"], values["warmup_steps"], values["seed"]) == (0.25, 1e-3, 5, 0)


def test_arguments_are_the_signature_s_and_nothing_else() -> None:
    assert OsftArguments.model_fields.keys() - {"config"} <= SIGNATURE.parameters.keys()
    with pytest.raises(ConfigError, match=r"^osft\(\.\.\.\): too many positional arguments \(give every argument but the three"):
        osft("m", "d.jsonl", "o", 0.25)  # type: ignore[misc]
    with pytest.raises(ConfigError, match=r"^osft\(\.\.\.\): multiple values for argument 'model_path'"):
        osft("m", model_path="n")  # type: ignore[misc]
    with pytest.raises(ConfigError, match=r"^osft\(data_path=\.\.\.\): is missing \(\.jsonl, \.json"):
        osft("m")  # type: ignore[call-arg]


def test_a_default_is_not_taken_for_what_was_given() -> None:
    """Neither the warm-up that a constant schedule has no use for, nor the length that longer blocks replace."""
    assert _given(lr_scheduler="constant").config.warmup_steps == 5
    assert _given(is_pretraining=True, block_size=4096).config.max_seq_len == 4096
    with pytest.raises(ConfigError, match=r"block_size=...\): does not apply here \(pieces over max_seq_len"):
        _given(is_pretraining=True, block_size=4096, max_seq_len=2048)
    with pytest.raises(ConfigError, match=r"warmup_steps=...\): does not apply here"):
        _given(lr_scheduler="constant", warmup_steps=5)


def test_settings_of_the_scheduler_reach_the_config_as_they_are() -> None:
    settings = {"num_decay_steps": "4", "decay_type": "linear", "min_lr_ratio": "0.1"}
    config = _given(lr_scheduler="warmup_stable_decay", lr_scheduler_kwargs=settings).config
    assert config.lr_scheduler_kwargs == {"num_decay_steps": 4, "decay_type": "linear", "min_lr_ratio": 0.1}


@pytest.mark.parametrize("devices", [0, 3])
@pytest.mark.parametrize("asked", ["auto", "gpu"])
def test_processes_are_counted_from_the_devices(devices: int, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    assert _given(nproc_per_node=asked).processes == max(1, devices)
    assert _given(nproc_per_node=2).processes == 2
