"""Allowed directions on disk: built once under their key, and read back as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from osft_engine.memory.subspace_memory import SubspaceMemory
from osft_engine.method.bases import cached_memory
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate


def test_a_cached_memory_is_built_once(tmp_path: Path) -> None:
    built: list[int] = []

    def build() -> SubspaceMemory:
        built.append(1)
        return SubspaceMemory(("base",), {"layer": torch.eye(3)}, {"layer": "layer"})

    first = cached_memory(tmp_path, {"base": "a"}, build)
    again = cached_memory(tmp_path, {"base": "a"}, build)
    assert len(built) == 1
    torch.testing.assert_close(first.moment("layer"), again.moment("layer"))
    cached_memory(tmp_path, {"base": "b"}, build)
    assert len(built) == 2


MakeRun = Callable[..., TrainRun]


@pytest.mark.parametrize("protect", ["weights", "activations"])
def test_a_sweep_over_ratios_decomposes_once(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protect: str) -> None:
    """The second ratio finds every decomposition kept, and trains the very candidate that it would have without them."""
    kept = {"cache_dir": tmp_path / "cache", "keep_whole": True}
    first = make_run("first", protect=protect, unfreeze_rank_ratio=0.25).model_copy(update=kept)
    train_candidate(first)
    second = make_run("second", protect=protect, unfreeze_rank_ratio=0.5)
    alone = train_candidate(second.model_copy(update={"out_dir": tmp_path / "alone"}))

    def again(matrix: Callable[[], torch.Tensor]) -> None:
        raise AssertionError("decomposed a second time")

    monkeypatch.setattr("osft_engine.method.bases.eigen", again)
    assert train_candidate(second.model_copy(update=kept)).model_sha256 == alone.model_sha256
