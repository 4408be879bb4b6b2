"""A skill's name can be written wherever it stands, and no earlier round has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
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
