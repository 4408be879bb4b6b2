"""What an evaluation depends on, and what of it the cache already has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.plan import evaluation_identity, prefer_local_data


def test_the_identity_of_an_evaluation_is_what_is_asked_and_not_where_it_lies(tmp_path: Path) -> None:
    def identity(folder: str, answer: str, **fields: object) -> list[dict[str, object]]:
        path = tmp_path / folder / "s.jsonl"
        path.parent.mkdir(exist_ok=True)
        rows = [{"q": f"q{n}", "a": answer if n == 1 else "x"} for n in range(4)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        shots = tmp_path / folder / "shots.jsonl"
        shots.write_text(json.dumps({"q": "shot", "a": str(fields.pop("shot", "y"))}) + "\n")
        source = str(path.with_name("*.jsonl") if fields.pop("pattern", False) else path)
        suite = SuiteConfig(
            name="s",
            source=source,
            prompt="{{ q }}",
            gold="{{ a }}",
            few_shot=1,
            few_shot_source=str(shots),
            **fields,  # type: ignore[arg-type]
        )
        return evaluation_identity([suite], EvaluationConfig(), tmp_path / "cache")

    first = identity("a", "y")
    assert identity("b", "y") == first
    for other in (identity("a", "z"), identity("a", "y", shot="z"), identity("a", "y", margin=0.1), identity("a", "y", pattern=True)):
        assert other != first


Write = Callable[..., Path]
Rows = list[dict[str, Any]]


def test_local_data_take_the_place_of_the_hub_where_they_are(write_rows: Write, choice_rows: Rows, tmp_path: Path) -> None:
    write_rows("piqa/suite.jsonl", choice_rows)
    suite = SuiteConfig(name="piqa", source="piqa", items=7, local={"source": "piqa/suite.jsonl", "chat": True})
    local = prefer_local_data(suite, EvaluationConfig(data_folder=str(tmp_path)))
    assert (local.name, local.source, local.chat, local.items) == ("piqa", str(tmp_path / "piqa/suite.jsonl"), True, 7)
    assert prefer_local_data(suite, EvaluationConfig(data_folder=str(tmp_path / "absent"))) == suite
