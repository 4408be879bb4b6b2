"""The drop's artifact in Prefect: for a drop that passed, for one that was refused, and for a file that could not be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.validate import validate_drop
from flows.round import validate as stage
from flows.round.validate import publish_drop_report


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Prefect would have been given."""
    artifacts: list[dict[str, Any]] = []
    monkeypatch.setattr(stage, "create_markdown_artifact", lambda text, **about: artifacts.append({"text": text, **about}))
    return artifacts


def rows(count: int) -> str:
    turns = [[{"role": "user", "content": f"Add {n} and {n * n}."}, {"role": "assistant", "content": str(n + n * n)}] for n in range(count)]
    return "".join(json.dumps({"messages": messages}) + "\n" for messages in turns)


def test_a_drop_that_passed_and_one_that_was_refused_both_have_a_page(shown: list[dict[str, Any]], tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(rows(60))
    bad.write_text(rows(60) + '{"messages": 1}\n')
    validate_drop(good, tmp_path / "one", skill="sums", config=ContractConfig())
    publish_drop_report(tmp_path / "one")
    with pytest.raises(DropError) as refused:
        validate_drop(bad, tmp_path / "two", skill="sums", config=ContractConfig())
    publish_drop_report(tmp_path / "two", refused.value)
    assert {artifact["key"] for artifact in shown} == {"drop"}
    assert "passed" in shown[0]["text"]
    assert shown[0]["description"] == "the drop keeps its contract"
    assert "| schema | 1 | refused | line 61:" in shown[1]["text"]
    assert shown[1]["description"].startswith("refused: ")
    for artifact, name in zip(shown, ("one", "two"), strict=True):
        assert (tmp_path / name / "report.html").as_uri() in artifact["text"]


def test_a_file_that_cannot_be_read_has_its_error_as_page(shown: list[dict[str, Any]], tmp_path: Path) -> None:
    publish_drop_report(tmp_path, DropError("june.jsonl.gz", "is a damaged gzip file", "copy it again"))
    assert "june.jsonl.gz: is a damaged gzip file" in shown[0]["text"]
