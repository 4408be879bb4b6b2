"""`osft(...)`: takes the inputs people have, and refuses what it cannot do by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_contracts.errors import ConfigError, DropError
from osft_engine import osft
from osft_engine.api import OsftArguments, parse_arguments
from osft_engine.inputs import engine_row, read_input

MESSAGES = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}] for n in range(8)]
NEEDED = {"model_path": "m", "data_path": "d.jsonl", "ckpt_output_dir": "o"}


def _write(path: Path) -> Path:
    rows = [{"messages": messages} for messages in MESSAGES]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        pd.DataFrame({"messages": [json.dumps(messages) for messages in MESSAGES]}).to_csv(path, index=False)
    else:
        pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_input_format_gives_the_same_rows(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    read = [engine_row(place, row, "messages", "text") for place, row in read_input(str(_write(tmp_path / f"data{ending}")))]
    assert read == [{"messages": messages} for messages in MESSAGES]


def test_one_call_trains_and_leaves_a_checkpoint(tmp_path: Path, base_folder: Path) -> None:
    manifest = osft(
        model_path=str(base_folder),
        data_path=str(_write(tmp_path / "data.jsonl")),
        ckpt_output_dir=str(tmp_path / "out"),
        unfreeze_rank_ratio=1.0,
        protect="weights",
        effective_batch_size=4,
        lr_scheduler="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        validation_split=0.25,
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
        block_size=10,
    )
    assert made.summary is not None
    assert made.summary.examples == 4 * 3  # 21 characters and an end token, ten to a block
    processed = tmp_path / "processed.jsonl"
    processed.write_text('{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}\n' * 3)
    made = osft(**common, data_path=str(processed), ckpt_output_dir=str(tmp_path / "p"), use_processed_dataset=True)
    assert made.summary is not None
    assert made.summary.loss_tokens == 3 * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rates": 1e-3}, r"osft\(learning_rates=...\): is not an argument \(did you mean learning_rate\?\)"),
        ({"max_tokens_per_batch": 9}, r"did you mean max_tokens_per_gpu"),
        ({"unfreeze_rank_ratio": 0.0}, r"osft\(unfreeze_rank_ratio=...\): Input should be greater than 0"),
        ({"unfreeze_rank_ratio": 1.5}, r"osft\(unfreeze_rank_ratio=...\): Input should be less than or equal to 1"),
        ({"use_liger": True}, r"osft\(use_liger=...\): does not apply here"),
        ({"save_final_checkpoint": False}, r"osft\(save_final_checkpoint=...\): does not apply here"),
        ({"block_size": 64}, r"osft\(block_size=...\): does not apply here \(use max_seq_len, or set is_pretraining\)"),
        ({"save_best_val_loss": True}, r"does not apply here \(set validation_split above 0\)"),
        ({"node_rank": 1}, r"does not apply here \(set nnodes above 1\)"),
        ({"nnodes": 2}, r"give rdzv_endpoint=host:port too"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arguments(NEEDED | arguments)


def test_missing_columns_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DropError, match=r"has no messages \(it has \['question'\]"):
        engine_row("row", {"question": "?"}, "messages", "text")
    with pytest.raises(DropError, match="input_ids and labels of equal length"):
        engine_row("row", {"input_ids": [1, 2], "labels": [1]}, "processed", "text")
    (tmp_path / "data.txt").write_text("x")
    with pytest.raises(DropError, match=r"unknown ending \.txt"):
        list(read_input(str(tmp_path / "data.txt")))


def test_every_argument_of_training_hub_is_there_and_described() -> None:
    names = """
        model_path data_path ckpt_output_dir unfreeze_rank_ratio effective_batch_size max_tokens_per_gpu max_seq_len learning_rate
        num_epochs lr_scheduler warmup_steps lr_scheduler_kwargs beta1 beta2 eps weight_decay seed use_liger target_patterns unmask_messages
        use_processed_dataset is_pretraining block_size document_column_name checkpoint_at_epoch save_final_checkpoint validation_split
        save_best_val_loss nproc_per_node nnodes node_rank rdzv_id rdzv_endpoint data_output_dir trust_remote_code
    """.split()  # noqa: SIM905 (a list of words reads better than a list of quotes)
    assert set(names) <= OsftArguments.model_fields.keys()
    assert all(field.description for field in OsftArguments.model_fields.values())


def test_importing_the_package_does_not_load_torch() -> None:
    program = "import sys, osft_engine; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
def test_two_processes_are_launched_with_torchrun(tmp_path: Path, base_folder: Path) -> None:
    common = {"model_path": str(base_folder), "data_path": str(_write(tmp_path / "data.jsonl")), "max_seq_len": 128, "seed": 1}
    together = osft(ckpt_output_dir=str(tmp_path / "together"), nproc_per_node=2, **common)
    alone = osft(ckpt_output_dir=str(tmp_path / "alone"), **common)
    assert together.summary is not None
    assert alone.summary is not None
    assert together.summary.final_loss == pytest.approx(alone.summary.final_loss, rel=1e-4)
