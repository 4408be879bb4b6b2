"""The note of a version in MLflow."""

from __future__ import annotations

from flows.lineage import current_champion
from flows.lineage.storage.describe import verdict_note


def test_the_note_of_a_verdict_holds_no_raw_html(grown, register, hostile_texts):
    _, _, folders = register(grown, "odd", 3, parent=current_champion(grown).model_sha256)
    odd = folders.verdict.model_copy(update={"reasons": hostile_texts, "lost": hostile_texts[:4]})
    note = verdict_note(odd)
    assert "<script>" not in note
    assert "\x1b" not in note
