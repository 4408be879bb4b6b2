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

from data_contracts.errors import CheckpointError, ConfigError, RenderingError, TrainingError
from data_contracts.manifests import CheckpointManifest
from osft_engine import api, osft
from osft_engine.api import plan_run
from osft_engine.arguments import OsftArguments, read_arguments
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
    common = {"model_path": str(base_folder), "data_path": _data(tmp_path / "data.jsonl"), "max_seq_len": 128, "seed": 1, "num_epochs": 2}
    together = osft(ckpt_output_dir=str(tmp_path / "together"), nproc_per_node=2, **common)
    alone = osft(ckpt_output_dir=str(tmp_path / "alone"), **common)
    assert together.summary is not None
    assert alone.summary is not None
    assert together.summary.final_loss == pytest.approx(alone.summary.final_loss, rel=1e-4)
