"""`pip install skillstack` is enough to check a drop, to import the engine and to train; the command line says what it lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

# Named by hand, so that a dependency that brings one of them is noticed.
HEAVY = [
    "mlflow",
    "prefect",
    "lm_eval",
    "scipy",
    "sklearn",
    "pandas",
    "pyarrow",
    "datasets",
    "matplotlib",
    "sqlalchemy",
    "fastapi",
    "flask",
]
HEAVY += ["cryptography", "marimo", "plotly", "gguf", "moto"]

IMPORT_ALL_AND_TRAIN = """
import importlib, json, pkgutil, sys
from pathlib import Path
import data_contracts, flows, osft_engine
for package in (data_contracts, osft_engine):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
nano = Path(flows.__file__).parent / "base_models" / "nano"
made = osft_engine.osft(model_path=str(nano), data_path="drop.jsonl", ckpt_output_dir="out", effective_batch_size=4, learning_rate=1e-3,
                        unfreeze_rank_ratio=0.25, max_seq_len=64, num_epochs=1, calibration="general.jsonl")
print(json.dumps({"examples": made.summary.examples, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def chats(count: int) -> list[dict[str, Any]]:
    asked, said = "What do {0} and {1} make?".format, "{0} and {1} make {2}".format
    pairs = [(asked(n, n + 3), said(n, n + 3, 2 * n + 3)) for n in range(count)]
    return [{"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]} for question, answer in pairs]


def test_the_environment_of_these_tests_lacks_the_extras(engine_alone: Callable[..., Any], tmp_path: Path) -> None:
    line = f"import importlib.util; print([name for name in {HEAVY} if importlib.util.find_spec(name)])"
    found = engine_alone("-c", line, cwd=tmp_path)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr


def test_importing_the_packages_loads_nothing_heavy(engine_alone: Callable[..., Any], tmp_path: Path) -> None:
    line = "import sys, osft_engine, data_contracts; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(engine_alone("-c", line, cwd=tmp_path).stdout.split())
    assert "osft_engine" in loaded
    assert not loaded & {"torch", "transformers", "peft", "numpy", "rich", "jinja2", "typer"}


def test_every_module_can_be_imported_and_it_trains(engine_alone: Callable[..., Any], tmp_path: Path) -> None:
    write_rows(tmp_path / "drop.jsonl", chats(8))
    write_rows(tmp_path / "general.jsonl", [{"text": f"The {n} cats of row {n * n} sleep on {n % 3} mats."} for n in range(20)])
    done = engine_alone("-c", IMPORT_ALL_AND_TRAIN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["examples"] == 8
    assert "peft" in answer["modules"]
    assert "typer" not in answer["modules"]  # it is there, transformers' own command needs it
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["kind"] == "checkpoint"
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_calls_of_the_guide_train_june_and_then_july(engine_alone: Callable[..., Any], tmp_path: Path) -> None:
    """Word for word, in a folder with what they name: a base model and the drops of two months."""
    guide = (REPOSITORY / "docs/guides/training.md").read_text(encoding="utf-8")
    calls = "\n".join(re.findall(r"```python\n(.*?)```", guide, re.DOTALL))
    assert calls.count("osft(") == 2
    (tmp_path / "base").symlink_to(REPOSITORY / "flows/base_models/nano")
    write_rows(tmp_path / "june.jsonl", chats(8))
    write_rows(tmp_path / "july.jsonl", chats(12)[8:])
    done = engine_alone("-c", calls, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for month in ("june", "july"):
        for name in ("model/config.json", "update.safetensors", "ledger.safetensors"):
            assert (tmp_path / month / name).is_file()
    june, july = (json.loads((tmp_path / month / "manifest.json").read_text(encoding="utf-8")) for month in ("june", "july"))
    assert july["parent_sha256"] == june["model_sha256"], "the call that starts from June's model is the next round"


def test_it_validates_a_drop(engine_alone: Callable[..., Any], tmp_path: Path) -> None:
    """The checks that load packages are among those that run: the contract's YAML, near-duplicates, personal data, the report's page."""
    write_rows(tmp_path / "drop.jsonl", [*chats(60), *chats(1)])
    line = ("-m", "data_contracts", "drop.jsonl", "--skill", "sums", "--out", "checked", "--max-bad-fraction", "1")
    done = engine_alone(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / "checked" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["rows_read"] == 61
    assert "<html" in (tmp_path / "checked" / "report.html").read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("arguments", [("--help",), ("round", "drop.jsonl", "--skill", "sums"), ("demo",)], ids=" ".join)
def test_the_command_line_says_which_extra_it_needs(arguments: tuple[str, ...], engine_alone: Callable[..., Any], tmp_path: Path) -> None:
    done = engine_alone("-m", "flows.cli", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "pip install 'skillstack[all]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_with_json_the_refusal_is_one_object(engine_alone: Callable[..., Any], tmp_path: Path) -> None:
    done = engine_alone("-m", "flows.cli", "history", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    error = json.loads(done.stdout)["error"]
    assert error["way_out"] == "pip install 'skillstack[all]'"
    assert "is not installed" in error["what"]


def test_the_version_is_printed_without_extras(engine_alone: Callable[..., Any], tmp_path: Path) -> None:
    done = engine_alone("-m", "flows.cli", "--version", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["skillstack", version("skillstack")]
