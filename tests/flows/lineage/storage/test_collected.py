"""What is expected beside a manifest after the dense weights were deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.digests import text_digest
from data_contracts.errors import LineageError
from data_contracts.manifests import CheckpointManifest, FileRef
from flows.lineage.storage.collected import COLLECTED_FILE, Collected, expected_files, is_weights, read_collected

ROLES = ("model/model-00001-of-00002.safetensors", "model/config.json", "update.safetensors", "metrics.jsonl")


def test_only_the_dense_weights_may_be_missing() -> None:
    files = {role: FileRef(path=role, sha256=text_digest(role), bytes=1) for role in ROLES}
    manifest = CheckpointManifest(method="osft", model_sha256=text_digest("m"), files=files)
    assert set(expected_files(manifest, collected=False)) == set(ROLES)
    assert set(expected_files(manifest, collected=True)) == set(ROLES[1:])
    assert [is_weights(role) for role in ROLES] == [True, False, False, False]


def test_the_record_is_read_back(tmp_path: Path) -> None:
    written = Collected(headers={"model/model.safetensors": "{}"}, exact=False, rounding_steps=1.0)
    (tmp_path / COLLECTED_FILE).write_text(written.model_dump_json())
    assert read_collected(tmp_path) == written


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_a_record_that_cannot_be_read_says_that_nothing_can_be_rebuilt(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / COLLECTED_FILE).write_bytes(content)
    with pytest.raises(LineageError, match="cannot be rebuilt"):
        read_collected(tmp_path)
