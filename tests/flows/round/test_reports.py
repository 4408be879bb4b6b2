"""Scores from the cache are used only where they are those of the registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_contracts.errors import EvaluationError
from data_contracts.manifests import EvalReport, SuiteResult, file_ref, read_manifest, write_manifest
from evals.items import write_items
from flows.lineage import Lineage, VersionRef, find_version, read_ancestry
from flows.round.reports import registered_suites, require_registered_scores
from flows.workspace.stages import Stage


def report_of(version: VersionRef, folder: Path, **suite: Any) -> Stage[EvalReport]:
    """The version's report as another run made it: the same, but for what is given of the suite `old`."""
    assert version.evaluation is not None
    known = read_manifest(version.evaluation, EvalReport)
    scores = suite.pop("score_of_first", None)
    settings = suite.pop("settings_sha256", known.settings_sha256)
    files = {}
    for role, reference in known.files.items():
        items = pd.read_parquet(version.evaluation / reference.path)
        if role == "items/old" and scores is not None:
            items.loc[0, "score"] = scores
        path = folder / reference.path
        write_items(path, items)
        files[role] = file_ref(folder, path)
    suites = tuple(SuiteResult(**(each.model_dump() | (suite if each.name == "old" else {}))) for each in known.suites)
    report = known.model_copy(update={"files": files, "suites": suites, "settings_sha256": settings})
    write_manifest(folder, report)
    return Stage(folder, report, reused=True)


def test_scores_that_are_those_of_the_registration_are_used(grown: Lineage, tmp_path: Path) -> None:
    version = find_version(grown, 3)
    same = report_of(version, tmp_path / "same")
    assert require_registered_scores(version, same) is same


@pytest.mark.parametrize("score", [0.0, 1.0 - 1e-6, float("nan")])
def test_a_score_that_is_not_the_registered_one_stops_the_round(grown: Lineage, tmp_path: Path, score: float) -> None:
    version = find_version(grown, 3)
    with pytest.raises(EvaluationError, match=r"1 items of old have other scores than version 3 was registered with.*state_dir/items"):
        require_registered_scores(version, report_of(version, tmp_path / "changed", score_of_first=score))


@pytest.mark.parametrize("asked", [{"settings_sha256": "0" * 64}, {"suite_sha256": "0" * 64}])
def test_what_was_asked_otherwise_may_have_other_scores(grown: Lineage, tmp_path: Path, asked: dict[str, str]) -> None:
    version = find_version(grown, 3)
    other = report_of(version, tmp_path / "other", score_of_first=0.0, **asked)
    assert require_registered_scores(version, other) is other


def test_of_every_suite_the_newest_registration_counts_and_sealed_ones_never(grown: Lineage, tmp_path: Path) -> None:
    chain = read_ancestry(grown, 3)
    found = registered_suites(chain)
    assert {name: known.folder for name, known in found.items()} == {
        "old": chain[2].evaluation, "piqa, 0-shot": chain[2].evaluation, "first": chain[1].evaluation, "second": chain[2].evaluation,
    }  # fmt: skip
    sealed = report_of(chain[2], tmp_path / "sealed", sealed=True)
    later = [*chain[:2], chain[2].model_copy(update={"evaluation": sealed.folder})]
    assert registered_suites(later)["old"].folder == chain[1].evaluation
    assert registered_suites([version.model_copy(update={"evaluation": None}) for version in chain]) == {}
