"""The tuning split is drawn by content: the same rows whatever stands beside them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_contracts.manifests import CheckpointManifest, DropManifest, file_ref, write_manifest
from flows.config.model import SkillstackConfig
from flows.sweep.tuning import Tuning, _drawn, _not_replayed, prepare_tuning
from flows.workspace.stages import Stage
from osft_engine.memory.buffer import extend_buffer, save_buffer

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


def buffered_tuning(folder: Path, size: int, **train: Any) -> tuple[Tuning, set[str], set[str]]:
    """The split of a second skill where the champion's buffer holds `size` of the first one's 200 rows; all questions, and the buffered."""
    old, new = drop_folder(folder / "old", 1, "route"), drop_folder(folder / "new", 2, "send")
    champion = folder / "champion"
    champion.mkdir()
    rows = [json.loads(line) | {"id": number} for number, line in enumerate((old.folder / "clean.jsonl").read_text().splitlines())]
    buffer = extend_buffer((), rows, skill="tickets", size=size, seed=3)
    save_buffer(buffer, champion / "buffer.jsonl")
    files = {"buffer": file_ref(champion, champion / "buffer.jsonl")}
    write_manifest(champion, CheckpointManifest(files=files, method="osft", model_sha256="one"))
    chain: Any = [
        SimpleNamespace(skill=None, drop=None, model_sha256="base", checkpoint=folder),
        SimpleNamespace(skill="tickets", drop=old.folder, model_sha256="one", checkpoint=champion),
    ]
    (folder / "calibration.jsonl").write_text('{"text": "prose"}\n')
    calibration = folder / "calibration.jsonl" if "calibration_share" in train or "keep_general" in train else None
    config = SkillstackConfig.model_validate({"state_dir": folder / "state", "calibration": calibration, "train": train})
    workspace: Any = SimpleNamespace(config=config, stages=folder / "stages")
    tuning = prepare_tuning(workspace, chain, new, "tickets", hold_out=True)
    return tuning, {f"route {n}" for n in range(200)}, {each.row["messages"][0]["content"] for each in buffer}


def questions(source: str) -> set[str]:
    return {json.loads(line)["messages"][0]["content"] for line in Path(source).read_text().splitlines()}


def test_rows_that_replay_practises_do_not_measure_forgetting(tmp_path: Path) -> None:
    tuning, every, practised = buffered_tuning(tmp_path, 120, replay_share=0.25)
    assert len(practised) == 120
    assert tuning.suites[1].name == "tickets.tuning"
    assert questions(tuning.suites[1].source) == every - practised
    assert tuning.notes == ()


def test_where_replay_practises_nearly_all_rows_all_are_kept_and_the_result_says_so(tmp_path: Path) -> None:
    tuning, every, _ = buffered_tuning(tmp_path, 171, replay_share=0.25)  # 29 are left; the gate asks for 30
    assert questions(tuning.suites[1].source) == every
    [note] = tuning.notes
    assert note == "Forgetting of tickets was measured on rows that replay trains on, so it is too low; the gate uses other rows."


def test_without_replay_every_row_measures_forgetting(tmp_path: Path) -> None:
    tuning, every, _ = buffered_tuning(tmp_path, 120)
    assert questions(tuning.suites[1].source) == every
    assert tuning.notes == ()


def test_a_small_drop_that_replay_does_not_touch_measures_forgetting(tmp_path: Path) -> None:
    old = drop_folder(tmp_path / "old", 1, "route")
    assert _not_replayed(old.folder, set(), 1000) == (old.folder / "clean.jsonl").read_text().splitlines()


@pytest.mark.parametrize(
    ("train", "which"),
    [
        ({"calibration_share": 0.1}, "calibration_share"),
        ({"keep_general": 10.0}, "keep_general"),
        ({"calibration_share": 0.1, "keep_general": 10.0}, "calibration_share and keep_general"),
        ({"keep_general": 10.0, "method": "full"}, ""),
    ],
)
def test_general_text_that_training_reads_is_named(
    train: dict[str, Any], which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.sweep.tuning._general_text", lambda *_: ['{"text": "prose"}'])
    tuning, _, _ = buffered_tuning(tmp_path, 120, **train)
    assert tuning.suites[-1].name == "general.tuning"
    wanted = f"Drift was measured on calibration text that training reads (train.{which}), so it is too low; the gate uses other text."
    assert tuning.notes == ((wanted,) if which else ())
