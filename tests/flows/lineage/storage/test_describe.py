"""The note of a version in MLflow, and the curve of its training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.lineage import current_champion
from flows.lineage.storage.describe import training_curve, verdict_note


def test_the_note_of_a_verdict_holds_no_raw_html(grown, register, hostile_texts):
    _, _, folders = register(grown, "odd", 3, parent=current_champion(grown).model_sha256)
    odd = folders.verdict.model_copy(update={"reasons": hostile_texts, "lost": hostile_texts[:4]})
    note = verdict_note(odd)
    assert "<script>" not in note
    assert "\x1b" not in note


@pytest.mark.parametrize("steps", [0, 1, 300, 700, 1501])
def test_a_thinned_curve_begins_and_ends_where_the_training_did(tmp_path: Path, steps: int) -> None:
    events = [{"event": "step", "step": step, "loss": 1.0 / step} for step in range(1, steps + 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in [*events, {"event": "end", "steps": steps}]))
    curve = [(step, value) for _, step, value in training_curve(tmp_path)]
    assert len(curve) <= 1000
    assert curve[:1] + curve[-1:] == ([(1, 1.0), (steps, 1.0 / steps)] if steps else [])
    assert [step for step, _ in curve] == sorted({step for step, _ in curve})
