"""A skill's name can be written wherever it stands, and no earlier round has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.manifests import DropManifest, read_manifest
from data_contracts.validate import validate_drop

Chat = Callable[[str, str], str]
Prose = Callable[[int, int], str]


@pytest.mark.parametrize("skill", ["", "a/b", "../up", "a b", ".hidden", "x" * 64, "naïve", "a.b"])
def test_a_name_that_cannot_name_a_skill_is_refused(
    skill: str, good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DropError, match="the skill's name"):
        validate_drop(write_drop(good_lines), tmp_path / "out", skill=skill, config=ContractConfig())


def test_a_name_that_an_earlier_round_has_is_refused(
    good_lines: list[bytes], chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    validate_drop(write_drop(good_lines), tmp_path / "first", skill="notes", config=ContractConfig())
    other = write_drop([chat(prose(seed, 30), "so it is then") for seed in range(4000, 4060)], "other.jsonl")
    with pytest.raises(DropError, match="was taught before"):
        validate_drop(other, tmp_path / "second", skill="Notes", config=ContractConfig(), earlier=[tmp_path / "first"])
    validate_drop(other, tmp_path / "third", skill="notes-2", config=ContractConfig(), earlier=[tmp_path / "first"])


def test_a_refresh_needs_the_skill_to_be_taught_before_and_counts_the_teachings(
    good_lines: list[bytes], chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    first = validate_drop(write_drop(good_lines), tmp_path / "first", skill="notes", config=ContractConfig())
    other = write_drop([chat(prose(seed, 30), "so it is then") for seed in range(4000, 4060)], "other.jsonl")
    refresh = {"config": ContractConfig(), "earlier": [tmp_path / "first"], "refresh": True}
    for number, name in enumerate(("Notes", "news")):
        with pytest.raises(DropError, match=r"never taught, so it cannot be refreshed \(taught so far: notes\)"):
            validate_drop(other, tmp_path / f"wrong-{number}", skill=name, **refresh)
    second = validate_drop(other, tmp_path / "second", skill="notes", **refresh)
    assert (first.teaching, second.teaching) == (1, 2)
    assert "teaching" not in json.loads((tmp_path / "first" / "manifest.json").read_text())  # the digest of earlier releases' drops
    assert read_manifest(tmp_path / "second", DropManifest) == second


def test_a_refresh_leaves_out_rows_that_the_skill_was_taught_with(
    good_lines: list[bytes], chat: Chat, prose: Prose, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    validate_drop(write_drop(good_lines), tmp_path / "first", skill="notes", config=ContractConfig())
    new = [chat(prose(seed, 30), "so it is then") for seed in range(4000, 4060)]
    mixed = write_drop([*good_lines[:20], *new], "mixed.jsonl")
    second = validate_drop(mixed, tmp_path / "second", skill="notes", config=ContractConfig(), earlier=[tmp_path / "first"], refresh=True)
    left_out = {count.check: count.rows for count in second.findings if count.severity == "drop"}
    assert set(left_out) == {"seen_before", "contamination"}  # trained on before, and held out before
    assert sum(left_out.values()) == 20
    assert second.rows_clean + second.rows_heldout + second.rows_sealed == 60
