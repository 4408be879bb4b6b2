"""Facts about a model, stored with a drop."""

from __future__ import annotations

import json
from pathlib import Path

from flows.text.facts import Fact, write_facts


def test_facts_are_stored_in_their_order_and_with_their_letters(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    write_facts(path, [Fact(name="vocabulary", value="32000"), Fact(name="end of turn", value="<｜end▁of▁sentence｜>")])
    text = path.read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["vocabulary", "end of turn"]
    assert "<｜end▁of▁sentence｜>" in text, "a token is shown as it is, not as \\u escapes"
    write_facts(path, [])
    assert json.loads(path.read_text()) == {}
