"""The tuning split is drawn by content: the same rows whatever stands beside them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_contracts.manifests import DropManifest, file_ref, write_manifest
from flows.config.model import SkillstackConfig
from flows.sweep.tuning import _drawn, prepare_tuning
from flows.workspace.stages import Stage

LINES = [f'{{"prompt": "question {number}", "answer": "{number}"}}' for number in range(4000)]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_share_is_met(share: float) -> None:
    drawn = sum(_drawn(line, share) for line in LINES) / len(LINES)
    assert drawn == pytest.approx(share, abs=4 * (share * (1 - share) / len(LINES)) ** 0.5)


def test_a_larger_share_keeps_the_rows_of_a_smaller_one() -> None:
    small, large = ({line for line in LINES if _drawn(line, share)} for share in (0.1, 0.3))
    assert small < large


def test_nothing_and_everything() -> None:
    assert not any(_drawn(line, 0.0) for line in LINES)
    assert all(_drawn(line, 1.0) for line in LINES)


def drop_folder(folder: Path, teaching: int, word: str) -> Stage[DropManifest]:
    folder.mkdir()
    rows = [{"messages": [{"role": "user", "content": f"{word} {n}"}, {"role": "assistant", "content": str(n)}]} for n in range(200)]
    for role in ("clean", "heldout"):
        (folder / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = DropManifest(
        skill="tickets", teaching=teaching, source="d.jsonl", source_sha256="0", contract="c", contract_version="1", rows_read=400,
        rows_clean=200, rows_heldout=200, rows_sealed=0, rows_quarantined=0,
        files={role: file_ref(folder, folder / f"{role}.jsonl") for role in ("clean", "heldout")},
    )  # fmt: skip
    write_manifest(folder, manifest)
    return Stage(folder=folder, manifest=manifest, reused=False)


def test_a_refreshed_skill_is_learned_under_its_new_name_and_kept_under_its_old_one(tmp_path: Path) -> None:
    old, new = drop_folder(tmp_path / "old", 1, "route"), drop_folder(tmp_path / "new", 2, "send")
    chain = [
        SimpleNamespace(skill=None, drop=None, model_sha256="base", checkpoint=tmp_path),
        SimpleNamespace(skill="tickets", drop=old.folder, model_sha256="one", checkpoint=tmp_path),
    ]
    workspace: Any = SimpleNamespace(config=SkillstackConfig(state_dir=tmp_path / "state"), stages=tmp_path / "stages")
    tuning = prepare_tuning(workspace, chain, new, "tickets", hold_out=True)  # type: ignore[arg-type]
    assert tuning.learning == "tickets.2.tuning"
    assert [suite.name for suite in tuning.suites] == ["tickets.2.tuning", "tickets.tuning"]
    assert "route" in Path(tuning.suites[1].source).read_text()
    assert "send" in Path(tuning.suites[0].source).read_text()
