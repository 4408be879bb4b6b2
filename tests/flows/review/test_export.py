"""An export that was killed runs again; a folder that holds something else is never written into."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_contracts.errors import LineageError
from flows.config.model import SkillstackConfig
from flows.review import export
from osft_engine.checkpoint import adapter


class _Killed(BaseException):
    pass


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`export_version` of version 2 into a folder, whose engine is killed after so many files."""
    base, reference = (
        SimpleNamespace(
            version=version, round=version - 1, parent_version=version - 1 or None, checkpoint=tmp_path / str(version), model_sha256="0"
        )
        for version in (1, 2)
    )
    monkeypatch.setattr(export, "open_workspace", lambda _: SimpleNamespace(lineage=None))
    monkeypatch.setattr(export, "find_version", lambda *_, **__: reference)
    monkeypatch.setattr(export, "read_ancestry", lambda *_: [base, reference])
    monkeypatch.setattr(export, "original_base", lambda *_: "org/base")
    monkeypatch.setattr(export, "write_card", lambda *_: None)

    def run(files: int = 2) -> export.Export:
        def write(_: list[Path], out: Path, **__: object) -> adapter.AdapterExport:
            out.mkdir()
            for number, name in enumerate(("adapter_model.safetensors", "adapter_config.json")):
                if number == files:
                    raise _Killed
                (out / name).write_text(f"content of {name}")
            return adapter.AdapterExport({"q": 4}, 0.0)

        monkeypatch.setattr(adapter, "export_adapter", write)
        return export.export_version(SkillstackConfig(state_dir=tmp_path), 2, "lora", tmp_path / "lora")

    return run


def test_a_killed_export_leaves_nothing_and_runs_again(exported: Any, tmp_path: Path) -> None:
    for files in (0, 1):
        with pytest.raises(_Killed):
            exported(files)
        assert not (tmp_path / "lora").exists()
    result = exported()
    assert {path.name for path in result.folder.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    assert exported() == result, "the same export again is the same answer"


def test_an_export_that_an_earlier_release_left_half_done_is_completed(exported: Any, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_model.safetensors").write_text("content of adapter_model.safetensors")
    (tmp_path / "lora" / ".adapter_config.json.partial").write_text("cut")
    exported()
    assert (tmp_path / "lora" / "adapter_config.json").read_text() == "content of adapter_config.json"


def test_an_adapter_names_the_base_models_id_of_the_hub(exported: Any) -> None:
    assert exported().base == "org/base"


@pytest.mark.parametrize("name", ["notes.txt", "adapter_config.json", "README.md"])
def test_a_folder_with_something_else_is_refused(exported: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / name).write_text("mine")
    with pytest.raises(LineageError, match="is not empty"):
        exported()
    assert (tmp_path / "lora" / name).read_text() == "mine"
