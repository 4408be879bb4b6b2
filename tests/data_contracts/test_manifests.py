"""Manifests that an earlier release wrote (of the nano demo, as they lay on disk) are read, and keep the digest they were registered with.

A field that a later release adds must be named in its class's `added`, or every version registered before is a finding of `verify`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.digests import file_digest
from data_contracts.manifests import CheckpointManifest, DropManifest, EvalReport, Manifest, SuiteResult, Verdict, manifest_digest

WRITTEN = Path(__file__).parent / "manifests_0_1"
KINDS: dict[str, type[Manifest]] = {
    "base": CheckpointManifest,
    "validate": DropManifest,
    "train": CheckpointManifest,
    "evaluate": EvalReport,
    "decide": Verdict,
}


@pytest.mark.parametrize("stage", KINDS)
def test_a_manifest_of_an_earlier_release_keeps_its_digest(stage: str) -> None:
    path = WRITTEN / f"{stage}.json"
    assert manifest_digest(KINDS[stage].model_validate_json(path.read_bytes())) == file_digest(path)


def test_a_retired_field_is_kept_where_it_was_written_and_not_written_anew() -> None:
    """Whether it held a number or null: both are in the bytes that a digest was taken of."""
    written = {
        "name": "s",
        "category": "skill",
        "metric": "acc",
        "higher_is_better": True,
        "n": 1,
        "score": 1.0,
        "suite_sha256": "0",
        "seconds": 0.0,
    }
    for value in (-0.25, None):
        kept = SuiteResult.model_validate(written | {"mean_gold_logprob": value}).model_dump()
        assert "mean_gold_logprob" in kept
        assert kept["mean_gold_logprob"] == value
    assert "mean_gold_logprob" not in SuiteResult.model_validate(written).model_dump()
    assert "mean_gold_logprob" not in SuiteResult.model_validate(written).model_copy(update={"doubt": "odd"}).model_dump()
