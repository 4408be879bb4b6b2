"""Tags that decisions depend on, and the user's own files of a round."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.lineage.storage.facts import FACTS, all_facts_digest, describe_sources, facts_digest, facts_of, read_sources


def tags(**changes: str) -> dict[str, str]:
    values = dict.fromkeys(FACTS, "x") | {"checkpoint": "/somewhere"} | changes
    return {f"skillstack.{name}": value for name, value in values.items()}


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_changes_the_digest(name: str) -> None:
    assert facts_digest(tags(**{name: "y"})) != facts_digest(tags())
    without = tags()
    del without[f"skillstack.{name}"]
    assert facts_digest(without) != facts_digest(tags())
    assert facts_digest(without) != facts_digest(tags(**{name: ""}))


def test_paths_and_tags_of_others_change_nothing() -> None:
    assert facts_digest(tags(checkpoint="/elsewhere")) == facts_digest(tags())
    assert facts_digest(tags() | {"decision": "PASS", "mlflow.note.content": "hello"}) == facts_digest(tags())
    assert list(facts_of(tags())) == list(FACTS)


def test_the_digest_of_several_versions_says_which_is_which() -> None:
    one, other = (SimpleNamespace(version=number, tags=tags(skill=skill)) for number, skill in ((1, "a"), (2, "b")))
    swapped = [SimpleNamespace(version=1, tags=other.tags), SimpleNamespace(version=2, tags=one.tags)]
    assert all_facts_digest([one, other]) == all_facts_digest([other, one])
    assert all_facts_digest([one, other]) != all_facts_digest(swapped)


def test_sources_inside_the_project_move_with_it(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    drop, outside = project / "june.jsonl", tmp_path / "outside.jsonl"
    drop.write_text("one\n")
    outside.write_text("two\n")
    lineage: Any = SimpleNamespace(state_dir=project / ".skillstack")
    text = describe_sources(lineage, {"drop": drop, "contract": project / "absent.yaml", "calibration": outside})
    sha256 = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (drop, outside)}
    assert json.loads(text) == {"drop": ["june.jsonl", sha256[drop]], "calibration": [str(outside), sha256[outside]]}
    moved: Any = SimpleNamespace(state_dir=tmp_path / "moved" / ".skillstack")
    assert read_sources(moved, text) == {
        "drop": (tmp_path / "moved" / "june.jsonl", sha256[drop]),
        "calibration": (outside, sha256[outside]),
    }
    assert read_sources(moved, None) == {}
