"""`osft(...)`: one call trains, the next one continues; what it cannot do it refuses by name, before it writes anything."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from data_contracts.errors import CheckpointError, ConfigError, RenderingError, TrainingError
from data_contracts.manifests import CheckpointManifest
from osft_engine import api, osft
from osft_engine.api import plan_run
from osft_engine.arguments import OsftArguments, describe_argument, read_arguments
from osft_engine.config import TrainConfig
from osft_engine.memory.buffer import load_buffer
from osft_engine.memory.subspace_memory import load_memory

MESSAGES = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}] for n in range(8)]
NEEDED = {"model_path": "m", "data_path": "d.jsonl", "ckpt_output_dir": "o"}
SIGNATURE = inspect.signature(osft)


def _given(**arguments: Any) -> OsftArguments:
    return read_arguments(SIGNATURE, (), NEEDED | arguments)


def _data(path: Path, answer: str = "!") -> str:
    rows = [{"messages": [turns[0], {**turns[1], "content": turns[0]["content"] + answer}]} for turns in MESSAGES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _general(path: Path) -> str:
    path.write_text("".join(json.dumps({"text": f"The {n} cats of row {n * n} sleep on {n % 3} mats."}) + "\n" for n in range(20)))
    return str(path)


# ------------------------------------------------------------------------------------------------ what it does


def test_one_call_trains_and_leaves_a_checkpoint(tmp_path: Path, base_folder: Path) -> None:
    manifest = osft(
        model_path=base_folder,
        data_path=_data(tmp_path / "data.jsonl"),
        ckpt_output_dir=tmp_path / "out",
        unfreeze_rank_ratio=1.0,
        protect="weights",
        effective_batch_size=4,
        lr_scheduler="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        validation_split=0.25,
        seed=None,
        target_patterns=None,
    )
    assert manifest.summary is not None
    assert manifest.summary.examples == 6
    assert all(layer.protected == 0 for layer in manifest.layers.values())
    assert (tmp_path / "out" / "model" / "config.json").is_file()


def test_documents_and_processed_rows_are_trained_on(tmp_path: Path, base_folder: Path) -> None:
    documents = tmp_path / "documents.jsonl"
    documents.write_text('{"body": "a text of some length"}\n' * 4)
    common = {"model_path": str(base_folder), "protect": "weights", "effective_batch_size": 8}
    made = osft(
        **common,
        data_path=str(documents),
        ckpt_output_dir=str(tmp_path / "d"),
        is_pretraining=True,
        document_column_name="body",
        max_seq_len=12,
        block_size=10,
    )
    assert made.summary is not None
    assert made.summary.examples == 4 * 3  # 21 characters and an end token, ten to a block
    processed = tmp_path / "processed.jsonl"
    processed.write_text('{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}\n' * 3)
    made = osft(**common, data_path=str(processed), ckpt_output_dir=str(tmp_path / "p"), use_processed_dataset=True)
    assert made.summary is not None
    assert made.summary.loss_tokens == 3 * 2


@pytest.fixture(scope="module")
def june(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    """A finished call; its calibration is a file, so that no test waits for the model to write."""
    folder = tmp_path_factory.mktemp("lineage")
    general = _general(folder / "general.jsonl")
    osft(
        model_path=base_folder,
        data_path=_data(folder / "june.jsonl"),
        ckpt_output_dir=folder / "june",
        calibration=general,
        cache_dir=folder / "cache",
    )
    return folder / "june"


def test_the_next_call_continues_where_the_model_lies(tmp_path: Path, june: Path) -> None:
    made = osft(model_path=june / "model", data_path=_data(tmp_path / "july.jsonl", "?"), ckpt_output_dir=tmp_path / "july", skill="echoes")
    memory = load_memory(tmp_path / "july" / "ledger.safetensors")
    assert memory.rounds == ("base", "june", "echoes")  # named by its folder, where nobody named it
    assert {row.skill for row in load_buffer(tmp_path / "july" / "buffer.jsonl")} == {"june", "echoes"}
    assert made.parent_sha256 == CheckpointManifest.model_validate_json((june / "manifest.json").read_text()).model_sha256
    assert any((june.parent / "cache").iterdir())


def _planned(folder: Path, **arguments: Any) -> Path | None:
    needed = {"data_path": _data(folder / "data.jsonl"), "ckpt_output_dir": str(folder / "out")}
    return plan_run(_given(**needed | arguments)).parent


def test_a_parent_is_found_named_or_left(tmp_path: Path, june: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved" / "model"
    shutil.copytree(june / "model", moved)
    assert _planned(tmp_path, model_path=june / "model") == june
    assert _planned(tmp_path, model_path=moved) is None
    assert _planned(tmp_path, model_path=moved, parent=june) == june
    (tmp_path / "moved" / "manifest.json").write_text('{"name": "of a web page"}')
    assert _planned(tmp_path, model_path=moved) is None
    (tmp_path / "latest").symlink_to(june / "model")
    assert _planned(tmp_path, model_path=tmp_path / "latest") == june
    monkeypatch.chdir(june / "model")
    assert _planned(tmp_path, model_path=".") == june


def test_a_parent_that_cannot_be_continued_is_refused(tmp_path: Path, june: Path) -> None:
    with pytest.raises(ConfigError, match=r"osft\(parent=...\): .*manifest.json cannot be read.*\(give the ckpt_output_dir"):
        _planned(tmp_path, model_path=june / "model", parent=tmp_path)
    with pytest.raises(ConfigError, match=r"osft\(calibration=...\): does not apply here: the subspace memory of .*june already holds"):
        _planned(tmp_path, model_path=june / "model", calibration=_general(tmp_path / "general.jsonl"))
    for needs_it in ({"target_patterns": ["q_proj"]}, {"rank_policy": "importance"}):
        assert _planned(tmp_path, model_path=june / "model", calibration=str(tmp_path / "general.jsonl"), **needs_it) == june
    shutil.copytree(june / "model", tmp_path / "broken" / "model")
    (tmp_path / "broken" / "manifest.json").write_text((june / "manifest.json").read_text()[:100])
    with pytest.raises(ConfigError, match=r"osft\(model_path=...\): .*manifest.json is not a CheckpointManifest"):
        _planned(tmp_path, model_path=tmp_path / "broken" / "model")


# ------------------------------------------------------------------------------------------------ what it refuses


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 0}, r"osft\(eps=...\)"),
        ({"lr_scheduler_kwargs": {"decay": 1}}, r"osft\(lr_scheduler_kwargs=...\): do not fit cosine: it has no setting 'decay'"),
        ({"model_path": "somebody/model"}, r"osft\(model_path=...\): somebody/model has no config.json \(give the folder of a model"),
        ({"calibration": "nowhere.jsonl"}, r"osft\(calibration=...\): nowhere.jsonl is not there"),
        ({"data_output_dir": "out"}, r"osft\(data_output_dir=...\): is ckpt_output_dir"),
        ({"data_output_dir": "own"}, r"osft\(data_output_dir=...\): own/clean.jsonl is data_path, which would be replaced"),
        ({"data_output_dir": "checkpoint"}, r"osft\(data_output_dir=...\): checkpoint holds the manifest of something else"),
        ({"ckpt_output_dir": "checkpoint"}, r"osft\(ckpt_output_dir=...\): checkpoint/model is the model that is trained"),
    ],
)
def test_nothing_is_written_before_everything_is_checked(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    shutil.copytree(base_folder, tmp_path / "checkpoint" / "model")
    (tmp_path / "checkpoint" / "manifest.json").write_text('{"kind": "another"}')
    needed = {"model_path": "checkpoint/model", "data_path": _data(tmp_path / "own" / "clean.jsonl"), "ckpt_output_dir": "out"}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=message):
        osft(**needed | arguments)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_errors_from_further_in_name_arguments_of_this_call(tmp_path: Path, base_folder: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base_folder, bare)
    (bare / "chat_template.jinja").unlink()
    call = {"model_path": bare, "data_path": _data(tmp_path / "data.jsonl"), "protect": "weights"}
    with pytest.raises(RenderingError, match=r"has no chat template \(set chat_template, or"):
        osft(**call, ckpt_output_dir=tmp_path / "first")
    template = (base_folder / "chat_template.jinja").read_text()
    with pytest.raises(ConfigError, match=r"^osft\(validation_split=...\): 0.01 of 8 rows is 0"):
        osft(**call, ckpt_output_dir=tmp_path / "second", chat_template=template, validation_split=0.01)
    with pytest.raises(TrainingError, match=r"more than the 4 .*max_tokens_per_gpu"):
        osft(**call, ckpt_output_dir=tmp_path / "third", chat_template=template, max_tokens_per_gpu=4)
    osft(**call, ckpt_output_dir=tmp_path / "third", chat_template=template)  # the memory dial may be turned on the way
    assert (tmp_path / "third" / "model" / "chat_template.jinja").read_text() == template
    with pytest.raises(CheckpointError, match=r"already holds another checkpoint \(give an? ckpt_output_dir"):
        osft(**call, ckpt_output_dir=tmp_path / "third", chat_template=template, seed=7)


# ------------------------------------------------------------------------------------------------ Training Hub's types


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
    assert len(from_settings) == 26
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


def test_several_machines_write_the_same_data_and_name_themselves(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def started(command: list[str], *, check: bool) -> subprocess.CompletedProcess[bytes]:  # there is one machine here
        commands.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(api.subprocess, "run", started)
    common = {"model_path": base_folder, "data_path": _data(tmp_path / "data.jsonl"), "ckpt_output_dir": tmp_path / "out"}
    shared = tmp_path / "out.data"
    written = []
    for rank in (1, 0):
        with pytest.raises(TrainingError, match="the processes ended with exit code 1"):
            osft(**common, nproc_per_node=2, nnodes=2, node_rank=rank, rdzv_id=123, rdzv_endpoint="host:29500")
        written.append({path.name: path.read_bytes() for path in shared.iterdir()})
        assert {f"--node_rank={rank}", "--nnodes=2", "--nproc_per_node=2", "--rdzv_id=123"} <= set(commands[-1])
    assert written[0] == written[1]
    assert written[0].keys() == {"clean.jsonl", "manifest.json", "run.json"}


def test_importing_the_package_does_not_load_torch() -> None:
    program = "import sys, osft_engine; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
def test_two_processes_are_launched_with_torchrun(tmp_path: Path, base_folder: Path) -> None:
    common = {"model_path": str(base_folder), "data_path": _data(tmp_path / "data.jsonl"), "max_seq_len": 128, "seed": 1}
    together = osft(ckpt_output_dir=str(tmp_path / "together"), nproc_per_node=2, **common)
    alone = osft(ckpt_output_dir=str(tmp_path / "alone"), **common)
    assert together.summary is not None
    assert alone.summary is not None
    assert together.summary.final_loss == pytest.approx(alone.summary.final_loss, rel=1e-4)
